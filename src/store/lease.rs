//! Leases: holds on objects that outlive the process that took them, and end by their time at the latest.
//!
//! A collection keeps what names reach. A host may have something in the store without a name. It
//! may go on using a layer after its image lost its name, as a machine does that runs from its
//! tree. It says so with a lease: a small file that names what it holds, until when. A lease on a
//! manifest holds the image's config and layers too.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::lock::{CollectionLock, Lock};
use super::partial::Partial;
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;

/// How long something is held for a host that names no time.
const DEFAULT_TIME: Duration = Duration::from_secs(24 * 3600);
/// What precedes the lease in the name of the lock on it.
pub(super) const LOCK: &str = "lease-";
/// Of a lease's file: some ten thousand digests.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A hold on objects of a store. Dropping it changes nothing: it lives until its time, or [`Lease::release`].
#[derive(Debug)]
pub struct Lease {
    directory: Arc<StoreDir>,
    id: String,
    /// Of a call, which a loss of power ends too: not worth a flush.
    is_of_call: bool,
}

#[derive(Serialize, Deserialize)]
struct LeaseFile {
    /// Seconds since 1970.
    expires: u64,
    digests: Vec<String>,
    /// Of the rest.
    sum: String,
}

impl LeaseFile {
    fn sum(&self) -> String {
        super::small_files::checksum(&[&self.expires.to_string(), &self.digests.join(" ")])
    }
}

impl Storage {
    /// A new lease that ends after `time`, and holds nothing yet.
    pub fn create_lease(&self, time: Duration) -> Result<Lease> {
        self.new_lease(time, false)
    }

    /// Something that a new lease holds for a host, together with that lease, of a day unless a time is given. Where it does not
    /// come about, the lease ends.
    pub(crate) fn held_by_lease<T>(
        &self,
        time: Option<Duration>,
        hold: impl FnOnce(&Lease) -> Result<T>,
    ) -> Result<(T, Lease)> {
        let lease = self.create_lease(time.unwrap_or(DEFAULT_TIME))?;
        match hold(&lease) {
            Ok(held) => Ok((held, lease)),
            Err(error) => {
                lease.release_or_warn();
                Err(error)
            }
        }
    }

    /// The same for the time of a call. After a loss of power it may be there or not.
    fn create_lease_of_call(&self, time: Duration) -> Result<Lease> {
        self.new_lease(time, true)
    }

    fn new_lease(&self, time: Duration, is_of_call: bool) -> Result<Lease> {
        self.directory.check_writable()?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let lease = Lease { directory: self.directory.clone(), id, is_of_call };
        lease.write(
            LeaseFile { expires: after(time), digests: Vec::new(), sum: String::new() },
            &Interrupt::default(),
        )?;
        Ok(lease)
    }

    /// A lease that was made earlier, perhaps by another process; `NOT_FOUND` where it has ended.
    pub fn open_lease(&self, id: &str) -> Result<Lease> {
        self.directory.check_not_forked()?;
        if !is_id(id) {
            return Err(Error::new(
                Status::InvalidArgument,
                format!("{} is not the id of a lease", quoted(id.as_bytes())),
            ));
        }
        let lease = Lease { directory: self.directory.clone(), id: id.to_owned(), is_of_call: false };
        lease.read()?;
        Ok(lease)
    }

    /// What live leases hold. Those whose time is over are removed, unless `keep_ended`.
    pub(crate) fn leased(&self, keep_ended: bool) -> Result<Vec<Digest>> {
        let folder = self.directory.area(Folder::Leases)?;
        let mut held = Vec::new();
        for name in self.lease_files()? {
            let id = name.trim_end_matches(".json");
            let lease = Lease { directory: self.directory.clone(), id: id.to_owned(), is_of_call: true };
            match lease.read() {
                Ok(file) => held.extend(file.digests.iter().filter_map(|text| Digest::parse(text).ok())),
                Err(error) if error.status() == Status::NotFound && !keep_ended => {
                    let _ = rustix::fs::unlinkat(folder, lease.file_name().as_str(), AtFlags::empty());
                }
                Err(error) if error.status() == Status::NotFound => {}
                // What it holds cannot be known, so nothing may be removed.
                Err(error) => return Err(error),
            }
        }
        Ok(held)
    }
}

impl Lease {
    /// What other processes open it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Holds an object, which need not be in the store yet: it is not removed from now on. For a manifest this holds what
    /// it points to. `NOT_FOUND` where the lease has ended.
    pub fn hold(&self, digest: &Digest) -> Result<()> {
        self.hold_unless(digest, &Interrupt::default())
    }

    /// The same for a call that may be ended while it waits.
    pub(crate) fn hold_unless(&self, digest: &Digest, interrupt: &Interrupt) -> Result<()> {
        self.change(interrupt, |file| {
            let text = digest.to_string();
            if !file.digests.contains(&text) {
                file.digests.push(text);
            }
        })
    }

    /// Lets the lease end after `time` from now. `NOT_FOUND` where it has ended.
    pub fn extend(&self, time: Duration) -> Result<()> {
        self.change(&Interrupt::default(), |file| file.expires = after(time))
    }

    /// Ends the lease. One that has ended is no error.
    pub fn release(&self) -> Result<()> {
        self.directory.check_writable()?;
        // Not while somebody else changes it, and so would put it back.
        let _lock = Lock::acquire(&self.directory, format!("{LOCK}{}", self.id), &Interrupt::default())?;
        match rustix::fs::unlinkat(self.directory.area(Folder::Leases)?, self.file_name(), AtFlags::empty()) {
            Ok(()) if self.is_of_call => Ok(()),
            Ok(()) => self.directory.sync_area(Folder::Leases),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::os(errno, format_args!("end lease {}", self.id))),
        }
    }

    /// The same, after another error: a failure is a warning, since the lease ends by its time at the latest.
    pub(crate) fn release_or_warn(&self) {
        if let Err(error) = self.release() {
            tracing::warn!("{error}");
        }
    }

    fn change(&self, interrupt: &Interrupt, change: impl FnOnce(&mut LeaseFile)) -> Result<()> {
        self.directory.check_writable()?;
        // A collection that is under way has read the lease as it was.
        let _collection = CollectionLock::shared(&self.directory, interrupt)?;
        let _lock = Lock::acquire(&self.directory, format!("{LOCK}{}", self.id), interrupt)?;
        let mut file = self.read()?;
        change(&mut file);
        self.write(file, interrupt)
    }

    fn file_name(&self) -> String {
        format!("{}.json", self.id)
    }

    fn read(&self) -> Result<LeaseFile> {
        let ended = || Error::new(Status::NotFound, format!("lease {} has ended", self.id));
        let file = self.directory.open_file(Folder::Leases, &self.file_name())?.ok_or_else(ended)?;
        let path = self.directory.object_path(Folder::Leases, &self.file_name());
        let file = parse(file.as_fd()).map_err(|error| error.context(path.display()))?;
        if file.expires <= now() { Err(ended()) } else { Ok(file) }
    }

    fn write(&self, mut file: LeaseFile, interrupt: &Interrupt) -> Result<()> {
        file.sum = file.sum();
        let bytes = serde_json::to_vec(&file).map_err(|cause| Error::new(Status::Internal, cause.to_string()))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::limit("lease size", MAX_FILE_BYTES as u64, bytes.len(), &self.id));
        }
        let mut partial = Partial::create_file(&self.directory, Folder::Leases, &self.id)?;
        partial.write_all(&bytes)?;
        if self.is_of_call {
            partial = partial.only_for_this_boot();
        }
        partial.publish(&self.file_name(), interrupt, |_| Ok(false))
    }
}

/// How long what a call holds stays, should it die.
const CALL: Duration = Duration::from_secs(3600);

/// A lease for the time of a call.
pub(crate) struct CallLease {
    lease: Lease,
    extended: Instant,
}

impl CallLease {
    pub(crate) fn new(storage: &Storage) -> Result<CallLease> {
        Ok(CallLease { lease: storage.create_lease_of_call(CALL)?, extended: Instant::now() })
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// A call may take longer than its lease.
    pub(crate) fn extend_in_time(&mut self, now: Instant) -> Result<()> {
        if now.saturating_duration_since(self.extended) >= CALL / 4 {
            self.extended = now;
            self.lease.extend(CALL)?;
        }
        Ok(())
    }
}

impl Drop for CallLease {
    fn drop(&mut self) {
        self.lease.release_or_warn();
    }
}

/// Whether a file is one of a lease.
pub(crate) fn check_lease(file: BorrowedFd<'_>) -> Result<()> {
    parse(file).map(|_| ())
}

fn parse(file: BorrowedFd<'_>) -> Result<LeaseFile> {
    let malformed = |why: String| Error::new(Status::Malformed, format!("not a lease: {why}"));
    let file: LeaseFile = serde_json::from_slice(&super::small_files::read_small(file, MAX_FILE_BYTES)?)
        .map_err(|cause| malformed(cause.to_string()))?;
    if file.sum == file.sum() { Ok(file) } else { Err(malformed("its checksum does not match".into())) }
}

/// 32 hex digits.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn after(time: Duration) -> u64 {
    now().saturating_add(time.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::store::StorageOptions;

    #[test]
    fn a_lease_outlives_a_long_call() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
        let mut held = CallLease::new(&storage).unwrap();
        // Its file is replaced when it is extended.
        let file = || {
            let file = std::fs::read_dir(dir.path().join("leases")).unwrap().next().unwrap().unwrap();
            file.metadata().unwrap().ino()
        };
        let (begun, first) = (held.extended, file());
        held.extend_in_time(begun + CALL / 4 - Duration::from_secs(1)).unwrap();
        assert_eq!(file(), first);
        held.extend_in_time(begun + CALL / 4).unwrap();
        assert_ne!(file(), first);
        drop(held);
        assert_eq!(std::fs::read_dir(dir.path().join("leases")).unwrap().count(), 0);
    }
}
