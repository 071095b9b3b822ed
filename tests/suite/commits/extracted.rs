//! The new layer's extracted form, which comes to be with it: the same tree and the same record as one that is unpacked.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boxlite_images::{
    Cancel, CheckOptions, CommitOptions, CommitSource, Digest, ExtractOptions, Interrupt, Status, Storage, TreeForm,
    TreeOptions, WhiteoutForm,
};

use super::super::archive::Archive;
use super::super::loop_disk::LoopDisk;
use super::super::support::{as_each_user, is_root, leftovers, names_in, quick_store, skip, temp_dir};
use super::super::tree::{Node, differences, snapshot};
use super::{base, comparable, plain_upper, rootfs};

/// Something of each kind that an upper directory can have without root.
const SCRIPT: &str = "mkdir -p d/e n && echo changed >f && ln f n/linked && : >empty && chmod 4711 f && ln -s d/f s && mkfifo p
    head -c 3000000 /dev/urandom >large && truncate -s 50M sparse && printf x | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
    setfattr -n user.a -v 1 f n && touch -d @1000000000.5 f n
    setfattr -n user.a=b -v 2 f && touch -d @300000000000 empty";
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

fn xfs(mib: u64) -> Option<LoopDisk> {
    let disk = LoopDisk::new("mkfs.xfs", &["-q", "-m", "reflink=1"], mib);
    if disk.is_none() {
        skip("shared blocks need XFS");
    }
    disk
}

fn keeping(form: TreeForm) -> CommitOptions {
    let mut tree = TreeOptions::default();
    tree.form = form;
    CommitOptions::default().extract(tree)
}

/// Where nothing can be shared the packed layer is unpacked.
#[test]
fn a_tree_is_kept_without_shared_blocks_too() {
    as_each_user("commits::extracted::a_tree_is_kept_without_shared_blocks_too", || compare(temp_dir().path()));
}

#[test]
fn a_kept_tree_is_what_unpacking_makes() {
    if let Some(disk) = xfs(900) {
        compare(&disk.path());
    }
}

/// Root mounts, and an ordinary user commits: the child finds the place by the number of its parent.
#[test]
fn a_user_s_kept_tree_is_what_unpacking_makes() {
    let note = |process: u32| std::env::temp_dir().join(format!("boxlite-xfs-{process}"));
    if !is_root() {
        if let Ok(place) = std::fs::read_to_string(note(std::os::unix::process::parent_id())) {
            compare(Path::new(&place));
        }
        return;
    }
    let Some(disk) = xfs(900) else { return };
    std::fs::set_permissions(disk.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(disk.path().parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(note(std::process::id()), disk.path().display().to_string()).unwrap();
    as_each_user("commits::extracted::a_user_s_kept_tree_is_what_unpacking_makes", || {});
    std::fs::remove_file(note(std::process::id())).unwrap();
    assert!(disk.path().join("ours-0").is_dir(), "the child found nothing");
}

/// What is kept of a tree that is compared is what was changed in it.
#[test]
fn a_kept_tree_of_a_changed_tree() {
    let Some(disk) = xfs(600) else { return };
    let storage = quick_store(&disk.path().join("store"));
    let (base, tree) = (base(&storage), disk.path().join("tree"));
    rootfs(&storage, &base, &tree);
    let made =
        Command::new("bash").args(["-ec", "echo more >>f && rm -r d && echo new >new"]).current_dir(&tree).status();
    assert!(made.unwrap().success());
    let source = CommitSource::Tree(tree.clone());
    let kept = storage.commit_image(Some(&base), &source, &keeping(TreeForm::default())).unwrap();
    let layer = kept.layer.unwrap();
    assert!(storage.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
    assert_eq!(names_in(&storage.extracted_path(&layer, TreeForm::default())), [".wh.d", "f", "new"]);
    let again = disk.path().join("again");
    rootfs(&storage, &kept.image, &again);
    let found = differences(&comparable(snapshot(&tree)), &comparable(snapshot(&again)));
    assert!(found.is_empty(), "{found:#?}");
}

/// Files of another file system below cannot be cloned. What was made until then goes.
#[test]
fn a_tree_is_given_up_at_the_first_file_that_cannot_be_cloned() {
    let Some(disk) = xfs(600) else { return };
    let storage = quick_store(&disk.path().join("store"));
    let upper = disk.path().join("upper");
    let script = "mkdir a b && echo 1 >a/1 && mount -t tmpfs none b && echo 2 >b/2 && echo 3 >c";
    std::fs::create_dir(&upper).unwrap();
    assert!(Command::new("bash").args(["-ec", script]).current_dir(&upper).status().unwrap().success());
    let options = keeping(TreeForm::default()).crosses_file_systems(true);
    let committed = storage.commit_image(None, &CommitSource::Upper(upper.clone()), &options);
    Command::new("umount").arg("-l").arg(upper.join("b")).status().unwrap();
    let layer = committed.unwrap().layer.unwrap();
    assert!(storage.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
    assert_eq!(names_in(&storage.extracted_path(&layer, TreeForm::default())), ["a", "b", "c"]);
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// What is shared needs no room: not even the largest file that there can be.
#[test]
fn a_kept_tree_needs_no_room_for_what_it_shares() {
    let Some(disk) = xfs(600) else { return };
    let storage = quick_store(&disk.path().join("store"));
    let upper = disk.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    let sparse = std::fs::File::create(upper.join("sparse")).unwrap();
    sparse.set_len(2 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 1 << 30).unwrap();
    let layer = storage.commit_image(None, &CommitSource::Upper(upper), &keeping(TreeForm::default()));
    let layer = layer.unwrap().layer.unwrap();
    assert!(storage.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
}

/// The limits are those of the commit, whether the tree is unpacked or not.
#[test]
fn limits_of_a_kept_tree_are_those_of_the_commit() {
    let dir = temp_dir();
    let disk = xfs(600);
    for place in [dir.path().to_path_buf()].into_iter().chain(disk.as_ref().map(LoopDisk::path)) {
        let storage = quick_store(&place.join("store"));
        let upper = plain_upper(&place);
        let mut options = keeping(TreeForm::default());
        options.extract.as_mut().unwrap().limits.entries = 1;
        storage.commit_image(None, &CommitSource::Upper(upper.clone()), &options).unwrap();
        options.limits.entries = 1;
        let error = storage.commit_image(None, &CommitSource::Upper(upper), &options).unwrap_err();
        assert_eq!(error.status(), Status::Limit, "{error}");
    }
}

/// Forms that are not possible are refused before anything is packed.
#[test]
fn impossible_forms_are_refused_at_once() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let mut form = TreeForm::default();
    (form.erofs, form.device_nodes) = (true, true);
    let source = CommitSource::Upper(plain_upper(dir.path()));
    let error = storage.commit_image(None, &source, &keeping(form)).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument, "{error}");
    assert_eq!(names_in(&storage.images_dir().join("layers")), [""; 0]);
}

#[test]
fn archives_and_squashed_layers_are_extracted_too() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let archive = dir.path().join("layer.tar");
    std::fs::write(&archive, Archive::new().file(b"new", b"new").finish()).unwrap();
    let options = keeping(TreeForm::default());
    let committed = storage.commit_image(Some(&base), &CommitSource::Archive(archive), &options).unwrap();
    let squashed = storage.squash_image(&committed.image, 0, &options).unwrap();
    for made in [committed, squashed] {
        assert!(storage.extract_layer(&made.layer.unwrap(), &ExtractOptions::default()).unwrap().cached);
    }
}

/// A walk that is ahead ends with the call.
#[test]
fn a_walk_ends_when_the_call_does() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let tree = dir.path().join("tree");
    (0..200).for_each(|folder| {
        let folder = tree.join(folder.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        (0..100).for_each(|file| std::fs::write(folder.join(file.to_string()), b"").unwrap());
    });
    let cancel = Cancel::new();
    cancel.trigger();
    for timeout in [None, Some(Duration::from_nanos(1))] {
        let token = timeout.is_none().then(|| cancel.clone());
        let options = CommitOptions::default().interrupt(Interrupt::new(token, timeout));
        let error = storage.commit_image(None, &CommitSource::Tree(tree.clone()), &options).unwrap_err();
        assert!(matches!(error.status(), Status::Cancelled | Status::Timeout), "{error}");
    }
}

#[test]
fn a_kept_tree_shares_blocks_with_the_source() {
    let Some(disk) = xfs(900) else { return };
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

/// One is made beside the packing, the other one of the packed layer. Whoever is later takes what is there.
#[test]
fn a_kept_tree_and_an_extraction_of_one_layer_meet() {
    let Some(disk) = xfs(600) else { return };
    let storage = quick_store(&disk.path().join("store"));
    let upper = disk.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    (0..300).for_each(|n| std::fs::write(upper.join(n.to_string()), [b'x'; 5000]).unwrap());
    let source = CommitSource::Upper(upper);
    let layer = storage.commit_image(None, &source, &CommitOptions::default()).unwrap().layer.unwrap();
    let tree = storage.extracted_path(&layer, TreeForm::default());
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let extracted = scope.spawn(|| storage.extract_layer(&layer, &ExtractOptions::default()));
            let kept = storage.commit_image(None, &source, &keeping(TreeForm::default())).unwrap();
            assert_eq!(kept.layer.as_ref(), Some(&layer));
            extracted.join().unwrap().unwrap();
        });
        assert!(storage.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
        assert_eq!(names_in(&tree).len(), 300);
        assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
        std::fs::remove_dir_all(&tree).unwrap();
    }
    storage.extract_layer(&layer, &ExtractOptions::default()).unwrap();
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}
