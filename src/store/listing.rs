//! What lies in the store's folders: which names are objects of ours.

use super::lease;
use super::partial::tree_of;
use super::storage::Storage;
use super::store_dir::Folder;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys;

/// What the name of a blob, a tree or a file beside a tree says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    /// The blob's digest, or that of the layer.
    pub(crate) digest: Digest,
    /// It lies beside a tree and is not the tree: the record, or hashes.
    pub(crate) is_beside_tree: bool,
}

impl ObjectName {
    /// `None` for what is none of ours, and for a partial object.
    fn parse(area: Folder, name: &str) -> Option<ObjectName> {
        let (stem, is_beside_tree) = match area {
            Folder::Layers => (name.strip_suffix(".tar.gz")?, false),
            Folder::Configs | Folder::Manifests | Folder::Names => (name.strip_suffix(".json")?, false),
            Folder::Extracted => {
                let tree = tree_of(name);
                let (stem, form) = tree.unwrap_or(name).split_once('.').unwrap_or((tree.unwrap_or(name), ""));
                if !form.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                    return None;
                }
                (stem, tree.is_some())
            }
            // A partial one has a random part behind a dot.
            Folder::Disks => (name, false),
            Folder::Root | Folder::Leases | Folder::Locks | Folder::Quarantine | Folder::Links => return None,
        };
        let (algorithm, hex) = stem.split_once('-')?;
        Some(ObjectName { digest: Digest::parse(&format!("{algorithm}:{hex}")).ok()?, is_beside_tree })
    }
}

impl Storage {
    /// The objects in a folder, in order of their names.
    pub(crate) fn objects(&self, area: Folder) -> Result<Vec<(String, ObjectName)>> {
        let names = self.names_in(area)?.into_iter();
        Ok(names.filter_map(|name| ObjectName::parse(area, &name).map(|object| (name, object))).collect())
    }

    /// The files of leases.
    pub(crate) fn lease_files(&self) -> Result<Vec<String>> {
        let mut names = self.names_in(Folder::Leases)?;
        names.retain(|name| name.strip_suffix(".json").is_some_and(lease::is_id));
        Ok(names)
    }

    /// What a check moved away: `<folder>.<name>.<32 hex digits>`.
    pub(crate) fn quarantined(&self) -> Result<Vec<String>> {
        let mut names = self.names_in(Folder::Quarantine)?;
        names.retain(|name| {
            let is_from = |area: &Folder| name.strip_prefix(area.name()).is_some_and(|rest| rest.starts_with('.'));
            Folder::FOLDERS.iter().any(is_from) && name.rsplit_once('.').is_some_and(|(_, random)| lease::is_id(random))
        });
        Ok(names)
    }

    /// All names in a folder, in order; none where a read-only store lacks it.
    pub(crate) fn names_in(&self, area: Folder) -> Result<Vec<String>> {
        let Ok(folder) = self.directory.area(area) else { return Ok(Vec::new()) };
        let path = self.directory.object_path(area, "");
        let fail = |errno| Error::os(errno, format_args!("list {}", path.display()));
        let mut names = Vec::new();
        sys::for_each_name(folder, |name| names.extend(name.to_str().ok().map(str::to_owned))).map_err(fail)?;
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_or_not() {
        let hex = "a".repeat(64);
        for (area, name, is_ours) in [
            (Folder::Layers, format!("sha256-{hex}.tar.gz"), true),
            (Folder::Layers, format!("sha256-{hex}.json"), false),
            (Folder::Layers, format!("sha256-{hex}.tar.gz.bak"), false),
            (Folder::Layers, "notes.tar.gz".into(), false),
            (Folder::Manifests, format!("sha256-{hex}.json"), true),
            (Folder::Manifests, format!("md5-{hex}.json"), false),
            (Folder::Extracted, format!("sha256-{hex}"), true),
            (Folder::Extracted, format!("sha256-{hex}.overlay-stat"), true),
            (Folder::Extracted, format!("sha256-{hex}.overlay-stat.mtree"), true),
            (Folder::Extracted, format!("sha256-{hex}.erofs.verity"), true),
            (Folder::Extracted, format!("sha256-{hex}.{}.extracting", "0".repeat(32)), false),
            (Folder::Extracted, "lost+found".into(), false),
            (Folder::Disks, format!("sha256-{hex}"), true),
            (Folder::Disks, format!("sha256-{hex}.{}.extracting", "0".repeat(32)), false),
        ] {
            let parsed = ObjectName::parse(area, &name);
            assert_eq!(parsed.is_some(), is_ours, "{name}");
            let is_beside = name.ends_with(".mtree") || name.ends_with(".verity");
            assert_eq!(parsed.is_some_and(|object| object.is_beside_tree), is_ours && is_beside, "{name}");
        }
    }
}
