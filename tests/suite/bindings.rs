//! The bindings for Go and Swift reach everything: every function of the header and every field of its option structs is
//! somewhere in their sources. That they work, their own tests say.

use std::collections::BTreeSet;
use std::path::Path;

use super::null_arguments::functions;
use super::support::repository;

fn words_in(folder: &Path, extensions: &[&str], words: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            words_in(&entry, extensions, words);
        } else if entry.extension().is_some_and(|found| extensions.iter().any(|one| found == *one)) {
            let text = std::fs::read_to_string(&entry).unwrap();
            words.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
}

fn reaches_everything(folder: &str, extensions: &[&str], left_out: &[&str]) {
    let mut words = BTreeSet::new();
    words_in(&repository().join(folder), extensions, &mut words);
    let is_left_out = |name: &str| left_out.iter().any(|prefix| name.starts_with(prefix));
    for function in functions().iter().filter(|function| !is_left_out(&function.name)) {
        assert!(words.contains(&*function.name), "{} is not in {folder}", function.name);
    }
    for name in left_out {
        assert!(!words.iter().any(|word| word.starts_with(name)), "{name} is in {folder} by now");
    }
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    for part in header.split("typedef struct bl_").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else { continue };
        if !name.ends_with("_options") && name != "layer_limits" {
            continue;
        }
        let body = rest.split('}').next().unwrap();
        for line in body.lines().filter(|line| !line.trim_start().starts_with('*')) {
            let Some(field) = line.trim().strip_suffix(';').and_then(|line| line.rsplit([' ', '*']).next()) else {
                continue;
            };
            let is_plain = ["struct_size", "reserved"].contains(&field) || is_left_out(field);
            // Go puts a `_` before those that are words of its own.
            let is_there = words.contains(field) || words.contains(&format!("_{field}"));
            assert!(is_plain || is_there, "{name}.{field} is not in {folder}");
        }
    }
}

#[test]
fn go_reaches_everything() {
    // A context and a goroutine are what an operation, and a timeout, is elsewhere.
    reaches_everything(
        "bindings/go/boxlite/internal",
        &["go", "h"],
        &["bl_bytes_str", "bl_op_", "bl_pull_start", "bl_cancel_is_triggered", "timeout_ms"],
    );
}

#[test]
fn swift_reaches_everything() {
    reaches_everything("bindings/swift/Sources", &["swift"], &["bl_bytes_str", "bl_error_status"]);
}
