//! A walk that is ahead of who compares, on a thread of its own where there is a processor for it. To look at a tree takes as long as
//! to read what its base had.
//!
//! What is handed over needs no open directory: there may be thousands of them between the two.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{FileType, Stat};

use super::walk::SourceWalk;
use crate::error::{Error, Result, Status};
use crate::sys;

/// What is handed over at a time, and how much of that may wait: a quarter of a kilobyte for each, some megabytes in all.
const BATCH: usize = 256;
const BATCHES_WAITING: usize = 64;

/// Something that was come to, with what can be known without opening it.
pub(super) struct Seen {
    /// From the root of the source on.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    /// How many directories are on the way to it, the root among them.
    pub(super) depth: usize,
    pub(super) is_mount_point: bool,
    /// Names of its attributes.
    pub(super) xattr_names: Vec<Vec<u8>>,
    /// Where it leads, if it is a symlink.
    pub(super) target: Vec<u8>,
}

/// `None` is the end.
type WalkStep = Result<Option<Seen>>;

/// Dropping it ends the walk.
pub(super) enum WalkAhead {
    Here(Box<Steps>),
    Beside {
        now: std::vec::IntoIter<WalkStep>,
        batches: Option<Receiver<Vec<WalkStep>>>,
        thread: Option<JoinHandle<()>>,
    },
}

/// A walk that goes into each directory that it finds.
pub(super) struct Steps {
    walk: SourceWalk,
    crosses_file_systems: bool,
}

impl Steps {
    fn step(&mut self) -> WalkStep {
        let Some(stat) = self.walk.next()? else { return Ok(None) };
        let is_mount_point = self.walk.is_mount_point(&stat);
        let (depth, node) = (self.walk.depth(), self.walk.node(&stat));
        let xattr_names = node.xattr_names(None)?;
        let target = if node.file_type() == FileType::Symlink { node.target()? } else { Vec::new() };
        let path = node.path.to_vec();
        if node.file_type() == FileType::Directory
            && (self.crosses_file_systems || !is_mount_point)
            && let Some(folder) = node.open()?
        {
            self.walk.go_into(folder, &stat)?;
        }
        Ok(Some(Seen { path, stat, depth, is_mount_point, xattr_names, target }))
    }

    fn run(mut self, batches: &SyncSender<Vec<WalkStep>>) {
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH && batch.last().is_none_or(|step| matches!(step, Ok(Some(_)))) {
                batch.push(self.step());
            }
            let is_over = batch.last().is_none_or(|step| !matches!(step, Ok(Some(_))));
            if batches.send(batch).is_err() || is_over {
                return;
            }
        }
    }
}

impl WalkAhead {
    /// Begins.
    pub(super) fn new(walk: SourceWalk, crosses_file_systems: bool) -> Result<WalkAhead> {
        let steps = Steps { walk, crosses_file_systems };
        if !sys::has_cores() {
            return Ok(WalkAhead::Here(Box::new(steps)));
        }
        let (send, batches) = sync_channel(BATCHES_WAITING);
        let thread = sys::spawn("bl-walk", move || steps.run(&send));
        let thread = thread.map_err(|cause| Error::io(&cause, "start a thread that walks"))?;
        Ok(WalkAhead::Beside { now: Vec::new().into_iter(), batches: Some(batches), thread: Some(thread) })
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Seen>> {
        let (now, batches) = match self {
            WalkAhead::Here(steps) => return steps.step(),
            WalkAhead::Beside { now, batches, .. } => (now, batches),
        };
        if let Some(step) = now.next() {
            return step;
        }
        // An end is said. What ends without saying so has died, and what it did not come to is not gone.
        let died = || Error::new(Status::Internal, "a thread that walks has died");
        *now = batches.as_ref().ok_or_else(died)?.recv().map_err(|_| died())?.into_iter();
        now.next().ok_or_else(died)?
    }
}

impl Drop for WalkAhead {
    fn drop(&mut self) {
        if let WalkAhead::Beside { batches, thread, .. } = self {
            drop(batches.take());
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}
