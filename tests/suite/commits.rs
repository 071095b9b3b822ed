//! What was changed in an overlay comes back as an image: the kernel makes the changes, and the image has what its merged view had.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{
    CommitOptions, CommitSource, CommittedImage, ConfigChanges, Image, ImageName, LayerCompression, RootfsMode,
    RootfsOptions, Status, Storage,
};

use super::archive::{Archive, Header};
use super::images::put_image_that_runs;
use super::loop_disk::LoopDisk;
use super::support::{
    assert_nothing_half_made, has_tool, is_root, leftovers, names_in, quick_store, run, skip, temp_dir,
    temp_dir_in_memory,
};
use super::tree::{Node, differences, snapshot};

/// Changes, made by a shell in the merged view of the base.
const SCRIPTS: &[(&str, &str)] = &[
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
    ("an attribute of a symlink", "setfattr -h -n trusted.t -v 1 s"),
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
    ("a deep directory", "p=.; for i in $(seq 100); do p=$p/x; done; mkdir -p $p && echo deep >$p/f"),
    ("removed and made deep below", "rm -r deep/a/b && mkdir -p deep/a/b/c && echo n >deep/a/b/c/n"),
    ("removed below what is opaque", "rm -r d && mkdir d && echo 1 >d/1 && rm d/1"),
    ("a new file removed", "echo x >x1 && rm x1"),
    ("a directory of the base that was only read", "ls d >/dev/null; cat d/f >/dev/null"),
    ("an entry in each directory", "find . -type d -exec touch {}/.touched ';'"),
];

fn base_layers() -> Vec<Vec<u8>> {
    let wide =
        (0..50).fold(Archive::new().dir(b"wide"), |archive, n| archive.file(format!("wide/{n}").as_bytes(), b"w"));
    let lower = wide
        .file(b"f", b"base\n")
        .dir(b"d")
        .file(b"d/f", b"in d\n")
        .dir(b"d/e")
        .file(b"d/e/g", b"g")
        .dir(b"deep")
        .dir(b"deep/a")
        .dir(b"deep/a/b")
        .file(b"deep/a/b/f", b"f")
        .symlink(b"s", b"d/f")
        .file(b"l1", b"linked")
        .hardlink(b"l2", b"l1")
        .pax(&[("SCHILY.xattr.user.base", b"1")])
        .file(b"x", b"x");
    let upper =
        Archive::new().file(b"d/.wh.gone", b"").entry(Header::new(b'0', b"owned").owner(10, 20).mode(0o640), b"o");
    vec![lower.finish(), upper.finish()]
}

fn base(storage: &Storage) -> Image {
    let run = r#"{"Env":["PATH=/bin","HOME=/root"],"Cmd":["sh"],"Labels":{"a":"b"}}"#;
    storage.open_image_by_digest(&put_image_that_runs(storage, run, &base_layers())).unwrap()
}

fn rootfs(storage: &Storage, image: &Image, at: &Path) {
    let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
    options.tree.form.device_nodes = is_root();
    storage.assemble_rootfs(image, at, &options).unwrap();
}

fn commit(storage: &Storage, base: &Image, upper: &Path, options: &CommitOptions) -> CommittedImage {
    storage.commit_image(Some(base), &CommitSource::Upper(upper.to_path_buf()), options).unwrap()
}

/// An overlay over a directory, in folders of its own.
struct Overlay(PathBuf);

impl Overlay {
    fn new(lower: &Path, at: &Path, more: &str) -> Overlay {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| at.join(name));
        [&upper, &work, &merged].map(|folder| std::fs::create_dir_all(folder).unwrap());
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

    fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    fn merged(&self) -> PathBuf {
        self.0.join("merged")
    }

    fn script(&self, what: &str, script: &str) {
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
fn can_overlay() -> bool {
    if !is_root() {
        skip("mounting an overlay needs root");
        return false;
    }
    ["mount", "setfattr", "setfacl", "setcap"].iter().all(|tool| has_tool(tool))
}

/// Without the root, whose metadata is the upper directory's own, and what overlayfs itself shows.
fn comparable(mut tree: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    tree.remove(".");
    for node in tree.values_mut() {
        node.xattrs.retain(|(key, _)| !key.starts_with("trusted.overlay."));
    }
    tree
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

/// An ordinary user's tree has the user's files, and the image the owners that it had.
#[test]
fn a_user_s_tree_keeps_the_owners_of_the_image() {
    super::support::as_each_user("commits::a_user_s_tree_keeps_the_owners_of_the_image", || {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let base = base(&storage);
        let tree = dir.path().join("tree");
        rootfs(&storage, &base, &tree);
        std::fs::write(tree.join("d/new"), b"new").unwrap();
        std::fs::remove_file(tree.join("f")).unwrap();
        let committed =
            storage.commit_image(Some(&base), &CommitSource::Tree(tree), &CommitOptions::default()).unwrap();
        // The directory, which has another time, what is new in it, and what is gone.
        assert_eq!(committed.entries, 3, "{committed:?}");
        let entries = storage
            .extract_layer(committed.layer.as_ref().unwrap(), &Default::default())
            .map(|_| ())
            .and_then(|()| storage.layer_entries(committed.layer.as_ref().unwrap(), Default::default()));
        for entry in entries.unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.uid, entry.gid), (0, 0), "{entry:?}");
        }
    });
}

/// The kernel's whiteouts from 6.7 on, as an overlay in an overlay has them, made by hand: a directory marked `x`, and files in it.
#[test]
fn whiteouts_that_are_files_count_where_they_may_be() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let upper = dir.path().join("upper");
    let script = "mkdir d wide && : >d/f && setfattr -n trusted.overlay.whiteout -v y d/f && setfattr -n trusted.overlay.opaque -v x d
        : >wide/1 && setfattr -n trusted.overlay.whiteout -v y wide/1";
    std::fs::create_dir(&upper).unwrap();
    assert!(Command::new("bash").args(["-ec", script]).current_dir(&upper).status().unwrap().success());
    let committed = commit(&storage, &base, &upper, &CommitOptions::default());
    let at = dir.path().join("root");
    rootfs(&storage, &committed.image, &at);
    assert!(!at.join("d/f").exists() && at.join("d/e/g").exists(), "d is not opaque, and f is gone");
    assert_eq!(std::fs::read(at.join("wide/1")).unwrap(), b"", "wide is not marked");
}

#[test]
fn what_is_only_below_or_cannot_be_said_is_refused_by_name() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let cases = [
        ("mkdir moved && setfattr -n trusted.overlay.redirect -v /d moved", "moved", "redirect_dir"),
        ("echo x >meta && setfattr -n trusted.overlay.metacopy meta", "meta", "metacopy"),
        ("mkdir a && echo x >a/.wh.b", "a/.wh.b", ".wh."),
        ("mkdir .wh..wh..opq", ".wh..wh..opq", ".wh."),
        ("echo x >f && setfattr -n user.containers.override_stat -v nonsense f", "f", "override_stat"),
    ];
    for (number, (script, name, why)) in cases.into_iter().enumerate() {
        let upper = dir.path().join(number.to_string());
        std::fs::create_dir(&upper).unwrap();
        assert!(Command::new("bash").args(["-ec", script]).current_dir(&upper).status().unwrap().success());
        let error =
            storage.commit_image(Some(&base), &CommitSource::Upper(upper), &CommitOptions::default()).unwrap_err();
        assert_eq!(error.status(), Status::Unsupported, "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains(why), "{error}");
        assert_nothing_half_made(dir.path(), script);
    }
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// A directory that is there without root, for what needs none.
fn plain_upper(dir: &Path) -> PathBuf {
    let upper = dir.join("upper");
    std::fs::create_dir_all(upper.join("d")).unwrap();
    std::fs::write(upper.join("d/new"), b"new").unwrap();
    std::fs::write(upper.join("large"), vec![7; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("d/new", upper.join("link")).unwrap();
    upper
}

#[test]
fn bad_sources_are_refused_and_nothing_stays() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let upper = plain_upper(dir.path());
    let options = CommitOptions::default();
    let mut few = options.clone();
    few.limits.entries = 2;
    let mut small = options.clone();
    small.limits.layer_bytes = 1_000_000;
    let cases = [
        (dir.path().join("none"), options.clone(), Status::NotFound),
        (dir.path().join("file"), options.clone(), Status::InvalidArgument),
        (upper.clone(), few, Status::Limit),
        (upper.clone(), small, Status::Limit),
        (upper.clone(), options.clone().level(77), Status::InvalidArgument),
        (upper.clone(), options.clone().compression(LayerCompression::Plain).level(1), Status::InvalidArgument),
    ];
    let before = (names_in(&storage.images_dir().join("layers")), names_in(&storage.images_dir().join("manifests")));
    for (source, options, status) in cases {
        let name = ImageName::parse("example.org/new:1").unwrap();
        let options = options.name(name.clone());
        let error = storage.commit_image(Some(&base), &CommitSource::Upper(source), &options).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert_eq!(storage.image(&name).unwrap_err().status(), Status::NotFound);
    }
    let after = (names_in(&storage.images_dir().join("layers")), names_in(&storage.images_dir().join("manifests")));
    assert_eq!(before, after);
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn an_unreadable_part_is_an_error_that_names_it() {
    super::support::as_each_user("commits::an_unreadable_part_is_an_error_that_names_it", || {
        if is_root() {
            return;
        }
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let base = base(&storage);
        let upper = plain_upper(dir.path());
        for name in ["large", "d"] {
            std::fs::set_permissions(upper.join(name), std::fs::Permissions::from_mode(0)).unwrap();
            let source = CommitSource::Upper(upper.clone());
            let error = storage.commit_image(Some(&base), &source, &CommitOptions::default()).unwrap_err();
            assert!(error.status() == Status::Permission && error.to_string().contains(name), "{error}");
            std::fs::set_permissions(upper.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
}

#[test]
fn a_config_grows_and_changes() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let mut changes = ConfigChanges::default();
    changes.entrypoint = Some(vec!["/init".into()]);
    changes.cmd = Some(Vec::new());
    changes.env = vec!["HOME=/home".into(), "NEW=1".into()];
    changes.unset_env = vec!["PATH".into()];
    changes.labels = [("c".to_owned(), "d".to_owned())].into();
    changes.unset_labels = vec!["a".into()];
    changes.exposed_ports = vec!["80/tcp".into()];
    changes.user = Some("7:8".into());
    let name = ImageName::parse("example.org/new:1").unwrap();
    let options = CommitOptions::default().epoch(1_000_000_000).changes(changes).author("me").message("why");
    let committed = commit(&storage, &base, &plain_upper(dir.path()), &options.name(name.clone()));
    let config = &committed.image.config;
    assert_eq!(config.env, ["HOME=/home", "NEW=1"]);
    assert_eq!((&config.entrypoint[..], &config.cmd[..]), (&["/init".to_owned()][..], &[][..]));
    assert_eq!(config.labels, [("c".to_owned(), "d".to_owned())].into());
    assert_eq!((&config.exposed_ports[..], &config.user[..]), (&["80/tcp".to_owned()][..], "7:8"));
    assert_eq!(config.created, "2001-09-09T01:46:40Z");
    assert_eq!(config.diff_ids[..2], base.config.diff_ids[..]);
    let raw: serde_json::Value = serde_json::from_slice(&committed.image.config_bytes).unwrap();
    let last = raw["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["author"], &last["comment"]), (&"me".into(), &"why".into()));
    assert_eq!(storage.open_image(&name).unwrap().manifest_digest, committed.image.manifest_digest);
    // Without a base it is the first layer.
    let source = CommitSource::Upper(dir.path().join("upper"));
    let first = storage.commit_image(None, &source, &CommitOptions::default()).unwrap();
    assert_eq!((first.image.manifest.layers.len(), first.image.config.diff_ids.len()), (1, 1));
    assert_eq!(first.image.config.os, "linux");
}

/// The same changes are the same layer, wherever they lie, and with an epoch the same image.
#[test]
fn the_same_changes_are_the_same_image_on_every_file_system() {
    let dirs = [temp_dir(), temp_dir_in_memory()];
    let xfs = LoopDisk::new("mkfs.xfs", &["-q"], 400);
    let mut places: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_path_buf()).collect();
    places.extend(xfs.as_ref().map(LoopDisk::path));
    let store_dir = temp_dir();
    for compression in [LayerCompression::Zstd, LayerCompression::Gzip, LayerCompression::Plain] {
        let mut found = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let upper = place.join("upper");
            if !upper.exists() {
                plain_upper(place);
                std::fs::File::create(upper.join("sparse")).unwrap().set_len(5 << 20).unwrap();
                std::fs::write(upper.join("zeros"), vec![0; 5 << 20]).unwrap();
            }
            let storage = quick_store(&store_dir.path().join(format!("{compression:?}-{number}")));
            let options = CommitOptions::default().epoch(1_000_000_000).compression(compression);
            let committed = commit(&storage, &base(&storage), &upper, &options);
            found.push((committed.layer, committed.image.manifest_digest));
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{compression:?}: {found:?}");
    }
}

/// Sockets mean nothing without their process.
#[test]
fn sockets_are_left_out_and_counted() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let upper = plain_upper(dir.path());
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    let committed = commit(&storage, &base, &upper, &CommitOptions::default());
    assert_eq!(committed.sockets, 1);
    let at = dir.path().join("root");
    rootfs(&storage, &committed.image, &at);
    assert!(!at.join("socket").exists() && at.join("d/new").exists());
}

/// What layers come to stays, whichever of them become one.
#[test]
fn squashed_layers_come_to_the_same() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let mut stacks: Vec<Vec<Vec<u8>>> = super::families::assembly::layers_of_all();
    stacks.push(
        (0..127u32)
            .map(|n| {
                let archive = Archive::new()
                    .file(format!("f{n}").as_bytes(), n.to_string().as_bytes())
                    .file(b"same", n.to_string().as_bytes());
                let archive =
                    if n % 3 == 2 { archive.file(format!(".wh.f{}", n - 1).as_bytes(), b"") } else { archive };
                if n % 5 == 4 {
                    archive.hardlink(format!("l{n}").as_bytes(), format!("f{}", n - 2).as_bytes())
                } else {
                    archive
                }
                .finish()
            })
            .collect(),
    );
    let (mut squashed, mut refused) = (0, 0);
    for (number, layers) in stacks.into_iter().enumerate() {
        let image = storage.open_image_by_digest(&super::images::put_image_of(&storage, "x", &layers)).unwrap();
        let expected = dir.path().join(format!("{number}"));
        let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
        options.tree.form.device_nodes = is_root();
        if storage.assemble_rootfs(&image, &expected, &options).is_err() {
            refused += 1;
            continue;
        }
        let mut froms = vec![0];
        froms.extend((layers.len() > 1).then_some(layers.len() / 2));
        for from in froms.into_iter().filter(|from| *from < layers.len()) {
            let made = storage.squash_image(&image, from, &CommitOptions::default()).unwrap();
            assert_eq!(made.image.manifest.layers.len(), from + 1);
            let at = dir.path().join(format!("{number}-{from}"));
            storage.assemble_rootfs(&made.image, &at, &options).unwrap();
            let differences = differences(&comparable(snapshot(&expected)), &comparable(snapshot(&at)));
            assert!(differences.is_empty(), "stack {number} from {from}: {differences:#?}");
            squashed += 1;
        }
    }
    eprintln!("{squashed} squashed, {refused} stacks refused");
    assert!(squashed > 50 && refused < 20, "{squashed} {refused}");
}
