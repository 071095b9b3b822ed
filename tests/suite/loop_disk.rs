//! File systems in files, for what tmpfs does not have: shared blocks, a `lost+found`, a real end of the disk.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use super::support::{has_tool, is_root, run, skip, temp_dir};

/// A file system in a file of its own, unmounted at the end.
pub struct LoopDisk(tempfile::TempDir);

impl LoopDisk {
    /// `None` where it cannot be mounted.
    pub fn new(mkfs: &str, options: &[&str], mib: u64) -> Option<LoopDisk> {
        if !is_root() || !has_tool(mkfs) {
            return None;
        }
        let dir = temp_dir();
        let (image, at) = (dir.path().join("image"), dir.path().join("at"));
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).chain([image.as_os_str()]).collect();
        run(mkfs, &options);
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("a file system in a file cannot be mounted");
            return None;
        }
        Some(LoopDisk(dir))
    }

    pub fn ext4(mib: u64) -> Option<LoopDisk> {
        LoopDisk::new("mkfs.ext4", &["-q"], mib)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("at")
    }

    pub fn used(&self) -> u64 {
        rustix::fs::sync();
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A child that another test is starting has all our handles for a moment.
        Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}
