//! Disks as the kernel and the file system's own checker see them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{Anomalies, DiskFormat, LayerEntry};

use super::support::skip;
use super::tree::{Node, differences, snapshot};

/// A disk that is mounted until the end.
pub struct MountedDisk(PathBuf);

impl MountedDisk {
    pub fn new(disk: &Path, format: DiskFormat, at: PathBuf) -> Option<MountedDisk> {
        std::fs::create_dir(&at).unwrap();
        let file_system = match format {
            DiskFormat::Ext4 => "ext4",
            DiskFormat::Erofs => "erofs",
        };
        let mount =
            Command::new("mount").args(["-t", file_system, "-o", "loop,ro"]).arg(disk).arg(&at).output().unwrap();
        if !mount.status.success() {
            assert!(format == DiskFormat::Erofs, "{mount:?}");
            skip(&format!("EROFS cannot be mounted: {}", String::from_utf8_lossy(&mount.stderr).trim()));
            return None;
        }
        Some(MountedDisk(at))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        // A child that another test is starting has all our handles for a moment.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// The checker of file systems finds nothing.
pub fn assert_clean(name: &str, disk: &Path, format: DiskFormat, is_deep: bool) {
    let checked = match format {
        DiskFormat::Ext4 => Command::new("e2fsck").arg("-fn").arg(disk).output().unwrap(),
        DiskFormat::Erofs => Command::new("fsck.erofs").arg(disk).output().unwrap(),
    };
    let said = [&checked.stdout[..], &checked.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    // That of EROFS goes down by recursion, and has no stack for what is too deep. Newer ones stop before that, where a path is
    // too long.
    let is_overflow = is_deep && (checked.status.code().is_none() || said.contains("the path is too long"));
    assert!(checked.status.success() || is_overflow, "{name}: {said}");
    // A question whose answer is "no" is a fault, too.
    assert!(!said.contains('?'), "{name}: {said}");
}

/// What is in both of them, where a directory says less, or the host's file system keeps less.
pub fn assert_same(name: &str, tree: &Path, disk: &Path, recorded: &[LayerEntry], odd: Anomalies) {
    let (mut expected, mut found) = (snapshot(tree), snapshot(disk));
    // Longer ones can be seen in the one whose own path is shorter.
    const LONGEST: usize = 3000;
    // An ext4 has one, whatever the image has.
    if !expected.contains_key("./lost+found") {
        found.remove("./lost+found");
    }
    expected.retain(|path, _| path.len() < LONGEST);
    found.retain(|path, _| path.len() < LONGEST);
    let times: BTreeMap<String, i128> = recorded
        .iter()
        .map(|entry| {
            let path = format!("./{}", String::from_utf8_lossy(&entry.path));
            (path, i128::from(entry.mtime.seconds) * 1_000_000_000 + i128::from(entry.mtime.nanoseconds))
        })
        .collect();
    for (path, node) in &mut found {
        node.xattrs.retain(|(key, _)| key != "trusted.overlay.origin");
        let Some(other) = expected.get_mut(path) else { continue };
        if (node.kind, &node.content[..]) == ("char", "0") {
            // A whiteout has no metadata.
            *node = Node { kind: "whiteout", ..other.clone() };
            other.kind = if (other.kind, &other.content[..]) == ("char", "0") { "whiteout" } else { other.kind };
            continue;
        }
        if odd.contains(Anomalies::COPIED_LINK) {
            (other.same_as, other.links) = (node.same_as.clone(), node.links);
        }
        if odd.contains(Anomalies::SKIPPED_XATTR) {
            assert!(other.xattrs.iter().all(|kept| node.xattrs.contains(kept)), "{name}: {path}: {node:?} {other:?}");
            other.xattrs = node.xattrs.clone();
        }
        // Beyond what the host's file system can say.
        if node.mtime != other.mtime && times.get(path) == Some(&node.mtime) {
            other.mtime = node.mtime;
        }
    }
    let differences = differences(&expected, &found);
    assert!(differences.is_empty(), "{name}: {differences:#?}");
}
