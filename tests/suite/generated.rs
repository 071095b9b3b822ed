//! Generated files are what their sources say: the C header, and the tables in the docs. `BLESS=1` writes them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use boxlite_images::{Anomalies, Status, limits};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a generated text with the file, or writes the file.
pub fn is_up_to_date(path: &Path, generated: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, generated).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if let Some((line, (old, new))) =
        found.lines().chain([""]).zip(generated.lines().chain([""])).enumerate().find(|(_, (old, new))| old != new)
    {
        panic!(
            "{} is stale at line {}:\n- {old}\n+ {new}\nrun BLESS=1 cargo test --test suite generated",
            path.display(),
            line + 1
        );
    }
    assert_eq!(found.lines().count(), generated.lines().count(), "{} is stale", path.display());
}

/// The version, status and anomaly macros.
fn tables() -> String {
    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let [major, minor, patch] = version.split('.').map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()[..] else {
        panic!("version {version}")
    };
    let number = major * 1_000_000 + minor * 1_000 + patch;
    for (name, value) in [("MAJOR", major), ("MINOR", minor), ("PATCH", patch), ("NUMBER", number)] {
        writeln!(out, "#define BL_VERSION_{name} {value}").unwrap();
    }
    writeln!(out, "#define BL_VERSION_STRING \"{version}\"\n").unwrap();
    out.push_str("/* Success, or why not. The numbers never change; a newer library may return new ones. */\n");
    out.push_str("typedef int32_t bl_status;\n\n#define BL_OK 0\n");
    for status in Status::ALL {
        let define = format!("#define BL_E_{} ({})", status.name(), *status as i32);
        writeln!(out, "/* {} */\n{define}", status.description()).unwrap();
    }
    out.push_str("\n/* Bits of bl_extract_result.anomalies. */\n");
    for (name, bit, meaning) in Anomalies::TABLE {
        writeln!(out, "/* {meaning} */\n#define BL_ANOMALY_{name} {}", bit.bits()).unwrap();
    }
    out
}

/// For each struct whose comment names its `BL_*_INIT`, that macro and a function that returns it, for languages without macros.
fn initialisers(header: &str) -> String {
    let (mut macros, mut functions) = (String::new(), String::new());
    for (at, _) in header.match_indices("typedef struct bl_") {
        let name = header[at + "typedef struct ".len()..].split([' ', ';']).next().unwrap();
        let macro_name = format!("{}_INIT", name.to_uppercase());
        let comment = header[..at].rfind("/**").map_or("", |start| &header[start..at]);
        if !comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == macro_name) {
            continue;
        }
        let body = &header[at..at + header[at..].find("\n}").unwrap()];
        let is_field = |line: &&str| line.ends_with(';') && !line.starts_with(['*', '/']);
        let fields: Vec<&str> = body.lines().map(str::trim).filter(is_field).collect();
        assert_eq!(fields.first(), Some(&"size_t struct_size;"), "{name}");
        let zero = |field: &&str| match () {
            () if field.contains('[') => "{ 0 }",
            () if field.contains('*') || field.contains("_callback ") => "NULL",
            () => "0",
        };
        let zeros: Vec<&str> = fields[1..].iter().map(zero).collect();
        let line = format!("#define {macro_name} {{ sizeof({name}), {} }}", zeros.join(", "));
        match line.len() <= 100 {
            true => writeln!(macros, "{line}").unwrap(),
            false => writeln!(macros, "#define {macro_name} \\\n  {{ sizeof({name}), {} }}", zeros.join(", ")).unwrap(),
        }
        write!(
            functions,
            "\nstatic inline {name} {name}_init(void)\n{{\n  {name} made = {macro_name};\n  return made;\n}}\n"
        )
        .unwrap();
    }
    assert!(macros.lines().count() > 20, "too few initialisers:\n{macros}");
    // After the include guard's end, and so with one of its own.
    format!(
        "\n#ifndef BL_STORAGE_OPTIONS_INIT\n/* Defaults for option and result structs, as initialisers and, for languages without \
         macros, as functions. */\n{macros}{functions}#endif /* BL_STORAGE_OPTIONS_INIT */\n"
    )
}

#[test]
fn header_is_up_to_date() {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.after_includes = Some(tables());
    let files = [
        "version",
        "handles",
        "error",
        "bytes",
        "cancel",
        "log",
        "storage",
        "manifests",
        "layers",
        "limits",
        "tree",
        "extract",
        "entries",
        "staged",
        "configs",
        "images",
        "pull_progress",
        "pull",
        "operations",
        "archive",
        "rootfs",
        "disk_files",
        "disks",
        "commit",
        "leases",
        "overlay",
        "process",
        "gc",
        "check",
        "blobs",
    ];
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in files {
        builder = builder.with_src(root().join(format!("src/ffi/{file}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().expect("cbindgen").write(&mut header);
    // Every struct has a typedef; arguments and fields read better without the tag.
    let untagged = |line: &str| match line.starts_with("typedef struct") {
        true => line.to_owned() + "\n",
        false => line.replace("struct bl_", "bl_") + "\n",
    };
    let mut header: String = String::from_utf8(header).unwrap().lines().map(untagged).collect();
    header.push_str(&initialisers(&header));
    assert!(header.contains("bl_status bl_storage_open(const char *images_dir,"), "an implausible header:\n{header}");
    is_up_to_date(&root().join("include/boxlite_images.h"), &header);
}

/// Go's names of the header's flags and fields, which cgo hides in a package of its own.
#[test]
fn flags_of_go_are_up_to_date() {
    const SETS: [&str; 14] = [
        "STORAGE",
        "DURABILITY",
        "TREE",
        "ENTRY_FLAG",
        "IMPORT",
        "EXPORT",
        "ROOTFS",
        "DISK_FLAG",
        "COMMIT_FLAG",
        "PULL",
        "REGISTRY",
        "GC",
        "CHECK",
        "IMAGE",
    ];
    let header = std::fs::read_to_string(root().join("include/boxlite_images.h")).unwrap();
    let mut out = String::from(
        "package boxlite\n\n// Code generated from boxlite_images.h by the tests of the library. DO NOT EDIT.\n\nconst (\n",
    );
    let mut count = 0;
    for line in header.lines().filter_map(|line| line.strip_prefix("#define BL_")) {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let is_of = |set: &str| name.strip_prefix(set).is_some_and(|rest| rest.starts_with('_'));
        let is_number = value.chars().all(|c| c.is_ascii_digit());
        // These are types of their own in Go.
        let is_enum = ["MODE", "POLICY", "PHASE"].iter().any(|word| name.contains(&format!("_{word}_")));
        if !is_number || is_enum || !SETS.iter().any(|set| is_of(set)) {
            continue;
        }
        let word = |(i, word): (usize, &str)| match word {
            _ if i == 0 => word.to_lowercase(),
            "HTTP" | "JSON" | "OS" => word.to_owned(),
            _ => word[..1].to_owned() + &word[1..].to_lowercase(),
        };
        let name: String = name.split('_').enumerate().map(word).collect();
        writeln!(out, "\t{name} = {value}").unwrap();
        count += 1;
    }
    assert!(count > 40, "only {count} flags were seen");
    is_up_to_date(&root().join("bindings/go/boxlite/flags.go"), &aligned(&(out + ")\n")));
}

/// As gofmt writes a list of constants: the equals signs below each other.
fn aligned(text: &str) -> String {
    let longest = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.len()).max().unwrap();
    text.lines()
        .map(|line| match line.split_once(" = ") {
            Some((name, value)) => format!("{name:longest$} = {value}\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

/// Replaces what is between `<!-- name -->` and `<!-- end -->`.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let start = text.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let end = start + text[start..].find("<!-- end -->").expect("no end");
    format!("{}{table}{}", &text[..start], &text[end..])
}

#[test]
fn error_docs_are_up_to_date() {
    let path = root().join("docs/errors.md");
    let mut statuses = String::from("| number | status | meaning |\n|---|---|---|\n| 0 | `BL_OK` | Success. |\n");
    for status in Status::ALL {
        writeln!(statuses, "| {} | `BL_E_{}` | {} |", *status as i32, status.name(), status.description()).unwrap();
    }
    let mut bounds = String::from("| limit | default | field | what is counted |\n|---|---|---|---|\n");
    for limit in limits::ALL {
        let field = limit.field.map_or_else(String::new, |field| format!("`{field}`"));
        writeln!(bounds, "| {} | {} | {field} | {} |", limit.name, limit.default, limit.meaning).unwrap();
    }
    let mut oddities = String::from("| anomaly | meaning |\n|---|---|\n");
    for (name, _, meaning) in Anomalies::TABLE {
        writeln!(oddities, "| `BL_ANOMALY_{name}` | {meaning} |").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let text = with_table(&text, "statuses", &statuses);
    let text = with_table(&text, "limits", &bounds);
    let text = with_table(&text, "anomalies", &oddities);
    is_up_to_date(&path, &text);
}
