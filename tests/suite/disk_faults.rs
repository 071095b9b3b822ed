//! Disks that are full or read-only, limits of the process, and files that cannot be read. Each
//! comes to the right status with its errno, nothing left behind, and a store that goes on working.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use boxlite_images::{Anomalies, CheckOptions, Digest, ExtractOptions, Status, VerifyOptions};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::archive::{Archive, gzip};
use super::loop_disk::LoopDisk;
use super::support::{
    as_each_user, in_own_process, is_root, leftovers, put_layer, quick_store, skip, temp_dir, wait_until,
};

/// A small file system in memory, unmounted at the end.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(options: &str) -> Option<SmallDisk> {
        let dir = temp_dir();
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "none"])
                .arg(dir.path())
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            skip("a file system cannot be mounted");
            return None;
        }
        Some(SmallDisk(dir))
    }

    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[test]
fn a_full_disk_ends_a_download_and_its_space_comes_back() {
    let Some(disk) = SmallDisk::new("size=1m") else { return };
    let storage = quick_store(disk.path());
    let digest = Digest::of(b"large");
    let mut staged = storage.stage_layer(&digest, None).unwrap();
    let error = (0..64).find_map(|_| staged.write(&[1; 65536]).err()).expect("the disk was never full");
    assert_eq!((error.status(), error.os_errno()), (Status::NoSpace, Some(Errno::NOSPC.raw_os_error())), "{error}");
    assert!(error.is_retryable());
    // The handle still lives, and its space is free already. A child of another test has the file for a moment, too, if it was
    // forked meanwhile.
    assert_eq!(leftovers(disk.path()), [""; 0]);
    wait_until("free space", || rustix::fs::statvfs(disk.path()).unwrap().f_bavail * 4096 >= 900_000);
    put_layer(&storage, &[2; 500_000]);
    assert_eq!(staged.write(b"x").unwrap_err().status(), Status::State);
}

#[test]
fn a_full_disk_ends_an_extraction_anywhere() {
    let layer = gzip(
        &(0..40)
            .fold(Archive::new(), |archive, i| archive.file(format!("d{i}/f").as_bytes(), &[b'x'; 20_000]))
            .finish(),
    );
    let mut failures = 0;
    for kib in (64..=1400).step_by(64) {
        let Some(disk) = SmallDisk::new(&format!("size={kib}k")) else { return };
        let storage = quick_store(disk.path());
        let digest = put_layer(&storage, &layer);
        match storage.extract_layer(&digest, &ExtractOptions::default()) {
            Ok(_) => assert!(kib > 800, "{kib}"),
            Err(error) => {
                assert_eq!(error.status(), Status::NoSpace, "{kib}: {error}");
                assert!(!storage.layer_extracted_path(&digest).exists());
                assert_eq!(leftovers(disk.path()), [""; 0], "{kib}");
                disk.remount("size=4m");
                storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
                failures += 1;
            }
        }
    }
    assert!(failures > 8, "only {failures} sizes were too small");
}

#[test]
fn no_inodes_are_no_space() {
    let Some(disk) = SmallDisk::new("size=8m,nr_inodes=60") else { return };
    let storage = quick_store(disk.path());
    let layer = (0..100).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), b"")).finish();
    let digest = put_layer(&storage, &layer);
    let error = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "131: {error}");
    assert_eq!(leftovers(disk.path()), [""; 0]);
}

/// ENOSPC of an extended attribute is a full disk, or what ext4 says where one file's attributes do not fit its one block.
/// (Report 10.)
#[test]
fn attributes_that_do_not_fit_are_told_from_a_full_disk() {
    let with = |archive: Archive, bytes: usize, name: &str| {
        archive.pax(&[("SCHILY.xattr.user.x", &vec![b'x'; bytes])]).file(name.as_bytes(), b"")
    };
    let Some(disk) = LoopDisk::ext4(8) else { return };
    let storage = quick_store(&disk.path().join("store"));
    let one = put_layer(&storage, &gzip(&with(Archive::new(), 6000, "f").finish()));
    let extraction = storage.extract_layer(&one, &ExtractOptions::default()).unwrap();
    assert!(extraction.anomalies.contains(Anomalies::SKIPPED_XATTR), "{:?}", extraction.anomalies);
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
    // A block for each file, no two alike.
    let many = (0..4000).fold(Archive::new(), |archive, i| with(archive, 2000 + i % 1500, &format!("f{i}")));
    let many = put_layer(&storage, &gzip(&many.finish()));
    let error = storage.extract_layer(&many, &ExtractOptions::default()).unwrap_err();
    assert_eq!((error.status(), error.os_errno()), (Status::NoSpace, Some(Errno::NOSPC.raw_os_error())), "{error}");
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn a_read_only_file_system_serves_and_refuses() {
    let Some(disk) = SmallDisk::new("size=1m") else { return };
    let digest = put_layer(&quick_store(disk.path()), b"x");
    disk.remount("ro");
    let storage = quick_store(disk.path());
    assert!(storage.has_layer(&digest).unwrap());
    let error = storage.stage_layer(&digest, None).unwrap_err();
    assert_eq!((error.status(), error.os_errno()), (Status::Permission, Some(Errno::ROFS.raw_os_error())));
}

#[test]
fn the_file_size_limit_is_a_limit() {
    in_own_process("disk_faults::the_file_size_limit_is_a_limit", || {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        // SAFETY: the child runs one test and has no handlers.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(100_000), maximum: before.maximum }).unwrap();
        let mut staged = storage.stage_layer(&Digest::of(b"large"), None).unwrap();
        let error = staged.write(&[0; 200_000]).unwrap_err();
        assert_eq!((error.status(), error.os_errno()), (Status::Limit, Some(Errno::FBIG.raw_os_error())));
        drop(staged);
        assert_eq!(leftovers(dir.path()), [""; 0]);
        let layer = Archive::new().file(b"f", &[b'x'; 150_000]).finish();
        let digest = put_layer(&storage, &gzip(&layer));
        let error = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap_err();
        assert_eq!(error.status(), Status::Limit);
        setrlimit(Resource::Fsize, before).unwrap();
        storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
        assert_eq!(leftovers(dir.path()), [""; 0]);
    });
}

/// With ever more descriptors, until everything works: a status at every step, and none of them leaks.
#[test]
fn running_out_of_descriptors_is_survived_everywhere() {
    in_own_process("disk_faults::running_out_of_descriptors_is_survived_everywhere", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let dir = temp_dir();
        let layer =
            (0..30).fold(Archive::new(), |archive, i| archive.file(format!("a{i}/b/c/f").as_bytes(), b"x")).finish();
        put_layer(&quick_store(dir.path()), &layer);
        let (digest, before, used) = (Digest::of(&layer), getrlimit(Resource::Nofile), open());
        let (mut failures, mut done) = (0, false);
        for extra in 0..200 {
            setrlimit(Resource::Nofile, Rlimit { current: Some((used + extra) as u64), maximum: before.maximum })
                .unwrap();
            let result = boxlite_images::Storage::open(dir.path(), &Default::default()).and_then(|storage| {
                storage.verify_layer(&digest, &VerifyOptions::default())?;
                storage.extract_layer(&digest, &ExtractOptions::default())
            });
            setrlimit(Resource::Nofile, before).unwrap();
            assert_eq!(open(), used, "descriptors leaked with {extra} more");
            match result {
                Ok(_) => {
                    done = true;
                    break;
                }
                Err(error) => {
                    let found = (error.status(), error.os_errno(), error.is_retryable());
                    assert_eq!(found, (Status::Io, Some(Errno::MFILE.raw_os_error()), true), "{error}");
                    failures += 1;
                }
            }
        }
        assert!(done && failures > 10, "{failures} failures, done: {done}");
        quick_store(dir.path());
        assert_eq!(leftovers(dir.path()), [""; 0]);
    });
}

#[test]
fn what_cannot_be_read_is_a_matter_of_permission() {
    as_each_user("disk_faults::what_cannot_be_read_is_a_matter_of_permission", || {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let digest = put_layer(&storage, b"x");
        let path = storage.layer_tarball_path(&digest);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o0)).unwrap();
        if is_root() {
            return storage.verify_layer(&digest, &VerifyOptions::default()).unwrap();
        }
        assert!(storage.has_layer(&digest).unwrap());
        let error = storage.verify_layer(&digest, &VerifyOptions::default()).unwrap_err();
        assert_eq!((error.status(), error.os_errno()), (Status::Permission, Some(Errno::ACCESS.raw_os_error())));
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    });
}
