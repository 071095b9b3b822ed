//! What replaces what (family 65), and layers that each broke somebody (1Z of the rules).

use boxlite_images::Anomalies;

use super::super::archive::{Archive, Header};
use super::{Case, Outcome, case, seen, tree};

fn a() -> Archive {
    Archive::new()
}

const KINDS: [&str; 7] = ["file", "dir", "symlink", "hardlink", "fifo", "device", "block"];

fn add(archive: Archive, kind: &str) -> Archive {
    match kind {
        "file" => archive.file(b"x", b"1"),
        "dir" => archive.dir(b"x").file(b"x/inside", b""),
        "symlink" => archive.symlink(b"x", b"../flag"),
        "hardlink" => archive.hardlink(b"x", b"other"),
        "fifo" => archive.entry(Header::new(b'6', b"x"), b""),
        "device" => archive.entry(Header::new(b'3', b"x").device(1, 3), b""),
        _ => archive.entry(Header::new(b'4', b"x").device(8, 0), b""),
    }
}

pub fn replacements() -> Vec<Case> {
    let mut cases = Vec::new();
    for first in KINDS {
        for second in KINDS {
            let base = a().file(b"other", b"2");
            let check = move |seen: &super::Seen| {
                let expected = if matches!(second, "dir" | "symlink" | "fifo") { second } else { "file" };
                assert_eq!(seen.node("x").kind, expected);
                assert_eq!(seen.has("x/inside"), second == "dir");
                let other = &seen.entries.iter().find(|entry| entry.path == b"other").unwrap();
                assert_eq!(other.size, 1);
            };
            let layer = add(add(base.clone(), first), second).finish();
            cases.push(case(format!("65 {first} then {second}"), layer, seen(check)));
            // The same with a whiteout between them, as two layers squashed to one would be.
            let layer = add(add(base, first).file(b".wh.x", b""), second).finish();
            cases.push(case(format!("65 {first}, a whiteout, then {second}"), layer, seen(check)));
        }
    }
    cases
}

pub fn must_accept() -> Vec<Case> {
    let cacerts = b"../../../../../../../../../../etc/pki/java/cacerts";
    vec![
        case("21 a: surplus .. in cacerts", a().symlink(b"usr/lib/cacerts", cacerts).finish(), Outcome::Accepted),
        case(
            "32 b: kaniko's absolute links and root",
            a().dir(b"/").file(b"/bin/a", b"1").hardlink(b"/bin/b", b"/bin/a").finish(),
            tree(["bin/", "bin/a=1", "bin/b=1"]),
        ),
        case(
            "18 c: var/run to nothing",
            a().symlink(b"var/run", b"/run").file(b"var/run/lock", b"1").finish(),
            tree(["run/", "run/lock=1", "var/", "var/run->/run"]),
        ),
        case(
            "83 d: implied parents of a directory",
            a().dir(b"etc/dnf/vars").finish(),
            tree(["etc/", "etc/dnf/", "etc/dnf/vars/"]),
        ),
        case(
            "1 e: absolute names of NixOS",
            a().file(b"/nix/store/x", b"1").finish(),
            tree(["nix/", "nix/store/", "nix/store/x=1"]),
        ),
        case(
            "19 f: pnpm",
            a().dir(b"store/lib")
                .symlink(b"node_modules/lib", b"../store/lib")
                .file(b"node_modules/lib/i.js", b"1")
                .finish(),
            seen(|seen| assert!(seen.has("store/lib/i.js"))),
        ),
        case(
            "41 g: a whiteout as a hard link",
            a().hardlink(b"etc/.wh.x", b"etc/.wh.x").finish(),
            tree(["etc/", "etc/.wh.x"]),
        ),
        case(
            "27 h: case twins of Debian",
            a().file(b"PAM.7.gz", b"1").symlink(b"pam.7.gz", b"PAM.7.gz").finish(),
            Outcome::Accepted,
        ),
        case(
            "72 k: 0555 directories and a later whiteout",
            a().entry(Header::new(b'5', b"usr/bin").mode(0o555), b"")
                .file(b"usr/bin/.wh.x", b"")
                .file(b"usr/bin/y", b"1")
                .finish(),
            tree(["usr/", "usr/bin/", "usr/bin/.wh.x", "usr/bin/y=1"]),
        ),
        case(
            "17 m: a link to itself that is overwritten",
            a().symlink(b"bin/dash", b"dash").file(b"bin/dash", b"1").finish(),
            tree(["bin/", "bin/dash=1"]),
        ),
        case(
            "37 n: a hard link across layers",
            a().hardlink(b"usr/bin/perl5", b"usr/bin/perl").finish(),
            seen(|seen| assert!(seen.has_anomaly(Anomalies::LOWER_LINK))),
        ),
        case(
            "58 o: opaque beside a symlink",
            a().symlink(b"d/l", b"x").file(b"d/.wh..wh..opq", b"").finish(),
            tree(["d/", "d/.wh..wh..opq", "d/l->x"]),
        ),
        case("104 p: Docker's empty layer", vec![0; 1024], tree::<String>([])),
        case(
            "65 r: a directory becomes a link",
            a().dir(b"lib").file(b"lib/x", b"").symlink(b"lib", b"usr/lib").finish(),
            tree(["lib->usr/lib"]),
        ),
        case(
            "79 t: user attributes on a fifo and a symlink",
            a().pax(&[("SCHILY.xattr.user.a", b"1")])
                .entry(Header::new(b'6', b"p"), b"")
                .pax(&[("SCHILY.xattr.user.a", b"1")])
                .symlink(b"l", b"x")
                .finish(),
            seen(|seen| assert!(seen.has_anomaly(Anomalies::SKIPPED_XATTR) && seen.entry("p").xattrs.len() == 1)),
        ),
    ]
}
