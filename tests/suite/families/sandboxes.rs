//! What surrounds an extraction: others who change its tree, system calls that are forbidden, a missing /proc.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use boxlite_images::{Anomalies, ExtractOptions, RootfsMode, RootfsOptions};

use super::super::archive::{Archive, Header};
use super::super::images::put_image_of;
use super::super::support::{as_each_user, in_own_process, is_root, leftovers, put_layer, quick_store, skip, temp_dir};

/// While a layer is extracted, a thread with the same rights swaps directories of the unfinished tree for symlinks.
#[test]
fn family_29_a_parent_swapped_for_a_symlink_leads_nowhere() {
    as_each_user("families::sandboxes::family_29_a_parent_swapped_for_a_symlink_leads_nowhere", || {
        let (dir, outside) = (temp_dir(), temp_dir());
        let storage = quick_store(dir.path());
        let is_over = AtomicBool::new(false);
        let swaps = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for tree in partial_trees(dir.path()) {
                        for i in 0..200 {
                            let (victim, aside) = (tree.join(format!("d{i}")), tree.join(format!("aside{i}")));
                            let is_swapped = std::fs::rename(&victim, aside).is_ok()
                                && std::os::unix::fs::symlink(outside.path(), &victim).is_ok();
                            swaps.fetch_add(usize::from(is_swapped), Ordering::Relaxed);
                        }
                    }
                }
            });
            // How often the racer has its turn is the scheduler's affair: as many rounds as it takes.
            for round in 0..2000 {
                if round >= 20 && swaps.load(Ordering::Relaxed) > 500 {
                    break;
                }
                let layer =
                    (0..200).fold(Archive::new().file(b"round", format!("{round}").as_bytes()), |archive, i| {
                        let archive = archive.dir(format!("d{i}").as_bytes()).dir(format!("d{i}/e").as_bytes());
                        archive
                            .file(format!("d{i}/f").as_bytes(), b"x")
                            .file(format!("d{i}/e/f").as_bytes(), b"x")
                            .hardlink(format!("d{i}/l").as_bytes(), format!("d{i}/e/f").as_bytes())
                            .file(format!("d{i}/e/f").as_bytes(), b"replaced")
                    });
                let digest = put_layer(&storage, &layer.finish());
                // Either way: the tree is the racer's work as much as ours.
                let _ = storage.extract_layer(&digest, &ExtractOptions::default());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let swaps = swaps.into_inner();
        assert!(swaps > 100, "{swaps} swaps are no race");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "something came out");
        assert_eq!(leftovers(dir.path()), [""; 0]);
    });
}

fn partial_trees(store: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(store.join("extracted")) else { return Vec::new() };
    let partial = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "extracting");
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(partial).collect()
}

/// Forbids system calls to this process, as sandboxes do: they fail with EPERM.
#[cfg(target_os = "linux")]
pub fn forbid(calls: &[libc::c_long]) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let refuse = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let mut filter = vec![load_number];
    for &call in calls {
        let is_call = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        filter.push(libc::sock_filter { jf: 1, ..statement(is_call, call as u32) });
        filter.push(refuse);
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its filter live until the call returns.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

/// Nothing depends on `openat2` and others that a sandbox may not know. Where a thread cannot leave
/// the host's umask, modes are right all the same.
#[test]
#[cfg(target_os = "linux")]
fn family_30_forbidden_system_calls_change_nothing() {
    as_each_user("families::sandboxes::family_30_forbidden_system_calls_change_nothing", || {
        in_own_process("families::sandboxes::family_30_forbidden_system_calls_change_nothing", || {
            forbid(&[
                libc::SYS_openat2,
                libc::SYS_unshare,
                libc::SYS_renameat2,
                libc::SYS_fallocate,
                libc::SYS_fadvise64,
                libc::SYS_copy_file_range,
            ]);
            // SAFETY: a system call without pointers; the process is this test's own.
            unsafe { libc::umask(0o077) };
            let dir = temp_dir();
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            let storage = quick_store(dir.path());
            let layer = Archive::new().dir(b"d").file(b"d/f", b"1").symlink(b"s", b"d").file(b"s/g", b"2").finish();
            let digest = put_layer(&storage, &layer);
            storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
            let tree = storage.layer_extracted_path(&digest);
            for (path, mode) in [("d", 0o40755), ("d/f", 0o100_644), ("d/g", 0o100_644)] {
                assert_eq!(std::fs::metadata(tree.join(path)).unwrap().permissions().mode(), mode, "{path}");
            }
            // Room is reserved for what is large.
            put_layer(&storage, &Archive::new().file(b"large", &[1; 3 << 20]).finish());
            let image = put_image_of(&storage, "x", &[layer, Archive::new().file(b"large", &[1; 3 << 20]).finish()]);
            let image = storage.open_image_by_digest(&image).unwrap();
            let (root, mut options) = (dir.path().join("root"), RootfsOptions::default());
            options.replace = true;
            for mode in [RootfsMode::Copy, RootfsMode::Reflink, RootfsMode::Hardlink, RootfsMode::Direct] {
                options.mode = mode;
                storage.assemble_rootfs(&image, &root, &options).unwrap();
                assert_eq!(std::fs::metadata(root.join("large")).unwrap().len(), 3 << 20, "{mode:?}");
            }
        });
    });
}

/// The same modes under a host's umask, with nothing forbidden.
#[test]
fn the_umask_of_the_host_has_no_say() {
    in_own_process("families::sandboxes::the_umask_of_the_host_has_no_say", || {
        // SAFETY: a system call without pointers; the process is this test's own.
        unsafe { libc::umask(0o077) };
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let modes: [u32; 8] = [0o644, 0o600, 0o777, 0o4755, 0o2755, 0o1777, 0o000, 0o444];
        let layer = modes.iter().fold(Archive::new(), |archive, mode| {
            archive.entry(Header::new(b'0', format!("{mode:o}").as_bytes()).mode(u64::from(*mode)), b"1")
        });
        let digest = put_layer(&storage, &layer.finish());
        storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
        for mode in modes {
            let path = storage.layer_extracted_path(&digest).join(format!("{mode:o}"));
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::umask(0) }, 0o077);
    });
}

/// /proc serves attributes of symlinks only; without it they are left out, and said to be.
#[test]
#[cfg(target_os = "linux")]
fn family_31_without_proc_only_attributes_of_symlinks_are_left_out() {
    if !is_root() {
        return skip("a file system cannot be mounted");
    }
    in_own_process("families::sandboxes::family_31_without_proc_only_attributes_of_symlinks_are_left_out", || {
        // SAFETY: no pointers.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return skip("no mount namespace can be had");
        }
        let mount = |fs: &std::ffi::CStr, on: &std::ffi::CStr, flags| {
            // SAFETY: the strings live until the call returns; there is no data.
            unsafe { libc::mount(fs.as_ptr(), on.as_ptr(), fs.as_ptr(), flags, std::ptr::null()) }
        };
        assert_eq!(mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE), 0);
        assert_eq!(mount(c"tmpfs", c"/proc", 0), 0);
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let attribute = [("SCHILY.xattr.security.test", &b"v"[..])];
        let layer = Archive::new().pax(&attribute).symlink(b"s", b"f").pax(&attribute).file(b"f", b"1").finish();
        let digest = put_layer(&storage, &layer);
        let done = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
        assert_eq!(done.anomalies, Anomalies::SKIPPED_XATTR);
        assert_eq!(leftovers(dir.path()), [""; 0]);
    });
}
