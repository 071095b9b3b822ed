//! Whether an extracted tree is still what its metadata record says: every name, and no other.
//! Types, sizes, contents and targets of links are compared. In the overlay forms, so are whiteouts
//! and opaque directories. Of each file, so are owner, mode, time and extended attributes as far as
//! they could be set ([`super::metadata`]).
//!
//! The record is read twice, once for its own checksum, and the tree once by the record and once by its names. Memory is
//! eight bytes or so a path.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::damage::{Verdict, damage};
use super::metadata::{ExpectedMetadata, StatTarget, time_differs};
use super::sum::{Spend, sum_of_bytes};
use crate::error::{Error, Result, quoted};
use crate::layer::{Anomalies, Device, split_parent};
use crate::record::{LayerEntry, LayerEntryKind, RECORD_HEAD_LEN, RecordHead, RecordLine, RecordLines, RecordedEntry};
use crate::sys::{is_directory, is_regular};
use crate::unpack::form::{TreeForm, WhiteoutForm};
use crate::unpack::write::NAME_MAX;

const READ_BUFFER_BYTES: usize = 256 << 10;
const OPEN_FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Directories on the way to the last path that stay open.
const MAX_OPEN_DIRECTORIES: usize = 64;
/// Names between two looks at whether the check is to end.
const SPEND_EVERY_NAMES: usize = 256;

/// Compares a tree, which is in `folder`, with its record, whose head is given.
pub(crate) fn verify_tree(
    folder: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    record: BorrowedFd<'_>,
    head: &RecordHead,
    form: TreeForm,
    spend: &mut Spend<'_>,
) -> Result<Verdict> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    match sum_of_bytes(record, (RECORD_HEAD_LEN as u64, u64::MAX), &mut buffer, spend)? {
        Ok((sum, _)) if head.lines.is_none_or(|lines| lines == sum) => {}
        Ok(_) => return Ok(Some("its metadata record is not what was written".into())),
        Err(why) => return Ok(Some(format!("its metadata record {why}"))),
    }
    let mut verifier = Verifier {
        tree,
        form,
        kept: ExpectedMetadata::new(head, form, folder, &fstat(record)?),
        has_root: false,
        touched: None,
        has_copies: head.anomalies.is_some_and(|bits| Anomalies::from_bits(bits).contains(Anomalies::COPIED_LINK)),
        spend,
        buffer,
        way: Vec::new(),
        last: None,
        entries: HashSet::new(),
        whiteouts: HashSet::new(),
        opaque: HashSet::new(),
        marked: Vec::new(),
        replaced: Vec::new(),
        hasher: RandomState::new(),
    };
    let mut lines = RecordLines::default();
    while let Some(line) = lines.next(record)? {
        (verifier.spend)(0)?;
        if let Some(why) = verifier.line(&line)? {
            return Ok(Some(format!("{}: {why}", quoted(&line.path()?))));
        }
    }
    if let Some(why) = verifier.implied_root()? {
        return Ok(Some(format!("{}: {why}", quoted(b""))));
    }
    if let Some(wrong) = verifier.lost_whiteout().or_else(|| verifier.wrongly_opaque()) {
        return Ok(Some(wrong));
    }
    Ok(verifier.surplus()?.or(verifier.touched))
}

struct Verifier<'a, 'b> {
    tree: BorrowedFd<'a>,
    form: TreeForm,
    kept: ExpectedMetadata,
    /// The record speaks of the root.
    has_root: bool,
    /// A path of which only the time differs. Whatever else is wrong says more: that is what changed the time.
    touched: Verdict,
    /// Some hard links are files of their own.
    has_copies: bool,
    spend: &'a mut Spend<'b>,
    buffer: Vec<u8>,
    /// The first directories on the way to the last path, and their names.
    way: Vec<(Vec<u8>, OwnedFd)>,
    /// The last path and its directory, where that is further down.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Hashes of the paths that the tree has by the record, without whiteouts.
    entries: HashSet<u64>,
    /// Hashes of whiteouts.
    whiteouts: HashSet<u64>,
    /// Hashes of directories that the record says are opaque.
    opaque: HashSet<u64>,
    /// Directories that are, in the overlay forms.
    marked: Vec<Vec<u8>>,
    /// Whiteouts, in the overlay forms, where the tree has something else, or nothing.
    replaced: Vec<Vec<u8>>,
    hasher: RandomState,
}

impl Verifier<'_, '_> {
    fn line(&mut self, line: &RecordLine<'_>) -> Result<Verdict> {
        let RecordedEntry { entry, sum, .. } = RecordedEntry::parse(line)?;
        let is_overlay = self.form.is_overlay();
        match entry.kind {
            LayerEntryKind::LowerLink => {
                // It takes the place of a whiteout, and lower layers decide.
                self.entries.insert(self.hasher.hash_one(&entry.path[..]));
                return Ok(None);
            }
            LayerEntryKind::Opaque if is_overlay => return self.opaque(&entry.path),
            LayerEntryKind::Whiteout | LayerEntryKind::Opaque if !is_overlay => {
                let marker = line.path()?;
                if split_parent(&marker).1.len() > NAME_MAX {
                    return Ok(None);
                }
                return self.marker(&marker, &entry);
            }
            LayerEntryKind::Whiteout => {
                self.whiteouts.insert(self.hasher.hash_one(&entry.path[..]));
                let is_device = |stat: &Stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
                };
                if !self.stat(&entry.path)?.is_ok_and(|stat| is_device(&stat)) {
                    self.replaced.push(entry.path);
                }
                return Ok(None);
            }
            _ => {}
        }
        if entry.path.is_empty() {
            self.has_root = true;
            let stat = fstat(self.tree)?;
            self.note_time(&entry.path, &entry, &stat);
            self.note_opaque(&entry)?;
            return self.kept.differs(&entry, &stat, StatTarget::Open(self.tree));
        }
        let stat = match self.stat(&entry.path)? {
            Ok(stat) => stat,
            Err(why) => return Ok(Some(why)),
        };
        self.entries.insert(self.hasher.hash_one(&entry.path[..]));
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_as_said = match entry.kind {
            LayerEntryKind::File => return self.file(&entry, sum, &stat),
            LayerEntryKind::Hardlink => return self.hardlink(&entry, &stat),
            LayerEntryKind::Symlink => return self.symlink(&entry, &stat),
            LayerEntryKind::Directory => {
                self.note_opaque(&entry)?;
                is_directory(&stat)
            }
            LayerEntryKind::Fifo => file_type == FileType::Fifo,
            LayerEntryKind::CharDevice | LayerEntryKind::BlockDevice => {
                match device(&entry, &stat, self.kept.has_nodes(entry.device)) {
                    None => true,
                    wrong => return Ok(wrong),
                }
            }
            LayerEntryKind::LowerLink | LayerEntryKind::Whiteout | LayerEntryKind::Opaque => true,
        };
        if is_as_said { self.differs(&entry.path, &entry, &stat) } else { Ok(Some("is of another type".into())) }
    }

    fn file(&mut self, entry: &LayerEntry, sum: Option<u64>, stat: &Stat) -> Result<Verdict> {
        if !is_regular(stat) {
            return Ok(Some("is not a regular file".into()));
        }
        if stat.st_size as u64 != entry.size {
            return Ok(Some(format!("has {} bytes instead of {}", stat.st_size, entry.size)));
        }
        if let Some(why) = self.content(entry, sum)? {
            return Ok(Some(why));
        }
        self.differs(&entry.path, entry, stat)
    }

    fn content(&mut self, entry: &LayerEntry, sum: Option<u64>) -> Result<Verdict> {
        let Some(expected) = sum else { return Ok(None) };
        let (parent, name) = split_parent(&entry.path);
        let Some(parent) = self.parent(parent)? else { return Ok(Some("is gone".into())) };
        let file = match rustix::fs::openat(parent, name, OPEN_FILE, Mode::empty()) {
            Ok(file) => file,
            // Its own mode keeps an ordinary user out, as the layer says.
            Err(Errno::ACCESS) => return Ok(None),
            Err(errno) => return damage(errno, "cannot be opened").map(Some),
        };
        match sum_of_bytes(file.as_fd(), (0, u64::MAX), &mut self.buffer, self.spend)? {
            Ok((sum, size)) if (sum, size) == (expected, entry.size) => Ok(None),
            Ok(_) => Ok(Some("its content is not what was written".into())),
            Err(why) => Ok(Some(why)),
        }
    }

    fn hardlink(&mut self, entry: &LayerEntry, stat: &Stat) -> Result<Verdict> {
        Ok(match self.stat(&entry.link)? {
            Ok(target) if (target.st_dev, target.st_ino) == (stat.st_dev, stat.st_ino) => None,
            Ok(target) if self.has_copies && is_regular(stat) && target.st_size == stat.st_size => None,
            _ => Some(format!("is not a link to {}", quoted(&entry.link))),
        })
    }

    fn symlink(&mut self, entry: &LayerEntry, stat: &Stat) -> Result<Verdict> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(Some("is not a symlink".into()));
        }
        let (parent, name) = split_parent(&entry.path);
        let Some(parent) = self.parent(parent)? else { return Ok(Some("is gone".into())) };
        match rustix::fs::readlinkat(parent, name, Vec::new()) {
            Ok(target) if target.as_bytes() == entry.link => self.differs(&entry.path, entry, stat),
            Ok(_) => Ok(Some("is a symlink to something else".into())),
            Err(errno) => damage(errno, "cannot be read").map(Some),
        }
    }

    /// An empty file with a whiteout's name, which has the entry's metadata.
    fn marker(&mut self, path: &[u8], entry: &LayerEntry) -> Result<Verdict> {
        self.entries.insert(self.hasher.hash_one(path));
        match self.stat(path)? {
            Ok(stat) if is_regular(&stat) && stat.st_size == 0 => self.differs(path, entry, &stat),
            Ok(_) => Ok(Some("is not an empty marker".into())),
            Err(why) => Ok(Some(why)),
        }
    }

    /// What differs of the metadata of a path, which is of the right type.
    fn differs(&mut self, path: &[u8], entry: &LayerEntry, stat: &Stat) -> Result<Verdict> {
        let (parent, name) = split_parent(path);
        if self.parent(parent)?.is_none() {
            return Ok(Some("is gone".into()));
        }
        self.note_time(path, entry, stat);
        let parent = self.open_parent();
        self.kept.differs(entry, stat, StatTarget::Named(parent, name))
    }

    fn note_time(&mut self, path: &[u8], entry: &LayerEntry, stat: &Stat) {
        if self.touched.is_none() {
            self.touched = time_differs(entry, stat).map(|why| format!("{}: {why}", quoted(path)));
        }
    }

    fn note_opaque(&mut self, directory: &LayerEntry) -> Result<()> {
        if !self.form.is_overlay() {
            return Ok(());
        }
        let Some(handle) = self.parent(&directory.path)? else { return Ok(()) };
        let handle = handle.try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a directory"))?;
        if self.kept.is_opaque(StatTarget::Open(handle.as_fd())) {
            self.marked.push(directory.path.clone());
        }
        Ok(())
    }

    /// A directory that hides what lower layers have, of which the layer says nothing like that.
    fn wrongly_opaque(&self) -> Verdict {
        let is_said = |path: &Vec<u8>| {
            let hash = self.hasher.hash_one(&path[..]);
            self.opaque.contains(&hash) || self.whiteouts.contains(&hash)
        };
        let wrong = self.marked.iter().find(|path| !is_said(path));
        wrong.map(|path| format!("{}: is opaque, and the layer does not say so", quoted(path)))
    }

    /// A root without an entry is as any directory without one.
    fn implied_root(&mut self) -> Result<Verdict> {
        if self.has_root {
            return Ok(None);
        }
        let (entry, stat) = (LayerEntry::implied_directory(Vec::new()), fstat(self.tree)?);
        self.note_time(&entry.path, &entry, &stat);
        self.note_opaque(&entry)?;
        self.kept.differs(&entry, &stat, StatTarget::Open(self.tree))
    }

    fn stat(&mut self, path: &[u8]) -> Result<Result<Stat, String>> {
        let (parent, name) = split_parent(path);
        let Some(parent) = self.parent(parent)? else { return Ok(Err("is gone".into())) };
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Ok(stat)),
            Err(Errno::NOENT) => Ok(Err("is gone".into())),
            Err(errno) => damage(errno, "cannot be looked at").map(Err),
        }
    }

    /// A directory by its real path; `None` where there is none. The record has no symlinks in its paths, so none is
    /// followed.
    fn parent(&mut self, path: &[u8]) -> Result<Option<BorrowedFd<'_>>> {
        if self.last.as_ref().is_some_and(|(last, _)| last != path) {
            self.last = None;
        }
        if self.last.is_none() && !self.walk(path)? {
            return Ok(None);
        }
        Ok(Some(self.open_parent()))
    }

    /// The directory that [`Verifier::parent`] found last.
    fn open_parent(&self) -> BorrowedFd<'_> {
        let last = self.last.as_ref().map(|(_, handle)| handle);
        let last = last.or_else(|| self.way.last().map(|(_, handle)| handle));
        last.map_or(self.tree, |handle| handle.as_fd())
    }

    /// Opens what is on the way to a path, and keeps the first part of it open.
    fn walk(&mut self, path: &[u8]) -> Result<bool> {
        let names: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).collect();
        let common = self.way.iter().zip(&names).take_while(|((open, _), name)| open == *name).count();
        self.way.truncate(common);
        let mut deep: Option<OwnedFd> = None;
        for name in &names[common..] {
            let from = deep.as_ref().or(self.way.last().map(|(_, handle)| handle));
            let from = from.map_or(self.tree, |handle| handle.as_fd());
            let next = match rustix::fs::openat(from, *name, OPEN_DIR, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                Err(errno) => return Err(Error::os(errno, format_args!("open {}", quoted(path)))),
            };
            if deep.is_none() && self.way.len() < MAX_OPEN_DIRECTORIES {
                self.way.push((name.to_vec(), next));
            } else {
                deep = Some(next);
            }
        }
        self.last = deep.map(|handle| (path.to_vec(), handle));
        Ok(true)
    }

    /// overlayfs knows a directory that hides what is below by an attribute.
    fn opaque(&mut self, path: &[u8]) -> Result<Verdict> {
        let key = match self.form.whiteouts {
            WhiteoutForm::Markers => return Ok(None),
            WhiteoutForm::Overlay => "trusted.overlay.opaque",
            WhiteoutForm::UserOverlay => "user.overlay.opaque",
        };
        self.opaque.insert(self.hasher.hash_one(path));
        let Some(dir) = self.parent(path)? else { return Ok(Some("its directory is gone".into())) };
        let mut value = [0; 2];
        match rustix::fs::fgetxattr(dir, key, &mut value) {
            Ok(1) if value[0] == b'y' => Ok(None),
            Err(Errno::NODATA) if key.starts_with("trusted.") && !self.kept.sees_trusted() => Ok(None),
            Ok(_) | Err(Errno::NODATA | Errno::RANGE) => Ok(Some("the directory is opaque no more".into())),
            Err(errno) => damage(errno, "cannot be looked at").map(Some),
        }
    }

    /// A whiteout that nothing of the layer took the place of, and that is none.
    fn lost_whiteout(&self) -> Verdict {
        let is_lost = |path: &&Vec<u8>| !self.entries.contains(&self.hasher.hash_one(&path[..]));
        self.replaced.iter().find(is_lost).map(|path| format!("{}: is no whiteout", quoted(path)))
    }

    /// Looks for what the record does not speak of.
    fn surplus(&mut self) -> Result<Verdict> {
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let Some(dir) = self.parent(&path)? else { continue };
            let fail = |errno| Error::os(errno, format_args!("list {}", quoted(&path)));
            for (number, entry) in Dir::read_from(dir).map_err(fail)?.enumerate() {
                if number % SPEND_EVERY_NAMES == 0 {
                    (self.spend)(0)?;
                }
                let entry = entry.map_err(fail)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let path = if path.is_empty() { name.to_vec() } else { [&path[..], b"/", name].concat() };
                let hash = self.hasher.hash_one(&path[..]);
                if !self.entries.contains(&hash) && !self.whiteouts.contains(&hash) {
                    return Ok(Some(format!("{}: is not in the layer", quoted(&path))));
                }
                if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                    todo.push(path);
                }
            }
        }
        Ok(None)
    }
}

/// A node of the right number, or a file that stands for one.
fn device(entry: &LayerEntry, stat: &Stat, has_nodes: Option<bool>) -> Verdict {
    let Device { major, minor } = entry.device;
    let is_placeholder = is_regular(stat) && stat.st_size == 0;
    let wanted =
        if entry.kind == LayerEntryKind::CharDevice { FileType::CharacterDevice } else { FileType::BlockDevice };
    let is_node = FileType::from_raw_mode(stat.st_mode) == wanted && stat.st_rdev == rustix::fs::makedev(major, minor);
    let is_right = match has_nodes {
        Some(true) => is_node,
        Some(false) => is_placeholder,
        None => is_node || is_placeholder,
    };
    (!is_right).then(|| "is another device".into())
}

fn fstat(file: BorrowedFd<'_>) -> Result<Stat> {
    rustix::fs::fstat(file).map_err(|errno| Error::os(errno, "look at a tree"))
}
