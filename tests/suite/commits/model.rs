//! A reader that is not ours: the tar crate reads the archive of a committed layer. The model of what layers mean puts it on top of the
//! base. It comes to what the merged view showed.

use std::collections::BTreeMap;
use std::io::Read as _;

use boxlite_images::{CommitOptions, Digest, LayerCompression};

use super::super::families::model::{Node as ModelNode, Op, Tree, lines, merge};
use super::super::support::{quick_store, temp_dir};
use super::super::tree::{Node, snapshot};
use super::overlays::{Overlay, SCRIPTS, can_overlay};
use super::{base, base_layers, commit, comparable, rootfs};

/// What files have, by numbers: the model knows them by those.
#[derive(Default)]
struct Files(BTreeMap<String, u32>);

impl Files {
    fn number(&mut self, content: &str, mode: u32, owner: (u64, u64)) -> ModelNode {
        let next = self.0.len() as u32;
        ModelNode::File(*self.0.entry(format!("{content} {mode:o} {owner:?}")).or_insert(next))
    }
}

/// The model's targets live as long as the tests.
fn symlink(target: &[u8]) -> ModelNode {
    ModelNode::Symlink(String::from_utf8_lossy(target).into_owned().leak())
}

/// The content of a file with holes: a map in decimal lines, padded to whole blocks, and the data (GNU tar, "PAX Format, Version 1.0").
fn with_holes(stored: &[u8], size: usize) -> Vec<u8> {
    let mut at = 0;
    let mut number = || {
        let length = stored[at..].iter().position(|&byte| byte == b'\n').unwrap();
        let digits = std::str::from_utf8(&stored[at..at + length]).unwrap();
        at += length + 1;
        digits.parse::<usize>().unwrap()
    };
    let count = number();
    let parts: Vec<(usize, usize)> = (0..count).map(|_| (number(), number())).collect();
    let (mut data, mut content) = (&stored[at.next_multiple_of(512)..], vec![0; size]);
    for (offset, length) in parts {
        content[offset..offset + length].copy_from_slice(&data[..length]);
        data = &data[length..];
    }
    content
}

/// PAX records: `length key=value` and a newline, which the value may have too (POSIX.1-2001, pax).
fn records_of(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&byte| byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let (record, rest) = bytes.split_at(length);
        let (key, value) =
            record[space + 1..length - 1].split_at(record[space + 1..].iter().position(|&byte| byte == b'=').unwrap());
        records.insert(String::from_utf8_lossy(key).into_owned(), value[1..].to_vec());
        bytes = rest;
    }
    records
}

/// An archive in the model's words.
fn ops_of(archive: &[u8], files: &mut Files) -> Vec<Op> {
    let (mut ops, mut records) = (Vec::new(), BTreeMap::new());
    // As they stand: the crate takes a newline in a value for the end of it.
    for entry in tar::Archive::new(archive).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if header.entry_type() == tar::EntryType::XHeader {
            records = records_of(&content);
            continue;
        }
        let records = std::mem::take(&mut records);
        let said = |keys: &[&str]| keys.iter().find_map(|key| records.get(*key).cloned());
        let number = |key: &str| -> Option<u64> { std::str::from_utf8(records.get(key)?).unwrap().parse().ok() };
        let path = said(&["GNU.sparse.name", "path"]).unwrap_or_else(|| header.path_bytes().into_owned());
        let path = String::from_utf8_lossy(&path).trim_start_matches("./").trim_end_matches('/').to_owned();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let mode = header.mode().unwrap() & 0o7777;
        let owner = (
            number("uid").unwrap_or_else(|| header.uid().unwrap()),
            number("gid").unwrap_or_else(|| header.gid().unwrap()),
        );
        let target = said(&["linkpath"])
            .unwrap_or_else(|| header.link_name_bytes().map_or_else(Vec::new, |target| target.into_owned()));
        ops.push(match header.entry_type() {
            _ if path.is_empty() => continue,
            _ if name == ".wh..wh..opq" => Op::Opaque(parent.to_owned()),
            _ if name.starts_with(".wh.") && parent.is_empty() => Op::Whiteout(name[4..].to_owned()),
            _ if name.starts_with(".wh.") => Op::Whiteout(format!("{parent}/{}", &name[4..])),
            tar::EntryType::Directory => Op::Put(path, ModelNode::Dir(mode)),
            tar::EntryType::Symlink => Op::Put(path, symlink(&target)),
            tar::EntryType::Link => Op::Hardlink(path, String::from_utf8_lossy(&target).into_owned()),
            tar::EntryType::Regular => {
                if let Some(size) = number("GNU.sparse.realsize") {
                    content = with_holes(&content, size as usize);
                }
                Op::Put(path, files.number(&Digest::of(&content).to_string(), mode, owner))
            }
            tar::EntryType::Fifo | tar::EntryType::Char | tar::EntryType::Block => Op::Put(path, ModelNode::Fifo),
            other => panic!("{path}: {other:?}"),
        });
    }
    ops
}

fn tree_of(archive: &[u8], files: &mut Files) -> Tree {
    Tree::of(&ops_of(archive, files)).unwrap_or_else(|_| panic!("a layer that leads in a circle"))
}

/// What a merged view shows, in the same words.
fn shown(nodes: &BTreeMap<String, Node>, files: &mut Files) -> Vec<String> {
    let mut tree = Tree::default();
    for (path, node) in nodes {
        let path = path.trim_start_matches("./").to_owned();
        let in_words = match node.kind {
            "dir" => ModelNode::Dir(node.mode),
            "file" => files.number(&node.content, node.mode, (node.uid.into(), node.gid.into())),
            "symlink" => symlink(node.content.as_bytes()),
            _ => ModelNode::Fifo,
        };
        tree.nodes.insert(path, in_words);
    }
    lines(&tree)
}

#[test]
fn the_model_reads_what_was_committed() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let (base, lower) = (base(&storage), dir.path().join("lower"));
    rootfs(&storage, &base, &lower);
    let mut files = Files::default();
    for (number, (what, script)) in SCRIPTS.iter().enumerate() {
        let overlay = Overlay::new(&lower, &dir.path().join(number.to_string()), "");
        overlay.script(what, script);
        let expected = shown(&comparable(snapshot(&overlay.merged())), &mut files);
        let upper = overlay.upper();
        drop(overlay);
        let options = CommitOptions::default().compression(LayerCompression::Plain);
        let layer = commit(&storage, &base, &upper, &options).layer.unwrap();
        let archive = std::fs::read(storage.layer_tarball_path(&layer)).unwrap();
        let mut model = Tree::default();
        for layer in base_layers().iter().chain([&archive]) {
            merge(&mut model, &tree_of(layer, &mut files));
        }
        assert_eq!(lines(&model), expected, "{what}");
    }
}
