//! The system calls that docs/embedding-in-a-vmm.md lists are those that the library makes. What
//! strace sees of the whole command line, as root and as an ordinary user, is in the list. What the
//! list calls usual is seen.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::super::archive::{Archive, Header};
use super::super::blimg::Tool;
use super::super::image_files::{Made, folder, layout, named};
use super::super::support::{has_tool, is_root, repository};
use super::Bench;

/// What is listed: calls that are always to be allowed, and those that only some hosts or kernels see.
fn listed() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = std::fs::read_to_string(repository().join("docs/embedding-in-a-vmm.md")).unwrap();
    let table = text.split("<!-- system calls -->").nth(1).and_then(|rest| rest.split("<!-- end -->").next()).unwrap();
    let (mut usual, mut sometimes) = (BTreeSet::new(), BTreeSet::new());
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---")) {
        let names = line.split('`').skip(1).step_by(2).map(str::to_owned);
        if line.starts_with("| sometimes") || line.starts_with("| start") {
            sometimes.extend(names)
        } else {
            usual.extend(names)
        }
    }
    (usual, sometimes)
}

/// Every call in a log of strace's: `123 openat(...)`; not those that go on, nor signals and ends.
fn add_calls(log: &Path, seen: &mut BTreeSet<String>) {
    let text = std::fs::read(log).unwrap();
    for line in String::from_utf8_lossy(&text).lines() {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        if let Some((name, _)) = rest.split_once('(')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            // What strace does not know yet.
            let name = if name == "syscall_0x1d1" { "listxattrat" } else { name };
            seen.insert(name.to_owned());
        }
    }
}

#[test]
fn the_system_calls_are_those_of_the_docs() {
    // The list is that of x86-64.
    if !cfg!(target_arch = "x86_64") || !has_tool("strace") {
        return;
    }
    let Some(tool) = Tool::new() else { return };
    let bench = Bench::honest();
    let (reference, host) = (bench.reference(), bench.server.host());
    // Not to be compressed: room is reserved for blobs that are large.
    let noise: Vec<u8> =
        (0..3_u64 << 17).flat_map(|i| (i ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()).collect();
    let lower = Archive::new()
        .dir(b"etc")
        .file(b"etc/motd", b"hello")
        .file(b"large", &noise)
        .symlink(b"link", b"etc")
        .hardlink(b"again", b"large")
        .entry(Header::new(b'6', b"fifo"), b"")
        .pax(&[("SCHILY.xattr.user.origin", b"test")])
        .entry(Header::new(b'0', b"owned").owner(1000, 1000).mode(0o4755), b"");
    let upper =
        Archive::new().dir(b"etc").file(b"etc/.wh.motd", b"").file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
    let tars = vec![lower.finish(), upper.finish()];
    let ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", boxlite_images::Digest::of(tar))).collect();
    let config = format!(
        r#"{{"config":{{"Cmd":["sh"],"User":"root"}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let made = Made::with_config(tars, &config);
    let source = folder(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()));
    let source = source.path().to_str().unwrap().to_owned();
    let mut seen = BTreeSet::new();
    for user in if is_root() { &[None, Some(65534)][..] } else { &[None] } {
        let dir = tool.path(&format!("as-{user:?}"));
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, *user, *user).unwrap();
        let out = dir.join("strace");
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let overlay: &[&str] = if user.is_some() { &["--user-xattr"] } else { &[] };
        for args in [
            &["import", &source][..],
            &["ls"],
            &["rootfs", "a.org/x:1", &path("copy")],
            &["rootfs", "a.org/x:1", &path("copy"), "--replace"],
            &["rootfs", "a.org/x:1", &path("reflink"), "--mode", "reflink"],
            &["rootfs", "a.org/x:1", &path("hardlink"), "--mode", "hardlink"],
            &["rootfs", "a.org/x:1", &path("direct"), "--mode", "direct"],
            &["config", "a.org/x:1", &path("copy")],
            &[&["mount-options", "a.org/x:1"], overlay].concat(),
            &["export", "a.org/x:1", &path("out.tar")],
            &["export", "a.org/x:1", &path("folder"), "--folder"],
            &["import", &path("out.tar")],
            &["import", &path("folder"), "--hard-link"],
            &["pull", &reference, "--plain-http", &host],
            &["pull", "127.0.0.1:9/x"],
            &["--bundle", &source, "rootfs", "bundle", &path("bundle")],
            &["check"],
            &["df"],
            &["lease", "create", "60"],
            &["rm", "a.org/x:1"],
            &["gc", "--any-age"],
        ] {
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o"]).arg(&out).arg(tool.path("blimg"));
            command.args(["--quiet", "--store", "store"]).args(args).current_dir(&dir);
            if let Some(user) = user {
                command.uid(*user).gid(*user);
            }
            let _ = std::fs::remove_file(&out);
            let output = command.output().unwrap();
            assert_eq!(output.status.success(), !args.contains(&"127.0.0.1:9/x"), "{args:?}: {output:?}");
            add_calls(&out, &mut seen);
        }
    }
    let (usual, sometimes) = listed();
    let unlisted: Vec<_> = seen.iter().filter(|name| !usual.contains(*name) && !sometimes.contains(*name)).collect();
    assert!(unlisted.is_empty(), "not in the docs: {unlisted:?}");
    let unseen: Vec<_> = usual.difference(&seen).collect();
    assert!(unseen.is_empty() || !is_root(), "in the docs and not seen: {unseen:?}");
}
