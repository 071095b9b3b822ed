//! What a disk is called, and what it is known by. Nothing in it comes from the clock or from chance, so that the same layers are
//! the same bytes.

use crate::digest::Digest;
use crate::record::DISK_RECIPE;

/// What everything begins with that a name is made of.
fn recipe() -> String {
    format!("boxlite-images disk {DISK_RECIPE}")
}

/// UUID and label.
pub(crate) struct DiskId {
    pub(crate) uuid: [u8; 16],
    /// As long as the file system allows.
    pub(crate) label: Vec<u8>,
}

impl DiskId {
    /// Of a layer, which its uncompressed bytes name.
    pub(super) fn of_layer(diff_id: &Digest) -> DiskId {
        DiskId { uuid: uuid_of(&format!("{}\nerofs\nlayer {diff_id}\n", recipe())), label: Vec::new() }
    }

    /// Of an image's disk, by its key, unless the caller wants another UUID.
    pub(crate) fn of_image(key: &Digest, uuid: Option<[u8; 16]>, label: &str) -> DiskId {
        DiskId { uuid: uuid.unwrap_or_else(|| uuid_of(&format!("{}\nimage {key}\n", recipe()))), label: label.into() }
    }
}

/// What a disk is known by: the digest of everything that its bytes depend on. `options` are in words, in an order of their own.
pub(crate) fn disk_key<'a>(options: &str, diff_ids: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut text = format!("{}\n{options}\n", recipe());
    diff_ids.for_each(|diff_id| text.push_str(&format!("layer {diff_id}\n")));
    Digest::of(text.as_bytes())
}

/// Of hashes with this root.
pub(super) fn verity_uuid(root: &str) -> [u8; 16] {
    uuid_of(&format!("{}\nverity {root}\n", recipe()))
}

/// The UUID that a text stands for: of version 8, which is whatever its maker says (RFC 9562, section 5.8).
fn uuid_of(text: &str) -> [u8; 16] {
    let digest = Digest::of(text.as_bytes());
    let mut uuid = [0; 16];
    for (byte, digits) in uuid.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16).unwrap_or(0) as u8;
        *byte = digit(0) << 4 | digit(1);
    }
    *uuid::Builder::from_bytes(uuid)
        .with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::Custom)
        .as_uuid()
        .as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_the_layer_alone_and_is_a_uuid() {
        let [a, b] = [&b"a"[..], b"b"].map(|bytes| DiskId::of_layer(&Digest::of(bytes)).uuid);
        assert_ne!(a, b);
        assert_eq!(a, DiskId::of_layer(&Digest::of(b"a")).uuid);
        let id = uuid::Uuid::from_bytes(a);
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
    }
}
