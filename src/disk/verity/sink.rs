//! What is written to a disk, hashed on its way. Blocks of layers come with their hashes. Only the metadata is hashed, by a
//! thread of its own, while the kernel copies the layers' blocks.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::block_hashes::{BlockHashes, block_hash};
use super::tree::HashTree;
use crate::disk::block::BLOCK;
use crate::disk::parts::LayerDisk;
use crate::disk::sink::DiskSink;
use crate::error::{Error, Result, Status};
use crate::sys;

/// How many pieces may wait for their hashes: some megabytes of them.
const PIECES_WAITING: usize = 16;

/// Bytes, and where they are.
type PlacedBytes = (u64, Vec<u8>);

/// Hands on what is written, and has the hashes of its blocks.
pub(crate) struct HashedSink<'a> {
    sink: &'a mut dyn DiskSink,
    /// Of the layers' blocks.
    copied: BlockHashes,
    written: HashedWrites,
    has_tree_behind: bool,
}

/// Who hashes what is written.
enum HashedWrites {
    Here(WrittenHashes),
    /// A thread, until it is asked for what it has.
    Beside {
        pieces: SyncSender<PlacedBytes>,
        thread: JoinHandle<Result<WrittenHashes>>,
    },
    Ended,
}

impl<'a> HashedSink<'a> {
    /// `has_tree_behind` leaves room for the tree.
    pub(crate) fn new(sink: &'a mut dyn DiskSink, has_tree_behind: bool) -> HashedSink<'a> {
        let none = BlockHashes::of_zeros(0);
        HashedSink {
            sink,
            copied: none.clone(),
            written: HashedWrites::Here(WrittenHashes::new(none)),
            has_tree_behind,
        }
    }

    /// The hashes of all blocks.
    pub(crate) fn into_hashes(mut self) -> Result<BlockHashes> {
        self.take_hashes()
    }

    fn take_hashes(&mut self) -> Result<BlockHashes> {
        let written = std::mem::replace(&mut self.written, HashedWrites::Ended).end()?;
        let mut hashes = std::mem::replace(&mut self.copied, BlockHashes::of_zeros(0));
        hashes.put_known(&written)?;
        Ok(hashes)
    }

    /// The tree, which is written behind the rest.
    pub(crate) fn finish(mut self) -> Result<HashTree> {
        let hashes = self.take_hashes()?;
        let mut at = hashes.count() * BLOCK as u64;
        let tree = HashTree::of(hashes);
        tree.write(|bytes| {
            self.sink.bytes(at, bytes)?;
            at += bytes.len() as u64;
            Ok(())
        })?;
        Ok(tree)
    }
}

impl DiskSink for HashedSink<'_> {
    fn size(&mut self, bytes: u64) -> Result<()> {
        let blocks = bytes / BLOCK as u64;
        self.copied = BlockHashes::of_zeros(blocks);
        self.written = HashedWrites::begin(self.copied.clone());
        let behind = if self.has_tree_behind { HashTree::bytes_behind(blocks) } else { 0 };
        self.sink.size(bytes + behind)
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.sink.bytes(at, bytes)?;
        self.written.add(at, bytes)
    }

    fn blocks(&mut self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()> {
        self.sink.blocks(from, from_block, to_block, blocks)?;
        let missing = || Error::new(Status::Internal, "a layer's disk without hashes");
        self.copied.put_from(from.hashes.as_ref().ok_or_else(missing)?, from_block, to_block, blocks)
    }
}

impl HashedWrites {
    /// Where a thread cannot be had, or would have no processor, it is done here.
    fn begin(hashes: BlockHashes) -> HashedWrites {
        if !sys::has_cores() {
            return HashedWrites::Here(WrittenHashes::new(hashes));
        }
        let (pieces, waiting) = sync_channel(PIECES_WAITING);
        let of_thread = WrittenHashes::new(hashes.clone());
        match sys::spawn("bl-verity", move || of_thread.add_all(&waiting)) {
            Ok(thread) => HashedWrites::Beside { pieces, thread },
            Err(_) => HashedWrites::Here(WrittenHashes::new(hashes)),
        }
    }

    fn add(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        match self {
            HashedWrites::Here(hashes) => hashes.add(at, bytes),
            HashedWrites::Beside { pieces, .. } => {
                if pieces.send((at, bytes.to_vec())).is_ok() {
                    return Ok(());
                }
                // It has ended, with an error.
                std::mem::replace(self, HashedWrites::Ended).end().and_then(|_| ended())
            }
            HashedWrites::Ended => ended(),
        }
    }

    /// The hashes of what was written.
    fn end(self) -> Result<BlockHashes> {
        match self {
            HashedWrites::Here(hashes) => hashes.finish(),
            HashedWrites::Beside { pieces, thread } => {
                drop(pieces);
                let died = |_| Error::new(Status::Internal, "a thread that hashes has died");
                thread.join().map_err(died)?.and_then(WrittenHashes::finish)
            }
            HashedWrites::Ended => ended(),
        }
    }
}

fn ended<T>() -> Result<T> {
    Err(Error::new(Status::Internal, "what hashes a disk has ended"))
}

impl Drop for HashedSink<'_> {
    /// No thread outlives the call.
    fn drop(&mut self) {
        let _ = std::mem::replace(&mut self.written, HashedWrites::Ended).end();
    }
}

/// The hashes of what is written, in any order and in pieces of any length.
struct WrittenHashes {
    hashes: BlockHashes,
    /// Blocks that are not written in one piece.
    parts: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl WrittenHashes {
    fn new(hashes: BlockHashes) -> WrittenHashes {
        WrittenHashes { hashes, parts: BTreeMap::new() }
    }

    fn add_all(mut self, pieces: &Receiver<PlacedBytes>) -> Result<WrittenHashes> {
        while let Ok((at, bytes)) = pieces.recv() {
            self.add(at, &bytes)?;
        }
        Ok(self)
    }

    fn add(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let (block, offset) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let (now, later) = rest.split_at(rest.len().min(BLOCK - offset));
            if now.len() == BLOCK {
                self.hashes.put(block, &block_hash(now))?;
            } else {
                self.add_part(block, offset, now)?;
            }
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    fn add_part(&mut self, block: u64, offset: usize, bytes: &[u8]) -> Result<()> {
        if self.hashes.is_known(block) {
            return Err(Error::new(Status::Internal, "a block of a disk that is written twice"));
        }
        let part = self.parts.entry(block).or_insert_with(|| Box::new([0; BLOCK]));
        part[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<BlockHashes> {
        for (block, bytes) in &self.parts {
            self.hashes.put(*block, &block_hash(&bytes[..]))?;
        }
        Ok(self.hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forgets what it gets.
    struct Nothing;

    impl DiskSink for Nothing {
        fn size(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
        fn bytes(&mut self, _: u64, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn blocks(&mut self, _: &LayerDisk, _: u64, _: u64, _: u64) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pieces_of_any_length_come_to_the_same_hashes() {
        let content: Vec<u8> = (0..5 * BLOCK).map(|at| (at / 7) as u8).collect();
        let whole: Vec<u8> = content.chunks(BLOCK).flat_map(block_hash).collect();
        for step in [1000, BLOCK, 3 * BLOCK, 5 * BLOCK] {
            let mut nothing = Nothing;
            let mut sink = HashedSink::new(&mut nothing, false);
            sink.size(content.len() as u64).unwrap();
            for (number, piece) in content.chunks(step).enumerate() {
                sink.bytes((number * step) as u64, piece).unwrap();
            }
            let mut expected = BlockHashes::of_zeros(5);
            expected.put(0, &whole).unwrap();
            assert_eq!(sink.into_hashes().unwrap(), expected, "{step}");
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_an_error_and_not_a_thread_that_hangs() {
        let mut nothing = Nothing;
        let mut sink = HashedSink::new(&mut nothing, false);
        sink.size(2 * BLOCK as u64).unwrap();
        // The thread may find it later than the call.
        let added = (0..100).try_for_each(|_| sink.bytes(7 * BLOCK as u64, &[1; BLOCK]));
        let error = added.and_then(|()| sink.into_hashes().map(|_| ())).unwrap_err();
        assert_eq!(error.status(), Status::Internal);
    }
}
