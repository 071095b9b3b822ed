//! What an image has, by the metadata records of its layers alone: the measure for a tree that was changed.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd as _;

use super::content::SourceContent;
use super::node::{Node, clamped};
use super::options::CommitOptions;
use crate::disk::BLOCK_BYTES;
use crate::error::{Error, Result, Status, quoted};
use crate::extraction::ExtractOptions;
use crate::image::Image;
use crate::image_disk::{DiskOptions, Layers};
use crate::interrupt::Interrupt;
use crate::layer::{Entry, Kind};
use crate::limits::LayerLimits;
use crate::record::RecordWriter;
use crate::store::{CallLease, Storage};
use crate::unpack::{
    Arena, Assembler, InodeId, InodeKind, MemoryTree, NoContent, ROOT, RecordedLayer, TreeForm, TreeOptions, TreeWriter,
};

/// How much of two files is compared at a time.
const COMPARED_BYTES: usize = 256 << 10;

/// Everything that an image has.
pub(super) struct BaseTree<'a> {
    pub(super) tree: MemoryTree,
    /// How many names an inode has, where those are several.
    names: HashMap<InodeId, u64>,
    /// The layers' disks, where content is to be compared.
    layers: Option<Layers<'a>>,
}

impl<'a> BaseTree<'a> {
    fn new(tree: MemoryTree, layers: Option<Layers<'a>>) -> BaseTree<'a> {
        let mut counts: HashMap<InodeId, u64> = HashMap::new();
        let mut open = vec![ROOT];
        while let Some(directory) = open.pop() {
            for (_, inode) in tree.children(directory) {
                match tree.inode(inode).kind {
                    InodeKind::Directory { .. } => open.push(inode),
                    _ => *counts.entry(inode).or_default() += 1,
                }
            }
        }
        counts.retain(|_, count| *count > 1);
        BaseTree { tree, names: counts, layers }
    }

    /// Whether content is compared.
    pub(super) fn compares_content(&self) -> bool {
        self.layers.is_some()
    }

    /// Whether a file that looks as it did has the content that it had. Nobody looks, unless that is asked for.
    pub(super) fn has_same_content(&self, inode: InodeId, node: &Node<'_>, interrupt: &Interrupt) -> Result<bool> {
        let (Some(layers), InodeKind::File { size, part, block }) = (&self.layers, self.tree.inode(inode).kind) else {
            return Ok(true);
        };
        let Some(file) = node.open()?.filter(|_| size > 0) else { return Ok(true) };
        let now = SourceContent::new(file, node.stat, node.path);
        let before = on_disk(layers, (part, block), size, node.path)?;
        let (mut ours, mut theirs, mut at) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES], 0);
        while at < size {
            interrupt.check()?;
            let piece = (size - at).min(COMPARED_BYTES as u64) as usize;
            now.read(at, &mut ours[..piece])?;
            before.read(at, &mut theirs[..piece])?;
            if ours[..piece] != theirs[..piece] {
                return Ok(false);
            }
            at += piece as u64;
        }
        Ok(true)
    }

    /// A directory, as an entry of a layer.
    pub(super) fn folder_entry(&self, path: &[u8], options: &CommitOptions) -> Result<Entry> {
        let lost = || Error::new(Status::Internal, format!("{} is not in the base", quoted(path)));
        let inode = self.tree.at(path).ok_or_else(lost)?;
        Ok(metadata_entry(&self.tree, inode, path, options))
    }

    /// The paths of each file that has several.
    pub(super) fn linked_names(&self) -> BTreeMap<InodeId, Vec<Vec<u8>>> {
        let mut names: BTreeMap<InodeId, Vec<Vec<u8>>> = BTreeMap::new();
        let mut open = vec![(ROOT, Vec::new())];
        while let Some((directory, path)) = open.pop() {
            for (name, inode) in self.tree.children(directory) {
                let path = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
                match self.tree.inode(inode).kind {
                    InodeKind::Directory { .. } => open.push((inode, path)),
                    _ if self.names.contains_key(&inode) => names.entry(inode).or_default().push(path),
                    _ => {}
                }
            }
        }
        names.values_mut().for_each(|paths| paths.sort_unstable());
        names
    }

    /// How many names lead to it.
    pub(super) fn names(&self, inode: InodeId) -> u64 {
        self.names.get(&inode).copied().unwrap_or(1)
    }
}

/// What is said of an inode but what it is: of a directory, all of an entry.
pub(super) fn metadata_entry(tree: &MemoryTree, inode: InodeId, path: &[u8], options: &CommitOptions) -> Entry {
    let node = tree.inode(inode);
    Entry {
        path: path.to_vec(),
        kind: Kind::Directory,
        mode: node.mode.into(),
        uid: node.uid,
        gid: node.gid,
        mtime: clamped(node.mtime, options),
        xattrs: tree.xattrs(inode).to_vec(),
        ..Entry::default()
    }
}

/// The content of a file on a layer's disk.
pub(super) fn on_disk<'p>(
    layers: &Layers<'_>,
    (part, block): (u16, u32),
    size: u64,
    path: &'p [u8],
) -> Result<SourceContent<'p>> {
    let (disk, _) = layers.open(part)?;
    let file = disk.file.as_fd().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a layer's disk"))?;
    Ok(SourceContent::on_disk(file, u64::from(block) * BLOCK_BYTES, size, path))
}

/// How the disks of layers are made that are missing.
pub(super) fn making_disks(options: &CommitOptions) -> DiskOptions {
    DiskOptions {
        limits: options.limits.clone(),
        interrupt: options.interrupt.clone(),
        progress: options.progress.clone(),
        ..DiskOptions::default()
    }
}

impl Storage {
    /// Of no image it is an empty one. A layer without a record is extracted first, as a disk, which is one file.
    pub(super) fn base_tree(
        &self,
        image: Option<&Image>,
        options: &CommitOptions,
        lease: &mut CallLease,
    ) -> Result<BaseTree<'_>> {
        if options.compares_content {
            let making = making_disks(options);
            let layers = Layers::of(self, (image, &[]), &making, Some(lease))?;
            let tree = layers.merge_first(layers.count(), &making)?.into_tree();
            return Ok(BaseTree::new(tree, Some(layers)));
        }
        let limits = LayerLimits::unlimited();
        let tree_options = TreeOptions { limits: limits.clone(), ..TreeOptions::default() }.without_whiteouts();
        let mut nothing = NoContent;
        let writer = TreeWriter::new(
            ROOT,
            Arena::new(&mut nothing, false),
            RecordWriter::new(None, limits),
            &tree_options,
            &options.interrupt,
        );
        let mut assembler = Assembler::of(writer);
        for (layer, diff_id) in image.iter().flat_map(|image| image.layers()) {
            let record = match self.layer_record(&layer.digest)? {
                Some(record) => record,
                None => {
                    let tree =
                        TreeOptions { form: TreeForm::EROFS, limits: options.limits.clone(), ..TreeOptions::default() };
                    let (diff_id, interrupt) = (diff_id.cloned(), options.interrupt.clone());
                    let extracting = ExtractOptions { diff_id, tree, interrupt, ..ExtractOptions::default() };
                    self.extract_layer(&layer.digest, &extracting)?;
                    let lost =
                        || Error::new(Status::NotFound, format!("layer {} has no metadata record", layer.digest));
                    self.layer_record(&layer.digest)?.ok_or_else(lost)?
                }
            };
            assembler.record(&record, &mut RecordedLayer::metadata_only())?;
        }
        let no_head = |_, _| [b'\n'; crate::record::RECORD_HEAD_LEN];
        let no_record = || Err(Error::new(Status::Internal, "a record that nobody wants"));
        let (nodes, _) = assembler.finish(no_head, no_record)?;
        Ok(BaseTree::new(nodes.into_tree()?, None))
    }
}
