//! What an extracted tree looks like: how whiteouts, devices and owners are said in it. Each form is a tree of its own,
//! under a name of its own, so that nobody is given a tree in a form that another one asked for.

use std::fmt::Display;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::layer::Anomalies;
use crate::limits::LayerLimits;
use crate::options::options;

/// How whiteouts and opaque directories are said in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhiteoutForm {
    /// As in the layer: `.wh.<name>` and `.wh..wh..opq`, as empty files.
    #[default]
    Markers,
    /// As overlayfs has it in its lower directories: character devices 0:0 and the attribute `trusted.overlay.opaque`,
    /// which only root can set.
    Overlay,
    /// The same with `user.overlay.opaque`, for mounts with `userxattr`, as in a user namespace.
    UserOverlay,
}

/// What a tree looks like. The default is the layer as it is, with empty files for devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TreeForm {
    /// How whiteouts are said.
    pub whiteouts: WhiteoutForm,
    /// As root, make device nodes. Otherwise, and by default, a device becomes an empty file, and the metadata record
    /// says which device it stands for.
    pub device_nodes: bool,
    /// Leave owners as they are and write owner, mode and type of files and directories to the extended attribute
    /// `user.containers.override_stat`, which libkrun, fuse-overlayfs and containers/storage read. Files and
    /// directories are then accessible to whoever extracts, and without set-id bits.
    pub override_stat: bool,
}

options! {
    /// What is made of a layer, and what that may cost. The default is the layer as it is, within the default limits.
    #[derive(Clone, Debug, Default)]
    pub struct TreeOptions {
        /// What a tree looks like.
        pub form: TreeForm,
        /// Refuse a layer with any [`Anomalies`].
        pub strict: bool,
        /// What the layer may cost.
        pub limits: LayerLimits,
    }
}

impl TreeOptions {
    /// `MALFORMED` where there is something odd and nothing odd is wanted.
    pub(crate) fn check_strict(&self, anomalies: Anomalies, object: impl Display) -> Result<()> {
        if self.strict && !anomalies.is_empty() {
            return Err(Error::new(Status::Malformed, format!("{object}: strict: {}", anomalies.names())));
        }
        Ok(())
    }

    /// For a tree that has none.
    pub(crate) fn without_whiteouts(&self) -> TreeOptions {
        let form = TreeForm { whiteouts: WhiteoutForm::Markers, ..self.form };
        TreeOptions { form, ..self.clone() }
    }
}

impl TreeForm {
    /// The name of a layer's tree in `extracted/`: the seed's for the default form.
    pub(crate) fn tree_name(self, digest: &Digest) -> String {
        let mut name = digest.file_stem();
        let mut separator = '.';
        let parts = [
            (self.whiteouts == WhiteoutForm::Overlay, "overlay"),
            (self.whiteouts == WhiteoutForm::UserOverlay, "useroverlay"),
            (self.device_nodes, "devices"),
            (self.override_stat, "stat"),
        ];
        for (_, part) in parts.iter().filter(|(is_asked_for, _)| *is_asked_for) {
            name.push(separator);
            name.push_str(part);
            separator = '-';
        }
        name
    }

    /// The form of a tree by its name; `None` for a form that this version does not know.
    pub(crate) fn of_tree_name(name: &str, digest: &Digest) -> Option<TreeForm> {
        let whiteouts = [WhiteoutForm::Markers, WhiteoutForm::Overlay, WhiteoutForm::UserOverlay];
        let switches = [(false, false), (false, true), (true, false), (true, true)];
        whiteouts
            .into_iter()
            .flat_map(|whiteouts| {
                switches.map(|(device_nodes, override_stat)| TreeForm { whiteouts, device_nodes, override_stat })
            })
            .find(|form| form.tree_name(digest) == name)
    }

    /// `UNSUPPORTED` for a form that this system cannot make.
    pub(crate) fn check_possible(self) -> Result<()> {
        if self.is_overlay() && !cfg!(target_os = "linux") {
            let why = "trees in the forms of overlayfs are made on Linux only; extract with whiteouts as markers";
            return Err(Error::new(Status::Unsupported, why));
        }
        Ok(())
    }

    pub(super) fn is_overlay(self) -> bool {
        self.whiteouts != WhiteoutForm::Markers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_name_of_its_own() {
        let digest = Digest::of(b"");
        let mut names = std::collections::BTreeSet::new();
        for whiteouts in [WhiteoutForm::Markers, WhiteoutForm::Overlay, WhiteoutForm::UserOverlay] {
            for (device_nodes, override_stat) in [(false, false), (false, true), (true, false), (true, true)] {
                let form = TreeForm { whiteouts, device_nodes, override_stat };
                assert_eq!(TreeForm::of_tree_name(&form.tree_name(&digest), &digest), Some(form));
                names.insert(form.tree_name(&digest));
            }
        }
        assert_eq!(names.len(), 12);
        assert!(names.contains(&digest.file_stem()));
        assert!(names.contains(&format!("{}.useroverlay-devices-stat", digest.file_stem())));
    }
}
