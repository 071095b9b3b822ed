//! A walk that is ahead of who compares, on a thread of its own where there is a processor for it. To look at a tree takes as long as
//! to read what its base had.
//!
//! What is handed over needs no open directory: there may be thousands of them between the two.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FileType, Stat};

use super::node::says_something;
use super::walk::SourceWalk;
use crate::error::{Error, Result, Status};
use crate::interrupt::{Cancel, Interrupt};
use crate::layer::WHITEOUT_PREFIX;
use crate::sys;

/// What is handed over at a time, and how much of that may wait: a quarter of a kilobyte for each, some megabytes in all.
const BATCH: usize = 256;
const BATCHES_WAITING: usize = 64;
/// How often who waits looks whether the call is to end.
const INTERRUPT_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Something that was come to, with what can be known without opening it.
pub(super) struct Seen {
    /// From the root of the source on.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    /// How many directories are on the way to it, the root among them.
    pub(super) depth: usize,
    pub(super) is_mount_point: bool,
    /// It has attributes that a layer has, or that say what it is in one.
    pub(super) has_xattrs: bool,
    /// Where it leads, if it is a symlink.
    pub(super) target: Vec<u8>,
}

/// `None` is the end.
type WalkStep = Result<Option<Seen>>;

/// Dropping it ends the walk.
pub(super) enum WalkAhead {
    Here(Box<Steps>),
    Beside(Beside),
}

/// A walk on a thread of its own.
pub(super) struct Beside {
    now: std::vec::IntoIter<WalkStep>,
    batches: Option<Receiver<Vec<WalkStep>>>,
    thread: Option<JoinHandle<()>>,
    interrupt: Interrupt,
    /// Has the thread end.
    stop: Cancel,
}

/// A walk that goes into each directory that it finds.
pub(super) struct Steps {
    walk: SourceWalk,
    crosses_file_systems: bool,
    interrupt: Interrupt,
}

impl Steps {
    fn step(&mut self) -> WalkStep {
        self.interrupt.check()?;
        let Some(stat) = self.walk.next()? else { return Ok(None) };
        let is_mount_point = self.walk.is_mount_point(&stat);
        let (depth, node) = (self.walk.depth(), self.walk.node(&stat));
        let mut seen =
            Seen { path: node.path.to_vec(), stat, depth, is_mount_point, has_xattrs: false, target: Vec::new() };
        // What is left out or refused is not asked for more.
        let is_left_out = is_mount_point && !self.crosses_file_systems;
        if is_left_out || node.file_type() == FileType::Socket || node.name().starts_with(WHITEOUT_PREFIX) {
            return Ok(Some(seen));
        }
        seen.has_xattrs = node.xattr_names(None)?.iter().any(|name| says_something(name));
        match node.file_type() {
            FileType::Symlink => seen.target = node.target()?,
            FileType::Directory => {
                if let Some(folder) = node.open()? {
                    self.walk.go_into(folder, &stat)?;
                }
            }
            _ => {}
        }
        Ok(Some(seen))
    }

    fn run(mut self, batches: &SyncSender<Vec<WalkStep>>) {
        let goes_on = |step: &WalkStep| matches!(step, Ok(Some(_)));
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH && batch.last().is_none_or(goes_on) {
                batch.push(self.step());
            }
            let is_over = !batch.last().is_some_and(goes_on);
            if batches.send(batch).is_err() || is_over {
                return;
            }
        }
    }
}

impl WalkAhead {
    /// Begins.
    pub(super) fn new(walk: SourceWalk, crosses_file_systems: bool, interrupt: &Interrupt) -> WalkAhead {
        let stop = Cancel::new();
        let steps = Steps { walk, crosses_file_systems, interrupt: interrupt.also(&stop) };
        if !sys::has_cores() {
            return WalkAhead::Here(Box::new(steps));
        }
        let (give, given) = sync_channel::<Steps>(1);
        let (send, batches) = sync_channel(BATCHES_WAITING);
        let thread = sys::spawn("bl-walk", move || given.iter().for_each(|steps| steps.run(&send)));
        // Where there can be no more threads, one has to do.
        let Ok(thread) = thread else { return WalkAhead::Here(Box::new(steps)) };
        match give.send(steps) {
            Ok(()) => WalkAhead::Beside(Beside {
                now: Vec::new().into_iter(),
                batches: Some(batches),
                thread: Some(thread),
                interrupt: interrupt.clone(),
                stop,
            }),
            Err(given_back) => WalkAhead::Here(Box::new(given_back.0)),
        }
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Seen>> {
        match self {
            WalkAhead::Here(steps) => steps.step(),
            WalkAhead::Beside(beside) => beside.next(),
        }
    }
}

impl Beside {
    fn next(&mut self) -> Result<Option<Seen>> {
        // An end is said. What ends without saying so has died, and what it did not come to is not gone.
        let died = || Error::new(Status::Internal, "a thread that walks has died");
        loop {
            self.interrupt.check()?;
            if let Some(step) = self.now.next() {
                return step;
            }
            let batches = self.batches.as_ref().ok_or_else(died)?;
            match batches.recv_timeout(INTERRUPT_CHECK_INTERVAL) {
                Ok(batch) => self.now = batch.into_iter(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(died()),
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.trigger();
        drop(self.batches.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it did not come to would be taken for gone.
    #[test]
    fn a_walk_that_dies_takes_nothing_away() {
        let (send, batches) = sync_channel(1);
        send.send(vec![]).unwrap();
        let thread = sys::spawn("bl-test", move || drop(send)).unwrap();
        let mut walk = WalkAhead::Beside(Beside {
            now: Vec::new().into_iter(),
            batches: Some(batches),
            thread: Some(thread),
            interrupt: Interrupt::default(),
            stop: Cancel::new(),
        });
        let Err(error) = walk.next() else { panic!("an end that nobody said") };
        assert_eq!(error.status(), Status::Internal, "{error}");
    }
}
