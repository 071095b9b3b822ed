//! Several layers as one, by their records: what they come to, compared with what the layers below come to. Content is read from the
//! layers' disks ([`crate::disk`]), and nothing is unpacked.

use std::collections::{HashMap, HashSet};

use super::base::{making_disks, metadata_entry, on_disk};
use super::entries::EntryWriter;
use super::node::whiteout_device;
use super::options::CommitOptions;
use crate::error::{Error, Result, Status, quoted};
use crate::image::Image;
use crate::image_disk::{Layers, TopLayer};
use crate::layer::{Device, Entry, Kind};
use crate::store::{CallLease, Storage};
use crate::unpack::{InodeId, InodeKind, MemoryTree, ROOT};

/// Layers that become one, and those below them.
pub(super) struct SquashedLayers<'a> {
    layers: Layers<'a>,
    below: MemoryTree,
    all: MemoryTree,
    /// Files with several names, of which one is not there below, or another file. They are written with all of their names.
    regrouped: HashSet<InodeId>,
}

/// The names of each file that has several: for each, what is there below.
fn linked(all: &MemoryTree, below: &MemoryTree) -> HashMap<InodeId, Vec<Option<InodeId>>> {
    let mut names: HashMap<InodeId, Vec<Option<InodeId>>> = HashMap::new();
    let mut open = vec![(ROOT, Some(ROOT))];
    while let Some((folder, folder_below)) = open.pop() {
        for (name, inode) in all.children(folder) {
            let at = folder_below.and_then(|folder| below.child(folder, name));
            match all.inode(inode).kind {
                InodeKind::Directory { .. } => {
                    let is_directory =
                        |inode: &InodeId| matches!(below.inode(*inode).kind, InodeKind::Directory { .. });
                    open.push((inode, at.filter(is_directory)));
                }
                _ => names.entry(inode).or_default().push(at),
            }
        }
    }
    names.retain(|_, names| names.len() > 1);
    names
}

/// What is to be written, the last first.
enum SquashStep {
    /// A directory that is there, and the one that has its name below.
    Folder {
        path: Vec<u8>,
        inode: InodeId,
        below: Option<InodeId>,
    },
    Gone(Vec<u8>),
    /// Anything, with what has its name below.
    Node {
        path: Vec<u8>,
        inode: InodeId,
        below: Option<InodeId>,
    },
}

impl<'a> SquashedLayers<'a> {
    /// The layers of an image, or of none, and what is on top of them. Makes the disks of layers that are missing.
    pub(super) fn of(
        storage: &'a Storage,
        (image, tops): (Option<&Image>, &[TopLayer]),
        from: usize,
        options: &CommitOptions,
        lease: &mut CallLease,
    ) -> Result<SquashedLayers<'a>> {
        let making = making_disks(options);
        let layers = Layers::of(storage, (image, tops), &making, Some(lease))?;
        let below = layers.merge_first(from, &making)?.into_tree();
        let all = layers.merge_first(layers.count(), &making)?.into_tree();
        let names_below: HashMap<InodeId, usize> =
            linked(&below, &below).into_iter().map(|(inode, names)| (inode, names.len())).collect();
        let is_same_group = |names: &[Option<InodeId>]| {
            names.windows(2).all(|pair| pair[0] == pair[1])
                && names[0].is_some_and(|below| names_below.get(&below).copied().unwrap_or(1) == names.len())
        };
        let groups = linked(&all, &below).into_iter();
        let regrouped = groups.filter(|(_, names)| !is_same_group(names)).map(|(inode, _)| inode).collect();
        Ok(SquashedLayers { layers, below, all, regrouped })
    }

    pub(super) fn write(self, out: &mut EntryWriter<'_, '_>, options: &CommitOptions) -> Result<()> {
        let mut links: HashMap<InodeId, Vec<u8>> = HashMap::new();
        let mut steps = vec![SquashStep::Node { path: Vec::new(), inode: ROOT, below: Some(ROOT) }];
        while let Some(step) = steps.pop() {
            options.interrupt.check()?;
            match step {
                SquashStep::Gone(path) => {
                    self.put_parents(out, &path, options)?;
                    out.put_whiteout(&path)?;
                }
                SquashStep::Folder { path, inode, below } => self.add_children(&mut steps, &path, inode, below),
                SquashStep::Node { path, inode, below } => {
                    let is_same = below.is_some_and(|below| self.is_same(inode, below));
                    if !is_same || self.regrouped.contains(&inode) {
                        self.put_parents(out, &path, options)?;
                        self.put(out, &mut links, &path, inode, options)?;
                    }
                    if self.is_directory(&self.all, inode) {
                        let below = below.filter(|below| self.is_directory(&self.below, *below));
                        steps.push(SquashStep::Folder { path, inode, below });
                    }
                }
            }
        }
        Ok(())
    }

    fn put_parents(&self, out: &mut EntryWriter<'_, '_>, path: &[u8], options: &CommitOptions) -> Result<()> {
        let lost = || Error::new(Status::Internal, format!("{} is not in the image", quoted(path)));
        out.put_parents(path, |folder| {
            let inode = self.all.at(folder).ok_or_else(lost)?;
            Ok(metadata_entry(&self.all, inode, folder, options))
        })
    }

    fn is_directory(&self, tree: &MemoryTree, inode: InodeId) -> bool {
        matches!(tree.inode(inode).kind, InodeKind::Directory { .. })
    }

    /// In the order of names, of what is there and what was.
    fn add_children(&self, steps: &mut Vec<SquashStep>, path: &[u8], inode: InodeId, below: Option<InodeId>) {
        let joined = |name: &[u8]| if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        let mut children: Vec<SquashStep> = self
            .all
            .children(inode)
            .map(|(name, child)| {
                let below = below.and_then(|below| self.below.child(below, name));
                SquashStep::Node { path: joined(name), inode: child, below }
            })
            .collect();
        if let Some(below) = below {
            let gone = self.below.children(below).filter(|(name, _)| self.all.child(inode, name).is_none());
            children.extend(gone.map(|(name, _)| SquashStep::Gone(joined(name))));
        }
        let path_of = |step: &SquashStep| match step {
            SquashStep::Folder { path, .. } | SquashStep::Node { path, .. } | SquashStep::Gone(path) => path.clone(),
        };
        children.sort_by_key(|step| std::cmp::Reverse(path_of(step)));
        steps.extend(children);
    }

    /// Files are the same where their content lies in the same place.
    fn is_same(&self, inode: InodeId, below: InodeId) -> bool {
        let (now, before) = (self.all.inode(inode), self.below.inode(below));
        let is_same_kind = match (now.kind, before.kind) {
            (InodeKind::Directory { .. }, InodeKind::Directory { .. }) => true,
            (InodeKind::Symlink { .. }, InodeKind::Symlink { .. }) => {
                self.all.target(inode) == self.below.target(below)
            }
            (now, before) => now == before,
        };
        is_same_kind
            && (now.mode, now.uid, now.gid, now.mtime) == (before.mode, before.uid, before.gid, before.mtime)
            && self.all.xattrs(inode) == self.below.xattrs(below)
    }

    fn put(
        &self,
        out: &mut EntryWriter<'_, '_>,
        links: &mut HashMap<InodeId, Vec<u8>>,
        path: &[u8],
        inode: InodeId,
        options: &CommitOptions,
    ) -> Result<()> {
        let node = self.all.inode(inode);
        let mut entry = metadata_entry(&self.all, inode, path, options);
        if let Some(first) = links.get(&inode) {
            return out.put(&Entry { kind: Kind::Hardlink, link: first.clone(), xattrs: Vec::new(), ..entry });
        }
        let mut content = None;
        entry.kind = match node.kind {
            InodeKind::Directory { .. } => Kind::Directory,
            InodeKind::Symlink { .. } => {
                entry.link = self.all.target(inode).to_vec();
                Kind::Symlink
            }
            InodeKind::File { size, part, block } => {
                entry.size = size;
                content = (size > 0).then_some((part, block));
                Kind::File
            }
            InodeKind::Fifo => Kind::Fifo,
            InodeKind::CharDevice(device) if device == Device::default() => return Err(whiteout_device(path)),
            InodeKind::CharDevice(device) => Kind::CharDevice(device),
            InodeKind::BlockDevice(device) => Kind::BlockDevice(device),
        };
        if entry.kind != Kind::Directory {
            links.insert(inode, path.to_vec());
        }
        let Some((part, block)) = content else { return out.put(&entry) };
        out.put_file(&entry, &on_disk(&self.layers, (part, block), entry.size, path)?)
    }
}
