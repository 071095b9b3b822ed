//! What must not change once released: exported names, struct layouts, status numbers. Golden files under
//! `tests/golden`; `BLESS=1` writes them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;

use super::image_files::{Made, folder, layout, named};
use super::null_arguments::{functions, functions_in};
use super::support::{compile, has_tool, library_dir, names_in, repository, run, temp_dir};

fn golden(name: &str, found: &str) {
    super::generated::is_up_to_date(&repository().join("tests/golden").join(name), found);
}

#[test]
fn exports() {
    if !has_tool("nm") {
        return;
    }
    let library = library_dir();
    let output = run(
        "nm",
        &[OsStr::new("-D"), OsStr::new("--defined-only"), library.path().join("libboxlite_images.so.0").as_os_str()],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    names.sort();
    for name in &names {
        assert!(name.starts_with("bl_"), "{name} is exported");
    }
    for name in ["bl_storage_open", "bl_stage_layer", "bl_write", "bl_commit", "bl_extract_layer"] {
        assert!(names.contains(&name), "{name} is not exported");
    }
    let mut declared: Vec<String> = functions().into_iter().map(|function| function.name).collect();
    declared.sort();
    assert_eq!(names, declared, "exported and declared names differ");
    // With the release that each is of, as its comment in the header says.
    let found: String = names.iter().map(|name| format!("{name} {}\n", since(name))).collect();
    let before = std::fs::read_to_string(repository().join("tests/golden/exports.txt")).unwrap_or_default();
    for line in found.lines().filter(|line| !before.lines().any(|old| old == *line)) {
        let (name, release) = line.split_once(' ').unwrap();
        assert!(
            !before.lines().any(|old| old.split(' ').next() == Some(name)),
            "{name} was released before, and says {release} now"
        );
        assert_eq!(release, env!("CARGO_PKG_VERSION"), "{name} is new");
    }
    golden("exports.txt", &found);
}

fn since(name: &str) -> String {
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let declaration = format!("{name}(");
    let at = header.match_indices(&declaration).map(|(at, _)| at).find(|&at| {
        let line = header[..at].rsplit('\n').next().unwrap();
        line.ends_with([' ', '*']) && !line.starts_with([' ', '/', '#'])
    });
    let above = &header[..at.unwrap_or_else(|| panic!("{name} is not declared"))];
    let comment = above.rsplit("/**").next().unwrap().replace("\n *", " ");
    let release = comment.rsplit("@since").next().unwrap().split_whitespace().next().unwrap();
    assert!(release.starts_with(|c: char| c.is_ascii_digit()), "{name} does not say since when it is there");
    release.to_owned()
}

/// Size of each struct and offset of each field, by a C compiler.
#[test]
fn layouts_and_numbers() {
    if !has_tool("gcc") || !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        return;
    }
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let mut program = String::from("#include <stdio.h>\n#include \"boxlite_images.h\"\nint main(void) {\n");
    let mut current = None;
    for line in header.lines() {
        let line = line.trim();
        if line.starts_with(['*', '/']) {
            continue;
        }
        if let Some(name) = line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
            current = Some(name.to_owned());
            writeln!(program, "printf(\"{name} %zu\\n\", sizeof({name}));").unwrap();
        } else if line.starts_with('}') {
            current = None;
        } else if let (Some(name), Some(field)) = (&current, line.strip_suffix(';')) {
            let field = field.rsplit([' ', '*']).next().unwrap().split('[').next().unwrap();
            writeln!(program, "printf(\"{name}.{field} %zu\\n\", offsetof({name}, {field}));").unwrap();
        } else if let Some((define, value)) = line.strip_prefix("#define BL_").and_then(|rest| rest.split_once(' '))
            && !value.starts_with(['{', '"', '\\'])
            && !define.starts_with("VERSION")
        {
            writeln!(program, "printf(\"BL_{define} %lld\\n\", (long long)BL_{define});").unwrap();
        }
    }
    program.push_str("return 0; }\n");
    let dir = temp_dir();
    let source = dir.path().join("layout.c");
    std::fs::write(&source, program).unwrap();
    let program = compile("gcc", &["-std=c11"], &[source], library_dir().path(), &dir.path().join("layout"));
    let output = String::from_utf8(run(program, &[]).stdout).unwrap();
    assert!(output.contains("bl_extract_options.diff_id 24\n"), "{output}");
    golden("layout-linux-64.txt", &output);
}

/// Programs of earlier releases, with the headers that they were built with, run with the library of today.
#[test]
fn programs_of_every_release_run() {
    if !has_tool("gcc") {
        return;
    }
    let releases = names_in(&repository().join("tests/abi"));
    let ours = env!("CARGO_PKG_VERSION");
    assert!(releases.iter().any(|release| release == ours), "tests/abi has no program of {ours}");
    let made = Made::runnable(&["one", "two"]);
    let layout = folder(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()));
    let (library, dir) = (library_dir(), temp_dir());
    for release in &releases {
        let folder = repository().join("tests/abi").join(release);
        // Every function of that header is used.
        let source = std::fs::read_to_string(folder.join("program.c")).unwrap();
        let header = std::fs::read_to_string(folder.join("boxlite_images.h")).unwrap();
        for function in functions_in(&header) {
            assert!(source.contains(&format!("{}(", function.name)), "{release}: {} is not used", function.name);
        }
        let frozen = format!("-I{}", folder.display());
        let flags = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", &frozen];
        let program = dir.path().join(release);
        compile("gcc", &flags, &[folder.join("program.c")], library.path(), &program);
        let output =
            run(&program, &[dir.path().join(format!("{release}-store")).as_os_str(), layout.path().as_os_str()]);
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

/// The constants of each set, by what their comments begin with: `bl_pull_options.flags`, `bl_image_text()`.
fn constants() -> BTreeMap<String, Vec<String>> {
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let (mut sets, mut comment) = (BTreeMap::<String, Vec<String>>::new(), String::new());
    for line in header.lines() {
        if line.starts_with("/**") {
            comment.clear();
        } else if let Some(text) = line.strip_prefix(" * ") {
            comment.push_str(text);
            comment.push(' ');
        } else if let Some((name, value)) = line.strip_prefix("#define BL_").and_then(|rest| rest.split_once(' '))
            && value.trim_matches(['(', ')', '-']).bytes().all(|byte| byte.is_ascii_digit())
            && let Some((set, _)) = comment.split_once(": ")
            && !set.contains(' ')
        {
            sets.entry(set.to_owned()).or_default().push(format!("BL_{name}"));
        }
    }
    sets
}

/// What the names of a set have in common, up to the last underscore.
fn prefix_of(names: &[String]) -> &str {
    let first = names[0].as_str();
    let is_common = |end: usize| names.iter().all(|name| name.starts_with(&first[..end]));
    let mut ends = first.match_indices('_').map(|(at, _)| at + 1).filter(|&end| is_common(end));
    &first[..ends.next_back().unwrap()]
}

/// A flag is never called like a value of something else: `flags = BL_PULL_NEWER` would compile and mean another thing.
#[test]
fn sets_of_constants_share_no_prefix() {
    let sets = constants();
    assert!(sets.len() > 15, "{sets:?}");
    let prefixes: BTreeMap<&str, &str> = sets.iter().map(|(set, names)| (set.as_str(), prefix_of(names))).collect();
    for (set, names) in &sets {
        for (other, prefix) in prefixes.iter().filter(|(other, _)| *other != set) {
            assert_ne!(prefixes[set.as_str()], *prefix, "{set} and {other}");
            // What is called by a longer prefix than its own looks like one of the other's.
            let is_longer = prefix.len() > prefixes[set.as_str()].len();
            let taken = names.iter().find(|name| is_longer && name.starts_with(prefix));
            assert_eq!(taken, None, "of {set}, and called as those of {other} are");
        }
    }
}

/// Numbers whose names need no unit: each stands alone, or counts what it is called by.
const WITHOUT_UNIT: &[(&str, &[&str])] = &[
    (
        "values of a set",
        &[
            "compression",
            "durability",
            "flags",
            "form",
            "format",
            "kind",
            "layout",
            "phase",
            "policy",
            "mode",
            "problem",
            "whiteouts",
        ],
    ),
    ("0 or 1", &["cached", "is_done", "quarantined"]),
    ("ids", &["uid", "gid", "device_major", "device_minor"]),
    ("none by nature", &["compression_ratio", "zstd_window_log", "level", "reserved"]),
    (
        "counts",
        &[
            "additional_gid_count",
            "anomalies",
            "configs",
            "damaged",
            "disks",
            "directory_steps",
            "entries",
            "entries_unpacked",
            "free_inodes",
            "kept",
            "layers",
            "layers_done",
            "manifests",
            "missing",
            "objects",
            "other_file_systems",
            "parallel",
            "partials",
            "parts",
            "path_depth",
            "removed",
            "skipped",
            "sockets",
            "sparse_chunks",
            "stacked_headers",
            "symlink_hops",
            "symlink_steps",
            "trees",
            "xattr_count",
            "xattrs",
        ],
    ),
];

/// A field that is a number says its unit in its name, or is in the list above with the reason why not.
#[test]
fn numbers_say_their_units() {
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let without: Vec<&str> = WITHOUT_UNIT.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let (mut structure, mut comment, mut seen) = ("", String::new(), Vec::new());
    for line in header.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
            structure = name;
        } else if line == "/**" {
            comment.clear();
        } else if let Some(text) = line.strip_prefix("* ") {
            comment.push_str(text);
            comment.push(' ');
        } else if let Some((kind, name)) = line.strip_suffix(';').and_then(|field| field.split_once(' '))
            && (kind == "size_t" || kind.ends_with("int32_t") || kind.ends_with("int64_t"))
            && !name.contains(['*', '(', '[', ')'])
            && !matches!(name, "struct_size" | "value_len" | "data_len")
        {
            seen.push(name);
            let unit = name.split('_').find(|word| matches!(*word, "bytes" | "ms" | "seconds" | "nanoseconds"));
            assert_ne!(unit.is_some(), without.contains(&name), "{structure}.{name}: a unit, or a line in the list");
            let says = comment.to_lowercase().replace("nanoseconds", "ns").replace("milliseconds", "ms");
            let said = |words: &[&str]| says.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&word));
            let is_said = match unit {
                Some("ms") => said(&["ms"]),
                Some("nanoseconds") => said(&["ns"]),
                Some("seconds") => said(&["seconds"]),
                // "Its size, compressed." and "The rest of compressed_bytes." are of bytes too.
                Some(_) => true,
                // A ratio is one of bytes; the rest has no unit to say.
                None => name == "compression_ratio" || !said(&["bytes", "ms", "ns", "seconds"]),
            };
            assert!(is_said, "{structure}.{name}: {comment}");
        }
    }
    assert!(seen.len() > 100, "{seen:?}");
    let unused: Vec<_> = without.iter().filter(|name| !seen.contains(name)).collect();
    assert!(unused.is_empty(), "no field is called like this any more: {unused:?}");
}
