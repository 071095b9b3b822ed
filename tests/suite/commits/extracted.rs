//! The new layer's extracted form, which comes to be with it: the same tree and the same record as one that is unpacked.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use boxlite_images::{
    CheckOptions, CommitOptions, CommitSource, Digest, ExtractOptions, Status, Storage, TreeForm, TreeOptions,
    WhiteoutForm,
};

use super::super::loop_disk::LoopDisk;
use super::super::support::{as_each_user, is_root, leftovers, names_in, quick_store, skip, temp_dir};
use super::super::tree::{Node, differences, snapshot};
use super::{base, plain_upper};

/// Something of each kind that an upper directory can have without root.
const SCRIPT: &str = "mkdir -p d/e n && echo changed >f && ln f n/linked && : >empty && chmod 4711 f && ln -s d/f s && mkfifo p
    head -c 3000000 /dev/urandom >large && truncate -s 50M sparse && printf x | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
    setfattr -n user.a -v 1 f n && touch -d @1000000000.5 f n";
/// What only root can make.
const SCRIPT_OF_ROOT: &str =
    "mknod gone c 0 0 && mknod d/gone c 0 0 && setfattr -n trusted.overlay.opaque -v y n && mknod device c 1 3
    chown 7:8 f && chown -h 9:10 s";

fn upper_of(dir: &Path) -> std::path::PathBuf {
    let upper = dir.join("upper");
    std::fs::create_dir_all(&upper).unwrap();
    for script in [SCRIPT, SCRIPT_OF_ROOT].iter().take(if is_root() { 2 } else { 1 }) {
        let made = Command::new("bash").args(["-ec", script]).current_dir(&upper).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    upper
}

fn forms() -> Vec<TreeForm> {
    let form = |change: fn(&mut TreeForm)| {
        let mut form = TreeForm::default();
        change(&mut form);
        form
    };
    let mut forms = vec![TreeForm::default(), form(|form| form.override_stat = true), form(|form| form.erofs = true)];
    forms.push(form(|form| form.whiteouts = WhiteoutForm::UserOverlay));
    if is_root() {
        forms.push(form(|form| form.whiteouts = WhiteoutForm::Overlay));
        forms.push(form(|form| form.device_nodes = true));
    }
    forms
}

/// The lines of a record, whose head says when and by whom the tree was made.
fn record_of(storage: &Storage, layer: &Digest, form: TreeForm) -> Vec<String> {
    storage.layer_entries(layer, form).unwrap().map(|entry| format!("{:?}", entry.unwrap())).collect()
}

/// A tree without the times of overlayfs' whiteouts, which are when each was made.
fn timeless(tree: &Path) -> BTreeMap<String, Node> {
    let mut nodes = snapshot(tree);
    nodes.values_mut().filter(|node| node.kind == "char" && node.content == "0").for_each(|node| node.mtime = 0);
    nodes
}

/// The tree that a commit keeps, against one that is unpacked from the same layer in another store.
fn compare(dir: &Path) {
    let upper = upper_of(dir);
    for (number, form) in forms().into_iter().enumerate() {
        let ours = quick_store(&dir.join(format!("ours-{number}")));
        let theirs = quick_store(&dir.join(format!("theirs-{number}")));
        let mut extracting = ExtractOptions::default();
        extracting.tree.form = form;
        let source = CommitSource::Upper(upper.clone());
        let options = CommitOptions::default().extract(extracting.tree.clone());
        let kept = ours.commit_image(Some(&base(&ours)), &source, &options).unwrap().layer.unwrap();
        let packed = theirs.commit_image(Some(&base(&theirs)), &source, &CommitOptions::default()).unwrap();
        assert_eq!(packed.layer.as_ref(), Some(&kept), "{form:?}: another layer");
        assert!(!theirs.extract_layer(&kept, &extracting).unwrap().cached);
        assert!(ours.extract_layer(&kept, &extracting).unwrap().cached, "{form:?}: was not kept");
        let [ours_at, theirs_at] = [&ours, &theirs].map(|storage| storage.extracted_path(&kept, form));
        if form.erofs {
            assert_eq!(std::fs::read(ours_at).unwrap(), std::fs::read(theirs_at).unwrap());
        } else {
            let found = differences(&timeless(&theirs_at), &timeless(&ours_at));
            assert!(found.is_empty(), "{form:?}: {found:#?}");
            assert_eq!(record_of(&theirs, &kept, form), record_of(&ours, &kept, form), "{form:?}");
        }
        // The files are what the record says.
        assert_eq!(ours.check(&CheckOptions::default()).unwrap().findings, [], "{form:?}");
        assert_eq!(leftovers(ours.images_dir()), [""; 0]);
    }
}

#[test]
fn a_kept_tree_is_what_unpacking_makes() {
    as_each_user("commits::extracted::a_kept_tree_is_what_unpacking_makes", || compare(temp_dir().path()));
}

#[test]
fn a_kept_tree_shares_blocks_with_the_source() {
    let Some(disk) = LoopDisk::new("mkfs.xfs", &["-q", "-m", "reflink=1"], 900) else {
        return skip("shared blocks need XFS");
    };
    compare(&disk.path());
    let large = disk.path().join("upper-2");
    std::fs::create_dir(&large).unwrap();
    // A third of it in the layer at most, and all of it in a tree of its own.
    let text: String = (0..5 << 20).map(|line| format!("{line:012}\n")).collect();
    std::fs::write(large.join("large"), &text).unwrap();
    let storage = quick_store(&disk.path().join("store"));
    let used = disk.used();
    let options = CommitOptions::default().extract(TreeOptions::default());
    let layer = storage.commit_image(None, &CommitSource::Upper(large), &options).unwrap().layer.unwrap();
    assert!(storage.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
    let more = disk.used() - used;
    assert!(more < text.len() as u64 / 2, "{more} bytes more for a file of {} that is there already", text.len());
}

/// Strict options refuse what is odd: no name, and no tree.
#[test]
fn what_is_refused_of_a_tree_leaves_none() {
    as_each_user("commits::extracted::what_is_refused_of_a_tree_leaves_none", || {
        if !is_root() {
            return;
        }
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let upper = plain_upper(dir.path());
        let made = Command::new("mknod").arg(upper.join("null")).args(["c", "1", "3"]).status().unwrap();
        assert!(made.success());
        let tree = TreeOptions::default().strict(true);
        let options = CommitOptions::default().extract(tree).name(boxlite_images::ImageName::parse("app:1").unwrap());
        let error = storage.commit_image(None, &CommitSource::Upper(upper), &options).unwrap_err();
        assert_eq!(error.status(), Status::Malformed, "{error}");
        assert_eq!(storage.images().unwrap().len(), 0);
        assert_eq!(names_in(&storage.images_dir().join("extracted")), [""; 0]);
        assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    });
}
