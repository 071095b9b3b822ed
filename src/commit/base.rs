//! What an image has, by the metadata records of its layers alone: the measure for a tree that was changed.

use std::collections::{BTreeMap, HashMap};

use super::options::CommitOptions;
use crate::error::{Error, Result, Status};
use crate::extraction::ExtractOptions;
use crate::image::Image;
use crate::limits::LayerLimits;
use crate::record::RecordWriter;
use crate::store::Storage;
use crate::unpack::{
    Arena, Assembler, InodeId, InodeKind, MemoryTree, NoContent, ROOT, RecordedLayer, TreeForm, TreeOptions, TreeWriter,
};

/// Everything that an image has.
pub(super) struct BaseTree {
    pub(super) tree: MemoryTree,
    /// How many names an inode has, where those are several.
    names: HashMap<InodeId, u64>,
}

impl BaseTree {
    fn new(tree: MemoryTree) -> BaseTree {
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
        BaseTree { tree, names: counts }
    }

    /// What is at a path.
    pub(super) fn at(&self, path: &[u8]) -> Option<InodeId> {
        path.split(|&byte| byte == b'/').try_fold(ROOT, |inode, name| match self.tree.inode(inode).kind {
            InodeKind::Directory { .. } => self.tree.child(inode, name),
            _ => None,
        })
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

impl Storage {
    /// Of no image it is an empty one. A layer without a record is extracted first, as a disk, which is one file.
    pub(super) fn base_tree(&self, image: Option<&Image>, options: &CommitOptions) -> Result<BaseTree> {
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
        Ok(BaseTree::new(nodes.into_tree()?))
    }
}
