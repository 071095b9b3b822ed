//! Which blocks of a file's content are zeros alone. A disk need not have those.

use std::io::Write as _;

use super::line::{broken, number};
use crate::error::Result;

/// What is looked at: the blocks of the disks that are made.
pub(crate) const HOLE_BLOCK: usize = 4096;
/// What is noted of a file. Further blocks of zeros are content: a layer has any number of them for nothing.
const MOST_RUNS: usize = 1000;

static ZEROS: [u8; HOLE_BLOCK] = [0; HOLE_BLOCK];

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoleRun {
    /// The first one in the file.
    pub(crate) first: u32,
    pub(crate) blocks: u32,
}

impl HoleRun {
    fn end(self) -> u32 {
        self.first + self.blocks
    }
}

/// The holes of a file, in the order in which they are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holes(Vec<HoleRun>);

impl Holes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is between them in a file of so many blocks: the first block and how many there are.
    pub(crate) fn data(&self, blocks: u32) -> impl Iterator<Item = (u32, u32)> {
        let begins = [0].into_iter().chain(self.0.iter().map(|run| run.end()));
        let ends = self.0.iter().map(|run| run.first).chain([blocks]);
        begins.zip(ends).filter(|(begin, end)| begin < end).map(|(begin, end)| (begin, end - begin))
    }

    /// As a record has them: `<first>+<blocks>` of each.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (number, HoleRun { first, blocks }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            // Writing to a vector cannot fail.
            let _ = write!(out, "{separator}{first}+{blocks}");
        }
    }

    /// Of a file of this size.
    pub(super) fn parse(text: &[u8], size: u64) -> Result<Holes> {
        let mut holes = Holes::default();
        let mut end = 0;
        for run in text.split(|&byte| byte == b',') {
            let plus = run.iter().position(|&byte| byte == b'+').ok_or_else(broken)?;
            let (first, blocks) = (number(&run[..plus], 10)?, number(&run[plus + 1..], 10)?);
            let is_in_order = blocks > 0 && (first > end || holes.is_empty() && first == 0);
            end = Some(first)
                .filter(|_| is_in_order)
                .and_then(|first: u32| first.checked_add(blocks))
                .ok_or_else(broken)?;
            holes.0.push(HoleRun { first, blocks });
        }
        if u64::from(end) <= size.div_ceil(HOLE_BLOCK as u64) { Ok(holes) } else { Err(broken()) }
    }
}

/// Finds the holes of a file whose content comes in parts, each behind the one before.
#[derive(Default)]
pub(crate) struct HoleFinder {
    holes: Holes,
    /// The block behind the last one that has something.
    end: u64,
}

impl HoleFinder {
    /// What comes at an offset.
    pub(crate) fn add(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let in_block = (offset % HOLE_BLOCK as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(HOLE_BLOCK - in_block));
            let block = offset / HOLE_BLOCK as u64;
            if block >= self.end && now != &ZEROS[..now.len()] {
                self.close(block);
                self.end = block + 1;
            }
            (offset, bytes) = (offset + now.len() as u64, later);
        }
    }

    /// The holes, where the file has this size.
    pub(crate) fn holes(&self, size: u64) -> Holes {
        let mut all = HoleFinder { holes: self.holes.clone(), end: self.end };
        all.close(size.div_ceil(HOLE_BLOCK as u64));
        all.holes
    }

    /// What is between the last block that has something and this one is a hole.
    fn close(&mut self, block: u64) {
        if let (Ok(first), Ok(end)) = (u32::try_from(self.end), u32::try_from(block))
            && first < end
            && self.holes.0.len() < MOST_RUNS
        {
            self.holes.0.push(HoleRun { first, blocks: end - first });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = HOLE_BLOCK as u64;

    fn found(parts: &[(u64, &[u8])], size: u64) -> String {
        let mut finder = HoleFinder::default();
        parts.iter().for_each(|(offset, bytes)| finder.add(*offset, bytes));
        let holes = finder.holes(size);
        let mut text = Vec::new();
        holes.write(&mut text);
        if !holes.is_empty() {
            assert_eq!(Holes::parse(&text, size).unwrap(), holes);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn blocks_of_zeros_are_holes_however_the_content_comes() {
        let mut content = vec![0; 10 * HOLE_BLOCK];
        (content[0], content[3 * HOLE_BLOCK - 1], content[8 * HOLE_BLOCK]) = (1, 1, 1);
        let size = content.len() as u64;
        for piece in [1, 100, HOLE_BLOCK - 1, HOLE_BLOCK, HOLE_BLOCK + 1, content.len()] {
            let parts: Vec<_> = content.chunks(piece).enumerate().map(|(n, part)| ((n * piece) as u64, part)).collect();
            assert_eq!(found(&parts, size), "1+1,3+5,9+1", "{piece}");
        }
        // What nobody writes is a hole too.
        let parts = [(0, &content[..1]), (3 * BLOCK - 1, b"x"), (8 * BLOCK, b"x")];
        assert_eq!(found(&parts, size), "1+1,3+5,9+1");
        assert_eq!(found(&[], size), "0+10");
        assert_eq!(found(&[(0, b"")], 0), "");
        assert_eq!(found(&[(0, b"x")], 1), "");
        assert_eq!(found(&[(0, b"\0")], 1), "0+1");
    }

    #[test]
    fn too_many_are_content() {
        let mut finder = HoleFinder::default();
        (0..2 * MOST_RUNS as u64).for_each(|n| finder.add((2 * n + 1) * BLOCK, b"x"));
        let holes = finder.holes(1 << 40);
        assert_eq!((holes.0.len(), holes.0.last().unwrap().first as usize), (MOST_RUNS, 2 * (MOST_RUNS - 1)));
    }

    #[test]
    fn data_is_what_is_between_them() {
        let data = |text: &str, blocks: u32| -> Vec<_> {
            Holes::parse(text.as_bytes(), u64::from(blocks) * BLOCK).unwrap().data(blocks).collect()
        };
        assert_eq!(Holes::default().data(5).collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(data("0+2,4+1", 5), [(2, 2)]);
        assert_eq!(data("1+1,3+1", 5), [(0, 1), (2, 1), (4, 1)]);
        assert_eq!(data("0+5", 5), []);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in ["", "1", "1+", "+1", "1+0", "0+1,1+1", "3+1,1+1", "0+6", "4+2", "4294967295+1", "x+1", "1+1,"] {
            assert!(Holes::parse(text.as_bytes(), 5 * BLOCK).is_err(), "{text}");
        }
    }
}
