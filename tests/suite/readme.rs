//! The README and its pages are true: their C and C++ compile, and the table has every function. (Their Rust is a doc test.)

use super::image_files::{Made, folder, layout, named};
use super::null_arguments::functions;
use super::support::{compile, has_tool, library_dir, repository, run, temp_dir};

fn page(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

fn readme() -> String {
    page("README.md")
}

fn languages() -> String {
    page("docs/languages.md")
}

#[test]
fn the_c_examples_compile() {
    let text = readme() + &languages();
    let examples = text.split("```c\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let example: String = examples.collect();
    assert!(example.contains("store_layer(") && example.contains("bl_pull("), "C is missing");
    let dir = temp_dir();
    let main = "\nint main(void) { return store_layer(\"/nonexistent/x\", \"sha256:\", \"\", 0) == 1 && make_rootfs(\"/nonexistent/x\", \"x\", \"y\") == 1 ? 0 : 1; }\n";
    let source = dir.path().join("readme.c");
    std::fs::write(&source, format!("{example}{main}")).unwrap();
    if has_tool("gcc") {
        let program = compile("gcc", &["-std=c11"], &[source], library_dir().path(), &dir.path().join("readme"));
        assert!(program.exists());
    }
}

#[test]
fn the_guest_of_the_docs_is_prepared() {
    let text = std::fs::read_to_string(repository().join("docs/embedding-in-a-vmm.md")).unwrap();
    let example = text.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = temp_dir();
    let source = dir.path().join("guest.c");
    let main =
        "\nint main(int argc, char **argv) { return argc == 4 ? prepare_guest(argv[1], argv[2], argv[3]) : 2; }\n";
    std::fs::write(&source, format!("{example}{main}")).unwrap();
    if has_tool("gcc") {
        let (library, path) = (library_dir(), |name| dir.path().join(name));
        let program = compile("gcc", &["-std=c11"], &[source], library.path(), &path("guest"));
        let made = Made::runnable(&["one"]);
        let layout = folder(&layout(&[made.entry(&named("dev"))], made.blobs()));
        let output = run(program, &[path("store").as_os_str(), layout.path().as_os_str(), path("root").as_os_str()]);
        assert!(String::from_utf8(output.stdout).unwrap().contains(r#""args":["sh"]"#));
        assert!(path("root/one").exists());
    }
}

#[test]
fn the_cpp_example_runs() {
    let text = languages();
    let example = text.split("```cpp\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = temp_dir();
    // An empty archive.
    let main = r#"
int main(int, char **argv) {
  store_layer(argv[1], "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", std::string(1024, 0));
  try {
    store_layer(argv[1], "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", "x");
  } catch (const boxlite::exception &e) {
    return e.error().code() == boxlite::status::size_mismatch || e.error().code() == boxlite::status::digest_mismatch ? 0 : 2;
  }
  return 1;
}
"#;
    let source = dir.path().join("readme.cpp");
    std::fs::write(&source, format!("{example}{main}")).unwrap();
    if has_tool("g++") {
        let library = library_dir();
        let program = compile("g++", &["-std=c++17"], &[source], library.path(), &dir.path().join("readme"));
        run(program, &[dir.path().join("store").as_os_str()]);
    }
}

#[test]
fn every_function_is_in_the_table() {
    let table = page("docs/functions.md");
    for function in functions() {
        assert!(table.contains(&format!("`{}`", function.name)), "{} is not in docs/functions.md", function.name);
    }
    let named = table.split('`').filter(|word| word.starts_with("bl_")).count();
    assert_eq!(named, functions().len(), "docs/functions.md names functions that the header does not have");
}

/// It is read in five minutes.
#[test]
fn the_readme_is_short() {
    assert!(readme().lines().count() <= 150);
}

/// The value of a line of the README's table of facts.
pub fn fact(name: &str) -> String {
    let text = readme();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("| ")?.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(" | ").next().unwrap().trim_end_matches('|').trim().to_owned()
}

/// Of a release build with default features, at `BL_TEST_RELEASE`.
#[test]
fn the_size_of_the_library_is_true() {
    let Some(built) = std::env::var_os("BL_TEST_RELEASE") else { return };
    if !has_tool("strip") || !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let stripped = temp_dir();
    let stripped = stripped.path().join("stripped");
    run("strip", &["-o".as_ref(), stripped.as_os_str(), &built]);
    let megabytes = std::fs::metadata(stripped).unwrap().len() as f64 / 1e6;
    let said: f64 = fact("the shared library, stripped").strip_suffix(" MB").unwrap().parse().unwrap();
    assert!((megabytes - said).abs() < 0.05 * said, "{megabytes:.2} MB, and the README says {said}");
}

#[test]
fn the_number_of_exports_is_true() {
    assert_eq!(fact("exported names"), functions().len().to_string());
}
