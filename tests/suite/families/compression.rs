//! 1F: how a layer is packed.

use boxlite_images::{Anomalies, Status};

use super::super::archive::{Archive, gzip, zstd};
use super::{Case, Outcome, Seen, case, fails, seen};

pub fn cases() -> Vec<Case> {
    let tar = Archive::new().file(b"f", &[b'x'; 3000]).finish();
    let mut cases = gzips(&tar);
    cases.extend(zstds(&tar));
    cases.extend(others(&tar));
    cases
}

fn quiet() -> Outcome {
    seen(|seen: &Seen| assert!(seen.node("f").size == 3000 && seen.done.anomalies.is_empty()))
}

fn with_trailing() -> Outcome {
    seen(|seen: &Seen| assert!(seen.node("f").size == 3000 && seen.has_anomaly(Anomalies::TRAILING_COMPRESSED)))
}

/// A gzip member with these flags and fields between its header and its data.
fn with_header(tar: &[u8], flags: u8, fields: &[u8]) -> Vec<u8> {
    let packed = gzip(tar);
    let mut header = packed[..10].to_vec();
    header[3] = flags;
    header.extend_from_slice(fields);
    if flags & 2 != 0 {
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        header.extend_from_slice(&(crc.sum() as u16).to_le_bytes());
    }
    [&header[..], &packed[10..]].concat()
}

fn gzips(tar: &[u8]) -> Vec<Case> {
    let packed = gzip(tar);
    let mut cases = Vec::new();
    for at in [1, 511, 512, 700, 2000, tar.len() - 1] {
        let (head, tail) = tar.split_at(at);
        let members = [gzip(head), gzip(b""), gzip(tail)].concat();
        cases.push(case(format!("106 members that split the archive at {at}"), members, quiet()));
    }
    cases.push(case(
        "106 a member a byte",
        tar[..1600].iter().flat_map(|b| gzip(&[*b])).chain(gzip(&tar[1600..])).collect(),
        quiet(),
    ));
    for zeros in [1usize, 2, 512, 300_000] {
        cases.push(case(format!("107 {zeros} zeros behind"), [&packed[..], &vec![0; zeros]].concat(), quiet()));
    }
    for (name, garbage) in [
        ("garbage", &b"garbage"[..]),
        ("half a magic", b"\x1f"),
        ("zeros and garbage", b"\0\0\0x"),
        ("another format", b"\x28\xb5\x2f\xfd"),
    ] {
        cases.push(case(format!("107 {name} behind"), [&packed[..], garbage].concat(), with_trailing()));
    }
    cases.push(case(
        "107 a broken member behind",
        [&packed[..], b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff"].concat(),
        fails(Status::Malformed),
    ));
    for cut in [2, 5, 9, 10, 20, packed.len() - 9, packed.len() - 8, packed.len() - 4, packed.len() - 1] {
        cases.push(case(format!("108 cut after {cut} bytes"), packed[..cut].to_vec(), fails(Status::Malformed)));
    }
    for (name, at, bit) in [
        ("CRC", packed.len() - 6, 1),
        ("length", packed.len() - 2, 4),
        ("method", 2, 1),
        ("flag that is reserved", 3, 0x20),
    ] {
        let mut damaged = packed.clone();
        damaged[at] ^= bit;
        cases.push(case(format!("108 a wrong {name}"), damaged, fails(Status::Malformed)));
    }
    for (name, flags, fields) in [
        ("a name", 8, &b"layer.tar\0"[..]),
        ("an empty name", 8, b"\0"),
        ("a comment", 16, b"hello\0"),
        ("extra fields", 4, b"\x06\0AB\x02\0xy"),
        ("a header checksum", 2, b""),
        ("everything", 4 | 8 | 16 | 2, b"\x04\0AB\0\0name\0comment\0"),
    ] {
        cases.push(case(format!("108 {name} in the header"), with_header(tar, flags, fields), quiet()));
    }
    let long_name = [vec![b'n'; 300_000], vec![0]].concat();
    cases.push(case("108 a name of 300,000 bytes", with_header(tar, 8, &long_name), quiet()));
    cases.push(case(
        "108 a name that does not end",
        [&with_header(tar, 8, b"")[..10], &vec![b'n'; 300_000]].concat(),
        fails(Status::Malformed),
    ));
    cases.push(case(
        "108 extra fields that do not end",
        [&with_header(tar, 4, b"\xff\xff")[..12], &[0; 100]].concat(),
        fails(Status::Malformed),
    ));
    let mut bad_checksum = with_header(tar, 2, b"");
    bad_checksum[10] ^= 1;
    cases.push(case("108 a wrong header checksum", bad_checksum, fails(Status::Malformed)));
    cases.push(case("109 nothing inside", gzip(b""), Outcome::Contained));
    cases.push(case("109 a header only", packed[..10].to_vec(), fails(Status::Malformed)));
    cases.push(case("109 20,000 empty members", [gzip(b"").repeat(20_000), packed.clone()].concat(), quiet()));
    cases
}

fn zstds(tar: &[u8]) -> Vec<Case> {
    let (head, tail) = tar.split_at(700);
    let skippable =
        |magic: u8, data: &[u8]| [&[magic, 0x2a, 0x4d, 0x18][..], &(data.len() as u32).to_le_bytes(), data].concat();
    let packed = zstd(tar);
    let mut checked = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    checked.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut checked, tar).unwrap();
    let checked = checked.finish().unwrap();
    let mut bad_checksum = checked.clone();
    let at = bad_checksum.len() - 1;
    bad_checksum[at] ^= 1;
    vec![
        case("110 two frames", [zstd(head), zstd(tail)].concat(), quiet()),
        case("110 a skippable frame between", [zstd(head), skippable(0x50, b"abc"), zstd(tail)].concat(), quiet()),
        case("110 a skippable frame first", [skippable(0x5f, b""), packed.clone()].concat(), quiet()),
        case(
            "110 zstd:chunked, with its table behind",
            [packed.clone(), skippable(0x50, &[7; 5000]), skippable(0x51, &[7; 64])].concat(),
            quiet(),
        ),
        case("110 an empty frame between", [zstd(head), zstd(b""), zstd(tail)].concat(), quiet()),
        case("110 a checksum", checked, quiet()),
        case("110 a wrong checksum", bad_checksum, fails(Status::Malformed)),
        case("110 cut", packed[..20].to_vec(), fails(Status::Malformed)),
        case("110 cut by a byte", packed[..packed.len() - 1].to_vec(), fails(Status::Malformed)),
        case("110 garbage behind", [packed.clone(), b"garbage!".to_vec()].concat(), fails(Status::Malformed)),
        case("110 a reserved bit", [&packed[..4], &[packed[4] | 8], &packed[5..]].concat(), fails(Status::Malformed)),
        // A frame header of one byte that asks for a window, and 2^41 bytes of it.
        case("111 a window of 2 TiB", b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00".to_vec(), fails(Status::Limit)),
        case("111 a window of 256 MiB", b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00".to_vec(), fails(Status::Limit)),
        case("111 a dictionary", b"\x28\xb5\x2f\xfd\x01\x58\x07\x01\x00\x00".to_vec(), fails(Status::Malformed)),
        case(
            "111 the format of version 0.7",
            b"\x27\xb5\x2f\xfd\x00\x58\x01\x00\x00".to_vec(),
            fails(Status::Malformed),
        ),
        case("111 without a magic", packed[4..].to_vec(), fails(Status::Malformed)),
    ]
}

fn others(tar: &[u8]) -> Vec<Case> {
    let packed = gzip(tar);
    let mut cases = vec![
        case("112 200 MiB of zeros in zstd", zstd(&vec![0; 200 << 20]), fails(Status::Limit)),
        case("112 100 MiB of zeros in gzip", gzip(&vec![0; 100 << 20]), Outcome::Contained),
        case("113 gzip in gzip", gzip(&packed), fails(Status::Malformed)),
        case("113 zstd in gzip", gzip(&zstd(tar)), fails(Status::Malformed)),
        case("113 gzip in zstd", zstd(&packed), fails(Status::Malformed)),
        case("115 nothing", Vec::new(), seen(|seen| assert_eq!(seen.nodes.len(), 1))),
    ];
    for (name, start) in
        [("xz", &b"\xfd7zXZ\0xxxxxxx"[..]), ("bzip2", b"BZh9xxxxxxxx"), ("lz4", b"\x04\x22\x4d\x18xxxxxxx")]
    {
        cases.push(case(format!("114 {name}"), start.to_vec(), fails(Status::Unsupported)));
    }
    for (name, start) in
        [("text", &[b'?'; 2000][..]), ("random bytes", &[0xa5; 4096]), ("a zip file", b"PK\x03\x04xxxxxxxxxx")]
    {
        cases.push(case(format!("114 {name}"), start.to_vec(), fails(Status::Malformed)));
    }
    for start in [&b"\x1f\x8b"[..], b"\x1f", b"x", b"\x28\xb5\x2f", b"\x28\xb5\x2f\xfd", b"\0", b"\0\0\0"] {
        cases.push(case(format!("115 {start:?}"), start.to_vec(), Outcome::Contained));
    }
    cases
}
