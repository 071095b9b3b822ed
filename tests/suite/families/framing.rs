//! 1E: where an entry begins and ends.

use boxlite_images::{Anomalies, Status};

use super::super::archive::{Archive, Header, pax_record};
use super::{Case, Outcome, Seen, case, fails, seen, tree};

fn a() -> Archive {
    Archive::new()
}

fn sized(size: u64) -> Header {
    Header::new(b'0', b"f").number(124, 12, size)
}

/// A PAX header whose records are these bytes.
fn raw_pax(records: &[u8]) -> Archive {
    a().entry(Header::new(b'x', b"pax"), records)
}

pub fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(records());
    cases.extend(extensions());
    cases.extend(numbers());
    cases.extend(ends());
    cases
}

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for header in [0, 1, 2000, 1 << 40] {
        let layer = a().pax(&[("size", b"3")]).raw_entry(sized(header), b"abc").file(b"g", b"1").finish();
        cases.push(case(format!("84 PAX size 3 over {header}"), layer, tree(["f=abc", "g=1"])));
    }
    // The PAX size is what the data has; a reader that takes the header's would see the archive inside.
    let inner = a().symlink(b"evil", b"/etc").finish();
    let size = inner.len().to_string();
    let smuggled = a().pax(&[("size", size.as_bytes())]).raw_entry(sized(0), &inner).file(b"g", b"1").finish();
    cases.push(case(
        "86 an archive behind a size of zero",
        smuggled,
        seen(|seen| assert!(seen.nodes.len() == 3 && !seen.has("evil"))),
    ));
    let phantom = a().pax(&[("size", b"0")]).raw_entry(sized(inner.len() as u64), b"").bytes(&inner).unfinished();
    cases.push(case(
        "86 entries that a reader of the header does not see",
        phantom,
        seen(|seen| assert!(seen.has("evil") && seen.has("f"))),
    ));
    for typeflag in [b'L', b'K'] {
        let layer = a()
            .pax(&[("size", b"3")])
            .entry(Header::new(typeflag, b"l").gnu(), b"name\0")
            .raw_entry(sized(0), b"abc")
            .file(b"g", b"1")
            .finish();
        let name = format!("85 PAX size before a {} header", typeflag as char);
        cases.push(case(name, layer, seen(|seen| assert!(seen.has("g") && seen.nodes.len() == 3))));
    }
    let twice =
        a().pax(&[("size", b"99")]).pax(&[("comment", b"x")]).raw_entry(sized(3), b"abc").file(b"g", b"1").finish();
    cases.push(case("85 PAX size before another PAX header", twice, tree(["f=abc", "g=1"])));
    for header in [Header::new(b'x', b"p"), Header::new(b'L', b"l").gnu(), Header::new(b'K', b"l").gnu()] {
        let data = if header.typeflag() == b'x' { pax_record("path", b"p") } else { b"p\0".to_vec() };
        let name = format!("85 a {} header before a global one", header.typeflag() as char);
        let global = a().entry(header, &data).entry(Header::new(b'g', b"g"), &pax_record("comment", b"x"));
        cases.push(case(
            name,
            global.file(b"g", b"1").finish(),
            seen(|seen| assert!(seen.has("g") && seen.nodes.len() == 2)),
        ));
    }
    cases
}

fn records() -> Vec<Case> {
    let mut cases = Vec::new();
    let broken: [&[u8]; 14] = [
        b"9 path=x\n5",
        b"path=x\n",
        b"0 path=x\n",
        b"1 path=x\n",
        b"8 path=x\n",
        b"11 path=x\n",
        b"99999 path=x\n",
        b"999999999999999999999999 path=x\n",
        b"18446744073709551616 path=x\n",
        b"+9 path=x\n",
        b" 9 path=x\n",
        b"0x9 path=x\n",
        b"7 path\n",
        b"5 =x\n",
    ];
    for records in broken {
        let layer = raw_pax(records).file(b"f", b"").finish();
        cases.push(case(
            format!("87 the record {:?}", String::from_utf8_lossy(records)),
            layer,
            fails(Status::Malformed),
        ));
    }
    cases.push(case(
        "88 a key twice",
        a().pax(&[("path", b"a"), ("path", b"b")]).file(b"x", b"1").finish(),
        tree(["b=1"]),
    ));
    cases.push(case(
        "88 a key in two headers",
        a().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file(b"x", b"1").finish(),
        tree(["b=1"]),
    ));
    cases.push(case(
        "88 a key in the first of two headers",
        a().pax(&[("path", b"a")]).pax(&[("comment", b"b")]).file(b"x", b"1").finish(),
        tree(["x=1"]),
    ));
    let long = |typeflag| a().entry(Header::new(typeflag, b"l").gnu(), b"b\0").unfinished();
    for (name, layer) in [
        ("PAX then GNU name", a().pax(&[("path", b"a")]).bytes(&long(b'L')).file(b"x", b"")),
        ("GNU then PAX name", a().bytes(&long(b'L')).pax(&[("path", b"a")]).file(b"x", b"")),
        ("PAX then GNU link", a().pax(&[("linkpath", b"a")]).bytes(&long(b'K')).symlink(b"x", b"")),
        ("GNU then PAX link", a().bytes(&long(b'K')).pax(&[("linkpath", b"a")]).symlink(b"x", b"")),
    ] {
        cases.push(case(format!("88 {name}"), layer.finish(), fails(Status::Malformed)));
    }
    for value in ["+5", " 5", "5 ", "0x5", "", "-1", "5.0", "18446744073709551616", "9223372036854775808"] {
        let layer = a().pax(&[("size", value.as_bytes())]).raw_entry(sized(5), b"abcde").finish();
        let status = if value.starts_with("9223") { Status::Limit } else { Status::Malformed };
        cases.push(case(format!("89 size {value:?}"), layer, fails(status)));
    }
    for key in ["path", "linkpath"] {
        let layer = a().pax(&[(key, b"")]).symlink(b"x", b"y").finish();
        cases.push(case(format!("89 an empty {key}"), layer, fails(Status::Malformed)));
    }
    for (key, value) in [
        ("comment", vec![b'c'; 1000]),
        ("charset", b"BINARY".to_vec()),
        ("hdrcharset", b"BINARY".to_vec()),
        ("VENDOR.key", vec![b'v'; 64 << 10]),
    ] {
        let layer = a().pax(&[(key, &value)]).file(b"f", b"1").finish();
        cases.push(case(format!("105 {key}"), layer, tree(["f=1"])));
    }
    cases
}

fn extensions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, head) in [
        ("PAX", a().pax(&[("path", b"a")])),
        ("GNU name", a().entry(Header::new(b'L', b"l").gnu(), b"b\0")),
        ("GNU link", a().entry(Header::new(b'K', b"l").gnu(), b"b\0")),
    ] {
        let alone = head.clone().unfinished();
        cases.push(case(format!("90 {name} at the end of the file"), alone.clone(), fails(Status::Malformed)));
        cases.push(case(format!("90 {name} before the end blocks"), head.clone().finish(), fails(Status::Malformed)));
        let across = head.bytes(&[0; 1024]).file(b"f", b"").finish();
        cases.push(case(format!("90 {name} across the end blocks"), across, fails(Status::Malformed)));
    }
    let magics: [(&str, &[u8]); 4] =
        [("v7", &[0; 8]), ("GNU", b"ustar  \0"), ("an unknown magic", b"ustarXYZ"), ("Docker of 2014", b"ustar\0 \0")];
    for (name, magic) in magics {
        for (typeflag, data, expected) in [
            (b'x', pax_record("path", b"p"), "p=1"),
            (b'g', pax_record("comment", b"x"), "n=1"),
            (b'L', b"p\0".to_vec(), "p=1"),
            (b'V', Vec::new(), "n=1"),
            (b'0', Vec::new(), "n=1"),
        ] {
            let header = Header::new(typeflag, b"n").raw(257, magic);
            let layer = a().entry(header, &data).file(b"n", b"1").finish();
            cases.push(case(format!("91 {} under {name}", typeflag as char), layer, tree([expected])));
        }
    }
    let v7 = |name: &[u8]| Header::new(0, name).raw(257, &[0; 8]).mode(0o755);
    cases.push(case(
        "91 a v7 directory",
        a().entry(v7(b"d/"), b"").entry(v7(b"d/f"), b"1").finish(),
        tree(["d/", "d/f=1"]),
    ));
    cases.push(case(
        "93 holes of Solaris",
        a().pax(&[("SUN.holesdata", b" 0 512")]).file(b"f", b"1").finish(),
        fails(Status::Malformed),
    ));
    cases.push(case("93 a Solaris header", a().entry(Header::new(b'X', b"f"), b"").finish(), fails(Status::Malformed)));
    for typeflag in [b'x', b'g', b'L', b'K'] {
        for size in [(1 << 20) + 1, 8 << 30] {
            let header = Header::new(typeflag, b"l").number(124, 12, size);
            let header = if matches!(typeflag, b'L' | b'K') { header.gnu() } else { header };
            let layer = a().raw_entry(header, b"").finish();
            cases.push(case(format!("94 {size} bytes of {}", typeflag as char), layer, fails(Status::Limit)));
        }
    }
    let stacked = |n: usize| (0..n).fold(a(), |archive, _| archive.pax(&[("comment", b"x")]));
    cases.push(case("95 sixteen headers", stacked(16).file(b"f", b"1").finish(), tree(["f=1"])));
    cases.push(case("95 seventeen headers", stacked(17).file(b"f", b"1").finish(), fails(Status::Limit)));
    cases.push(case("95 nothing but headers", stacked(40).finish(), fails(Status::Limit)));
    let global =
        |key: &str, value: &[u8]| a().entry(Header::new(b'g', b"g"), &pax_record(key, value)).file(b"f", b"1").finish();
    let ignored = |seen: &Seen| assert!(seen.has_anomaly(Anomalies::IGNORED_HEADER) && seen.has("f"));
    for key in ["comment", "charset", "mtime", "uid", "VENDOR.x"] {
        cases.push(case(format!("96 a global {key}"), global(key, b"1"), seen(ignored)));
    }
    for key in ["path", "size", "linkpath", "GNU.sparse.major", "GNU.sparse.name"] {
        cases.push(case(format!("96 a global {key}"), global(key, b"1"), fails(Status::Malformed)));
    }
    cases
}

fn numbers() -> Vec<Case> {
    let with_size =
        |field: &[u8]| a().raw_entry(Header::new(b'0', b"f").raw(124, field), b"abc").file(b"g", b"1").finish();
    let mut cases = Vec::new();
    let good: [&[u8]; 8] = [
        b"\0\0\0\0\0\0\0\0\0\x003\0",
        b"3\0garbage\0\0\0",
        b"00000000003\0",
        b"          3\0",
        b"3          \0",
        b"00000000003 ",
        b"000000000003",
        b"\x80\0\0\0\0\0\0\0\0\0\0\x03",
    ];
    for field in good {
        cases.push(case(
            format!("97 size {:?}", String::from_utf8_lossy(field)),
            with_size(field),
            tree(["f=abc", "g=1"]),
        ));
    }
    for (name, field) in [
        ("-1", &[0xff; 12][..]),
        ("-2^95", b"\xc0\0\0\0\0\0\0\0\0\0\0\0"),
        ("2^63", b"\x80\0\0\0\x80\0\0\0\0\0\0\0"),
        ("2^94", b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("letters", b"three\0\0\0\0\0\0\0"),
        ("a sign", b"+3\0\0\0\0\0\0\0\0\0\0"),
        ("an 8", b"00000000008\0"),
    ] {
        cases.push(case(format!("97 size {name}"), with_size(field), fails(Status::Malformed)));
    }
    cases.push(case(
        "97 size of spaces",
        a().raw_entry(Header::new(b'0', b"f").raw(124, b"            "), b"").finish(),
        tree(["f"]),
    ));
    for (name, checksum) in [("wrong", &b"000000\0 "[..]), ("letters", b"zzzzzz\0 "), ("off by one", b"007777\0 ")] {
        let layer = a().entry(Header::new(b'0', b"f").raw(148, checksum), b"").finish();
        cases.push(case(format!("98 a checksum that is {name}"), layer, fails(Status::Malformed)));
    }
    // A signed sum, as old writers made it of names with high bytes.
    let mut signed = a().file(b"caf\xe9", b"").finish();
    signed[148..156].fill(b' ');
    let sum: i32 = signed[..512].iter().map(|&b| i32::from(b as i8)).sum();
    signed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    cases.push(case("98 a signed checksum", signed, Outcome::Accepted));
    let mut damaged = a().file(b"f", b"1").file(b"g", b"2").finish();
    damaged[1024 + 5] ^= 1;
    cases.push(case("98 a flipped bit in a later header", damaged, fails(Status::Malformed)));
    cases
}

fn ends() -> Vec<Case> {
    let f = || a().file(b"f", b"1");
    let trailing = |seen: &Seen| assert!(seen.has_anomaly(Anomalies::TRAILING_ARCHIVE) && seen.nodes.len() == 2);
    let quiet = |seen: &Seen| assert!(seen.done.anomalies.is_empty() && seen.nodes.len() == 2);
    let mut cases = vec![
        case("99 no end blocks", f().unfinished(), seen(quiet)),
        case("99 one end block", f().bytes(&[0; 512]).unfinished(), seen(quiet)),
        case("99 zeros after the end", f().bytes(&[0; 20480]).unfinished(), seen(quiet)),
        case("99 zeros of no whole block", f().bytes(&[0; 1024 + 100]).unfinished(), seen(quiet)),
        case(
            "99 one block of zeros, then data",
            f().bytes(&[0; 512]).file(b"g", b"2").finish(),
            fails(Status::Malformed),
        ),
        case("99 garbage after the end", f().bytes(&[0; 1024]).bytes(b"garbage").unfinished(), seen(trailing)),
        case("99 two archives", f().bytes(&[0; 1024]).file(b"g", b"2").finish(), seen(trailing)),
        case("104 nothing but zeros", vec![0; 1024], seen(|seen| assert_eq!(seen.nodes.len(), 1))),
        case("104 ten KiB of zeros", vec![0; 10240], seen(|seen| assert_eq!(seen.nodes.len(), 1))),
        case("104 one block of zeros", vec![0; 512], seen(|seen| assert_eq!(seen.nodes.len(), 1))),
    ];
    let whole = a().file(b"f", &[b'x'; 1000]).file(b"g", b"1").unfinished();
    for cut in [513, 1000, 1511, 1535, 1536 + 100, 1536 + 511] {
        let layer = whole[..cut].to_vec();
        cases.push(case(format!("100 cut after {cut} bytes"), layer, fails(Status::Malformed)));
    }
    let long = a().pax(&[("path", &[b'p'; 700])]).file(b"f", b"1").unfinished();
    for cut in [600, 1100] {
        cases.push(case(
            format!("100 cut in a PAX header after {cut} bytes"),
            long[..cut].to_vec(),
            fails(Status::Malformed),
        ));
    }
    for (name, typeflag) in [("directory", b'5'), ("symlink", b'2'), ("fifo", b'6'), ("device", b'3')] {
        let header = || Header::new(typeflag, b"x").link(b"y");
        // It has none, so that what stands there is a header that does not hold.
        let layer = a().entry(header(), b"body").file(b"g", b"1").finish();
        cases.push(case(format!("101 a {name} with a body"), layer, fails(Status::Malformed)));
        let layer = a().raw_entry(header().number(124, 12, 4), b"").file(b"g", b"1").finish();
        let both = |seen: &Seen| assert!(seen.has("x") && seen.node("g").size == 1);
        cases.push(case(format!("101 a {name} with a size"), layer, seen(both)));
    }
    for count in [2usize, 3, 10_000] {
        let many = (0..count).fold(a(), |archive, i| archive.file(b"f", i.to_string().as_bytes()));
        cases.push(case(format!("102 one path {count} times"), many.finish(), tree([format!("f={}", count - 1)])));
    }
    let mixed = (0..300).fold(a().file(b"other", b"1"), |archive, i| match i % 5 {
        0 => archive.file(b"x", b"1"),
        1 => archive.dir(b"x").file(b"x/y", b"1"),
        2 => archive.symlink(b"x", b"other"),
        3 => archive.hardlink(b"x", b"other"),
        _ => archive.entry(Header::new(b'6', b"x"), b""),
    });
    cases.push(case(
        "102 one path 300 times, of every type",
        mixed.finish(),
        seen(|seen| assert_eq!(seen.node("x").kind, "fifo")),
    ));
    cases
}
