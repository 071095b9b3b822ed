//! 1D: types, modes, owners, attributes and times.

use std::os::unix::fs::MetadataExt as _;

use boxlite_images::{Anomalies, LayerEntryKind, Status};

use super::super::archive::{Archive, Header};
use super::super::support::is_root;
use super::{Case, Outcome, Seen, case, fails, seen};

fn a() -> Archive {
    Archive::new()
}

fn one(header: Header) -> Vec<u8> {
    a().entry(header, b"").finish()
}

pub fn cases() -> Vec<Case> {
    let mut cases = types();
    cases.extend(modes());
    cases.extend(owners());
    cases.extend(attributes());
    cases.extend(times());
    cases
}

fn types() -> Vec<Case> {
    let mut cases = Vec::new();
    for (typeflag, kind, major, minor) in [
        (b'3', LayerEntryKind::CharDevice, 1, 3),
        (b'3', LayerEntryKind::CharDevice, 0, 0),
        (b'4', LayerEntryKind::BlockDevice, 8, 1),
        (b'4', LayerEntryKind::BlockDevice, 4095, (1 << 20) - 1),
    ] {
        let header = Header::new(typeflag, b"d").device(major, minor).mode(0o666);
        cases.push(case(
            format!("66 the device {} {major}:{minor}", typeflag as char),
            a().entry(header, b"").finish(),
            seen(move |seen: &Seen| {
                assert!(seen.has_anomaly(Anomalies::DEVICE_PLACEHOLDER));
                assert_eq!((seen.node("d").kind, seen.node("d").size), ("file", 0));
                let entry = seen.entry("d");
                assert_eq!((entry.kind, entry.device.major, entry.device.minor), (kind, major as u32, minor as u32));
            }),
        ));
    }
    for (name, header) in [
        ("a large major number", Header::new(b'3', b"d").device(4096, 0)),
        ("a large minor number", Header::new(b'4', b"d").device(0, 1 << 20)),
        ("a negative number", Header::new(b'3', b"d").raw(329, &[0xff; 8])),
        ("a number of 60 bits", Header::new(b'3', b"d").raw(329, b"\x80\xff\xff\xff\xff\xff\xff\xff")),
        ("letters", Header::new(b'3', b"d").raw(337, b"zzzzzzz\0")),
    ] {
        cases.push(case(format!("67 {name}"), one(header), fails(Status::Malformed)));
    }
    cases.push(case("68 a contiguous file", a().entry(Header::new(b'7', b"f"), b"1").finish(), super::tree(["f=1"])));
    cases.push(case(
        "68 a volume label",
        a().entry(Header::new(b'V', b"label").gnu(), b"").file(b"f", b"1").finish(),
        seen(|seen| assert!(seen.has_anomaly(Anomalies::IGNORED_HEADER) && seen.nodes.len() == 2)),
    ));
    for typeflag in [b'D', b'M', b'N', b'Z', b'A', b'8', b'9', 0xff] {
        for gnu in [false, true] {
            let header = Header::new(typeflag, b"f");
            let header = if gnu { header.gnu() } else { header };
            let name = format!("68 type {:?} in {}", typeflag as char, if gnu { "GNU" } else { "ustar" });
            cases.push(case(name, one(header), fails(Status::Malformed)));
        }
    }
    cases.push(case(
        "69 a fifo with everything",
        a().pax(&[("SCHILY.xattr.user.a", b"1"), ("mtime", b"5")])
            .entry(Header::new(b'6', b"p").mode(0o4640).owner(7, 8), b"")
            .finish(),
        seen(|seen| assert_eq!((seen.node("p").kind, seen.node("p").mode & 0o777), ("fifo", 0o640))),
    ));
    cases
}

fn modes() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in [0o4755, 0o2755, 0o6755, 0o1777, 0o7777, 0o4000] {
        let layer = a().entry(Header::new(b'0', b"f").mode(mode).owner(1000, 1001), b"1").finish();
        let check =
            move |seen: &Seen| assert_eq!((seen.node("f").mode, seen.entry("f").mode), (mode as u32, mode as u32));
        // A file that an ordinary user makes can have its own group's set-gid bit, but no other's.
        cases.push(case(format!("70 mode {mode:04o}"), layer, seen(check)));
    }
    for (name, field, mode) in [
        ("type bits", &b"0100755\0"[..], 0o755),
        ("all ones", b"7777777\0", 0o7777),
        ("a negative number", b"\xff\xff\xff\xff\xff\xff\xff\xff", 0o7777),
        ("no number", b"rwxr-xr\0", 0),
        ("nothing", b"\0\0\0\0\0\0\0\0", 0),
    ] {
        let layer = a().entry(Header::new(b'0', b"f").raw(100, field), b"1").finish();
        cases.push(case(
            format!("71 {name} as the mode"),
            layer,
            seen(move |seen| assert_eq!(seen.node("f").mode, mode)),
        ));
    }
    for mode in [0o000, 0o555, 0o111, 0o444] {
        let directory = Header::new(b'5', b"d").mode(mode);
        let layer = a()
            .entry(directory.clone(), b"")
            .file(b"d/f", b"1")
            .entry(Header::new(b'5', b"d/e").mode(mode), b"")
            .file(b"d/e/f", b"2")
            .finish();
        cases.push(case(
            format!("72 a directory of mode {mode:04o} before its children"),
            layer,
            seen(move |seen| {
                let meta = std::fs::symlink_metadata(seen.tree.join("d")).unwrap();
                assert_eq!(meta.mode() & 0o7777, mode as u32);
                assert_eq!(seen.entry("d/e/f").size, 1);
            }),
        ));
    }
    cases.push(case(
        "72 a file of mode 0000 with an attribute",
        a().pax(&[("SCHILY.xattr.user.a", b"1")]).entry(Header::new(b'0', b"f").mode(0), b"1").finish(),
        seen(|seen| assert_eq!((seen.node("f").mode, seen.node("f").size), (0, 1))),
    ));
    cases
}

fn owners() -> Vec<Case> {
    let mut cases = Vec::new();
    for id in [0u64, 1000, 65534, 0o7777777, 1 << 31, (1 << 32) - 2] {
        let text = id.to_string();
        let layer = a().pax(&[("uid", text.as_bytes()), ("gid", text.as_bytes())]).file(b"f", b"1").finish();
        cases.push(case(
            format!("74 id {id}"),
            layer,
            seen(move |seen| {
                assert_eq!((u64::from(seen.entry("f").uid), u64::from(seen.entry("f").gid)), (id, id));
                if is_root() && !seen.has_anomaly(Anomalies::OWNER_NOT_SET) {
                    assert_eq!(u64::from(seen.node("f").uid), id);
                }
            }),
        ));
    }
    for (name, layer) in [
        ("2^32 - 1", a().pax(&[("uid", b"4294967295")]).file(b"f", b"")),
        ("2^32", a().pax(&[("gid", b"4294967296")]).file(b"f", b"")),
        ("2^64", a().pax(&[("gid", b"18446744073709551616")]).file(b"f", b"")),
        ("a sign", a().pax(&[("uid", b"-1")]).file(b"f", b"")),
        ("a negative header field", a().entry(Header::new(b'0', b"f").raw(108, &[0xff; 8]), b"")),
        ("2^32 in a header field", a().entry(Header::new(b'0', b"f").raw(108, b"\x80\0\0\x01\0\0\0\0"), b"")),
        ("2^32 - 1 in a header field", a().entry(Header::new(b'0', b"f").raw(116, b"\x80\0\0\0\xff\xff\xff\xff"), b"")),
        ("letters in a header field", a().entry(Header::new(b'0', b"f").raw(108, b"nobody\0\0"), b"")),
    ] {
        cases.push(case(format!("74 {name}"), layer.finish(), fails(Status::Malformed)));
    }
    cases.push(case(
        "74 PAX over the header",
        a().pax(&[("uid", b"5")]).entry(Header::new(b'0', b"f").owner(6, 7), b"").finish(),
        seen(|seen| assert_eq!((seen.entry("f").uid, seen.entry("f").gid), (5, 7))),
    ));
    let named = Header::new(b'0', b"f").raw(265, b"nobody").raw(297, b"nogroup");
    cases.push(case(
        "75 names are not looked up",
        one(named),
        seen(|seen| assert_eq!((seen.entry("f").uid, seen.entry("f").gid), (0, 0))),
    ));
    cases
}

fn attributes() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "user.containers.override_stat",
        "user.rootlesscontainers",
        "user.fuseoverlayfs.origin",
        "security.ima",
        "security.evm",
        "security.selinux",
        "security.SMACK64",
        "security.apparmor",
        "security.capability2",
        "system.nfs4_acl",
        "trusted.x",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        let layer = a().pax(&[(&key, b"0:0:0755")]).file(b"f", b"1").pax(&[(&key, b"x")]).dir(b"d").finish();
        let family = if name.starts_with("user.") || name.ends_with("ima") || name.ends_with("evm") { 77 } else { 78 };
        cases.push(case(
            format!("{family} {name} is not the layer's"),
            layer,
            seen(move |seen| {
                assert!(seen.has_anomaly(Anomalies::SKIPPED_XATTR));
                assert!(seen.node("f").xattrs.is_empty() && seen.node("d").xattrs.is_empty());
                assert_eq!(seen.entry("f").xattrs, [(name.as_bytes().to_vec(), b"0:0:0755".to_vec())]);
            }),
        ));
    }
    // Version 2, cap_net_raw+ep.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cases.push(case(
        "78 a file capability",
        a().pax(&[("SCHILY.xattr.security.capability", &capability)]).file(b"ping", b"1").finish(),
        seen(|seen| {
            let set = !seen.node("ping").xattrs.is_empty();
            assert!(set || seen.has_anomaly(Anomalies::SKIPPED_XATTR));
            assert_eq!((seen.entry("ping").xattrs.len(), set && !is_root()), (1, false));
        }),
    ));
    for (name, value) in [
        ("with a NUL", &b"a\0b"[..]),
        ("with an equals sign", b"a=b=c"),
        ("with a newline", b"a\nb\n"),
        ("empty", b""),
        ("binary", &[0xff, 0, 0x80, b'\n', b'=']),
    ] {
        let layer = a().pax(&[("SCHILY.xattr.user.k", value)]).file(b"f", b"1").finish();
        let value = value.to_vec();
        cases.push(case(
            format!("79 a value {name}"),
            layer,
            seen(move |seen| {
                assert_eq!(seen.entry("f").xattrs, [(b"user.k".to_vec(), value.clone())]);
                let set = &seen.node("f").xattrs;
                assert!(*set == [("user.k".to_owned(), value.clone())] || seen.has_anomaly(Anomalies::SKIPPED_XATTR));
            }),
        ));
    }
    let long_name = format!("SCHILY.xattr.user.{}", "n".repeat(300));
    let keys: Vec<String> = (0..20).map(|k| format!("SCHILY.xattr.user.{k}")).collect();
    let many: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &[7; 5000][..])).collect();
    let again = vec![("SCHILY.xattr.user.a", &b"1"[..]); 1025];
    cases.push(case("79 one attribute 1,025 times", a().pax(&again).file(b"f", b"1").finish(), fails(Status::Limit)));
    let skipped = |seen: &Seen| assert!(seen.has_anomaly(Anomalies::SKIPPED_XATTR));
    cases.push(case(
        "79 a name that is too long",
        a().pax(&[(&long_name, b"1")]).file(b"f", b"1").finish(),
        seen(skipped),
    ));
    cases.push(case(
        "79 more than an inode can hold",
        a().pax(&many).file(b"f", b"1").finish(),
        seen(|seen| {
            let set = seen.node("f").xattrs.len();
            assert_eq!((seen.has_anomaly(Anomalies::SKIPPED_XATTR), seen.entry("f").xattrs.len()), (set < 20, 20));
        }),
    ));
    cases.push(case(
        "80 libarchive's form",
        a().pax(&[("LIBARCHIVE.xattr.user.caf%C3%A9", b"YmluCg")]).file(b"f", b"1").finish(),
        seen(|seen| assert_eq!(seen.entry("f").xattrs, [("user.caf\u{e9}".as_bytes().to_vec(), b"bin\n".to_vec())])),
    ));
    cases.push(case(
        "80 both forms",
        a().pax(&[("LIBARCHIVE.xattr.user.a", b"eA=="), ("SCHILY.xattr.user.a", b"y")]).file(b"f", b"1").finish(),
        seen(|seen| assert_eq!(seen.entry("f").xattrs, [(b"user.a".to_vec(), b"y".to_vec())])),
    ));
    for key in ["SCHILY.fflags", "SCHILY.acl.access", "SCHILY.acl.default", "RHT.security.selinux"] {
        cases.push(case(format!("80 {key}"), a().pax(&[(key, b"x")]).file(b"f", b"1").finish(), seen(skipped)));
    }
    let broken = a().pax(&[("LIBARCHIVE.xattr.user.a", b"!!!")]).file(b"f", b"1").finish();
    cases.push(case("80 libarchive's form, broken", broken, seen(skipped)));
    cases
}

fn times() -> Vec<Case> {
    let mut cases = Vec::new();
    for (text, seconds, nanoseconds) in [
        ("1700000001.123456789", 1_700_000_001i64, 123_456_789u32),
        ("-1.5", -2, 500_000_000),
        ("-1", -1, 0),
        ("0", 0, 0),
        ("1.1234567891234", 1, 123_456_789),
        ("5.", 5, 0),
    ] {
        let layer = a().pax(&[("mtime", text.as_bytes())]).file(b"f", b"1").finish();
        cases.push(case(
            format!("81 mtime {text}"),
            layer,
            seen(move |seen| {
                let mtime = seen.entry("f").mtime;
                assert_eq!((mtime.seconds, mtime.nanoseconds), (seconds, nanoseconds));
                assert_eq!(seen.node("f").mtime, i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
            }),
        ));
    }
    for (name, layer) in [
        ("a year of 20 digits", a().pax(&[("mtime", b"99999999999999999999")]).file(b"f", b"1")),
        ("the far past", a().pax(&[("mtime", b"-99999999999999999999")]).file(b"f", b"1")),
        ("the year 2500", a().pax(&[("mtime", b"16725225600")]).file(b"f", b"1")),
        ("a negative header field", a().entry(Header::new(b'0', b"f").raw(136, &[0xff; 12]), b"1")),
        (
            "the largest header field",
            a().entry(Header::new(b'0', b"f").raw(136, b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), b"1"),
        ),
    ] {
        cases.push(case(format!("81 {name}"), layer.finish(), Outcome::Accepted));
    }
    for (name, field) in [("zero", &b"00000000000\0"[..]), ("absent", &[0; 12]), ("text", b"yesterday\0\0\0")] {
        let layer = a().entry(Header::new(b'0', b"f").raw(136, field), b"1").finish();
        cases.push(case(
            format!("81 a header time that is {name}"),
            layer,
            seen(|seen| assert_eq!(seen.node("f").mtime, 0)),
        ));
    }
    for text in ["NaN", "", "-", "1e9", "1,5", "0x10", " 5", "1.-5", "+5"] {
        let layer = a().pax(&[("mtime", text.as_bytes())]).file(b"f", b"1").finish();
        cases.push(case(format!("81 mtime {text:?}"), layer, fails(Status::Malformed)));
    }
    cases.push(case(
        "82 directories keep their times",
        a().dir(b"d")
            .dir(b"d/e")
            .file(b"d/e/f", b"1")
            .file(b"d/.wh.x", b"")
            .symlink(b"d/l", b"x")
            .hardlink(b"d/h", b"later")
            .file(b"later", b"1")
            .finish(),
        seen(|seen| {
            for path in ["d", "d/e"] {
                assert_eq!(seen.node(path).mtime, 1_700_000_000_000_000_000, "{path}");
            }
            assert_eq!(seen.nodes["."].mtime, 0);
        }),
    ));
    cases.push(case(
        "82 a directory touched by whiteouts only",
        a().file(b"d/e/.wh.x", b"").finish(),
        seen(|seen| assert_eq!((seen.node("d").mtime, seen.node("d/e").mtime), (0, 0))),
    ));
    cases.push(case(
        "83 implied parents",
        a().file(b"a/b/f", b"1").symlink(b"c/d/l", b"x").dir(b"e/f/g").finish(),
        seen(|seen| {
            for path in ["a", "a/b", "c", "c/d", "e", "e/f"] {
                let node = seen.node(path);
                assert_eq!((node.mode, node.mtime), (0o755, 0), "{path}");
                let entry = seen.entry(path);
                assert!(entry.is_implied && (entry.uid, entry.gid) == (0, 0), "{path}");
            }
            assert!(!seen.entry("e/f/g").is_implied);
        }),
    ));
    cases.push(case(
        "83 an entry that comes after what is in it",
        a().file(b"a/f", b"1").entry(Header::new(b'5', b"a").mode(0o700), b"").finish(),
        seen(|seen| {
            assert_eq!((seen.node("a").mode, seen.node("a").mtime), (0o700, 1_700_000_000_000_000_000));
            assert!(!seen.entry("a").is_implied);
        }),
    ));
    cases
}
