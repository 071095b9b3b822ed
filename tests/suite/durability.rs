//! Trees become durable after a while, and until then are forgotten by the next boot. (`faults::power` takes the power.)

use std::path::Path;

use boxlite_images::{Digest, ExtractOptions, Storage, StorageOptions};

use super::archive::Archive;
use super::support::{has_tool, names_in, put_layer, record_of, temp_dir, wait_until};

const OTHER_BOOT: &str = "00000000-0000-0000-0000-000000000000";

fn is_durable(tree: &Path) -> bool {
    let record = std::fs::read_to_string(record_of(tree)).unwrap();
    assert_eq!(record.contains("# boot "), !record.contains("# durable"));
    record.contains("# durable")
}

fn wait_until_durable(tree: &Path) {
    wait_until("the tree is synced", || is_durable(tree));
}

#[test]
fn a_tree_becomes_durable_and_a_later_user_sees_to_it() {
    let dir = temp_dir();
    let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
    let extract = |storage: &Storage, content: usize| {
        let layer = put_layer(storage, &Archive::new().file(b"f", content.to_string().as_bytes()).finish());
        storage.extract_layer(&layer, &ExtractOptions::default()).unwrap();
        (storage.layer_extracted_path(&layer), layer)
    };
    // The flush begins a second later; a machine that does nothing of ours for so long is asked again.
    let not_yet_durable = (0..20).map(|i| extract(&storage, i).0).find(|tree| !is_durable(tree));
    wait_until_durable(&not_yet_durable.expect("an extraction does not wait for the disk"));
    // Closed before its time; whoever uses the tree next takes over.
    let mut open = Some(storage);
    let left_volatile = (20..40).find_map(|i| {
        let storage = open.take().unwrap_or_else(|| Storage::open(dir.path(), &StorageOptions::default()).unwrap());
        let (tree, layer) = extract(&storage, i);
        drop(storage);
        (!is_durable(&tree)).then_some((tree, layer))
    });
    let (tree, second) = left_volatile.expect("closing a store does not wait for the disk");
    let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
    assert!(storage.extract_layer(&second, &ExtractOptions::default()).unwrap().cached);
    wait_until_durable(&tree);
}

/// A flush that fails may have lost what it was to write: the tree counts no more, for anybody.
#[test]
fn a_tree_that_could_not_be_synced_is_made_again() {
    const TEST: &str = "durability::a_tree_that_could_not_be_synced_is_made_again";
    let layer = Archive::new().file(b"f", b"1").finish();
    let digest = Digest::of(&layer);
    let tree = |dir: &Path| dir.join("extracted").join(format!("sha256-{}", digest.hex()));
    if let Some(store) = std::env::var_os("BL_UNSYNCED_STORE") {
        let storage = Storage::open(&store, &StorageOptions::default()).unwrap();
        storage.extract_layer(&put_layer(&storage, &layer), &ExtractOptions::default()).unwrap();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let record = record_of(&tree(Path::new(&store)));
        let is_volatile = || std::fs::read_to_string(&record).unwrap().contains(boot_id.trim());
        wait_until("somebody tries to sync", || !is_volatile());
        return;
    }
    if !has_tool("strace") {
        return;
    }
    let dir = temp_dir();
    let status = std::process::Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=syncfs:error=EIO"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--test-threads=1"])
        .env("BL_UNSYNCED_STORE", dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(!is_durable(&tree(dir.path())));
    let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
    assert!(!storage.extract_layer(&digest, &ExtractOptions::default()).unwrap().cached);
}

/// The first to open the store in a boot removes what the one before may have left torn, and nothing else.
#[cfg(target_os = "linux")]
#[test]
fn the_next_boot_forgets_what_was_not_synced() {
    let dir = temp_dir();
    let open = || Storage::open(dir.path(), &StorageOptions::default()).unwrap();
    let storage = open();
    let layer = |text: &[u8]| put_layer(&storage, &Archive::new().file(b"f", text).finish());
    let (synced, unsynced, torn) = (layer(b"1"), layer(b"2"), layer(b"3"));
    for digest in [&synced, &unsynced, &torn] {
        storage.extract_layer(digest, &ExtractOptions::default()).unwrap();
    }
    let tree = |digest: &Digest| storage.layer_extracted_path(digest);
    // What is still being flushed would get its mark after what is done to it here.
    [&synced, &unsynced, &torn].into_iter().for_each(|digest| wait_until_durable(&tree(digest)));
    // Not by our own code, so that its form is what docs/on-disk.md says.
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = std::fs::read_to_string(record_of(&tree(&unsynced))).unwrap();
    let (head, lines) = record.split_at(512);
    let head = head.split("# durable").next().unwrap().to_owned() + &format!("# boot {OTHER_BOOT}\n");
    let sum = twox_hash::XxHash3_64::oneshot(head.as_bytes());
    let head = format!("{:\n<512}", format!("{head}# head {sum:016x}\n"));
    std::fs::write(record_of(&tree(&unsynced)), head + lines).unwrap();
    std::fs::write(record_of(&tree(&torn)), "").unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("boot")).unwrap(), boot_id.trim());
    // In the same boot nobody looks.
    open();
    assert!(tree(&torn).exists() && tree(&unsynced).exists());
    std::fs::write(dir.path().join("boot"), OTHER_BOOT).unwrap();
    let again = open();
    assert!(tree(&synced).exists() && !tree(&torn).exists() && !tree(&unsynced).exists());
    assert!(again.extract_layer(&synced, &ExtractOptions::default()).unwrap().cached);
    assert!(!again.extract_layer(&torn, &ExtractOptions::default()).unwrap().cached);
    assert_eq!(names_in(&dir.path().join("extracted")).len(), 4);
    assert_eq!(std::fs::read_to_string(dir.path().join("boot")).unwrap(), boot_id.trim());
}
