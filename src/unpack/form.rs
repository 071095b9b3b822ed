//! What an extracted tree looks like: a directory or a file system in a file, and how whiteouts,
//! devices and owners are said in it. Each form is a tree of its own, under a name of its own. So
//! nobody is given a tree in a form that another one asked for.

use std::fmt::Display;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::layer::Anomalies;
use crate::limits::LayerLimits;
use crate::options::options;
use crate::record::EROFS_SUFFIX;

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
    /// Leave owners as they are. Write owner, mode and type of files and directories to the
    /// extended attribute `user.containers.override_stat`. libkrun, fuse-overlayfs and
    /// containers/storage read it. Files and directories are then accessible to whoever extracts,
    /// and without set-id bits.
    pub override_stat: bool,
    /// Not a directory but one file, a read-only EROFS file system, with owners, devices and attributes as the layer has them,
    /// whoever makes it. Whiteouts are said as overlayfs has them. The other fields must have their defaults.
    pub erofs: bool,
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
        let form = TreeForm { whiteouts: WhiteoutForm::Markers, erofs: false, ..self.form };
        TreeOptions { form, ..self.clone() }
    }
}

impl TreeForm {
    /// The name of a layer's tree in `extracted/`: the seed's for the default form.
    pub(crate) fn tree_name(self, digest: &Digest) -> String {
        let mut name = digest.file_stem();
        if self.erofs {
            name.push_str(EROFS_SUFFIX);
            return name;
        }
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
        let directories = whiteouts.into_iter().flat_map(|whiteouts| {
            switches.map(|(device_nodes, override_stat)| TreeForm {
                whiteouts,
                device_nodes,
                override_stat,
                erofs: false,
            })
        });
        directories.chain([TreeForm::EROFS]).find(|form| form.tree_name(digest) == name)
    }

    /// A file system in a file.
    pub(crate) const EROFS: TreeForm =
        TreeForm { whiteouts: WhiteoutForm::Markers, device_nodes: false, override_stat: false, erofs: true };

    /// `UNSUPPORTED` for a form that this system cannot make, `INVALID_ARGUMENT` for one that says two things.
    pub(crate) fn check_possible(self) -> Result<()> {
        self.check_consistent()?;
        if self.is_overlay() && !self.erofs && !cfg!(target_os = "linux") {
            let why = "trees in the forms of overlayfs are made on Linux only; extract with whiteouts as markers";
            return Err(Error::new(Status::Unsupported, why));
        }
        Ok(())
    }

    /// `INVALID_ARGUMENT` for one that says two things.
    pub(crate) fn check_consistent(self) -> Result<()> {
        if self.erofs && self != TreeForm::EROFS {
            let why =
                "a layer as EROFS has whiteouts, devices and owners as they are; leave these options at their defaults";
            return Err(Error::new(Status::InvalidArgument, why));
        }
        Ok(())
    }

    /// Whiteouts are said as overlayfs has them.
    pub(crate) fn is_overlay(self) -> bool {
        self.erofs || self.whiteouts != WhiteoutForm::Markers
    }

    /// `INVALID_ARGUMENT` where what is to be made is a directory and cannot be anything else.
    pub(crate) fn check_directory(self) -> Result<()> {
        if self.erofs {
            let why = "this makes a directory, which has no form EROFS; a layer or an image as a disk has";
            return Err(Error::new(Status::InvalidArgument, why));
        }
        Ok(())
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
                let form = TreeForm { whiteouts, device_nodes, override_stat, erofs: false };
                assert_eq!(TreeForm::of_tree_name(&form.tree_name(&digest), &digest), Some(form));
                names.insert(form.tree_name(&digest));
            }
        }
        assert_eq!(TreeForm::of_tree_name(&TreeForm::EROFS.tree_name(&digest), &digest), Some(TreeForm::EROFS));
        names.insert(TreeForm::EROFS.tree_name(&digest));
        assert_eq!(names.len(), 13);
        assert!(names.contains(&digest.file_stem()));
        assert!(names.contains(&format!("{}.useroverlay-devices-stat", digest.file_stem())));
    }
}
