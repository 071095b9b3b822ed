//! Entries one by one, from whoever has them and makes the archive of the layer at the same time.

use std::os::fd::OwnedFd;

use super::checksum::ContentSum;
use super::copy::{Original, Place};
use super::disk_nodes::DiskNodes;
use super::lower::LayerSource;
use super::tree::TreeWriter;
use crate::error::Result;
use crate::layer::Entry;

impl TreeWriter<DiskNodes<'_>> {
    /// Takes what has no content.
    pub(crate) fn take_node(&mut self, entry: &Entry) -> Result<()> {
        self.take_entry(entry, LayerSource::Entry(None, None))
    }

    /// For the content of the file that comes next.
    pub(crate) fn content_sum(&self) -> ContentSum {
        ContentSum::new(self.holes)
    }

    /// Takes a file with the content of an open one, which nobody writes to. Their blocks are shared where that is possible.
    pub(crate) fn take_file(&mut self, entry: &Entry, content: Option<OwnedFd>, sum: ContentSum) -> Result<()> {
        let (sum, holes) = sum.finish(entry.size);
        self.holes = holes;
        let content = content.map(|file| Original { place: Place::Open(file), size: entry.size, reflink: true });
        self.take_entry(entry, LayerSource::Entry(content, sum))
    }

    fn take_entry(
        &mut self,
        entry: &Entry,
        mut source: LayerSource<'_, <DiskNodes<'_> as super::nodes::Nodes>::Lower>,
    ) -> Result<()> {
        self.interrupt.check()?;
        self.entries += 1;
        self.root.grant_steps();
        self.entry(entry, &mut source)?;
        self.keep(0)
    }
}
