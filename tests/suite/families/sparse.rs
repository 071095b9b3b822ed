//! Family 92: GNU sparse files.

use std::os::unix::fs::MetadataExt as _;

use boxlite_images::Status;

use super::super::archive::{Archive, Header};
use super::{Case, Outcome, Seen, case, fails, seen};

fn a() -> Archive {
    Archive::new()
}

/// 1 MiB of holes with "abc" at 4,096 and "de" at 1 MiB - 2.
const SIZE: u64 = 1 << 20;
const MAP: [(u64, u64); 2] = [(4096, 3), (SIZE - 2, 2)];
const DATA: &[u8] = b"abcde";

fn old_header(map: &[(u64, u64)], size: u64, extended: bool) -> Header {
    let mut header = Header::new(b'S', b"f").gnu();
    for (i, (offset, length)) in map.iter().take(4).enumerate() {
        header = header.number(386 + i * 24, 12, *offset).number(398 + i * 24, 12, *length);
    }
    header.raw(482, &[u8::from(extended)]).number(483, 12, size)
}

/// The header, its continuation blocks, and the data.
fn old(map: &[(u64, u64)], size: u64, data: &[u8]) -> Archive {
    let rest: Vec<_> = map.iter().skip(4).copied().collect();
    let header = old_header(map, size, !rest.is_empty()).number(124, 12, data.len() as u64);
    let mut archive = a().raw_entry(header, b"");
    let chunks: Vec<_> = rest.chunks(21).collect();
    for (i, slots) in chunks.iter().enumerate() {
        let mut block = [0; 512];
        for (k, (offset, length)) in slots.iter().enumerate() {
            block[k * 24..k * 24 + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
            block[k * 24 + 12..k * 24 + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
        }
        block[504] = u8::from(i + 1 < chunks.len());
        archive = archive.bytes(&block);
    }
    let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
    archive.bytes(data).bytes(&padding)
}

/// The old form, whose map has so many blocks without a chunk before the one that has all.
fn with_empty_blocks(count: usize) -> Archive {
    let header = old_header(&[], SIZE, true).number(124, 12, DATA.len() as u64);
    let mut block = [0; 512];
    block[504] = 1;
    let archive = (0..count).fold(a().raw_entry(header, b""), |archive, _| archive.bytes(&block));
    for (k, (offset, length)) in MAP.iter().enumerate() {
        block[k * 24..k * 24 + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        block[k * 24 + 12..k * 24 + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    block[504] = 0;
    archive.bytes(&block).bytes(DATA).bytes(&[0; 512 - DATA.len()])
}

fn pax_0_0(map: &[(u64, u64)], size: u64) -> Archive {
    let mut records = vec![("GNU.sparse.size", size.to_string()), ("GNU.sparse.numblocks", map.len().to_string())];
    for (offset, length) in map {
        records.push(("GNU.sparse.offset", offset.to_string()));
        records.push(("GNU.sparse.numbytes", length.to_string()));
    }
    pax(&records)
}

fn pax_0_1(map: &[(u64, u64)], size: u64) -> Archive {
    let list: Vec<String> = map.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
    pax(&[
        ("GNU.sparse.name", "f".to_owned()),
        ("GNU.sparse.size", size.to_string()),
        ("GNU.sparse.numblocks", map.len().to_string()),
        ("GNU.sparse.map", list.join(",")),
    ])
}

fn pax_1_0(size: u64) -> Archive {
    pax(&[
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.name", "f".to_owned()),
        ("GNU.sparse.realsize", size.to_string()),
    ])
}

fn pax(records: &[(&str, String)]) -> Archive {
    let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    a().pax(&records)
}

/// The map of the form 1.0, padded to a block, and the data.
fn with_map(map: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let mut text = format!("{}\n", map.len());
    for (offset, length) in map {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    [bytes, data.to_vec()].concat()
}

fn is_right(seen: &Seen) {
    let content = std::fs::read(seen.tree.join("f")).unwrap();
    assert_eq!(content.len() as u64, SIZE);
    assert_eq!((&content[4096..4099], &content[content.len() - 2..]), (&b"abc"[..], &b"de"[..]));
    assert_eq!(content.iter().filter(|&&b| b != 0).count(), 5);
    let blocks = std::fs::metadata(seen.tree.join("f")).unwrap().blocks();
    assert!(blocks * 512 < SIZE / 2, "the holes are {blocks} blocks");
    assert_eq!((seen.entry("f").size, seen.node("g").size), (SIZE, 1));
}

pub fn cases() -> Vec<Case> {
    let after = |archive: Archive| archive.file(b"g", b"1").finish();
    let named = |archive: Archive, name: &[u8], data: &[u8]| after(archive.file(name, data));
    let many: Vec<(u64, u64)> = (0..100).map(|i| (i * 8192, 1)).collect();
    let is_many = |seen: &Seen| {
        let content = std::fs::read(seen.tree.join("f")).unwrap();
        assert!((0..100).all(|i| content[i * 8192] == b'x') && content.iter().filter(|&&b| b == b'x').count() == 100);
    };
    let size = 100 * 8192;
    let mut cases = vec![
        case("92 the old form", after(old(&MAP, SIZE, DATA)), seen(is_right)),
        case("92 PAX 0.0", named(pax_0_0(&MAP, SIZE), b"f", DATA), seen(is_right)),
        case("92 PAX 0.1", named(pax_0_1(&MAP, SIZE), b"GNUSparseFile.1/f", DATA), seen(is_right)),
        case("92 PAX 1.0", named(pax_1_0(SIZE), b"GNUSparseFile.1/f", &with_map(&MAP, DATA)), seen(is_right)),
        case("92 100 chunks, the old form", after(old(&many, size, &[b'x'; 100])), seen(is_many)),
        case("92 100 chunks, 0.1", named(pax_0_1(&many, size), b"f", &[b'x'; 100]), seen(is_many)),
        case("92 100 chunks, 1.0", named(pax_1_0(size), b"f", &with_map(&many, &[b'x'; 100])), seen(is_many)),
        case("92 nothing but a hole", after(old(&[], SIZE, b"")), seen(|seen| assert_eq!(seen.node("f").size, SIZE))),
        case(
            "92 a chunk of no bytes at the end",
            named(pax_1_0(SIZE), b"f", &with_map(&[(0, 3), (SIZE, 0)], b"abc")),
            seen(|seen| assert_eq!((seen.node("f").size, seen.node("g").size), (SIZE, 1))),
        ),
        case(
            "92 a sparse file of no bytes",
            named(pax_1_0(0), b"f", &with_map(&[], b"")),
            seen(|seen| assert_eq!(seen.node("f").size, 0)),
        ),
        case("92 blocks of the map without a chunk", after(with_empty_blocks(3)), seen(is_right)),
        case("92 such blocks without an end", after(with_empty_blocks(2100)), fails(Status::Limit)),
        case("92 a hole of 8 EiB", after(old(&[], 8 << 60, b"")), Outcome::Contained),
        case("92 a hole over the limit", named(pax_1_0(60 << 30), b"f", &with_map(&[], b"")), fails(Status::Limit)),
    ];
    let bad: [(&str, Vec<(u64, u64)>); 5] = [
        ("overlaps", vec![(0, 3), (2, 2)]),
        ("is not in order", vec![(4096, 3), (0, 2)]),
        ("goes beyond the file", vec![(0, 3), (SIZE - 1, 2)]),
        ("has an offset that overflows", vec![(0, 3), (u64::MAX, 2)]),
        ("has more than the data", vec![(0, 3), (4096, 3)]),
    ];
    for (what, map) in bad {
        if map[1].0 < 1 << 32 {
            cases.push(case(
                format!("92 a map that {what}, the old form"),
                after(old(&map, SIZE, DATA)),
                fails(Status::Malformed),
            ));
        }
        cases.push(case(
            format!("92 a map that {what}, 0.0"),
            named(pax_0_0(&map, SIZE), b"f", DATA),
            fails(Status::Malformed),
        ));
        cases.push(case(
            format!("92 a map that {what}, 0.1"),
            named(pax_0_1(&map, SIZE), b"f", DATA),
            fails(Status::Malformed),
        ));
        let layer = named(pax_1_0(SIZE), b"f", &with_map(&map, DATA));
        cases.push(case(format!("92 a map that {what}, 1.0"), layer, fails(Status::Malformed)));
    }
    let text = |value: &str| {
        pax(&[("GNU.sparse.size", "10".into()), ("GNU.sparse.numblocks", "1".into()), ("GNU.sparse.map", value.into())])
    };
    for value in ["0", "0,1,2", "a,b", "0,-1", "", "0 ,1", "0,1,"] {
        cases.push(case(format!("92 the map {value:?}"), named(text(value), b"f", b"x"), fails(Status::Malformed)));
    }
    for key in
        ["GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.numblocks", "GNU.sparse.major", "GNU.sparse.unknown"]
    {
        let orphan = pax(&[(key, "1".into())]);
        cases.push(case(format!("92 {key} alone"), named(orphan, b"f", b"x"), fails(Status::Malformed)));
    }
    for (name, body) in [
        ("no number", &b"x\n"[..]),
        ("a number of 25 digits", b"1111111111111111111111111\n"),
        ("no newline", &[b'1'; 512]),
        ("a count and no more", b"2\n"),
    ] {
        let mut data = body.to_vec();
        data.resize(512, 0);
        cases.push(case(
            format!("92 a 1.0 map with {name}"),
            named(pax_1_0(SIZE), b"f", &data),
            fails(Status::Malformed),
        ));
    }
    let too_many: Vec<(u64, u64)> = (0..10_001).map(|i| (i * 10, 1)).collect();
    cases.push(case(
        "92 10,001 chunks, the old form",
        after(old(&too_many, SIZE, &[b'x'; 10_001])),
        fails(Status::Limit),
    ));
    cases.push(case(
        "92 10,001 chunks, 1.0",
        named(pax_1_0(SIZE), b"f", &with_map(&too_many, &[b'x'; 10_001])),
        fails(Status::Limit),
    ));
    cases.push(case("92 a symlink with a map", pax_1_0(SIZE).symlink(b"f", b"x").finish(), fails(Status::Malformed)));
    for name in ["d/.wh.f", "d/.wh..wh..opq", ".wh..wh.plnk/1"] {
        let named = pax(&[("GNU.sparse.name", name.to_owned())]).file(b"f", b"").finish();
        cases.push(case(format!("92 a marker {name} by the name of a sparse file"), named, fails(Status::Malformed)));
        let typed =
            a().entry(old_header(&MAP, SIZE, true).raw(0, &[0; 100]).raw(0, name.as_bytes()), b"").bytes(&[0; 512]);
        cases.push(case(format!("92 a marker {name} of type S"), typed.finish(), fails(Status::Malformed)));
    }
    let endless = a().raw_entry(old_header(&MAP, SIZE, true), b"").bytes(&[0; 512]).finish();
    cases.push(case("92 a continuation of nothing", endless, fails(Status::Malformed)));
    cases.push(case(
        "92 a continuation that is cut off",
        a().raw_entry(old_header(&MAP, SIZE, true), b"").unfinished(),
        fails(Status::Malformed),
    ));
    cases.push(case(
        "92 a type S in ustar",
        a().entry(Header::new(b'S', b"f"), b"").finish(),
        fails(Status::Malformed),
    ));
    cases
}
