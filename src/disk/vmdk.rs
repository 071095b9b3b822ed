//! A VMDK descriptor: a text that makes one disk of several files (VMware, "Virtual Disk Format 5.0"). QEMU, Cloud Hypervisor and
//! libkrun read it. Names are plain and lie beside it. Extents are `RW`, since QEMU has no others: whoever attaches the disk
//! says that it is read-only.

use std::fmt::Write as _;

use crate::digest::Digest;

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// An extent has less than 2 GiB in this kind of disk; this is what VMware's tools take.
const MOST_SECTORS: u64 = 4_192_256;
const HEADS: u64 = 16;
const SECTORS_OF_TRACK: u64 = 63;

/// A file that is a part of a disk: its name and its bytes, whole sectors.
pub(crate) struct VmdkPart {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The text for a disk of these files, one behind the other, that is known by this key.
pub(crate) fn vmdk_descriptor(parts: &[VmdkPart], key: &Digest) -> String {
    // All ones would say that there is none.
    let id = match &key.hex()[..8] {
        "ffffffff" => "fffffffe",
        id => id,
    };
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={id}\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n"
    );
    let mut sectors = 0;
    for part in parts {
        let mut at = 0;
        while at < part.bytes / SECTOR {
            let count = (part.bytes / SECTOR - at).min(MOST_SECTORS);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "RW {count} FLAT \"{}\" {at}", part.name);
            at += count;
        }
        sectors += at;
    }
    let cylinders = sectors.div_ceil(HEADS * SECTORS_OF_TRACK);
    let _ = write!(
        text,
        "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{HEADS}\"\nddb.geometry.sectors = \"{SECTORS_OF_TRACK}\"\nddb.adapterType = \"ide\"\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_large_ones_are_cut() {
        let part = |name: &str, bytes| VmdkPart { name: name.into(), bytes };
        let text = vmdk_descriptor(&[part("a", 8192), part("b", 5 << 30)], &Digest::of(b"x"));
        let extents: Vec<&str> = text.lines().filter(|line| line.starts_with("RW ")).collect();
        assert_eq!(
            extents,
            [
                "RW 16 FLAT \"a\" 0",
                "RW 4192256 FLAT \"b\" 0",
                "RW 4192256 FLAT \"b\" 4192256",
                "RW 2101248 FLAT \"b\" 8384512"
            ]
        );
        assert!(text.contains("# Extent description") && text.contains("#DDB"), "{text}");
    }
}
