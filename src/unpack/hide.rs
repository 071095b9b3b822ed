//! Taking out of the tree what a layer hides of the layers below it, while the layer comes as an archive.

use super::metadata::Metadata;
use super::nodes::Nodes;
use super::root_dir::Missing;
use super::tree::TreeWriter;
use crate::error::Result;
use crate::layer::{Entry, Kind, WHITEOUT_PREFIX, split_parent};

impl<N: Nodes> TreeWriter<N> {
    /// A whiteout of an archive, or an opaque marker.
    pub(super) fn hide_lower(&mut self, entry: &Entry) -> Result<()> {
        let (parent, marker) = split_parent(&entry.path);
        if entry.kind == Kind::Opaque {
            let dir = self.parent(parent)?;
            return if self.order.is_tracked() { self.hide_below(&dir.real_path, false) } else { Ok(()) };
        }
        // Whatever may be in the way, or under the name.
        self.root.nodes.settle()?;
        let found = self.root.dir(parent, Missing::Leave)?;
        self.note_walk(&[])?;
        let Some(parent) = found else { return self.note_blocked(parent) };
        if self.order.is_lowest() {
            return Ok(());
        }
        let name = marker.get(WHITEOUT_PREFIX.len()..).unwrap_or_default();
        let real_path = parent.join(name);
        match self.kind_of(&parent, name)? {
            None => Ok(()),
            Some(_) if !self.order.is_ours(&real_path) => self.remove_hidden(&parent, name),
            Some(true) => self.hide_below(&real_path, true),
            Some(false) => Ok(()),
        }
    }

    /// Takes out of a directory of the layer what lower layers have in it. `is_hidden`: the
    /// directory of the lower layers is gone too. The layer's own is what an entry for it says, or
    /// what is made where there is none.
    fn hide_below(&mut self, path: &[u8], is_hidden: bool) -> Result<()> {
        if self.order.is_clean(path) {
            return Ok(());
        }
        self.root.nodes.settle()?;
        let mut todo = vec![(path.to_vec(), is_hidden)];
        while let Some((path, is_hidden)) = todo.pop() {
            self.interrupt.check()?;
            self.root.grant_steps();
            let Some(dir) = self.root.dir(&path, Missing::Leave)? else { continue };
            self.order.mark_clean(&path);
            if is_hidden && !self.order.is_explicit(&path) {
                self.keep_directory(path.clone(), Metadata::implied())?;
                self.record.implied_directory(&path)?;
            }
            for name in self.names(&dir)? {
                let child = dir.join(&name);
                if !self.order.is_ours(&child) {
                    self.remove_hidden(&dir, &name)?;
                } else if self.kind_of(&dir, &name)? == Some(true) && !self.order.is_known_clean(&child) {
                    todo.push((child, true));
                }
            }
        }
        Ok(())
    }

    /// A whiteout was to go into a directory that is not there. By itself the layer would have put one where a file of its own
    /// is.
    fn note_blocked(&mut self, path: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (Vec::new(), path);
        while !rest.is_empty() {
            let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let (name, after) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            let Some(dir) = self.root.dir(&at, Missing::Leave)? else { return Ok(()) };
            let is_lowest = self.order.is_lowest();
            let real_path = dir.join(name);
            let is_in_the_way =
                self.kind_of(&dir, name)? == Some(false) && (is_lowest || self.order.is_ours(&real_path));
            if is_in_the_way || self.links.is_pending(&real_path) {
                return self.order.out_of_order();
            }
            at = if at.is_empty() { name.to_vec() } else { [&at[..], b"/", name].concat() };
            rest = after;
        }
        Ok(())
    }
}
