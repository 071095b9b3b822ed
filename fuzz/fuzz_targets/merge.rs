//! Any bytes as up to four plain layers on top of each other, assembled in a mode: nothing outside changes, a failure leaves
//! nothing behind, and copies of extracted layers are what comes straight from the blobs. Nodes in memory come to the same
//! record.

#![no_main]

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use boxlite_images::{
    Digest, Durability, Error, Image, RootfsMode, RootfsOptions, Status, Storage, StorageOptions, fuzzing,
};
use libfuzzer_sys::fuzz_target;

/// Two bytes before each layer say how many blocks of 512 bytes it has.
fn layers_of(mut data: &[u8]) -> Vec<&[u8]> {
    let mut layers = Vec::new();
    while let ([low, high, rest @ ..], true) = (data, layers.len() < 4) {
        let length = usize::from(u16::from_le_bytes([*low, *high])) * 512;
        let (layer, more) = rest.split_at(length.min(rest.len()));
        layers.push(layer);
        data = more;
    }
    layers
}

fn image_of(storage: &Storage, layers: &[&[u8]]) -> Result<Image, Error> {
    let mut described = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let digest = Digest::of(layer);
        let mut staged = storage.stage_layer(&digest, Some(layer.len() as u64))?;
        staged.write(layer)?;
        staged.commit()?;
        let kind = "application/vnd.oci.image.layer.v1.tar";
        described.push(format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{}}}"#, layer.len()));
        diff_ids.push(format!("\"{digest}\""));
    }
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, diff_ids.join(","));
    let digest = Digest::of(config.as_bytes());
    let mut staged = storage.stage_config(&digest)?;
    staged.write(config.as_bytes())?;
    staged.commit()?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[{}]}}"#,
        config.len(),
        described.join(",")
    );
    let digest = Digest::of(manifest.as_bytes());
    storage.save_manifest(&digest, manifest.as_bytes())?;
    storage.open_image_by_digest(&digest)
}

/// The record of the same layers, whose nodes are in memory.
fn record_in_memory(layers: &[&[u8]], options: &RootfsOptions) -> Result<String, Error> {
    let file = |layer: &&[u8]| {
        let file = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, layer).unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        file
    };
    fuzzing::record_of_nodes_in_memory(layers.iter().map(file).collect(), &options.tree, false)
}

/// Everything below a directory by path: type and mode, and what is in it or where it leads.
fn tree(root: &Path) -> Vec<(Vec<u8>, u32, String)> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let content = if kind.is_dir() {
                open.push(path.clone());
                String::new()
            } else if kind.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else if kind.is_file() && meta.len() < 1 << 20 {
                Digest::of(&std::fs::read(&path).unwrap()).to_string()
            } else {
                format!("{} {} {}", meta.len(), meta.rdev(), kind.is_fifo())
            };
            let short = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.push((short, meta.permissions().mode(), content));
        }
    }
    found.sort();
    found
}

fuzz_target!(|data: &[u8]| {
    let layers = layers_of(data);
    let outer = tempfile::tempdir_in("/dev/shm").unwrap();
    for dir in ["etc", "target", "target-evil"] {
        std::fs::create_dir(outer.path().join(dir)).unwrap();
    }
    for file in ["flag", "etc/passwd", "target-evil/x"] {
        std::fs::write(outer.path().join(file), "outside").unwrap();
    }
    let mut options = StorageOptions::default();
    options.durability = Durability::None;
    let target = outer.path().join("target");
    let storage = Storage::open(target.join("store"), &options).unwrap();
    let image = match image_of(&storage, &layers) {
        Ok(image) => image,
        Err(error) => {
            assert_ne!(error.status(), Status::Internal, "{error}");
            return;
        }
    };
    let outside = || {
        let mut outside = tree(outer.path());
        outside.retain(|(path, ..)| !path.starts_with(b"target/"));
        outside
    };
    let before = outside();
    let mut trees = Vec::new();
    for mode in [RootfsMode::Direct, RootfsMode::Copy, RootfsMode::Hardlink] {
        let root = target.join(format!("{mode:?}"));
        let mut options = RootfsOptions::default();
        options.mode = mode;
        options.tree.limits.layer_bytes = 16 << 20;
        options.record_path = Some(target.join(format!("{mode:?}.mtree")));
        match storage.assemble_rootfs(&image, &root, &options) {
            Ok(_) => {
                trees.push(tree(&root));
                if mode == RootfsMode::Direct
                    && let Ok(in_memory) = record_in_memory(&layers, &options)
                {
                    let on_disk = std::fs::read(options.record_path.unwrap()).unwrap();
                    assert_eq!(String::from_utf8_lossy(&on_disk[512..]), in_memory);
                }
            }
            Err(error) => {
                assert_ne!(error.status(), Status::Internal, "{error}");
                assert!(!root.exists());
                trees.push(Vec::new());
            }
        }
        assert_eq!(outside(), before, "something outside has changed");
    }
    for name in std::fs::read_dir(&target).unwrap() {
        let name = name.unwrap().file_name();
        assert!(!name.as_encoded_bytes().starts_with(b"."), "something was left: {name:?}");
    }
    // A name that leads by `..` through a lower layer's symlink means one thing to a layer by itself, and another to a tree.
    if !layers.iter().any(|layer| layer.windows(2).any(|pair| pair == b"..")) {
        assert!(trees.windows(2).all(|pair| pair[0] == pair[1]), "modes differ: {trees:#?}");
    }
});
