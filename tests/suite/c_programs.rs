//! The header in every dialect, and the C programs under `tests/c`, compiled with gcc and clang and run plain and under
//! valgrind.

use std::ffi::OsStr;
use std::path::Path;

use super::support::{compile, has_tool, library_dir, repository, run, run_in_valgrind, temp_dir};

const C_FLAGS: [&str; 3] = ["-std=c11", "-Wstrict-prototypes", "-D_XOPEN_SOURCE=700"];

#[test]
fn header_compiles_in_every_dialect() {
    let dir = temp_dir();
    let source = dir.path().join("use.c");
    std::fs::write(&source, "#include \"boxlite_images.h\"\n#include \"boxlite_images.h\"\nint use(void);\nint use(void) { bl_storage_options o = BL_STORAGE_OPTIONS_INIT; bl_verify_options v = BL_VERIFY_OPTIONS_INIT; bl_extract_options e = BL_EXTRACT_OPTIONS_INIT; bl_extract_result r = BL_EXTRACT_RESULT_INIT; bl_layer_limits l = BL_LAYER_LIMITS_INIT; bl_layer_entry n = BL_LAYER_ENTRY_INIT; return (int)(o.flags + v.timeout_ms + e.timeout_ms + r.entries + l.entries + n.kind + (sizeof(bl_status) - 4)); }\n").unwrap();
    let include = format!("-I{}", repository().join("include").display());
    let mut compiled = 0;
    for (compiler, language, standards) in [
        ("gcc", "c", &["c99", "c11", "c17"][..]),
        ("clang", "c", &["c99", "c11", "c17"]),
        ("g++", "c++", &["c++11", "c++17", "c++20"]),
        ("clang++", "c++", &["c++11", "c++17", "c++20"]),
    ] {
        if !has_tool(compiler) {
            continue;
        }
        for standard in standards {
            let standard = format!("-std={standard}");
            let mut flags =
                vec!["-x", language, &standard, "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
            if language == "c" {
                flags.push("-Wstrict-prototypes");
            }
            flags.push(&include);
            let mut args: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
            args.push(source.as_os_str());
            run(compiler, &args);
            compiled += 1;
        }
    }
    assert!(compiled >= 3, "no C compiler at all");
}

fn runs(name: &str) {
    let library = library_dir();
    let dir = temp_dir();
    let source = repository().join("tests/c").join(name).with_extension("c");
    for compiler in ["gcc", "clang"] {
        if has_tool(compiler) {
            let program = dir.path().join(format!("{name}-{compiler}"));
            compile(compiler, &C_FLAGS, std::slice::from_ref(&source), library.path(), &program);
            run_silently(&program, &dir.path().join(format!("store-{compiler}")));
        }
    }
    if has_tool("valgrind") && has_tool("gcc") {
        let program = dir.path().join(format!("{name}-gcc"));
        let store = dir.path().join("store-valgrind");
        run_in_valgrind(&program, &[store.as_os_str()]);
    }
}

/// The library prints nothing, and neither do these.
fn run_silently(program: &Path, store: &Path) {
    let output = run(program, &[store.as_os_str()]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn lifecycle() {
    runs("lifecycle");
}

#[test]
fn struct_size() {
    runs("struct_size");
}

#[test]
fn entries() {
    runs("entries");
}

#[test]
fn fork() {
    runs("fork");
}

#[test]
fn threads() {
    runs("threads");
}

#[test]
fn hammer() {
    runs("hammer");
}

#[test]
fn manners() {
    runs("manners");
}
