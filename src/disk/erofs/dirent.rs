//! The content of a directory: blocks of entries of 12 bytes, each followed by the names that they speak of (Linux,
//! Documentation/filesystems/erofs.rst, "Directories"). Names are in bytewise order over the whole directory, with `.` and
//! `..` at their places, since a look-up is a binary search.

use crate::disk::block::BLOCK;
use crate::error::Result;

/// Bytes of an entry, without its name.
const DIRENT: usize = 12;

/// An entry that is to be written.
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// How many bytes a directory with these names has, of which the blocks before the last one are whole.
pub(super) fn directory_size<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for name in names {
        let more = DIRENT + name.len();
        if used + more > BLOCK {
            (whole, used) = (whole + 1, 0);
        }
        used += more;
    }
    whole * BLOCK as u64 + used as u64
}

/// Hands over the content of a directory, block by block; the last one is as long as it is full.
pub(super) fn write_directory<'a>(
    entries: impl Iterator<Item = Result<Dirent<'a>>>,
    mut out: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut in_block, mut used, mut block) = (Vec::new(), 0, Vec::with_capacity(BLOCK));
    for entry in entries {
        let entry = entry?;
        let more = DIRENT + entry.name.len();
        if used + more > BLOCK {
            fill_block(&in_block, &mut block);
            block.resize(BLOCK, 0);
            out(&block)?;
            in_block.clear();
            used = 0;
        }
        used += more;
        in_block.push(entry);
    }
    fill_block(&in_block, &mut block);
    out(&block)
}

fn fill_block(entries: &[Dirent<'_>], block: &mut Vec<u8>) {
    block.clear();
    let mut name_at = DIRENT * entries.len();
    for entry in entries {
        block.extend_from_slice(&entry.nid.to_le_bytes());
        block.extend_from_slice(&(name_at as u16).to_le_bytes());
        block.extend_from_slice(&[entry.file_type, 0]);
        name_at += entry.name.len();
    }
    entries.iter().for_each(|entry| block.extend_from_slice(entry.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[Vec<u8>]) -> impl Iterator<Item = Result<Dirent<'_>>> {
        names.iter().enumerate().map(|(n, name)| Ok(Dirent { name, nid: n as u64 + 7, file_type: 1 }))
    }

    /// Reads it as the kernel does.
    fn read(content: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let mut found = Vec::new();
        for block in content.chunks(BLOCK) {
            let name_at = |n: usize| u16::from_le_bytes([block[n * DIRENT + 8], block[n * DIRENT + 9]]) as usize;
            let count = name_at(0) / DIRENT;
            for n in 0..count {
                let end = if n + 1 < count { name_at(n + 1) } else { block.len() };
                let name = &block[name_at(n)..end];
                let name = &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())];
                let nid = u64::from_le_bytes(block[n * DIRENT..n * DIRENT + 8].try_into().unwrap());
                found.push((name.to_vec(), nid));
            }
        }
        found
    }

    #[test]
    fn what_is_written_is_read_and_has_the_size_that_was_said() {
        for (count, len) in [(2, 1), (3, 255), (15, 255), (16, 255), (315, 1), (316, 1), (1000, 20), (40_000, 9)] {
            let names: Vec<Vec<u8>> = (0..count)
                .map(|n| format!("{n:0len$}").into_bytes())
                .map(|mut name| name.split_off(name.len() - len.max(1)))
                .collect();
            let mut out = Vec::new();
            let append = |block: &[u8]| {
                assert_eq!(out.len() % BLOCK, 0, "a block that is not the last one is whole");
                out.extend_from_slice(block);
                Ok(())
            };
            write_directory(entries(&names), append).unwrap();
            assert_eq!(out.len() as u64, directory_size(names.iter().map(Vec::as_slice)), "{count} of {len}");
            let found = read(&out);
            assert_eq!(found.len(), count, "{count} of {len}");
            for (n, (name, nid)) in found.into_iter().enumerate() {
                assert_eq!((name, nid), (names[n].clone(), n as u64 + 7));
            }
        }
    }
}
