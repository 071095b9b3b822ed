//! Sources: what is left out, what is refused, and whose things are in the image.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use boxlite_images::{CommitOptions, CommitSource, ImageName, LayerCompression, Status};

use super::super::support::{
    as_each_user, assert_nothing_half_made, is_root, leftovers, names_in, quick_store, temp_dir,
};
use super::overlays::can_overlay;
use super::{base, commit, plain_upper, rootfs};

/// An ordinary user's tree has the user's files, and the image the owners that it had.
#[test]
fn a_user_s_tree_keeps_the_owners_of_the_image() {
    as_each_user("commits::sources::a_user_s_tree_keeps_the_owners_of_the_image", || {
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
    as_each_user("commits::sources::an_unreadable_part_is_an_error_that_names_it", || {
        if is_root() {
            return;
        }
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let base = base(&storage);
        let upper = plain_upper(dir.path());
        for name in ["large", "d"] {
            std::fs::set_permissions(upper.join(name), std::fs::Permissions::from_mode(0o000)).unwrap();
            let source = CommitSource::Upper(upper.clone());
            let error = storage.commit_image(Some(&base), &source, &CommitOptions::default()).unwrap_err();
            assert!(error.status() == Status::Permission && error.to_string().contains(name), "{error}");
            std::fs::set_permissions(upper.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
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

/// A file of the same size and time, with another content, is found where that is asked for.
#[test]
fn content_is_compared_where_that_is_asked_for() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let tree = dir.path().join("tree");
    rootfs(&storage, &base, &tree);
    let before = std::fs::metadata(tree.join("f")).unwrap();
    std::fs::write(tree.join("f"), b"BASE\n").unwrap();
    std::fs::File::options()
        .write(true)
        .open(tree.join("f"))
        .unwrap()
        .set_modified(before.modified().unwrap())
        .unwrap();
    for (compares, entries) in [(false, 0), (true, 1)] {
        let options = CommitOptions::default().compares_content(compares);
        let committed = storage.commit_image(Some(&base), &CommitSource::Tree(tree.clone()), &options).unwrap();
        assert_eq!(committed.entries, entries, "{committed:?}");
    }
}

/// A socket means nothing, and what had its name is gone.
#[test]
fn a_socket_in_place_of_a_file_takes_it_away() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let upper = plain_upper(dir.path());
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("f")).unwrap();
    let committed = commit(&storage, &base, &upper, &CommitOptions::default());
    let at = dir.path().join("root");
    rootfs(&storage, &committed.image, &at);
    assert!(committed.sockets == 1 && !at.join("f").exists() && at.join("x").exists());
}

/// What the root of an upper directory has says how the overlay was mounted.
#[test]
fn root_reads_a_user_s_upper_directory() {
    if !can_overlay() {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let upper = dir.path().join("upper");
    let script = "mkdir -p upper/d && setfattr -n user.overlay.impure -v y upper && setfattr -n user.overlay.opaque -v y upper/d";
    assert!(Command::new("bash").args(["-ec", script]).current_dir(dir.path()).status().unwrap().success());
    let committed = commit(&storage, &base, &upper, &CommitOptions::default());
    let at = dir.path().join("root");
    rootfs(&storage, &committed.image, &at);
    assert_eq!(names_in(&at.join("d")), [""; 0]);
}

/// Nobody but root can read what root's overlays have noted.
#[test]
fn somebody_else_s_upper_directory_is_refused() {
    as_each_user("commits::sources::somebody_else_s_upper_directory_is_refused", || {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let committed = storage.commit_image(None, &CommitSource::Upper("/etc/skel".into()), &CommitOptions::default());
        if !is_root() {
            assert_eq!(committed.unwrap_err().status(), Status::Permission);
        }
    });
}
