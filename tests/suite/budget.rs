//! What a store may take of its disk.

use std::time::{Duration, Instant};

use boxlite_images::{Digest, Durability, ExtractOptions, Status, Storage, StorageOptions};

use super::archive::Archive;
use super::disk_faults::SmallDisk;
use super::images::put_image;
use super::support::{leftovers, put_layer, temp_dir};

fn open(dir: &std::path::Path, change: impl FnOnce(&mut StorageOptions)) -> Storage {
    let mut options = StorageOptions::default();
    options.durability = Durability::None;
    change(&mut options);
    Storage::open(dir, &options).unwrap()
}

#[test]
fn a_download_that_cannot_fit_is_refused_before_it_begins() {
    let Some(disk) = SmallDisk::new("size=4m") else { return };
    let storage = open(disk.path(), |_| ());
    let digest = Digest::of(b"x");
    let error = storage.stage_layer(&digest, Some(8 << 20)).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace);
    assert!(error.message().starts_with(&format!("{digest}: 8388608 bytes to write, ")), "{error}");
    assert!(error.is_retryable());
    assert_eq!(leftovers(disk.path()), [""; 0]);
    // What one download has reserved another one cannot have, though nothing is written yet.
    let first = storage.stage_layer(&digest, Some(3 << 20)).unwrap();
    let error = storage.stage_layer(&Digest::of(b"y"), Some(3 << 20)).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    drop(first);
    put_layer(&storage, &vec![1; 3 << 20]);
    assert_eq!(storage.disk_usage().unwrap().layers.bytes, 3 << 20);
}

#[test]
fn the_host_keeps_its_reserve() {
    let Some(disk) = SmallDisk::new("size=8m") else { return };
    let layer = Archive::new().file(b"f", &vec![1; 2 << 20]).finish();
    let file = temp_dir();
    std::fs::write(file.path().join("layer"), &layer).unwrap();
    let storage = open(disk.path(), |options| options.min_free_bytes = 6 << 20);
    let error = storage.stage_layer(&Digest::of(&layer), Some(layer.len() as u64)).unwrap_err();
    assert!(error.message().ends_with("of which 6291456 are to stay free"), "{error}");
    let mut options = ExtractOptions::default();
    options.tarball_path = Some(file.path().join("layer"));
    let error = storage.extract_layer(&Digest::of(&layer), &options).unwrap_err();
    assert_eq!((error.status(), error.os_errno()), (Status::NoSpace, Some(28)), "{error}");
    assert_eq!(leftovers(disk.path()), [""; 0]);
    drop(storage);
    let storage = open(disk.path(), |options| options.min_free_bytes = 1 << 20);
    put_layer(&storage, &layer);
    storage.extract_layer(&Digest::of(&layer), &options).unwrap();
}

#[test]
fn above_the_mark_a_store_is_collected() {
    const AGE: Duration = Duration::from_secs(2);
    // On a machine that is slow enough, what is to be young has become old: then once more.
    for _ in 0..20 {
        let dir = temp_dir();
        let storage = open(dir.path(), |options| {
            options.gc_above_bytes = Some(100_000);
            options.gc_min_age = Some(AGE);
        });
        let old = put_layer(&storage, &[1; 60_000]);
        put_image(&storage, "1", &["a"]);
        std::thread::sleep(AGE + Duration::from_millis(1100));
        let began = Instant::now();
        let first = put_layer(&storage, &[2; 30_000]);
        assert!(storage.has_layer(&old).unwrap(), "collected below the mark");
        let second = put_layer(&storage, &[3; 30_000]);
        assert!(!storage.has_layer(&old).unwrap(), "not collected above the mark");
        let (first, second) = (storage.has_layer(&first).unwrap(), storage.has_layer(&second).unwrap());
        if began.elapsed() < AGE {
            assert!(first && second, "collected although young");
            // A mark is no limit.
            put_layer(&storage, &[4; 200_000]);
            return;
        }
    }
    panic!("two small layers took longer than {AGE:?} every time");
}

/// Also small files and downloads of unknown size leave the reserve alone.
#[test]
fn nothing_small_takes_of_the_reserve() {
    let Some(disk) = SmallDisk::new("size=64m") else { return };
    let layer =
        (0..48).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), &vec![1; 900 << 10]));
    let (layer, file) = (layer.finish(), temp_dir());
    std::fs::write(file.path().join("layer"), &layer).unwrap();
    let storage = open(disk.path(), |options| options.min_free_bytes = 40 << 20);
    let mut options = ExtractOptions::default();
    options.tarball_path = Some(file.path().join("layer"));
    let error = storage.extract_layer(&Digest::of(&layer), &options).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    assert_eq!(leftovers(disk.path()), [""; 0]);
    let mut staged = storage.stage_layer(&Digest::of(&layer), None).unwrap();
    let error = layer.chunks(1 << 20).find_map(|piece| staged.write(piece).err()).expect("the reserve was taken");
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    assert_eq!(leftovers(disk.path()), [""; 0]);
}

/// Room that a collection makes is there when the call goes on.
#[test]
fn a_full_disk_is_collected_first() {
    let Some(disk) = SmallDisk::new("size=8m") else { return };
    let storage = open(disk.path(), |options| {
        options.gc_above_bytes = Some(100 << 20);
        options.gc_min_age = Some(Duration::from_secs(1));
    });
    for i in 0..6 {
        put_layer(&storage, &vec![i; 1 << 20]);
    }
    std::thread::sleep(Duration::from_millis(2100));
    let storage = storage.clone();
    put_layer(&storage, &vec![9; 6 << 20]);
    assert_eq!(storage.disk_usage().unwrap().layers.objects, 1);
}

#[test]
fn usage_adds_up() {
    let dir = temp_dir();
    let storage = open(dir.path(), |_| ());
    assert_eq!(storage.disk_usage().unwrap().bytes(), 0);
    put_image(&storage, "1", &["a", "b"]);
    let layer = Archive::new().file(b"f", &[1; 5000]).finish();
    storage.extract_layer(&put_layer(&storage, &layer), &ExtractOptions::default()).unwrap();
    let mut staged = storage.stage_layer(&Digest::of(b"x"), None).unwrap();
    staged.write(b"partial").unwrap();
    let usage = storage.disk_usage().unwrap();
    assert_eq!((usage.manifests.objects, usage.configs.objects, usage.layers.objects), (1, 1, 3));
    assert_eq!((usage.trees.objects, usage.partials.objects), (1, 1));
    // What is on its way counts with the blocks that it has.
    assert!((7..=1 << 20).contains(&usage.partials.bytes), "{usage:?}");
    assert!(usage.trees.bytes > 5000 && usage.layers.bytes > layer.len() as u64);
    assert!(usage.free_bytes > 0 && usage.total_bytes > usage.free_bytes);
    let on_disk: u64 = ["manifests", "configs", "layers"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(dir.path().join(folder)).unwrap())
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_str().unwrap().ends_with(".downloading"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(usage.bytes(), on_disk + usage.partials.bytes + usage.trees.bytes);
}
