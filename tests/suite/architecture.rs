//! Dependencies point down: which folder of `src` may use which, as docs/architecture.md and CONTRIBUTING.md say. A folder that
//! uses one above it makes a circle, and two parts that can only be understood together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::support::repository;

/// What everything may use.
const GROUND: [&str; 7] = ["digest", "error", "status", "limits", "interrupt", "queue", "inject"];

/// Each folder, and what it may use besides.
const MAY_USE: [(&str, &[&str]); 19] = [
    ("digest", &[]),
    ("error", &[]),
    ("status", &[]),
    ("limits", &[]),
    ("interrupt", &[]),
    ("queue", &[]),
    ("inject", &[]),
    ("sys", &[]),
    ("oci", &[]),
    ("store", &["sys", "oci"]),
    ("layer", &["sys"]),
    ("unpack", &["sys", "store", "layer"]),
    ("check", &["sys", "oci", "store", "unpack"]),
    ("image", &["oci", "store", "unpack"]),
    ("place", &["sys", "store"]),
    ("rootfs", &["store", "layer", "unpack", "image", "place"]),
    ("archive", &["oci", "store", "layer", "unpack", "image", "place"]),
    ("runtime", &["sys"]),
    ("pull", &["sys", "oci", "store", "layer", "unpack", "image", "runtime"]),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false if entry.extension().is_some_and(|extension| extension == "rs") => found.push(entry),
            false => {}
        }
    }
    found
}

/// The folder of a file, or the name of one that lies at the top.
fn folder_of(file: &Path, source: &Path) -> String {
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// What the code of a file uses of the crate, without its tests.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let first_word = |path: &str| {
        path.trim().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
    };
    let names = |path: &str| match path.strip_prefix('{') {
        // Of a list each, whatever is in lists of theirs.
        Some(list) => {
            let mut depth = 0;
            let mut at_top = |c: char| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                c == ',' && depth == 0
            };
            list[..list.find("};").unwrap_or(list.len())].split(&mut at_top).map(first_word).collect()
        }
        None => vec![first_word(path)],
    };
    lines.join("\n").split("crate::").skip(1).flat_map(names).filter(|name| !name.is_empty()).collect()
}

#[test]
fn arrows_point_down() {
    let source = repository().join("src");
    let mut arrows = 0;
    for file in files(&source) {
        let folder = folder_of(&file, &source);
        // The top: the crate itself, the C ABI over all of it, and what the fuzzers call.
        if matches!(folder.as_str(), "lib" | "ffi" | "fuzzing") {
            continue;
        }
        let (_, allowed) = MAY_USE.iter().find(|(name, _)| *name == folder).unwrap_or_else(|| {
            panic!("{}: say in tests/suite/architecture.rs what the folder {folder} may use", file.display())
        });
        for name in used(&std::fs::read_to_string(&file).unwrap()) {
            let is_down = name == folder || GROUND.contains(&name.as_str()) || allowed.contains(&name.as_str());
            assert!(is_down, "{} uses crate::{name}, which is above it", file.display());
            arrows += usize::from(name != folder);
        }
    }
    assert!(arrows > 100, "only {arrows} uses were seen");
}

/// A file is one concept, and can be read at a sitting.
#[test]
fn files_are_short() {
    for file in ["src", "tests/suite"].iter().flat_map(|folder| files(&repository().join(folder))) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.display());
    }
}
