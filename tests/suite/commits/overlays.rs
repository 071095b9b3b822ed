//! Overlays: the kernel makes the changes, and the image has what its merged view had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{CommitOptions, CommitSource, LayerCompression, Status};

use super::super::support::{as_each_user, has_tool, is_root, leftovers, quick_store, run, skip, temp_dir};
use super::super::tree::{Node, differences, snapshot};
use super::{base, commit, comparable, rootfs};

/// Changes, made by a shell in the merged view of the base.
pub(super) const SCRIPTS: &[(&str, &str)] = &[
    ("nothing", ":"),
    ("a new file", "echo new >new"),
    ("a new file in a directory of the base", "echo new >d/new"),
    ("a new directory with files", "mkdir -p n/e/w && echo 1 >n/e/w/1 && echo 2 >n/2"),
    ("a file with another content", "echo other >f"),
    ("a file that is longer", "echo more >>d/f"),
    ("an empty file", ": >empty"),
    ("a file that was cut", ": >f"),
    ("a large file", "head -c 3000000 /dev/urandom >large"),
    ("a file removed", "rm f"),
    ("a file removed in a directory", "rm d/f"),
    ("a directory removed", "rm -r d"),
    ("everything removed", "rm -r ./*"),
    ("a file in place of a file", "rm f && echo again >f"),
    ("a directory in place of a file", "rm f && mkdir f && echo in >f/in"),
    ("a file in place of a directory", "rm -r d && echo file >d"),
    ("a directory in place of a directory", "rm -r d && mkdir d && echo new >d/new"),
    ("an empty directory in place of a full one", "rm -r d && mkdir d"),
    ("a symlink in place of a file", "rm f && ln -s d/f f"),
    ("a symlink in place of a directory", "rm -r d && ln -s deep d"),
    ("a directory in place of a symlink", "rm s && mkdir s && echo x >s/x"),
    ("a symlink that leads elsewhere", "ln -sfn elsewhere s"),
    ("a symlink with a long target", "ln -s $(printf 'a/%.0s' $(seq 200))z long"),
    ("a symlink that leads nowhere", "ln -s '' e 2>/dev/null || ln -s nowhere e"),
    ("a mode", "chmod 4711 f && chmod 1777 d"),
    ("an owner", "chown 1:2 f && chown 3:4 d && chown -h 5:6 s"),
    ("an owner of 32 bits", "chown 4000000000:3000000000 f"),
    ("a time", "touch -d @1000000000.123456789 f d"),
    ("a time before 1970", "touch -d @-1000.5 f"),
    ("attributes", "setfattr -n user.a -v 1 f && setfattr -n user.b -v 2 d"),
    ("an attribute that goes", "setfattr -x user.base x"),
    ("an attribute with odd bytes", "setfattr -n user.odd -v 0x000a3d00ff f"),
    ("an attribute with an equals sign in its name", "setfattr -n user.a=b -v c f"),
    ("an access control list", "setfacl -m u:1234:rwx f && setfacl -d -m g:77:rx d"),
    ("a capability", "setcap cap_net_raw+ep f"),
    ("a hard link", "ln f also"),
    ("hard links of a new file", "echo n >n1 && ln n1 d/n2 && ln n1 n0"),
    ("a hard link to a symlink", "ln -P s s2"),
    ("a name of several removed", "rm l1"),
    ("a renamed file", "mv f g"),
    ("a renamed new directory", "mkdir n && echo x >n/x && mv n m"),
    ("a renamed directory of the base, copied", "cp -a d e && rm -r d"),
    ("a fifo", "mkfifo p"),
    ("devices", "mknod c c 1 3 && mknod b b 7 0 && mknod big c 511 1048575"),
    ("a sparse file", "truncate -s 50M sparse && printf x | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none"),
    ("a sparse file that is all hole", "truncate -s 10M hole"),
    ("a file of zeros", "head -c 1000000 /dev/zero >zeros"),
    (
        "long names",
        "mkdir $(printf 'd%.0s' $(seq 255)) && echo x >$(printf 'd%.0s' $(seq 255))/$(printf 'f%.0s' $(seq 255))",
    ),
    (
        "names with odd bytes",
        "printf x >\"$(printf 'a\\nb')\" && printf y >\"$(printf '\\377\\001')\" && printf z >' ' && printf w >-rf",
    ),
    ("names like those of markers", "echo x >.w && echo y >..wh.x && mkdir .who && echo z >wh.a"),
    ("many files", "mkdir many && for i in $(seq 500); do echo $i >many/$i; done"),
    ("many files removed", "rm wide/*5"),
    ("a deep directory", "p=.; for i in $(seq 100); do p=$p/y; done; mkdir -p $p && echo deep >$p/f"),
    ("removed and made deep below", "rm -r deep/a/b && mkdir -p deep/a/b/c && echo n >deep/a/b/c/n"),
    ("removed below what is opaque", "rm -r d && mkdir d && echo 1 >d/1 && rm d/1"),
    ("a new file removed", "echo x >x1 && rm x1"),
    ("a directory of the base that was only read", "ls d >/dev/null; cat d/f >/dev/null"),
    ("an entry in each directory", "find . -type d -exec touch {}/.touched ';'"),
];

/// An overlay over a directory, in folders of its own.
pub(super) struct Overlay(PathBuf);

impl Overlay {
    pub(super) fn new(lower: &Path, at: &Path, more: &str) -> Overlay {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| at.join(name));
        [&upper, &work, &merged].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        // What the merged view shows of the root is the upper directory's.
        std::fs::set_permissions(&upper, std::fs::metadata(lower).unwrap().permissions()).unwrap();
        let options =
            format!("lowerdir={},upperdir={},workdir={}{more}", lower.display(), upper.display(), work.display());
        run(
            "mount",
            &["-t".as_ref(), "overlay".as_ref(), "-o".as_ref(), options.as_ref(), "none".as_ref(), merged.as_ref()],
        );
        Overlay(at.to_path_buf())
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(super) fn merged(&self) -> PathBuf {
        self.0.join("merged")
    }

    pub(super) fn script(&self, what: &str, script: &str) {
        let made = Command::new("bash").args(["-ec", script]).current_dir(self.merged()).output().unwrap();
        assert!(made.status.success(), "{what}: {made:?}");
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // A child that another test is starting has all our handles for a moment.
        Command::new("umount").arg("-l").arg(self.merged()).status().ok();
    }
}

/// Whether overlays can be mounted, and changed by the tools of the scripts.
pub fn can_overlay() -> bool {
    if !is_root() {
        skip("mounting an overlay needs root");
        return false;
    }
    ["mount", "setfattr", "setfacl", "setcap"].iter().all(|tool| has_tool(tool))
}

#[test]
fn what_the_merged_view_shows_is_what_the_image_has() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let lower = dir.path().join("lower");
    rootfs(&storage, &base, &lower);
    for (number, (what, script)) in SCRIPTS.iter().enumerate() {
        let overlay = Overlay::new(&lower, &dir.path().join(number.to_string()), "");
        overlay.script(what, script);
        let expected = comparable(snapshot(&overlay.merged()));
        let upper = overlay.upper();
        drop(overlay);
        let compression = [LayerCompression::Zstd, LayerCompression::Gzip, LayerCompression::Plain][number % 3];
        let committed = commit(&storage, &base, &upper, &CommitOptions::default().compression(compression));
        assert_eq!(committed.image.manifest.layers.len(), base.manifest.layers.len() + 1, "{what}");
        let at = dir.path().join(format!("{number}.root"));
        rootfs(&storage, &committed.image, &at);
        let differences = differences(&expected, &comparable(snapshot(&at)));
        assert!(differences.is_empty(), "{what}: {differences:#?}");
        std::fs::remove_dir_all(&at).unwrap();
    }
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// The same changes in a tree of its own, which is compared with what the base's records say.
#[test]
fn a_changed_tree_is_what_the_image_has() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let lower = dir.path().join("lower");
    rootfs(&storage, &base, &lower);
    for (number, (what, script)) in SCRIPTS.iter().enumerate() {
        let (tree, at) = (dir.path().join(format!("{number}.tree")), dir.path().join(format!("{number}.root")));
        run("cp", &["-a".as_ref(), lower.as_ref(), tree.as_ref()]);
        let made = Command::new("bash").args(["-ec", script]).current_dir(&tree).output().unwrap();
        assert!(made.status.success(), "{what}: {made:?}");
        let expected = comparable(snapshot(&tree));
        let source = CommitSource::Tree(tree.clone());
        let committed = storage.commit_image(Some(&base), &source, &CommitOptions::default()).unwrap();
        if *what == "nothing" {
            assert_eq!(committed.entries, 0, "{committed:?}");
        }
        rootfs(&storage, &committed.image, &at);
        let differences = differences(&expected, &comparable(snapshot(&at)));
        assert!(differences.is_empty(), "{what}: {differences:#?}");
        std::fs::remove_dir_all(&at).unwrap();
        std::fs::remove_dir_all(&tree).unwrap();
    }
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// The kernel keeps hard links of lower files with `index=on`. The upper directory has some of their names.
const INDEXED: &[(&str, &str, Option<&str>)] = &[
    ("one name written to", "echo more >>l1", None),
    ("the other name written to", "echo more >>l2", None),
    ("a further name", "ln l1 d/l3", None),
    ("a further name, and written to", "ln l2 a && echo more >>a", None),
    ("a mode", "chmod 4700 l2", None),
    ("a name replaced by another file", "echo more >>l1 && rm l2 && echo other >l2", None),
    ("both names removed", "rm l1 l2", None),
    ("a file without further names", "echo more >>f && rm x", None),
    ("a directory with names in it", "echo more >>l1 && mkdir n && ln l1 n/l", None),
    ("a name that is gone", "rm l1", Some("l1")),
    ("a name that is gone, after it was written to", "echo more >>l1 && rm l1", Some("l1")),
];

#[test]
fn hard_links_to_lower_files_are_kept_as_the_overlay_shows_them() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let lower = dir.path().join("lower");
    rootfs(&storage, &base, &lower);
    for (number, (what, script, refused)) in INDEXED.iter().enumerate() {
        let overlay = Overlay::new(&lower, &dir.path().join(number.to_string()), ",index=on");
        overlay.script(what, script);
        let expected = comparable(snapshot(&overlay.merged()));
        let upper = overlay.upper();
        drop(overlay);
        let committed =
            storage.commit_image(Some(&base), &CommitSource::Upper(upper.clone()), &CommitOptions::default());
        if let Some(name) = refused {
            let error = committed.unwrap_err();
            assert_eq!(error.status(), Status::Unsupported, "{what}: {error}");
            assert!(error.to_string().contains(name) && error.to_string().contains("index=on"), "{what}: {error}");
            continue;
        }
        let at = dir.path().join(format!("{number}.root"));
        rootfs(&storage, &committed.unwrap().image, &at);
        let differences = differences(&expected, &comparable(snapshot(&at)));
        assert!(differences.is_empty(), "{what}: {differences:#?}");
    }
}

/// In a user namespace, overlays with `userxattr` have their attributes below `user.overlay.`.
#[test]
fn what_a_user_s_overlay_shows_is_what_the_image_has() {
    as_each_user("commits::overlays::what_a_user_s_overlay_shows_is_what_the_image_has", || {
        if is_root() || !can_overlay_as_user() {
            return;
        }
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let base = base(&storage);
        let lower = dir.path().join("lower");
        rootfs(&storage, &base, &lower);
        let mut ran = 0;
        for (number, (what, script)) in SCRIPTS.iter().enumerate() {
            // Devices and other owners are for root.
            if ["chown", "mknod", "setcap", "setfacl"].iter().any(|word| script.contains(word)) {
                continue;
            }
            let at = dir.path().join(number.to_string());
            let [upper, work, merged, copy] = ["upper", "work", "merged", "copy"].map(|name| at.join(name));
            [&upper, &work, &merged].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
            let text = |path: &Path| path.display().to_string();
            let all = format!(
                "mount -t overlay -o lowerdir={},upperdir={},workdir={},userxattr none {merged} && cd {merged} && {{ {script}\n}} && cp -a . {}",
                text(&lower),
                text(&upper),
                text(&work),
                text(&copy),
                merged = text(&merged)
            );
            let made = Command::new("unshare").args(["-Urm", "bash", "-ec", &all]).output().unwrap();
            assert!(made.status.success(), "{what}: {made:?}");
            let committed = commit(&storage, &base, &upper, &CommitOptions::default());
            let root = at.join("root");
            rootfs(&storage, &committed.image, &root);
            let differences = differences(&unlinked(snapshot(&copy)), &unlinked(snapshot(&root)));
            assert!(differences.is_empty(), "{what}: {differences:#?}");
            ran += 1;
        }
        assert!(ran > 40, "{ran}");
    });
}

/// A copy out of an overlay has hard links as files of their own.
fn unlinked(tree: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let mut tree = comparable(tree);
    tree.values_mut().for_each(|node| node.same_as.clear());
    tree
}

/// Whether this kernel has an ordinary user mount overlays in a namespace of its own.
fn can_overlay_as_user() -> bool {
    let dir = temp_dir();
    ["u", "w"].iter().for_each(|folder| std::fs::create_dir(dir.path().join(folder)).unwrap());
    let mount = "mount -t overlay -o lowerdir=/usr,upperdir=u,workdir=w,userxattr none u";
    let made = Command::new("unshare").args(["-Urm", "bash", "-ec", mount]).current_dir(dir.path()).output();
    let can = made.is_ok_and(|made| made.status.success());
    if !can {
        skip("an ordinary user cannot mount an overlay here");
    }
    can
}
