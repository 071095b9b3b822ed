//! Whether a layer's disk is still what was written. The content of each file is judged by its sum,
//! with nothing behind it in its last block. The metadata is made once more from the record and
//! compared byte by byte.
//!
//! What an entry of the layer replaced is on the disk too, and nothing leads to it: that is not looked at.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::block::BLOCK;
use super::erofs::{DiskMetadata, metadata_block};
use super::id::DiskId;
use super::sink::read_exactly;
use crate::error::{Error, Result, quoted};
use crate::interrupt::Interrupt;
use crate::limits::LayerLimits;
use crate::record::{RECORD_HEAD_LEN, RecordHead, RecordLines, RecordWriter, RecordedEntry};
use crate::unpack::{
    Arena, NoContent, ROOT, RecordedLayer, Spend, TreeForm, TreeOptions, TreeWriter, Verdict, sum_of_bytes,
};

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Whether the record of a layer's disk is what was written.
pub(crate) fn verify_layer_record(record: &OwnedFd, head: &RecordHead, spend: &mut Spend<'_>) -> Result<Verdict> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    Ok(match sum_of_bytes(record.as_fd(), (RECORD_HEAD_LEN as u64, u64::MAX), &mut buffer, spend)? {
        Ok((sum, _)) if head.lines.is_none_or(|lines| lines == sum) => None,
        Ok(_) => Some("its metadata record is not what was written".into()),
        Err(why) => Some(format!("its metadata record {why}")),
    })
}

/// Compares a layer's disk with its record, which is what was written, and whose head is given.
pub(crate) fn verify_layer_disk(
    disk: BorrowedFd<'_>,
    record: &OwnedFd,
    head: &RecordHead,
    interrupt: &Interrupt,
    spend: &mut Spend<'_>,
) -> Result<Verdict> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    match compare_metadata(disk, record, head, interrupt, spend)? {
        None => compare_contents(disk, record, &mut buffer, spend),
        verdict => Ok(verdict),
    }
}

fn compare_metadata(
    disk: BorrowedFd<'_>,
    record: &OwnedFd,
    head: &RecordHead,
    interrupt: &Interrupt,
    spend: &mut Spend<'_>,
) -> Result<Verdict> {
    let Some(diff_id) = &head.diff_id else { return Ok(Some("its metadata record is of another kind".into())) };
    // What was within limits when it was made is within them now, whatever they are.
    let options = TreeOptions { form: TreeForm::EROFS, limits: LayerLimits::unlimited(), ..TreeOptions::default() };
    let no_record = RecordWriter::new(None, options.limits.clone());
    let mut nothing = NoContent;
    let mut writer = TreeWriter::new(ROOT, Arena::new(&mut nothing, true), no_record, &options, interrupt);
    writer.replay(record, &mut RecordedLayer::new(0))?;
    let (.., arena) = writer.finish()?;
    let tree = arena.into_tree()?;
    let metadata = DiskMetadata::of(&tree, interrupt)?;
    let mut first = [0; BLOCK];
    if let Some(why) = read_exactly(disk, 0, &mut first)? {
        return Ok(Some(why));
    }
    // Where the metadata begins the disk itself says; if that is not true, it is not there.
    let begins = u64::from(metadata_block(&first));
    let blocks = begins + metadata.blocks();
    let size = rustix::fs::fstat(disk).map_err(|errno| Error::os(errno, "look at a disk"))?.st_size as u64;
    if size != blocks * BLOCK as u64 || metadata.first_block((begins, blocks), &DiskId::of_layer(diff_id))? != first {
        return Ok(Some("its superblock is not what was written".into()));
    }
    let (mut at, mut verdict) = (begins * BLOCK as u64, None);
    let mut found = Vec::new();
    metadata.write(begins, |extent| extent.block, &mut |bytes| {
        found.resize(bytes.len(), 0);
        if verdict.is_none() {
            verdict = read_exactly(disk, at, &mut found)?;
        }
        if verdict.is_none() && found != bytes {
            verdict = Some("its metadata is not what was written".into());
        }
        at += bytes.len() as u64;
        spend(bytes.len() as u64)
    })?;
    Ok(verdict)
}

fn compare_contents(
    disk: BorrowedFd<'_>,
    record: &OwnedFd,
    buffer: &mut [u8],
    spend: &mut Spend<'_>,
) -> Result<Verdict> {
    let mut lines = RecordLines::default();
    while let Some(line) = lines.next(record.as_fd())? {
        spend(0)?;
        let RecordedEntry { entry, sum: Some(sum), block: Some(block), .. } = RecordedEntry::parse(&line)? else {
            continue;
        };
        let size = entry.size;
        let at = u64::from(block) * BLOCK as u64;
        let differs = match sum_of_bytes(disk, (at, size), buffer, spend)? {
            Ok(found) => (found != (sum, size)).then(|| "its content is not what was written".to_owned()),
            Err(why) => Some(why),
        };
        let mut last = [0; BLOCK];
        let rest = &mut last[..(size.next_multiple_of(BLOCK as u64) - size) as usize];
        let differs = match differs {
            None => read_exactly(disk, at + size, rest)?,
            differs => differs,
        };
        let is_followed = *rest != [0; BLOCK][..rest.len()];
        if let Some(why) = differs.or_else(|| is_followed.then(|| "something follows its content".to_owned())) {
            return Ok(Some(format!("{}: {why}", quoted(&entry.path))));
        }
    }
    Ok(None)
}
