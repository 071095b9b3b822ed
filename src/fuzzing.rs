//! What the fuzz targets need of the inside. Exists only in their builds.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::os::fd::OwnedFd;

use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Decompressor, Entry, LayerFile, Reader, Stream};
use crate::limits::LayerLimits;
use crate::record::record_name;
use crate::store::{Folder, Partial, Storage};
use crate::unpack::TreeForm;

/// All entries of a layer with their data, as text, and both digests.
pub fn read_entries(file: OwnedFd, limits: &LayerLimits) -> Result<(Vec<String>, Digest, Digest)> {
    let interrupt = Interrupt::default();
    let source =
        Decompressor::open(LayerFile::new(file, Algorithm::Sha256), Algorithm::Sha256, interrupt.clone(), limits)?;
    let mut reader = Reader::new(Stream::new(source, Algorithm::Sha256, interrupt)?, limits.clone());
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

/// Removes an extracted tree and its record.
pub fn remove_tree(storage: &Storage, digest: &Digest, form: TreeForm) -> Result<()> {
    let name = form.tree_name(digest);
    Partial::take_away(&storage.directory, Folder::Extracted, &name)?;
    Partial::take_away(&storage.directory, Folder::Extracted, &record_name(&name))
}
