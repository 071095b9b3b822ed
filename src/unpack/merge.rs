//! Layers on top of each other in one tree: each takes away what its whiteouts hide, and adds or replaces the rest (OCI
//! image-spec, layer.md, "Applying Changesets").
//!
//! A layer comes out of its extracted tree, by its metadata record, or as an archive, and the result is the same. What a
//! layer hides is what the layers below have: nothing of its own, and that whatever the order of its entries (families
//! 56 to 58). The record is a list that can be read twice, so what it hides goes first, from the top down. An archive
//! comes once; there the writer knows which paths are the layer's own, and hides around them.
//!
//! In an archive an entry can come too late for that: a name that leads through a symlink of a lower layer, which a later
//! entry replaces, has led to where the layer by itself would not have put it. Then the layer is said to be out of order
//! ([`Assembler::is_out_of_order`]), and whoever assembles begins again with its extracted tree, which is in order.

use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::copy::Original;
use super::extract::{ExtractOptions, ProgressCallback};
use super::files::{Filling, Plan, same_name};
use super::metadata::Metadata;
use super::record::{LayerEntry, LayerEntryKind, Lines, RecordFile, RecordWriter, parse_line};
use super::root::{Dir, Missing, Root, fail};
use super::trash::{Bin, Trash};
use super::tree::{Place, TreeWriter};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, Kind, Progress, Reader, Timestamp, WHITEOUT_PREFIX, split_parent};
use crate::limits::LayerLimits;
use crate::store::{HEAD_LEN, Storage};
use crate::sys::is_directory;

/// Where the entries of a layer come from, and the content of its files.
pub(super) enum Layer<'r, 't> {
    Archive(&'r mut Reader),
    Tree(&'r mut Lower<'t>),
}

/// How files of an extracted tree become files of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    Copy,
    /// With shared blocks where the file system can.
    Reflink,
    /// As further names of the same files.
    Link,
}

/// The extracted tree of a layer, which is read.
pub(super) struct Lower<'t> {
    root: Root<'t>,
    taking: Taking,
    /// Of the content of the file whose turn it is.
    sum: Option<u64>,
}

impl Lower<'_> {
    fn new(tree: OwnedFd, taking: Taking, limits: LayerLimits, interrupt: Interrupt) -> Self {
        // A walk that makes nothing replaces nothing.
        let trash = Trash::new(|| Err(Error::new(Status::Internal, "an extracted tree is not to be changed")));
        Lower { root: Root::new(tree, trash, limits, interrupt), taking, sum: None }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.taking == Taking::Link
    }

    /// The directory of what has this path in the record.
    fn parent(&mut self, path: &[u8]) -> Result<Arc<Dir>> {
        self.root.grant_steps();
        self.root.dir(split_parent(path).0, Missing::Leave)?.ok_or_else(damaged)
    }
}

fn damaged() -> Error {
    Error::new(Status::State, "an extracted layer is damaged; bl_check() mends it")
}

/// What is known of the layer that is being applied. Paths are kept by their hashes.
#[derive(Default)]
pub(super) struct Merge {
    /// There is nothing below it.
    is_lowest: bool,
    is_stream: bool,
    /// It comes as an archive, and there are layers below it: what follows is kept.
    is_archive: bool,
    /// Paths that the layer has made, and the directories that lead to them.
    ours: HashSet<u64>,
    /// Directories that it has an entry for.
    explicit: HashSet<u64>,
    /// Directories that have nothing of lower layers in them.
    clean: HashSet<u64>,
    /// What an entry of the layer took the place of.
    replaced: HashSet<u64>,
    /// Symlinks of lower layers that led somewhere.
    followed: BTreeSet<Vec<u8>>,
    /// What goes at this moment would have gone before all entries.
    is_hiding: bool,
    is_out_of_order: bool,
}

/// What makes way before a layer's entries come. In this order where the path is the same.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Hidden {
    Whiteout,
    /// What is no directory and has the name of one.
    NoDirectory,
    Content,
}

impl TreeWriter<'_> {
    fn begin_layer(&mut self, is_archive: bool) {
        let is_lowest = self.entries == 0;
        let (is_stream, is_archive) = (is_archive, is_archive && !is_lowest);
        self.root.begin_layer();
        self.root.followed = is_archive.then(Vec::new);
        self.merge = Some(Merge { is_lowest, is_stream, is_archive, ..Merge::default() });
        self.reported = Progress::default();
    }

    fn layer_of_tree(&mut self, record: &OwnedFd, lower: &mut Lower<'_>) -> Result<()> {
        if self.entries > 0 {
            self.hide_all(record)?;
        }
        let mut lines = Lines::default();
        let mut progress = Progress::default();
        while let Some(line) = lines.next(record.as_fd())? {
            self.options.interrupt.check()?;
            self.root.grant_steps();
            let found = parse_line(&line)?;
            self.entries += u64::from(!found.is_implied);
            lower.sum = line.sum()?;
            match found.kind {
                LayerEntryKind::Whiteout => continue,
                LayerEntryKind::Opaque => {
                    self.parent(&found.path)?;
                    continue;
                }
                // Made where something is put into it, and otherwise only there because of a whiteout (family 52).
                LayerEntryKind::Directory if found.is_implied => continue,
                _ => {}
            }
            let entry = entry_of(found);
            progress.bytes_out += entry.size;
            progress.entries += 1;
            self.entry(&entry, &mut Layer::Tree(lower))?;
            self.report(progress)?;
        }
        self.report_now(progress)
    }

    /// What a record hides goes before anything of it comes, and what is above goes first: a whiteout is not to lead
    /// through a symlink that the layer replaces (family 55).
    fn hide_all(&mut self, record: &OwnedFd) -> Result<()> {
        let mut hidden = Vec::new();
        let mut lines = Lines::default();
        while let Some(line) = lines.next(record.as_fd())? {
            self.options.interrupt.check()?;
            let found = parse_line(&line)?;
            let what = match found.kind {
                LayerEntryKind::Whiteout => Hidden::Whiteout,
                LayerEntryKind::Directory if !found.is_implied => Hidden::NoDirectory,
                LayerEntryKind::Opaque => Hidden::Content,
                _ => continue,
            };
            hidden.push((found.path, what));
        }
        hidden.sort_unstable();
        for (path, what) in hidden {
            self.options.interrupt.check()?;
            self.root.grant_steps();
            if what == Hidden::Content {
                if let Some(dir) = self.root.dir(&path, Missing::Leave)? {
                    for name in names(&dir)? {
                        self.remove(&dir, &name)?;
                    }
                }
                continue;
            }
            let (parent, name) = split_parent(&path);
            let Some(parent) = self.root.dir(parent, Missing::Leave)? else { continue };
            match kind_of(&parent, name)? {
                None => {}
                Some(true) if what == Hidden::NoDirectory => {}
                Some(_) => self.remove(&parent, name)?,
            }
        }
        Ok(())
    }

    /// A whiteout of an archive, or an opaque marker.
    pub(super) fn hide_lower(&mut self, entry: &Entry) -> Result<()> {
        let (parent, marker) = split_parent(&entry.path);
        if entry.kind == Kind::Opaque {
            let dir = self.parent(parent)?;
            return if self.archive().is_some() { self.hide_below(&dir.real_path, false) } else { Ok(()) };
        }
        // Whatever may be in the way, or under the name.
        self.files.finish()?;
        let found = self.root.dir(parent, Missing::Leave)?;
        self.note_walk(&[])?;
        let Some(parent) = found else { return self.note_blocked(parent) };
        if self.merge.as_ref().is_some_and(|merge| merge.is_lowest) {
            return Ok(());
        }
        let name = marker.get(WHITEOUT_PREFIX.len()..).unwrap_or_default();
        let real_path = parent.join(name);
        match kind_of(&parent, name)? {
            None => Ok(()),
            Some(_) if !self.is_ours(&real_path) => self.remove_hidden(&parent, name),
            Some(true) => self.hide_below(&real_path, true),
            Some(false) => Ok(()),
        }
    }

    /// Takes out of a directory of the layer what lower layers have in it. `is_hidden`: the directory of the lower layers
    /// is gone too, and the layer's own is what an entry for it says, or what is made where there is none.
    fn hide_below(&mut self, path: &[u8], is_hidden: bool) -> Result<()> {
        if self.is_clean(path) {
            return Ok(());
        }
        self.files.finish()?;
        let mut todo = vec![(path.to_vec(), is_hidden)];
        while let Some((path, is_hidden)) = todo.pop() {
            self.options.interrupt.check()?;
            self.root.grant_steps();
            let Some(dir) = self.root.dir(&path, Missing::Leave)? else { continue };
            let hash = self.hasher.hash_one(&path[..]);
            let Some(merge) = &mut self.merge else { return Ok(()) };
            merge.clean.insert(hash);
            if is_hidden && !merge.explicit.contains(&hash) {
                self.keep_directory(path.clone(), Metadata::implied())?;
                self.record.implied_directory(&path)?;
            }
            for name in names(&dir)? {
                let child = dir.join(&name);
                if !self.is_ours(&child) {
                    self.remove_hidden(&dir, &name)?;
                } else if kind_of(&dir, &name)? == Some(true) && !self.is_known_clean(&child) {
                    todo.push((child, true));
                }
            }
        }
        Ok(())
    }

    /// Removes what would have gone before all entries of the layer.
    pub(super) fn remove_hidden(&mut self, parent: &Dir, name: &[u8]) -> Result<()> {
        self.set_hiding(true);
        let removed = self.remove(parent, name);
        self.set_hiding(false);
        removed
    }

    fn set_hiding(&mut self, is_hiding: bool) {
        if let Some(merge) = &mut self.merge {
            merge.is_hiding = is_hiding;
        }
    }

    /// A file out of an extracted tree.
    pub(super) fn file_from(&mut self, place: &Place<'_>, entry: &Entry, lower: &mut Lower<'_>) -> Result<Option<u64>> {
        if entry.size >= super::tree::LARGE_FILE {
            self.check_space(place.parent, entry)?;
        }
        let original = Original {
            parent: lower.parent(&entry.path)?,
            name: split_parent(&entry.path).1.to_vec(),
            size: entry.size,
            reflink: lower.taking != Taking::Copy,
        };
        self.whole_file(place, Plan::of(entry), Filling::Copy(original))?;
        Ok(lower.sum)
    }

    /// Anything but a directory, as a further name of what the extracted tree has.
    pub(super) fn link_from(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        lower: &mut Lower<'_>,
        real_path: &[u8],
    ) -> Result<()> {
        let (from, from_name) = (lower.parent(&entry.path)?, split_parent(&entry.path).1);
        let link = || rustix::fs::linkat(&*from, from_name, &**place.parent, place.name, AtFlags::empty());
        let mut linked = link();
        if linked == Err(Errno::EXIST) {
            if place.is_free {
                return Err(same_name(real_path));
            }
            self.remove(place.parent, place.name)?;
            linked = link();
        }
        let sum = lower.sum;
        match linked {
            Ok(()) => {}
            // No more names for this one (D4).
            Err(Errno::MLINK) if entry.kind == Kind::File => {
                self.anomalies.insert(Anomalies::COPIED_LINK);
                self.file_from(place, entry, lower)?;
            }
            Err(Errno::XDEV) => {
                let why = "the store is on another file system than the destination, so nothing of it can be linked";
                return Err(Error::new(Status::Unsupported, why));
            }
            Err(Errno::NOENT) => return Err(damaged()),
            Err(errno) => return Err(fail(errno, "link", real_path)),
        }
        match entry.kind {
            Kind::File => self.record.file(real_path, entry, sum),
            _ => self.record.entry(real_path, entry),
        }
    }
}

/// What the order of an archive's entries has to do with it.
impl TreeWriter<'_> {
    fn archive(&mut self) -> Option<&mut Merge> {
        self.merge.as_mut().filter(|merge| merge.is_archive)
    }

    /// A whiteout was to go into a directory that is not there. By itself the layer would have put one where a file of its own
    /// is.
    fn note_blocked(&mut self, path: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (Vec::new(), path);
        while !rest.is_empty() {
            let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let (name, after) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            let Some(dir) = self.root.dir(&at, Missing::Leave)? else { return Ok(()) };
            let is_lowest = self.merge.as_ref().is_some_and(|merge| merge.is_lowest);
            let real_path = dir.join(name);
            let is_in_the_way = kind_of(&dir, name)? == Some(false) && (is_lowest || self.is_ours(&real_path));
            if is_in_the_way || self.links.is_pending(&real_path) {
                return self.out_of_order();
            }
            at = if at.is_empty() { name.to_vec() } else { [&at[..], b"/", name].concat() };
            rest = after;
        }
        Ok(())
    }

    /// A link to itself, for which there may have been directories made that nothing is in.
    pub(super) fn note_self_link(&mut self) -> Result<()> {
        if self.merge.as_ref().is_some_and(|merge| merge.is_stream) { self.out_of_order() } else { Ok(()) }
    }

    /// A hard link whose target is not the layer's own waits for the layer's end when that is unpacked by itself, and what
    /// it leads to may be another thing by then.
    pub(super) fn note_link(&mut self, real_target: Option<&[u8]>) -> Result<()> {
        let is_ours = real_target.is_some_and(|target| self.is_ours(target));
        if self.archive().is_some() && !is_ours { self.out_of_order() } else { Ok(()) }
    }

    pub(super) fn mark_ours(&mut self, real_path: &[u8]) {
        let Some(merge) = self.merge.as_mut().filter(|merge| merge.is_archive) else { return };
        let mut at = real_path;
        while merge.ours.insert(self.hasher.hash_one(at)) && !at.is_empty() {
            at = split_parent(at).0;
        }
    }

    fn is_ours(&self, real_path: &[u8]) -> bool {
        self.merge.as_ref().is_some_and(|merge| merge.ours.contains(&self.hasher.hash_one(real_path)))
    }

    fn is_known_clean(&self, real_path: &[u8]) -> bool {
        self.merge.as_ref().is_some_and(|merge| merge.clean.contains(&self.hasher.hash_one(real_path)))
    }

    /// Whether a directory, or one above it, has nothing of lower layers.
    fn is_clean(&self, real_path: &[u8]) -> bool {
        let mut at = real_path;
        loop {
            if self.is_known_clean(at) {
                return true;
            }
            if at.is_empty() {
                return false;
            }
            at = split_parent(at).0;
        }
    }

    /// A walk went through symlinks, and made directories. Called before what it replaced is noted.
    pub(super) fn note_walk(&mut self, created: &[Vec<u8>]) -> Result<()> {
        if self.archive().is_none() {
            return Ok(());
        }
        let followed = self.root.followed.as_mut().map(std::mem::take).unwrap_or_default();
        for symlink in followed {
            if !self.is_ours(&symlink)
                && let Some(merge) = self.archive()
            {
                merge.followed.insert(symlink);
            }
        }
        created.iter().try_for_each(|path| self.note_new_directory(path))
    }

    /// A directory with an entry of its own.
    pub(super) fn note_directory(&mut self, real_path: &[u8], is_new: bool) -> Result<()> {
        let hash = self.hasher.hash_one(real_path);
        let Some(merge) = self.archive() else { return Ok(()) };
        merge.explicit.insert(hash);
        if is_new { self.note_new_directory(real_path) } else { Ok(()) }
    }

    /// By itself the layer would have had this directory alone, and not what it replaced, so that one of a lower layer
    /// would have stayed.
    fn note_new_directory(&mut self, real_path: &[u8]) -> Result<()> {
        let hash = self.hasher.hash_one(real_path);
        let Some(merge) = self.archive() else { return Ok(()) };
        merge.clean.insert(hash);
        if merge.replaced.contains(&hash) { self.out_of_order() } else { Ok(()) }
    }

    pub(super) fn note_gone(&mut self, gone: &[u8]) -> Result<()> {
        let hash = self.hasher.hash_one(gone);
        let Some(merge) = self.archive() else { return Ok(()) };
        if !merge.is_hiding {
            merge.replaced.insert(hash);
        }
        let below = [gone, b"/"].concat();
        let has_led_somewhere = merge.followed.contains(gone)
            || merge.followed.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below));
        if has_led_somewhere { self.out_of_order() } else { Ok(()) }
    }

    fn out_of_order(&mut self) -> Result<()> {
        if let Some(merge) = &mut self.merge {
            merge.is_out_of_order = true;
        }
        let why = "the order of its entries takes the extracted layer to understand, which cannot be had in whole";
        Err(Error::new(Status::Unsupported, why))
    }
}

/// Puts layers on top of each other, the lowest first.
pub(crate) struct Assembler<'a> {
    writer: TreeWriter<'a>,
    options: &'a ExtractOptions,
}

impl<'a> Assembler<'a> {
    /// Into an empty directory. `bin` makes a directory of the same file system for what is replaced.
    pub(crate) fn new(
        root: OwnedFd,
        bin: impl Fn() -> Result<OwnedFd> + 'a,
        record: Option<RecordFile>,
        options: &'a ExtractOptions,
    ) -> Result<Assembler<'a>> {
        let trash = Trash::new(move || Ok(Bin { handle: bin()?, _owner: Box::new(()) }));
        let record = RecordWriter::new(record, options.limits.clone());
        Ok(Assembler { writer: TreeWriter::new(root, trash, record, options, 0)?, options })
    }

    /// The next layer, out of its stored blob, which is verified on the way.
    pub(crate) fn archive(
        &mut self,
        storage: &Storage,
        digest: &Digest,
        options: &ExtractOptions,
    ) -> Result<Anomalies> {
        self.writer.begin_layer(true);
        let read = storage.read_layer(digest, options, |reader| {
            self.writer.write(reader)?;
            self.end_layer()
        })?;
        Ok(read.anomalies)
    }

    /// Whom to tell of progress in the layers that follow.
    pub(crate) fn tell(&mut self, callback: Option<ProgressCallback>) {
        self.writer.progress = callback;
    }

    /// The next layer, out of its extracted tree and the record of that.
    pub(crate) fn tree(&mut self, tree: OwnedFd, record: &OwnedFd, taking: Taking) -> Result<()> {
        self.writer.begin_layer(false);
        let mut lower = Lower::new(tree, taking, self.options.limits.clone(), self.options.interrupt.clone());
        self.writer.layer_of_tree(record, &mut lower)?;
        self.end_layer()
    }

    fn end_layer(&mut self) -> Result<()> {
        self.writer.link_pending()?;
        self.writer.files.finish()
    }

    /// Why the last layer failed: its archive has to be unpacked by itself, and everything to begin again.
    pub(crate) fn is_out_of_order(&self) -> bool {
        self.writer.merge.as_ref().is_some_and(|merge| merge.is_out_of_order)
    }

    /// Entries of all layers so far.
    pub(crate) fn entries(&self) -> u64 {
        self.writer.entries
    }

    /// Gives all directories their metadata, and completes the record.
    pub(crate) fn finish(
        self,
        head: impl FnOnce(u64, u64) -> [u8; HEAD_LEN],
        successor: impl FnOnce() -> Result<RecordFile>,
    ) -> Result<Anomalies> {
        let (record, anomalies) = self.writer.finish()?;
        record.finish(head, successor, &self.options.interrupt)?;
        Ok(anomalies)
    }
}

/// Whether a name is one of a directory; `None` where nothing has it.
fn kind_of(parent: &Dir, name: &[u8]) -> Result<Option<bool>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(is_directory(&stat))),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(fail(errno, "look at", &parent.join(name))),
    }
}

fn names(dir: &Dir) -> Result<Vec<Vec<u8>>> {
    let failed = |errno| fail(errno, "list", &dir.real_path);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// What a record says, as a layer would.
fn entry_of(found: LayerEntry) -> Entry {
    let device = Device { major: found.device.0, minor: found.device.1 };
    Entry {
        path: found.path,
        kind: match found.kind {
            LayerEntryKind::File => Kind::File,
            LayerEntryKind::Directory => Kind::Directory,
            LayerEntryKind::Symlink => Kind::Symlink,
            LayerEntryKind::Hardlink | LayerEntryKind::LowerLink => Kind::Hardlink,
            LayerEntryKind::Fifo => Kind::Fifo,
            LayerEntryKind::CharDevice => Kind::CharDevice(device),
            LayerEntryKind::BlockDevice => Kind::BlockDevice(device),
            LayerEntryKind::Whiteout => Kind::Whiteout,
            LayerEntryKind::Opaque => Kind::Opaque,
        },
        size: found.size,
        is_sparse: false,
        link: found.link,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        mtime: Timestamp { seconds: found.mtime.0, nanoseconds: found.mtime.1 },
        xattrs: found.xattrs,
    }
}
