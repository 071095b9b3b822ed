//! Layers as users and attackers make them, by the families of input that they belong to. Each one is extracted inside
//! a directory full of things to damage, as root and as an ordinary user.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boxlite_images::{Anomalies, Cancel, Digest, Error, ExtractOptions, Extraction, Interrupt, Status, Storage};

use super::archive::{Archive, Header, gzip, pax_record, zstd};
use super::support::{as_each_user, in_own_process, is_root, leftovers, names_in, put_layer, quick_store};
use super::tree::{Canary, snapshot};

/// A store inside a canary, and one layer extracted in it.
struct Bench {
    canary: Canary,
    storage: Storage,
}

impl Bench {
    fn new() -> Bench {
        let canary = Canary::new();
        let storage = quick_store(&canary.target().join("store"));
        Bench { canary, storage }
    }

    fn extract(&self, blob: &[u8], options: &ExtractOptions) -> (Result<Extraction, Error>, PathBuf) {
        let digest = put_layer(&self.storage, blob);
        let started = Instant::now();
        let result = self.storage.extract_layer(&digest, options);
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
        let tree = self.storage.layer_extracted_path(&digest);
        if result.is_err() {
            assert!(!tree.exists() && !tree.with_extension("mtree").exists());
        }
        assert_eq!(leftovers(self.storage.images_dir()), [""; 0]);
        (result, tree)
    }
}

/// What a case must come to.
enum Outcome {
    /// The tree has these paths: `path`, `path=content`, `path->target`, `path/` for a directory; and nothing else.
    Tree(&'static [&'static str]),
    Fails(Status),
}

use Outcome::{Fails, Tree};

fn check(cases: Vec<(&str, Vec<u8>, Outcome)>) {
    for (name, layer, outcome) in cases {
        for (form, blob) in [("tar", layer.clone()), ("gzip", gzip(&layer)), ("zstd", zstd(&layer))] {
            let bench = Bench::new();
            let (result, tree) = bench.extract(&blob, &ExtractOptions::default());
            bench.canary.assert_untouched(name);
            match (&outcome, result) {
                (Fails(status), Err(error)) => {
                    assert_eq!(error.status(), *status, "{name} ({form}): {error}");
                    assert!(!error.message().contains('\n') && error.message().len() < 2000, "{name}: {error}");
                }
                (Tree(expected), Ok(_)) => assert_eq!(shown(&tree), *expected, "{name} ({form})"),
                (Fails(status), Ok(_)) => panic!("{name} ({form}): accepted, expected {status:?}"),
                (Tree(_), Err(error)) => panic!("{name} ({form}): {error}"),
            }
        }
    }
}

fn shown(tree: &std::path::Path) -> Vec<String> {
    let nodes = snapshot(tree);
    let mut lines = Vec::new();
    for (path, node) in nodes.iter().filter(|(path, _)| *path != ".") {
        let path = path.trim_start_matches("./");
        let content = || String::from_utf8_lossy(&std::fs::read(tree.join(path)).unwrap()).into_owned();
        lines.push(match node.kind {
            "dir" => format!("{path}/"),
            "symlink" => format!("{path}->{}", node.content),
            "file" if node.size > 0 => format!("{path}={}", content()),
            "file" => path.to_owned(),
            kind => format!("{path} {kind}"),
        });
    }
    lines
}

#[test]
fn families_1_to_28_names_and_paths() {
    as_each_user("layers::families_1_to_28_names_and_paths", || {
        let a = Archive::new;
        let deep = b"d/".repeat(3000);
        let long_target = vec![b't'; 5000];
        check(vec![
            (
                "1 absolute",
                a().file(b"/etc/x", b"1").file(b"//tmp/moo", b"2").finish(),
                Tree(&["etc/", "etc/x=1", "tmp/", "tmp/moo=2"]),
            ),
            ("2 parent", a().file(b"../x", b"").finish(), Fails(Status::UnsafePath)),
            ("2 nested parent", a().file(b"a/../../x", b"").finish(), Fails(Status::UnsafePath)),
            ("2 bare parent", a().dir(b"..").finish(), Fails(Status::UnsafePath)),
            (
                "3 normalised",
                a().file(b"a/../b", b"1").file(b"./c//d/./e", b"2").finish(),
                Tree(&["b=1", "c/", "c/d/", "c/d/e=2"]),
            ),
            ("4 root", a().dir(b"./").dir(b"/").dir(b".").finish(), Tree(&[])),
            ("4 root as a file", a().file(b"./", b"").finish(), Fails(Status::Malformed)),
            ("4 root as a symlink", a().symlink(b".", b"/etc").finish(), Fails(Status::Malformed)),
            ("5 empty name", a().file(b"", b"").finish(), Fails(Status::Malformed)),
            ("6 symlink to /", a().symlink(b"l", b"/").file(b"l/x", b"1").finish(), Tree(&["l->/", "x=1"])),
            ("6 symlink to ..", a().symlink(b"l", b"..").file(b"l/flag", b"1").finish(), Tree(&["flag=1", "l->.."])),
            (
                "6 far up",
                a().symlink(b"l", b"../../../../..").file(b"l/etc/passwd", b"1").finish(),
                Tree(&["etc/", "etc/passwd=1", "l->../../../../.."]),
            ),
            (
                "7 directories through a link",
                a().symlink(b"l", b"..").dir(b"l/a/b").finish(),
                Tree(&["a/", "a/b/", "l->.."]),
            ),
            (
                "8 chain",
                a().symlink(b"current", b".").symlink(b"parent", b"current/..").file(b"parent/flag", b"1").finish(),
                Tree(&["current->.", "flag=1", "parent->current/.."]),
            ),
            ("11 trailing slash", a().symlink(b"x/", b"..").file(b"x/flag", b"1").finish(), Tree(&["flag=1", "x->.."])),
            (
                "12 link becomes directory",
                a().symlink(b"x", b"../flag").entry(Header::new(b'5', b"x").mode(0o700), b"").finish(),
                Tree(&["x/"]),
            ),
            (
                "13 directory becomes link again",
                a().dir(b"x").file(b"x/f", b"").symlink(b"x", b"..").finish(),
                Tree(&["x->.."]),
            ),
            (
                "14 parent replaced under a cache",
                a().dir(b"foo")
                    .file(b"foo/tmp/x", b"1")
                    .symlink(b"foo", b"/")
                    .file(b"foo/tmp/x", b"2")
                    .dir(b"foo")
                    .file(b"foo/tmp/x", b"3")
                    .finish(),
                Tree(&["foo/", "foo/tmp/", "foo/tmp/x=3", "tmp/", "tmp/x=2"]),
            ),
            (
                "15 prefix sibling",
                a().symlink(b"l", b"../target-evil").file(b"l/x", b"1").finish(),
                Tree(&["l->../target-evil", "target-evil/", "target-evil/x=1"]),
            ),
            (
                "16 relative then absolute",
                a().symlink(b"e", b"..").symlink(b"e/abs", b"/target").file(b"e/abs/f", b"1").finish(),
                Tree(&["abs->/target", "e->..", "target/", "target/f=1"]),
            ),
            (
                "17 loop as parent",
                a().symlink(b"a", b"b").symlink(b"b", b"a").file(b"a/x", b"").finish(),
                Fails(Status::Limit),
            ),
            ("17 loop as leaf", a().symlink(b"dash", b"dash").file(b"dash", b"1").finish(), Tree(&["dash=1"])),
            (
                "18 dangling parent",
                a().symlink(b"localetc", b"/dne").file(b"localetc/f", b"1").finish(),
                Tree(&["dne/", "dne/f=1", "localetc->/dne"]),
            ),
            ("20 file as parent", a().file(b"p", b"1").file(b"p/c", b"2").finish(), Tree(&["p/", "p/c=2"])),
            (
                "20 fifo as parent",
                a().entry(Header::new(b'6', b"p"), b"").file(b"p/c", b"2").finish(),
                Tree(&["p/", "p/c=2"]),
            ),
            (
                "21 targets byte for byte",
                a().symlink(b"l", b"../../../../../../../../../../x").finish(),
                Tree(&["l->../../../../../../../../../../x"]),
            ),
            ("21 empty target", a().symlink(b"l", b"").finish(), Fails(Status::Malformed)),
            (
                "21 long target",
                a().pax(&[("linkpath", &long_target)]).symlink(b"l", b"").finish(),
                Fails(Status::Limit),
            ),
            ("22 long component", a().pax(&[("path", &[b'x'; 256])]).file(b"x", b"").finish(), Fails(Status::Limit)),
            ("22 too deep", a().pax(&[("path", &b"d/".repeat(5000))]).dir(b"x").finish(), Fails(Status::Limit)),
            ("23 NUL in a PAX path", a().pax(&[("path", b"a\0b")]).file(b"x", b"").finish(), Fails(Status::Malformed)),
            (
                "23 NUL in a GNU name",
                a().entry(Header::new(b'L', b"l").gnu(), b"name\0junk")
                    .entry(Header::new(b'0', b"x").gnu(), b"1")
                    .finish(),
                Tree(&["name=1"]),
            ),
            ("24 odd bytes", a().file(b"a\nb\\c:d", b"1").finish(), Tree(&["a\nb\\c:d=1"])),
            ("25 numeric name", a().pax(&[("path", b"12345")]).file(b"x", b"1").finish(), Tree(&["12345=1"])),
            (
                "26 unicode twins",
                a().file("\u{e9}".as_bytes(), b"1").file("e\u{301}".as_bytes(), b"2").finish(),
                Tree(&["e\u{301}=2", "\u{e9}=1"]),
            ),
            (
                "27 case twins",
                a().file(b"PAM.gz", b"1").symlink(b"pam.gz", b"PAM.gz").finish(),
                Tree(&["PAM.gz=1", "pam.gz->PAM.gz"]),
            ),
            ("28 windows names", a().file(b"C:..\\x", b"1").finish(), Tree(&["C:..\\x=1"])),
        ]);
        let bench = Bench::new();
        let layer = a().pax(&[("path", &[&deep[..], b"f"].concat())]).file(b"x", b"1").finish();
        bench.extract(&layer, &ExtractOptions::default()).0.unwrap();
    });
}

#[test]
fn families_32_to_44_hard_links() {
    as_each_user("layers::families_32_to_44_hard_links", || {
        let a = Archive::new;
        check(vec![
            (
                "32 absolute target",
                a().file(b"etc/f", b"1").hardlink(b"l", b"/etc/f").finish(),
                Tree(&["etc/", "etc/f=1", "l=1"]),
            ),
            ("32 outside", a().hardlink(b"l", b"../../etc/passwd").finish(), Fails(Status::Malformed)),
            ("32 outside, absolute", a().hardlink(b"l", b"/etc/passwd").finish(), Fails(Status::Malformed)),
            (
                "33 through a symlink",
                a().symlink(b"e", b"..").hardlink(b"l", b"e/flag").finish(),
                Fails(Status::Malformed),
            ),
            (
                "35 to a symlink",
                a().symlink(b"s", b"/flag").hardlink(b"l", b"s").finish(),
                Tree(&["l->/flag", "s->/flag"]),
            ),
            (
                "36 then a file of its name",
                a().file(b"a", b"old").hardlink(b"b", b"a").file(b"b", b"new").finish(),
                Tree(&["a=old", "b=new"]),
            ),
            (
                "38 forward",
                a().hardlink(b"l", b"d/f").hardlink(b"k", b"l").file(b"d/f", b"1").finish(),
                Tree(&["d/", "d/f=1", "k=1", "l=1"]),
            ),
            (
                "38 forward, replaced",
                a().hardlink(b"l", b"f").file(b"l", b"2").file(b"f", b"1").finish(),
                Tree(&["f=1", "l=2"]),
            ),
            (
                "38 forward, in the way of a directory",
                a().hardlink(b"x", b"y").file(b"x/z", b"1").file(b"y", b"2").finish(),
                Tree(&["x/", "x/z=1", "y=2"]),
            ),
            (
                "38 forward, over something",
                a().file(b"l", b"old").hardlink(b"l", b"f").hardlink(b"m", b"l").file(b"f", b"new").finish(),
                Tree(&["f=new", "l=new", "m=new"]),
            ),
            (
                "38 forward, then to itself",
                a().hardlink(b"l", b"f").hardlink(b"l", b"l").file(b"f", b"1").finish(),
                Tree(&["f=1", "l=1"]),
            ),
            ("40 to itself, of nothing", a().hardlink(b"f", b"f").finish(), Fails(Status::Malformed)),
            (
                "40 into what it replaces",
                a().dir(b"d").file(b"d/f", b"1").hardlink(b"d", b"d/f").finish(),
                Fails(Status::Malformed),
            ),
            ("38 never", a().hardlink(b"l", b"none").finish(), Fails(Status::Malformed)),
            (
                "39 target replaced later",
                a().file(b"f", b"1").hardlink(b"l", b"f").file(b"f", b"2").finish(),
                Tree(&["f=2", "l=1"]),
            ),
            ("40 to itself", a().file(b"f", b"1").hardlink(b"f", b"f").finish(), Tree(&["f=1"])),
            ("40 cycle", a().hardlink(b"a", b"b").hardlink(b"b", b"a").finish(), Fails(Status::Malformed)),
            ("40 to a directory", a().dir(b"d").hardlink(b"l", b"d").finish(), Fails(Status::Malformed)),
            ("40 to the root", a().hardlink(b"l", b"/").finish(), Fails(Status::Malformed)),
            ("41 a whiteout", a().file(b"f", b"1").hardlink(b".wh.g", b"f").finish(), Tree(&[".wh.g", "f=1"])),
            (
                "42 with data",
                a().file(b"f", b"1").entry(Header::new(b'1', b"l").link(b"f"), &[b'x'; 700]).file(b"g", b"2").finish(),
                Tree(&["f=1", "g=2", "l=1"]),
            ),
        ]);
        let bench = Bench::new();
        let layer = a().file(b"f", b"1").entry(Header::new(b'1', b"l").link(b"f").mode(0o777), b"").finish();
        let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
        result.unwrap();
        let meta = std::fs::metadata(tree.join("f")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o644, 2), "43 the link's mode is not the inode's");
    });
}

#[test]
fn families_47_to_65_whiteouts_are_kept_as_markers() {
    as_each_user("layers::families_47_to_65_whiteouts_are_kept_as_markers", || {
        let a = Archive::new;
        check(vec![
            ("47 bare", a().file(b".wh.", b"").finish(), Fails(Status::Malformed)),
            ("48 of the directory", a().file(b"d/.wh..", b"").finish(), Fails(Status::Malformed)),
            ("48 of the parent", a().file(b"d/.wh...", b"").finish(), Fails(Status::Malformed)),
            ("49 as a directory", a().file(b".wh.x/file", b"").finish(), Fails(Status::Malformed)),
            (
                "48 through a symlink's target",
                a().symlink(b"s", b".wh...").file(b"s/x", b"").finish(),
                Fails(Status::Malformed),
            ),
            (
                "49 through a symlink's target",
                a().file(b".wh.etc", b"").symlink(b"s", b"a/../.wh.etc").file(b"s/x", b"").finish(),
                Fails(Status::Malformed),
            ),
            (
                "51 a device that does not exist",
                a().entry(Header::new(b'3', b".wh.x").device(0o7777777, 0), b"").finish(),
                Tree(&[".wh.x"]),
            ),
            ("50 of a whiteout", a().file(b".wh..wh.foo", b"").finish(), Fails(Status::Malformed)),
            (
                "50 AUFS",
                a().file(b".wh..wh.aufs", b"")
                    .dir(b".wh..wh.plnk")
                    .file(b".wh..wh.plnk/1.2", b"x")
                    .file(b"f", b"1")
                    .finish(),
                Tree(&["f=1"]),
            ),
            (
                "51 any type",
                a().dir(b".wh.a")
                    .symlink(b".wh.b", b"/")
                    .entry(Header::new(b'3', b".wh.c").device(0, 0), b"")
                    .file(b".wh.d", b"body")
                    .finish(),
                Tree(&[".wh.a", ".wh.b", ".wh.c", ".wh.d"]),
            ),
            ("52 in a missing directory", a().file(b"d/.wh.x", b"").finish(), Tree(&["d/", "d/.wh.x"])),
            (
                "53 through a symlink",
                a().symlink(b"l", b"/etc").file(b"l/.wh.passwd", b"").finish(),
                Tree(&["etc/", "etc/.wh.passwd", "l->/etc"]),
            ),
            (
                "56 beside its name",
                a().file(b"f", b"1").file(b".wh.f", b"").file(b".wh.g", b"").file(b"g", b"2").finish(),
                Tree(&[".wh.f", ".wh.g", "f=1", "g=2"]),
            ),
            (
                "58 opaque",
                a().file(b"d/a", b"1").file(b"d/.wh..wh..opq", b"").file(b"d/b", b"2").finish(),
                Tree(&["d/", "d/.wh..wh..opq", "d/a=1", "d/b=2"]),
            ),
        ]);
    });
}

#[test]
fn family_65_every_type_replaces_every_type() {
    as_each_user("layers::family_65_every_type_replaces_every_type", || {
        let add = |archive: Archive, kind: &str| match kind {
            "file" => archive.file(b"x", b"1"),
            "dir" => archive.dir(b"x").file(b"x/inside", b""),
            "symlink" => archive.symlink(b"x", b"../flag"),
            "hardlink" => archive.hardlink(b"x", b"other"),
            "fifo" => archive.entry(Header::new(b'6', b"x"), b""),
            "device" => archive.entry(Header::new(b'3', b"x").device(1, 3), b""),
            _ => archive.entry(Header::new(b'4', b"x").device(8, 0), b""),
        };
        let kinds = ["file", "dir", "symlink", "hardlink", "fifo", "device", "block"];
        for first in kinds {
            for second in kinds {
                let bench = Bench::new();
                let layer = add(add(Archive::new().file(b"other", b"2"), first), second).finish();
                let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
                result.unwrap_or_else(|error| panic!("{first} then {second}: {error}"));
                let node = snapshot(&tree)["./x"].clone();
                let expected = match second {
                    "dir" | "symlink" | "fifo" => second,
                    _ => "file",
                };
                assert_eq!(node.kind, expected, "{first} then {second}");
                let inside = tree.join("x/inside").exists();
                assert_eq!(inside, second == "dir", "{first} then {second}");
                bench.canary.assert_untouched(&format!("{first} then {second}"));
            }
        }
    });
}

#[test]
fn families_66_to_83_metadata() {
    as_each_user("layers::families_66_to_83_metadata", || {
        let bench = Bench::new();
        let user = |name: &'static [u8]| Header::new(b'0', name).owner(1000, 1001);
        let layer = Archive::new()
            .entry(Header::new(b'5', b"./").mode(0o755), b"")
            .entry(Header::new(b'5', b"locked").mode(0o000), b"")
            .file(b"locked/f", b"1")
            .entry(Header::new(b'5', b"readonly").mode(0o555), b"")
            .file(b"readonly/f", b"1")
            .entry(user(b"setuid").mode(0o4755), b"x")
            .entry(Header::new(b'0', b"garbage").mode(0o170_755), b"x")
            .entry(Header::new(b'0', b"none").mode(0), b"x")
            .pax(&[
                ("mtime", b"1700000001.123456789"),
                ("SCHILY.xattr.user.a", b"b\nc"),
                ("SCHILY.xattr.trusted.x", b"1"),
            ])
            .file(b"fine", b"x")
            .pax(&[("mtime", b"-1.5")])
            .file(b"before", b"x")
            .entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"")
            .entry(Header::new(b'6', b"fifo").mode(0o640), b"")
            .pax(&[("SCHILY.xattr.user.a", b"not on symlinks")])
            .symlink(b"link", b"/nowhere")
            .file(b"implied/deep/f", b"1")
            .finish();
        let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
        let anomalies = result.unwrap().anomalies;
        assert!(anomalies.contains(Anomalies::DEVICE_PLACEHOLDER) && anomalies.contains(Anomalies::SKIPPED_XATTR));
        for locked in ["", "locked", "readonly", "implied", "implied/deep"] {
            let meta = std::fs::symlink_metadata(tree.join(locked)).unwrap();
            let (mode, mtime) = match locked {
                "locked" => (0, 1_700_000_000),
                "readonly" => (0o555, 1_700_000_000),
                "" => (0o755, 1_700_000_000),
                _ => (0o755, 0),
            };
            if !locked.starts_with("locked/") {
                assert_eq!((meta.mode() & 0o7777, meta.mtime()), (mode, mtime), "{locked:?}");
            }
        }
        let at = |name: &str| std::fs::symlink_metadata(tree.join(name)).unwrap();
        assert_eq!(at("setuid").mode() & 0o7777, 0o4755);
        assert_eq!(at("garbage").mode() & 0o7777, 0o755);
        assert_eq!(at("none").mode() & 0o7777, 0);
        assert_eq!((at("fine").mtime(), at("fine").mtime_nsec()), (1_700_000_001, 123_456_789));
        assert_eq!((at("before").mtime(), at("before").mtime_nsec()), (-2, 500_000_000));
        assert_eq!(at("link").mtime(), 1_700_000_000);
        assert!(at("null").is_file() && at("null").size() == 0);
        assert_eq!(snapshot(&tree)["./fifo"].mode, 0o640);
        if is_root() {
            assert_eq!((at("setuid").uid(), at("setuid").gid()), (1000, 1001));
        } else {
            assert_eq!(at("setuid").uid(), 65534);
        }
        let xattrs = &snapshot(&tree)["./fine"].xattrs;
        // tmpfs may lack user.*; then it is counted instead.
        assert!(xattrs.is_empty() || *xattrs == [("user.a".to_owned(), b"b\nc".to_vec())], "{xattrs:?}");
        let record = std::fs::read_to_string(tree.with_extension("mtree")).unwrap();
        for line in [
            "./setuid type=file mode=4755 uid=1000 gid=1001 time=1700000000.000000000 size=1\n",
            "./null type=char mode=0666 uid=0 gid=0 time=1700000000.000000000 device=native,1,3\n",
            "./implied/deep type=dir mode=0755 uid=0 gid=0 time=0.000000000 implied\n",
            " xattr.user.a=Ygpj xattr.trusted.x=MQ==\n",
        ] {
            assert!(record.contains(line), "{line:?} not in\n{record}");
        }
    });
}

#[test]
fn families_67_and_74_numbers_out_of_range() {
    let a = Archive::new;
    check(vec![
        ("67 major", a().entry(Header::new(b'3', b"d").device(4096, 0), b"").finish(), Fails(Status::Malformed)),
        ("67 minor", a().entry(Header::new(b'4', b"d").device(0, 1 << 20), b"").finish(), Fails(Status::Malformed)),
        ("74 -1 to chown", a().pax(&[("uid", b"4294967295")]).file(b"f", b"").finish(), Fails(Status::Malformed)),
        ("74 too large", a().pax(&[("gid", b"4294967296")]).file(b"f", b"").finish(), Fails(Status::Malformed)),
        (
            "74 negative",
            a().entry(Header::new(b'0', b"f").raw(108, b"\xff\xff\xff\xff\xff\xff\xff\xff"), b"").finish(),
            Fails(Status::Malformed),
        ),
    ]);
}

#[test]
fn families_84_to_105_framing() {
    let a = Archive::new;
    let sized = |size: u64| Header::new(b'0', b"f").number(124, 12, size);
    let many = |n: usize| (0..n).fold(a(), |archive, _| archive.pax(&[("comment", b"x")]));
    check(vec![
        (
            "84 PAX size wins",
            a().pax(&[("size", b"3")]).raw_entry(sized(0), b"abc").file(b"g", b"1").finish(),
            Tree(&["f=abc", "g=1"]),
        ),
        (
            "84 PAX size smaller",
            a().pax(&[("size", b"3")]).raw_entry(sized(2000), b"abc").file(b"g", b"1").finish(),
            Tree(&["f=abc", "g=1"]),
        ),
        (
            "85 not for the name header",
            a().pax(&[("size", b"3")])
                .entry(Header::new(b'L', b"l").gnu(), b"name\0")
                .raw_entry(sized(0), b"abc")
                .finish(),
            Tree(&["name=abc"]),
        ),
        (
            "87 malformed",
            a().entry(Header::new(b'x', b"p"), b"9 path=x\n5").file(b"f", b"").finish(),
            Fails(Status::Malformed),
        ),
        ("88 last wins", a().pax(&[("path", b"a"), ("path", b"b")]).file(b"x", b"1").finish(), Tree(&["b=1"])),
        (
            "88 two forms",
            a().pax(&[("path", b"a")]).entry(Header::new(b'L', b"l").gnu(), b"b\0").file(b"x", b"").finish(),
            Fails(Status::Malformed),
        ),
        ("90 dangling", a().file(b"f", b"").pax(&[("path", b"a")]).finish(), Fails(Status::Malformed)),
        ("90 dangling at the end", a().pax(&[("path", b"a")]).unfinished(), Fails(Status::Malformed)),
        (
            "91 wrong dialect",
            a().entry(Header::new(b'x', b"p").gnu(), &pax_record("path", b"a")).file(b"f", b"").finish(),
            Fails(Status::Malformed),
        ),
        (
            "91 bad magic",
            a().entry(Header::new(b'0', b"f").raw(257, b"ustor\x0000"), b"").finish(),
            Fails(Status::Malformed),
        ),
        ("91 v7 directory", a().entry(Header::new(0, b"d/").raw(257, &[0; 8]), b"").finish(), Tree(&["d/"])),
        ("92 sparse", a().entry(Header::new(b'S', b"f").gnu(), b"").finish(), Fails(Status::Unsupported)),
        (
            "94 huge name",
            a().raw_entry(Header::new(b'L', b"l").gnu().number(124, 12, 0o77_777_777_777), b"").finish(),
            Fails(Status::Limit),
        ),
        ("95 stacked", many(17).file(b"f", b"").finish(), Fails(Status::Limit)),
        ("95 just enough", many(16).file(b"f", b"1").finish(), Tree(&["f=1"])),
        (
            "96 global path",
            a().entry(Header::new(b'g', b"g"), &pax_record("path", b"a")).file(b"f", b"").finish(),
            Fails(Status::Malformed),
        ),
        (
            "96 global comment",
            a().entry(Header::new(b'g', b"g"), &pax_record("comment", b"a")).file(b"f", b"1").finish(),
            Tree(&["f=1"]),
        ),
        (
            "97 negative size",
            a().raw_entry(Header::new(b'0', b"f").raw(124, &[0xff; 12]), b"").finish(),
            Fails(Status::Malformed),
        ),
        (
            "98 checksum",
            a().file(b"g", b"").entry(Header::new(b'0', b"f").raw(148, b"000000\0 "), b"").finish(),
            Fails(Status::Malformed),
        ),
        ("99 no end", a().file(b"f", b"1").unfinished(), Tree(&["f=1"])),
        ("99 one block at the end", a().file(b"f", b"1").bytes(&[0; 512]).unfinished(), Tree(&["f=1"])),
        (
            "99 one block in the middle",
            a().file(b"f", b"").bytes(&[0; 512]).file(b"g", b"").finish(),
            Fails(Status::Malformed),
        ),
        ("99 more zeros", a().file(b"f", b"1").bytes(&[0; 20480]).unfinished(), Tree(&["f=1"])),
        ("99 two archives", a().file(b"f", b"1").bytes(&[0; 1024]).file(b"g", b"2").finish(), Tree(&["f=1"])),
        ("100 cut in a header", a().file(b"f", b"1").unfinished()[..700].to_vec(), Fails(Status::Malformed)),
        ("100 cut in a body", a().file(b"f", &[b'x'; 2000]).unfinished()[..1024].to_vec(), Fails(Status::Malformed)),
        ("100 cut in the padding", a().file(b"f", b"1").unfinished()[..1000].to_vec(), Fails(Status::Malformed)),
        ("101 directory with a body", a().entry(Header::new(b'5', b"d"), b"x").finish(), Fails(Status::Malformed)),
        (
            "102 duplicates",
            (0..500)
                .fold(a(), |archive, i| if i % 2 == 0 { archive.file(b"x", b"1") } else { archive.symlink(b"x", b"y") })
                .file(b"x", b"last")
                .finish(),
            Tree(&["x=last"]),
        ),
        ("68 vendor types", a().entry(Header::new(b'D', b"f").gnu(), b"").finish(), Fails(Status::Malformed)),
        ("68 contiguous", a().entry(Header::new(b'7', b"f"), b"1").finish(), Tree(&["f=1"])),
        ("104 zeros only", vec![0; 1024], Tree(&[])),
        (
            "130 exabyte",
            a().pax(&[("size", b"1152921504606846976")]).raw_entry(sized(0), b"").finish(),
            Fails(Status::Limit),
        ),
        (
            "130 overflow",
            a().pax(&[("size", b"18446744073709551615")]).raw_entry(sized(0), b"").finish(),
            Fails(Status::Limit),
        ),
    ]);
}

#[test]
fn families_106_to_115_compression() {
    let tar = Archive::new().file(b"f", &[b'x'; 3000]).finish();
    let (head, tail) = tar.split_at(700);
    let members = [gzip(head), gzip(b""), gzip(tail)].concat();
    let frames = [zstd(head), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(tail)].concat();
    let skippable_first = [b"\x5f\x2a\x4d\x18\0\0\0\0".to_vec(), zstd(&tar)].concat();
    let packed = gzip(&tar);
    let mut bad_crc = packed.clone();
    let at = bad_crc.len() - 6;
    bad_crc[at] ^= 1;
    let bomb = zstd(&vec![0; 200 << 20]);
    let ok = Anomalies::default();
    let cases: Vec<(&str, Vec<u8>, Result<Anomalies, Status>)> = vec![
        ("106 members", members, Ok(ok)),
        ("107 zeros behind", [&packed[..], &[0; 300_000]].concat(), Ok(ok)),
        ("107 garbage behind", [&packed[..], b"garbage"].concat(), Ok(Anomalies::TRAILING_COMPRESSED)),
        ("108 cut", packed[..packed.len() - 9].to_vec(), Err(Status::Malformed)),
        ("108 cut in the trailer", packed[..packed.len() - 2].to_vec(), Err(Status::Malformed)),
        ("108 bad CRC", bad_crc, Err(Status::Malformed)),
        ("108 header only", packed[..10].to_vec(), Err(Status::Malformed)),
        ("109 many empty members", [gzip(b"").repeat(20_000), packed.clone()].concat(), Ok(ok)),
        ("110 frames", frames, Ok(ok)),
        ("110 skippable first", skippable_first, Ok(ok)),
        ("110 cut", zstd(&tar)[..20].to_vec(), Err(Status::Malformed)),
        ("110 garbage behind", [zstd(&tar), b"garbage!".to_vec()].concat(), Err(Status::Malformed)),
        // Magic, a frame header of one byte that asks for a window, and 2^41 bytes of it.
        ("111 window", b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00".to_vec(), Err(Status::Limit)),
        ("112 bomb", bomb, Err(Status::Limit)),
        ("113 gzip in gzip", gzip(&packed), Err(Status::Malformed)),
        ("114 xz", b"\xfd7zXZ\0xxxxxxx".to_vec(), Err(Status::Unsupported)),
        ("114 bzip2", b"BZh9xxxxxxxx".to_vec(), Err(Status::Unsupported)),
        ("114 unknown", vec![b'?'; 2000], Err(Status::Malformed)),
        ("115 short", b"\x1f\x8b".to_vec(), Err(Status::Malformed)),
        ("115 one byte", b"x".to_vec(), Err(Status::Malformed)),
        ("104 no bytes", Vec::new(), Ok(ok)),
    ];
    for (name, blob, expected) in cases {
        let bench = Bench::new();
        let (result, tree) = bench.extract(&blob, &ExtractOptions::default());
        let found = result.as_ref().map(|done| done.anomalies).map_err(Error::status);
        assert_eq!(found, expected, "{name}: {result:?}");
        if expected.is_ok() && name != "104 no bytes" {
            assert_eq!(std::fs::read(tree.join("f")).unwrap(), [b'x'; 3000], "{name}");
            assert_eq!(result.unwrap().diff_id, Some(Digest::of(&tar)), "{name}");
        }
    }
}

#[test]
fn strict_refuses_anomalies() {
    let bench = Bench::new();
    let mut options = ExtractOptions::default();
    options.strict = true;
    let odd = [&gzip(&Archive::new().file(b"f", b"1").finish())[..], b"garbage"].concat();
    let error = bench.extract(&odd, &options).0.unwrap_err();
    assert_eq!(error.status(), Status::Malformed);
    assert!(error.message().ends_with("strict: TRAILING_COMPRESSED"), "{error}");
    bench.extract(&gzip(&Archive::new().file(b"f", b"1").finish()), &options).0.unwrap();
}

#[test]
fn strict_holds_for_a_cached_tree_too() {
    let bench = Bench::new();
    let odd = [&gzip(&Archive::new().file(b"f", b"1").finish())[..], b"garbage"].concat();
    bench.extract(&odd, &ExtractOptions::default()).0.unwrap();
    let mut options = ExtractOptions::default();
    options.strict = true;
    let strict = bench.storage.extract_layer(&Digest::of(&odd), &options);
    assert_eq!(strict.unwrap_err().status(), Status::Malformed);
    let cached = bench.storage.extract_layer(&Digest::of(&odd), &ExtractOptions::default()).unwrap();
    assert!(cached.cached && cached.anomalies.contains(Anomalies::TRAILING_COMPRESSED));
}

/// Trees are not synced: what an earlier boot left may lack what was never written.
#[test]
fn a_tree_of_another_boot_is_made_again() {
    let bench = Bench::new();
    let layer = Archive::new().file(b"d/f", b"content").finish();
    let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
    result.unwrap();
    let record = tree.with_extension("mtree");
    let text = std::fs::read_to_string(&record).unwrap();
    let boot = text.lines().find(|line| line.starts_with("# boot ")).expect("the record names the boot").to_owned();
    std::fs::write(&record, text.replace(&boot, "# boot 00000000-0000-0000-0000-000000000000")).unwrap();
    std::fs::write(tree.join("d/f"), "").unwrap();
    let again = bench.storage.extract_layer(&Digest::of(&layer), &ExtractOptions::default()).unwrap();
    assert!(!again.cached);
    assert_eq!(std::fs::read(tree.join("d/f")).unwrap(), b"content");
    assert!(std::fs::read_to_string(&record).unwrap().contains(&boot));
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

/// The record speaks of the paths that the tree has, whatever the archive called them.
#[test]
fn the_record_has_real_paths() {
    let bench = Bench::new();
    let layer = Archive::new()
        .symlink(b"lib", b"usr/lib")
        .file(b"lib/foo", b"1")
        .hardlink(b"bar", b"lib/foo")
        .hardlink(b"bar", b"bar")
        .hardlink(b"early", b"late")
        .file(b"late", b"2")
        .finish();
    let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
    assert!(result.unwrap().anomalies.contains(Anomalies::SELF_LINK));
    let record = std::fs::read_to_string(tree.with_extension("mtree")).unwrap();
    let paths: Vec<&str> = record.lines().filter_map(|line| line.strip_prefix("./")?.split(' ').next()).collect();
    assert_eq!(paths, ["lib", "usr", "usr/lib", "usr/lib/foo", "bar", "late", "early"]);
    assert!(record.contains("\n./bar type=file hardlink=./usr/lib/foo\n"), "{record}");
    assert!(record.contains("\n./early type=file hardlink=./late\n"), "{record}");
}

#[test]
fn memory_is_bounded_by_entries_and_not_by_names() {
    let long = [b'n'; 250];
    let path = std::iter::repeat_n(&long[..], 250).collect::<Vec<_>>().join(&b'/');
    let too_long = std::iter::repeat_n(&long[..], 300).collect::<Vec<_>>().join(&b'/');
    let mut many = Archive::new();
    for i in 0..12 {
        many = many.pax(&[("path", &[format!("{i}/").as_bytes(), &path].concat())]).file(b"x", b"");
    }
    check(vec![
        (
            "22 a very long path",
            Archive::new().pax(&[("path", &too_long)]).file(b"x", b"").finish(),
            Fails(Status::Limit),
        ),
        ("22 many long paths", many.finish(), Fails(Status::Limit)),
    ]);
}

/// A few symlinks whose targets go up and down a deep tree.
#[test]
fn family_132_walks_are_counted_and_can_be_ended() {
    let deep = b"a/".repeat(3900);
    let mut bomb = Archive::new().pax(&[("path", &deep)]).dir(b"x");
    for i in 0..40 {
        let name = [&deep[..], format!("s{i}").as_bytes()].concat();
        let target = ["b/../".repeat(700).as_bytes(), format!("s{}", i + 1).as_bytes()].concat();
        bomb = bomb.pax(&[("path", &[&deep[..], b"b"].concat())]).dir(b"x");
        bomb = bomb.pax(&[("path", &name), ("linkpath", &target)]).symlink(b"x", b"x");
    }
    let bomb = bomb.pax(&[("path", &[&deep[..], b"s0/f"].concat())]).file(b"x", b"").finish();
    let bench = Bench::new();
    let digest = put_layer(&bench.storage, &bomb);
    let mut options = ExtractOptions::default();
    options.interrupt = Interrupt::new(None, Some(Duration::from_secs(1)));
    let started = Instant::now();
    let error = bench.storage.extract_layer(&digest, &options).unwrap_err();
    assert!(matches!(error.status(), Status::Limit | Status::Timeout), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn family_79_attributes_are_bounded() {
    let value = vec![0; 60_000];
    let many = (0..2000).map(|i| (format!("SCHILY.xattr.user.{i}"), &b""[..])).collect::<Vec<_>>();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let mut kept = Archive::new();
    for i in 0..100 {
        let keys: Vec<String> = (0..15).map(|k| format!("SCHILY.xattr.trusted.{k}")).collect();
        let records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &value[..])).collect();
        kept = kept.pax(&records).dir(format!("d{i}").as_bytes());
    }
    check(vec![
        ("79 many", Archive::new().pax(&many).file(b"f", b"").finish(), Fails(Status::Limit)),
        ("79 kept for directories", kept.finish(), Fails(Status::Limit)),
    ]);
}

/// ext4 answers ENOSPC where an inode's attributes do not fit their one block: no full disk, and no reason to fail.
#[test]
fn family_79_attributes_that_do_not_fit_are_counted() {
    let keys: Vec<String> = (0..20).map(|k| format!("SCHILY.xattr.user.{k}")).collect();
    let records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &[7; 5000][..])).collect();
    let bench = Bench::new();
    let (result, tree) =
        bench.extract(&Archive::new().pax(&records).file(b"f", b"1").finish(), &ExtractOptions::default());
    let set = snapshot(&tree)["./f"].xattrs.len();
    assert_eq!(result.unwrap().anomalies.contains(Anomalies::SKIPPED_XATTR), set < 20, "{set} were set");
}

/// What the folder or the process would hand down has no say (families 73 and 74).
#[test]
fn family_73_umask_and_inherited_groups_do_not_matter() {
    as_each_user("layers::family_73_umask_and_inherited_groups_do_not_matter", || {
        in_own_process("layers::family_73_umask_and_inherited_groups_do_not_matter", || {
            let bench = Bench::new();
            let extracted = bench.storage.images_dir().join("extracted");
            if is_root() {
                std::os::unix::fs::chown(&extracted, None, Some(1000)).unwrap();
                std::fs::set_permissions(&extracted, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).unwrap();
            }
            // SAFETY: the child runs one test.
            unsafe { libc::umask(0o177) };
            let layer =
                Archive::new().dir(b"d").dir(b"d/e").entry(Header::new(b'0', b"d/e/f").mode(0o666), b"1").finish();
            let fresh = quick_store(&bench.canary.target().join("other"));
            let digest = put_layer(&fresh, &layer);
            fresh.extract_layer(&digest, &ExtractOptions::default()).unwrap();
            let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
            result.unwrap();
            let nodes = snapshot(&tree);
            assert_eq!((nodes["./d"].mode, nodes["./d/e/f"].mode), (0o755, 0o666));
            if is_root() {
                assert_eq!((nodes["./d"].gid, nodes["./d/e/f"].gid), (0, 0));
            }
        });
    });
}

/// Each link waits for the one after it; the last one for a file at the end.
#[test]
fn family_132_a_chain_of_forward_links_is_no_square() {
    let count = 5000;
    let mut chain = Archive::new();
    for i in 0..count {
        chain = chain.hardlink(format!("l{i:05}").as_bytes(), format!("l{:05}", i + 1).as_bytes());
    }
    let bench = Bench::new();
    let (result, tree) =
        bench.extract(&chain.file(format!("l{count:05}").as_bytes(), b"1").finish(), &ExtractOptions::default());
    result.unwrap();
    assert_eq!(std::fs::metadata(tree.join("l00000")).unwrap().nlink(), count + 1);
}

#[test]
fn device_nodes_are_made_for_root_when_asked_for() {
    let layer = Archive::new().entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"").finish();
    let bench = Bench::new();
    let mut options = ExtractOptions::default();
    options.device_nodes = true;
    let (result, tree) = bench.extract(&layer, &options);
    match result {
        Ok(done) if is_root() => {
            let node = snapshot(&tree)["./null"].clone();
            assert_eq!((node.kind, node.mode, done.anomalies.is_empty()), ("char", 0o666, true));
        }
        // Root of a container may lack the right.
        Err(error) => assert!(is_root() && error.status() == Status::Permission, "{error}"),
        Ok(done) => assert!(done.anomalies.contains(Anomalies::DEVICE_PLACEHOLDER)),
    }
}

#[test]
fn cancel_and_deadline_end_an_extraction_and_leave_nothing() {
    let bench = Bench::new();
    let layer = (0..20_000).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), b"x")).finish();
    let cancel = Cancel::new();
    cancel.trigger();
    let mut options = ExtractOptions::default();
    options.interrupt = Interrupt::new(Some(cancel), None);
    assert_eq!(bench.extract(&layer, &options).0.unwrap_err().status(), Status::Cancelled);
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(5)));
    assert_eq!(bench.extract(&layer, &options).0.unwrap_err().status(), Status::Timeout);
    let cancel = Cancel::new();
    options.interrupt = Interrupt::new(Some(cancel.clone()), None);
    let digest = put_layer(&bench.storage, &layer);
    std::thread::scope(|scope| {
        let extraction = scope.spawn(|| bench.storage.extract_layer(&digest, &options));
        std::thread::sleep(Duration::from_millis(20));
        cancel.trigger();
        // It may have been through already.
        if let Err(error) = extraction.join().unwrap() {
            assert_eq!(error.status(), Status::Cancelled);
        }
    });
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

/// What follows the archive, and data that nobody wants, is hashed for as long as the caller has patience.
#[test]
fn family_134_draining_can_be_ended() {
    let bench = Bench::new();
    let trailing = Archive::new().file(b"f", b"1").finish();
    let body =
        Archive::new().file(b"f", b"1").raw_entry(Header::new(b'1', b"l").link(b"f").number(124, 12, 7 << 30), b"");
    for (name, head) in [("after the end", trailing), ("a hard link's body", body.unfinished())] {
        let path = bench.canary.target().join("sparse");
        std::fs::write(&path, &head).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
        let mut options = ExtractOptions::default();
        options.tarball_path = Some(path);
        options.interrupt = Interrupt::new(None, Some(Duration::from_millis(300)));
        let started = Instant::now();
        let error = bench.storage.extract_layer(&Digest::of(b"whatever"), &options).unwrap_err();
        assert_eq!(error.status(), Status::Timeout, "{name}: {error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{name}: {:?}", started.elapsed());
    }
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

#[test]
fn one_of_many_extracts_and_the_others_find_the_tree() {
    let bench = Bench::new();
    let layer = (0..500).fold(Archive::new(), |archive, i| archive.file(format!("d{i}/f").as_bytes(), b"x")).finish();
    let digest = put_layer(&bench.storage, &layer);
    let store = bench.storage.images_dir().to_owned();
    let fresh = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| quick_store(&store).extract_layer(&digest, &ExtractOptions::default()).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|done| !done.cached).count()
    });
    assert_eq!(fresh, 1);
    assert_eq!(names_in(&store.join("extracted")).len(), 2);
    assert_eq!(leftovers(&store), [""; 0]);
}
