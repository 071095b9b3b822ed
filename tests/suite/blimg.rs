//! The examples as a black box: what they print, where, and with which exit status; and, through `strace`, what a
//! failing system call comes to.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boxlite_images::Digest;
use serde_json::Value;

use super::archive::{Archive, gzip};
use super::support::{compile, has_tool, leftovers, library_dir, names_in, repository, temp_dir};

/// The examples, and the files of `examples-c` that each is made of besides its own.
const EXAMPLES: [(&str, &[&str]); 4] = [
    ("blimg", &["blimg_", "options.c", "layout.c"]),
    ("quickstart", &["layout.c"]),
    ("epoll_pull", &[]),
    ("fork", &[]),
];

/// Puts the compiled examples, and the library, into a directory. They are compiled once for all tests and all processes
/// that run them, since that takes longer than most tests.
pub fn install_examples(into: &Path) {
    let folder = repository().join("examples-c");
    let built = library_dir();
    let library = std::fs::canonicalize(built.path().join("libboxlite_images.so.0")).unwrap();
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("examples-{}", key_of(&folder, &library).hex()));
    if !made.exists() {
        let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (name, more) in EXAMPLES {
            let is_its = |file: &String| {
                *file == format!("{name}.c") || more.iter().any(|part| file.starts_with(part) && file.ends_with(".c"))
            };
            let sources: Vec<_> = names_in(&folder).into_iter().filter(is_its).map(|file| folder.join(file)).collect();
            let flags = ["-std=c11", "-Wstrict-prototypes", "-D_POSIX_C_SOURCE=200809L", "-O1", "-Wl,-rpath,$ORIGIN"];
            compile("gcc", &flags, &sources, built.path(), &new.path().join(name));
        }
        // Somebody else may have been faster.
        if std::fs::rename(new.path(), &made).is_ok() {
            let _ = new.keep();
        }
    }
    for (name, _) in EXAMPLES {
        std::fs::copy(made.join(name), into.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(library, into.join("libboxlite_images.so.0")).unwrap();
}

/// Of everything that the programs are made of.
fn key_of(folder: &Path, library: &Path) -> Digest {
    let mut all = Vec::new();
    for name in ["BL_TEST_CC", "BL_TEST_SANITIZED"] {
        all.extend(format!("{:?}", std::env::var_os(name)).into_bytes());
    }
    let sources = names_in(folder).into_iter().filter(|name| name.ends_with(".c") || name.ends_with(".h"));
    for file in sources.map(|name| folder.join(name)).chain([repository().join("include/boxlite_images.h")]) {
        all.extend(format!("{}\n", file.display()).into_bytes());
        all.extend(std::fs::read(file).unwrap());
    }
    // The linker notes which of its functions there are.
    let modified = std::fs::metadata(library).unwrap().modified().unwrap();
    all.extend(format!("{} {modified:?}", library.display()).into_bytes());
    Digest::of(&all)
}

/// The compiled examples and a place to work in.
pub struct Tool {
    dir: tempfile::TempDir,
}

impl Tool {
    pub fn new() -> Option<Tool> {
        if !has_tool("gcc") {
            return None;
        }
        let dir = temp_dir();
        install_examples(dir.path());
        Some(Tool { dir })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn blimg(&self, args: &[&str]) -> Output {
        Command::new(self.path("blimg")).arg("--store").arg(self.store()).args(args).output().unwrap()
    }

    /// Its standard output, where it must succeed.
    pub fn says(&self, args: &[&str]) -> String {
        let output = self.blimg(args);
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The status name that it fails with.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.blimg(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
        status_in(&output)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> (String, String) {
        std::fs::write(self.path(name), bytes).unwrap();
        (self.path(name).to_str().unwrap().to_owned(), Digest::of(bytes).to_string())
    }
}

pub fn status_in(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.strip_prefix("blimg: ").and_then(|rest| rest.split(':').next()).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn commands_do_what_they_say() {
    let Some(tool) = Tool::new() else { return };
    let (layer, digest) = tool.file("layer", &gzip(&Archive::new().file(b"etc/motd", b"hi").finish()));
    let size = std::fs::metadata(&layer).unwrap().len().to_string();
    let has = tool.blimg(&["has", "layer", &digest]);
    assert_eq!((has.status.code(), has.stdout), (Some(1), b"no\n".to_vec()));
    assert_eq!(tool.fails(&["extract", &digest]), "NOT_FOUND");
    assert_eq!(tool.fails(&["put", "layer", &digest, &layer, "--size", "5"]), "SIZE_MISMATCH");
    assert_eq!(tool.says(&["put", "layer", &digest, &layer, "--size", &size]), "");
    assert_eq!(tool.says(&["has", "layer", &digest]), "yes\n");
    assert_eq!(tool.says(&["verify", &digest]), "verified\n");
    let tree = tool.says(&["path", "extracted", &digest]);
    assert_eq!(tool.says(&["extract", &digest]), tree);
    assert_eq!(std::fs::read(Path::new(tree.trim()).join("etc/motd")).unwrap(), b"hi");
    let json: Value = serde_json::from_str(&tool.says(&["--json", "extract", &digest])).unwrap();
    assert_eq!((json["cached"].as_bool(), json["path"].as_str()), (Some(true), Some(tree.trim())));
    let other = Digest::of(b"other").to_string();
    assert_eq!(tool.fails(&["extract", &digest, "--diff-id", &other]), "DIGEST_MISMATCH");
    assert_eq!(tool.fails(&["extract", &other, "--tarball", &layer]), "DIGEST_MISMATCH");

    let (config, config_digest) = tool.file("config", b"{\"os\":\"linux\"}");
    assert_eq!(tool.says(&["put", "config", &config_digest, &config]), "");
    assert_eq!(tool.says(&["cat", "config", &config_digest]), "{\"os\":\"linux\"}");
    assert_eq!(tool.fails(&["put", "config", &digest, &config]), "DIGEST_MISMATCH");
    assert_eq!(tool.fails(&["put", "manifest", &config_digest, &config]), "MALFORMED");
    assert_eq!(tool.fails(&["cat", "manifest", &config_digest]), "NOT_FOUND");
    assert_eq!(tool.fails(&["has", "layer", "sha256:../../x"]), "INVALID_ARGUMENT");
    assert_eq!(leftovers(&tool.store()), [""; 0]);
}

#[test]
fn images_get_names_and_leases_and_go() {
    let Some(tool) = Tool::new() else { return };
    let layout = tool.path("layout");
    super::make_layout::make(&layout);
    tool.says(&["load-layout", layout.to_str().unwrap()]);
    let manifest = names_in(&tool.store().join("manifests"))[0].trim_end_matches(".json").replace('-', ":");
    assert_eq!(tool.says(&["tag", &manifest, "demo"]), "");
    assert_eq!(tool.fails(&["tag", &manifest, "Not A Name"]), "INVALID_ARGUMENT");
    let listed = tool.says(&["ls"]);
    assert!(listed.starts_with(&format!("demo:latest {manifest} ")), "{listed}");
    let json: Value = serde_json::from_str(&tool.says(&["--json", "ls"])).unwrap();
    let names = [&json["name"], &json["familiar_name"]].map(|name| name.as_str().unwrap());
    assert_eq!(names, ["docker.io/library/demo:latest", "demo:latest"]);
    assert!(json["extracted_bytes"].as_u64().unwrap() > 0 && json["shared_bytes"].as_u64() == Some(0), "{json}");
    let about = tool.says(&["inspect", "demo"]);
    assert_eq!(about.lines().filter(|line| line.starts_with("layer: ")).count(), 4, "{about}");
    assert!(about.contains(&format!("manifest: \"{manifest}\"\n")) && !about.contains("missing"), "{about}");
    for line in tool.says(&["--json", "inspect", &manifest]).lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    let lease = tool.says(&["lease", "create", "60"]);
    let lease = lease.trim();
    assert_eq!(tool.says(&["lease", "hold", lease, &manifest]), "");
    assert_eq!(tool.says(&["rm", "demo"]), "");
    assert_eq!(tool.fails(&["rm", "demo"]), "NOT_FOUND");
    assert_eq!(tool.says(&["gc", "--any-age"]), "0 objects, 0 bytes; 0 kept\n");
    assert_eq!(tool.says(&["lease", "extend", lease, "30"]), "");
    assert_eq!(tool.says(&["lease", "release", lease]), "");
    assert_eq!(tool.fails(&["lease", "hold", lease, &manifest]), "NOT_FOUND");
    assert!(tool.says(&["gc"]).starts_with("0 objects, 0 bytes; "));
    let would = tool.says(&["gc", "--any-age", "--dry-run"]);
    assert_eq!(tool.says(&["gc", "--any-age"]), would);
    assert_eq!(would.lines().count(), 1 + 1 + 1 + 3 * 4, "{would}");
    assert_eq!(leftovers(&tool.store()), [""; 0]);
}

#[test]
fn load_layout_takes_a_whole_image() {
    let Some(tool) = Tool::new() else { return };
    let layout = tool.path("layout");
    super::make_layout::make(&layout);
    let layout = layout.to_str().unwrap();
    let lines = tool.says(&["load-layout", layout, "demo"]);
    let trees: Vec<&Path> = lines.lines().map(Path::new).collect();
    assert_eq!(trees.len(), 4);
    assert!(trees[0].join("bin/hello2").exists() && trees[2].join("etc/.wh.motd").exists());
    assert!(trees[3].join("usr/share/doc/.wh..wh..opq").exists());
    assert_eq!(names_in(&tool.store().join("manifests")).len(), 1);
    assert_eq!(tool.says(&["load-layout", layout]), lines, "loading again finds everything");
    assert_eq!(tool.blimg(&["load-layout", layout, "none"]).status.code(), Some(1));

    let quick = Command::new(tool.path("quickstart")).arg(tool.path("other")).arg(layout).output().unwrap();
    assert!(quick.status.success(), "{quick:?}");
    assert_eq!(String::from_utf8(quick.stdout).unwrap().lines().count(), 4);

    let fork =
        Command::new(tool.path("fork")).args([tool.path("forked"), layout.into(), tool.path("work")]).output().unwrap();
    assert!(fork.status.success(), "{fork:?}");
    assert_eq!(std::fs::read(tool.path("work/second/state")).unwrap(), b"what the sandbox knows\n");
    assert!(tool.path("work/fork.tar").exists() && tool.path("work/second/bin").exists());

    // A layout that lies: another blob under the layer's name.
    let digest = Digest::parse(&format!("sha256:{}", &trees[0].to_str().unwrap().rsplit('-').next().unwrap())).unwrap();
    let blob = Path::new(layout).join("blobs/sha256").join(digest.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    std::fs::remove_dir_all(tool.store()).unwrap();
    let output = tool.blimg(&["load-layout", layout]);
    assert_eq!((output.status.code(), status_in(&output).as_str()), (Some(1), "DIGEST_MISMATCH"));
    assert_eq!(names_in(&tool.store().join("layers")), [""; 0]);
    assert_eq!(names_in(&tool.store().join("manifests")), [""; 0]);
}

/// Each of these system calls fails once in the middle of storing and extracting. A status that
/// fits comes of it, nothing is left behind, and the same command works afterwards.
#[test]
fn failing_system_calls_have_statuses_and_leave_nothing() {
    let Some(tool) = Tool::new() else { return };
    if !has_tool("strace") {
        return;
    }
    let (layer, digest) = tool.file("layer", &gzip(&Archive::new().file(b"d/f", &[b'x'; 100_000]).finish()));
    let layer_dir = tool.store().join("layers");
    for (call, error, status) in [
        ("fdatasync", "EIO", "IO"),
        ("fdatasync", "ENOSPC", "NO_SPACE"),
        ("fsync", "EIO", "IO"),
        ("renameat2", "EACCES", "PERMISSION"),
        ("renameat2", "EDQUOT", "NO_SPACE"),
        ("flock", "ENOLCK", "UNSUPPORTED"),
        ("flock", "EIO", "IO"),
        ("flock", "ENOMEM", "IO"),
    ] {
        std::fs::remove_dir_all(tool.store()).ok();
        tool.blimg(&["has", "layer", &digest]);
        let inject = format!("inject={call}:error={error}:when=1");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject])
            .arg(tool.path("blimg"))
            .arg("--store")
            .arg(tool.store())
            .args(["put", "layer", &digest, &layer])
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), status_in(&output).as_str()),
            (Some(1), status),
            "{call} {error}: {output:?}"
        );
        assert_eq!(leftovers(&tool.store()), [""; 0], "{call} {error}");
        // A folder that could not be synced keeps the name: the blob in it was verified.
        assert!(names_in(&layer_dir).is_empty() || call == "fsync", "{call} {error}");
        tool.says(&["put", "layer", &digest, &layer]);
        tool.says(&["verify", &digest]);
    }
    for (call, error, status) in [
        ("mkdirat", "ENOSPC", "NO_SPACE"),
        ("fchmod", "EPERM", "PERMISSION"),
        ("utimensat", "EIO", "IO"),
        ("symlinkat,linkat,openat", "EMFILE", "IO"),
    ] {
        let mut failures = 0;
        for when in 1..60 {
            let trees = tool.store().join("extracted");
            std::fs::remove_dir_all(&trees).ok();
            let inject = format!("inject={call}:error={error}:when={when}");
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject])
                // Which cargo sets, and in which the loader would search dozens of files first.
                .env_remove("LD_LIBRARY_PATH")
                .arg(tool.path("blimg"))
                .arg("--store")
                .arg(tool.store())
                .args(["extract", &digest])
                .output()
                .unwrap();
            if output.status.success() {
                continue;
            }
            // Before main, the loader's own calls fail in its own way.
            if output.status.code() == Some(1) {
                assert_eq!(status_in(&output), status, "{call} {when}: {output:?}");
                failures += 1;
            }
            assert!(output.status.signal().is_none(), "{call} {when}: {output:?}");
            assert_eq!(leftovers(&tool.store()), [""; 0], "{call} {when}");
        }
        assert!(failures > 0, "{call} never failed in the library");
        tool.says(&["extract", &digest]);
    }
}

#[test]
fn an_interrupt_cancels() {
    let Some(tool) = Tool::new() else { return };
    use rustix::process::Signal;
    // From a fifo that nobody fills, so that the signal finds it waiting; and while bytes come.
    let fifo = tool.path("fifo");
    super::support::run("mkfifo", &[fifo.as_os_str()]);
    let digest = Digest::of(b"x").to_string();
    for (kind, signal, before) in [
        ("layer", Signal::INT, 0),
        ("layer", Signal::TERM, 200_000),
        ("manifest", Signal::INT, 0),
        ("manifest", Signal::TERM, 200_000),
        ("config", Signal::TERM, 1000),
    ] {
        let child = Command::new(tool.path("blimg"))
            .arg("--store")
            .arg(tool.store())
            .args(["put", kind, &digest])
            .arg(&fifo)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        std::io::Write::write_all(&mut writer, &vec![b'x'; before]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        std::io::Write::write_all(&mut writer, b"x").ok();
        drop(writer);
        let output = child.wait_with_output().unwrap();
        let found = (output.status.code(), status_in(&output));
        assert_eq!((found.0, found.1.as_str()), (Some(1), "CANCELLED"), "{kind} {signal:?}: {output:?}");
        assert_eq!(leftovers(&tool.store()), [""; 0]);
        assert_eq!(names_in(&tool.store().join("manifests")), [""; 0]);
    }
}
