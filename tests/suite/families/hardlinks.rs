//! 1B: hard links.

use std::os::unix::fs::MetadataExt as _;

use boxlite_images::{Anomalies, LayerEntryKind, Status};

use super::super::archive::{Archive, Header};
use super::{Case, Outcome, Seen, case, fails, seen, tree};

fn a() -> Archive {
    Archive::new()
}

/// The link is not in the tree; the record says what it waits for.
fn waits(link: &'static str, target: &'static str) -> Outcome {
    seen(move |seen: &Seen| {
        assert!(!seen.has(link) && seen.has_anomaly(Anomalies::LOWER_LINK));
        let entry = seen.entry(link);
        assert_eq!((entry.kind, &entry.link[..]), (LayerEntryKind::LowerLink, target.as_bytes()));
    })
}

fn one_inode(seen: &Seen, names: &[&str]) {
    let inodes: std::collections::BTreeSet<u64> =
        names.iter().map(|name| std::fs::symlink_metadata(seen.tree.join(name)).unwrap().ino()).collect();
    assert_eq!(inodes.len(), 1, "{names:?}");
}

pub fn cases() -> Vec<Case> {
    let mut cases = targets();
    cases.extend(order());
    cases.extend(kinds());
    cases
}

fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in ["/etc/f", "etc/f", "./etc/f", "../../etc/f", "/../etc/f", "x/../etc/f"] {
        let layer = a().file(b"etc/f", b"1").hardlink(b"l", target.as_bytes()).finish();
        let check = |seen: &Seen| one_inode(seen, &["etc/f", "l"]);
        cases.push(case(format!("32 to {target}"), layer, seen(check)));
    }
    for target in ["/etc/passwd", "../../etc/passwd", "../etc/passwd", "etc/passwd"] {
        let layer = a().hardlink(b"l", target.as_bytes()).finish();
        cases.push(case(format!("32 to {target} of the host"), layer, waits("l", "etc/passwd")));
    }
    cases.push(case(
        "32 to a sibling with the same prefix",
        a().hardlink(b"l", b"../target-evil/x").finish(),
        waits("l", "target-evil/x"),
    ));
    for (name, links) in [
        ("one link", a().symlink(b"e", b"..")),
        ("two links", a().symlink(b"c", b".").symlink(b"e", b"c/../..")),
        ("an absolute link", a().symlink(b"e", b"/")),
    ] {
        cases.push(case(
            format!("33 through {name} to the host's flag"),
            links.hardlink(b"l", b"e/flag").finish(),
            waits("l", "e/flag"),
        ));
    }
    cases.push(case(
        "33 through a link to our own file",
        a().file(b"d/f", b"1").symlink(b"e", b"../d").hardlink(b"l", b"e/f").finish(),
        seen(|seen| one_inode(seen, &["d/f", "l"])),
    ));
    cases.push(case(
        "37 to a lower layer",
        a().hardlink(b"d/l", b"usr/bin/tool").finish(),
        waits("d/l", "usr/bin/tool"),
    ));
    cases.push(case(
        "37 a chain into a lower layer",
        a().hardlink(b"k", b"l").hardlink(b"l", b"usr/bin/tool").finish(),
        seen(|seen| {
            // Whoever makes them in order finds each target.
            let links: Vec<_> = seen.entries.iter().map(|entry| (&entry.path[..], &entry.link[..])).collect();
            assert_eq!(links, [(&b"l"[..], &b"usr/bin/tool"[..]), (b"k", b"l")]);
        }),
    ));
    cases
}

fn order() -> Vec<Case> {
    vec![
        case(
            "36 then a file of its name",
            a().file(b"a", b"old").hardlink(b"b", b"a").file(b"b", b"new").finish(),
            tree(["a=old", "b=new"]),
        ),
        case(
            "36 then a shorter file of the target's name",
            a().file(b"a", b"long content").hardlink(b"b", b"a").file(b"a", b"x").finish(),
            tree(["a=x", "b=long content"]),
        ),
        case(
            "38 a target that comes later",
            a().hardlink(b"l", b"d/f").hardlink(b"k", b"l").file(b"d/f", b"1").finish(),
            seen(|seen| one_inode(seen, &["l", "k", "d/f"])),
        ),
        case(
            "38 replaced before its target comes",
            a().hardlink(b"l", b"f").file(b"l", b"2").file(b"f", b"1").finish(),
            tree(["f=1", "l=2"]),
        ),
        case(
            "38 in the way of a directory",
            a().hardlink(b"x", b"y").file(b"x/z", b"1").file(b"y", b"2").finish(),
            tree(["x/", "x/z=1", "y=2"]),
        ),
        case(
            "38 over something",
            a().file(b"l", b"old").hardlink(b"l", b"f").hardlink(b"m", b"l").file(b"f", b"new").finish(),
            tree(["f=new", "l=new", "m=new"]),
        ),
        case(
            "38 and then to itself",
            a().hardlink(b"l", b"f").hardlink(b"l", b"l").file(b"f", b"1").finish(),
            tree(["f=1", "l=1"]),
        ),
        case("38 a target that never comes", a().hardlink(b"l", b"none").finish(), waits("l", "none")),
        case(
            "39 a target that is replaced later",
            a().file(b"f", b"1").hardlink(b"l", b"f").hardlink(b"m", b"f").file(b"f", b"22").finish(),
            seen(|seen| {
                one_inode(seen, &["l", "m"]);
                assert_eq!((seen.node("l").size, seen.node("f").size), (1, 2));
                // The first link has the old file's metadata in the record.
                assert_eq!((seen.entry("l").kind, seen.entry("l").size), (LayerEntryKind::File, 1));
                assert_eq!((seen.entry("m").kind, &seen.entry("m").link[..]), (LayerEntryKind::Hardlink, &b"l"[..]));
                assert_eq!(seen.entry("f").size, 2);
            }),
        ),
        case(
            "39 a chain of targets that are replaced later",
            a().file(b"f", b"1")
                .hardlink(b"g", b"f")
                .hardlink(b"h", b"g")
                .hardlink(b"k", b"f")
                .file(b"f", b"22")
                .file(b"g", b"333")
                .finish(),
            seen(|seen| {
                one_inode(seen, &["h", "k"]);
                assert_eq!((seen.entry("h").kind, seen.entry("h").size), (LayerEntryKind::File, 1));
                assert_eq!((seen.entry("k").kind, &seen.entry("k").link[..]), (LayerEntryKind::Hardlink, &b"h"[..]));
                assert_eq!((seen.entry("f").size, seen.entry("g").size), (2, 3));
            }),
        ),
        case(
            "39 a target that a whiteout names",
            a().file(b"f", b"1").hardlink(b"l", b"f").file(b".wh.f", b"").finish(),
            tree([".wh.f", "f=1", "l=1"]),
        ),
        case(
            "39 a target whose directory is replaced",
            a().file(b"d/f", b"1").hardlink(b"l", b"d/f").symlink(b"d", b"/").finish(),
            seen(|seen| assert_eq!((seen.entry("l").kind, seen.entry("l").size), (LayerEntryKind::File, 1))),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let mut cases = vec![
        case(
            "35 to a symlink",
            a().symlink(b"s", b"/flag").hardlink(b"l", b"s").finish(),
            seen(|seen| one_inode(seen, &["s", "l"])),
        ),
        case(
            "35 to a symlink, then a file of its name",
            a().symlink(b"s", b"/flag").hardlink(b"l", b"s").file(b"l", b"1").finish(),
            tree(["l=1", "s->/flag"]),
        ),
        case(
            "35 to a symlink, then a directory of its name",
            a().symlink(b"s", b"..").hardlink(b"l", b"s").entry(Header::new(b'5', b"l").mode(0o777), b"").finish(),
            tree(["l/", "s->.."]),
        ),
        case(
            "35 to a symlink, then below it",
            a().symlink(b"s", b"..").hardlink(b"l", b"s").file(b"l/flag", b"1").finish(),
            tree(["flag=1", "l->..", "s->.."]),
        ),
        case(
            "40 to itself",
            a().file(b"f", b"1").hardlink(b"f", b"f").finish(),
            seen(|seen| assert!(seen.has_anomaly(Anomalies::SELF_LINK) && seen.node("f").size == 1)),
        ),
        case(
            "40 to itself, of nothing",
            a().hardlink(b"f", b"./f").finish(),
            seen(|seen| assert!(seen.has_anomaly(Anomalies::SELF_LINK) && !seen.has("f"))),
        ),
        case(
            "40 a cycle",
            a().hardlink(b"a", b"b").hardlink(b"b", b"c").hardlink(b"c", b"a").finish(),
            seen(|seen| assert_eq!((seen.nodes.len(), seen.entries.len()), (1, 3))),
        ),
        case(
            "40 into what it replaces",
            a().dir(b"d").file(b"d/f", b"1").hardlink(b"d", b"d/f").finish(),
            fails(Status::Malformed),
        ),
        case("40 to a directory", a().dir(b"d").hardlink(b"l", b"d").finish(), fails(Status::Malformed)),
        case("40 to the root", a().hardlink(b"l", b"/").finish(), fails(Status::Malformed)),
        case(
            "40 to a fifo",
            a().entry(Header::new(b'6', b"p"), b"").hardlink(b"l", b"p").finish(),
            seen(|seen| one_inode(seen, &["p", "l"])),
        ),
        case(
            "40 to a device",
            a().entry(Header::new(b'3', b"n").device(1, 3), b"").hardlink(b"l", b"n").finish(),
            seen(|seen| one_inode(seen, &["n", "l"])),
        ),
        case("41 a whiteout", a().file(b"f", b"1").hardlink(b".wh.g", b"f").finish(), tree([".wh.g", "f=1"])),
        case(
            "41 an opaque marker",
            a().dir(b"d").hardlink(b"d/.wh..wh..opq", b"none").finish(),
            tree(["d/", "d/.wh..wh..opq"]),
        ),
        case(
            "43 its own metadata are not the inode's",
            a().pax(&[("SCHILY.xattr.user.evil", b"1")])
                .file(b"f", b"1")
                .entry(Header::new(b'1', b"l").link(b"f").mode(0o4777).owner(1000, 1000), b"")
                .finish(),
            seen(|seen| {
                let node = seen.node("f");
                assert_eq!((node.mode, node.links, node.mtime / 1_000_000_000), (0o644, 2, 1_700_000_000));
                assert_ne!(node.uid, 1000);
            }),
        ),
        case(
            "45 across file systems there is no link, and no copy",
            a().symlink(b"e", b"/proc/self/root").hardlink(b"l", b"e/etc/hostname").finish(),
            waits("l", "e/etc/hostname"),
        ),
        case(
            "46 to a set-uid file that cannot be read",
            a().entry(Header::new(b'0', b"f").mode(0o4000), b"1").hardlink(b"l", b"f").finish(),
            seen(|seen| one_inode(seen, &["f", "l"])),
        ),
    ];
    // It has no data, whatever its size says (D3).
    for size in [1, 512, 700, 300_000] {
        let header = Header::new(b'1', b"l").link(b"f").number(124, 12, size);
        let layer = a().file(b"f", b"1").raw_entry(header, b"").file(b"g", b"2").finish();
        cases.push(case(format!("42 with a size of {size}"), layer, tree(["f=1", "g=2", "l=1"])));
    }
    let with_data = a().file(b"f", b"1").entry(Header::new(b'1', b"l").link(b"f"), b"data").file(b"g", b"2").finish();
    cases.push(case("42 with data, which are taken for a header", with_data, fails(Status::Malformed)));
    cases
}
