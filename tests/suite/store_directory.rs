//! Directories that are no store, or are one in bad shape: a clear status, or it works; nothing of others is removed.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use boxlite_images::{Digest, ExtractOptions, Status, Storage, StorageOptions};

use super::archive::Archive;
use super::disk_faults::SmallDisk;
use super::support::{
    in_own_process, is_root, make_fifo, names_in, put_layer, quick_store, temp_dir, temp_dir_in_memory, thread_time,
    wait_until,
};

fn open(path: &Path) -> Result<Storage, Status> {
    Storage::open(path, &StorageOptions::default()).map_err(|error| {
        assert!(error.message().contains(path.to_str().unwrap()), "{error} does not name the store");
        error.status()
    })
}

#[test]
fn what_is_no_directory_is_refused_or_followed() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "theirs").unwrap();
    std::fs::create_dir(at("elsewhere")).unwrap();
    symlink("elsewhere", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("self", at("self")).unwrap();
    make_fifo(&at("fifo"));
    for (name, expected) in [
        ("file", Some(Status::Io)),
        ("file/below", Some(Status::Io)),
        ("fifo", Some(Status::Io)),
        ("dangling", Some(Status::NotFound)),
        ("self", Some(Status::Io)),
        ("link", None),
        ("new/and/deep", None),
    ] {
        assert_eq!(open(&at(name)).err(), expected, "{name}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "theirs");
    assert!(at("elsewhere/layers").is_dir());

    // A folder of the store that is something else.
    for (number, folder) in ["layers", "extracted", "names", "locks"].iter().enumerate() {
        let store = at(&format!("store{number}"));
        std::fs::create_dir(&store).unwrap();
        symlink(at("elsewhere"), store.join(folder)).unwrap();
        assert_eq!(open(&store).err(), Some(Status::Io), "{folder} is a symlink");
        std::fs::remove_file(store.join(folder)).unwrap();
        std::fs::write(store.join(folder), "theirs").unwrap();
        assert_eq!(open(&store).err(), Some(Status::Io), "{folder} is a file");
        assert_eq!(std::fs::read_to_string(store.join(folder)).unwrap(), "theirs");
    }
}

#[test]
fn somebody_elses_directory() {
    if !is_root() {
        return;
    }
    let dir = temp_dir();
    drop(quick_store(dir.path()));
    let open_as_other = |mode: u32, expected: &str| {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = std::process::Command::new("/proc/self/exe");
        command.args(["--exact", "store_directory::as_another_user", "--nocapture", "--test-threads=1"]);
        command.env("BL_OTHERS_STORE", dir.path()).env("BL_EXPECTED", expected).current_dir("/");
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{mode:o}: {output:?}");
    };
    open_as_other(0o700, "PERMISSION");
    // Trees have set-id files of foreign origin: their folder is its owner's alone.
    open_as_other(0o755, "PERMISSION");
}

/// The body of the test above, in another process.
#[test]
fn as_another_user() {
    let Some(store) = std::env::var_os("BL_OTHERS_STORE") else { return };
    let expected = std::env::var("BL_EXPECTED").unwrap();
    assert_eq!(open(Path::new(&store)).unwrap_err().name(), expected);
}

#[test]
fn a_full_disk_opens_what_is_there() {
    let Some(disk) = SmallDisk::new("size=256k,nr_inodes=40") else { return };
    let digest = put_layer(&quick_store(disk.path()), b"x");
    std::fs::write(disk.path().join("filler"), vec![0; 1 << 20]).ok();
    while std::fs::create_dir(disk.path().join(format!("more{}", names_in(disk.path()).len()))).is_ok() {}
    assert!(open(disk.path()).unwrap().has_layer(&digest).unwrap());
    let new = disk.path().join("filler-store");
    std::fs::remove_dir(disk.path().join(names_in(disk.path()).iter().find(|n| n.starts_with("more")).unwrap()))
        .unwrap();
    assert_eq!(open(&new).err(), Some(Status::NoSpace));
}

/// Opening looks at what is left and removes some of it; a thread does the rest, and stops when the store is closed.
#[test]
fn a_hundred_thousand_leftovers_do_not_hold_it_up() {
    let dir = temp_dir_in_memory();
    drop(quick_store(dir.path()));
    let (layers, stem) = (dir.path().join("layers"), format!("sha256-{}", "a".repeat(64)));
    for i in 0..100_000 {
        std::fs::File::create(layers.join(format!("{stem}.{i:032x}.downloading"))).unwrap();
    }
    std::fs::write(layers.join("theirs"), "").unwrap();
    // One that is closed early stops soon, and leaves the rest: what a thread removes while nobody looks is not much.
    let before = thread_time();
    drop(open(dir.path()).unwrap());
    let taken = thread_time() - before;
    assert!(taken < Duration::from_secs(1), "opening and closing took {taken:?} of the processor");
    assert!(names_in(&layers).len() > 2, "opening, or closing, waited until they were gone");
    let storage = open(dir.path()).unwrap();
    let digest = put_layer(&storage, b"x");
    assert!(storage.has_layer(&digest).unwrap());
    wait_until("the leftovers are gone", || names_in(&layers).len() == 2);
    assert!(layers.join("theirs").exists());
}

/// Where locks do not work nothing is safe, unless nobody else is there.
#[cfg(target_os = "linux")]
#[test]
fn without_file_locks_a_store_is_for_one_process() {
    in_own_process("store_directory::without_file_locks_a_store_is_for_one_process", || {
        super::families::sandboxes::forbid(&[libc::SYS_flock]);
        let dir = temp_dir();
        assert_eq!(open(dir.path()).err(), Some(Status::Unsupported));
        let mut options = StorageOptions::default();
        options.single_process = true;
        let storage = Storage::open(dir.path(), &options).unwrap();
        let digest = put_layer(&storage, &Archive::new().file(b"f", &[1; 100_000]).finish());
        let extractions = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let done = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
                    extractions.fetch_add(u32::from(!done.cached), std::sync::atomic::Ordering::Relaxed);
                });
            }
        });
        assert_eq!(extractions.into_inner(), 1);
        // A second handle leaves alone what the first one is at; the dead have no locks here.
        let mut staged = storage.stage_layer(&Digest::of(b"alive"), Some(5)).unwrap();
        let leftover = dir.path().join(format!("layers/sha256-{}.{}.downloading", "a".repeat(64), "0".repeat(32)));
        std::fs::write(&leftover, "").unwrap();
        drop(Storage::open(dir.path(), &options).unwrap());
        assert!(!leftover.exists());
        staged.write(b"alive").unwrap();
        staged.commit().unwrap();
        storage.collect(&boxlite_images::GcOptions::default()).unwrap();
        // Somebody may look without locks.
        let mut options = StorageOptions::default();
        options.read_only = true;
        assert!(Storage::open(dir.path(), &options).unwrap().has_layer(&digest).unwrap());
    });
}
