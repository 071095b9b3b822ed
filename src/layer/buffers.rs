//! Pieces of the uncompressed stream, shared between the threads that hash, parse and write them, and used again when
//! the last of them lets go.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::queue::Queue;

/// What goes round.
#[derive(Default)]
pub(super) struct SegmentBytes {
    /// Full unless it is the last one, or empty.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the file that had been read when the buffer was full.
    pub(super) bytes_in: u64,
}

/// Bytes that nobody changes any more. Dropping it sends them home.
#[derive(Default)]
pub(super) struct Segment {
    contents: SegmentBytes,
    home: Option<Arc<Queue<SegmentBytes>>>,
}

impl Segment {
    pub(super) fn new(contents: SegmentBytes, home: &Arc<Queue<SegmentBytes>>) -> Segment {
        Segment { contents, home: Some(home.clone()) }
    }
}

impl Deref for Segment {
    type Target = SegmentBytes;

    fn deref(&self) -> &SegmentBytes {
        &self.contents
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.push_front(std::mem::take(&mut self.contents));
        }
    }
}

/// Some bytes of a segment.
#[derive(Clone)]
pub(crate) struct SharedBytes {
    segment: Arc<Segment>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The range must lie in the segment.
    pub(super) fn new(segment: &Arc<Segment>, range: Range<usize>) -> SharedBytes {
        SharedBytes { segment: segment.clone(), range }
    }

    /// Of no stream.
    #[cfg(test)]
    pub(crate) fn of(bytes: Vec<u8>) -> SharedBytes {
        let range = 0..bytes.len();
        SharedBytes { segment: Arc::new(Segment { contents: SegmentBytes { bytes, bytes_in: 0 }, home: None }), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.segment.bytes[self.range.clone()]
    }
}
