//! Report 3 (rules_oci#750, for-win#12091, moby#14669): a source of credentials that is broken ends a pull that needs none. Only
//! what the call names may be an error; everything else is said where credentials were wanted and there were none.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use boxlite_images::Status;

use super::super::blimg::{Tool, status_in};
use super::super::pull::Bench;
use super::super::pull::credentials::basic_registry;
use super::super::pull::server::Server;
use super::super::support::{is_root, quick_store, temp_dir};

/// What lies at a well-known place, and a part of what the final 401 says of it.
fn broken() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        (
            "a helper that is not there",
            r#"{"credsStore":"desktop.exe"}"#,
            "docker-credential-desktop.exe is not installed",
        ),
        ("one with capitals", r#"{"credsStore":"Mine_2"}"#, "docker-credential-Mine_2 is not installed"),
        ("one for the host", r#"{"credHelpers":{"HOST":"pass"}}"#, "docker-credential-pass is not installed"),
        ("one that fails", r#"{"credsStore":"fails"}"#, "docker-credential-fails: failed (exit status: 7)"),
        ("one that is killed", r#"{"credsStore":"killed"}"#, "docker-credential-killed: failed (signal: 9"),
        ("one that says nothing", r#"{"credsStore":"mute"}"#, "docker-credential-mute: its answer"),
        ("one that says no JSON", r#"{"credsStore":"odd"}"#, "docker-credential-odd: its answer"),
        ("one that says too much", r#"{"credsStore":"chatty"}"#, "credential helper answer limit"),
        ("one that is no program", r#"{"credsStore":"text"}"#, "docker-credential-text"),
        ("a path for a helper", r#"{"credsStore":"../fails"}"#, "is not the name of one"),
        ("an empty file", "", "is empty"),
        ("blanks", " \n", "is empty"),
        ("no JSON", "hello", "is no credential file"),
        ("a list", "[]", "is no credential file"),
        ("tables that are none", r#"{"auths":1}"#, "is no credential file"),
        ("an entry that is none", r#"{"auths":{"HOST":{"auth":"***"}}}"#, "is not base64 of user:password"),
        // These are nothing, and nothing is wrong with them.
        ("no helper", r#"{"credsStore":""}"#, "no credential file has any"),
        ("no helper for the host", r#"{"credHelpers":{"HOST":""},"credsStore":"fails"}"#, "no credential file has any"),
        ("null for all", "null", "no credential file has any"),
        ("null for tables", r#"{"auths":null,"credHelpers":null,"credsStore":null}"#, "no credential file has any"),
        ("null for an entry", r#"{"auths":{"HOST":null},"credHelpers":{"HOST":null}}"#, "no credential file has any"),
    ]
}

fn helpers(dir: &Path) -> String {
    for (name, script, mode) in [
        ("fails", "#!/bin/sh\ncat >/dev/null; echo top-secret; echo top-secret >&2; exit 7\n", 0o755),
        ("killed", "#!/bin/sh\nkill -9 $$\n", 0o755),
        ("mute", "#!/bin/sh\ncat >/dev/null\n", 0o755),
        ("odd", "#!/bin/sh\ncat >/dev/null; echo top-secret\n", 0o755),
        ("chatty", "#!/bin/sh\nexec yes top-secret\n", 0o755),
        ("text", "hello", 0o644),
        ("good", "#!/bin/sh\ncat >/dev/null; echo '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n", 0o755),
    ] {
        let path = dir.join(format!("docker-credential-{name}"));
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

/// Pulls with the files at their well-known places.
fn pull(tool: &Tool, server: &Server, path: &str, docker: &Path, containers: &Path) -> Output {
    let store = temp_dir();
    command(tool, server, store.path(), path, docker, containers).output().unwrap()
}

fn command(tool: &Tool, server: &Server, store: &Path, path: &str, docker: &Path, containers: &Path) -> Command {
    let mut command = Command::new(tool.path("blimg"));
    command.arg("--store").arg(store).args(["--quiet", "pull", &format!("{}/library/app", server.host())]);
    command.args(["--auth-files", "--plain-http", &server.host()]);
    command.env_clear().env("PATH", path).env("DOCKER_CONFIG", docker).env("REGISTRY_AUTH_FILE", containers);
    command
}

#[test]
fn a_broken_source_is_no_credentials() {
    let Some(tool) = Tool::new() else { return };
    let dir = temp_dir();
    let path = helpers(dir.path());
    let (open, closed) = (Bench::honest(), basic_registry());
    let config = dir.path().join("config.json");
    let none = dir.path().join("none");
    for (what, text, remark) in broken() {
        for server in [&open.server, &closed] {
            std::fs::write(&config, text.replace("HOST", &server.host())).unwrap();
            let output = pull(&tool, server, &path, dir.path(), &none);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("top-secret"), "{what}: {said}");
            if server.host() == open.server.host() {
                assert!(output.status.success(), "{what}: {said}");
            } else {
                assert_eq!(status_in(&output), "UNAUTHORIZED", "{what}: {said}");
                assert!(said.contains(remark), "{what}: {said}");
            }
        }
        // The next file has them, or did.
        let containers = dir.path().join("auth.json");
        std::fs::write(&containers, text.replace("HOST", &closed.host())).unwrap();
        let good = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, closed.host());
        std::fs::write(&config, good).unwrap();
        let output = pull(&tool, &closed, &path, dir.path(), &containers);
        assert!(output.status.success(), "{what}, before a good one: {output:?}");
    }
    // A helper that works, under a name as on Windows.
    std::fs::rename(dir.path().join("docker-credential-good"), dir.path().join("docker-credential-desktop.exe"))
        .unwrap();
    std::fs::write(&config, r#"{"credsStore":"desktop.exe"}"#).unwrap();
    assert!(pull(&tool, &closed, &path, dir.path(), &none).status.success());
}

/// Files that cannot be opened: a directory, a path through a file, one of somebody else.
#[test]
fn a_file_that_cannot_be_read_is_no_credentials() {
    let Some(tool) = Tool::new() else { return };
    let dir = temp_dir();
    let path = std::env::var("PATH").unwrap();
    let (open, closed) = (Bench::honest(), basic_registry());
    let none = dir.path().join("none");
    std::fs::create_dir_all(dir.path().join("is-directory/config.json")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("config.json", dir.path().join("config.json")).unwrap();
    for (what, folder, remark) in [
        ("a directory", "is-directory", "Is a directory"),
        ("below a file", "file", "Not a directory"),
        ("a link to itself", ".", "symbolic links"),
    ] {
        let folder = dir.path().join(folder);
        let output = pull(&tool, &open.server, &path, &folder, &none);
        assert!(output.status.success(), "{what}: {output:?}");
        let output = pull(&tool, &closed, &path, &folder, &none);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(status_in(&output), "UNAUTHORIZED", "{what}: {said}");
        assert!(said.contains(remark), "{what}: {said}");
    }
    if !is_root() {
        return;
    }
    // One that is somebody else's.
    std::fs::create_dir(dir.path().join("locked")).unwrap();
    std::fs::write(dir.path().join("locked/config.json"), "{}").unwrap();
    std::fs::set_permissions(dir.path().join("locked"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for path in [dir.path(), &tool.path("")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let store = temp_dir();
    std::os::unix::fs::chown(store.path(), Some(65534), Some(65534)).unwrap();
    for (server, is_open) in [(&open.server, true), (&closed, false)] {
        let mut command = command(&tool, server, store.path(), &path, &dir.path().join("locked"), &none);
        let output = command.uid(65534).gid(65534).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_open, "{said}");
        assert!(is_open || said.contains("Permission denied"), "{said}");
    }
}

/// What the call names has to be what it says; a helper that it names may fail as any other.
#[test]
fn a_file_that_the_call_names_may_be_an_error() {
    let dir = temp_dir();
    let closed = basic_registry();
    let reference = format!("{}/library/app", closed.host());
    let file = dir.path().join("auth.json");
    for (what, text, status) in [
        ("an empty file", "", Status::Malformed),
        ("no JSON", "hello", Status::Malformed),
        ("a wrong entry", r#"{"auths":{"HOST":{"auth":"***"}}}"#, Status::Malformed),
        ("null", "null", Status::Unauthorized),
        ("a helper that is not there", r#"{"credsStore":"desktop.exe"}"#, Status::Unauthorized),
    ] {
        std::fs::write(&file, text.replace("HOST", &closed.host())).unwrap();
        let mut options = super::super::pull::options_for(&closed);
        options.auth_file = Some(file.clone());
        let error = quick_store(temp_dir().path()).pull(&reference, &options).expect_err(what);
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.message().contains("auth.json") || text == "null", "{what}: {error}");
    }
    // Who switched helpers off hears that one was not asked.
    std::fs::write(&file, r#"{"credsStore":"pass"}"#).unwrap();
    let mut options = super::super::pull::options_for(&closed);
    options.auth_file = Some(file);
    options.no_credential_helpers = true;
    let error = quick_store(temp_dir().path()).pull(&reference, &options).unwrap_err();
    assert!(error.message().contains("helpers are switched off"), "{error}");
}
