//! The C++ header. Nothing of the C header is missing in it. A program that uses all of it runs,
//! with every compiler and standard, with and without exceptions, and under valgrind.

use super::image_files::{Made, folder, layout, named};
use super::null_arguments::functions;
use super::support::{compile, has_tool, library_dir, repository, run, run_in_valgrind, temp_dir};

#[test]
fn every_function_and_option_is_reachable() {
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let cpp = std::fs::read_to_string(repository().join("include/boxlite_images.hpp")).unwrap();
    let words: std::collections::BTreeSet<&str> = cpp.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    // bl_bytes_str() is what bl_bytes_data() with its length is.
    for function in functions().iter().filter(|function| function.name != "bl_bytes_str") {
        assert!(words.contains(&*function.name), "{} is not in the C++ header", function.name);
    }
    // Every flag, enumerator and status. Some are not for C++: anomalies stay bits of C's.
    let constants = header.lines().filter_map(|line| line.strip_prefix("#define BL_")?.split_once(' '));
    for (name, _) in constants.filter(|(name, value)| !name.ends_with("_INIT") && !value.is_empty()) {
        let is_plain = ["ANOMALY_", "VERSION_", "PULL_PHASE_", "ENTRY_FLAG_", "PROBLEM_"];
        if !is_plain.iter().any(|plain| name.starts_with(plain)) {
            assert!(words.contains(&*format!("BL_{name}")), "BL_{name} is not in the C++ header");
        }
    }
    // Every field of an option struct is set somewhere.
    for part in header.split("typedef struct bl_").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else { continue };
        if !name.ends_with("_options") {
            continue;
        }
        let body = rest.split('}').next().unwrap();
        let fields = body
            .lines()
            .filter(|line| !line.trim_start().starts_with('*'))
            .filter_map(|line| line.trim().strip_suffix(';'));
        for field in fields.map(|field| field.rsplit([' ', '*']).next().unwrap()) {
            let is_set = ["c.", "r."].iter().any(|object| cpp.contains(&format!("{object}{field} =")));
            assert!(is_set || ["struct_size", "reserved"].contains(&field), "{name}.{field} is never set");
        }
    }
}

#[test]
fn the_header_is_toured() {
    let library = library_dir();
    let dir = temp_dir();
    let made = Made::runnable(&["one", "two"]);
    let layout = folder(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()));
    let source = repository().join("tests/cpp/tour.cpp");
    let mut first = None;
    for compiler in ["g++", "clang++"] {
        if !has_tool(compiler) {
            continue;
        }
        for flags in [
            &["-std=c++17"][..],
            &["-std=c++20"],
            &["-std=c++17", "-fno-exceptions"],
            &["-std=c++20", "-DBOXLITE_NO_EXCEPTIONS"],
        ] {
            let name = format!("{compiler}{}", flags.concat());
            let program = dir.path().join(&name);
            compile(compiler, flags, std::slice::from_ref(&source), library.path(), &program);
            let output =
                run(&program, &[dir.path().join(format!("{name}-work")).as_os_str(), layout.path().as_os_str()]);
            assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
            first.get_or_insert(program);
        }
    }
    if let Some(program) = first.filter(|_| has_tool("valgrind")) {
        run_in_valgrind(&program, &[dir.path().join("valgrind-work").as_os_str(), layout.path().as_os_str()]);
    }
}
