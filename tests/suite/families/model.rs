//! A small model of what layers mean, and random layers that are compared with it.
//!
//! The model knows names, kinds, contents and the rules for symlinks in the way. It knows nothing
//! of tar, of file descriptors or of the order in which a file system is told things. What it and
//! the library agree on is what the rules say, or the same mistake made twice.

use std::collections::{BTreeMap, BTreeSet};

use boxlite_images::{ExtractOptions, Status};

use super::super::archive::{Archive, Header};
use super::super::support::as_each_user_capped;
use super::{Bench, Seen};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir(u32),
    /// Which content, which is also which inode.
    File(u32),
    Symlink(&'static str),
    Fifo,
}

#[derive(Clone, Debug)]
pub enum Op {
    Put(String, Node),
    Hardlink(String, String),
    Whiteout(String),
    Opaque(String),
}

/// A layer's own tree, by real paths, and what it hides.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub nodes: BTreeMap<String, Node>,
    /// Real paths that lower layers lose.
    pub gone: BTreeSet<String>,
    /// Real paths of directories that lower layers lose the content of.
    pub opaque: BTreeSet<String>,
    /// Directories without an entry of their own.
    pub implied: BTreeSet<String>,
    waiting: Vec<(String, String)>,
}

pub struct Loop;

fn parent_of(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

impl Tree {
    /// Takes entries in the order of an archive.
    pub fn of(ops: &[Op]) -> Result<Tree, Loop> {
        let mut tree = Tree::default();
        for op in ops {
            match op {
                Op::Put(path, node) => {
                    let path = tree.real(path, true)?.unwrap();
                    tree.waiting.retain(|(link, _)| *link != path);
                    let keeps = matches!((tree.nodes.get(&path), node), (Some(Node::Dir(_)), Node::Dir(_)));
                    if !keeps {
                        tree.remove(&path);
                    }
                    tree.implied.remove(&path);
                    tree.nodes.insert(path, node.clone());
                }
                Op::Hardlink(link, target) => tree.link(link, target)?,
                Op::Whiteout(path) => {
                    let path = tree.real(path, true)?.unwrap();
                    tree.gone.insert(path);
                }
                Op::Opaque(path) => {
                    let path = parent_of(&tree.real(&join(path, "x"), true)?.unwrap()).0.to_owned();
                    tree.opaque.insert(path);
                }
            }
        }
        // Links whose target came later; those that still wait are for a lower layer.
        loop {
            let waiting = std::mem::take(&mut tree.waiting);
            let count = waiting.len();
            for (link, target) in waiting {
                tree.link(&link, &target)?;
            }
            if tree.waiting.len() == count {
                return Ok(tree);
            }
        }
    }

    fn link(&mut self, link: &str, target: &str) -> Result<(), Loop> {
        let link = self.real(link, true)?.unwrap();
        let found = self.real(target, false)?.filter(|target| self.nodes.contains_key(target));
        match found {
            Some(found) if found == link => {}
            Some(found) => {
                let node = self.nodes[&found].clone();
                if matches!(node, Node::Dir(_)) || found.starts_with(&format!("{link}/")) {
                    return Err(Loop);
                }
                self.waiting.retain(|(other, _)| *other != link);
                self.remove(&link);
                self.nodes.insert(link, node);
            }
            None if self.real(target, false)?.as_deref() == Some(&link) => {}
            None => {
                self.waiting.retain(|(other, _)| *other != link);
                self.remove(&link);
                self.waiting.push((link, target.to_owned()));
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|other, _| other != path && !other.starts_with(&below));
        self.implied.retain(|other| other != path && !other.starts_with(&below));
        self.gone.retain(|other| !other.starts_with(&below));
        self.opaque.retain(|other| other != path && !other.starts_with(&below));
        self.waiting.retain(|(link, _)| !link.starts_with(&below));
    }

    /// The real path of a name, its last component not followed; `None` where a parent is missing and is not to be made.
    fn real(&mut self, path: &str, create: bool) -> Result<Option<String>, Loop> {
        let (parent, name) = parent_of(path);
        let mut at = String::new();
        for component in parent.split('/').filter(|c| !c.is_empty()) {
            let mut hops = 0;
            let mut todo = vec![component.to_owned()];
            while let Some(component) = todo.pop() {
                if component == ".." {
                    at = parent_of(&at).0.to_owned();
                    continue;
                }
                let next = join(&at, &component);
                match self.nodes.get(&next) {
                    Some(Node::Dir(_)) => at = next,
                    Some(Node::Symlink(target)) => {
                        hops += 1;
                        if hops > 40 {
                            return Err(Loop);
                        }
                        if target.starts_with('/') {
                            at.clear();
                        }
                        todo.extend(target.split('/').rev().filter(|c| !matches!(*c, "" | ".")).map(str::to_owned));
                    }
                    _ if !create => return Ok(None),
                    _ => {
                        self.remove(&next);
                        self.waiting.retain(|(link, _)| *link != next);
                        self.nodes.insert(next.clone(), Node::Dir(0o755));
                        self.implied.insert(next.clone());
                        at = next;
                    }
                }
            }
        }
        Ok(Some(join(&at, name)))
    }
}

/// What is seen of a layer on top of others.
pub fn merge(lower: &mut Tree, upper: &Tree) {
    let below = |path: &str, dir: &str| dir.is_empty() || path.starts_with(&format!("{dir}/"));
    for dir in &upper.opaque {
        lower.nodes.retain(|path, _| !below(path, dir));
    }
    for gone in &upper.gone {
        lower.nodes.retain(|path, _| path != gone && !below(path, gone));
    }
    for (path, node) in &upper.nodes {
        let is_implied = upper.implied.contains(path);
        let holds = |other: &String| below(other, path) && !upper.implied.contains(other);
        // A directory that only a whiteout is in is none.
        if is_implied
            && !upper.nodes.keys().any(holds)
            && !upper.opaque.iter().any(|dir| dir == path || below(dir, path))
        {
            continue;
        }
        let both_dirs = matches!((lower.nodes.get(path), node), (Some(Node::Dir(_)), Node::Dir(_)));
        if !both_dirs {
            lower.nodes.retain(|other, _| other != path && !below(other, path));
        }
        if !(both_dirs && is_implied) {
            lower.nodes.insert(path.clone(), node.clone());
        }
    }
}

/// A stream of choices that a seed decides.
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u64) -> Choices {
        Choices(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| ["a", "b", "c"][self.below(3) as usize]).collect::<Vec<_>>().join("/")
    }

    pub fn ops(&mut self, count: u64, with_links: bool) -> Vec<Op> {
        const TARGETS: [&str; 8] = ["a", "b", "../c", "/", "..", "/a/b", "../../b/a", "./c"];
        (0..count)
            .map(|_| {
                let path = self.path();
                match self.below(if with_links { 12 } else { 9 }) {
                    0..=3 => Op::Put(path, Node::File(self.below(1000) as u32)),
                    4..=5 => Op::Put(path, Node::Dir([0o755, 0o700, 0o555, 0o000][self.below(4) as usize])),
                    6 => Op::Whiteout(path),
                    7 => Op::Opaque(path),
                    8 => Op::Put(path, Node::Fifo),
                    9..=10 => Op::Put(path, Node::Symlink(TARGETS[self.below(8) as usize])),
                    _ => Op::Hardlink(path, self.path()),
                }
            })
            .collect()
    }
}

/// Every file has content and mode of its own, by which it is known again.
fn content(id: u32) -> Vec<u8> {
    format!("content {id}").into_bytes()
}

pub fn archive(ops: &[Op]) -> Vec<u8> {
    let marker = |path: &str| {
        let (parent, name) = parent_of(path);
        join(parent, &format!(".wh.{name}"))
    };
    let archive = ops.iter().fold(Archive::new(), |archive, op| match op {
        Op::Put(path, Node::File(id)) => archive.file(path.as_bytes(), &content(*id)),
        Op::Put(path, Node::Dir(mode)) => archive.entry(Header::new(b'5', path.as_bytes()).mode(u64::from(*mode)), b""),
        Op::Put(path, Node::Symlink(target)) => archive.symlink(path.as_bytes(), target.as_bytes()),
        Op::Put(path, Node::Fifo) => archive.entry(Header::new(b'6', path.as_bytes()), b""),
        Op::Hardlink(link, target) => archive.hardlink(link.as_bytes(), target.as_bytes()),
        Op::Whiteout(path) => archive.file(marker(path).as_bytes(), b""),
        Op::Opaque(path) => archive.file(join(path, ".wh..wh..opq").as_bytes(), b""),
    });
    archive.finish()
}

/// A tree as lines, markers left out.
pub fn lines(tree: &Tree) -> Vec<String> {
    tree.nodes
        .iter()
        .map(|(path, node)| match node {
            Node::Dir(mode) => format!("{path} dir {mode:04o}"),
            Node::File(id) => format!("{path} file {id}"),
            Node::Symlink(target) => format!("{path} -> {target}"),
            Node::Fifo => format!("{path} fifo"),
        })
        .collect()
}

/// What was found, in the same words.
pub fn found(nodes: &BTreeMap<String, super::Node>, root: &std::path::Path) -> Vec<String> {
    let mut lines: Vec<String> = nodes
        .iter()
        .filter(|(path, _)| *path != "." && !path.contains("/.wh."))
        .map(|(path, node)| {
            let path = path.trim_start_matches("./");
            match node.kind {
                "dir" => format!("{path} dir {:04o}", node.mode),
                "symlink" => format!("{path} -> {}", node.content),
                "file" => {
                    let text = std::fs::read_to_string(root.join(path)).unwrap();
                    format!("{path} file {}", text.trim_start_matches("content "))
                }
                kind => format!("{path} {kind}"),
            }
        })
        .collect();
    lines.sort();
    lines
}

/// The markers of the tree are what the layer hides.
fn markers(seen: &Seen) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut gone, mut opaque) = (BTreeSet::new(), BTreeSet::new());
    for path in seen.nodes.keys().filter(|path| path.contains("/.wh.")) {
        let (parent, name) = parent_of(path.trim_start_matches("./"));
        match name {
            ".wh..wh..opq" => opaque.insert(parent.to_owned()),
            _ => gone.insert(join(parent, &name[4..])),
        };
    }
    (gone, opaque)
}

#[test]
fn random_layers_agree_with_the_model() {
    as_each_user_capped(
        "families::model::random_layers_agree_with_the_model",
        || (),
        |()| {
            let bench = Bench::new();
            let (mut agreed, mut refused) = (0, 0);
            for seed in 0..400 {
                let mut choices = Choices::new(seed);
                let count = 1 + choices.below(14);
                let ops = choices.ops(count, true);
                // Directories that nobody can read are for the tests of modes; here the tree is to be read by everybody.
                let ops: Vec<Op> = ops
                    .into_iter()
                    .map(|op| match op {
                        Op::Put(path, Node::Dir(mode)) => Op::Put(path, Node::Dir(mode | 0o500)),
                        op => op,
                    })
                    .collect();
                let (blob, name) = (archive(&ops), format!("seed {seed}: {ops:?}"));
                match Tree::of(&ops) {
                    Ok(expected) => {
                        let seen = bench.see(&name, &blob, &ExtractOptions::default());
                        let mut lines = lines(&expected);
                        lines.sort();
                        assert_eq!(found(&seen.nodes, &seen.tree), lines, "{name}");
                        assert_eq!(markers(&seen), (expected.gone, expected.opaque), "{name}");
                        agreed += 1;
                    }
                    Err(Loop) => {
                        let error = bench.extract(&name, &blob, &ExtractOptions::default()).0.expect_err(&name);
                        assert!(matches!(error.status(), Status::Limit | Status::Malformed), "{name}: {error}");
                        refused += 1;
                    }
                }
            }
            assert!(agreed > 200 && refused > 5, "{agreed} agreed, {refused} refused");
        },
    );
}
