//! blimg's manners: what stands on a command line, what is said of one that is wrong, and that docs/blimg.md is true.

use std::path::Path;
use std::process::{Command, Output};

use boxlite_images::Digest;
use serde_json::Value;

use super::blimg::{Tool, status_in};
use super::support::repository;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is said on standard error of a wrong line, without the line that says where help is.
fn said(output: &Output) -> String {
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{output:?}");
    let error = text(&output.stderr);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[1].starts_with("try 'blimg help"), "{error}");
    lines[0].strip_prefix("blimg: ").unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn what_is_wrong_is_named() {
    let Some(tool) = Tool::new() else { return };
    for (args, why) in [
        (&["frobnicate"][..], "unknown command 'frobnicate'"),
        (&["pul", "x"], "unknown command 'pul' (did you mean pull?)"),
        (&["help", "exprot"], "unknown command 'exprot' (did you mean export?)"),
        (&["--nonsense"], "unknown option --nonsense"),
        (&["--jsno", "ls"], "unknown option --jsno (did you mean --json?)"),
        (&["--stroe", "/x", "ls"], "unknown option --stroe (did you mean --store?)"),
        (&["ls", "--jsno"], "ls: unknown option --jsno (did you mean --json?)"),
        (&["pull", "x", "--plain-htp", "h"], "pull: unknown option --plain-htp (did you mean --plain-http?)"),
        (&["pull", "x", "--plain-htp=h"], "pull: unknown option --plain-htp (did you mean --plain-http?)"),
        (&["ls", "-x"], "ls: unknown option -x"),
        (&["pull"], "pull: missing argument REF"),
        (&["pull", "a", "b"], "pull: unexpected argument 'b'"),
        (&["ls", "x"], "ls: unexpected argument 'x'"),
        (&["export"], "export: missing argument IMAGE"),
        (&["export", "x"], "export: missing argument OUT"),
        (&["put", "layer", "sha256:x"], "put: missing argument FILE"),
        (&["put", "thing", "d", "f"], "put: 'thing' is not layer, config or manifest"),
        (&["put", "layer", "d", "f", "--size"], "put: option --size needs a value: SIZE"),
        (&["put", "layer", "d", "f", "--size", "1X"], "put: --size: '1X' is not a size, such as 4096 or 512M"),
        (&["put", "layer", "d", "f", "--size="], "put: --size: '' is not a size, such as 4096 or 512M"),
        (
            &["put", "layer", "d", "f", "--size", "99999999999T"],
            "put: --size: '99999999999T' is not a size, such as 4096 or 512M",
        ),
        (&["put", "layer", "d", "f", "--size", "0"], "put: --size: '0' is not a size, such as 4096 or 512M"),
        (&["put", "config", "d", "f", "--size", "1"], "put: --size is of a layer"),
        (&["help", "--foo"], "unknown option --foo"),
        (&["help", "pull", "more"], "unexpected argument 'more'"),
        // One line, whatever is in it.
        (&["ls", "a\nb\u{1b}[31m\u{9b}"], "ls: unexpected argument 'a?b?[31m?'"),
        (&["--a\nb"], "unknown option --a?b"),
        (&["extract"], "extract: missing argument DIGEST"),
        (
            &["extract", "d", "--form", "overlya"],
            "extract: --form: 'overlya' is not one of markers, overlay, user-overlay, override-stat, erofs (did you mean overlay?)",
        ),
        (&["cat", "layer", "d"], "cat: 'layer' is not config or manifest"),
        (&["path", "x", "d"], "path: 'x' is not layer, config, manifest or extracted"),
        (&["gc", "--dry-run=yes"], "gc: option --dry-run takes no value"),
        (
            &["pull", "x", "--policy", "sometimes"],
            "pull: --policy: 'sometimes' is not one of missing, always, newer, never",
        ),
        (&["pull", "x", "--creds", "nocolon"], "pull: --creds: there is no ':' in its value"),
        (&["pull", "x", "--mirror", "a.org"], "pull: --mirror: there is no '=' in its value"),
        (&["pull", "x", "--parallel", "many"], "pull: --parallel: 'many' is not a number"),
        (&["pull", "x", "--parallel", "4294967296"], "pull: --parallel: '4294967296' is not a number that small"),
        (
            &["mount-options", "x", "--seconds", "1d"],
            "mount-options: --seconds: '1d' is not a time, such as 90, 500ms or 2h",
        ),
        (
            &["mount-options", "x", "--seconds", "0"],
            "mount-options: --seconds: '0' is not a time, such as 90, 500ms or 2h",
        ),
        (&["lease"], "lease: create, hold, extend or release?"),
        (&["lease", "renew", "x"], "lease: create, hold, extend or release?"),
        (&["lease", "hold", "x"], "lease: hold takes 2 arguments"),
        (&["lease", "create", "soon"], "lease: 'soon' is not a time, such as 90, 500ms or 2h"),
        (&["lease", "create", "0"], "lease: '0' is not a time, such as 90, 500ms or 2h"),
    ] {
        assert_eq!(said(&tool.blimg(args)), why, "{args:?}");
    }
    // Nobody who is told so has had a store made.
    let none = Command::new(tool.path("blimg")).arg("ls").env_remove("BLIMG_STORE").output().unwrap();
    assert_eq!(said(&none), "ls: no store: give --store DIR, or set BLIMG_STORE");
    let none = Command::new(tool.path("blimg")).arg("--json").output().unwrap();
    assert_eq!(said(&none), "no command");
    let alone = Command::new(tool.path("blimg")).output().unwrap();
    assert_eq!((alone.status.code(), alone.stdout.is_empty()), (Some(2), true));
    assert!(text(&alone.stderr).starts_with("usage: blimg") && alone.stderr.len() > 1000);
}

#[test]
fn options_stand_anywhere() {
    let Some(tool) = Tool::new() else { return };
    let layout = tool.path("layout");
    super::make_layout::make(&layout);
    let layout = layout.to_str().unwrap();
    assert_eq!(tool.says(&["import", layout, "--name", "x:1"]), "x:1\n");
    let expected = tool.says(&["--json", "import", layout, "--name", "x:1", "--no-unpack"]);
    for args in [
        &["import", "--no-unpack", "--name", "x:1", layout, "--json"][..],
        &["--json", "import", "--name=x:1", "--no-unpack", "--", layout],
        &["import", "--name", "y:1", "--name", "x:1", "--no-unpack", "--json", layout],
    ] {
        assert_eq!(tool.says(args), expected, "{args:?}");
    }
    // An argument that looks like an option, and a name that looks like a command.
    assert_eq!(status_in(&tool.blimg(&["import", "--", "--json"])), "NOT_FOUND");
    assert_eq!(tool.says(&["import", "--name", "ls", layout]), "ls:latest\n");
    // The store may be told by the environment, and the option counts more.
    let store = tool.store();
    let with = |value: &Path, args: &[&str]| {
        let output = Command::new(tool.path("blimg")).env("BLIMG_STORE", value).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let listed = tool.says(&["ls"]);
    assert_eq!(listed.lines().count(), 2);
    assert_eq!(with(&store, &["ls"]), listed);
    assert_eq!(with(&tool.path("none"), &["ls", "--store", store.to_str().unwrap()]), listed);
}

#[test]
fn every_command_says_what_it_does() {
    let Some(tool) = Tool::new() else { return };
    let all = Command::new(tool.path("blimg")).arg("help").output().unwrap();
    assert!(all.status.success() && all.stderr.is_empty());
    let all = text(&all.stdout);
    let commands: Vec<&str> = (all.lines().skip_while(|line| *line != "commands:").skip(1))
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() > 20, "{all}");
    let documented = std::fs::read_to_string(repository().join("docs/blimg.md")).unwrap();
    for command in commands {
        let helped = text(&Command::new(tool.path("blimg")).args(["help", command]).output().unwrap().stdout);
        assert!(helped.starts_with(&format!("usage: blimg {command}")), "{helped}");
        for args in [[command, "--help"], [command, "-h"], ["-h", command]] {
            let output = Command::new(tool.path("blimg")).args(args).output().unwrap();
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), helped.clone()));
        }
        // Every command and every option is in the docs.
        assert!(
            documented.contains(&format!("$ blimg {command}")) || documented.contains(&format!("blimg {command} "))
        );
        for option in helped.lines().filter_map(|line| line.strip_prefix("  --")) {
            let name = format!("`--{}", option.split_whitespace().next().unwrap());
            let is_whole = |end: &str| documented.contains(&format!("{name}{end}"));
            assert!(is_whole("`") || is_whole(" ") || is_whole("[="), "{command}: {name}` is not in docs/blimg.md");
        }
        for line in helped.lines().chain(all.lines()) {
            assert!(line.len() <= 120, "{line}");
        }
    }
    let version = text(&Command::new(tool.path("blimg")).arg("--version").output().unwrap().stdout);
    assert_eq!(version, format!("blimg {}\n", env!("CARGO_PKG_VERSION")));
}

/// Also what blimg itself reads.
#[test]
fn failures_have_a_status_and_the_systems_words() {
    let Some(tool) = Tool::new() else { return };
    let digest = Digest::of(b"x").to_string();
    let directory = tool.path("directory");
    std::fs::create_dir(&directory).unwrap();
    let (missing, directory) = (tool.path("missing").display().to_string(), directory.display().to_string());
    for (args, status, words) in [
        (&["put", "layer", &digest, &missing][..], "NOT_FOUND", format!("{missing}: No such file or directory")),
        (&["put", "manifest", &digest, &missing], "NOT_FOUND", format!("{missing}: No such file or directory")),
        (&["put", "config", &digest, &directory], "IO", format!("{directory}: Is a directory")),
        (&["put", "manifest", &digest, &directory], "IO", format!("{directory}: Is a directory")),
        (&["inspect", "nothing"], "NOT_FOUND", "nothing".to_owned()),
        (&["load-layout", &missing], "NOT_FOUND", format!("{missing}/index.json: No such file or directory")),
    ] {
        let output = tool.blimg(args);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{error}");
        assert!(error.starts_with(&format!("blimg: {status}: ")) && error.contains(&words), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        // The same as an event.
        let output = tool.blimg(&[args, &["--json"]].concat());
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((event["event"].as_str(), event["status"].as_str()), (Some("error"), Some(status)), "{event}");
        assert_eq!(format!("blimg: {status}: {}\n", event["message"].as_str().unwrap()), error);
        assert_eq!(text(&output.stderr), error);
    }
}

/// Names are bytes, and JSON is text; and what a terminal would obey is not for it.
#[test]
fn json_is_json_whatever_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let Some(tool) = Tool::new() else { return };
    let store = super::support::quick_store(&tool.store());
    let names: [(&[u8], &str); 5] = [
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        (b"a\xc3", "a\u{fffd}"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ("\u{9b}31m\u{7f}\n".as_bytes(), "\u{9b}31m\u{7f}\n"),
        ("\"\\ä€😀".as_bytes(), "\"\\ä€😀"),
    ];
    let layer = names.iter().fold(super::archive::Archive::new(), |archive, (name, _)| archive.file(name, b""));
    let digest = super::support::put_layer(&store, &super::archive::gzip(&layer.finish()));
    tool.says(&["extract", digest.as_str()]);
    let lines = tool.says(&["--json", "entries", digest.as_str()]);
    let paths: Vec<String> = (lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()))
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(paths, names.map(|(_, shown)| shown));
    let plain = tool.says(&["entries", digest.as_str()]);
    assert!(plain.chars().all(|c| !c.is_control() || c == '\n') && plain.lines().count() == names.len(), "{plain:?}");
    let strange = tool.path("").join(OsStr::from_bytes(b"no\xff\nthing"));
    let output = Command::new(tool.path("blimg"))
        .args(["--json", "put", "manifest", digest.as_str()])
        .arg(&strange)
        .env("BLIMG_STORE", tool.store())
        .output()
        .unwrap();
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(event["message"].as_str().unwrap().contains("no\u{fffd}\nthing: No such file"), "{event}");
    assert_eq!(output.stderr.iter().filter(|&&byte| byte == b'\n').count(), 1);
}

/// What is open is not taken for what is missing.
#[test]
fn a_closed_standard_input_is_empty() {
    let Some(tool) = Tool::new() else { return };
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" import - <&-"])
        .arg(tool.path("blimg"))
        .env("BLIMG_STORE", tool.store())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), status_in(&output).as_str()), (Some(1), "MALFORMED"), "{output:?}");
}

/// A signal that only interrupts a read does not end it.
#[test]
fn an_interrupted_read_goes_on() {
    let Some(tool) = Tool::new() else { return };
    if !super::support::has_tool("strace") {
        return;
    }
    let blob = super::archive::gzip(b"x");
    std::fs::write(tool.path("blob"), &blob).unwrap();
    for when in ["1", "2"] {
        // What blimg reads itself is of so many bytes at once.
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(tool.path("strace"))
            .arg("-P")
            .arg(tool.path("blob"))
            .args(["-e", &format!("inject=read,openat:error=EINTR:when={when}")])
            .arg(tool.path("blimg"))
            .args(["put", "layer", Digest::of(&blob).as_str()])
            .arg(tool.path("blob"))
            .env("BLIMG_STORE", tool.store())
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let traced = std::fs::read_to_string(tool.path("strace")).unwrap();
        assert!(traced.contains("EINTR (Interrupted system call) (INJECTED)"), "{when}: {traced}");
    }
}

/// Whether the lines are those that are expected, of which each may have one `…`; one alone is any number of lines.
#[cfg(feature = "pull")]
fn is_like(lines: &[&str], expected: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, _) => lines.is_empty(),
        (Some((&"…", rest)), _) => (0..=lines.len()).any(|skipped| is_like(&lines[skipped..], rest)),
        (Some(_), None) => false,
        (Some((expected, more_expected)), Some((line, more_lines))) => {
            let (start, end) = expected.split_once('…').map_or((*expected, None), |(start, end)| (start, Some(end)));
            let is_this = match end {
                None => line == &start,
                Some(end) => line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end),
            };
            is_this && is_like(more_lines, more_expected)
        }
    }
}

/// The examples of docs/blimg.md, one after the other.
#[test]
#[cfg(feature = "pull")]
fn the_documented_examples_are_true() {
    let Some(tool) = Tool::new() else { return };
    let bench = super::pull::Bench::honest();
    let layout = tool.path("hello");
    super::make_layout::make(&layout);
    let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let manifest = json(&layout.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let blob = layout.join("blobs").join(manifest.replace(':', "/"));
    let document = json(&blob);
    let [config, layer] = [&document["config"], &document["layers"][0]].map(|entry| entry["digest"].as_str().unwrap());
    let path = format!("{}:{}", tool.path("").display(), std::env::var("PATH").unwrap());
    let docs = std::fs::read_to_string(repository().join("docs/blimg.md")).unwrap();
    let docs = docs.replace("localhost:5000/demo", &bench.reference()).replace("localhost:5000", &bench.server.host());
    let mut examples: Vec<(&str, Vec<&str>)> = Vec::new();
    for block in docs.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => examples.push((command, Vec::new())),
                None => examples.last_mut().unwrap().1.push(line),
            }
        }
    }
    assert!(examples.len() > 20, "{}", examples.len());
    for (command, expected) in examples {
        let output = Command::new("sh")
            .args(["-ec", command])
            .current_dir(tool.path(""))
            .env("PATH", &path)
            .env("BLIMG_STORE", tool.store())
            .envs([("MANIFEST", manifest.as_str()), ("CONFIG", config), ("LAYER", layer)])
            .output()
            .unwrap();
        let shown = text(&output.stdout);
        assert!(output.status.success(), "{command}: {output:?}");
        assert!(is_like(&shown.lines().collect::<Vec<_>>(), &expected), "{command}:\n{shown}");
    }
}
