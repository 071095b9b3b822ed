//! The confined directory handle: how a path inside a layer becomes an open directory that cannot be outside.
//!
//! A path is walked one component at a time from a held handle, each step `openat(O_NOFOLLOW |
//! O_DIRECTORY)`. A symlink in the way is read, and its target is put in place of the component.
//! `/` and surplus `..` stay at the root, as in a chroot (families 6 to 19). The kernel never
//! resolves more than one name of ours. So nothing depends on `openat2`, on `PATH_MAX`, on /proc or
//! on the process's working directory. A parent that another process swaps for a symlink is opened
//! as what it was or not at all (families 29 to 31 and 34).
//!
//! The walk also creates what is missing and replaces what is in the way. It knows each directory's
//! real path (the one without symlinks), by which deferred metadata is kept. Results are cached by
//! the name that was asked for; since archives list a directory's entries together, nearly every
//! look-up ends at the first comparison. Whatever removes a directory or a symlink must drop the
//! cache ([`Root::forget`]). Otherwise an entry could land in a directory that is no longer there
//! (family 14).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::walk::Walk;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{WHITEOUT_PREFIX, split_parent};
use crate::limits::{self, LayerLimits};

/// Handles kept open. Hosts have their own use for file descriptors, and the usual limit is 1,024.
const CACHED: usize = 64;

/// An open directory inside the root.
#[derive(Debug)]
pub(crate) struct Dir<H = OwnedFd> {
    handle: H,
    /// Without symlinks, relative to the root, which is empty.
    pub(super) real_path: Vec<u8>,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl<H> Dir<H> {
    pub(super) fn handle(&self) -> &H {
        &self.handle
    }

    /// The real path of an entry of this directory.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.real_path, name)
    }
}

/// What a walk does about a component that is missing or not a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    /// `None` as the result.
    Leave,
}

/// A directory, by the name that it was asked for by.
type CachedDir<H> = (Vec<u8>, Arc<Dir<H>>);

/// The root of a tree, and the walk.
pub(super) struct Root<N: Walk> {
    pub(super) nodes: N,
    root: Arc<Dir<N::Handle>>,
    last: Option<CachedDir<N::Handle>>,
    /// By the name asked for, the oldest first. Few enough to be searched from end to end.
    cache: VecDeque<CachedDir<N::Handle>>,
    steps: u64,
    symlink_steps: u64,
    limits: LayerLimits,
    interrupt: Interrupt,
    /// Real paths of directories that walks made.
    created: Vec<Vec<u8>>,
    created_bytes: u64,
    /// Real paths of things that a walk removed because they were in its way.
    pub(super) replaced: Vec<Vec<u8>>,
    /// Real paths of symlinks that walks went through, where somebody wants to know.
    pub(super) followed: Option<Vec<Vec<u8>>>,
}

impl<N: Walk> Root<N> {
    pub(super) fn new(handle: N::Handle, nodes: N, limits: LayerLimits, interrupt: Interrupt) -> Root<N> {
        Root {
            nodes,
            root: Arc::new(Dir { handle, real_path: Vec::new() }),
            last: None,
            cache: VecDeque::new(),
            steps: 0,
            symlink_steps: 0,
            limits,
            interrupt,
            created: Vec::new(),
            created_bytes: 0,
            replaced: Vec::new(),
            followed: None,
        }
    }

    /// The directory at a normalised path, symlinks in it resolved inside the root.
    pub(super) fn dir(&mut self, path: &[u8], missing: Missing) -> Result<Option<Arc<Dir<N::Handle>>>> {
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(Some(dir.clone()));
        }
        let (mut at, mut done) = self.nearest_cached(path);
        let mut left = path[done..].split(|&b| b == b'/').count();
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..].iter().position(|&b| b == b'/').map_or(path.len(), |slash| start + slash);
            let Some(next) = self.step(at, &path[start..end], missing)? else { return Ok(None) };
            at = next;
            done = end;
            left -= 1;
            // What would be driven out before this walk ends is not worth its place.
            if left < CACHED {
                self.remember(&path[..end], &at);
            }
        }
        self.last = Some((path.to_vec(), at.clone()));
        Ok(Some(at))
    }

    pub(super) fn into_nodes(self) -> N {
        self.nodes
    }

    /// Whether a walk would find a directory. It is not counted, so that whether it is needed changes no outcome.
    pub(super) fn finds(&mut self, path: &[u8]) -> bool {
        let counts = (self.steps, self.symlink_steps);
        let found = self.dir(path, Missing::Leave);
        (self.steps, self.symlink_steps) = counts;
        // What is wrong with it, the walk that counts will say.
        matches!(found, Ok(Some(_)))
    }

    /// Real paths of directories that were made since the last call, for the caller to give metadata to.
    pub(super) fn take_created(&mut self) -> Vec<Vec<u8>> {
        self.created_bytes = 0;
        std::mem::take(&mut self.created)
    }

    /// The limits on walking are for one layer, and what one layer's walks went through is nothing to the next.
    pub(super) fn begin_layer(&mut self) {
        (self.steps, self.symlink_steps) = (0, 0);
        self.forget();
    }

    /// Drops what is known of directories, because one of them may be gone.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.cache.clear();
    }

    fn nearest_cached(&self, path: &[u8]) -> (Arc<Dir<N::Handle>>, usize) {
        let leads_to = |prefix: &[u8]| path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'));
        let nearest = self.cache.iter().filter(|(prefix, _)| leads_to(prefix)).max_by_key(|(prefix, _)| prefix.len());
        nearest.map_or_else(|| (self.root.clone(), 0), |(prefix, dir)| (dir.clone(), prefix.len()))
    }

    fn remember(&mut self, path: &[u8], dir: &Arc<Dir<N::Handle>>) {
        if self.cache.len() >= CACHED {
            self.cache.pop_front();
        }
        self.cache.push_back((path.to_vec(), dir.clone()));
    }

    /// From a directory to the one that `name` in it leads to, through however many symlinks.
    fn step(
        &mut self,
        from: Arc<Dir<N::Handle>>,
        name: &[u8],
        missing: Missing,
    ) -> Result<Option<Arc<Dir<N::Handle>>>> {
        let mut at = from;
        let mut hops = 0;
        // What is still to be walked, the next component last.
        let mut todo = vec![name.to_vec()];
        while let Some(name) = todo.pop() {
            self.count_step()?;
            // Nothing is below a whiteout marker, and none comes to be by way of a symlink's target (families 47 to 49).
            if name.starts_with(WHITEOUT_PREFIX) {
                let why = format!("{}: a whiteout marker is not a directory", quoted(&at.join(&name)));
                return Err(Error::new(Status::Malformed, why));
            }
            if name == b".." {
                at = self.parent_of(&at)?;
                continue;
            }
            match self.nodes.open_directory(&at.handle, &name) {
                Ok(handle) => at = Arc::new(Dir { real_path: at.join(&name), handle }),
                Err(Errno::NOENT) if missing == Missing::Create => at = self.create(&at, &name)?,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => match self.read_symlink(&at, &name)? {
                    Some(target) => {
                        hops += 1;
                        self.count_hop(hops, &at, &name)?;
                        if let Some(followed) = &mut self.followed {
                            followed.push(at.join(&name));
                        }
                        if target.starts_with(b"/") {
                            at = self.root.clone();
                        }
                        let components = target.split(|&b| b == b'/').rev();
                        todo.extend(components.filter(|c| !matches!(*c, b"" | b".")).map(<[u8]>::to_vec));
                    }
                    None if missing == Missing::Create => {
                        self.remove(&at, &name)?;
                        at = self.create(&at, &name)?;
                    }
                    None => return Ok(None),
                },
                Err(errno) => return Err(fail(errno, "open directory", &at.join(&name))),
            }
        }
        Ok(Some(at))
    }

    /// Every entry may make us walk a little; the limit is for what goes beyond that.
    pub(super) fn grant_steps(&mut self) {
        self.steps = self.steps.saturating_sub(16);
    }

    /// What a layer may make us walk. A walk can be long, so this is also where it can be ended.
    fn count_step(&mut self) -> Result<()> {
        self.steps += 1;
        limits::DIRECTORY_STEPS.check(&self.limits, self.steps, || "layer")?;
        if self.steps.is_multiple_of(256) { self.interrupt.check() } else { Ok(()) }
    }

    fn count_hop(&mut self, hops: u64, at: &Dir<N::Handle>, name: &[u8]) -> Result<()> {
        self.symlink_steps += 1;
        limits::SYMLINK_HOPS.check(&self.limits, hops, || quoted(&at.join(name)))?;
        limits::SYMLINK_STEPS.check(&self.limits, self.symlink_steps, || quoted(&at.join(name)))
    }

    /// A real path has no symlinks, so the parent is found by walking its text.
    fn parent_of(&mut self, dir: &Dir<N::Handle>) -> Result<Arc<Dir<N::Handle>>> {
        let parent = split_parent(&dir.real_path).0;
        let mut at = None;
        for name in parent.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            self.count_step()?;
            let from = at.as_ref().unwrap_or(&self.root.handle);
            let next = self.nodes.open_directory(from, name);
            at = Some(next.map_err(|errno| fail(errno, "open directory", parent))?);
        }
        Ok(at.map_or_else(|| self.root.clone(), |handle| Arc::new(Dir { handle, real_path: parent.to_vec() })))
    }

    /// The target of a symlink; `None` for what is none.
    fn read_symlink(&self, at: &Dir<N::Handle>, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let target = self.nodes.read_symlink(&at.handle, name);
        target.map_err(|errno| fail(errno, "read symlink", &at.join(name)))
    }

    fn create(&mut self, at: &Dir<N::Handle>, name: &[u8]) -> Result<Arc<Dir<N::Handle>>> {
        let real_path = at.join(name);
        match self.nodes.make_directory(&at.handle, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno, "create directory", &real_path)),
        }
        let handle = self.nodes.open_directory(&at.handle, name);
        let handle = handle.map_err(|errno| fail(errno, "open directory", &real_path))?;
        // Before the caller can count them: one walk may make thousands, each with a longer path.
        self.created_bytes += real_path.len() as u64;
        limits::KEPT_METADATA.check(&self.limits, self.created_bytes, || quoted(&real_path))?;
        self.created.push(real_path.clone());
        Ok(Arc::new(Dir { handle, real_path }))
    }

    /// Removes whatever `name` in `at` is, so that something else can take its place (family 20).
    pub(super) fn remove(&mut self, at: &Dir<N::Handle>, name: &[u8]) -> Result<()> {
        let real_path = at.join(name);
        self.nodes.take_away(&at.handle, name)?.map_err(|errno| fail(errno, "replace", &real_path))?;
        self.forget();
        self.replaced.push(real_path);
        Ok(())
    }
}

pub(super) fn fail(errno: Errno, action: &str, path: &[u8]) -> Error {
    match errno {
        Errno::LOOP => Error::new(Status::UnsafePath, format!("{action} {}: a loop of symlinks", quoted(path))),
        _ => Error::os(errno, format_args!("{action} {}", quoted(path))),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::super::aside::{Aside, AsideDir};
    use super::super::walk::DiskWalk;
    use super::*;
    use std::os::unix::fs::symlink;

    fn with_root(prepare: impl Fn(&std::path::Path), check: impl Fn(&mut Root<DiskWalk<'_>>, &std::path::Path)) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        prepare(&inside);
        let trash = Aside::new(|| {
            let dir = tempfile::tempdir_in(&dir).unwrap();
            Ok(AsideDir { handle: std::fs::File::open(dir.path()).unwrap().into(), _owner: Box::new(dir) })
        });
        let handle = std::fs::File::open(&inside).unwrap().into();
        let mut root = Root::new(handle, DiskWalk::new(trash), LayerLimits::default(), Interrupt::default());
        check(&mut root, &inside);
        drop(root);
        assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn families_6_to_19_symlinks_stay_inside() {
        for (target, real) in [
            ("/", "x"),
            ("..", "x"),
            ("../../../..", "x"),
            ("../outside", "outside/x"),
            ("/outside", "outside/x"),
            ("a", "a/x"),
            ("./a/../b/", "b/x"),
            ("/a/../../b", "b/x"),
            ("not/there/yet", "not/there/yet/x"),
        ] {
            with_root(
                |inside| symlink(target, inside.join("link")).unwrap(),
                |root, inside| {
                    let dir = root.dir(b"link/x", Missing::Create).unwrap().unwrap();
                    assert_eq!(dir.real_path, real.as_bytes(), "{target}");
                    assert!(inside.join(real).is_dir(), "{target}");
                },
            );
        }
    }

    #[test]
    fn family_8_a_chain_that_is_outside_only_by_text() {
        with_root(
            |inside| {
                symlink(".", inside.join("current")).unwrap();
                symlink("current/..", inside.join("parent")).unwrap();
            },
            |root, _| assert_eq!(root.dir(b"parent/x", Missing::Create).unwrap().unwrap().real_path, b"x"),
        );
    }

    #[test]
    fn family_17_loops_end_in_an_error() {
        with_root(
            |inside| {
                symlink("self", inside.join("self")).unwrap();
                symlink("b", inside.join("a")).unwrap();
                symlink("a", inside.join("b")).unwrap();
            },
            |root, _| {
                for path in [&b"self/x"[..], b"a/x"] {
                    assert_eq!(root.dir(path, Missing::Create).unwrap_err().status(), Status::Limit);
                }
            },
        );
    }

    #[test]
    fn family_20_a_file_in_the_way_becomes_a_directory() {
        with_root(
            |inside| std::fs::write(inside.join("f"), "x").unwrap(),
            |root, inside| {
                assert!(root.dir(b"f/d", Missing::Leave).unwrap().is_none());
                assert_eq!(root.dir(b"f/d", Missing::Create).unwrap().unwrap().real_path, b"f/d");
                assert!(inside.join("f/d").is_dir());
                assert_eq!(root.replaced, [b"f"]);
                assert_eq!(root.created, [&b"f"[..], b"f/d"]);
            },
        );
    }

    #[test]
    fn the_cache_is_bounded_and_right_after_forget() {
        with_root(
            |_| {},
            |root, inside| {
                for i in 0..300 {
                    root.dir(format!("d{i}/e").as_bytes(), Missing::Create).unwrap().unwrap();
                }
                assert!(root.cache.len() <= CACHED);
                std::fs::remove_dir_all(inside.join("d299")).unwrap();
                root.forget();
                assert!(root.dir(b"d299/e", Missing::Leave).unwrap().is_none());
            },
        );
    }
}
