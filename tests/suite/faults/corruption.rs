//! Damage of every kind to every kind of object. A check finds each, nothing that it moved away is served, and storing or
//! extracting again mends it.

use std::path::{Path, PathBuf};

use boxlite_images::{
    CheckOptions, Digest, DiskFormat, DiskLayout, DiskOptions, ExtractOptions, ImageName, Problem, Storage,
};

use super::super::archive::Archive;
use super::super::images::put_image_of;
use super::super::support::{names_in, quick_store, temp_dir};
use super::{Chance, is_full};

/// A store with some of everything, and how to fill it again.
struct Patient {
    storage: Storage,
    layers: Vec<Digest>,
}

impl Patient {
    fn new(dir: &Path) -> Patient {
        let mut patient = Patient { storage: quick_store(dir), layers: Vec::new() };
        patient.fill();
        patient
    }

    /// What a pull does: whatever is there stays, the rest is stored.
    fn fill(&mut self) {
        let storage = &self.storage;
        self.layers.clear();
        let simple = |file: &str| Archive::new().file(file.as_bytes(), &[b'x'; 1000]).finish();
        let large: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        let mixed = Archive::new()
            .dir(b"d/e")
            .file(b"d/e/one", b"content of one")
            .file(b"d/e/two", b"content of two")
            .file(b"large", &large[..700_000])
            .symlink(b"d/link", b"e/one")
            .hardlink(b"d/same", b"large")
            .file(b"d/.wh.gone", b"")
            .finish();
        let images = [vec![simple("a"), simple("b")], vec![simple("b"), simple("c")], vec![simple("d"), mixed]];
        for (i, layers) in images.iter().enumerate() {
            let digest = put_image_of(storage, &i.to_string(), layers);
            let name = ImageName::parse(&format!("example.org/image{i}:1")).unwrap();
            storage.tag_image(&name, &digest).unwrap();
            let image = storage.open_image_by_digest(&digest).unwrap();
            self.layers.extend(image.layers().map(|(layer, _)| layer.digest.clone()));
        }
        for layer in &self.layers {
            let mut options = ExtractOptions::default();
            storage.extract_layer(layer, &options).unwrap();
            options.tree.form.erofs = true;
            storage.extract_layer(layer, &options).unwrap();
        }
        let erofs = DiskOptions::default().format(DiskFormat::Erofs);
        for (i, options) in [erofs.clone(), erofs.layout(DiskLayout::Merged), DiskOptions::default()].iter().enumerate()
        {
            let name = ImageName::parse(&format!("example.org/image{}:1", 2 - i)).unwrap();
            let image = storage.open_image(&name).unwrap();
            storage.keep_disk(&image, options).unwrap().lease.release().unwrap();
        }
    }

    fn check(&self, repair: bool) -> Vec<boxlite_images::Finding> {
        let mut options = CheckOptions::default();
        options.repair = repair;
        self.storage.check(&options).unwrap().findings
    }
}

/// What a fault is done to: a file of the store, or something in a tree.
fn targets(store: &Path) -> Vec<PathBuf> {
    let mut targets = Vec::new();
    for folder in ["manifests", "configs", "layers", "names", "extracted", "disks"] {
        targets.extend(names_in(&store.join(folder)).iter().map(|name| store.join(folder).join(name)));
    }
    let trees: Vec<_> = targets.iter().filter(|path| path.is_dir()).cloned().collect();
    targets.retain(|path| !path.is_dir());
    let mut todo = trees;
    while let Some(dir) = todo.pop() {
        for name in names_in(&dir) {
            let path = dir.join(name);
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
            }
            targets.push(path);
        }
    }
    targets
}

/// Damages it; what was done, or `None` where that is no damage to it.
fn damage(target: &Path, all: &[PathBuf], chance: &mut Chance) -> Option<String> {
    let kind = chance.below(5);
    let is_file = target.is_file() && !target.is_symlink();
    let what = match kind {
        0 | 1 if is_file => {
            let mut bytes = std::fs::read(target).unwrap();
            let at = chance.below(bytes.len());
            let bit = 1 << chance.below(8);
            *bytes.get_mut(at)? ^= bit;
            write_in_place(target, &bytes);
            format!("bit {bit} of byte {at} flipped")
        }
        2 if is_file => {
            let bytes = std::fs::read(target).unwrap();
            let len = chance.below(bytes.len());
            (len < bytes.len()).then(|| write_in_place(target, &bytes[..len]))?;
            format!("cut to {len} bytes")
        }
        3 => {
            // A name that is not there is no damage: somebody may have removed it.
            if target.parent()?.ends_with("names") {
                return None;
            }
            // Nor is a layer's disk, which is made again where it is needed.
            if target.parent()?.ends_with("extracted")
                && target.extension().is_some_and(|extension| extension == "erofs")
            {
                return None;
            }
            if target.is_dir() && !target.is_symlink() {
                std::fs::remove_dir_all(target).unwrap();
            } else {
                std::fs::remove_file(target).unwrap();
            }
            "deleted".into()
        }
        4 => {
            let other = chance.pick(all);
            let is_inside = other.starts_with(target) || target.starts_with(other);
            let is_same = is_inside
                || target.is_file()
                    && other.is_file()
                    && std::fs::read(target).unwrap() == std::fs::read(other).unwrap()
                || other.parent() != target.parent();
            if is_same || !other.exists() || !target.exists() {
                return None;
            }
            let aside = target.with_extension("aside");
            std::fs::rename(target, &aside).unwrap();
            std::fs::rename(other, target).unwrap();
            std::fs::rename(&aside, other).unwrap();
            format!("swapped with {}", other.display())
        }
        _ => return None,
    };
    Some(format!("{}: {what}", target.display()))
}

/// Keeps the inode, the mode and the links, as decay does.
fn write_in_place(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn all_damage_is_found_and_mended() {
    let dir = temp_dir();
    let mut patient = Patient::new(dir.path());
    assert_eq!(patient.check(false), []);
    let (mut chance, mut faults) = (Chance(0x9e37_79b9_7f4a_7c15), 0);
    let wanted = if is_full() { 500 } else { 100 };
    while faults < wanted {
        let all = targets(dir.path());
        let target = chance.pick(&all).clone();
        let Some(fault) = damage(&target, &all, &mut chance) else { continue };
        faults += 1;
        let found = patient.check(false);
        assert!(!found.is_empty(), "{fault}: not found");
        let repaired = patient.check(true);
        let damaged: Vec<_> = repaired.iter().filter(|finding| finding.problem == Problem::Damaged).collect();
        assert!(damaged.iter().all(|finding| finding.quarantined), "{fault}: {repaired:?}");
        for finding in damaged {
            assert!(!dir.path().join(&finding.object).exists(), "{fault}: {finding:?} is still there");
        }
        // What is left is whole, also where an image lacks something.
        let left = patient.check(false);
        assert!(left.iter().all(|finding| finding.problem == Problem::Missing), "{fault}: {left:?}");
        patient.fill();
        assert_eq!(patient.check(false), [], "{fault}: not mended");
    }
    println!("corruption: {faults} faults, all found, none served, all mended");
}
