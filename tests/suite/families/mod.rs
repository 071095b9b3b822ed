//! Layers as users and attackers make them, by the numbered families of input that they belong to. The number is the
//! first word of a case's name.
//!
//! Each case is extracted inside a directory full of things to damage, as root and as an ordinary
//! user. Its process has a watchdog and a cap on memory. What it must come to is said beside it;
//! whatever it is, nothing outside the target may change, and a failure leaves nothing behind.

pub mod assembly;
mod compression;
pub mod disks;
mod documents;
mod framing;
mod hardlinks;
mod metadata;
pub mod model;
mod names;
mod overlay;
mod resources;
pub mod sandboxes;
mod sparse;
mod trees;
mod whiteouts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boxlite_images::{
    Anomalies, Digest, Error, ExtractOptions, Extraction, LayerEntry, LayerEntryKind, Status, Storage, TreeForm,
    WhiteoutForm,
};

use super::archive::{gzip, zstd};
use super::support::{as_each_user_capped, leftovers, put_layer, quick_store, record_of, watched};
use super::tree::{Canary, Node, snapshot};

/// A layer and what it must come to.
pub struct Case {
    pub name: String,
    pub layer: Vec<u8>,
    outcome: Outcome,
}

/// What a case must come to.
pub enum Outcome {
    /// The tree has these paths: `path`, `path=content`, `path->target`, `path/` for a directory; and nothing else.
    Tree(Vec<String>),
    Fails(Status),
    /// It is extracted, and what came of it is looked at.
    Seen(Box<dyn Fn(&Seen)>),
    /// It is extracted.
    Accepted,
    /// Either a tree or a typed error.
    Contained,
}

/// What came of a layer.
pub struct Seen {
    pub tree: PathBuf,
    pub nodes: BTreeMap<String, Node>,
    pub done: Extraction,
    pub entries: Vec<LayerEntry>,
}

impl Seen {
    pub fn node(&self, path: &str) -> &Node {
        self.nodes.get(&format!("./{path}")).unwrap_or_else(|| panic!("no {path} among {:?}", self.nodes.keys()))
    }

    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(&format!("./{path}"))
    }

    pub fn entry(&self, path: &str) -> &LayerEntry {
        let mut found = self.entries.iter().filter(|entry| entry.path == path.as_bytes());
        let entry = found.next().unwrap_or_else(|| panic!("no entry {path}"));
        assert!(found.next().is_none(), "{path} is in the record twice");
        entry
    }

    pub fn has_anomaly(&self, anomaly: Anomalies) -> bool {
        self.done.anomalies.contains(anomaly)
    }
}

pub fn tree<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Outcome {
    Outcome::Tree(lines.into_iter().map(Into::into).collect())
}

pub fn fails(status: Status) -> Outcome {
    Outcome::Fails(status)
}

pub fn seen(check: impl Fn(&Seen) + 'static) -> Outcome {
    Outcome::Seen(Box::new(check))
}

pub fn case(name: impl Into<String>, layer: Vec<u8>, outcome: Outcome) -> Case {
    Case { name: name.into(), layer, outcome }
}

/// A store inside a canary.
pub struct Bench {
    pub canary: Canary,
    pub storage: Storage,
}

impl Bench {
    pub fn new() -> Bench {
        let canary = Canary::new();
        let storage = quick_store(&canary.target().join("store"));
        Bench { canary, storage }
    }

    /// Extracts a layer, and checks what holds for every layer.
    pub fn extract(&self, name: &str, blob: &[u8], options: &ExtractOptions) -> (Result<Extraction, Error>, PathBuf) {
        let digest = put_layer(&self.storage, blob);
        let result = watched(name, || self.storage.extract_layer(&digest, options));
        let tree = self.storage.extracted_path(&digest, options.tree.form);
        if let Err(error) = &result {
            assert!(!tree.exists() && !record_of(&tree).exists(), "{name}: left a tree");
            // Family 135.
            assert!(!error.message().contains(['\n', '\x1b']) && error.message().len() < 2000, "{name}: {error}");
            assert_ne!(error.status(), Status::Internal, "{name}: {error}");
        }
        assert_eq!(leftovers(self.storage.images_dir()), [""; 0], "{name}");
        self.canary.assert_untouched(name);
        (result, tree)
    }

    pub fn see(&self, name: &str, blob: &[u8], options: &ExtractOptions) -> Seen {
        let (result, tree) = self.extract(name, blob, options);
        let done = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        let entries = entries(&self.storage, &Digest::of(blob), options.tree.form);
        check_record(name, &tree, &entries, options.tree.form);
        Seen { nodes: snapshot(&tree), tree, done, entries }
    }
}

pub fn entries(storage: &Storage, digest: &Digest, form: TreeForm) -> Vec<LayerEntry> {
    storage.layer_entries(digest, form).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Every path of the tree is in the record, once, as what it is, and the record has no other path of the tree.
fn check_record(name: &str, tree: &Path, entries: &[LayerEntry], form: TreeForm) {
    use std::os::unix::ffi::OsStrExt as _;
    let mut recorded: BTreeMap<&[u8], &LayerEntry> = BTreeMap::new();
    for entry in entries {
        use LayerEntryKind::*;
        if !matches!(entry.kind, Whiteout | Opaque | LowerLink) {
            assert!(recorded.insert(&entry.path, entry).is_none(), "{name}: {entry:?} is recorded twice");
        }
    }
    let mut open = vec![tree.to_owned()];
    let mut is_complete = true;
    while let Some(dir) = open.pop() {
        let Ok(found) = std::fs::read_dir(&dir) else {
            // Locked, or deeper than a path can say.
            is_complete = false;
            continue;
        };
        for found in found {
            let found = found.unwrap().path();
            let path = found.strip_prefix(tree).unwrap().as_os_str().as_bytes();
            let Ok(meta) = std::fs::symlink_metadata(&found) else {
                is_complete = false;
                continue;
            };
            let file_name = found.file_name().unwrap().as_bytes();
            let is_marker = file_name.starts_with(b".wh.") && form.whiteouts == WhiteoutForm::Markers;
            let is_whiteout = {
                use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
                meta.file_type().is_char_device() && meta.rdev() == 0
            };
            if meta.is_dir() {
                open.push(found.clone());
            }
            if is_marker || is_whiteout {
                continue;
            }
            let entry = recorded.remove(path).unwrap_or_else(|| panic!("{name}: {found:?} is not in the record"));
            let mut kind = entry.kind;
            let mut at = entry;
            while kind == LayerEntryKind::Hardlink {
                // The entry that it links to, which has the metadata.
                at = entries
                    .iter()
                    .find(|other| other.path == at.link && !matches!(other.kind, LayerEntryKind::Whiteout))
                    .unwrap_or_else(|| panic!("{name}: {at:?} links to nothing"));
                kind = at.kind;
            }
            let fits = match kind {
                LayerEntryKind::Directory => meta.is_dir(),
                LayerEntryKind::Symlink => meta.is_symlink(),
                LayerEntryKind::File => meta.is_file() && meta.len() == at.size,
                _ => !meta.is_dir(),
            };
            assert!(fits, "{name}: {found:?} is not {entry:?}");
        }
    }
    recorded.remove(&b""[..]);
    assert!(recorded.is_empty() || !is_complete, "{name}: recorded and not there: {recorded:?}");
}

/// Runs cases, each plain or compressed in turn.
fn run(cases: Vec<Case>) {
    for (i, Case { name, layer, outcome }) in cases.into_iter().enumerate() {
        let blob = match i % 3 {
            0 => layer,
            1 => gzip(&layer),
            _ => zstd(&layer),
        };
        run_one(&name, &blob, &outcome);
    }
}

/// Runs cases as they are: their compression is what they are about.
fn run_as_is(cases: Vec<Case>) {
    for Case { name, layer, outcome } in cases {
        run_one(&name, &layer, &outcome);
    }
}

fn run_one(name: &str, blob: &[u8], outcome: &Outcome) {
    let bench = Bench::new();
    let options = ExtractOptions::default();
    match outcome {
        Outcome::Contained => {
            let (result, tree) = bench.extract(name, blob, &options);
            if result.is_ok() {
                check_record(
                    name,
                    &tree,
                    &entries(&bench.storage, &Digest::of(blob), options.tree.form),
                    options.tree.form,
                );
            }
        }
        Outcome::Fails(status) => match bench.extract(name, blob, &options).0 {
            Ok(_) => panic!("{name}: accepted, expected {status:?}"),
            Err(error) => assert_eq!(error.status(), *status, "{name}: {error}"),
        },
        Outcome::Accepted => drop(bench.see(name, blob, &options)),
        Outcome::Seen(check) => check(&bench.see(name, blob, &options)),
        Outcome::Tree(expected) => {
            let seen = bench.see(name, blob, &options);
            assert_eq!(shown(&seen), *expected, "{name}");
        }
    }
}

fn shown(seen: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in seen.nodes.iter().filter(|(path, _)| *path != ".") {
        let path = path.trim_start_matches("./");
        let content = || String::from_utf8_lossy(&std::fs::read(seen.tree.join(path)).unwrap()).into_owned();
        lines.push(match node.kind {
            "dir" => format!("{path}/"),
            "symlink" => format!("{path}->{}", node.content),
            "file" if node.size > 0 => format!("{path}={}", content()),
            "file" => path.to_owned(),
            kind => format!("{path} {kind}"),
        });
    }
    lines
}

macro_rules! case_tests {
    ($($test:ident: $run:ident($cases:path);)*) => {
        $(
            #[test]
            fn $test() {
                as_each_user_capped(concat!("families::", stringify!($test)), $cases, $run);
            }
        )*

        /// Every case there is.
        pub fn all_cases() -> Vec<Case> {
            let mut cases = Vec::new();
            $(cases.extend($cases());)*
            cases
        }
    };
}

case_tests! {
    names_and_paths: run(names::cases);
    hard_links: run(hardlinks::cases);
    whiteouts_as_markers: run(whiteouts::cases);
    every_type_replaces_every_type: run(trees::replacements);
    must_accept: run(trees::must_accept);
    metadata_of_entries: run(metadata::cases);
    framing_of_entries: run(framing::cases);
    sparse_files: run(sparse::cases);
    compressed_layers: run_as_is(compression::cases);
    resources_and_limits: run(resources::cases);
}

/// Each of the 135 families has a case or a test that is named after it.
#[test]
fn every_family_is_covered() {
    let mut covered = std::collections::BTreeSet::new();
    let cases = all_cases();
    for case in &cases {
        let number = case.name.split(' ').next().unwrap();
        covered.insert(number.parse::<u32>().unwrap_or_else(|_| panic!("{} has no number", case.name)));
    }
    // Tests by their names: family_17_x, families_116_117_x. A range (families_6_to_19_x) counts for its first only.
    let mut sources = vec![super::support::repository().join("src"), super::support::repository().join("tests")];
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("fn famil")) {
            let words: Vec<&str> = line.split('(').next().unwrap().split('_').skip(1).collect();
            let number = |i: usize| words.get(i).and_then(|word| word.parse::<u32>().ok());
            covered.extend((0..words.len()).map_while(number));
        }
    }
    // Of stacks of layers.
    covered.extend(assembly::numbers());
    let missing: Vec<u32> = (1..=135).filter(|family| !covered.contains(family)).collect();
    assert!(missing.is_empty(), "no test for families {missing:?}");
    assert!(cases.len() >= 550, "only {} archives", cases.len());
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    eprintln!("{} archives", cases.len());
}

/// Writes the cases as a first corpus for the fuzz targets, each also with the byte that chooses a form.
#[test]
fn corpus_for_fuzzing() {
    let Some(dir) = std::env::var_os("BL_WRITE_CORPUS").map(PathBuf::from) else { return };
    for (target, choices) in [("entries", &[None][..]), ("unpack", &[Some(0u8), Some(1), Some(6)])] {
        std::fs::create_dir_all(dir.join(target)).unwrap();
        let layers = all_cases().into_iter().map(|case| case.layer).filter(|layer| layer.len() <= 8192);
        for (i, layer) in layers.enumerate() {
            let choice = choices[i % choices.len()];
            let bytes: Vec<u8> = choice.into_iter().chain(layer).collect();
            std::fs::write(dir.join(target).join(format!("case-{i:04}")), bytes).unwrap();
        }
    }
    std::fs::create_dir_all(dir.join("merge")).unwrap();
    for (i, layers) in assembly::layers_of_all().into_iter().enumerate() {
        // Before each layer how many blocks it has.
        let block = |layer: Vec<u8>| [&((layer.len() / 512) as u16).to_le_bytes()[..], &layer].concat();
        let bytes: Vec<u8> = layers.into_iter().flat_map(block).collect();
        std::fs::write(dir.join("merge").join(format!("stack-{i:04}")), bytes).unwrap();
    }
}
