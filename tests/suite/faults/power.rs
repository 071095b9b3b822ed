//! The power fails. A file system in user space serves one file, in memory, and notes every write
//! to it and every flush, in order. A loop device makes a disk of it, on which an ext4 has a store.
//! What a disk may hold after the power failed is everything up to some flush, and any part of what
//! was written after it. Each such disk is mounted and the store on it checked, by a process that
//! sees another boot than the one that wrote. Nothing that is visible is wrong, and whatever a call
//! had promised before the flush is there.
//!
//! The same with all syncs stubbed out must fail, or the test would prove nothing.

use std::ffi::OsStr;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use boxlite_images::{
    CheckOptions, Digest, DiskFormat, DiskLayout, DiskOptions, ExtractOptions, GcOptions, ImageName, Storage,
    StorageOptions,
};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::super::archive::Archive;
use super::super::images::put_image_of;
use super::super::support::{has_tool, is_root, run, skip, temp_dir, wait_until};
use super::{Chance, is_full};

const SIZE: usize = 32 << 20;
/// What a disk writes whole or not at all. With less, ext4 itself is lost now and then, by its own journal's head.
const SECTOR: usize = 4096;
const TEST: &str = "faults::power::nothing_is_wrong_after_power_loss";
const DISK: INodeNo = INodeNo(2);

enum Event {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    Flush,
    /// What the writing process says has been done.
    Promise(String),
}

/// The disk's file, and what happened to it.
#[derive(Default)]
struct Log {
    events: Vec<Event>,
    bytes: Vec<u8>,
}

#[derive(Clone)]
struct OneFile(Arc<Mutex<Log>>);

impl OneFile {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_disk = ino == DISK;
        FileAttr {
            ino,
            size: if is_disk { SIZE as u64 } else { 0 },
            blocks: if is_disk { SIZE as u64 / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_disk { FileType::RegularFile } else { FileType::Directory },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&Duration::from_secs(60), &self.attributes(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::from_secs(60), &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let log = self.0.lock().unwrap();
        let start = (offset as usize).min(SIZE);
        reply.data(&log.bytes[start..(start + size as usize).min(SIZE)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut log = self.0.lock().unwrap();
        let offset = offset as usize;
        log.bytes[offset..offset + data.len()].copy_from_slice(data);
        log.events.push(Event::Write { offset, data: data.to_vec() });
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().unwrap().events.push(Event::Flush);
        reply.ok();
    }
}

/// A file that is mounted by way of a loop device. Dropping it unmounts.
struct Mounted(PathBuf);

impl Mounted {
    fn new(file: &Path, at: &Path) -> Option<Mounted> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(file).arg(at).output().unwrap();
        mounted.status.success().then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A child that another test is starting has all our handles for a moment.
        let unmounted = || Command::new("umount").arg("-q").arg(&self.0).status().is_ok_and(|status| status.success());
        wait_until("nobody is in the file system", unmounted);
    }
}

/// The process that uses the store while the disk is watched: prints what it was promised.
fn work(store: &Path) {
    let storage = Storage::open(store, &StorageOptions::default()).unwrap();
    let layer = |i: usize, j: usize| {
        let archive = Archive::new().dir(b"d").file(b"d/number", format!("{i}.{j}").as_bytes());
        archive.file(b"d/content", &vec![b'x'; 30_000 + 5000 * j]).symlink(b"l", b"d/content").finish()
    };
    let promise = |what: String| {
        println!("promise {what}");
        std::io::stdout().flush().unwrap();
    };
    let name = |i: usize| ImageName::parse(&format!("example.org/image:{i}")).unwrap();
    for i in 0..6 {
        let layers = [layer(i, 0), layer(i, 1), layer(0, 0)];
        let digest = put_image_of(&storage, &i.to_string(), &layers);
        promise(format!("manifest {digest}"));
        let image = storage.open_image_by_digest(&digest).unwrap();
        image.layers().for_each(|(layer, _)| promise(format!("layer {}", layer.digest)));
        storage.tag_image(&name(i), &digest).unwrap();
        promise(format!("name {} {digest}", name(i)));
        for (layer, _) in image.layers() {
            let mut options = ExtractOptions::default();
            storage.extract_layer(&layer.digest, &options).unwrap();
            options.tree.form.erofs = true;
            storage.extract_layer(&layer.digest, &options).unwrap();
        }
        let erofs = DiskOptions::default().format(DiskFormat::Erofs);
        for options in [erofs.clone(), erofs.layout(DiskLayout::Merged), DiskOptions::default()] {
            storage.keep_disk(&image, &options).unwrap();
        }
        // Time for the file system to write what nobody synced, and in the middle for trees to become durable.
        std::thread::sleep(Duration::from_millis(if i == 2 { 3500 } else { 1200 }));
        if i == 3 {
            // From now on it may be gone, and then what it led to: first that has to be heard.
            promise(format!("perhaps {}", name(0)));
            std::thread::sleep(Duration::from_millis(300));
            storage.remove_image(&name(0)).unwrap();
            promise(format!("no name {}", name(0)));
            std::thread::sleep(Duration::from_millis(300));
            let mut options = GcOptions::default();
            options.min_age = Duration::ZERO;
            storage.collect(&options).unwrap();
        }
    }
}

/// A kernel cannot be installed, as a tool can: this is no failure, whatever is required.
fn no_kernel(why: &str) -> Option<Log> {
    eprintln!("skipped: {why}");
    None
}

/// Records what the worker does to a disk.
fn record(with_syncs: bool) -> Option<Log> {
    let dir = temp_dir();
    let (point, mount) = (dir.path().join("fuse"), dir.path().join("mnt"));
    std::fs::create_dir(&point).unwrap();
    let log = Arc::new(Mutex::new(Log { events: Vec::new(), bytes: vec![0; SIZE] }));
    let session = match fuser::spawn_mount(OneFile(log.clone()), &point, &Config::default()) {
        Ok(session) => session,
        Err(cause) => {
            return no_kernel(&format!("no file systems in user space: {cause}"));
        }
    };
    let disk = point.join("disk");
    let options = ["-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"].map(OsStr::new);
    run("mkfs.ext4", &[options[0], options[1], options[2], disk.as_os_str()]);
    std::fs::create_dir(&mount).unwrap();
    // Committing every second brings to the disk what nobody waits for.
    let mounted = Command::new("mount").args(["-o", "loop,commit=1"]).arg(&disk).arg(&mount).output().unwrap();
    if !mounted.status.success() {
        drop(session);
        return no_kernel(&format!("no loop devices: {}", String::from_utf8_lossy(&mounted.stderr)));
    }
    let mounted = Mounted(mount.clone());
    // The events so far made the disk; they are where all of it begins.
    run("sync", &["-f".as_ref(), mount.as_os_str()]);
    log.lock().unwrap().events.clear();
    let before = log.lock().unwrap().bytes.clone();

    let boot = dir.path().join("boot_id");
    std::fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").unwrap();
    let other_boot = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", other_boot, "sh"]).arg(&boot);
    if !with_syncs {
        command.args(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync,fdatasync,syncfs:retval=0"]);
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", TEST, "--nocapture", "--test-threads=1"]);
    command.env("BL_POWER_STORE", mount.join("store"));
    let mut worker = command.stdout(Stdio::piped()).spawn().unwrap();
    for line in std::io::BufReader::new(worker.stdout.take().unwrap()).lines() {
        if let Some(promise) = line.unwrap().split_once("promise ").map(|(_, promise)| promise.to_owned()) {
            log.lock().unwrap().events.push(Event::Promise(promise));
        }
    }
    assert!(worker.wait().unwrap().success());
    drop(mounted);
    drop(session);
    let events = std::mem::take(&mut log.lock().unwrap().events);
    Some(Log { events, bytes: before })
}

/// A disk as it may be after the power failed, and what had been promised by then.
struct Moment {
    bytes: Vec<u8>,
    promises: Vec<String>,
}

/// Every disk that ends with a flush, and some that end between two.
fn moments(log: Log, chance: &mut Chance, mut judge: impl FnMut(Moment)) {
    let Log { events, mut bytes } = log;
    let mut promises = Vec::new();
    let mut unflushed: Vec<(usize, Vec<u8>)> = Vec::new();
    let flushes = events.iter().filter(|event| matches!(event, Event::Flush)).count();
    let every = if is_full() { 1 } else { flushes.div_ceil(30).max(1) };
    let (mut number, parts) = (0, if is_full() { 3 } else { 1 });
    for event in events {
        match event {
            Event::Write { offset, data } => unflushed.push((offset, data)),
            // What is promised was flushed before, or it is not worth the word.
            Event::Promise(promise) => promises.push((promise, number)),
            Event::Flush => {
                let kept = |number: usize| {
                    promises.iter().filter(move |(_, at)| *at <= number).map(|(promise, _)| promise.clone()).collect()
                };
                if number % every == 0 {
                    for _ in 0..parts {
                        let mut torn = bytes.clone();
                        for (offset, data) in &unflushed {
                            // Whole, not at all, or some sectors from the start.
                            let len = match chance.below(3) {
                                0 => 0,
                                1 => data.len(),
                                _ => chance.below(data.len() / SECTOR + 1) * SECTOR,
                            };
                            torn[*offset..offset + len].copy_from_slice(&data[..len]);
                        }
                        judge(Moment { bytes: torn, promises: kept(number) });
                    }
                }
                for (offset, data) in unflushed.drain(..) {
                    bytes[offset..offset + data.len()].copy_from_slice(&data);
                }
                number += 1;
                if number % every == 0 {
                    judge(Moment { bytes: bytes.clone(), promises: kept(number) });
                }
            }
        }
    }
}

/// What is wrong with the store on a disk.
fn problems(moment: &Moment, dir: &Path) -> Vec<String> {
    // A file of its own: a loop device that still has the one before would be taken again, with what it remembers of it.
    let file = tempfile::NamedTempFile::new_in(dir).unwrap();
    file.as_file().set_len(SIZE as u64).unwrap();
    let zeros = vec![0; 64 << 10];
    for (i, block) in moment.bytes.chunks(zeros.len()).enumerate().filter(|(_, block)| *block != &zeros[..]) {
        file.as_file().write_all_at(block, (i * zeros.len()) as u64).unwrap();
    }
    let Some(mounted) = Mounted::new(file.path(), &dir.join("mnt")) else {
        return vec!["the disk cannot be mounted".into()];
    };
    let store = mounted.0.join("store");
    let storage = match Storage::open(&store, &StorageOptions::default()) {
        Ok(storage) => storage,
        Err(error) => return vec![format!("the store does not open: {error}")],
    };
    let report = storage.check(&CheckOptions::default()).unwrap();
    // That a name leads to something missing is wrong too: it was given after all of it was there.
    let mut wrong: Vec<String> = report.findings.into_iter().map(|finding| finding.message).collect();
    // A later promise may take back an earlier one.
    let mut names = std::collections::BTreeMap::new();
    let mut collected = false;
    for promise in &moment.promises {
        let words: Vec<&str> = promise.split(' ').collect();
        match words[..] {
            ["name", name, digest] => _ = names.insert(name.to_owned(), Some(digest.to_owned())),
            ["perhaps", name] => _ = names.remove(name),
            ["no", "name", name] => {
                names.insert(name.to_owned(), None);
                collected = true;
            }
            _ => {}
        }
    }
    for promise in &moment.promises {
        let words: Vec<&str> = promise.split(' ').collect();
        let digest = Digest::parse(words[words.len() - 1]);
        let is_kept = match (words[0], digest) {
            ("manifest", Ok(digest)) => storage.has_manifest(&digest).unwrap() || collected,
            ("layer", Ok(digest)) => storage.has_layer(&digest).unwrap() || collected,
            _ => true,
        };
        if !is_kept {
            wrong.push(format!("{promise} was promised, and is gone"));
        }
    }
    for (name, digest) in names {
        let found = storage.image(&ImageName::parse(&name).unwrap()).ok().map(|image| image.manifest.to_string());
        if found != digest {
            wrong.push(format!("{name} is {found:?} instead of {digest:?}"));
        }
    }
    drop(storage);
    wrong
}

#[test]
fn nothing_is_wrong_after_power_loss() {
    if let Some(store) = std::env::var_os("BL_POWER_STORE") {
        return work(Path::new(&store));
    }
    if !is_root() {
        return skip("only root mounts");
    }
    if !["mkfs.ext4", "mount", "umount", "unshare", "strace", "sync"].iter().all(|tool| has_tool(tool)) {
        return;
    }
    let Some(log) = record(true) else { return };
    let (writes, flushes) = counts(&log);
    assert!(writes > 100 && flushes > 30, "{writes} writes and {flushes} flushes are no record");
    // In memory, where there is some: mounting waits for its disk.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { temp_dir() };
    let (mut states, mut chance) = (0, Chance(0x9e37_79b9_7f4a_7c15));
    moments(log, &mut chance, |moment| {
        states += 1;
        assert_eq!(problems(&moment, dir.path()), [""; 0], "disk {states}");
    });
    println!("power: {states} disks out of {writes} writes and {flushes} flushes, no store wrong");

    let Some(log) = record(false) else { return };
    let (mut wrong, mut without_syncs) = (0, 0);
    moments(log, &mut chance, |moment| {
        // One is enough to know, and all of them are counted where there is time.
        if wrong == 0 || is_full() {
            without_syncs += 1;
            wrong += usize::from(!problems(&moment, dir.path()).is_empty());
        }
    });
    assert!(wrong > 0, "the store is right without any sync: the test proves nothing");
    println!("power: without syncs {wrong} of {without_syncs} disks have a store that is wrong");
}

fn counts(log: &Log) -> (usize, usize) {
    let writes = log.events.iter().filter(|event| matches!(event, Event::Write { .. })).count();
    let flushes = log.events.iter().filter(|event| matches!(event, Event::Flush)).count();
    (writes, flushes)
}
