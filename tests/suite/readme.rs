//! The README is true: its C compiles in every dialect that it may be pasted into, and its table has every function.
//! (Its Rust is a doc test.)

use super::null_arguments::functions;
use super::support::{compile, has_tool, library_dir, repository, temp_dir};

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
fn every_function_is_in_the_table() {
    let text = readme();
    let table = text.split("## Functions").nth(1).and_then(|rest| rest.split("## ").next()).unwrap();
    for function in functions() {
        assert!(table.contains(&format!("`{}`", function.name)), "{} is not in the README", function.name);
    }
    let named = table.split('`').filter(|word| word.starts_with("bl_")).count();
    assert_eq!(named, functions().len(), "the README names functions that the header does not have");
}
