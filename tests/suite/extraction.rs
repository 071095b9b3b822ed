//! Extraction beyond what a single layer says: options, the cache, the record, ending early, and many at a time.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use boxlite_images::{Anomalies, Cancel, Digest, Error, ExtractOptions, Extraction, Interrupt, Status, Storage};

use super::archive::{Archive, Header, gzip};
use super::support::{
    as_each_user, in_own_process, is_root, leftovers, names_in, put_layer, quick_store, record_of, watched,
};
use super::tree::{Canary, snapshot};

/// A store inside a canary, and one layer extracted in it.
struct Bench {
    canary: Canary,
    storage: Storage,
}

impl Bench {
    fn new() -> Bench {
        let canary = Canary::new();
        let storage = quick_store(&canary.target().join("store"));
        Bench { canary, storage }
    }

    fn extract(&self, blob: &[u8], options: &ExtractOptions) -> (Result<Extraction, Error>, PathBuf) {
        let digest = put_layer(&self.storage, blob);
        let result = watched("an extraction", || self.storage.extract_layer(&digest, options));
        let tree = self.storage.extracted_path(&digest, options.tree.form);
        if result.is_err() {
            assert!(!tree.exists() && !record_of(&tree).exists());
        }
        assert_eq!(leftovers(self.storage.images_dir()), [""; 0]);
        (result, tree)
    }
}

fn fails_with_limit(name: &str, layer: Vec<u8>) {
    let error = Bench::new().extract(&layer, &ExtractOptions::default()).0.expect_err(name);
    assert_eq!(error.status(), Status::Limit, "{name}: {error}");
}

#[test]
fn strict_refuses_anomalies() {
    let bench = Bench::new();
    let mut options = ExtractOptions::default();
    options.tree.strict = true;
    let odd = [&gzip(&Archive::new().file(b"f", b"1").finish())[..], b"garbage"].concat();
    let error = bench.extract(&odd, &options).0.unwrap_err();
    assert_eq!(error.status(), Status::Malformed);
    assert!(error.message().ends_with("strict: TRAILING_COMPRESSED"), "{error}");
    bench.extract(&gzip(&Archive::new().file(b"f", b"1").finish()), &options).0.unwrap();
}

#[test]
fn strict_holds_for_a_cached_tree_too() {
    let bench = Bench::new();
    let odd = [&gzip(&Archive::new().file(b"f", b"1").finish())[..], b"garbage"].concat();
    bench.extract(&odd, &ExtractOptions::default()).0.unwrap();
    let mut options = ExtractOptions::default();
    options.tree.strict = true;
    let strict = bench.storage.extract_layer(&Digest::of(&odd), &options);
    assert_eq!(strict.unwrap_err().status(), Status::Malformed);
    let cached = bench.storage.extract_layer(&Digest::of(&odd), &ExtractOptions::default()).unwrap();
    assert!(cached.cached && cached.anomalies.contains(Anomalies::TRAILING_COMPRESSED));
}

/// Trees are not synced: what an earlier boot left may lack what was never written.
#[test]
fn a_tree_of_another_boot_is_made_again() {
    let bench = Bench::new();
    let layer = Archive::new().file(b"d/f", b"content").finish();
    let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
    result.unwrap();
    let record = record_of(&tree);
    let text = std::fs::read_to_string(&record).unwrap();
    let boot = text.lines().find(|line| line.starts_with("# boot ")).expect("the record names the boot").to_owned();
    std::fs::write(&record, text.replace(&boot, "# boot 00000000-0000-0000-0000-000000000000")).unwrap();
    std::fs::write(tree.join("d/f"), "").unwrap();
    let again = bench.storage.extract_layer(&Digest::of(&layer), &ExtractOptions::default()).unwrap();
    assert!(!again.cached);
    assert_eq!(std::fs::read(tree.join("d/f")).unwrap(), b"content");
    assert!(std::fs::read_to_string(&record).unwrap().contains(&boot));
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

/// The record speaks of the paths that the tree has, whatever the archive called them.
#[test]
fn the_record_has_real_paths() {
    let bench = Bench::new();
    let layer = Archive::new()
        .symlink(b"lib", b"usr/lib")
        .file(b"lib/foo", b"1")
        .hardlink(b"bar", b"lib/foo")
        .hardlink(b"bar", b"bar")
        .hardlink(b"early", b"late")
        .file(b"late", b"2")
        .finish();
    let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
    assert!(result.unwrap().anomalies.contains(Anomalies::SELF_LINK));
    let record = std::fs::read_to_string(record_of(&tree)).unwrap();
    let paths: Vec<&str> = record.lines().filter_map(|line| line.strip_prefix("./")?.split(' ').next()).collect();
    assert_eq!(paths, ["lib", "usr", "usr/lib", "usr/lib/foo", "bar", "late", "early"]);
    assert!(record.contains("\n./bar type=file hardlink=./usr/lib/foo\n"), "{record}");
    assert!(record.contains("\n./early type=file hardlink=./late\n"), "{record}");
}

#[test]
fn memory_is_bounded_by_entries_and_not_by_names() {
    let long = [b'n'; 250];
    let path = std::iter::repeat_n(&long[..], 250).collect::<Vec<_>>().join(&b'/');
    let too_long = std::iter::repeat_n(&long[..], 300).collect::<Vec<_>>().join(&b'/');
    let mut many = Archive::new();
    for i in 0..12 {
        many = many.pax(&[("path", &[format!("{i}/").as_bytes(), &path].concat())]).file(b"x", b"");
    }
    let very_long = Archive::new().pax(&[("path", &too_long)]).file(b"x", b"").finish();
    fails_with_limit("a very long path", very_long);
    fails_with_limit("many long paths", many.finish());
}

/// A few symlinks whose targets go up and down a deep tree.
#[test]
fn family_132_walks_are_counted_and_can_be_ended() {
    let deep = b"a/".repeat(3900);
    let mut bomb = Archive::new().pax(&[("path", &deep)]).dir(b"x");
    for i in 0..40 {
        let name = [&deep[..], format!("s{i}").as_bytes()].concat();
        let target = ["b/../".repeat(700).as_bytes(), format!("s{}", i + 1).as_bytes()].concat();
        bomb = bomb.pax(&[("path", &[&deep[..], b"b"].concat())]).dir(b"x");
        bomb = bomb.pax(&[("path", &name), ("linkpath", &target)]).symlink(b"x", b"x");
    }
    let bomb = bomb.pax(&[("path", &[&deep[..], b"s0/f"].concat())]).file(b"x", b"").finish();
    let bench = Bench::new();
    let digest = put_layer(&bench.storage, &bomb);
    let mut options = ExtractOptions::default();
    options.interrupt = Interrupt::new(None, Some(Duration::from_secs(1)));
    let result = watched("walks", || bench.storage.extract_layer(&digest, &options));
    let error = result.unwrap_err();
    assert!(matches!(error.status(), Status::Limit | Status::Timeout), "{error}");
}

#[test]
fn family_79_attributes_are_bounded() {
    let value = vec![0; 60_000];
    let many = (0..2000).map(|i| (format!("SCHILY.xattr.user.{i}"), &b""[..])).collect::<Vec<_>>();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let mut kept = Archive::new();
    for i in 0..100 {
        let keys: Vec<String> = (0..15).map(|k| format!("SCHILY.xattr.trusted.{k}")).collect();
        let records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &value[..])).collect();
        kept = kept.pax(&records).dir(format!("d{i}").as_bytes());
    }
    fails_with_limit("many", Archive::new().pax(&many).file(b"f", b"").finish());
    fails_with_limit("kept for directories", kept.finish());
}

/// What the folder or the process would hand down has no say (families 73 and 74).
#[test]
fn family_73_umask_and_inherited_groups_do_not_matter() {
    as_each_user("extraction::family_73_umask_and_inherited_groups_do_not_matter", || {
        in_own_process("extraction::family_73_umask_and_inherited_groups_do_not_matter", || {
            let bench = Bench::new();
            let extracted = bench.storage.images_dir().join("extracted");
            if is_root() {
                std::os::unix::fs::chown(&extracted, None, Some(1000)).unwrap();
                std::fs::set_permissions(&extracted, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).unwrap();
            }
            // SAFETY: the child runs one test.
            unsafe { libc::umask(0o177) };
            let layer =
                Archive::new().dir(b"d").dir(b"d/e").entry(Header::new(b'0', b"d/e/f").mode(0o666), b"1").finish();
            let fresh = quick_store(&bench.canary.target().join("other"));
            let digest = put_layer(&fresh, &layer);
            fresh.extract_layer(&digest, &ExtractOptions::default()).unwrap();
            let (result, tree) = bench.extract(&layer, &ExtractOptions::default());
            result.unwrap();
            let nodes = snapshot(&tree);
            assert_eq!((nodes["./d"].mode, nodes["./d/e/f"].mode), (0o755, 0o666));
            if is_root() {
                assert_eq!((nodes["./d"].gid, nodes["./d/e/f"].gid), (0, 0));
            }
        });
    });
}

/// Each link waits for the one after it; the last one for a file at the end.
#[test]
fn family_132_a_chain_of_forward_links_is_no_square() {
    let count = 5000;
    let mut chain = Archive::new();
    for i in 0..count {
        chain = chain.hardlink(format!("l{i:05}").as_bytes(), format!("l{:05}", i + 1).as_bytes());
    }
    let bench = Bench::new();
    let (result, tree) =
        bench.extract(&chain.file(format!("l{count:05}").as_bytes(), b"1").finish(), &ExtractOptions::default());
    result.unwrap();
    assert_eq!(std::fs::metadata(tree.join("l00000")).unwrap().nlink(), count + 1);
}

#[test]
fn device_nodes_are_made_for_root_when_asked_for() {
    let layer = Archive::new().entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"").finish();
    let bench = Bench::new();
    let mut options = ExtractOptions::default();
    options.tree.form.device_nodes = true;
    let (result, tree) = bench.extract(&layer, &options);
    match result {
        Ok(done) if is_root() => {
            let node = snapshot(&tree)["./null"].clone();
            assert_eq!((node.kind, node.mode, done.anomalies.is_empty()), ("char", 0o666, true));
        }
        // Root of a container may lack the right.
        Err(error) => assert!(is_root() && error.status() == Status::Permission, "{error}"),
        Ok(done) => assert!(done.anomalies.contains(Anomalies::DEVICE_PLACEHOLDER)),
    }
}

#[test]
fn cancel_and_deadline_end_an_extraction_and_leave_nothing() {
    let bench = Bench::new();
    let layer = (0..20_000).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), b"x")).finish();
    let cancel = Cancel::new();
    cancel.trigger();
    let mut options = ExtractOptions::default();
    options.interrupt = Interrupt::new(Some(cancel), None);
    assert_eq!(bench.extract(&layer, &options).0.unwrap_err().status(), Status::Cancelled);
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(5)));
    assert_eq!(bench.extract(&layer, &options).0.unwrap_err().status(), Status::Timeout);
    let cancel = Cancel::new();
    options.interrupt = Interrupt::new(Some(cancel.clone()), None);
    let digest = put_layer(&bench.storage, &layer);
    std::thread::scope(|scope| {
        let extraction = scope.spawn(|| bench.storage.extract_layer(&digest, &options));
        std::thread::sleep(Duration::from_millis(20));
        cancel.trigger();
        // It may have been through already.
        if let Err(error) = extraction.join().unwrap() {
            assert_eq!(error.status(), Status::Cancelled);
        }
    });
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

/// What follows the archive, and data that nobody wants, is hashed for as long as the caller has patience.
#[test]
fn family_134_draining_can_be_ended() {
    let bench = Bench::new();
    let trailing = Archive::new().file(b"f", b"1").finish();
    let body =
        Archive::new().file(b"f", b"1").raw_entry(Header::new(b'1', b"l").link(b"f").number(124, 12, 7 << 30), b"");
    for (name, head) in [("after the end", trailing), ("a hard link's body", body.unfinished())] {
        let path = bench.canary.target().join("sparse");
        std::fs::write(&path, &head).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
        let mut options = ExtractOptions::default();
        options.tarball_path = Some(path);
        options.interrupt = Interrupt::new(None, Some(Duration::from_millis(300)));
        let result = watched(name, || bench.storage.extract_layer(&Digest::of(b"whatever"), &options));
        let error = result.unwrap_err();
        assert_eq!(error.status(), Status::Timeout, "{name}: {error}");
    }
    assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
}

#[test]
fn one_of_many_extracts_and_the_others_find_the_tree() {
    let bench = Bench::new();
    let layer = (0..500).fold(Archive::new(), |archive, i| archive.file(format!("d{i}/f").as_bytes(), b"x")).finish();
    let digest = put_layer(&bench.storage, &layer);
    let store = bench.storage.images_dir().to_owned();
    let fresh = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| quick_store(&store).extract_layer(&digest, &ExtractOptions::default()).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|done| !done.cached).count()
    });
    assert_eq!(fresh, 1);
    assert_eq!(names_in(&store.join("extracted")).len(), 2);
    assert_eq!(leftovers(&store), [""; 0]);
}
