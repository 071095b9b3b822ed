//! The README is true: its C compiles in every dialect that it may be pasted into, and its table has every function.
//! (Its Rust is a doc test.)

use super::null_arguments::functions;
use super::support::{compile, has_tool, library_dir, repository, run, temp_dir};

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).unwrap()
}

#[test]
fn the_c_examples_compile() {
    let text = readme();
    let examples = text.split("```c\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let example: String = examples.collect();
    assert!(example.contains("store_layer(") && example.contains("bl_pull("), "C is missing in the README");
    let dir = temp_dir();
    let main = "\nint main(void) { return store_layer(\"/nonexistent/x\", \"sha256:\", \"\", 0) == 1 && pull(NULL, \"x\") == 1 ? 0 : 1; }\n";
    let source = dir.path().join("readme.c");
    std::fs::write(&source, format!("{example}{main}")).unwrap();
    if has_tool("gcc") {
        let program = compile("gcc", &["-std=c11"], &[source], library_dir().path(), &dir.path().join("readme"));
        assert!(program.exists());
    }
}

#[test]
fn the_cpp_example_runs() {
    let text = readme();
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
    let text = readme();
    let table = text.split("## Functions").nth(1).and_then(|rest| rest.split("## ").next()).unwrap();
    for function in functions() {
        assert!(table.contains(&format!("`{}`", function.name)), "{} is not in the README", function.name);
    }
    let named = table.split('`').filter(|word| word.starts_with("bl_")).count();
    assert_eq!(named, functions().len(), "the README names functions that the header does not have");
}
