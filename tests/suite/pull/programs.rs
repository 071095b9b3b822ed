//! Pulling as C programs see it. They do it through the header, from the command line, in an event
//! loop, and in a host that dies of a SIGPIPE.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::super::blimg::{Tool, status_in};
use super::super::support::{
    compile, has_tool, leftovers_but, library_dir, names_in, repository, run, run_in_valgrind, side_by_side, temp_dir,
    wait_until, watched,
};
use super::credentials::basic_registry;
use super::server::{Answer, Ending, Server};
use super::{Bench, is_resumable};

#[test]
fn the_c_api() {
    if !has_tool("gcc") {
        return;
    }
    let (library, dir, server) = (library_dir(), temp_dir(), basic_registry());
    let source = repository().join("tests/c/pull.c");
    let host = server.host();
    let program = compile("gcc", &["-std=c11"], &[source], library.path(), &dir.path().join("pull"));
    let output = run(&program, &[dir.path().join("store").as_os_str(), OsStr::new(&host)]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    if has_tool("valgrind") {
        run_in_valgrind(&program, &[dir.path().join("store-valgrind").as_os_str(), OsStr::new(&host)]);
    }
}

#[test]
fn blimg_pulls() {
    let Some(tool) = Tool::new() else { return };
    let bench = Bench::honest();
    let (reference, host) = (bench.reference(), bench.server.host());
    // Progress is for terminals.
    let output = tool.blimg(&["pull", &reference, "--plain-http", &host]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(&bench.content.manifest.as_ref().unwrap().to_string()));
    let output = tool.blimg(&["--quiet", "pull", &reference, "--plain-http", &host, "--policy", "always"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    // Events: the schema of docs/blimg.md.
    let other = Tool::new().unwrap();
    let text = other.says(&["--json", "pull", &reference, "--plain-http", &host, "--parallel", "1"]);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let documented = std::fs::read_to_string(repository().join("docs/blimg.md")).unwrap();
    for event in &events {
        assert!(documented.contains(&format!("`{}`", event["event"].as_str().unwrap())), "{event}");
        for key in event.as_object().unwrap().keys() {
            assert!(documented.contains(&format!("`{key}`")), "{key} is not in docs/blimg.md");
        }
    }
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let (progress, layers, image) = (of("progress"), of("layer"), of("image"));
    let last = progress.last().unwrap();
    assert_eq!((last["phase"].as_str(), last["layers_done"].as_u64()), (Some("done"), Some(3)));
    assert_eq!(last["bytes_fetched"], last["bytes_to_fetch"]);
    assert_eq!((layers.len(), image.len(), layers[0]["done"].as_bool()), (3, 1, Some(true)));
    assert_eq!(image[0]["manifest"].as_str(), Some(bench.content.manifest.as_ref().unwrap().as_str()));
    let output = other.blimg(&["--json", "pull", &format!("{reference}:none"), "--plain-http", &host]);
    let last = String::from_utf8(output.stdout).unwrap();
    let event: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (event["event"].as_str(), event["status"].as_str(), event["http_status"].as_u64()),
        (Some("error"), Some("NOT_FOUND"), Some(404))
    );
    assert_eq!(event["registry_code"].as_str(), Some("MANIFEST_UNKNOWN"));
    for wrong in [&["pull"][..], &["pull", "x", "--creds", "nocolon"], &["pull", "x", "--policy", "sometimes"]] {
        assert_eq!(tool.blimg(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// On a terminal there is a bar for each layer, drawn over until all are done.
#[test]
fn a_terminal_gets_bars() {
    let Some(tool) = Tool::new() else { return };
    if !has_tool("script") {
        return;
    }
    let bench = Bench::honest();
    let (reference, host) = (bench.reference(), bench.server.host());
    let (blimg, store) = (tool.path("blimg"), tool.store());
    let command = format!("{} --store {} pull {reference} --plain-http {host}", blimg.display(), store.display());
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let bar = format!("[{}]", "=".repeat(30));
    for layer in &bench.content.layers {
        let start = format!("\u{1b}[K{}", &layer.as_str()[..19]);
        let last = said.lines().rev().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{said}"));
        assert!(last.contains(&bar) && last.contains(", done"), "{last}");
    }
    assert!(said.contains(&bench.content.manifest.as_ref().unwrap().to_string()));
}

#[test]
fn blimg_pulls_from_mirrors_and_with_passwords() {
    let Some(tool) = Tool::new() else { return };
    let (server, bench) = (basic_registry(), Bench::honest());
    let host = server.host();
    let reference = format!("{host}/library/app");
    let pull = |more: &[&str]| {
        let _ = std::fs::remove_dir_all(tool.store());
        let args: Vec<&str> = ["--quiet", "pull", &reference, "--no-unpack"].iter().chain(more).copied().collect();
        tool.blimg(&args)
    };
    assert_eq!(status_in(&pull(&["--plain-http", &host])), "UNAUTHORIZED");
    assert!(pull(&["--plain-http", &host, "--creds", "me:secret"]).status.success());
    assert_eq!(names_in(&tool.store().join("extracted")), [""; 0]);
    let file = tool.path("auth.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#)).unwrap();
    assert!(pull(&["--plain-http", &host, "--authfile", file.to_str().unwrap()]).status.success());
    let asked = server.asked().len();
    let mirror = format!("{host}=http://{}", bench.server.host());
    assert!(pull(&["--mirror", &mirror, "--mirrors-only"]).status.success());
    let folder = tool.path("certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), format!("[host.\"http://{}\"]", bench.server.host())).unwrap();
    let hosts = tool.path("certs.d");
    assert!(pull(&["--hosts-dir", hosts.to_str().unwrap(), "--mirrors-only"]).status.success());
    assert_eq!(server.asked().len(), asked);
    assert_eq!(status_in(&pull(&["--mirrors-only"])), "INVALID_ARGUMENT");
}

/// The environment counts when the call says so, and only then.
#[test]
fn the_environment_is_read_when_asked() {
    let Some(tool) = Tool::new() else { return };
    let (server, bench) = (basic_registry(), Bench::honest());
    let host = server.host();
    let folder = tool.path("docker");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#)).unwrap();
    let proxy = bench.server.host();
    let pull = |reference: &str, host: &str, variables: &[(&str, &str)], more: &[&str]| {
        let store = temp_dir();
        let mut command = Command::new(tool.path("blimg"));
        command.arg("--store").arg(store.path()).args(["--quiet", "pull", reference, "--plain-http", host]).args(more);
        command.env_clear().envs(variables.iter().copied()).output().unwrap()
    };
    let reference = format!("{host}/library/app");
    let (file, folder) = (file.to_str().unwrap(), folder.to_str().unwrap());
    for variables in [&[("REGISTRY_AUTH_FILE", file)][..], &[("DOCKER_CONFIG", folder)]] {
        assert_eq!(status_in(&pull(&reference, &host, variables, &[])), "UNAUTHORIZED", "{variables:?}");
        let output = pull(&reference, &host, variables, &["--auth-files"]);
        assert!(output.status.success(), "{variables:?}: {output:?}");
    }
    assert_eq!(status_in(&pull(&reference, &host, &[], &["--auth-files"])), "UNAUTHORIZED");
    // The registry as a proxy: it is asked for a whole address, which it does not know.
    let address = format!("http://{proxy}");
    let cases = [
        (&[("HTTP_PROXY", address.as_str())][..], true),
        (&[("http_proxy", address.as_str())], true),
        (&[("ALL_PROXY", address.as_str())], true),
        (&[("HTTPS_PROXY", address.as_str())], false),
        (&[("HTTP_PROXY", address.as_str()), ("NO_PROXY", "registry.invalid")], false),
    ];
    // Each is known by the repository that it asks for, so that none waits for another.
    side_by_side(cases.iter().enumerate(), |(number, (variables, is_used))| {
        for (flags, is_asked) in [(&["--proxy-environment"][..], true), (&[], false)] {
            let repository = format!("case{number}{is_asked}");
            let output = pull(&format!("registry.invalid/{repository}"), "registry.invalid", variables, flags);
            let expected = if *is_used && is_asked { "NOT_FOUND" } else { "NETWORK" };
            assert_eq!(status_in(&output), expected, "{variables:?} {flags:?}");
            let was_asked = bench.server.asked().iter().any(|asked| asked.path.contains(&repository));
            assert_eq!(was_asked, *is_used && is_asked, "{variables:?} {flags:?}");
        }
    });
}

/// Ctrl-C ends a pull; what arrived stays for the next.
#[test]
fn an_interrupt_ends_a_pull() {
    let Some(tool) = Tool::new() else { return };
    let is_silent = Arc::new(AtomicBool::new(true));
    let silent = is_silent.clone();
    let bench = Bench::new(move |asked, _, answer| {
        let is_layer = asked.path.contains("/blobs/") && answer.body.len() > 1000;
        let stops = is_layer && silent.load(Ordering::SeqCst);
        if stops { answer.ending(Ending::SilentAt(50_000)) } else { answer }
    });
    let (reference, host) = (bench.reference(), bench.server.host());
    let args = ["--quiet", "pull", &reference, "--plain-http", &host];
    let mut command = Command::new(tool.path("blimg"));
    let child = command.arg("--store").arg(tool.store()).args(args).stderr(Stdio::piped()).spawn().unwrap();
    let kept =
        || names_in(&tool.store().join("layers")).iter().filter(|n| is_resumable(&format!("layers/{n}"))).count();
    wait_until("three layers have begun", || kept() >= 3);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), status_in(&output).as_str()), (Some(1), "CANCELLED"), "{output:?}");
    assert_eq!(leftovers_but(&tool.store(), is_resumable), [""; 0]);
    // Not only from the second time on that a layer is asked for: one may not have been asked for at all.
    is_silent.store(false, Ordering::SeqCst);
    assert!(tool.blimg(&args).status.success());
}

/// A credential helper that asks somebody, say, does not outlive the pull that it was asked for.
#[test]
fn an_interrupt_ends_a_helper() {
    let Some(tool) = Tool::new() else { return };
    let dir = temp_dir();
    let (pid, helper) = (dir.path().join("pid"), dir.path().join("docker-credential-slow"));
    std::fs::write(
        &helper,
        format!("#!/bin/sh\necho $$ >'{0}.new'; mv '{0}.new' '{0}'; exec sleep 600\n", pid.display()),
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = dir.path().join("auth.json");
    std::fs::write(&file, r#"{"credsStore":"slow"}"#).unwrap();
    let server = basic_registry();
    let host = server.host();
    let mut command = Command::new(tool.path("blimg"));
    command.arg("--store").arg(tool.store()).args(["--quiet", "pull", &format!("{host}/library/app")]);
    command.args(["--plain-http", &host]).arg("--authfile").arg(&file).stderr(Stdio::piped());
    command.env("PATH", format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap()));
    let child = command.spawn().unwrap();
    wait_until("the helper runs", || pid.exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = watched("the pull ends", || child.wait_with_output().unwrap());
    assert_eq!(status_in(&output), "CANCELLED", "{output:?}");
    let pid = rustix::process::Pid::from_raw(std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap()).unwrap();
    assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
}

#[test]
fn an_event_loop_pulls_several() {
    let Some(tool) = Tool::new() else { return };
    let bench = Bench::honest();
    let (reference, host) = (bench.reference(), bench.server.host());
    let output = Command::new(tool.path("epoll_pull"))
        .arg(tool.store())
        .args(["--plain-http", &host, &reference, &format!("{reference}:none"), "No Reference"])
        .arg(format!("{reference}@{}", bench.content.manifest.as_ref().unwrap()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.matches(bench.content.manifest.as_ref().unwrap().as_str()).count(), 3, "{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("NOT_FOUND") && errors.contains("INVALID_ARGUMENT"), "{errors}");
    for layer in &bench.content.layers {
        assert_eq!(bench.server.count(layer.as_str()), 1);
    }
}

/// Peers that reset a connection, and helpers that do not listen. A host that dies of a SIGPIPE, as
/// every program does that says nothing else, lives.
#[test]
fn nobody_dies_of_a_sigpipe() {
    let Some(tool) = Tool::new() else { return };
    side_by_side([0, 1, 10, 5000].into_iter().flat_map(|at| [(at, true), (at, false)]), |(at, is_plain)| {
        let server = Server::new(move |_, _| Answer::new(200, vec![b' '; 10_000]).ending(Ending::ResetAt(at)));
        let host = server.host();
        let mut command = Command::new(tool.path("blimg"));
        command.arg("--store").arg(tool.path(&format!("store-{at}-{is_plain}")));
        command.args(["--quiet", "pull", &format!("{host}/library/app")]);
        // TLS to somebody who does not speak it writes into a connection that is gone.
        if is_plain {
            command.args(["--plain-http", &host]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.signal(), None, "{output:?}");
        assert_eq!(status_in(&output), "NETWORK", "{output:?}");
    });
}
