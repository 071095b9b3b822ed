//! NULL for every pointer of every function, by a C program that is generated from the header. A
//! new function is covered, or the test says that it does not know its arguments.

use std::fmt::Write as _;

use super::support::{compile, has_tool, library_dir, repository, run, temp_dir};

pub struct Function {
    pub name: String,
    /// Type and name.
    pub parameters: Vec<(String, String)>,
}

/// The header's functions.
pub fn functions() -> Vec<Function> {
    functions_in(&std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap())
}

pub fn functions_in(header: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let (mut comment, mut declaration) = (false, String::new());
    for line in header.lines() {
        comment |= line.trim_start().starts_with("/*");
        if !comment && !line.starts_with('#') {
            declaration.push_str(line.trim());
            declaration.push(' ');
        }
        comment &= !line.contains("*/");
        if declaration.trim_end().ends_with(['{', '}', ';']) {
            found.extend(parse(declaration.trim()));
            declaration.clear();
        }
    }
    assert!(found.len() > 40, "only {} functions found", found.len());
    found
}

fn parse(declaration: &str) -> Option<Function> {
    let (head, rest) = declaration.strip_suffix(");")?.split_once('(')?;
    let name = head[head.rfind([' ', '*'])? + 1..].to_owned();
    if !name.starts_with("bl_") || head.starts_with("typedef") {
        return None;
    }
    let parameters = rest.split(',').map(str::trim).filter(|text| *text != "void");
    let parameters = parameters.map(|text| {
        let at = text.rfind([' ', '*']).unwrap() + 1;
        (text[..at].trim().to_owned(), text[at..].to_owned())
    });
    Some(Function { name, parameters: parameters.collect() })
}

/// A valid argument; `None` for a pointer that may be NULL and is.
fn valid(kind: &str, name: &str) -> Option<&'static str> {
    Some(match (kind, name) {
        ("bl_storage *" | "const bl_storage *", _) => "storage",
        ("bl_staged *" | "const bl_staged *", _) => "staged",
        ("const char *", "images_dir" | "bundle_path") => "argv[1]",
        ("const char *", "digest" | "manifest_digest") => "ABC",
        ("const char *const *", "digests") => "digests",
        ("const void *", "data") => "\"abc\"",
        ("size_t", "len") => "3",
        ("size_t", "count") => "1",
        ("size_t", "index") => "0",
        ("int64_t", _) => "3",
        ("int32_t", "level") => "BL_LOG_OFF",
        ("bl_storage **", "out") => "&out_storage",
        ("bl_staged **", "out") => "&out_staged",
        ("bl_bytes **", "out") => "&out_bytes",
        ("bl_cancel **", "out") => "&out_cancel",
        ("bl_layer_entries **", "out") => "&out_entries",
        ("bl_layer_entries *", "entries") => "entries",
        ("bl_layer_entry *", "entry") => "&entry",
        ("const char *", "name") => "ABC",
        ("const char *", "reference") => "\"localhost:1/x\"",
        ("bl_image **", "out") => "&out_image",
        ("bl_image *" | "const bl_image *", "image") => "image",
        ("const bl_image *", "lower" | "base") | ("const bl_commit_options *", "options") => return None,
        ("const bl_commit_source *", "source") => "&source",
        ("size_t", "from_layer") => "0",
        ("bl_image_layer_info *", "layer") => "&layer",
        ("bl_image_usage *", "usage") => "&usage",
        ("bl_op **", "out") => "&out_op",
        ("bl_op *" | "const bl_op *", "op") => "op",
        ("bool *", "finished") => "&out_bool",
        ("bl_pull_progress *", "progress") => "&progress",
        ("const bl_pull_layers *", "list") => "progress.each_layer",
        ("bl_layer_progress *", "out") => "&layer_progress",
        ("const char *", "user" | "password") => "\"x\"",
        // Exists only inside a callback; `pull` has a test of it.
        ("bl_credentials *", "answer") => return None,
        ("bl_lease **", "out") => "&out_lease",
        ("bl_lease *" | "const bl_lease *", "lease") => "lease",
        ("const char *", "id") => "bl_lease_id(lease)",
        ("uint64_t", "seconds") => "60",
        ("const char *", "destination" | "path") => "ABC",
        ("int", "fd") => "0",
        ("const bl_import_options *" | "const bl_export_options *", "options") => return None,
        ("bl_image *const *", "images") => "&image",
        ("const char *", "rootfs") => return None,
        ("bl_process **", "out") => "&out_process",
        ("bl_process *" | "const bl_process *", "process") => "process",
        ("bl_process_user *", "user") => "&user",
        ("bl_lease **", "lease") => "&out_lease",
        ("bl_overlay **", "out") => "&out_overlay",
        ("const bl_overlay *", "overlay") => "out_overlay",
        ("const bl_overlay_options *" | "const bl_disk_options *", "options") => return None,
        ("bl_disk **", "out") => "&out_made",
        ("const bl_disk *", "disk") => "made",
        ("bl_disk_info *", "info") => "&info",
        ("bl_disk_part *", "part") => "&part",
        (
            "const bl_gc_options *"
            | "const bl_check_options *"
            | "const bl_pull_options *"
            | "const bl_rootfs_options *",
            "options",
        ) => return None,
        ("bl_gc_result *" | "bl_check_result *" | "bl_rootfs_result *", "result") => return None,
        ("bl_disk_usage_result *", "result") => "&disk",
        ("bl_names **", "out") => "&out_names",
        ("bl_names **", "names") => return None,
        ("bool *", "out") => "&out_bool",
        ("bl_error **", "err") => "&err",
        ("const bl_storage_options *" | "const bl_verify_options *" | "const bl_extract_options *", "options")
        | ("const bl_tree_options *", "tree") => {
            return None;
        }
        ("bl_extract_result *", "result") | ("bl_log_callback", _) | ("void *", "callback_data") => return None,
        _ => panic!("do not know an argument for {kind} {name}; teach me"),
    })
}

#[test]
fn every_pointer_of_every_function() {
    if !has_tool("gcc") {
        return;
    }
    let mut program = String::from(
        "#include \"check.h\"\n\
         int main(int argc, char **argv) {\n\
         bl_storage *storage = open_store(argc, argv), *out_storage; bl_staged *staged = NULL, *out_staged;\n\
         bl_bytes *out_bytes; bl_cancel *out_cancel; bool out_bool; bl_error *err = NULL;\n\
         bl_layer_entries *entries = NULL, *out_entries; bl_layer_entry entry = BL_LAYER_ENTRY_INIT;\n\
         bl_image *image = NULL, *out_image; bl_names *out_names; bl_lease *lease = NULL, *out_lease;\n\
         bl_image_layer_info layer = BL_IMAGE_LAYER_INFO_INIT; bl_image_usage usage = BL_IMAGE_USAGE_INIT;\n\
         bl_disk_usage_result disk = BL_DISK_USAGE_RESULT_INIT; bl_op *op = NULL, *out_op;\n\
         bl_process *process = NULL, *out_process; bl_process_user user = BL_PROCESS_USER_INIT; (void)&out_process;\n\
         bl_overlay *out_overlay = NULL; (void)&out_overlay;\n\
         bl_disk *made = NULL, *out_made; (void)&out_made;\n\
         bl_commit_source source = BL_COMMIT_SOURCE_INIT; source.path = ABC;\n\
         bl_disk_info info = BL_DISK_INFO_INIT; bl_disk_part part = BL_DISK_PART_INIT;\n\
         bl_pull_progress progress = BL_PULL_PROGRESS_INIT; bl_layer_progress layer_progress = BL_LAYER_PROGRESS_INIT;\n\
         (void)&out_cancel; (void)&out_image; (void)&out_names; (void)&out_lease; (void)&out_op;\n\
         const char *digests[] = {ABC}, *null_digest[] = {NULL};\n\
         CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));\n\
         static const char zeros[1024]; put(storage, EMPTY_LAYER, zeros, sizeof(zeros));\n\
         CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, NULL, &err));\n\
         CHECK_OK(err, bl_layer_entries_open(storage, EMPTY_LAYER, NULL, &entries, &err));\n\
         CHECK_OK(err, bl_save_manifest(storage, ONE_LAYER_IMAGE, ONE_LAYER_MANIFEST, strlen(ONE_LAYER_MANIFEST), &err));\n\
         CHECK_OK(err, bl_image_open(storage, ONE_LAYER_IMAGE, &image, &err));\n\
         CHECK_OK(err, bl_lease_create(storage, 60, &lease, &err));\n\
         CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_verify_blobs_exist(storage, null_digest, 1, &out_bool, &err));\n\
         CHECK_OK(err, bl_pull_start(storage, \"localhost:1/x\", NULL, &op, &err));\n\
         CHECK_OK(err, bl_op_progress(op, &progress, &err));\n\
         CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_write(NULL, NULL, 0, &err));\n\
         CHECK_OK(err, bl_write(staged, NULL, 0, &err));\n",
    );
    let mut cases = 0;
    for function in functions() {
        if function.parameters.last().is_none_or(|(_, name)| name != "err") {
            let null = |kind: &str| if kind.ends_with('*') { "NULL" } else { "0" };
            let nulls: Vec<_> = function.parameters.iter().map(|(kind, _)| null(kind)).collect();
            writeln!(program, "(void){}({});", function.name, nulls.join(", ")).unwrap();
            continue;
        }
        for (null, (kind, name)) in function.parameters.iter().enumerate() {
            if !kind.ends_with('*') || name == "err" || valid(kind, name).is_none() {
                continue;
            }
            let arguments: Vec<_> = function
                .parameters
                .iter()
                .enumerate()
                .map(|(i, (kind, name))| if i == null { "NULL" } else { valid(kind, name).unwrap_or("NULL") })
                .collect();
            // The error names the argument, and whatever output there is was reset.
            writeln!(
                program,
                "out_storage = (void *)1; out_staged = (void *)1; out_bytes = (void *)1; out_cancel = (void *)1; out_entries = (void *)1; out_image = (void *)1; out_names = (void *)1; out_lease = (void *)1; out_op = (void *)1; out_process = (void *)1; out_bool = true;\n\
                 CHECK({call} == BL_E_INVALID_ARGUMENT);\n\
                 CHECK(!strcmp(bl_error_message(err), \"{name} is NULL\")); bl_error_free(err); err = NULL;",
                call = format_args!("{}({})", function.name, arguments.join(", ")),
            )
            .unwrap();
            for out in arguments.iter().filter_map(|argument| argument.strip_prefix("&out_")) {
                writeln!(program, "CHECK(!out_{out});").unwrap();
            }
            let without_err: Vec<_> = arguments.iter().map(|a| if *a == "&err" { "NULL" } else { a }).collect();
            let call = format!("{}({})", function.name, without_err.join(", "));
            writeln!(program, "CHECK({call} == BL_E_INVALID_ARGUMENT);").unwrap();
            cases += 1;
        }
    }
    program
        .push_str("bl_op_free(op); bl_lease_free(lease); bl_image_free(image); bl_layer_entries_free(entries); bl_staged_free(staged); bl_storage_close(storage); return 0; }\n");
    assert!(cases >= 50, "only {cases} pointers found");
    let dir = temp_dir();
    let source = dir.path().join("null.c");
    std::fs::write(&source, program).unwrap();
    let include = format!("-I{}", repository().join("tests/c").display());
    let library = library_dir();
    // GCC sees some of the NULLs; that is the point.
    let flags = ["-std=c11", &include, "-Wno-nonnull"];
    let program = compile("gcc", &flags, &[source], library.path(), &dir.path().join("null"));
    run(program, &[dir.path().join("store").as_os_str()]);
}
