//! Hard links whose target comes later, those whose target only a lower layer can have, and those
//! beyond the file system's number of links.
//!
//! A target is resolved as in a chroot. The symlinks on the way to it are followed inside the root,
//! the last name is not (families 32 to 35). Metadata in a link's own header is not the inode's
//! business (family 43), and its data was drained (D3).

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::links::PendingLink;
use super::nodes::{NamedNode, Nodes};
use super::root_dir::{Dir, Missing, fail};
use super::tree::{Slot, TreeWriter};
use super::write_pool::same_name;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Anomalies, split_parent};
use crate::limits;

/// What came of a hard link.
#[derive(PartialEq, Eq)]
enum Linked {
    Made,
    ToItself,
    /// The target is not there.
    NotYet,
}

impl<N: Nodes> TreeWriter<N> {
    pub(super) fn hardlink(&mut self, slot: &Slot<'_, N::Handle>, target: &[u8], real_path: Vec<u8>) -> Result<()> {
        if self.order.is_stacked() {
            let (parent, name) = split_parent(target);
            let parent = self.root.dir(parent, Missing::Leave)?;
            let real_target = parent.map(|parent| parent.join(name)).filter(|target| *target != real_path);
            self.order.note_link(real_target.as_deref())?;
        }
        match self.try_link(slot, target, &real_path)? {
            Linked::Made => self.links.forget(&real_path),
            // It changes nothing (family 40).
            Linked::ToItself => {
                self.order.note_self_link()?;
                self.anomalies.insert(Anomalies::SELF_LINK);
            }
            Linked::NotYet => {
                // What has the name is replaced now, as by any other entry.
                if self.exists(slot.parent, slot.name)? {
                    if slot.is_free {
                        return Err(same_name(&real_path));
                    }
                    self.remove(slot.parent, slot.name)?;
                    self.restore_whiteout(slot, &real_path)?;
                }
                self.keep((real_path.len() + target.len()) as u64)?;
                self.links.count += 1;
                let pending = PendingLink { target: target.to_vec(), order: self.links.count };
                self.links.pending.insert(real_path, pending);
            }
        }
        Ok(())
    }

    /// A link that waits is not in the tree, and what lower layers have at its name stays hidden if the layer says so.
    fn restore_whiteout(&mut self, slot: &Slot<'_, N::Handle>, real_path: &[u8]) -> Result<()> {
        if !self.form.is_overlay() || !self.whiteouts.contains(real_path) {
            return Ok(());
        }
        self.root
            .nodes
            .make_whiteout(slot.parent.handle(), slot.name)
            .map_err(|errno| fail(errno, "make a whiteout of", real_path))
    }

    /// In the overlay forms a name can be a whiteout, which is no file to link to.
    fn is_whiteout(&self, real_path: &[u8], node: &NamedNode<N::Identity>) -> bool {
        node.is_null_device && self.whiteouts.contains(real_path)
    }

    fn try_link(&mut self, slot: &Slot<'_, N::Handle>, target: &[u8], real_path: &[u8]) -> Result<Linked> {
        let (target_parent, target_name) = split_parent(target);
        let Some(target_parent) = self.root.dir(target_parent, Missing::Leave)? else { return Ok(Linked::NotYet) };
        self.note_walk(&[])?;
        let real_target = target_parent.join(target_name);
        if real_target == real_path {
            return Ok(Linked::ToItself);
        }
        let refuse = |why: &str| {
            let (link, target) = (quoted(real_path), quoted(target));
            Err(Error::new(Status::Malformed, format!("hard link {link} to {target}: {why}")))
        };
        let mut node = self.root.nodes.look(target_parent.handle(), target_name);
        if matches!(node, Err(Errno::NOENT)) && self.root.nodes.are_pending() {
            self.root.nodes.settle()?;
            node = self.root.nodes.look(target_parent.handle(), target_name);
        }
        let node = match node {
            Err(Errno::NOENT) => return Ok(Linked::NotYet),
            // Longer than any file here can be called.
            Err(Errno::NAMETOOLONG) => return Ok(Linked::NotYet),
            Err(errno) => return Err(fail(errno, "look at", &real_target)),
            Ok(node) => node,
        };
        if self.is_whiteout(&real_target, &node) {
            return Ok(Linked::NotYet);
        }
        if node.is_directory {
            return refuse("a directory cannot have two names");
        }
        if real_target.starts_with(&[real_path, b"/"].concat()) {
            return refuse("the link would replace the directory that its target is in");
        }
        if !self.make_link(&target_parent, target_name, &real_target, slot)? {
            // A copy is a file of its own, with the metadata of the target; its line says so.
            self.anomalies.insert(Anomalies::COPIED_LINK);
        }
        self.record.hardlink(real_path, &real_target)?;
        Ok(Linked::Made)
    }

    /// False where the file system allows no more links and the name became a copy (D4).
    fn make_link(
        &mut self,
        target_parent: &Dir<N::Handle>,
        target_name: &[u8],
        real_target: &[u8],
        slot: &Slot<'_, N::Handle>,
    ) -> Result<bool> {
        let Slot { parent, name, is_free } = *slot;
        let real_path = parent.join(name);
        let target = (target_parent.handle(), target_name);
        let link = |nodes: &N, from| nodes.link(from, (parent.handle(), name));
        let mut made = link(&self.root.nodes, target);
        if made == Err(Errno::EXIST) {
            if is_free {
                return Err(same_name(&real_path));
            }
            self.remove(parent, name)?;
            made = link(&self.root.nodes, target);
        }
        match made {
            Ok(()) => return Ok(true),
            Err(Errno::MLINK) => {}
            Err(errno) => return Err(fail(errno, "link", &real_path)),
        }
        if let Some((copied, identity)) = self.links.copies.get(real_target).cloned() {
            let (copied_parent, copied_name) = split_parent(&copied);
            if let Some(copied_parent) = self.root.dir(copied_parent, Missing::Leave)?
                && let Ok(node) = self.root.nodes.look(copied_parent.handle(), copied_name)
                && node.identity == identity
                && link(&self.root.nodes, (copied_parent.handle(), copied_name)).is_ok()
            {
                return Ok(false);
            }
        }
        // The target may still be in the making.
        self.root.nodes.settle()?;
        let look = |nodes: &N, dir: &Dir<N::Handle>, name: &[u8]| {
            nodes.look(dir.handle(), name).map_err(|errno| fail(errno, "look at", &dir.join(name)))
        };
        self.links.copied_bytes += look(&self.root.nodes, target_parent, target_name)?.size;
        limits::LAYER_SIZE.check(&self.limits, self.links.copied_bytes, || quoted(&real_path))?;
        self.root.nodes.copy((target_parent, target_name), (parent, name), &self.interrupt)?;
        let made = look(&self.root.nodes, parent, name)?;
        self.keep((real_target.len() + real_path.len()) as u64)?;
        self.links.copies.insert(real_target.to_vec(), (real_path, made.identity));
        Ok(false)
    }

    /// Links whose target came later in the archive (family 38). A link that is made is at once tried as the target of
    /// others; only chains through symlinks need another round. What is left waits for a lower layer (family 37).
    pub(super) fn link_pending(&mut self) -> Result<()> {
        const ROUNDS: usize = 8;
        let mut pending = std::mem::take(&mut self.links.pending);
        let mut waiting: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (link, PendingLink { target, .. }) in &pending {
            waiting.entry(target.clone()).or_default().push(link.clone());
        }
        for _ in 0..ROUNDS {
            let before = pending.len();
            let mut queue: Vec<Vec<u8>> = pending.keys().cloned().collect();
            while let Some(link) = queue.pop() {
                self.interrupt.check()?;
                let Some(PendingLink { target, .. }) = pending.get(&link) else { continue };
                let (parent, name) = split_parent(&link);
                let parent = self.parent(parent)?;
                let slot = Slot { parent: &parent, name, is_free: false };
                if self.try_link(&slot, target, &link)? == Linked::Made {
                    pending.remove(&link);
                    queue.extend(waiting.remove(&link).unwrap_or_default());
                }
            }
            if pending.len() == before {
                break;
            }
        }
        match pending.first_key_value() {
            None => Ok(()),
            // There is no layer left that could have it (family 37).
            Some((link, PendingLink { target, .. })) if self.order.is_stacked() => {
                let (link, target) = (quoted(link), quoted(target));
                Err(Error::new(Status::Malformed, format!("hard link {link} to {target}: no layer has that")))
            }
            Some(_) => self.record_lower_links(&pending),
        }
    }

    /// A link to another link that waits comes after that one, so that whoever makes them need only keep the order.
    fn record_lower_links(&mut self, pending: &BTreeMap<Vec<u8>, PendingLink>) -> Result<()> {
        self.anomalies.insert(Anomalies::LOWER_LINK);
        let mut in_order: Vec<(&Vec<u8>, &PendingLink)> = pending.iter().collect();
        in_order.sort_by_key(|(_, pending)| pending.order);
        let mut said = std::collections::BTreeSet::new();
        for (link, _) in in_order {
            // The chain from this link down to one that waits for nothing here, or that comes round again.
            let mut chain = Vec::new();
            let mut at = link;
            while let Some(next) = pending.get(at).filter(|_| said.insert(at)) {
                chain.push((at, &next.target));
                at = &next.target;
            }
            for (link, target) in chain.into_iter().rev() {
                self.record.lower_link(link, target)?;
            }
        }
        Ok(())
    }

    fn exists(&self, parent: &Dir<N::Handle>, name: &[u8]) -> Result<bool> {
        match self.root.nodes.look(parent.handle(), name) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(fail(errno, "look at", &parent.join(name))),
        }
    }
}
