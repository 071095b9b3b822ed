//! Report 1 (podman#27323): an archive gives its image a name that is pinned to another's digest, and whoever trusts the
//! digest gets the archive's image.

use boxlite_images::{Digest, ImageName, ImportOptions, Status, Storage};

use super::super::image_files::{Bench, Made, descriptor, docker, folder, layout, named, tar};
use super::super::images::put_image;
use super::super::support::{quick_store, temp_dir};

fn name(text: &str) -> ImageName {
    ImageName::parse(text).unwrap()
}

fn other() -> Digest {
    Digest::of(b"another manifest")
}

fn index_of(entries: &[String]) -> String {
    let entries = entries.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entries}]}}"#)
}

/// An entry of a layout for an index.
fn entry_of(index: &str, more: &str) -> String {
    let (digest, size) = (Digest::of(index.as_bytes()), index.len());
    format!(r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{size}{more}}}"#)
}

#[test]
fn an_archive_names_what_it_is_not() {
    let made = Made::new(&["one"]);
    let pinned = format!("example.org/app@{}", other());
    let tagged = format!("example.org/app:1@{}", other());
    let full = format!(r#","annotations":{{"io.containerd.image.name":"{pinned}"}}"#);
    let nested = index_of(&[made.entry("")]);
    let mut with_index = made.blobs();
    with_index.push((format!("blobs/sha256/{}", Digest::of(nested.as_bytes()).hex()), nested.clone().into()));
    for (what, files) in [
        ("a layout, by ref.name", layout(&[made.entry(&named(&pinned))], made.blobs())),
        ("with a tag too", layout(&[made.entry(&named(&tagged))], made.blobs())),
        ("by containerd's name", layout(&[made.entry(&full)], made.blobs())),
        ("of several, the last", layout(&[made.entry(&named("a.org/x:1")), made.entry(&named(&pinned))], made.blobs())),
        ("by way of an index", layout(&[entry_of(&nested, &named(&pinned))], with_index)),
        ("docker save", docker(&made, &format!("[{pinned:?}]"))),
        ("docker save, beside a good one", docker(&made, &format!("[\"a.org/x:1\",{pinned:?}]"))),
    ] {
        let bench = Bench::new();
        let error = bench.import(&tar(&files), &ImportOptions::default()).expect_err(what);
        assert_eq!(error.status(), Status::DigestMismatch, "{what}: {error}");
        assert!(error.message().contains("example.org/app"), "{what}: {error}");
        assert_eq!(error.expected_digest(), Some(&*other().to_string()), "{what}");
    }
    // A name that the caller gives is held to the same.
    let bench = Bench::new();
    let mut options = ImportOptions::default();
    options.name = Some(name(&pinned));
    let bytes = tar(&layout(&[made.entry("")], made.blobs()));
    assert_eq!(bench.import(&bytes, &options).unwrap_err().status(), Status::DigestMismatch);
    let dir = folder(&layout(&[made.entry(&named(&pinned))], made.blobs()));
    assert_eq!(bench.import_path(dir.path(), &ImportOptions::default()).unwrap_err().status(), Status::DigestMismatch);
    let opened = bench.storage.open_bundle(dir.path(), &ImportOptions::default());
    assert_eq!(opened.unwrap_err().status(), Status::DigestMismatch);
}

#[test]
fn a_pin_that_holds_is_a_name() {
    let made = Made::new(&["one"]);
    let nested = index_of(&[made.entry("")]);
    let outer = index_of(&[entry_of(&nested, "")]);
    let blob = |text: &str| (format!("blobs/sha256/{}", Digest::of(text.as_bytes()).hex()), text.into());
    let mut blobs = made.blobs();
    blobs.extend([blob(&nested), blob(&outer)]);
    let of = |digest: Digest| format!("example.org/app@{digest}");
    let (index, above) = (Digest::of(nested.as_bytes()), Digest::of(outer.as_bytes()));
    for (what, pin, entry) in [
        ("its own digest", made.digest(), made.entry(&named(&of(made.digest())))),
        ("that of its index", index.clone(), entry_of(&nested, &named(&of(index.clone())))),
        ("that of the index of its index", above.clone(), entry_of(&outer, &named(&of(above.clone())))),
        ("its own, by way of an index", made.digest(), entry_of(&nested, &named(&of(made.digest())))),
        ("that of the index between", index.clone(), entry_of(&outer, &named(&of(index.clone())))),
    ] {
        let bench = Bench::new();
        bench.import(&tar(&layout(&[entry], blobs.clone())), &ImportOptions::default()).unwrap();
        bench.assert_image(&of(pin), &["one"]);
        assert_eq!(bench.storage.image(&name("example.org/app")).unwrap_err().status(), Status::NotFound, "{what}");
    }
}

#[test]
fn names_that_are_given_by_hand() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["f"]);
    let pinned = |digest: &Digest| name(&format!("example.org/app:1@{digest}"));
    for digest in [other(), put_image(&storage, "2", &["g"])] {
        let error = storage.tag_image(&pinned(&digest), &image).unwrap_err();
        assert_eq!(error.status(), Status::DigestMismatch, "{error}");
        let (expected, actual) = (digest.to_string(), image.to_string());
        assert_eq!((error.expected_digest(), error.actual_digest()), (Some(&*expected), Some(&*actual)));
    }
    storage.tag_image(&name("example.org/app:1"), &image).unwrap();
    storage.tag_image(&pinned(&image), &image).unwrap();
    // An index in the store that leads there, which is kept as long as the name.
    let manifest = storage.load_manifest(&image).unwrap();
    let index = index_of(&[descriptor("manifest.v1+json", &manifest)]);
    let digest = Digest::of(index.as_bytes());
    assert_eq!(storage.tag_image(&pinned(&digest), &image).unwrap_err().status(), Status::DigestMismatch);
    storage.save_manifest(&digest, index.as_bytes()).unwrap();
    storage.tag_image(&pinned(&digest), &image).unwrap();
    assert_eq!(storage.image(&pinned(&digest)).unwrap().index, Some(digest));
}

/// Stores of older versions may have a name that nobody checked: it is no answer.
#[test]
fn a_name_that_was_forged_before_is_not_believed() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["f"]);
    let forged = name(&format!("example.org/app@{}", other()));
    forge(&storage, &forged, &image);
    for status in [storage.image(&forged).map(|_| ()), storage.open_image(&forged).map(|_| ())] {
        assert_eq!(status.unwrap_err().status(), Status::DigestMismatch);
    }
    // It is listed, so that it can be removed.
    assert_eq!(storage.images().unwrap().len(), 1);
    storage.remove_image(&forged).unwrap();
}

/// A name's file as version 0.1 would have written it.
pub fn forge(storage: &Storage, name: &ImageName, manifest: &Digest) {
    let parts = [name.as_str(), &manifest.to_string(), "1"].join("\n");
    let sum = format!("{:016x}", twox_hash::XxHash3_64::oneshot(parts.as_bytes()));
    let text = format!(r#"{{"name":"{name}","manifest":"{manifest}","tagged":1,"sum":"{sum}"}}"#);
    let file = format!("names/sha256-{}.json", Digest::of(name.as_str().as_bytes()).hex());
    std::fs::write(storage.images_dir().join(file), text).unwrap();
}

#[cfg(feature = "pull")]
mod pulls {
    use boxlite_images::{ImportSource, PullPolicy};

    use super::super::super::pull::Bench as Registry;
    use super::*;

    /// The attack: an archive is imported, and then the pinned reference is pulled, which asks nobody.
    #[test]
    fn an_archive_does_not_answer_for_a_registry() {
        let registry = Registry::honest();
        let digest = registry.content.manifest.clone().unwrap();
        let pinned = format!("{}@{digest}", registry.reference());
        let made = Made::new(&["evil"]);
        let path = registry.dir.path().join("evil.tar");
        std::fs::write(&path, tar(&layout(&[made.entry(&named(&pinned))], made.blobs()))).unwrap();
        let imported = registry.storage.import(ImportSource::Path(path), &ImportOptions::default());
        assert_eq!(imported.unwrap_err().status(), Status::DigestMismatch);
        let mut options = registry.options();
        options.policy = PullPolicy::Never;
        assert_eq!(registry.storage.pull(&pinned, &options).unwrap_err().status(), Status::NotFound);
        registry.assert_pulled(&registry.storage.pull(&pinned, &registry.options()).unwrap());
    }

    /// Nor does a name that was forged before: the registry is asked, and the name is set right.
    #[test]
    fn a_forged_name_is_no_answer() {
        let registry = Registry::honest();
        let digest = registry.content.manifest.clone().unwrap();
        let pinned = format!("{}@{digest}", registry.reference());
        forge(&registry.storage, &name(&pinned), &put_image(&registry.storage, "evil", &["f"]));
        for policy in [PullPolicy::Never, PullPolicy::Missing] {
            let mut options = registry.options();
            options.policy = policy;
            match registry.storage.pull(&pinned, &options) {
                Ok(image) => assert_eq!((image.manifest_digest, policy), (digest.clone(), PullPolicy::Missing)),
                Err(error) => assert_eq!((error.status(), policy), (Status::NotFound, PullPolicy::Never)),
            }
        }
        assert_eq!(registry.storage.image(&name(&pinned)).unwrap().manifest, digest);
        // By the digest of the index that leads there.
        let pinned = format!("{}@{}", registry.reference(), registry.content.latest);
        assert_eq!(registry.storage.pull(&pinned, &registry.options()).unwrap().manifest_digest, digest);
        let mut options = registry.options();
        options.policy = PullPolicy::Never;
        assert_eq!(registry.storage.pull(&pinned, &options).unwrap().manifest_digest, digest);
    }
}
