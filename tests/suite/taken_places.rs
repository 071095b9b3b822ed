//! Places of the host's that somebody takes while something is made for them. What has the name is not replaced, unless that
//! was asked for, and the error says that it is there.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use boxlite_images::{
    DiskFormat, DiskLayout, DiskOptions, Error, ExportOptions, ExportTarget, ProgressCallback, RootfsOptions, Status,
};

use super::archive::Archive;
use super::images::put_image_of;
use super::support::{names_in, quick_store, temp_dir};

/// Something that is made for a place, and tells its progress while it is.
type Make<'a> = Box<dyn Fn(&Path, ProgressCallback) -> Result<(), Error> + 'a>;

#[test]
fn what_comes_while_something_is_made_stays() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let digest = put_image_of(&storage, "x", &[Archive::new().file(b"a", b"a").finish()]);
    let image = storage.open_image_by_digest(&digest).unwrap();
    let disk = |format, layout| -> Make<'_> {
        let (storage, image) = (&storage, &image);
        Box::new(move |to, progress| {
            let options = DiskOptions::default().format(format).layout(layout).progress(progress);
            storage.create_disk(image, to, &options).map(drop)
        })
    };
    let export = |target: fn(PathBuf) -> ExportTarget| -> Make<'_> {
        let (storage, image) = (&storage, &image);
        Box::new(move |to, progress| {
            let mut options = ExportOptions::default();
            options.progress = Some(progress);
            storage.export(&[image], target(to.to_path_buf()), &options)
        })
    };
    let rootfs: Make<'_> = Box::new(|to, progress| {
        let mut options = RootfsOptions::default();
        options.progress = Some(progress);
        storage.assemble_rootfs(&image, to, &options).map(drop)
    });
    let makes = [
        ("ext4", disk(DiskFormat::Ext4, DiskLayout::Flat)),
        ("erofs", disk(DiskFormat::Erofs, DiskLayout::Flat)),
        ("merged", disk(DiskFormat::Erofs, DiskLayout::Merged)),
        ("archive", export(ExportTarget::Archive)),
        ("folder", export(ExportTarget::Folder)),
        ("rootfs", rootfs),
    ];
    for (name, make) in &makes {
        for is_directory in [false, true] {
            let place = dir.path().join("places").join(format!("{name}-{is_directory}"));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let theirs = if is_directory { place.join("theirs") } else { place.clone() };
            let take = ProgressCallback::new({
                let theirs = theirs.clone();
                move |_| {
                    std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
                    std::fs::write(&theirs, "theirs").unwrap();
                    ControlFlow::Continue(())
                }
            });
            let error = make(&place, take).unwrap_err();
            assert_eq!(error.status(), Status::Exists, "{name}: {error}");
            assert!(error.to_string().contains(place.to_str().unwrap()), "{name}: {error}");
            assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs", "{name}");
            if is_directory {
                assert_eq!(names_in(&place), ["theirs"], "{name}");
            }
        }
    }
    assert_eq!(names_in(&dir.path().join("places")).len(), 2 * makes.len());
}

/// A record of a root file system replaces a file. What is no file stays, and nothing is made, whether it was there before or came
/// while the tree was made.
#[test]
fn a_record_takes_the_place_of_a_file_alone() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let digest = put_image_of(&storage, "x", &[Archive::new().file(b"a", b"a").finish()]);
    let image = storage.open_image_by_digest(&digest).unwrap();
    type Take = fn(&Path);
    let takes: [(&str, Take, bool); 3] = [
        ("file", |place| std::fs::write(place, "theirs").unwrap(), true),
        ("directory", |place| std::fs::create_dir_all(place).unwrap(), false),
        ("symlink", |place| drop(std::os::unix::fs::symlink("nowhere", place)), false),
    ];
    for (name, take, is_replaced) in takes {
        for comes_late in [false, true] {
            let places = dir.path().join(format!("{name}-{comes_late}"));
            let (root, record) = (places.join("root"), places.join("record"));
            std::fs::create_dir_all(&places).unwrap();
            let mut options = RootfsOptions::default();
            options.record_path = Some(record.clone());
            if comes_late {
                let record = record.clone();
                options.progress = Some(ProgressCallback::new(move |_| {
                    take(&record);
                    ControlFlow::Continue(())
                }));
            } else {
                take(&record);
            }
            let made = storage.assemble_rootfs(&image, &root, &options).map(drop).map_err(|error| error.status());
            let what = format!("{name}, late: {comes_late}");
            assert_eq!(made, if is_replaced { Ok(()) } else { Err(Status::Exists) }, "{what}");
            assert_eq!(names_in(&places), if is_replaced { &["record", "root"][..] } else { &["record"] }, "{what}");
            let is_mtree = std::fs::read_to_string(&record).is_ok_and(|text| text.contains("./a type=file"));
            assert_eq!(is_mtree, is_replaced, "{what}");
        }
    }
}
