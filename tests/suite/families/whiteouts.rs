//! 1C: whiteouts, kept as markers.

use boxlite_images::{Anomalies, LayerEntryKind, Status};

use super::super::archive::{Archive, Header};
use super::{Case, Seen, case, fails, seen, tree};

fn a() -> Archive {
    Archive::new()
}

pub fn cases() -> Vec<Case> {
    let mut cases = refused();
    cases.extend(kept());
    cases.extend(long());
    cases.extend(smuggled());
    cases
}

fn refused() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, what, name) in [
        (47, "nothing", ".wh."),
        (48, "the directory itself", ".wh.."),
        (48, "the parent", ".wh..."),
        (50, "a whiteout", ".wh..wh.foo"),
        (50, "an empty whiteout", ".wh..wh."),
    ] {
        for dir in ["", "d/", "d/e/"] {
            for (kind, typeflag) in [("file", b'0'), ("directory", b'5'), ("hard link", b'1')] {
                let name = format!("{dir}{name}");
                let header = Header::new(typeflag, name.as_bytes()).link(b"x");
                let layer = a().dir(b"d/e").entry(header, b"").finish();
                cases.push(case(format!("{family} of {what} as a {kind} {name}"), layer, fails(Status::Malformed)));
            }
        }
    }
    for name in [".wh.x/file", "d/.wh.x/file", ".wh..wh..opq/f", ".wh.x/y/z", ".wh./f"] {
        let layer = a().dir(b"d").file(name.as_bytes(), b"").finish();
        cases.push(case(format!("49 {name}"), layer, fails(Status::Malformed)));
    }
    for (family, target) in [(48, ".wh..."), (49, ".wh.etc"), (49, "a/../.wh.etc")] {
        let layer = a().file(b".wh.etc", b"").symlink(b"s", target.as_bytes()).file(b"s/x", b"").finish();
        cases.push(case(format!("{family} {target} as a symlink's target"), layer, fails(Status::Malformed)));
    }
    cases
}

fn kept() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"] {
        let inside = format!("{name}/1.2");
        let layer = a().dir(name.as_bytes()).file(inside.as_bytes(), b"x").file(b"f", b"1").finish();
        let check = |seen: &Seen| assert!(seen.nodes.len() == 2 && seen.has_anomaly(Anomalies::SKIPPED_AUFS));
        cases.push(case(format!("50 {name}"), layer, seen(check)));
    }
    for (kind, header, data) in [
        ("directory", Header::new(b'5', b".wh.x"), &b""[..]),
        ("symlink", Header::new(b'2', b".wh.x").link(b"/"), b""),
        ("hard link", Header::new(b'1', b".wh.x").link(b"nothing"), b""),
        ("device", Header::new(b'3', b".wh.x").device(0, 0), b""),
        ("device that cannot be", Header::new(b'3', b".wh.x").device(0o7777777, 0), b""),
        ("fifo", Header::new(b'6', b".wh.x"), b""),
        ("file with a body", Header::new(b'0', b".wh.x"), b"body"),
        ("thing of an unknown type", Header::new(b'Z', b".wh.x"), b""),
    ] {
        let layer = a().entry(header, data).file(b"f", b"1").finish();
        cases.push(case(format!("51 a {kind}"), layer, tree([".wh.x", "f=1"])));
    }
    cases.extend([
        case("52 of a missing path", a().file(b".wh.x", b"").finish(), tree([".wh.x"])),
        case("52 in a missing directory", a().file(b"d/.wh.x", b"").finish(), tree(["d/", "d/.wh.x"])),
        case(
            "52 where a file is the parent",
            a().file(b"d", b"1").file(b"d/.wh.x", b"").finish(),
            tree(["d/", "d/.wh.x"]),
        ),
        case(
            "53 behind a symlink",
            a().symlink(b"l", b"/etc").file(b"l/.wh.passwd", b"").finish(),
            tree(["etc/", "etc/.wh.passwd", "l->/etc"]),
        ),
        case(
            "53 behind a symlink that leads out",
            a().symlink(b"l", b"../../etc").file(b"l/.wh.passwd", b"").finish(),
            tree(["etc/", "etc/.wh.passwd", "l->../../etc"]),
        ),
        case(
            "54 of a symlink of this layer",
            a().symlink(b"l", b"../flag").file(b".wh.l", b"").finish(),
            tree([".wh.l", "l->../flag"]),
        ),
        case("56 after its name", a().file(b"f", b"1").file(b".wh.f", b"").finish(), tree([".wh.f", "f=1"])),
        case("56 before its name", a().file(b".wh.f", b"").file(b"f", b"1").finish(), tree([".wh.f", "f=1"])),
        case("56 twice", a().file(b".wh.f", b"").file(b".wh.f", b"").finish(), tree([".wh.f"])),
        case(
            "57 of a directory that comes again",
            a().file(b".wh.d", b"").dir(b"d").file(b"d/f", b"1").finish(),
            tree([".wh.d", "d/", "d/f=1"]),
        ),
        case(
            "57 of a directory that came before",
            a().dir(b"d").file(b"d/f", b"1").file(b".wh.d", b"").finish(),
            tree([".wh.d", "d/", "d/f=1"]),
        ),
        case(
            "59 an opaque marker without a directory",
            a().file(b"d/.wh..wh..opq", b"").finish(),
            seen(|seen| {
                let node = seen.node("d");
                assert_eq!((node.mode, node.mtime), (0o755, 0));
                let kinds: Vec<_> = seen.entries.iter().map(|entry| (entry.kind, &entry.path[..])).collect();
                assert_eq!(kinds, [(LayerEntryKind::Directory, &b"d"[..]), (LayerEntryKind::Opaque, b"d")]);
            }),
        ),
    ]);
    for (when, layer) in [
        ("before", a().file(b"d/.wh..wh..opq", b"").file(b"d/a", b"1").file(b"d/b", b"2")),
        ("between", a().file(b"d/a", b"1").file(b"d/.wh..wh..opq", b"").file(b"d/b", b"2")),
        ("after", a().file(b"d/a", b"1").file(b"d/b", b"2").file(b"d/.wh..wh..opq", b"")),
        (
            "before the directory's own entry",
            a().file(b"d/.wh..wh..opq", b"").dir(b"d").file(b"d/a", b"1").file(b"d/b", b"2"),
        ),
        ("twice", a().file(b"d/.wh..wh..opq", b"").file(b"d/a", b"1").file(b"d/.wh..wh..opq", b"").file(b"d/b", b"2")),
    ] {
        cases.push(case(
            format!("58 opaque, {when}"),
            layer.finish(),
            tree(["d/", "d/.wh..wh..opq", "d/a=1", "d/b=2"]),
        ));
    }
    cases.push(case(
        "58 nested",
        a().file(b"d/e/.wh..wh..opq", b"").file(b"d/.wh..wh..opq", b"").finish(),
        tree(["d/", "d/.wh..wh..opq", "d/e/", "d/e/.wh..wh..opq"]),
    ));
    cases.push(case(
        "58 at the root",
        a().file(b".wh..wh..opq", b"").file(b"f", b"1").finish(),
        tree([".wh..wh..opq", "f=1"]),
    ));
    cases.push(case(
        "58 beside a symlink that is there already",
        a().symlink(b"d/l", b"x").file(b"d/.wh..wh..opq", b"").symlink(b"d/l", b"y").finish(),
        tree(["d/", "d/.wh..wh..opq", "d/l->y"]),
    ));
    cases
}

/// The marker's name is longer than a name can be; the whiteout is not.
fn long() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [251usize, 252, 253, 254, 255] {
        let name = "n".repeat(length);
        let marker = format!("d/.wh.{name}");
        let layer = a().pax(&[("path", marker.as_bytes())]).file(b"x", b"").file(b"f", b"1").finish();
        cases.push(case(
            format!("61 of a name of {length} bytes"),
            layer,
            seen(move |seen| {
                let whiteout = seen.entries.iter().find(|entry| entry.kind == LayerEntryKind::Whiteout).unwrap();
                assert_eq!(whiteout.path, format!("d/{name}").into_bytes());
                assert_eq!(seen.has(&marker), length == 251);
                assert_eq!(seen.has_anomaly(Anomalies::LONG_WHITEOUT), length > 251);
            }),
        ));
    }
    let twice = format!(".wh.{}", "n".repeat(255));
    let layer =
        a().pax(&[("path", twice.as_bytes())]).file(b"x", b"").pax(&[("path", twice.as_bytes())]).file(b"x", b"");
    cases.push(case("61 twice", layer.finish(), seen(|seen| assert_eq!(seen.entries.len(), 1))));
    let too_long = format!(".wh.{}", "n".repeat(256));
    let layer = a().pax(&[("path", too_long.as_bytes())]).file(b"x", b"").finish();
    cases.push(case("61 of a name of 256 bytes", layer, fails(Status::Limit)));
    cases
}

/// What overlayfs would take for its own, in a layer.
fn smuggled() -> Vec<Case> {
    let mut cases = vec![case(
        "63 the device 0:0",
        a().entry(Header::new(b'3', b"gone").device(0, 0), b"").finish(),
        seen(|seen| assert!(seen.has_anomaly(Anomalies::DEVICE_PLACEHOLDER) && seen.node("gone").kind == "file")),
    )];
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.whiteout",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "user.overlay.redirect",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        let layer = a().pax(&[(&key, b"y")]).dir(b"d").pax(&[(&key, b"y")]).file(b"d/f", b"1").finish();
        cases.push(case(
            format!("63 the attribute {name}"),
            layer,
            seen(|seen| {
                assert!(seen.has_anomaly(Anomalies::SKIPPED_XATTR));
                assert!(seen.nodes.values().all(|node| node.xattrs.is_empty()), "{:?}", seen.nodes);
            }),
        ));
    }
    cases
}
