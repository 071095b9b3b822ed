//! One body of tests for two APIs: what holds for the Rust API holds for the C API.

mod apis;

use std::path::{Path, PathBuf};

use boxlite_images::{Digest, Status};

use self::apis::{C, Rust};
use super::archive::{Archive, gzip, zstd};
use super::support::{leftovers, leftovers_now, names_in, temp_dir};

type Answer<T> = Result<T, Status>;

/// The store as both APIs have it, digests as text.
trait Api: Sized {
    type Staged: StagedApi;
    fn open(dir: &Path, read_only: bool, max_blob_bytes: u64) -> Answer<Self>;
    fn images_dir(&self) -> PathBuf;
    fn layers_dir(&self) -> PathBuf;
    fn save_manifest(&self, digest: &str, bytes: &[u8]) -> Answer<()>;
    fn load_manifest(&self, digest: &str) -> Answer<Vec<u8>>;
    fn has_manifest(&self, digest: &str) -> Answer<bool>;
    fn stage_config(&self, digest: &str) -> Answer<Self::Staged>;
    fn load_config(&self, digest: &str) -> Answer<Vec<u8>>;
    fn has_config(&self, digest: &str) -> Answer<bool>;
    fn stage_layer(&self, digest: &str, size: i64) -> Answer<Self::Staged>;
    fn has_layer(&self, digest: &str) -> Answer<bool>;
    fn verify_layer(&self, digest: &str) -> Answer<()>;
    /// Whether it was cached, and the diff_id.
    fn extract_layer(&self, digest: &str, tarball: Option<&Path>, diff_id: Option<&str>) -> Answer<(bool, String)>;
    fn verify_blobs_exist(&self, digests: &[String]) -> Answer<bool>;
    fn local_bundle_cache_dir(&self, bundle: &Path, digest: &str) -> Answer<PathBuf>;
    /// Of manifest, config, layer and extracted tree.
    fn paths(&self, digest: &str) -> Answer<[PathBuf; 4]>;
}

trait StagedApi {
    fn write(&mut self, bytes: &[u8]) -> Answer<()>;
    fn commit(&mut self) -> Answer<()>;
    fn abort(&mut self) -> Answer<()>;
    fn bytes_written(&self) -> u64;
    fn paths(&self) -> [PathBuf; 2];
}

/// Every case runs against both APIs.
macro_rules! both {
    ($($(#[$meta:meta])* fn $name:ident<$api:ident>() $body:block)*) => {
        $(
            $(#[$meta])*
            mod $name {
                use super::*;
                fn case<$api: Api>() $body
                #[test] fn rust() { case::<Rust>() }
                #[test] fn c() { case::<C>() }
            }
        )*
    };
}

fn store_layer<A: Api>(api: &A, blob: &[u8]) -> String {
    let digest = Digest::of(blob).to_string();
    let mut staged = api.stage_layer(&digest, blob.len() as i64).unwrap();
    staged.write(blob).unwrap();
    staged.commit().unwrap();
    digest
}

fn manifest() -> (String, Vec<u8>) {
    let config = format!(r#"{{"digest":"{}","size":2}}"#, Digest::of(b"{}"));
    let bytes = format!("{{ \"schemaVersion\":2,\n\t\"config\":{config}, \"layers\":[] }}").into_bytes();
    (Digest::of(&bytes).to_string(), bytes)
}

const BAD_DIGESTS: [&str; 9] = [
    "",
    "sha256",
    "sha256:../../etc/passwd",
    "sha256:/",
    "sha256:abc\0def",
    "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
    "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:%2e%2e%2f44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852",
];

both! {
    fn open_creates_the_directories<A>() {
        let dir = temp_dir();
        let at = dir.path().join("new/images");
        let api = A::open(&at, false, 0).unwrap();
        let folders = ["boot", "configs", "disks", "extracted", "format-version", "layers", "leases", "links", "local", "locks", "manifests", "names", "quarantine"];
        assert_eq!(names_in(&at), folders);
        assert_eq!((api.images_dir(), api.layers_dir()), (at.clone(), at.join("layers")));
        A::open(&at, false, 0).unwrap();
    }

    fn bad_digests_are_refused_before_a_path_is_built<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        for text in BAD_DIGESTS {
            let bad = Err(Status::InvalidArgument);
            assert_eq!(api.has_manifest(text), bad, "{text:?}");
            assert_eq!(api.has_config(text), bad);
            assert_eq!(api.has_layer(text), bad);
            assert_eq!(api.load_manifest(text), Err(Status::InvalidArgument));
            assert_eq!(api.load_config(text), Err(Status::InvalidArgument));
            assert_eq!(api.save_manifest(text, b"{}"), Err(Status::InvalidArgument));
            assert_eq!(api.stage_layer(text, 0).err(), Some(Status::InvalidArgument));
            assert_eq!(api.stage_config(text).err(), Some(Status::InvalidArgument));
            assert_eq!(api.verify_layer(text), Err(Status::InvalidArgument));
            assert_eq!(api.extract_layer(text, None, None), Err(Status::InvalidArgument));
            assert_eq!(api.paths(text), Err(Status::InvalidArgument));
            assert_eq!(api.verify_blobs_exist(&[text.to_owned()]), bad);
            assert_eq!(api.local_bundle_cache_dir(dir.path(), text), Err(Status::InvalidArgument));
        }
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn manifests_are_kept_byte_for_byte<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let (digest, bytes) = manifest();
        assert_eq!(api.load_manifest(&digest), Err(Status::NotFound));
        assert_eq!(api.has_manifest(&digest), Ok(false));
        api.save_manifest(&digest, &bytes).unwrap();
        api.save_manifest(&digest, &bytes).unwrap();
        assert_eq!(api.load_manifest(&digest).unwrap(), bytes);
        assert_eq!(api.has_manifest(&digest), Ok(true));
        assert_eq!(std::fs::read(&api.paths(&digest).unwrap()[0]).unwrap(), bytes);
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn manifests_that_are_not_what_they_claim_are_refused<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let (digest, bytes) = manifest();
        assert_eq!(api.save_manifest(&digest, &bytes[1..]), Err(Status::DigestMismatch));
        for (text, status) in [("", Status::Malformed), ("not json", Status::Malformed), ("{}", Status::Malformed)] {
            assert_eq!(api.save_manifest(Digest::of(text.as_bytes()).as_str(), text.as_bytes()), Err(status));
        }
        let large = vec![b' '; (4 << 20) + 1];
        assert_eq!(api.save_manifest(Digest::of(&large).as_str(), &large), Err(Status::Limit));
        assert_eq!(names_in(&dir.path().join("manifests")), [""; 0]);
    }

    /// The seed kept manifests pretty-printed: they do not hash to their names, and count as absent.
    fn a_damaged_document_is_absent_and_is_replaced<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let (digest, bytes) = manifest();
        let [path, config_path, ..] = api.paths(&digest).unwrap();
        std::fs::write(&path, b"{\n  \"schemaVersion\": 2\n}").unwrap();
        assert_eq!((api.has_manifest(&digest), api.load_manifest(&digest)), (Ok(false), Err(Status::NotFound)));
        api.save_manifest(&digest, &bytes).unwrap();
        assert_eq!(api.load_manifest(&digest).unwrap(), bytes);
        std::fs::write(&config_path, b"damaged").unwrap();
        assert_eq!((api.has_config(&digest), api.load_config(&digest)), (Ok(false), Err(Status::NotFound)));
        let mut staged = api.stage_config(&digest).unwrap();
        staged.write(&bytes).unwrap();
        staged.commit().unwrap();
        assert_eq!(api.load_config(&digest).unwrap(), bytes);
    }

    fn configs_are_staged_and_bounded<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let digest = Digest::of(b"{\"os\":\"linux\"}").to_string();
        let mut staged = api.stage_config(&digest).unwrap();
        staged.write(b"{\"os\":").unwrap();
        staged.write(b"\"linux\"}").unwrap();
        assert_eq!(api.has_config(&digest), Ok(false));
        staged.commit().unwrap();
        assert_eq!(api.load_config(&digest).unwrap(), b"{\"os\":\"linux\"}");
        let mut endless = api.stage_config(&digest).unwrap();
        assert_eq!(endless.write(&vec![0; 4 << 20]), Ok(()));
        assert_eq!(endless.write(&[0]), Err(Status::Limit));
        assert_eq!(endless.commit(), Err(Status::State));
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn a_layer_appears_with_its_commit_and_not_before<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let blob = vec![7u8; 300_000];
        let digest = Digest::of(&blob).to_string();
        let mut staged = api.stage_layer(&digest, 300_000).unwrap();
        let [partial, place] = staged.paths();
        for piece in blob.chunks(65_537) {
            staged.write(piece).unwrap();
        }
        assert_eq!(staged.bytes_written(), 300_000);
        assert!(partial.exists() && partial.to_str().unwrap().ends_with(".downloading") && !place.exists());
        assert_eq!(api.has_layer(&digest), Ok(false));
        staged.commit().unwrap();
        assert!(!partial.exists());
        assert_eq!(std::fs::read(&place).unwrap(), blob);
        assert_eq!((api.has_layer(&digest), api.verify_layer(&digest)), (Ok(true), Ok(())));
        assert_eq!(staged.write(b"x"), Err(Status::State));
        assert_eq!(staged.commit(), Err(Status::State));
        assert_eq!(staged.abort(), Err(Status::State));
        drop(staged);
        assert_eq!(api.has_layer(&digest), Ok(true));
    }

    fn sizes_are_kept<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 100).unwrap();
        let digest = Digest::of(b"hello world").to_string();
        // 0 and less: unknown, as in the seed.
        for size in [11, 0, -1, i64::MIN] {
            let mut staged = api.stage_layer(&digest, size).unwrap();
            staged.write(b"hello world").unwrap();
            assert_eq!(staged.commit(), Ok(()), "{size}");
        }
        let mut long = api.stage_layer(&digest, 5).unwrap();
        assert_eq!(long.write(b"hello"), Ok(()));
        assert_eq!(long.write(b" "), Err(Status::SizeMismatch));
        assert_eq!((long.commit(), long.commit()), (Err(Status::State), Err(Status::State)));
        let mut short = api.stage_layer(&digest, 12).unwrap();
        short.write(b"hello world").unwrap();
        assert_eq!(short.commit(), Err(Status::SizeMismatch));
        assert_eq!(api.stage_layer(&digest, 101).err(), Some(Status::Limit));
        let mut unknown = api.stage_layer(&digest, 0).unwrap();
        assert_eq!(unknown.write(&[0; 101]), Err(Status::Limit));
        drop((long, short, unknown));
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn a_wrong_hash_leaves_nothing<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let digest = Digest::of(b"expected").to_string();
        let mut staged = api.stage_layer(&digest, 8).unwrap();
        staged.write(b"unwanted").unwrap();
        assert_eq!(staged.commit(), Err(Status::DigestMismatch));
        assert_eq!((staged.write(b"x"), staged.abort()), (Err(Status::State), Ok(())));
        assert_eq!(names_in(&dir.path().join("layers")), [""; 0]);
    }

    fn sha512_works_like_sha256<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        // echo -n abc | sha512sum
        let digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let mut staged = api.stage_layer(digest, 3).unwrap();
        staged.write(b"abc").unwrap();
        staged.commit().unwrap();
        assert_eq!(api.verify_layer(digest), Ok(()));
        assert!(api.paths(digest).unwrap()[2].to_str().unwrap().ends_with("94fa54ca49f.tar.gz"));
    }

    fn abort_and_free_leave_nothing<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let digest = Digest::of(b"x").to_string();
        let mut aborted = api.stage_layer(&digest, 1).unwrap();
        aborted.write(b"x").unwrap();
        assert_eq!((aborted.abort(), aborted.abort()), (Ok(()), Ok(())));
        assert_eq!(aborted.commit(), Err(Status::State));
        let mut freed = api.stage_layer(&digest, 1).unwrap();
        freed.write(b"x").unwrap();
        assert_eq!(leftovers_now(dir.path()).len(), 1);
        drop(freed);
        assert_eq!(leftovers(dir.path()), [""; 0]);
        assert_eq!(api.has_layer(&digest), Ok(false));
    }

    fn committing_what_is_there_is_success<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let mut pair: Vec<_> = (0..2)
            .map(|_| {
                let mut staged = api.stage_layer(Digest::of(b"same").as_str(), 4).unwrap();
                staged.write(b"same").unwrap();
                staged
            })
            .collect();
        assert!(pair.iter_mut().all(|staged| staged.commit().is_ok()));
        assert_eq!(names_in(&dir.path().join("layers")).len(), 1);
        // Whatever became of a stored layer, the verified one takes its place.
        let path = api.paths(Digest::of(b"same").as_str()).unwrap()[2].clone();
        for damaged in [&b"sam"[..], b"shame", b"samE"] {
            std::fs::write(&path, damaged).unwrap();
            store_layer(&api, b"same");
            assert_eq!(std::fs::read(&path).unwrap(), b"same");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("in/the/way")).unwrap();
        store_layer(&api, b"same");
        assert_eq!(std::fs::read(&path).unwrap(), b"same");
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn a_staged_download_outlives_its_storage<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let mut staged = api.stage_layer(Digest::of(b"late").as_str(), 4).unwrap();
        drop(api);
        staged.write(b"late").unwrap();
        staged.commit().unwrap();
        assert_eq!(names_in(&dir.path().join("layers")).len(), 1);
    }

    fn verify_reads_what_is_stored<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let digest = store_layer(&api, b"content");
        let path = api.paths(&digest).unwrap()[2].clone();
        std::fs::write(&path, b"c0ntent").unwrap();
        assert_eq!(api.verify_layer(&digest), Err(Status::DigestMismatch));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(api.verify_layer(&digest), Err(Status::NotFound));
        std::fs::create_dir(&path).unwrap();
        assert_eq!((api.has_layer(&digest), api.verify_layer(&digest)), (Ok(false), Err(Status::NotFound)));
    }

    fn verify_blobs_exist_asks_for_all<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let (one, two) = (store_layer(&api, b"1"), store_layer(&api, b"2"));
        let missing = Digest::of(b"3").to_string();
        assert_eq!(api.verify_blobs_exist(&[]), Ok(true));
        assert_eq!(api.verify_blobs_exist(&[one.clone(), two.clone()]), Ok(true));
        assert_eq!(api.verify_blobs_exist(&[one, missing, two]), Ok(false));
    }

    fn extraction_keeps_markers_and_happens_once<A>() {
        let dir = temp_dir();
        let api = A::open(dir.path(), false, 0).unwrap();
        let tar = Archive::new().dir(b"bin/").file(b"bin/.wh.sh", b"").file(b"bin/new-tool", b"upper").finish();
        for blob in [gzip(&tar), zstd(&tar), tar.clone()] {
            let digest = store_layer(&api, &blob);
            let diff_id = Digest::of(&tar).to_string();
            let tree = api.paths(&digest).unwrap()[3].clone();
            assert_eq!(api.extract_layer(&digest, None, Some(&diff_id)), Ok((false, diff_id.clone())));
            assert!(tree.join("bin/.wh.sh").exists());
            assert_eq!(std::fs::read(tree.join("bin/new-tool")).unwrap(), b"upper");
            assert_eq!(api.extract_layer(&digest, None, None), Ok((true, diff_id)));
            let other = Digest::of(b"other").to_string();
            assert_eq!(api.extract_layer(&digest, None, Some(&other)), Err(Status::DigestMismatch));
            assert!(tree.exists());
        }
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }

    fn extraction_of_a_file_of_the_hosts<A>() {
        let dir = temp_dir();
        let api = A::open(&dir.path().join("store"), false, 0).unwrap();
        let blob = gzip(&Archive::new().file(b"f", b"x").finish());
        let digest = Digest::of(&blob).to_string();
        let file = dir.path().join("layer");
        std::fs::write(&file, &blob).unwrap();
        assert_eq!(api.extract_layer(&digest, None, None), Err(Status::NotFound));
        let other = Digest::of(b"other").to_string();
        assert_eq!(api.extract_layer(&other, Some(&file), None), Err(Status::DigestMismatch));
        assert_eq!(api.extract_layer(&digest, Some(dir.path()), None), Err(Status::InvalidArgument));
        assert_eq!(api.extract_layer(&digest, Some(&dir.path().join("none")), None), Err(Status::NotFound));
        let wrong = Digest::of(b"wrong").to_string();
        assert_eq!(api.extract_layer(&digest, Some(&file), Some(&wrong)), Err(Status::DigestMismatch));
        assert_eq!(names_in(&dir.path().join("store/extracted")), [""; 0]);
        assert!(!api.extract_layer(&digest, Some(&file), None).unwrap().0);
        assert_eq!(api.has_layer(&digest), Ok(false));
        assert_eq!(leftovers(&dir.path().join("store")), [""; 0]);
    }

    fn read_only_stores_serve_and_refuse<A>() {
        let dir = temp_dir();
        assert_eq!(A::open(&dir.path().join("none"), true, 0).err(), Some(Status::NotFound));
        let empty = A::open(dir.path(), true, 0).unwrap();
        let absent = Digest::of(b"").to_string();
        assert_eq!((empty.has_layer(&absent), empty.has_config(&absent)), (Ok(false), Ok(false)));
        assert_eq!(names_in(dir.path()), [""; 0]);
        let writable = A::open(dir.path(), false, 0).unwrap();
        let digest = store_layer(&writable, &Archive::new().finish());
        writable.extract_layer(&digest, None, None).unwrap();
        let unextracted = store_layer(&writable, &Archive::new().dir(b"d").finish());
        let (manifest_digest, manifest) = manifest();
        let api = A::open(dir.path(), true, 0).unwrap();
        assert_eq!(api.has_layer(&digest), Ok(true));
        assert!(api.extract_layer(&digest, None, None).unwrap().0);
        assert_eq!(api.extract_layer(&unextracted, None, None), Err(Status::Permission));
        assert_eq!(api.stage_layer(&digest, 0).err(), Some(Status::Permission));
        assert_eq!(api.stage_config(&digest).err(), Some(Status::Permission));
        assert_eq!(api.save_manifest(&manifest_digest, &manifest), Err(Status::Permission));
    }

    fn newer_and_broken_formats_are_refused_untouched<A>() {
        for (text, status) in [("2\n", Status::Unsupported), ("x", Status::Malformed), ("", Status::Malformed)] {
            let dir = temp_dir();
            std::fs::write(dir.path().join("format-version"), text).unwrap();
            assert_eq!(A::open(dir.path(), false, 0).err(), Some(status), "{text:?}");
            assert_eq!(names_in(dir.path()), ["format-version"]);
        }
        let dir = temp_dir();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(A::open(&file, false, 0).err(), Some(Status::Io));
    }

    fn bundles_have_caches_of_their_own<A>() {
        let dir = temp_dir();
        let api = A::open(&dir.path().join("store"), false, 0).unwrap();
        let bundle = dir.path().join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        std::os::unix::fs::symlink("bundle", dir.path().join("link")).unwrap();
        let (one, two) = (Digest::of(b"1").to_string(), Digest::of(b"2").to_string());
        let at = |path: &Path, digest: &str| api.local_bundle_cache_dir(path, digest);
        let expected = format!(
            "{}-sha256-{}",
            Digest::of(bundle.canonicalize().unwrap().to_str().unwrap().as_bytes()).hex(),
            Digest::of(b"1").hex()
        );
        assert_eq!(at(&bundle, &one).unwrap(), dir.path().join("store/local").join(expected));
        assert_eq!(at(&bundle, &one), at(&dir.path().join("link"), &one));
        assert_ne!(at(&bundle, &one), at(&bundle, &two));
        assert_eq!(at(&dir.path().join("none"), &one), Err(Status::NotFound));
    }
}
