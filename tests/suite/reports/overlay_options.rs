//! Report 9 (substrate#467, infra#836): with 35 to 40 layers the options of an overlay mount are longer than the page that
//! mount(2) takes. Docker and containers/storage mount from a directory of short links then.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boxlite_images::{GcOptions, Image, ImageName, OverlayOptions, RootfsOptions, Storage, WhiteoutForm};

use super::super::archive::Archive;
use super::super::images::put_image_of;
use super::super::support::{is_root, names_in, quick_store, skip, temp_dir};
use super::super::tree::{differences, snapshot};

/// As many as Docker allows.
const LAYERS: usize = 127;
/// What mount(2) takes, with the NUL.
const PAGE: usize = 4096;

/// Each layer has a file of its own, and one that they all have.
fn image_of(storage: &Storage, layers: usize) -> Image {
    let tars: Vec<Vec<u8>> = (0..layers)
        .map(|number| {
            let number = number.to_string();
            let own = format!("d/{number}");
            Archive::new().dir(b"d").file(own.as_bytes(), b"").file(b"last", number.as_bytes()).finish()
        })
        .collect();
    let digest = put_image_of(storage, "x", &tars);
    storage.tag_image(&ImageName::parse("many:1").unwrap(), &digest).unwrap();
    storage.open_image_by_digest(&digest).unwrap()
}

fn options() -> OverlayOptions {
    let mut options = OverlayOptions::default();
    options.tree.form.whiteouts = WhiteoutForm::UserOverlay;
    options
}

/// Mounts with a directory to write to, from `dir`; whether that could be done.
fn mounted(dir: Option<&Path>, options: &str, work: &Path, look: impl FnOnce(&Path)) -> bool {
    let [upper, inner, at] = ["upper", "work", "at"].map(|name| work.join(name));
    for dir in [&upper, &inner, &at] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let options = format!("{options},upperdir={},workdir={}", upper.display(), inner.display());
    assert!(options.len() < PAGE, "{} bytes", options.len());
    let mut mount = Command::new("mount");
    // mount(8) of util-linux 2.39 would use fsconfig(2), which takes 255 bytes.
    mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).env("LIBMOUNT_FORCE_MOUNT2", "always");
    if let Some(dir) = dir {
        mount.current_dir(dir);
    }
    if !is_root() {
        return false;
    }
    let output = mount.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    look(&at);
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    true
}

#[test]
fn as_many_layers_as_there_are_can_be_mounted() {
    let long = "a".repeat(200);
    for (what, store, layers, is_short) in [
        ("two", "store", 2, false),
        ("some", "store", 20, false),
        ("too many for absolute paths", "store", 40, true),
        ("as many as there are", "store", LAYERS, true),
        ("some, in a deep directory", long.as_str(), 20, true),
        ("as many as there are, in a directory with colons", "a:b,c", LAYERS, true),
    ] {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join(store));
        let image = image_of(&storage, layers);
        let overlay = storage.overlay(&image, &options()).unwrap();
        assert_eq!(overlay.lower_dirs.len(), layers, "{what}");
        assert!(overlay.lower_dirs.iter().all(|dir| dir.is_absolute() && dir.join("d").is_dir()), "{what}");
        let names = String::from_utf8(overlay.mount_options.clone()).unwrap();
        assert!(names.len() <= 3 * 1024, "{what}: {} bytes", names.len());
        assert_eq!(overlay.mount_dir.is_some(), is_short, "{what}: {names}");
        assert_eq!(names.starts_with("lowerdir=/"), !is_short, "{what}: {names}");
        let was_mounted = mounted(overlay.mount_dir.as_deref(), &names, dir.path(), |at| {
            assert_eq!(names_in(&at.join("d")).len(), layers, "{what}");
            let to = dir.path().join("root");
            storage.assemble_rootfs(&image, &to, &RootfsOptions::default()).unwrap();
            let [mut shown, mut assembled] = [snapshot(at), snapshot(&to)];
            for nodes in [&mut shown, &mut assembled] {
                nodes.remove(".");
                nodes.values_mut().for_each(|node| node.links = 0);
            }
            let found = differences(&shown, &assembled);
            assert!(found.is_empty(), "{what}: {found:#?}");
        });
        if !was_mounted {
            skip("only root mounts");
        }
        overlay.lease.release().unwrap();
    }
}

/// The links are the store's own: the same for the next mount, gone with their trees, and in nobody's way.
#[test]
fn links_come_and_go_with_their_trees() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let links = storage.images_dir().join("links");
    let image = image_of(&storage, LAYERS);
    let first = storage.overlay(&image, &options()).unwrap();
    let before = names_in(&links);
    assert_eq!(before.len(), LAYERS);
    assert_eq!(first.mount_dir.as_deref(), Some(links.as_path()));
    for name in &before {
        assert!(links.join(name).join("last").is_file(), "{name}");
    }
    let again = storage.overlay(&image, &options()).unwrap();
    assert_eq!((&again.mount_options, names_in(&links)), (&first.mount_options, before.clone()));
    again.lease.release().unwrap();

    // A name that something else has is not used, and not changed.
    let taken = [&before[0], &before[1], &before[2]];
    for (name, number) in taken.iter().zip(0..) {
        let link = links.join(name);
        std::fs::remove_file(&link).unwrap();
        match number {
            0 => std::fs::write(&link, b"mine").unwrap(),
            1 => std::fs::create_dir(&link).unwrap(),
            _ => std::os::unix::fs::symlink("../somewhere/else", &link).unwrap(),
        }
    }
    let around = storage.overlay(&image, &options()).unwrap();
    assert_eq!(names_in(&links).len(), LAYERS + taken.len());
    let names = String::from_utf8(around.mount_options.clone()).unwrap();
    mounted(around.mount_dir.as_deref(), &names, dir.path(), |at| {
        assert_eq!(names_in(&at.join("d")).len(), LAYERS);
    });
    around.lease.release().unwrap();

    let mut collecting = GcOptions::default();
    collecting.min_age = Duration::ZERO;
    storage.collect(&collecting).unwrap();
    assert_eq!(names_in(&links).len(), LAYERS + taken.len(), "the image has a name");
    first.lease.release().unwrap();
    storage.remove_image(&ImageName::parse("many:1").unwrap()).unwrap();
    collecting.dry_run = true;
    storage.collect(&collecting).unwrap();
    assert_eq!(names_in(&links).len(), LAYERS + taken.len(), "nothing was collected");
    collecting.dry_run = false;
    storage.collect(&collecting).unwrap();
    let mut left = names_in(&links);
    left.sort();
    assert_eq!(left, taken.map(String::clone), "what is no link of ours stays");
}

/// What the command line prints is enough.
#[test]
fn blimg_says_where_to_mount_from() {
    let Some(tool) = super::super::blimg::Tool::new() else { return };
    let storage = quick_store(&tool.store());
    image_of(&storage, LAYERS);
    let dir = temp_dir();
    let output = tool.blimg(&["mount-options", "many:1", "--user-xattr"]);
    let [options, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let links = storage.images_dir().join("links");
    assert!(told.contains(&format!("to be mounted from {}\n", links.display())), "{told}");
    let look = |at: &Path| assert_eq!(names_in(&at.join("d")).len(), LAYERS);
    mounted(Some(&links), options.trim_end(), dir.path(), look);
    let output = tool.blimg(&["--json", "mount-options", "many:1", "--user-xattr"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["mount_dir"].as_str().map(Path::new), Some(links.as_path()));
    assert_eq!(json["options"].as_str().unwrap(), options.trim_end());
    assert_eq!(json["lower_dirs"].as_array().unwrap().len(), LAYERS);
}
