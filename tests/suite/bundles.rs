//! Layout folders whose layers are not copied: shared blocks, hard links, and bundles that are used where they are.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{
    CheckOptions, Digest, ExportOptions, ExportTarget, ExtractOptions, GcOptions, ImageName, ImportOptions, RootfsMode,
    RootfsOptions, Status,
};

use super::archive::{Archive, gzip};
use super::blimg::Tool;
use super::disk_faults::SmallDisk;
use super::image_files::{Bench, File, Made, folder, layout, named, tar};
use super::loop_disk::LoopDisk;
use super::support::{as_each_user, has_tool, is_root, leftovers, names_in, quick_store, run, temp_dir};

fn files(made: &Made) -> Vec<File> {
    layout(&[made.entry(&named("a.org/x:1"))], made.blobs())
}

fn linking() -> ImportOptions {
    let mut options = ImportOptions::default();
    options.hard_link = true;
    options
}

fn unopened() -> ImportOptions {
    let mut options = ImportOptions::default();
    options.no_unpack = true;
    options
}

fn blob(dir: &Path, bytes: &[u8]) -> PathBuf {
    dir.join("blobs/sha256").join(Digest::of(bytes).hex())
}

#[test]
fn layers_are_linked_where_that_is_wanted() {
    as_each_user("bundles::layers_are_linked_where_that_is_wanted", || {
        let made = Made::new(&["one", "two"]);
        let dir = folder(&files(&made));
        let before: Vec<_> = made.layers.iter().map(|layer| blob(dir.path(), layer).metadata().unwrap()).collect();
        for is_linked in [false, true] {
            let bench = Bench::new();
            let options = if is_linked { linking() } else { ImportOptions::default() };
            bench.import_path(dir.path(), &options).unwrap();
            bench.assert_image("a.org/x:1", &["one", "two"]);
            for (layer, before) in made.layers.iter().zip(&before) {
                let stored = bench.storage.layer_tarball_path(&Digest::of(layer)).metadata().unwrap();
                assert_eq!(stored.ino() == before.ino(), is_linked);
                let source = blob(dir.path(), layer).metadata().unwrap();
                let facts =
                    |stat: &std::fs::Metadata| (stat.ino(), stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec());
                assert_eq!(facts(&source), facts(before));
            }
            // Once more, while the names are there.
            bench.import_path(dir.path(), &options).unwrap();
            bench.storage.remove_image(&ImageName::parse("a.org/x:1").unwrap()).unwrap();
            let mut all = GcOptions::default();
            all.min_age = std::time::Duration::ZERO;
            bench.storage.collect(&all).unwrap();
            assert!(!bench.storage.has_layer(&Digest::of(&made.layers[0])).unwrap());
            assert!(made.layers.iter().all(|layer| std::fs::read(blob(dir.path(), layer)).unwrap() == *layer));
        }
    });
}

/// What a link would lead to is compared first, and a folder that cannot be linked is copied.
#[test]
fn links_are_verified_and_never_needed() {
    let made = Made::new(&["one"]);
    let dir = folder(&files(&made));
    let path = blob(dir.path(), &made.layers[0]);
    let mut damaged = made.layers[0].clone();
    damaged[12] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let bench = Bench::new();
    let status = bench.import_path(dir.path(), &linking()).unwrap_err().status();
    assert_eq!(status, Status::DigestMismatch);
    assert_eq!(names_in(&bench.storage.layers_dir()), [""; 0]);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    damaged.pop();
    std::fs::write(&path, &damaged).unwrap();
    let status = bench.import_path(dir.path(), &linking()).unwrap_err().status();
    assert_eq!(status, Status::SizeMismatch);
    std::fs::write(&path, &made.layers[0]).unwrap();

    // Somebody has a lock on it.
    let locked = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    bench.import_path(dir.path(), &linking()).unwrap();
    let stored = |bench: &Bench| bench.storage.layer_tarball_path(&Digest::of(&made.layers[0])).metadata().unwrap();
    assert_ne!(stored(&bench).ino(), locked.metadata().unwrap().ino());
    drop(locked);

    // Another file system.
    let Some(disk) = SmallDisk::new("size=16m") else { return };
    let store = quick_store(&disk.path().join("store"));
    store.import(boxlite_images::ImportSource::Path(dir.path().into()), &linking()).unwrap();
    let name = store.layer_tarball_path(&Digest::of(&made.layers[0]));
    assert_eq!(std::fs::read(name).unwrap(), made.layers[0]);
}

/// What a host's file has of its own is nothing to the store: its times, and that it is immutable.
#[test]
fn linked_files_go_like_others() {
    let made = Made::new(&["one", "two"]);
    let dir = folder(&files(&made));
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(1 << 30);
    let paths: Vec<PathBuf> = made.layers.iter().map(|layer| blob(dir.path(), layer)).collect();
    for path in &paths {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(future).unwrap();
    }
    let bench = Bench::new();
    bench.import_path(dir.path(), &linking()).unwrap();
    bench.storage.remove_image(&ImageName::parse("a.org/x:1").unwrap()).unwrap();
    let immutable = is_root()
        && has_tool("chattr")
        && Command::new("chattr").arg("+i").arg(&paths[0]).output().is_ok_and(|output| output.status.success());
    let mut all = GcOptions::default();
    all.min_age = std::time::Duration::ZERO;
    let report = bench.storage.collect(&all);
    if immutable {
        run("chattr", &["-i".as_ref(), paths[0].as_os_str()]);
    }
    assert_eq!(report.unwrap().kept, u64::from(immutable));
    let has = |layer: &Vec<u8>| bench.storage.has_layer(&Digest::of(layer)).unwrap();
    assert_eq!((has(&made.layers[0]), has(&made.layers[1])), (immutable, false));
}

/// Names that somebody else's file got and that a process left, whatever is there by then.
#[test]
fn leftovers_of_links_go() {
    let dir = temp_dir();
    drop(quick_store(dir.path()));
    let name = |n: u32| dir.path().join(format!("layers/sha256-{}.{n:032x}.downloading", "0".repeat(64)));
    std::os::unix::fs::symlink("/nowhere", name(1)).unwrap();
    std::fs::write(name(2), b"x").unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap());
    std::fs::rename(dir.path().join("s"), name(3)).unwrap();
    drop(quick_store(dir.path()));
    assert_eq!(names_in(&dir.path().join("layers")), [""; 0]);
}

#[test]
fn blocks_are_shared_where_they_can_be() {
    const MIB: u64 = 1 << 20;
    let Some(disk) = LoopDisk::new("mkfs.xfs", &["-q", "-m", "reflink=1"], 400) else { return };
    // Not to be compressed, so that the layer is as large as what is in it.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(32 << 20)
    .collect();
    let tar_bytes = Archive::new().file(b"noise", &noise).finish();
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(&tar_bytes));
    let made = Made::with_config(vec![tar_bytes], &config);
    let source = disk.path().join("layout");
    for (name, bytes) in files(&made) {
        let path = source.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let store = quick_store(&disk.path().join("store"));
    let before = disk.used();
    store.import(boxlite_images::ImportSource::Path(source.clone()), &unopened()).unwrap();
    let imported = disk.used();
    assert!(imported < before + 4 * MIB, "{before} {imported}");
    let layer = store.layer_tarball_path(&Digest::of(&made.layers[0]));
    assert_ne!(layer.metadata().unwrap().ino(), blob(&source, &made.layers[0]).metadata().unwrap().ino());
    // What happens to the source is nothing to the store.
    std::fs::write(blob(&source, &made.layers[0]), b"something else").unwrap();
    store.extract_layer(&Digest::of(&made.layers[0]), &ExtractOptions::default()).unwrap();
    let extracted = disk.used();
    assert!(extracted > imported + 31 * MIB, "{imported} {extracted}");

    let image = store.open_image(&ImageName::parse("a.org/x:1").unwrap()).unwrap();
    let mut options = RootfsOptions::default();
    options.mode = RootfsMode::Reflink;
    store.assemble_rootfs(&image, &disk.path().join("root"), &options).unwrap();
    assert_eq!(std::fs::read(disk.path().join("root/noise")).unwrap(), noise);
    assert!(disk.used() < extracted + 4 * MIB, "{extracted} {}", disk.used());
}

#[test]
fn a_bundle_is_used_where_it_is() {
    as_each_user("bundles::a_bundle_is_used_where_it_is", || {
        let made = Made::new(&["one", "two"]);
        let dir = folder(&files(&made));
        let bench = Bench::new();
        let (bundle, image) = bench.storage.open_bundle(dir.path(), &ImportOptions::default()).unwrap();
        let cache = bench.storage.local_bundle_cache_dir(dir.path(), &made.digest()).unwrap();
        assert_eq!((bundle.images_dir(), &image.manifest), (&*cache, &made.digest()));
        // Nothing of it is in the store itself, and no layer is copied.
        assert!(bench.storage.images().unwrap().is_empty());
        assert!(!bench.storage.has_layer(&Digest::of(&made.layers[0])).unwrap());
        assert_eq!(names_in(&cache.join("layers")), [""; 0]);
        let in_bundle = Bench { dir: temp_dir(), storage: bundle.clone() };
        in_bundle.assert_image("a.org/x:1", &["one", "two"]);
        in_bundle.assert_sound();
        for layer in &made.layers {
            let digest = Digest::of(layer);
            assert!(bundle.has_layer(&digest).unwrap());
            assert_eq!(bundle.layer_tarball_path(&digest), blob(&dir.path().canonicalize().unwrap(), layer));
            bundle.verify_layer(&digest, &Default::default()).unwrap();
        }
        let opened = bundle.open_image_by_digest(&made.digest()).unwrap();
        for (mode, name) in [(RootfsMode::Copy, "copy"), (RootfsMode::Direct, "direct")] {
            let (to, mut options) = (bench.dir.path().join(name), RootfsOptions::default());
            options.mode = mode;
            bundle.assemble_rootfs(&opened, &to, &options).unwrap();
            assert_eq!(std::fs::read_to_string(to.join("two")).unwrap(), "two");
        }
        let to = bench.dir.path().join("out.tar");
        bundle.export(&[&opened], ExportTarget::Archive(to.clone()), &ExportOptions::default()).unwrap();
        assert_eq!(Bench::new().import(&std::fs::read(to).unwrap(), &unopened()).unwrap()[0].manifest, made.digest());

        // A collection takes nothing out of the bundle; nor is anything of it read the second time.
        bundle.remove_image(&image.names[0]).unwrap();
        let mut all = GcOptions::default();
        all.min_age = std::time::Duration::ZERO;
        drop((opened, in_bundle));
        bundle.collect(&all).unwrap();
        assert_eq!(std::fs::read(blob(dir.path(), &made.layers[1])).unwrap(), made.layers[1]);
        drop(bundle);
        bench.storage.open_bundle(dir.path(), &ImportOptions::default()).unwrap();
        let damaged = vec![0; made.layers[0].len()];
        std::fs::write(blob(dir.path(), &made.layers[0]), damaged).unwrap();
        bench.storage.open_bundle(dir.path(), &ImportOptions::default()).unwrap();
    });
}

/// A file of the host's can change at any time; whoever reads it sees that.
#[test]
fn a_bundle_that_changes_is_found_out() {
    let made = Made::new(&["one", "two"]);
    let dir = folder(&files(&made));
    let bench = Bench::new();
    let (bundle, _) = bench.storage.open_bundle(dir.path(), &unopened()).unwrap();
    let digest = Digest::of(&made.layers[1]);
    // Another layer, of the same size, that is a good one.
    let candidates = (b'a'..=b'z').map(|letter| gzip(&Archive::new().file(b"two", &[letter; 3]).finish()));
    let names = (b'a'..=b'z').map(|letter| gzip(&Archive::new().file(&[letter; 3], &[letter; 3]).finish()));
    let other = candidates.chain(names).find(|layer| layer.len() == made.layers[1].len()).unwrap();
    std::fs::write(blob(dir.path(), &made.layers[1]), &other).unwrap();
    let image = bundle.open_image_by_digest(&made.digest()).unwrap();
    let status = bundle.extract_layer(&digest, &ExtractOptions::default()).unwrap_err().status();
    assert_eq!(status, Status::DigestMismatch);
    let findings = bundle.check(&CheckOptions::default()).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].object.ends_with(digest.hex()), "{findings:?}");
    assert_eq!(bundle.verify_layer(&digest, &Default::default()).unwrap_err().status(), Status::DigestMismatch);
    for mode in [RootfsMode::Copy, RootfsMode::Direct] {
        let (to, mut options) = (bench.dir.path().join("root"), RootfsOptions::default());
        options.mode = mode;
        assert_eq!(bundle.assemble_rootfs(&image, &to, &options).unwrap_err().status(), Status::DigestMismatch);
        assert!(!to.exists());
    }
    let to = bench.dir.path().join("out.tar");
    let exported = bundle.export(&[&image], ExportTarget::Archive(to.clone()), &ExportOptions::default());
    assert_eq!((exported.unwrap_err().status(), to.exists()), (Status::DigestMismatch, false));
    assert_eq!(leftovers(bundle.images_dir()), [""; 0]);
    assert_eq!(
        bench.storage.open_bundle(dir.path(), &ImportOptions::default()).unwrap_err().status(),
        Status::DigestMismatch
    );

    // Another index is another image, in another folder.
    let new = Made::new(&["three"]);
    for (name, bytes) in files(&new) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let (changed, _) = bench.storage.open_bundle(dir.path(), &ImportOptions::default()).unwrap();
    assert_ne!(changed.images_dir(), bundle.images_dir());
    assert_eq!(changed.open_image_by_digest(&made.digest()).unwrap_err().status(), Status::NotFound);
}

type Change = fn(&Path, &Made, &mut ImportOptions);

#[test]
fn bundles_that_are_none() {
    let made = Made::new(&["one", "two"]);
    let cases: [(&str, Change, Status); 10] = [
        ("no folder", |dir, _, _| std::fs::remove_dir_all(dir).unwrap(), Status::NotFound),
        ("no layout", |dir, _, _| std::fs::remove_file(dir.join("oci-layout")).unwrap(), Status::Malformed),
        ("no layer", |dir, made, _| std::fs::remove_file(blob(dir, &made.layers[0])).unwrap(), Status::NotFound),
        (
            "a short layer",
            |dir, made, _| std::fs::write(blob(dir, &made.layers[0]), b"x").unwrap(),
            Status::SizeMismatch,
        ),
        (
            "a layer that is elsewhere",
            |dir, made, _| {
                let path = blob(dir, &made.layers[0]);
                std::fs::rename(&path, dir.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("../../elsewhere", path).unwrap();
            },
            Status::UnsafePath,
        ),
        (
            "blobs that are elsewhere",
            |dir, _, _| {
                std::fs::rename(dir.join("blobs"), dir.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("elsewhere", dir.join("blobs")).unwrap();
            },
            Status::UnsafePath,
        ),
        (
            "a socket where a layer should be",
            |dir, made, _| {
                std::fs::remove_file(blob(dir, &made.layers[0])).unwrap();
                std::os::unix::net::UnixListener::bind(blob(dir, &made.layers[0])).unwrap();
            },
            Status::UnsafePath,
        ),
        (
            "a config that says otherwise",
            |dir, made, _| {
                let other = Made::with_config(made.tars.clone(), r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
                for (name, bytes) in files(&other) {
                    std::fs::write(dir.join(name), bytes).unwrap();
                }
            },
            Status::Malformed,
        ),
        ("an image that is not there", |_, _, options| options.select = Some("b.org/y:1".into()), Status::NotFound),
        (
            "an archive",
            |dir, made, _| {
                std::fs::remove_dir_all(dir).unwrap();
                std::fs::write(dir, tar(&files(made))).unwrap();
            },
            Status::Unsupported,
        ),
    ];
    for (what, change, status) in cases {
        let (bench, dir) = (Bench::new(), temp_dir());
        let at = dir.path().join("bundle");
        for (name, bytes) in files(&made) {
            std::fs::create_dir_all(at.join(&name).parent().unwrap()).unwrap();
            std::fs::write(at.join(name), bytes).unwrap();
        }
        let mut options = unopened();
        change(&at, &made, &mut options);
        let error = bench.storage.open_bundle(&at, &options).unwrap_err();
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.to_string().contains("bundle"), "{what}: {error}");
        bench.assert_sound();
    }
    let other = Made::new(&["three"]);
    let mut blobs = made.blobs();
    blobs.extend(other.blobs());
    let dir = folder(&layout(&[made.entry(&named("a.org/x:1")), other.entry(&named("b.org/y:1"))], blobs));
    let bench = Bench::new();
    assert_eq!(bench.storage.open_bundle(dir.path(), &unopened()).unwrap_err().status(), Status::InvalidArgument);
    let mut options = unopened();
    options.select = Some("b.org/y:1".into());
    assert_eq!(bench.storage.open_bundle(dir.path(), &options).unwrap().1.manifest, other.digest());
}

#[test]
fn the_command_line_takes_bundles_and_links() {
    let made = Made::new(&["one", "two"]);
    let dir = folder(&files(&made));
    let Some(tool) = Tool::new() else { return };
    let (bundle, root, store) = (dir.path().to_str().unwrap(), tool.path("root"), tool.store());
    tool.says(&["--bundle", bundle, "rootfs", "bundle", root.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(root.join("two")).unwrap(), "two");
    assert_eq!(names_in(&store.join("layers")), [""; 0]);
    assert_eq!(tool.says(&["import", bundle, "--hard-link"]), "a.org/x:1\n");
    let stored = store.join("layers").join(format!("sha256-{}.tar.gz", Digest::of(&made.layers[0]).hex()));
    assert_eq!(stored.metadata().unwrap().ino(), blob(dir.path(), &made.layers[0]).metadata().unwrap().ino());
}
