//! 1A: names, and what a path leads to.

use boxlite_images::Status;

use super::super::archive::{Archive, Header};
use super::{Case, Outcome, case, fails, seen, tree};

fn a() -> Archive {
    Archive::new()
}

/// The same entry, its name carried in each way that tar has.
fn carriers(header: &dyn Fn(&[u8]) -> Header, name: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let long = [name, b"\0"].concat();
    let mut found = vec![
        ("PAX", a().pax(&[("path", name)]).entry(header(b"x"), b"").finish()),
        ("GNU", a().entry(Header::new(b'L', b"././@LongLink").gnu(), &long).entry(header(b"x"), b"").finish()),
    ];
    if name.len() <= 100 {
        found.push(("ustar", a().entry(header(name), b"").finish()));
    }
    found
}

fn file(name: &[u8]) -> Header {
    Header::new(b'0', name)
}

pub fn cases() -> Vec<Case> {
    let mut cases = absolute_and_relative();
    cases.extend(roots());
    cases.extend(through_links());
    cases.extend(replaced_parents());
    cases.extend(links_as_they_are());
    cases.extend(lengths());
    cases.extend(odd_names());
    cases
}

fn absolute_and_relative() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, path) in
        [("/etc/x", "etc/x"), ("//tmp/moo", "tmp/moo"), ("/./a/x", "a/x"), ("///x/y", "x/y"), ("/a/../b/x", "b/x")]
    {
        for (carrier, layer) in carriers(&file, name.as_bytes()) {
            let dir = format!("{}/", path.split('/').next().unwrap());
            cases.push(case(format!("1 absolute {name} in {carrier}"), layer, tree([dir, path.to_owned()])));
        }
    }
    type Make = fn(&[u8]) -> Header;
    let types: [(&str, Make); 3] = [
        ("file", |name| Header::new(b'0', name)),
        ("directory", |name| Header::new(b'5', name)),
        ("symlink", |name| Header::new(b'2', name).link(b"/etc")),
    ];
    for name in ["../x", "a/../../x", "..", "../../x", "/..", "/../etc/passwd", "./../x", "a/b/../../../x"] {
        for (kind, header) in &types {
            for (carrier, layer) in carriers(header, name.as_bytes()) {
                cases.push(case(format!("2 {kind} {name} in {carrier}"), layer, fails(Status::UnsafePath)));
            }
        }
    }
    for (name, path) in [
        ("a/../b/x", "b/x"),
        ("./a/x", "a/x"),
        ("a//x", "a/x"),
        ("a/./x", "a/x"),
        ("a/.//./x", "a/x"),
        ("a/b/../x", "a/x"),
        (".//a/x", "a/x"),
    ] {
        for (carrier, layer) in carriers(&file, name.as_bytes()) {
            let dir = format!("{}/", path.split('/').next().unwrap());
            cases.push(case(format!("3 {name} in {carrier}"), layer, tree([dir, path.to_owned()])));
        }
    }
    cases.push(case("3 a trailing slash", a().dir(b"a/").dir(b"b//").finish(), tree(["a/", "b/"])));
    cases
}

fn roots() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [".", "./", "/", "//", "a/..", "./."] {
        let layer = a().entry(Header::new(b'5', name.as_bytes()).mode(0o711), b"").file(b"f", b"1").finish();
        let check = |seen: &super::Seen| assert_eq!((seen.nodes["."].mode, seen.nodes.len()), (0o711, 2));
        cases.push(case(format!("4 the root as {name}"), layer, seen(check)));
        for (kind, typeflag) in
            [("file", b'0'), ("hard link", b'1'), ("symlink", b'2'), ("device", b'3'), ("fifo", b'6')]
        {
            let layer = a().file(b"f", b"1").entry(Header::new(typeflag, name.as_bytes()).link(b"f"), b"").finish();
            cases.push(case(format!("4 the root {name} as a {kind}"), layer, fails(Status::Malformed)));
        }
    }
    for (kind, typeflag) in [("file", b'0'), ("directory", b'5'), ("symlink", b'2'), ("hard link", b'1')] {
        let layer = a().entry(Header::new(typeflag, b"").link(b"/etc"), b"").finish();
        cases.push(case(format!("5 an empty name of a {kind}"), layer, fails(Status::Malformed)));
    }
    let chain = a().symlink(b"a", b"").symlink(b"", b"a").file(b"", b"x").finish();
    cases.push(case("5 a chain of empty names", chain, fails(Status::Malformed)));
    let gnu = a().entry(Header::new(b'L', b"l").gnu(), b"\0").file(b"x", b"").finish();
    cases.push(case("5 an empty GNU name", gnu, fails(Status::Malformed)));
    cases
}

/// What attackers put behind a symlink.
fn payloads(path: &[u8]) -> Vec<(&'static str, Archive)> {
    vec![
        ("a file", a().file(path, b"x")),
        ("a directory", a().entry(Header::new(b'5', path).mode(0o777), b"")),
        ("a symlink", a().symlink(path, b"/etc/passwd")),
        ("a hard link", a().file(b"own", b"1").hardlink(path, b"own")),
        ("a fifo", a().entry(Header::new(b'6', path), b"")),
        ("a device", a().entry(Header::new(b'3', path).device(1, 3), b"")),
    ]
}

fn through_links() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in ["/", "..", "../..", "../../../../../../..", "/..", "../flag", "/etc", "../etc", "../target-evil"] {
        for (what, payload) in payloads(b"l/passwd") {
            let link = a().symlink(b"l", target.as_bytes());
            let family = if what == "a directory" { 7 } else { 6 };
            let layer = link.bytes(&payload.unfinished()).finish();
            cases.push(case(format!("{family} {what} behind a link to {target}"), layer, Outcome::Accepted));
        }
    }
    for (name, first) in [
        ("current and parent", a().symlink(b"current", b".").symlink(b"l", b"current/..")),
        ("three deep", a().symlink(b"c", b".").symlink(b"d", b"c/..").symlink(b"l", b"d/../..")),
        ("up from a directory", a().dir(b"x/y").symlink(b"x/y/up", b"../../..").symlink(b"l", b"x/y/up")),
    ] {
        let layer = first.file(b"l/flag", b"1").finish();
        cases.push(case(
            format!("8 a chain that is outside only in the kernel: {name}"),
            layer,
            seen(|seen| assert!(seen.has("flag"))),
        ));
    }
    let missing = [b"no/".repeat(20), b"../".repeat(40), b"etc".to_vec()].concat();
    let layer = a().pax(&[("linkpath", &missing)]).symlink(b"l", b"x").file(b"l/x", b"1").finish();
    cases.push(case("9 a target that does not exist on the way up", layer, Outcome::Contained));
    cases.push(case(
        "10 a path longer than PATH_MAX through short links",
        path_max(b"../../../../etc"),
        Outcome::Contained,
    ));
    cases.push(case("10 the same to the root", path_max(b"/"), Outcome::Contained));
    for name in ["x/", "x//", "./x/"] {
        let layer = a().symlink(name.as_bytes(), b"..").file(b"x/flag", b"1").finish();
        cases.push(case(format!("11 a link called {name}"), layer, tree(["flag=1", "x->.."])));
    }
    for target in ["../flag", "/etc", "..", "nowhere"] {
        let directory = Header::new(b'5', b"x").mode(0o700);
        let layer = a().symlink(b"x", target.as_bytes()).entry(directory, b"").file(b"x/f", b"1").finish();
        let check = |seen: &super::Seen| assert_eq!((seen.node("x").kind, seen.node("x").mode), ("dir", 0o700));
        cases.push(case(format!("12 a link to {target} becomes a directory"), layer, seen(check)));
    }
    for (name, target) in [("1 a sibling with the same prefix", "../target-evil"), ("2 deeper", "../../target-evil/x")]
    {
        let layer = a().symlink(b"l", target.as_bytes()).file(b"l/x", b"1").finish();
        cases.push(case(format!("15 {name}"), layer, Outcome::Accepted));
    }
    cases.push(case(
        "16 a relative escape, then an absolute link",
        a().symlink(b"e", b"..").symlink(b"e/abs", b"/target").file(b"e/abs/f", b"1").finish(),
        tree(["abs->/target", "e->..", "target/", "target/f=1"]),
    ));
    for (name, layer) in [
        ("itself", a().symlink(b"a", b"a")),
        ("each other", a().symlink(b"a", b"b").symlink(b"b", b"a")),
        ("itself from below", a().symlink(b"a", b"a/b")),
        (
            "a ring of 300",
            (0..300).fold(a().symlink(b"a", b"l0"), |a, i| {
                a.symlink(format!("l{i}").as_bytes(), format!("l{}", (i + 1) % 300).as_bytes())
            }),
        ),
    ] {
        cases.push(case(format!("17 below a link to {name}"), layer.file(b"a/x", b"").finish(), fails(Status::Limit)));
    }
    let hops = |n: usize| {
        let chain = (0..n).fold(a(), |a, i| a.symlink(format!("l{i}").as_bytes(), format!("l{}", i + 1).as_bytes()));
        chain.dir(format!("l{n}").as_bytes()).file(b"l0/x", b"1").finish()
    };
    cases.push(case("17 forty hops", hops(40), Outcome::Accepted));
    cases.push(case("17 forty-one hops", hops(41), fails(Status::Limit)));
    cases.push(case(
        "17 a loop that is overwritten",
        a().symlink(b"dash", b"dash").file(b"dash", b"1").finish(),
        tree(["dash=1"]),
    ));
    cases
}

fn path_max(end: &[u8]) -> Vec<u8> {
    let long = vec![b'n'; 250];
    let mut layer = a();
    let mut at = Vec::new();
    for i in 0..16u8 {
        let dir = [&at[..], &long].concat();
        let short = [&at[..], &[b'a' + i]].concat();
        layer =
            layer.pax(&[("path", &dir)]).dir(b"x").pax(&[("path", &short), ("linkpath", &long)]).symlink(b"x", b"x");
        at = [&short[..], b"/"].concat();
    }
    let last = [&at[..], &vec![b'l'; 254]].concat();
    let up = [b"../".repeat(16), end.to_vec()].concat();
    let through = [&last[..], b"/passwd"].concat();
    layer
        .pax(&[("path", &last), ("linkpath", &up)])
        .symlink(b"x", b"x")
        .pax(&[("path", &through)])
        .file(b"x", b"x")
        .finish()
}

fn replaced_parents() -> Vec<Case> {
    let nothing_deferred = |seen: &super::Seen| assert_eq!(seen.node("x").kind, "symlink");
    let mut cases = vec![
        case(
            "13 a directory that is a link again at the end",
            a().entry(Header::new(b'5', b"x").mode(0o777), b"").file(b"x/f", b"").symlink(b"x", b"..").finish(),
            seen(nothing_deferred),
        ),
        case(
            "13 link, directory, link",
            a().symlink(b"x", b"../etc").entry(Header::new(b'5', b"x").mode(0), b"").symlink(b"x", b"../etc").finish(),
            seen(nothing_deferred),
        ),
        case(
            "13 a directory below one that is replaced",
            a().dir(b"d").entry(Header::new(b'5', b"d/x").mode(0o777), b"").symlink(b"d", b"..").finish(),
            seen(|seen| assert!(!seen.has("d/x"))),
        ),
        case(
            "14 a parent that is replaced under a cache",
            a().dir(b"foo")
                .file(b"foo/tmp/x", b"1")
                .symlink(b"foo", b"/")
                .file(b"foo/tmp/x", b"2")
                .dir(b"foo")
                .file(b"foo/tmp/x", b"3")
                .finish(),
            tree(["foo/", "foo/tmp/", "foo/tmp/x=3", "tmp/", "tmp/x=2"]),
        ),
        case(
            "14 a grandparent that is replaced",
            a().file(b"a/b/c/f", b"1").file(b"a", b"2").file(b"a/b/c/f", b"3").finish(),
            tree(["a/", "a/b/", "a/b/c/", "a/b/c/f=3"]),
        ),
        case(
            "14 a link on the way that turns elsewhere",
            a().dir(b"one")
                .dir(b"two")
                .symlink(b"l", b"one")
                .file(b"l/f", b"1")
                .symlink(b"l", b"two")
                .file(b"l/f", b"2")
                .finish(),
            tree(["l->two", "one/", "one/f=1", "two/", "two/f=2"]),
        ),
    ];
    for (target, made) in [("/dne", "dne/f"), ("dne", "dne/f"), ("/a/b/c", "a/b/c/f"), ("../../dne", "dne/f")] {
        let layer = a().symlink(b"localetc", target.as_bytes()).file(b"localetc/f", b"1").finish();
        cases.push(case(
            format!("18 a parent that is a link to nothing, {target}"),
            layer,
            seen(move |seen| assert_eq!((seen.node(made).kind, seen.node("localetc").kind), ("file", "symlink"))),
        ));
    }
    cases.push(case(
        "19 a parent that is a link to a directory",
        a().dir(b"usr/lib").symlink(b"lib", b"usr/lib").file(b"lib/systemd/x", b"1").finish(),
        tree(["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/systemd/", "usr/lib/systemd/x=1"]),
    ));
    cases.push(case(
        "19 the same, of a lower layer",
        a().symlink(b"lib", b"usr/lib").file(b"lib/systemd/x", b"1").finish(),
        tree(["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/systemd/", "usr/lib/systemd/x=1"]),
    ));
    for (kind, header) in [
        ("file", Header::new(b'0', b"p")),
        ("fifo", Header::new(b'6', b"p")),
        ("device", Header::new(b'4', b"p").device(8, 0)),
    ] {
        let layer = a().entry(header, b"").file(b"p/c/d", b"2").finish();
        cases.push(case(format!("20 a {kind} as a parent"), layer, tree(["p/", "p/c/", "p/c/d=2"])));
    }
    cases
}

fn links_as_they_are() -> Vec<Case> {
    let mut cases = Vec::new();
    let targets: [&[u8]; 8] = [
        b"/etc/passwd",
        b"../../../../../../../../../../etc/pki/java/cacerts",
        b"\xff\xfe\x80",
        b" ",
        b"a//b/./c/",
        b"..",
        b".",
        &[b't'; 4095],
    ];
    for target in targets {
        let layer = a().pax(&[("linkpath", target)]).symlink(b"l", b"x").finish();
        let expected = String::from_utf8_lossy(target).into_owned();
        let name = format!("21 a target of {} bytes, {}", target.len(), &expected[..expected.len().min(40)]);
        cases.push(case(name, layer, seen(move |seen| assert_eq!(seen.node("l").content, expected))));
    }
    cases.push(case("21 an empty target", a().symlink(b"l", b"").finish(), fails(Status::Malformed)));
    cases.push(case(
        "21 a NUL in a target",
        a().pax(&[("linkpath", b"a\0b")]).symlink(b"l", b"").finish(),
        fails(Status::Malformed),
    ));
    cases.push(case(
        "21 a target of 4,096 bytes",
        a().pax(&[("linkpath", &[b't'; 4096])]).symlink(b"l", b"").finish(),
        fails(Status::Limit),
    ));
    cases
}

fn lengths() -> Vec<Case> {
    let named = |path: &[u8]| a().pax(&[("path", path)]).file(b"x", b"1").finish();
    let deep = |n: usize| [&b"d/".repeat(n)[..], b"f"].concat();
    let wide = |n: usize| [&[b"n".repeat(250), b"/".to_vec()].concat().repeat(n)[..], b"f"].concat();
    vec![
        case("22 a component of 255 bytes", named(&[b'x'; 255]), Outcome::Accepted),
        case("22 a component of 256 bytes", named(&[b'x'; 256]), fails(Status::Limit)),
        case(
            "22 a component of 256 bytes on the way",
            named(&[&[b'x'; 256][..], b"/f"].concat()),
            fails(Status::Limit),
        ),
        case("22 a path of 5,000 bytes", named(&wide(20)), Outcome::Accepted),
        case("22 a path of 60,000 bytes", named(&wide(238)), Outcome::Accepted),
        case("22 a path over the limit of its length", named(&wide(300)), fails(Status::Limit)),
        case("22 a depth of 2,000", named(&deep(2000)), Outcome::Accepted),
        case("22 a depth of 4,095 and a file", named(&deep(4095)), Outcome::Accepted),
        case("22 a depth of 4,096 and a file", named(&deep(4096)), fails(Status::Limit)),
        case("22 222,371 components", named(&deep(222_370)), fails(Status::Limit)),
        case("23 a NUL in a PAX path", named(b"a\0b"), fails(Status::Malformed)),
        case(
            "23 bytes after the NUL of a GNU name",
            a().entry(Header::new(b'L', b"l").gnu(), b"name\0junk/../..")
                .entry(Header::new(b'0', b"x").gnu(), b"1")
                .finish(),
            tree(["name=1"]),
        ),
        case(
            "23 bytes after the NUL of a GNU link",
            a().entry(Header::new(b'K', b"l").gnu(), b"to\0junk").entry(Header::new(b'2', b"x").gnu(), b"").finish(),
            tree(["x->to"]),
        ),
        case("23 bytes after the NUL of a ustar name", a().file(b"name\0junk", b"1").finish(), tree(["name=1"])),
    ]
}

fn odd_names() -> Vec<Case> {
    let mut cases = Vec::new();
    let odd: [&[u8]; 14] = [
        b"\xff\xfe",
        b"caf\xe9",
        b"a\nb",
        b"a\tb",
        b"\x1b[31mred",
        b"a\\b",
        b"a:b",
        b"\x7f",
        b"-rf",
        b"a b",
        b"*?[",
        b"%n%s",
        "\u{202e}gpj.exe".as_bytes(),
        b"#=\\040",
    ];
    for name in odd {
        let expected = name.to_vec();
        let layer = a().file(name, b"1").finish();
        let check = move |seen: &super::Seen| {
            use std::os::unix::ffi::OsStrExt as _;
            let found = std::fs::read_dir(&seen.tree).unwrap().next().unwrap().unwrap().file_name();
            assert_eq!(found.as_bytes(), expected);
            assert_eq!(seen.entries[0].path, expected);
        };
        cases.push(case(format!("24 the name {name:?}"), layer, seen(check)));
    }
    for name in ["12345", "0", "007", "1e5"] {
        let layer = a().pax(&[("path", name.as_bytes())]).file(b"x", b"1").finish();
        cases.push(case(format!("25 the name {name}"), layer, tree([format!("{name}=1")])));
    }
    for (one, other) in [
        ("\u{e9}", "e\u{301}"),
        ("\u{f1}", "n\u{303}"),
        ("\u{fb00}", "FF"),
        ("\u{df}", "SS"),
        ("\u{df}", "ss"),
        ("\u{131}", "i"),
        ("\u{212a}", "K"),
        ("\u{3c3}", "\u{3c2}"),
        ("\u{1e9e}", "\u{df}"),
        ("\u{fb01}", "fi"),
        ("\u{ac00}", "\u{1100}\u{1161}"),
    ] {
        for (first, second) in [(one, other), (other, one)] {
            let layer = a().file(first.as_bytes(), b"1").symlink(second.as_bytes(), b"/etc").finish();
            let name = format!("26 {first:?} and {second:?}");
            cases.push(case(name, layer, seen(|seen| assert_eq!(seen.nodes.len(), 3))));
        }
    }
    for (one, other) in [("PAM.7.gz", "pam.7.gz"), ("README", "readme"), ("Dir", "dir")] {
        let layer = a().file(one.as_bytes(), b"1").symlink(other.as_bytes(), one.as_bytes()).finish();
        cases.push(case(
            format!("27 {one} and {other}"),
            layer,
            seen(move |seen| assert_eq!((seen.node(one).kind, seen.node(other).kind), ("file", "symlink"))),
        ));
    }
    for name in ["C:..\\x", "C:\\x", "\\\\server\\share", "CON", "NUL.txt", "aux"] {
        let layer = a().file(name.as_bytes(), b"1").finish();
        cases.push(case(format!("28 the name {name}"), layer, tree([format!("{name}=1")])));
    }
    cases
}
