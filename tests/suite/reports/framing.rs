//! Report 11: where an entry begins, what it is called and how long it is. Layers are written and
//! read by Go's archive/tar. So its reading is stated here for each header and, where a Go is
//! there, asked of it. Where ours differs, the row says why. What an entry is called and how long
//! it is shows in the record. Where it begins shows in its content and in the entry behind it.

use std::ffi::OsStr;

use boxlite_images::{Anomalies, ExtractOptions, LayerEntryKind, Status};

use super::super::archive::{Archive, Header, pax_record};
use super::super::families::entries;
use super::super::support::{digest_of, has_tool, put_layer, quick_store, repository, run, temp_dir};

/// A reading of an archive: an entry a line, `error` for its end.
type Reading = &'static [&'static str];

enum Ours {
    /// As Go does.
    Same,
    /// Otherwise: what, and why.
    Refused(Status, &'static str),
    Read(Reading, &'static str),
}
use Ours::{Read, Refused, Same};

fn a() -> Archive {
    Archive::new()
}

fn file(name: &[u8]) -> Header {
    Header::new(b'0', name)
}

fn sized(header: Header, size: u64) -> Header {
    header.number(124, 12, size)
}

/// A header and `g`, which shows where the next one is looked for.
fn before_g(header: Header, data: &[u8]) -> Vec<u8> {
    a().raw_entry(header, data).file(b"g", b"1").finish()
}

const G: &str = r#"0 "g" 1 "" "1""#;

/// Types without data whose size is not zero, with no data behind them (a hard link as pax and cpio wrote it).
fn types_without_data() -> Vec<(String, Vec<u8>, Reading, Ours)> {
    let mut rows = Vec::new();
    let of = |typeflag: u8, name: &[u8]| sized(Header::new(typeflag, name).link(b"t").device(1, 3), 5);
    for (name, header, go) in [
        ("a hard link", of(b'1', b"l"), &[r#"1 "l" 0 "t" """#, G][..]),
        ("a symlink", of(b'2', b"l"), &[r#"2 "l" 0 "t" """#, G]),
        ("a character device", of(b'3', b"c").link(b"\0"), &[r#"3 "c" 0 "" """#, G]),
        ("a block device", of(b'4', b"b").link(b"\0"), &[r#"4 "b" 0 "" """#, G]),
        ("a directory", of(b'5', b"d/").link(b"\0"), &[r#"5 "d" 0 "" """#, G]),
        ("a FIFO", of(b'6', b"f").link(b"\0"), &[r#"6 "f" 0 "" """#, G]),
        ("a v7 directory", sized(Header::new(0, b"d/"), 5).raw(257, &[0; 8]), &[r#"5 "d" 0 "" """#, G]),
    ] {
        rows.push((format!("{name} with a size"), before_g(header, b""), go, Same));
    }
    rows.push((
        "a hard link with a size by PAX".into(),
        a().pax(&[("size", b"512")]).raw_entry(Header::new(b'1', b"l").link(b"t"), b"").file(b"g", b"1").finish(),
        &[r#"1 "l" 0 "t" """#, G],
        Same,
    ));
    rows.push((
        "a hard link with a negative size".into(),
        before_g(Header::new(b'1', b"l").link(b"t").raw(124, &[0xff; 12]), b""),
        &[r#"1 "l" 0 "t" """#, G],
        Same,
    ));
    rows.push((
        "a hard link with a size that is none".into(),
        before_g(Header::new(b'1', b"l").link(b"t").raw(124, b"five\0\0\0\0\0\0\0\0"), b""),
        &["error"],
        Refused(Status::Malformed, "as Go"),
    ));
    rows.push((
        "a hard link with data".into(),
        before_g(sized(Header::new(b'1', b"l").link(b"t"), 5), b"hello"),
        &[r#"1 "l" 0 "t" """#, "error"],
        Refused(Status::Malformed, "as Go: its data are taken for a header"),
    ));
    rows
}

fn extended_headers() -> Vec<(String, Vec<u8>, Reading, Ours)> {
    let long =
        |typeflag: u8, name: &[u8]| Header::new(typeflag, b"././@LongLink").gnu().number(124, 12, name.len() as u64);
    let x = |records: &[(&str, &[u8])]| a().pax(records);
    let global = |archive: Archive, key: &str| archive.entry(Header::new(b'g', b"g"), &pax_record(key, b"x"));
    let magic = |header: Header, magic: &[u8]| header.raw(257, magic);
    let v7: &[u8] = &[0; 8];
    let odd: &[u8] = b"ustarXYZ";
    let mut rows: Vec<(String, Vec<u8>, Reading, Ours)> = vec![
        ("one x".into(), x(&[("path", b"p")]).file(b"n", b"1").finish(), &[r#"0 "p" 1 "" "1""#], Same),
        (
            "two x, of which the later says nothing of the name".into(),
            x(&[("path", b"p")]).pax(&[("comment", b"c")]).file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Same,
        ),
        (
            "two x, each with a size".into(),
            x(&[("size", b"700")])
                .pax(&[("size", b"3")])
                .raw_entry(sized(file(b"n"), 0), b"abc")
                .file(b"g", b"1")
                .finish(),
            &[r#"0 "n" 3 "" "abc""#, G],
            Same,
        ),
        (
            "an x with a size before one without".into(),
            x(&[("size", b"700")])
                .pax(&[("path", b"p")])
                .raw_entry(sized(file(b"n"), 3), b"abc")
                .file(b"g", b"1")
                .finish(),
            &[r#"0 "p" 3 "" "abc""#, G],
            Same,
        ),
        (
            "an x before a global header".into(),
            global(x(&[("path", b"p")]), "comment").file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Same,
        ),
        (
            "an L before a global header".into(),
            global(a().raw_entry(long(b'L', b"p"), b"p"), "comment").file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Same,
        ),
        (
            "a K before a global header".into(),
            global(a().raw_entry(long(b'K', b"p"), b"p"), "comment").symlink(b"n", b"t").finish(),
            &[r#"2 "n" 0 "t" """#],
            Same,
        ),
        (
            "two L".into(),
            a().raw_entry(long(b'L', b"p"), b"p").raw_entry(long(b'L', b"q"), b"q").file(b"n", b"1").finish(),
            &[r#"0 "q" 1 "" "1""#],
            Same,
        ),
        (
            "two K".into(),
            a().raw_entry(long(b'K', b"p"), b"p").raw_entry(long(b'K', b"q"), b"q").symlink(b"n", b"t").finish(),
            &[r#"2 "n" 0 "q" """#],
            Same,
        ),
        (
            "L and K".into(),
            a().raw_entry(long(b'L', b"p"), b"p").raw_entry(long(b'K', b"q"), b"q").symlink(b"n", b"t").finish(),
            &[r#"2 "p" 0 "q" """#],
            Same,
        ),
        (
            "an L that ends at a NUL".into(),
            a().raw_entry(long(b'L', b"p\0xx"), b"p\0xx").file(b"n", b"1").finish(),
            &[r#"0 "p" 1 "" "1""#],
            Same,
        ),
        (
            "an L of nothing".into(),
            a().raw_entry(long(b'L', b"\0"), b"\0").file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Refused(Status::Malformed, "family 5: an empty name is an attack"),
        ),
        (
            "a path by x and by L".into(),
            x(&[("path", b"p")]).raw_entry(long(b'L', b"q"), b"q").file(b"n", b"1").finish(),
            &[r#"0 "q" 1 "" "1""#],
            Refused(Status::Malformed, "family 88: readers take different ones"),
        ),
        (
            "an x at the end".into(),
            x(&[("path", b"p")]).finish(),
            &[],
            Refused(Status::Malformed, "family 90: an entry that was cut off"),
        ),
        (
            "a global path".into(),
            a().entry(Header::new(b'g', b"g"), &pax_record("path", b"p")).file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Refused(Status::Malformed, "D7: other readers rename every entry"),
        ),
        (
            "an x before a volume label".into(),
            x(&[("path", b"p")]).raw_entry(Header::new(b'V', b"v").gnu(), b"").file(b"n", b"1").finish(),
            &[r#"V "p" 0 "" """#, r#"0 "n" 1 "" "1""#],
            Read(&[r#"0 "n" 1 "" "1""#], "a volume label is nothing in a tree"),
        ),
    ];
    // Whatever magic a header has, it is what its type says.
    for (what, bytes) in [("v7", v7), ("an unknown", odd), ("GNU's", b"ustar  \0"), ("POSIX", b"ustar\x0000")] {
        let records = pax_record("path", b"p");
        let under = |typeflag: u8, size: usize| magic(Header::new(typeflag, b"h").number(124, 12, size as u64), bytes);
        rows.push((
            format!("x under {what} magic"),
            a().raw_entry(under(b'x', records.len()), &records).file(b"n", b"1").finish(),
            &[r#"0 "p" 1 "" "1""#],
            Same,
        ));
        rows.push((
            format!("g under {what} magic"),
            a().raw_entry(under(b'g', 13), &pax_record("comment", b"x")).file(b"n", b"1").finish(),
            &[r#"0 "n" 1 "" "1""#],
            Same,
        ));
        rows.push((
            format!("L under {what} magic"),
            a().raw_entry(under(b'L', 2), b"p\0").file(b"n", b"1").finish(),
            &[r#"0 "p" 1 "" "1""#],
            Same,
        ));
        rows.push((
            format!("K under {what} magic"),
            a().raw_entry(under(b'K', 2), b"p\0").symlink(b"n", b"t").finish(),
            &[r#"2 "n" 0 "p" """#],
            Same,
        ));
        rows.push((
            format!("V under {what} magic"),
            a().raw_entry(under(b'V', 0), b"").file(b"n", b"1").finish(),
            &[r#"V "h" 0 "" """#, r#"0 "n" 1 "" "1""#],
            Read(&[r#"0 "n" 1 "" "1""#], "a volume label is nothing in a tree"),
        ));
    }
    rows
}

fn magics() -> Vec<(String, Vec<u8>, Reading, Ours)> {
    let of = |magic: &[u8]| sized(file(b"n").raw(257, magic).raw(345, b"prefix"), 1);
    let with_prefix: Reading = &[r#"0 "prefix/n" 1 "" "1""#, G];
    let without: Reading = &[r#"0 "n" 1 "" "1""#, G];
    let mut rows: Vec<(String, Vec<u8>, Reading, Ours)> = Vec::new();
    for (what, magic, go) in [
        ("POSIX", &b"ustar\x0000"[..], with_prefix),
        ("POSIX with a NUL version", b"ustar\0\0\0", with_prefix),
        ("POSIX with a blank version", b"ustar\0  ", with_prefix),
        ("what Docker wrote in 2014", b"ustar\0 \0", with_prefix),
        ("v7", &[0; 8], without),
        ("an unknown magic", b"ustarXYZ", without),
        ("a magic with blanks", b"ustar   ", without),
        ("a magic without its version", b"ustar \0\0", without),
        ("a magic in capitals", b"USTAR\x0000", without),
    ] {
        rows.push((format!("a prefix under {what}"), before_g(of(magic), b"1"), go, Same));
    }
    let star = of(b"ustar\x0000").raw(508, b"tar\0");
    rows.push(("a prefix of star".into(), before_g(star, b"1"), with_prefix, Same));
    // GNU has times where others have the prefix; Go before 1.8 had a prefix there all the same.
    let gnu = || sized(file(b"n").gnu(), 1);
    for (what, field, go) in [
        ("no times", &b""[..], without),
        ("times", b"00000000001\x0000000000001\0", without),
        ("a prefix", b"some/long/directory", &[r#"0 "some/long/directory/n" 1 "" "1""#, G][..]),
        ("a prefix of digits", b"0001234", without),
        ("a prefix that is no ASCII", b"caf\xc3\xa9/directory", without),
    ] {
        rows.push((format!("GNU with {what}"), before_g(gnu().raw(345, field), b"1"), go, Same));
    }
    rows.push((
        "a v7 directory".into(),
        before_g(Header::new(0, b"d/").raw(257, &[0; 8]), b""),
        &[r#"5 "d" 0 "" """#, G],
        Same,
    ));
    rows.push((
        "a POSIX file of type NUL whose name ends in a slash".into(),
        before_g(Header::new(0, b"d/"), b""),
        &[r#"5 "d" 0 "" """#, G],
        Same,
    ));
    rows.push(("a contiguous file".into(), before_g(sized(Header::new(b'7', b"n"), 1), b"1"), without, Same));
    rows.push((
        "a v7 device".into(),
        before_g(Header::new(b'3', b"c").raw(257, &[0; 8]).raw(329, &[0; 16]), b""),
        &[r#"3 "c" 0 "" """#, G],
        Refused(Status::Malformed, "a device without numbers would be a whiteout of overlayfs"),
    ));
    rows.push((
        "a type that nobody knows".into(),
        before_g(sized(Header::new(b'Z', b"n"), 1), b"1"),
        &[r#"Z "n" 1 "" "1""#, G],
        Refused(Status::Malformed, "family 68"),
    ));
    rows
}

fn numbers() -> Vec<(String, Vec<u8>, Reading, Ours)> {
    let three: Reading = &[r#"0 "n" 3 "" "abc""#, G];
    let mut rows: Vec<(String, Vec<u8>, Reading, Ours)> = Vec::new();
    for field in [
        &b"00000000003\0"[..],
        b"00000000003 ",
        b"000000000003",
        b"3\0\0\0\0\0\0\0\0\0\0\0",
        b"3           ",
        b"          3 ",
        b"\0\0\0\0\0\0\0\0\0\x003\0",
        b"\0\x003\0\0\0\0\0\0\0\0\0",
        b" \0 \x003\0 \0 \0 \0",
        b"3\0garbage\0\0\0",
        b"3\x0077777777\0\0",
        b"\x80\0\0\0\0\0\0\0\0\0\0\x03",
    ] {
        let shown = String::from_utf8_lossy(field).escape_debug().to_string();
        rows.push((format!("a size {shown}"), before_g(file(b"n").raw(124, field), b"abc"), three, Same));
    }
    for field in [
        &b"3 4\0\0\0\0\0\0\0\0\0"[..],
        b"\t3\0\0\0\0\0\0\0\0\0\0",
        b"3 \0garbage\0\0",
        b"+3\0\0\0\0\0\0\0\0\0\0",
        b"-3\0\0\0\0\0\0\0\0\0\0",
        b"0x3\0\0\0\0\0\0\0\0\0",
        b"8\0\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let shown = String::from_utf8_lossy(field).escape_debug().to_string();
        let refused = Refused(Status::Malformed, "as Go");
        rows.push((format!("no size {shown}"), before_g(file(b"n").raw(124, field), b"abc"), &["error"], refused));
    }
    rows
}

fn rows() -> Vec<(String, Vec<u8>, Reading, Ours)> {
    [types_without_data(), extended_headers(), magics(), numbers()].into_iter().flatten().collect()
}

/// Our reading, as a line for each entry.
fn read(layer: &[u8]) -> Result<Vec<String>, Status> {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, layer);
    let options = ExtractOptions::default();
    storage.extract_layer(&digest, &options).map_err(|error| error.status())?;
    let tree = storage.extracted_path(&digest, options.tree.form);
    let line = |entry: boxlite_images::LayerEntry| {
        let kind = match entry.kind {
            LayerEntryKind::File => "0",
            LayerEntryKind::Hardlink | LayerEntryKind::LowerLink => "1",
            LayerEntryKind::Symlink => "2",
            LayerEntryKind::CharDevice => "3",
            LayerEntryKind::BlockDevice => "4",
            LayerEntryKind::Directory => "5",
            LayerEntryKind::Fifo => "6",
            other => panic!("{other:?}"),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = text(&entry.path);
        let content = if kind == "0" { text(&std::fs::read(tree.join(&path)).unwrap()) } else { String::new() };
        format!("{kind} {path:?} {} {:?} {content:?}", entry.size, text(&entry.link))
    };
    let listed = entries(&storage, &digest, options.tree.form).into_iter().filter(|entry| !entry.is_implied);
    Ok(listed.map(line).collect())
}

#[test]
fn headers_are_read_as_go_reads_them() {
    let rows = rows();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for (what, layer, go, ours) in &rows {
        let (expected, why) = match ours {
            Same => (Ok(*go), "as Go"),
            Read(lines, why) => (Ok(*lines), *why),
            Refused(status, why) => (Err(*status), *why),
        };
        // Links to lower layers come last in the record.
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let expected = expected.map(|lines| sorted(lines.iter().map(|line| (*line).to_owned()).collect()));
        assert_eq!(read(layer).map(sorted), expected, "{what}: {why}");
    }
}

/// What the table says of Go is what Go says.
#[test]
fn the_table_says_of_go_what_go_says() {
    if !has_tool("go") {
        return;
    }
    let dir = temp_dir();
    let rows = rows();
    let mut expected = String::new();
    for (number, (_, layer, go, _)) in rows.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number:04}.tar")), layer).unwrap();
        expected.push_str(&format!("= {number:04}\n"));
        go.iter().for_each(|line| expected.push_str(&format!("{line}\n")));
    }
    let program = repository().join("tests/suite/reports/read_tar.go");
    let output = run("go", &[OsStr::new("run"), program.as_os_str(), dir.path().as_os_str()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let by_row = |text: &str| text.split("= ").skip(1).map(str::to_owned).collect::<Vec<_>>();
    for ((what, ..), (said, expected)) in rows.iter().zip(by_row(&said).iter().zip(by_row(&expected))) {
        assert_eq!(*said, expected, "{what}");
    }
    assert_eq!(said, expected);
}

/// The entry behind a hard link with a size is there, and that something was ignored is said.
#[test]
fn no_entry_is_lost() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    // As the report has it, and whiteouts of types without data.
    for header in [
        Header::new(b'1', b"l").link(b"f"),
        Header::new(b'1', b".wh.x").link(b"f"),
        Header::new(b'2', b".wh.x").link(b"f"),
        Header::new(b'3', b".wh.x"),
        Header::new(b'5', b".wh.x"),
        Header::new(b'6', b".wh.x"),
    ] {
        for size in [1, 512, 100_000] {
            let layer = a().file(b"f", b"1").raw_entry(sized(header.clone(), size), b"").file(b"g", b"2").finish();
            let digest = put_layer(&storage, &layer);
            let done = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
            assert_eq!(done.entries, 3);
            assert_eq!(std::fs::read(storage.layer_extracted_path(&digest_of(&layer)).join("g")).unwrap(), b"2");
        }
    }
    let label = a().raw_entry(Header::new(b'V', b"label").raw(257, &[0; 8]), b"").file(b"f", b"1").finish();
    let done = storage.extract_layer(&put_layer(&storage, &label), &ExtractOptions::default()).unwrap();
    assert!(done.anomalies.contains(Anomalies::IGNORED_HEADER));
}
