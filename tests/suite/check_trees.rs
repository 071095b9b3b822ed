//! What a check makes of a tree's metadata: each change of owner, mode, time, attribute, content,
//! link and type is found. Nothing is that a file system, a user namespace or another user makes of
//! them by itself.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use boxlite_images::{ExtractOptions, Status, WhiteoutForm};

use super::archive::{Archive, Header, gzip};
use super::check::{check, repair};
use super::loop_disk::LoopDisk;
use super::support::{as_each_user, has_tool, is_root, names_in, put_layer, quick_store, skip, temp_dir, wait_until};

/// A layer whose files have everything that can change.
fn rich_layer() -> Vec<u8> {
    let pax = [("SCHILY.xattr.user.a", &b"1"[..]), ("mtime", b"1234567890.123456789")];
    let archive = Archive::new()
        .entry(Header::new(b'5', b"d").mode(0o755).owner(1, 2), b"")
        .pax(&pax)
        .entry(Header::new(b'0', b"d/f").mode(0o644).owner(3, 4), b"content")
        .pax(&pax)
        .entry(Header::new(b'5', b"d/e").mode(0o1777), b"")
        .entry(Header::new(b'0', b"d/set-id").mode(0o4755), b"x")
        .file(b"d/empty", b"")
        .symlink(b"link", b"d/f")
        .hardlink(b"same", b"d/f")
        .entry(Header::new(b'6', b"fifo"), b"")
        .file(b"d/.wh.gone", b"");
    gzip(&archive.finish())
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

/// Changes something of a tree, as somebody would who keeps the time of what he changes; says what.
fn change(tree: &std::path::Path, numbers: &mut Numbers) -> String {
    use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};
    let files = ["d/f", "d/set-id", "d/empty", "d/.wh.gone"];
    let all = ["d", "d/f", "d/e", "d/set-id", "d/empty", "d/.wh.gone", "link", "fifo"];
    let name = all[numbers.below(all.len())];
    let file = files[numbers.below(files.len())];
    let open = |name: &str| tree.join(name);
    let times = |name: &str, seconds: i64| {
        let time = Timespec { tv_sec: seconds, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, open(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let keeping_time = |name: &str, change: &dyn Fn()| {
        let before = std::fs::symlink_metadata(open(name)).unwrap().modified().unwrap();
        change();
        let time = before.duration_since(std::time::UNIX_EPOCH).unwrap();
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, open(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let kinds = if is_root() { 9 } else { 8 };
    match numbers.below(kinds) {
        0 => {
            // Another mode, in one bit.
            let name = if name == "link" { "d/f" } else { name };
            let mode = std::fs::symlink_metadata(open(name)).unwrap().permissions().mode() & 0o7777;
            let bit = 1 << numbers.below(12);
            // What is not to lock us out of what comes next.
            let bit = if bit & 0o700 != 0 { 0o020 } else { bit };
            std::fs::set_permissions(open(name), std::fs::Permissions::from_mode(mode ^ bit)).unwrap();
            format!("mode {bit:o} of {name}")
        }
        1 => {
            times(name, 77);
            format!("time of {name}")
        }
        2 => {
            keeping_time(file, &|| {
                let mut content = std::fs::read(open(file)).unwrap();
                match content.first_mut() {
                    Some(first) => *first ^= 1,
                    None => content.push(b'x'),
                }
                let mode = std::fs::metadata(open(file)).unwrap().permissions();
                std::fs::write(open(file), content).unwrap();
                std::fs::set_permissions(open(file), mode).unwrap();
            });
            format!("content of {file}")
        }
        3 => {
            let name = ["d/f", "d/e"][numbers.below(2)];
            rustix::fs::setxattr(open(name), "user.a", b"2", XattrFlags::empty()).unwrap();
            format!("attribute of {name}")
        }
        4 => {
            let name = ["d/f", "d/e"][numbers.below(2)];
            rustix::fs::removexattr(open(name), "user.a").unwrap();
            format!("lost attribute of {name}")
        }
        5 => {
            rustix::fs::setxattr(open(file), "user.b", b"", XattrFlags::empty()).unwrap();
            format!("new attribute of {file}")
        }
        6 => {
            keeping_time("d", &|| {
                std::fs::remove_file(open(file)).unwrap();
                if numbers.0 & 1 == 0 {
                    std::fs::create_dir(open(file)).unwrap();
                }
            });
            format!("type of {file}")
        }
        7 => {
            let link = ["link", "same"][numbers.below(2)];
            keeping_time("", &|| {
                std::fs::remove_file(open(link)).unwrap();
                match link {
                    "link" => std::os::unix::fs::symlink("d/e", open(link)).unwrap(),
                    _ => drop(std::fs::copy(open("d/f"), open(link)).unwrap()),
                }
            });
            format!("link {link}")
        }
        _ => {
            let (uid, gid) = if numbers.below(2) == 0 { (Some(9), None) } else { (None, Some(9)) };
            let mode = std::fs::symlink_metadata(open(name)).unwrap().permissions();
            std::os::unix::fs::lchown(open(name), uid, gid).unwrap();
            if name != "link" {
                std::fs::set_permissions(open(name), mode).unwrap();
            }
            format!("owner of {name}")
        }
    }
}

/// 200 changes of owner, mode, time, attribute, content, link and type, by root and by an ordinary user. (Report 10.)
#[test]
fn every_change_of_a_tree_is_found() {
    as_each_user("check_trees::every_change_of_a_tree_is_found", || {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let digest = put_layer(&storage, &rich_layer());
        let (mut numbers, mut kinds) = (Numbers(10), std::collections::BTreeSet::new());
        for round in 0..200 {
            storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
            if round % 20 == 0 {
                assert_eq!(check(&storage), []);
            }
            let what = change(&storage.layer_extracted_path(&digest), &mut numbers);
            let found = storage.check(&repair()).unwrap().findings;
            assert_eq!(found.len(), 1, "{round}: {what}");
            kinds.insert(what);
        }
        assert!(kinds.len() > 40, "{kinds:?}");
    });
}

/// A user namespace, as long as this lives.
struct Namespace {
    child: std::process::Child,
    pid: String,
}

impl Namespace {
    /// With this map of users and of groups.
    fn new(map: &str) -> Namespace {
        let child = std::process::Command::new("unshare").args(["--user", "sleep", "600"]).spawn().unwrap();
        let pid = child.id().to_string();
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
        wait_until("there is a namespace", || of(&pid) != of("self"));
        for file in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{file}"), map).unwrap();
        }
        Namespace { child, pid }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Owners look different from inside a user namespace and from outside; that is no finding on either side.
#[test]
fn a_user_namespace_is_no_damage() {
    let tools = ["unshare", "nsenter", "setpriv"].iter().all(|tool| has_tool(tool));
    let Some(tool) = super::blimg::Tool::new() else { return };
    if !tools || !is_root() {
        return skip("user namespaces of somebody else need root, unshare, nsenter and setpriv");
    }
    let as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let alone = [&as_user[..], &["unshare", "--user", "--map-root-user"]].concat();
    // One that numbers everybody as outside, and one in which nobody but root has a number.
    let namespace = Namespace::new("0 0 100000");
    let same = ["nsenter", "--user", "--target", &namespace.pid];
    let (root, only_root): (&[&str], &[&str]) = (&[], &["unshare", "--user", "--map-root-user"]);
    for (made, checked) in [
        (&alone[..], vec![&alone[..], &as_user, root]),
        (root, vec![root, &same, only_root]),
        (&same, vec![root, &same, only_root]),
    ] {
        let storage = quick_store(&tool.store());
        let digest = put_layer(&storage, &rich_layer());
        let owner = Some(if made == &alone[..] { 65534 } else { 0 });
        let theirs = |path: &std::path::Path| std::os::unix::fs::chown(path, owner, owner).unwrap();
        theirs(&tool.path(""));
        theirs(&tool.store());
        names_in(&tool.store()).iter().for_each(|name| theirs(&tool.store().join(name)));
        let run = |words: &[&str], args: &[&str]| {
            let mut command = std::process::Command::new(words.first().copied().unwrap_or("env"));
            command.args(words.get(1..).unwrap_or_default()).arg(tool.path("blimg")).arg("--store").arg(tool.store());
            command.args(args).output().unwrap()
        };
        let blob = storage.layer_tarball_path(&digest).display().to_string();
        let extracted = run(made, &["extract", digest.as_str(), "--tarball", &blob]);
        assert!(extracted.status.success(), "{made:?}: {extracted:?}");
        for words in checked {
            let checked = run(words, &["check"]);
            assert!(checked.status.success(), "{made:?}, {words:?}: {checked:?}");
        }
        // What is the same on both sides is compared.
        std::fs::write(storage.layer_extracted_path(&digest).join("d/f"), "another").unwrap();
        assert_eq!(run(made, &["check"]).status.code(), Some(1));
        drop(storage);
        std::fs::remove_dir_all(tool.store()).unwrap();
    }
}

/// What a file system makes of metadata by itself is no damage. That is ACLs that it also lists
/// under another name, coarse times, a group that comes from the folder.
#[test]
fn what_file_systems_do_is_no_damage() {
    let acl = |users: &[(u16, u16, u32)]| {
        let mut value = vec![2, 0, 0, 0];
        for (tag, permissions, id) in users {
            value.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let none = u32::MAX;
    let named = acl(&[(1, 6, none), (2, 7, 1000), (4, 4, none), (16, 7, none), (32, 4, none)]);
    let plain = acl(&[(1, 7, none), (4, 5, none), (32, 0, none)]);
    let capability = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let access = "SCHILY.xattr.system.posix_acl_access";
    let keys: Vec<String> = (0..60).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let many: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &[b'x'; 50][..])).collect();
    let layer = Archive::new()
        .entry(Header::new(b'5', b"d").mode(0o2775).owner(0, 0), b"")
        .pax(&[(access, &named), ("mtime", b"-1.5")])
        .entry(Header::new(b'0', b"d/named").mode(0o640).owner(5, 6), b"x")
        .pax(&[(access, &named)])
        .entry(Header::new(b'0', b"d/read-only").mode(0o444), b"x")
        .pax(&[(access, &plain), ("mtime", b"99999999999")])
        .entry(Header::new(b'0', b"d/plain").mode(0o750), b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &named)])
        .entry(Header::new(b'5', b"d/default"), b"")
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .entry(Header::new(b'0', b"d/capable").mode(0o755), b"x")
        .entry(Header::new(b'0', b"d/set-gid").mode(0o2755).owner(0, 0), b"x")
        .entry(Header::new(b'3', b"null").device(1, 3), b"")
        // ACLs that say nothing, which the kernel takes for none.
        .pax(&[(access, b"")])
        .file(b"d/no-acl", b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &[2, 0, 0, 0])])
        .entry(Header::new(b'5', b"d/no-default"), b"")
        // More than the block that some file systems have for attributes.
        .pax(&[("SCHILY.xattr.user.long", &[b'x'; 990])])
        .file(b"d/long", b"x")
        .pax(&many)
        .file(b"d/many", b"x")
        .finish();
    let disks: Vec<LoopDisk> = [
        LoopDisk::ext4(16),
        LoopDisk::new("mkfs.ext4", &["-q", "-I", "128"], 16),
        LoopDisk::new("mkfs.ext4", &["-q", "-b", "1024"], 16),
        LoopDisk::new("mkfs.xfs", &["-q"], 320),
    ]
    .into_iter()
    .flatten()
    .collect();
    for folder in disks.iter().map(LoopDisk::path).chain([temp_dir().keep()]) {
        for (number, (mode, default_acl)) in [(0o700, false), (0o2775, false), (0o700, true)].into_iter().enumerate() {
            let storage = quick_store(&folder.join(number.to_string()));
            let extracted = storage.images_dir().join("extracted");
            std::fs::set_permissions(&extracted, std::fs::Permissions::from_mode(mode)).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&extracted, None, Some(50)).unwrap();
            }
            if default_acl {
                let key = "system.posix_acl_default";
                let _ = rustix::fs::setxattr(&extracted, key, &named, rustix::fs::XattrFlags::empty());
            }
            let digest = put_layer(&storage, &layer);
            for (whiteouts, override_stat) in [(0, false), (0, true), (1, false), (2, false)] {
                let mut options = ExtractOptions::default();
                options.tree.form.whiteouts =
                    [WhiteoutForm::Markers, WhiteoutForm::Overlay, WhiteoutForm::UserOverlay][whiteouts];
                options.tree.form.override_stat = override_stat;
                let extracted = storage.extract_layer(&digest, &options);
                // Not every file system has every form; none is full.
                let status = extracted.as_ref().err().map(boxlite_images::Error::status);
                assert!(matches!(status, None | Some(Status::Unsupported | Status::Permission)), "{extracted:?}");
                assert_eq!(check(&storage), [], "{} {mode:o} {whiteouts} {override_stat}", folder.display());
            }
            if is_root() {
                let tree = storage.layer_extracted_path(&digest);
                let stat = std::fs::metadata(tree.join("d/set-gid")).unwrap();
                assert_eq!((stat.uid(), stat.gid()), (0, 0), "the folder's group is not the layer's");
            }
        }
        if disks.iter().all(|disk| disk.path() != folder) {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

/// Root without some of its capabilities, and a user in a folder of his group's.
#[test]
fn lesser_roots_do_no_damage() {
    let Some(tool) = super::blimg::Tool::new() else { return };
    if !is_root() || !has_tool("setpriv") {
        return skip("capabilities are root's to give up, with setpriv");
    }
    let layer = Archive::new()
        .entry(Header::new(b'0', b"set-id").mode(0o6755).owner(7, 8), b"x")
        .entry(Header::new(b'0', b"set-gid").mode(0o2755).owner(7, 8), b"x")
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .entry(Header::new(b'0', b"read-only").mode(0o444).owner(7, 8), b"x")
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .entry(Header::new(b'5', b"d").mode(0o555).owner(7, 8), b"")
        .finish();
    let without = |capability: &str| {
        let set = format!("-{capability}");
        ["setpriv".to_owned(), format!("--bounding-set={set}"), format!("--inh-caps={set}")].to_vec()
    };
    let in_group = ["setpriv", "--reuid=65534", "--regid=65534", "--groups=50"].map(str::to_owned).to_vec();
    for (words, mode) in [
        (without("fsetid"), 0o755),
        (without("dac_override"), 0o755),
        (["setpriv", "--regid=1000", "--keep-groups"].map(str::to_owned).to_vec(), 0o2775),
        (in_group, 0o2775),
    ] {
        let storage = quick_store(&tool.store());
        let digest = put_layer(&storage, &layer);
        let owner = if words.iter().any(|word| word == "--reuid=65534") { 65534 } else { 0 };
        let folders = names_in(&tool.store()).into_iter().map(|name| tool.store().join(name));
        for path in folders.chain([tool.store(), tool.path("")]) {
            std::os::unix::fs::chown(&path, Some(owner), Some(50)).unwrap();
            if path.is_dir() {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        for form in ["markers", "override-stat"] {
            let run = |args: &[&str]| {
                let mut command = std::process::Command::new(&words[0]);
                command.args(&words[1..]).arg(tool.path("blimg")).arg("--store").arg(tool.store()).args(args);
                command.output().unwrap()
            };
            let blob = storage.layer_tarball_path(&digest).display().to_string();
            let extracted = run(&["extract", digest.as_str(), "--tarball", &blob, "--form", form]);
            assert!(extracted.status.success(), "{words:?}: {extracted:?}");
            assert_eq!(check(&storage), [], "{words:?} {form}");
            let checked = run(&["check"]);
            assert!(checked.status.success(), "{words:?} {form}: {checked:?}");
        }
        drop(storage);
        std::fs::remove_dir_all(tool.store()).unwrap();
    }
}

/// In the overlay forms a directory that became opaque hides what is below, and a placeholder without its attribute is a file.
#[test]
fn what_a_mount_would_show_is_compared() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let archive = Archive::new()
        .dir(b"d")
        .dir(b"e")
        .file(b"e/.wh..wh..opq", b"")
        .entry(Header::new(b'3', b"null").device(1, 3), b"");
    let digest = put_layer(&storage, &gzip(&archive.finish()));
    let mut options = ExtractOptions::default();
    options.tree.form.whiteouts = WhiteoutForm::UserOverlay;
    options.tree.form.override_stat = true;
    if storage.extract_layer(&digest, &options).is_err() {
        return skip("whiteouts are devices, which only root makes");
    }
    let tree = storage.extracted_path(&digest, options.tree.form);
    let none = rustix::fs::XattrFlags::empty();
    type Damage<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Damage<'_>); 3] = [
        (
            "\"d\": is opaque, and the layer does not say so",
            Box::new(|| {
                rustix::fs::setxattr(tree.join("d"), "user.overlay.opaque", b"y", none).unwrap();
            }),
        ),
        (
            "\"d\": has an attribute user.overlay.redirect that is not the layer's",
            Box::new(|| {
                rustix::fs::setxattr(tree.join("d"), "user.overlay.redirect", b"/x", none).unwrap();
            }),
        ),
        (
            "\"null\": its attribute user.containers.override_stat is lost",
            Box::new(|| {
                rustix::fs::removexattr(tree.join("null"), "user.containers.override_stat").unwrap();
            }),
        ),
    ];
    for (why, damage) in cases {
        storage.extract_layer(&digest, &options).unwrap();
        assert_eq!(check(&storage), []);
        damage();
        let found = storage.check(&repair()).unwrap().findings;
        assert!(found.len() == 1 && found[0].message.ends_with(why), "{found:?}");
    }
}
