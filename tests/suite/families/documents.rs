//! 1G: digests, sizes and documents.

use boxlite_images::{Digest, ExtractOptions, Status};

use super::super::archive::{Archive, gzip, zstd};
use super::super::support::{digest_of, leftovers, put_layer, quick_store, temp_dir};
use super::super::tree::snapshot;
use super::Bench;

#[test]
fn family_118_declared_sizes_are_held_and_not_reserved() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = digest_of(b"abcde");
    for (size, status) in [
        (4, Some(Status::SizeMismatch)),
        (6, Some(Status::SizeMismatch)),
        (5, None),
        (1 << 30, Some(Status::SizeMismatch)),
    ] {
        let mut staged = storage.stage_layer(&digest, Some(size)).unwrap();
        let result = staged.write(b"abcde").and_then(|()| staged.commit());
        assert_eq!(result.err().map(|error| error.status()), status, "{size}");
    }
    for size in [(50 << 30) + 1, i64::MAX as u64, u64::MAX] {
        assert_eq!(storage.stage_layer(&digest, Some(size)).unwrap_err().status(), Status::Limit);
    }
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

#[test]
fn family_119_the_right_blob_with_the_wrong_diff_id() {
    let tar = Archive::new().file(b"f", b"1").finish();
    for blob in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let bench = Bench::new();
        let mut options = ExtractOptions::default();
        options.diff_id = Some(digest_of(b"something else"));
        let error = bench.extract("119", &blob, &options).0.unwrap_err();
        assert_eq!(error.status(), Status::DigestMismatch);
        assert_eq!(error.actual_digest(), Some(Digest::of(&tar).as_str()));
        options.diff_id = Some(Digest::of(&tar));
        bench.extract("119", &blob, &options).0.unwrap();
        // A cached tree is held to it too.
        options.diff_id = Some(digest_of(b"something else"));
        let cached = bench.storage.extract_layer(&digest_of(&blob), &options).unwrap_err();
        assert_eq!(cached.status(), Status::DigestMismatch);
    }
}

/// A tree belongs to a blob. What the blob is packed in is told by its bytes, so that no media type
/// can make it another.
#[test]
fn families_120_121_one_tree_a_blob() {
    let tar = Archive::new().file(b"f", b"1").symlink(b"l", b"f").finish();
    let bench = Bench::new();
    let blobs = [tar.clone(), gzip(&tar), zstd(&tar)];
    let trees: Vec<_> = blobs
        .iter()
        .map(|blob| {
            let seen = bench.see("120", blob, &ExtractOptions::default());
            assert_eq!(seen.done.diff_id, Some(Digest::of(&tar)));
            assert!(bench.storage.extract_layer(&digest_of(blob), &ExtractOptions::default()).unwrap().cached);
            snapshot(&seen.tree)
        })
        .collect();
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]));
    // The same bytes by another path are the same layer.
    let path = bench.canary.target().join("named.zst");
    std::fs::write(&path, &blobs[1]).unwrap();
    let mut options = ExtractOptions::default();
    options.tarball_path = Some(path);
    assert!(bench.storage.extract_layer(&digest_of(&blobs[1]), &options).unwrap().cached);
}

#[test]
fn families_125_126_indexes_and_empty_images_are_documents() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let descriptor = |media_type: &str, platform: &str| {
        let digest = digest_of(b"x");
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":1,\"platform\":{platform}}}")
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let attestation = descriptor(manifest, "{\"architecture\":\"unknown\",\"os\":\"unknown\"}");
    let nested = descriptor("application/vnd.oci.image.index.v1+json", "{\"architecture\":\"amd64\",\"os\":\"linux\"}");
    let index = |entries: &[String]| {
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{}]}}",
            entries.join(",")
        )
    };
    let empty = digest_of(b"{}");
    let no_layers = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{manifest}\",\"config\":{{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"{empty}\",\"size\":2}},\"layers\":[]}}"
    );
    for document in
        [index(std::slice::from_ref(&attestation)), index(&[nested]), index(&vec![attestation; 10_000]), no_layers]
    {
        let digest = digest_of(document.as_bytes());
        storage.save_manifest(&digest, document.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(storage.load_manifest(&digest).unwrap(), document.as_bytes());
    }
}

/// A config is bytes to the store: nothing in it becomes a path, a command or a decision.
#[test]
fn family_127_a_config_is_kept_as_it_is() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let config = br#"{"rootfs":{"type":"not layers"},"config":{"Env":["PATH","=x"],"User":"../../root","WorkingDir":"/../..","Labels":{"$(reboot)":"\u0000"}}}"#;
    let digest = digest_of(config);
    let mut staged = storage.stage_config(&digest).unwrap();
    staged.write(config).unwrap();
    staged.commit().unwrap();
    assert_eq!(storage.load_config(&digest).unwrap(), config);
    let layer = Archive::new().finish();
    put_layer(&storage, &layer);
    storage.extract_layer(&digest_of(&layer), &ExtractOptions::default()).unwrap();
}
