//! What the fuzz targets need of the inside. Exists only in their builds.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;

use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Decompressor, Entry, LayerFile, Reader, Stream};
use crate::limits::LayerLimits;
use crate::record::{RECORD_HEAD_LEN, RecordFile, RecordWriter, record_name};
use crate::store::{Folder, Partial, Storage};
use crate::unpack::{Arena, Assembler, NoContent, ROOT, TreeForm, TreeOptions, TreeWriter};

fn reader_of(file: OwnedFd, limits: &LayerLimits) -> Result<Reader> {
    let interrupt = Interrupt::default();
    let source =
        Decompressor::open(LayerFile::new(file, Algorithm::Sha256), Algorithm::Sha256, interrupt.clone(), limits)?;
    Ok(Reader::new(Stream::new(source, Algorithm::Sha256, interrupt)?, limits.clone()))
}

/// All entries of a layer with their data, as text, and both digests.
pub fn read_entries(file: OwnedFd, limits: &LayerLimits) -> Result<(Vec<String>, Digest, Digest)> {
    let mut reader = reader_of(file, limits)?;
    let mut entry = Entry::default();
    let mut found = Vec::new();
    while reader.next(&mut entry)? {
        let mut end = 0;
        while let Some(data) = reader.data()? {
            assert!(data.offset >= end, "data that goes back");
            end = data.offset + data.bytes.len() as u64;
        }
        assert!(end <= entry.size, "more data than the file has");
        assert!(!entry.path.split(|&b| b == b'/').any(|name| matches!(name, b"." | b"..")), "{entry:?}");
        found.push(format!("{entry:?} {end}"));
    }
    let (totals, ..) = reader.finish()?;
    Ok((found, totals.digest, totals.diff_id))
}

/// A record that is written to memory.
fn record_in_memory() -> (RecordFile, std::fs::File) {
    #[allow(clippy::unwrap_used)]
    let file = rustix::fs::memfd_create("record", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    #[allow(clippy::unwrap_used)]
    let same = file.try_clone().unwrap();
    (RecordFile::new(file, "record".into()), same.into())
}

/// The lines of the record of layers on top of each other, or of one layer by itself, whose nodes are in memory.
pub fn record_of_nodes_in_memory(layers: Vec<OwnedFd>, options: &TreeOptions, is_alone: bool) -> Result<String> {
    let ((first, lines), (second, compacted)) = (record_in_memory(), record_in_memory());
    let record = RecordWriter::new(Some(first), options.limits.clone());
    let (interrupt, mut nothing) = (Interrupt::default(), NoContent);
    let mut writer =
        TreeWriter::new(ROOT, Arena::new(&mut nothing, options.form.is_overlay()), record, options, &interrupt);
    let mut is_compacted = false;
    let successor = || {
        is_compacted = true;
        Ok(second)
    };
    let head = |_, _| [b'\n'; RECORD_HEAD_LEN];
    if is_alone {
        for layer in layers {
            let mut reader = reader_of(layer, &options.limits)?;
            writer.write(&mut reader)?;
            reader.finish()?;
        }
        writer.finish()?.0.finish(head, successor, &interrupt)?;
    } else {
        let mut assembler = Assembler::of(writer);
        for layer in layers {
            let mut reader = reader_of(layer, &options.limits)?;
            assembler.archive(&mut reader)?;
            reader.finish()?;
        }
        assembler.finish(head, successor)?;
    }
    let mut file = if is_compacted { compacted } else { lines };
    let mut text = Vec::new();
    let read = file.seek(SeekFrom::Start(RECORD_HEAD_LEN as u64)).and_then(|_| file.read_to_end(&mut text));
    assert!(read.is_ok(), "{read:?}");
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Removes an extracted tree and its record.
pub fn remove_tree(storage: &Storage, digest: &Digest, form: TreeForm) -> Result<()> {
    let name = form.tree_name(digest);
    Partial::take_away(&storage.directory, Folder::Extracted, &name)?;
    Partial::take_away(&storage.directory, Folder::Extracted, &record_name(&name))
}
