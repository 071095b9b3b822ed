//! What a guest's init needs to know of an image whose layers are disks: there is no tree to look up its user in.

use super::layers::Layers;
use super::options::DiskOptions;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::limits::LayerLimits;
use crate::rootfs::{MAX_USERS_BYTES, Process, RootfsUser};
use crate::store::Storage;

/// Of all layers together: some gigabyte of memory.
const MAX_ENTRIES: u64 = 8_000_000;

impl Storage {
    /// As [`Image::process`], with the user looked up in the disks of the image's layers, which must be in the store.
    ///
    /// `NOT_FOUND` too where a layer has no disk there.
    pub fn process(&self, image: &Image, interrupt: &Interrupt) -> Result<Process> {
        self.directory.check_not_forked()?;
        let place = image.manifest_digest.to_string();
        image.process_of(|user| {
            // What the config says of their content is not proved here, so that each is only the same as itself.
            let stack = image.layers().map(|(layer, _)| (layer.digest.clone(), layer.digest.clone()));
            let absent = || {
                let why = "a layer has no disk in the store; make the image's disk first, or give a root file system";
                Error::new(Status::NotFound, format!("{place}: {why}"))
            };
            let layers = Layers::stored(self, stack.collect())?.ok_or_else(absent)?;
            // Whoever made the disks has said what a layer may cost.
            let limits = LayerLimits { entries: MAX_ENTRIES, ..LayerLimits::unlimited() };
            let options = DiskOptions { limits, interrupt: interrupt.clone(), ..DiskOptions::default() };
            let tree = layers.merge(&options)?;
            let open = |number: u16| Ok(layers.open(number)?.0);
            RootfsUser::look_up_in(&place, user, |path| {
                Ok(tree.read_file(path, MAX_USERS_BYTES, &open)?.unwrap_or_default())
            })
        })
    }
}
