//! A checksum of a file's content, computed while the file is unpacked. A later check tells by it
//! whether the disk still has what was written. XXH3: a fraction of what the layer's digest costs,
//! and meant against decay, not against somebody who may write to the store.

use std::hash::Hasher as _;

use twox_hash::XxHash3_64;

use crate::layer::SharedBytes;

/// Bytes of holes that are hashed in all the files of a layer. A layer can have any number of them for nothing.
pub(super) const HOLES: u64 = 1 << 30;
static ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// The sum of a file in parts, the gaps between which are holes.
pub(crate) struct ContentSum {
    hasher: XxHash3_64,
    end: u64,
    /// `None` once the holes were too many.
    holes: Option<u64>,
}

impl ContentSum {
    /// `holes` is how many bytes of them may be hashed.
    pub(super) fn new(holes: u64) -> ContentSum {
        ContentSum { hasher: XxHash3_64::new(), end: 0, holes: Some(holes) }
    }

    pub(crate) fn update(&mut self, offset: u64, bytes: &[u8]) {
        self.skip_to(offset);
        self.hasher.write(bytes);
        self.end = offset + bytes.len() as u64;
    }

    /// The sum of the file of this size, and what is left of the holes.
    pub(super) fn finish(mut self, size: u64) -> (Option<u64>, u64) {
        self.skip_to(size);
        (self.holes.map(|_| self.hasher.finish()), self.holes.unwrap_or(0))
    }

    fn skip_to(&mut self, offset: u64) {
        let mut hole = offset.saturating_sub(self.end);
        self.holes = self.holes.and_then(|left| left.checked_sub(hole));
        while hole > 0 && self.holes.is_some() {
            let zeros = &ZEROS[..hole.min(ZEROS.len() as u64) as usize];
            self.hasher.write(zeros);
            hole -= zeros.len() as u64;
        }
    }
}

/// The sum of a file that is all here, with what is left of the holes.
pub(super) fn sum_of(data: Option<&(u64, SharedBytes)>, size: u64, holes: u64) -> (Option<u64>, u64) {
    match data {
        Some((0, bytes)) if bytes.len() as u64 == size => (Some(XxHash3_64::oneshot(bytes)), holes),
        data => {
            let mut sum = ContentSum::new(holes);
            data.iter().for_each(|(offset, bytes)| sum.update(*offset, bytes));
            sum.finish(size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_count_as_zeros_and_too_many_as_nothing() {
        let mut content = vec![0; 200_000];
        content[70_000..70_003].copy_from_slice(b"abc");
        let expected = XxHash3_64::oneshot(&content);
        let mut sum = ContentSum::new(HOLES);
        sum.update(70_000, b"a");
        sum.update(70_001, b"bc");
        assert_eq!(sum.finish(200_000), (Some(expected), HOLES - 199_997));
        let mut sum = ContentSum::new(199_996);
        sum.update(70_000, b"abc");
        assert_eq!(sum.finish(200_000), (None, 0));
        assert_eq!(sum_of(None, 5, 5), (Some(XxHash3_64::oneshot(&[0; 5])), 0));
    }
}
