//! Lines of a record that no longer hold, and how they are taken out of it.
//!
//! A layer that has a path twice, or a file where it later needs a directory, is rare. One that has
//! each path once is written straight to its record, and this code never runs. Where it does, the
//! record is read once more and the lines that hold are copied. So memory is for what was replaced
//! and not for the layer.
//!
//! A hard link outlives its target: a link to a file that was replaced keeps the old file (family 39). The old file's
//! line then becomes the line of the first such link that is still there, and the others link to that.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use super::line::{RecordLine, RecordLines};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::split_parent;
use crate::limits::{self, LayerLimits};

/// What the line of a file said whose name something else has now.
struct ReplacedFile {
    rest: Vec<u8>,
    /// The link that has taken the file's place in the record.
    heir: Option<Vec<u8>>,
}

/// What was found of the directory that was asked for last: archives list a directory's entries together.
#[derive(Default)]
struct Nearby {
    directory: Option<Vec<u8>>,
    before: u64,
}

/// Which lines no longer hold: for a path, those before the line of this number.
#[derive(Default)]
pub(super) struct Voided {
    trees: BTreeMap<Vec<u8>, u64>,
    lines: BTreeMap<Vec<u8>, u64>,
}

impl Voided {
    /// The lines so far of a path and everything below it.
    pub(super) fn tree(&mut self, path: &[u8], line: u64) {
        self.trees.insert(path.to_vec(), line);
    }

    /// The lines so far of a path alone.
    pub(super) fn line(&mut self, path: &[u8], line: u64) {
        self.lines.insert(path.to_vec(), line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trees.is_empty() && self.lines.is_empty()
    }

    /// Whether what a path was at a line is gone.
    fn is_gone(&self, path: &[u8], line: u64, nearby: &mut Nearby) -> bool {
        let parent = split_parent(path).0;
        if nearby.directory.as_deref() != Some(parent) {
            nearby.before = self.gone_before(parent);
            nearby.directory = Some(parent.to_vec());
        }
        line < nearby.before || self.trees.get(path).is_some_and(|&before| line < before)
    }

    /// The number of the line before which everything at or above a path is gone.
    fn gone_before(&self, path: &[u8]) -> u64 {
        let mut at = path;
        let mut before = 0;
        loop {
            before = before.max(self.trees.get(at).copied().unwrap_or(0));
            if at.is_empty() {
                return before;
            }
            at = split_parent(at).0;
        }
    }

    fn is_void(&self, path: &[u8], line: u64, nearby: &mut Nearby) -> bool {
        self.is_gone(path, line, nearby) || self.lines.get(path).is_some_and(|&before| line < before)
    }

    /// Gives `keep` the lines that hold.
    pub(super) fn compact(
        self,
        record: BorrowedFd<'_>,
        limits: &LayerLimits,
        interrupt: &Interrupt,
        mut keep: impl FnMut(&RecordLine<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut needed = BTreeSet::new();
        let (mut nearby, mut nearby_target) = (Nearby::default(), Nearby::default());
        for_each_line(record, interrupt, |number, line| {
            if let Some(target) = line.hardlink()?
                && self.is_gone(&target, number, &mut nearby_target)
            {
                needed.insert(target);
            }
            Ok(())
        })?;
        let mut kept: Vec<ReplacedFile> = Vec::new();
        // Names of what is kept; a link that was replaced too is one more name of its target.
        let mut names: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut kept_bytes = 0;
        for_each_line(record, interrupt, |number, line| {
            let path = line.path()?;
            let is_void = self.is_void(&path, number, &mut nearby);
            let mut rest = line.rest.to_vec();
            let mut same = None;
            if let Some(target) = line.hardlink()?
                && self.is_gone(&target, number, &mut nearby_target)
                && let Some(&index) = names.get(&target)
                && let Some(ReplacedFile { rest: target_rest, heir }) = kept.get_mut(index)
            {
                same = Some(index);
                match heir {
                    Some(heir) => rest = [b" type=file hardlink=", &heir[..]].concat(),
                    None => rest = without_whiteout(target_rest),
                }
                if !is_void && heir.is_none() {
                    *heir = Some(line.name.to_vec());
                }
            }
            if !is_void {
                return keep(&RecordLine { name: line.name, rest: &rest });
            }
            if needed.contains(&path) {
                let index = same.unwrap_or(kept.len());
                if same.is_none() {
                    kept_bytes += rest.len() as u64;
                    limits::KEPT_METADATA.check(limits, kept_bytes, || "layer")?;
                    kept.push(ReplacedFile { rest, heir: None });
                }
                names.insert(path, index);
            }
            Ok(())
        })
    }
}

/// A marker's line, for a name that is none: what it is a link to was an empty file.
fn without_whiteout(rest: &[u8]) -> Vec<u8> {
    let words = rest.split(|&b| b == b' ').filter(|word| !word.starts_with(b"whiteout="));
    words.collect::<Vec<_>>().join(&b' ')
}

fn for_each_line(
    record: BorrowedFd<'_>,
    interrupt: &Interrupt,
    mut each: impl FnMut(u64, RecordLine<'_>) -> Result<()>,
) -> Result<()> {
    let mut lines = RecordLines::default();
    let mut number = 0;
    while let Some(line) = lines.next(record)? {
        interrupt.check()?;
        each(number, line)?;
        number += 1;
    }
    Ok(())
}
