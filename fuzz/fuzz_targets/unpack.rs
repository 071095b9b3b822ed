//! Any bytes as a layer that is unpacked, in each form: nothing outside the store changes, a failure leaves nothing
//! behind, and what is extracted can be listed. Nodes on the disk and in memory come to the same record, and a disk holds
//! against the record of it.

#![no_main]

use std::cell::OnceCell;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use boxlite_images::{
    CheckOptions, Digest, Durability, Error, ExtractOptions, Status, Storage, StorageOptions, TreeForm, WhiteoutForm,
};
use libfuzzer_sys::fuzz_target;

struct Bench {
    outer: tempfile::TempDir,
    storage: Storage,
    before: Vec<(PathBuf, Fingerprint)>,
}

/// Mode, owner, size, times and links.
type Fingerprint = (u32, u32, u64, i64, i64, u64);

thread_local! {
    static BENCH: OnceCell<Bench> = const { OnceCell::new() };
}

impl Bench {
    fn new() -> Bench {
        let outer = tempfile::tempdir_in("/dev/shm").unwrap();
        for dir in ["etc", "target", "target-evil"] {
            std::fs::create_dir(outer.path().join(dir)).unwrap();
        }
        for file in ["flag", "etc/passwd", "target-evil/x", "target/layer"] {
            std::fs::write(outer.path().join(file), "outside").unwrap();
        }
        let mut options = StorageOptions::default();
        options.durability = Durability::None;
        let storage = Storage::open(outer.path().join("target/store"), &options).unwrap();
        let before = fingerprints(outer.path());
        Bench { outer, storage, before }
    }
}

fn fingerprints(outer: &Path) -> Vec<(PathBuf, Fingerprint)> {
    let mut found = Vec::new();
    let mut open = vec![outer.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let times = if path.ends_with("target") { (0, 0) } else { (meta.mtime(), meta.ctime()) };
            if meta.is_dir() && !path.ends_with("target") {
                open.push(path.clone());
            }
            found.push((path, (meta.mode(), meta.uid(), meta.size(), times.0, times.1, meta.nlink())));
        }
    }
    found.sort();
    found
}

fn form_of(byte: u8) -> TreeForm {
    let mut form = TreeForm::default();
    form.whiteouts =
        [WhiteoutForm::Markers, WhiteoutForm::Overlay, WhiteoutForm::UserOverlay][usize::from(byte & 3) % 3];
    form.override_stat = byte & 4 != 0;
    form
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, layer)) = data.split_first() else { return };
    BENCH.with(|bench| {
        let bench = bench.get_or_init(Bench::new);
        let digest = Digest::of(layer);
        let mut options = ExtractOptions::default();
        options.tree.form = form_of(choice);
        options.tree.limits.layer_bytes = 16 << 20;
        let tarball = bench.outer.path().join("target/layer");
        std::fs::write(&tarball, layer).unwrap();
        options.tarball_path = Some(tarball);
        let result = bench.storage.extract_layer(&digest, &options);
        let record = |form| {
            let path = bench.storage.extracted_path(&digest, form).display().to_string() + ".mtree";
            let text = String::from_utf8(std::fs::read(path).unwrap()[512..].to_vec()).unwrap();
            // Only a disk says where content is.
            let is_of_both = |word: &&str| !word.starts_with("block=") && !word.starts_with("holes=");
            let words = |line: &str| line.split(' ').filter(is_of_both).collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>()
        };
        let mut as_disk = options.clone();
        as_disk.tree.form = TreeForm::default();
        as_disk.tree.form.erofs = true;
        let disk = bench.storage.extract_layer(&digest, &as_disk);
        if disk.is_ok() {
            let findings = bench.storage.check(&CheckOptions::default()).unwrap().findings;
            assert!(findings.is_empty(), "{findings:?}");
        }
        if options.tree.form.whiteouts != WhiteoutForm::Markers {
            assert_eq!(result.as_ref().err().map(Error::status), disk.as_ref().err().map(Error::status));
            if result.is_ok() {
                assert_eq!(record(options.tree.form), record(as_disk.tree.form));
            }
        }
        if disk.is_ok() {
            boxlite_images::fuzzing::remove_tree(&bench.storage, &digest, as_disk.tree.form).unwrap();
        }
        let extracted = bench.storage.images_dir().join("extracted");
        match result {
            Ok(_) => {
                for entry in bench.storage.layer_entries(&digest, options.tree.form).unwrap() {
                    entry.unwrap();
                }
                boxlite_images::fuzzing::remove_tree(&bench.storage, &digest, options.tree.form).unwrap();
            }
            Err(error) => assert_ne!(error.status(), Status::Internal, "{error}"),
        }
        // What takes long to remove is removed by a thread.
        let started = std::time::Instant::now();
        while std::fs::read_dir(&extracted).unwrap().count() > 0 {
            assert!(started.elapsed().as_secs() < 10, "something was left");
            std::thread::yield_now();
        }
        assert_eq!(fingerprints(bench.outer.path()), bench.before, "something outside has changed");
    });
});
