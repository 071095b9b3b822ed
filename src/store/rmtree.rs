//! Removal of a whole directory tree that foreign data shaped: any depth, any modes, any names.
//!
//! A recursive walk would run out of stack or of file descriptors on a tree 4,096 directories deep.
//! Here a nested directory is first renamed to the top of the tree, so that every directory is
//! emptied at depth one. That takes two handles at a time, no recursion, no `..`, no path that
//! could grow too long.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes `parent`/`name`, whatever it is, without following symlinks. Something that is not there is no error.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match remove(parent, name, &mut Budget { deadline: None, steps: 0 }) {
        Ok(()) => Ok(()),
        Err(Stop::Failed(errno)) => Err(errno),
        // There is no deadline.
        Err(Stop::OutOfTime) => Err(Errno::TIME),
    }
}

/// The same until a moment. False where that was not enough: then the rest is under the same name.
pub(crate) fn remove_tree_until(parent: BorrowedFd<'_>, name: &[u8], deadline: Instant) -> Result<bool, Errno> {
    match remove(parent, name, &mut Budget { deadline: Some(deadline), steps: 0 }) {
        Ok(()) => Ok(true),
        Err(Stop::Failed(errno)) => Err(errno),
        Err(Stop::OutOfTime) => Ok(false),
    }
}

fn remove(parent: BorrowedFd<'_>, name: &[u8], budget: &mut Budget) -> Result<(), Stop> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux answers EISDIR, POSIX says EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let top = open_directory(parent, name)?;
    let mut lifted = Lifted { prefix: uuid::Uuid::new_v4().simple().to_string(), count: 0 };
    loop {
        let directories = remove_files(top.as_fd(), budget)?;
        if directories.is_empty() {
            break;
        }
        for directory in directories {
            empty_directory(top.as_fd(), &directory, &mut lifted, budget)?;
            rustix::fs::unlinkat(&top, &directory[..], AtFlags::REMOVEDIR)?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// How long a removal may go on.
struct Budget {
    deadline: Option<Instant>,
    steps: u32,
}

impl Budget {
    fn spend(&mut self) -> Result<(), Stop> {
        self.steps = self.steps.wrapping_add(1);
        let is_over = self.steps.is_multiple_of(16) && self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over { Err(Stop::OutOfTime) } else { Ok(()) }
    }
}

enum Stop {
    Failed(Errno),
    OutOfTime,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Failed(errno)
    }
}

/// Names that no entry of the tree can have.
struct Lifted {
    prefix: String,
    count: u64,
}

fn empty_directory(top: BorrowedFd<'_>, name: &[u8], lifted: &mut Lifted, budget: &mut Budget) -> Result<(), Stop> {
    let directory = open_directory(top, name)?;
    for nested in remove_files(directory.as_fd(), budget)? {
        budget.spend()?;
        // Moving a directory rewrites its `..`, which needs write permission on itself.
        drop(open_directory(directory.as_fd(), &nested)?);
        lifted.count += 1;
        let new_name = format!("{}-{}", lifted.prefix, lifted.count);
        rustix::fs::renameat(&directory, &nested[..], top, new_name.as_str())?;
    }
    Ok(())
}

/// Removes everything in a directory that is not a directory; gives the names of those.
fn remove_files(directory: BorrowedFd<'_>, budget: &mut Budget) -> Result<Vec<Vec<u8>>, Stop> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            directories.push(name.to_vec());
            continue;
        }
        budget.spend()?;
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) if entry.file_type() == FileType::Unknown => {
                directories.push(name.to_vec());
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(directories)
}

/// Opens a directory so that its entries can be removed, whatever its mode. Only its owner can open
/// the way to it while it is ours to remove. So nobody else can swap the name between the look and
/// the `chmod`.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn any_shape_goes_and_nothing_outside_does() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c/d")).unwrap();
        std::fs::create_dir_all(tree.join("a/e/c")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(&outside, tree.join("a/b/c/link")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        for locked in ["a/b/c/d", "a/b", "a"] {
            std::fs::set_permissions(tree.join(locked), PermissionsExt::from_mode(0o0)).unwrap();
        }
        let parent = std::fs::File::open(dir.path()).unwrap();
        remove_tree(parent.as_fd(), b"tree").unwrap();
        assert!(!tree.exists());
        assert!(outside.join("keep").exists());
        remove_tree(parent.as_fd(), b"tree").unwrap();
    }

    #[test]
    fn what_time_was_too_short_for_is_removed_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..500 {
            std::fs::create_dir_all(dir.path().join(format!("tree/d{}/e", i % 20))).unwrap();
            std::fs::write(dir.path().join(format!("tree/d{}/e/f{i}", i % 20)), "").unwrap();
        }
        let parent = std::fs::File::open(dir.path()).unwrap();
        assert!(!remove_tree_until(parent.as_fd(), b"tree", Instant::now()).unwrap());
        assert!(dir.path().join("tree").exists());
        let later = Instant::now() + std::time::Duration::from_secs(60);
        assert!(remove_tree_until(parent.as_fd(), b"tree", later).unwrap());
        assert!(!dir.path().join("tree").exists());
    }

    #[test]
    fn family_22_depth_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let parent: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = parent.try_clone().unwrap();
        for _ in 0..4096 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "deep", flags, Mode::empty()).unwrap();
        }
        remove_tree(parent.as_fd(), b"deep").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
