//! Dependencies point down: which folder of `src` may use which, as docs/architecture.md and CONTRIBUTING.md say. A folder that
//! uses one above it makes a circle, and two parts that can only be understood together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::support::repository;

/// What everything may use.
const GROUND: [&str; 8] = ["digest", "error", "status", "limits", "interrupt", "queue", "options", "fault"];

/// Each folder, and what it may use besides.
const MAY_USE: [(&str, &[&str]); 25] = [
    ("digest", &[]),
    ("error", &[]),
    ("status", &[]),
    ("limits", &[]),
    ("interrupt", &[]),
    ("queue", &[]),
    ("options", &[]),
    ("fault", &[]),
    ("sys", &[]),
    ("oci", &[]),
    ("layer", &["sys"]),
    ("record", &["sys", "layer"]),
    ("store", &["sys", "oci", "record"]),
    ("unpack", &["sys", "layer", "record"]),
    ("disk", &["sys", "layer", "record", "unpack"]),
    ("extraction", &["sys", "store", "layer", "record", "unpack", "disk"]),
    ("check", &["sys", "oci", "store", "record", "unpack", "disk", "image_disk"]),
    ("image", &["oci", "store", "unpack"]),
    ("destination", &["sys", "store"]),
    ("rootfs", &["store", "layer", "record", "unpack", "extraction", "image", "destination"]),
    (
        "image_disk",
        &["sys", "oci", "store", "layer", "record", "unpack", "disk", "extraction", "image", "destination", "rootfs"],
    ),
    ("archive", &["sys", "oci", "store", "layer", "unpack", "extraction", "image", "destination"]),
    ("commit", &["sys", "oci", "store", "layer", "record", "unpack", "disk", "image_disk", "extraction", "image"]),
    ("runtime", &["sys"]),
    ("pull", &["sys", "oci", "store", "layer", "unpack", "extraction", "image", "runtime"]),
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

/// The code of each file, without its tests and comments, by its path below `src` without `.rs`; a `mod.rs` by its folder.
fn modules() -> BTreeMap<String, String> {
    let source = repository().join("src");
    let mut modules = BTreeMap::new();
    for file in files(&source) {
        let path = file.strip_prefix(&source).unwrap().with_extension("").to_str().unwrap().to_owned();
        let name = path.strip_suffix("/mod").unwrap_or(&path).to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
        modules.insert(name, code.lines().map(line).collect());
    }
    modules
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(path: &str) -> Vec<String> {
    let Some(open) = path.find('{') else { return vec![path.split(" as ").next().unwrap().trim().to_owned()] };
    let (prefix, list) = (&path[..open], &path[open + 1..path.rfind('}').unwrap()]);
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(list[start..at].trim());
            start = at + 1;
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).flat_map(|part| expand(&format!("{prefix}{part}"))).collect()
}

/// What the `use` lines of a file name, and whether it passes that on.
fn used_paths(code: &str) -> Vec<(bool, String)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].rsplit('\n').next().unwrap().trim();
        if before.is_empty() || before.starts_with("pub") && !before.contains(' ') {
            let path: String =
                code[at + 4..].split(';').next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            paths.extend(expand(&path).into_iter().map(|path| (!before.is_empty(), path)));
        }
    }
    paths
}

/// Paths from the crate's root: what a file uses, and what is written out in its code.
fn absolute_paths(module: &str, code: &str) -> Vec<Vec<String>> {
    let mut paths: Vec<String> = used_paths(code).into_iter().map(|(_, path)| path).collect();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            paths.push(code[at..].split(|c| !is_word(c)).next().unwrap().trim_end_matches(':').to_owned());
        }
    }
    let own: Vec<String> = module.split('/').map(str::to_owned).collect();
    let absolute = |path: &String| {
        let mut parts: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
        let mut base = own.clone();
        match parts.first().map(String::as_str) {
            Some("crate") => return Some(parts.split_off(1)),
            Some("self") => _ = parts.remove(0),
            Some("super") => {
                while parts.first().is_some_and(|part| part == "super") {
                    parts.remove(0);
                    base.pop();
                }
            }
            _ => return None,
        }
        base.append(&mut parts);
        Some(base)
    };
    paths.iter().filter_map(absolute).collect()
}

/// The file that a path leads to, through what a `mod.rs` passes on.
fn file_of(path: &[String], modules: &BTreeMap<String, String>) -> Option<String> {
    let length = (1..=path.len()).rev().find(|&n| modules.contains_key(&path[..n].join("/")))?;
    let module = path[..length].join("/");
    let Some(name) = path.get(length) else { return Some(module) };
    for (_, passed_on) in used_paths(&modules[&module]).into_iter().filter(|(is_passed_on, _)| *is_passed_on) {
        let inner: Vec<String> = passed_on.trim_start_matches("self::").split("::").map(str::to_owned).collect();
        if inner.last() == Some(name) && modules.contains_key(&format!("{module}/{}", inner[0])) {
            return file_of(&[&path[..length], &inner[..]].concat(), modules);
        }
    }
    Some(module)
}

/// No file uses one that uses it, over however many others.
#[test]
fn no_circle_of_files() {
    let modules = modules();
    let mut uses: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in &modules {
        let found = absolute_paths(module, code).into_iter().filter_map(|path| file_of(&path, &modules));
        uses.insert(module, found.filter(|other| other != module).collect());
    }
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 500, "too few uses were seen");
    // What uses nothing that is left is in no circle.
    while let Some(free) = uses.iter().find(|(_, used)| !used.iter().any(|other| uses.contains_key(other))) {
        let free = (*free.0).clone();
        uses.remove(&free);
    }
    // What nothing uses that is left only leads to one.
    while let Some(outer) = uses.keys().find(|module| !uses.values().any(|used| used.contains(**module))) {
        let outer = (*outer).clone();
        uses.remove(&outer);
    }
    assert!(uses.is_empty(), "circles of files: {uses:#?}");
}

/// A name means one thing in the crate.
#[test]
fn names_of_types_are_unique() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in modules() {
        for line in code.lines() {
            let words: Vec<&str> = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect();
            if let [kind, name, ..] = words[..]
                && ["struct", "enum", "trait", "type", "union"].contains(&kind)
                && !line.starts_with(' ')
            {
                let name = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                places.entry(name.to_owned()).or_default().insert(module.clone());
            }
        }
    }
    assert!(places.len() > 200, "only {} types were seen", places.len());
    places.retain(|_, modules| modules.len() > 1);
    assert!(places.is_empty(), "types of one name: {places:#?}");
}

/// A `mod.rs` says what a folder holds, and holds nothing itself.
#[test]
fn folders_only_declare() {
    let source = repository().join("src");
    let all = files(&source);
    let heads: Vec<&PathBuf> = all.iter().filter(|file| file.ends_with("mod.rs")).collect();
    assert!(heads.len() > 8, "only {} folders were seen", heads.len());
    for file in heads {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let is_plain = [
                "//",
                "#",
                "mod ",
                "pub mod ",
                "pub use ",
                "pub(crate) mod ",
                "pub(crate) use ",
                "pub(super) use ",
                "    ",
                "}",
            ];
            assert!(
                line.is_empty() || is_plain.iter().any(|start| line.starts_with(start)),
                "{}: {line}",
                file.display()
            );
        }
    }
}

/// A function fits on a screen.
#[test]
fn functions_are_short() {
    let mut count = 0;
    for (module, code) in modules() {
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let words = line.split_whitespace();
            if !words.take(5).any(|word| word == "fn") || line.trim_end().ends_with(';') {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            // Of a declaration, which has no body, the next one's end would be found.
            let body = &lines[at..];
            let opens = body.iter().position(|line| line.contains('{')).unwrap_or(0);
            let ends_first = body[..=opens].iter().any(|line| line.trim_end().ends_with(';'));
            if let Some(length) = body.iter().position(|line| line.trim_end() == end).filter(|_| !ends_first) {
                assert!(length < 70, "{module}: {} lines from: {line}", length + 1);
                count += 1;
            }
        }
    }
    assert!(count > 1000, "only {count} functions were seen");
}

/// A file is one concept, and can be read at a sitting.
#[test]
fn files_are_short() {
    for file in ["src", "tests/suite"].iter().flat_map(|folder| files(&repository().join(folder))) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.display());
    }
}
