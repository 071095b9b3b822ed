//! What is made of a layer: one struct for every call that unpacks.

use super::args::{Call, SizedStruct, check_flags};
use super::limits::bl_layer_limits;
use crate::error::{Error, Result, Status};
use crate::unpack::{TreeForm, TreeOptions, WhiteoutForm};

/// bl_tree_options.flags: as root, make device nodes. By default a device becomes an empty file, and the metadata record
/// says which device it stands for.
pub const BL_TREE_DEVICE_NODES: u64 = 1;
/// bl_tree_options.flags: refuse a layer with any anomaly, as BL_E_MALFORMED.
pub const BL_TREE_STRICT: u64 = 2;
/// bl_tree_options.flags: leave owners as they are. Owner, mode and type of files and directories
/// go to the extended attribute user.containers.override_stat. libkrun, fuse-overlayfs and
/// containers/storage read it. Files and directories are then accessible to whoever makes the tree,
/// and without set-id bits.
pub const BL_TREE_OVERRIDE_STAT: u64 = 4;

/// bl_tree_options.whiteouts: as in the layer, empty files `.wh.<name>` and `.wh..wh..opq`. The default.
pub const BL_WHITEOUTS_MARKERS: u32 = 0;
/// bl_tree_options.whiteouts: as overlayfs has it in its lower directories: character devices 0:0, and the attribute
/// trusted.overlay.opaque, which only root can set.
pub const BL_WHITEOUTS_OVERLAY: u32 = 1;
/// bl_tree_options.whiteouts: the same with user.overlay.opaque, for mounts with the option userxattr.
pub const BL_WHITEOUTS_USER_OVERLAY: u32 = 2;

/// bl_tree_options.form: a directory. The default.
pub const BL_LAYER_DIRECTORY: u32 = 0;
/// bl_tree_options.form: one file that nobody may write to, with an EROFS file system of the layer
/// in it. Owners, devices and attributes are as the layer has them, whoever makes it. Whiteouts are
/// as overlayfs has them. It can be mounted and attached to a guest, and its bytes depend on the
/// uncompressed layer alone. The flags about the look of a tree, and whiteouts, must be 0 with it.
pub const BL_LAYER_EROFS: u32 = 1;

/// What a tree looks like and what a layer may cost; for each call that unpacks. Zero in a field is its default; initialise
/// with BL_TREE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_tree_options {
    /// sizeof(bl_tree_options).
    pub struct_size: usize,
    /// BL_TREE_*, or 0.
    pub flags: u64,
    /// BL_WHITEOUTS_*: how the tree of a layer says what lower layers lose.
    pub whiteouts: u32,
    /// BL_LAYER_*: what an extracted layer is.
    pub form: u32,
    /// What a layer may cost while it is unpacked; one that is extracted already is not measured again. NULL is the
    /// defaults.
    pub limits: *const bl_layer_limits,
}

// SAFETY: integers and a pointer.
unsafe impl SizedStruct for bl_tree_options {}

/// What a caller said of a tree, under `name`; NULL is the defaults.
pub(super) fn tree_options(c: &Call<'_>, options: *const bl_tree_options, name: &str) -> Result<TreeOptions> {
    let options: bl_tree_options = c.options(options, name)?;
    let known = BL_TREE_DEVICE_NODES | BL_TREE_STRICT | BL_TREE_OVERRIDE_STAT;
    check_flags(options.flags, known, &format!("{name}.flags"))?;
    let whiteouts = match options.whiteouts {
        BL_WHITEOUTS_MARKERS => WhiteoutForm::Markers,
        BL_WHITEOUTS_OVERLAY => WhiteoutForm::Overlay,
        BL_WHITEOUTS_USER_OVERLAY => WhiteoutForm::UserOverlay,
        other => {
            let why = format!("{name}.whiteouts is {other}, not one of BL_WHITEOUTS_*");
            return Err(Error::new(Status::Unsupported, why));
        }
    };
    let erofs = match options.form {
        BL_LAYER_DIRECTORY => false,
        BL_LAYER_EROFS => true,
        other => {
            return Err(Error::new(Status::Unsupported, format!("{name}.form is {other}, not one of BL_LAYER_*")));
        }
    };
    let has = |flag: u64| options.flags & flag != 0;
    let (device_nodes, override_stat) = (has(BL_TREE_DEVICE_NODES), has(BL_TREE_OVERRIDE_STAT));
    let form = TreeForm { whiteouts, device_nodes, override_stat, erofs };
    form.check_consistent().map_err(|error| error.context(name))?;
    Ok(TreeOptions {
        form,
        strict: has(BL_TREE_STRICT),
        limits: c.options::<bl_layer_limits>(options.limits, &format!("{name}.limits"))?.to_limits(),
    })
}
