//! Every family's layers as disks. The kernel mounts what came of a layer and shows what the
//! layer's tree shows. The file system's own checker finds nothing, and the bytes are the same
//! whoever makes them.

use boxlite_images::{CheckOptions, Digest, DiskFormat, ExtractOptions, Status, TreeForm, WhiteoutForm};

use super::super::archive::{Archive, gzip, zstd};
use super::super::disk_mount::{MountedDisk, assert_clean, assert_same};
use super::super::generated::is_up_to_date;
use super::super::support::{
    as_each_user, has_tool, in_own_process, is_root, put_layer, quick_store, record_of, repository, skip, temp_dir,
};
use super::{Case, all_cases, entries, hardlinks, metadata, trees, whiteouts};

fn as_disk() -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.tree.form.erofs = true;
    options
}

/// The tree that says the same, as far as a directory can.
fn as_tree() -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.tree.form.whiteouts = WhiteoutForm::Overlay;
    options.tree.form.device_nodes = true;
    options
}

#[test]
fn each_layer_is_the_same_as_a_disk_and_as_a_tree() {
    if !is_root() {
        return skip("mounting needs root");
    }
    if !has_tool("fsck.erofs") || !has_tool("mount") {
        return;
    }
    let (mut mounted, mut refused) = (0, 0);
    // All of them in CI.
    let step = if std::env::var_os("BL_REQUIRE_TOOLS").is_some() { 1 } else { 4 };
    for Case { name, layer, .. } in all_cases().into_iter().step_by(step) {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let digest = put_layer(&storage, &layer);
        let as_a_disk = storage.extract_layer(&digest, &as_disk());
        let findings = storage.check(&CheckOptions::default()).unwrap().findings;
        assert!(findings.is_empty(), "{name}: {findings:?}");
        let odd = match (storage.extract_layer(&digest, &as_tree()), as_a_disk) {
            (Ok(tree), Ok(_)) => tree.anomalies,
            (Err(tree), Err(disk)) => {
                assert_eq!(tree.status(), disk.status(), "{name}: {tree}; {disk}");
                refused += 1;
                continue;
            }
            (tree, disk) => panic!("{name}: {tree:?} {disk:?}"),
        };
        let [tree, disk] = [as_tree(), as_disk()].map(|options| storage.extracted_path(&digest, options.tree.form));
        let recorded = entries(&storage, &digest, as_disk().tree.form);
        assert_clean(&name, &disk, DiskFormat::Erofs, recorded.iter().any(|entry| entry.path.len() > 1000));
        let Some(at) = MountedDisk::new(&disk, DiskFormat::Erofs, dir.path().join("mounted")) else { return };
        assert_same(&name, &tree, at.path(), &recorded, odd);
        mounted += 1;
    }
    eprintln!("{mounted} layers mounted, {refused} refused");
    assert!(mounted > 300 / step && refused > 100 / step, "{mounted} {refused}");
}

/// The disk's bytes depend on the uncompressed layer alone, and on the version of the recipe: only a new version may change
/// these digests.
#[test]
fn a_disk_is_the_same_bytes_whoever_makes_it() {
    as_each_user("families::disks::a_disk_is_the_same_bytes_whoever_makes_it", || {
        let golden = digests_of_disks();
        // An ordinary user only compares.
        if is_root() || std::env::var_os("BLESS").is_none() {
            is_up_to_date(&repository().join("tests/golden/disks.txt"), &golden);
        }
    });
}

/// Neither the number of cores nor what a process inherits is in the bytes.
#[test]
fn a_disk_is_the_same_bytes_wherever_it_is_made() {
    in_other_places("families::disks::a_disk_is_the_same_bytes_wherever_it_is_made", || {
        let golden = std::fs::read_to_string(repository().join("tests/golden/disks.txt")).unwrap();
        assert_eq!(digests_of_disks(), golden);
        on_one_core(|| assert_eq!(digests_of_disks(), golden));
    });
}

/// Runs a test in a process with another time zone, locale and umask.
pub fn in_other_places(test: &str, body: impl FnOnce()) {
    in_own_process(test, || {
        for (variable, value) in [("TZ", "Pacific/Chatham"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8")] {
            // SAFETY: the process runs this test alone, and its other thread only waits for it.
            unsafe { std::env::set_var(variable, value) };
        }
        // SAFETY: it changes the process alone, whose own process this is.
        unsafe { libc::umask(0o077) };
        body();
    });
}

/// Has this thread, and those that it starts, on one core, where the system has a way to say that.
pub fn on_one_core(body: impl FnOnce()) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the sets live until the calls return, and a set of zeros is an empty one.
        unsafe {
            let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size, &raw mut all), 0);
            let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &all)).unwrap();
            libc::CPU_SET(first, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size, &raw const one), 0);
        }
        assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
    }
    body();
}

fn digests_of_disks() -> String {
    let mut cases = trees::must_accept();
    cases.extend(hardlinks::cases().into_iter().chain(whiteouts::cases()).chain(metadata::cases()));
    let mut golden =
        String::from("# The digests of disks of layers: of each case that is accepted, whoever extracts it.\n");
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let small = cases.iter().filter(|case| case.layer.len() < 64 << 10);
    for (number, Case { name, layer, .. }) in small.enumerate() {
        let mut digests = Vec::new();
        // Compressions change nothing here; some cases show it.
        let blobs =
            [Some(layer.clone()), (number % 8 == 0).then(|| gzip(layer)), (number % 8 == 4).then(|| zstd(layer))];
        for blob in blobs.into_iter().flatten() {
            let digest = put_layer(&storage, &blob);
            if storage.extract_layer(&digest, &as_disk()).is_ok() {
                let disk = storage.extracted_path(&digest, as_disk().tree.form);
                digests.push(Digest::of(&std::fs::read(disk).unwrap()));
            }
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{name}: compression changes the disk");
        if let Some(digest) = digests.first() {
            golden.push_str(&format!("{} {name}\n", digest.hex()));
        }
    }
    golden
}

#[test]
fn a_disk_excludes_what_says_the_same_of_directories() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, &Archive::new().file(b"f", b"x").finish());
    for change in [
        |form: &mut TreeForm| form.device_nodes = true,
        |form: &mut TreeForm| form.override_stat = true,
        |form: &mut TreeForm| form.whiteouts = WhiteoutForm::UserOverlay,
    ] {
        let mut options = as_disk();
        change(&mut options.tree.form);
        assert_eq!(storage.extract_layer(&digest, &options).unwrap_err().status(), Status::InvalidArgument);
    }
    // Other forms are other trees, and what a layer says is the same in each.
    storage.extract_layer(&digest, &as_disk()).unwrap();
    assert_eq!(entries(&storage, &digest, TreeForm::default()).len(), 1);
    assert!(!storage.layer_extracted_path(&digest).exists());
    assert!(storage.extract_layer(&digest, &as_disk()).unwrap().cached);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(storage.extracted_path(&digest, as_disk().tree.form)).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o444, "nobody writes to it");
}

/// A hard link to a lower layer is not in the tree. What the layer hides at its name stays hidden,
/// and the disk is what its record says, whichever of the two comes first.
#[test]
fn families_37_54_a_whiteout_and_a_link_of_one_name() {
    let link = |archive: Archive, name: &[u8]| archive.hardlink(name, b"lower/t");
    let marker = |archive: Archive, name: &[u8]| archive.file(name, b"");
    for (number, layer) in [
        link(marker(Archive::new(), b".wh.x"), b"x"),
        marker(link(Archive::new(), b"x"), b".wh.x"),
        link(marker(Archive::new().dir(b"d").file(b"d/f", b"1"), b".wh.d"), b"d"),
        marker(link(Archive::new().dir(b"d"), b"d"), b".wh.d"),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let digest = put_layer(&storage, &layer.finish());
        storage.extract_layer(&digest, &as_disk()).unwrap();
        assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, [], "{number}");
    }
}

/// A disk that another version of the recipe made is made again, and is no damage.
#[test]
fn a_disk_by_another_recipe_does_not_count() {
    use std::os::unix::fs::FileExt as _;
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, &Archive::new().file(b"f", b"x").finish());
    storage.extract_layer(&digest, &as_disk()).unwrap();
    let disk = storage.extracted_path(&digest, as_disk().tree.form);
    let (record, bytes) = (record_of(&disk), std::fs::read(&disk).unwrap());
    let head = std::fs::read(&record).unwrap()[..512].to_vec();
    let text = String::from_utf8(head).unwrap();
    let summed = text[..text.find("# head ").unwrap()].replace("# recipe 2\n", "# recipe 1\n");
    assert_ne!(summed, text[..summed.len()]);
    let sum = twox_hash::XxHash3_64::oneshot(summed.as_bytes());
    let old = format!("{summed}# head {sum:016x}\n");
    std::fs::File::options().write(true).open(&record).unwrap().write_all_at(old.as_bytes(), 0).unwrap();
    let report = storage.check(&CheckOptions::default()).unwrap();
    assert_eq!((report.findings, report.skipped), (Vec::new(), 1));
    assert!(!storage.extract_layer(&digest, &as_disk()).unwrap().cached);
    assert!(storage.extract_layer(&digest, &as_disk()).unwrap().cached);
    assert_eq!(std::fs::read(&disk).unwrap(), bytes);
}

/// Attributes and names stay in memory until the metadata is written, so that they count.
#[test]
fn what_is_kept_in_memory_is_bounded() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let value = |n: usize| format!("{n:060000}").into_bytes();
    let with_attribute = |archive: Archive, n: usize| {
        let key = format!("SCHILY.xattr.user.{n}");
        archive.pax(&[(&key, &value(n))]).file(format!("f{n}").as_bytes(), b"")
    };
    let digest = put_layer(&storage, &(0..40).fold(Archive::new(), with_attribute).finish());
    let mut options = as_disk();
    options.tree.limits.kept_metadata_bytes = 1 << 20;
    let error = storage.extract_layer(&digest, &options).unwrap_err();
    assert_eq!(error.status(), Status::Limit, "{error}");
    // The same set for each is kept once.
    let same = |archive: Archive, n: usize| {
        archive.pax(&[("SCHILY.xattr.user.same", &value(1))]).file(format!("f{n}").as_bytes(), b"")
    };
    let digest = put_layer(&storage, &(0..40).fold(Archive::new(), same).finish());
    storage.extract_layer(&digest, &options).unwrap();
}
