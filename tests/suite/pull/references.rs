//! Which image a reference and a platform lead to.

use boxlite_images::oci::Platform;
use boxlite_images::{Digest, PullPolicy, Status};

use super::super::archive::Archive;
use super::super::support::{quick_store, temp_dir};
use super::content::{Content, INDEX, MANIFEST};
use super::server::Server;
use super::{Bench, options_for};

/// A registry with one index, whose entries are an image each, told apart by a file.
struct Shelf {
    server: Server,
    images: Vec<Digest>,
}

impl Shelf {
    /// `os/architecture/variant`, or "" for an entry without a platform.
    fn new(platforms: &[&str]) -> Shelf {
        let mut content = Content::default();
        let mut images = Vec::new();
        let mut entries = Vec::new();
        for (i, text) in platforms.iter().enumerate() {
            let digest = content.image(&[Archive::new().file(b"which", i.to_string().as_bytes()).finish()]);
            let size = content.manifests[&digest.to_string()].1.len();
            let mut parts = text.split('/');
            let mut part = || parts.next().unwrap_or_default();
            let (os, architecture, variant) = (part(), part(), part());
            let platform = if text.is_empty() {
                String::new()
            } else {
                format!(r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#)
            };
            entries.push(format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}{platform}}}"#));
            images.push(digest);
        }
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        content.latest = Digest::of(index.as_bytes()).to_string();
        content.manifests.insert(content.latest.clone(), (INDEX, index.into_bytes()));
        Shelf { server: Server::new(move |asked, _| content.answer(asked)), images }
    }

    fn pull(&self, platform: &str, strict: bool) -> Result<usize, Status> {
        let dir = temp_dir();
        let mut options = options_for(&self.server);
        options.platform = Some(Platform::parse(platform).unwrap());
        options.strict_platform = strict;
        options.no_unpack = true;
        let image = quick_store(dir.path()).pull(&format!("{}/library/app", self.server.host()), &options);
        let image = image.map_err(|error| error.status())?;
        Ok(self.images.iter().position(|digest| *digest == image.manifest_digest).unwrap())
    }
}

#[test]
fn platforms_are_chosen_as_containerd_chooses() {
    let shelf = Shelf::new(&[
        "unknown/unknown",
        "linux/amd64",
        "linux/arm64/v8",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/386",
        "windows/amd64",
        "linux/riscv64",
    ]);
    for (wanted, strict, expected) in [
        ("linux/amd64", false, Ok(1)),
        ("linux/x86_64", false, Ok(1)),
        ("linux/amd64/v1", false, Ok(1)),
        ("linux/amd64/v3", false, Ok(1)),
        ("linux/amd64/v3", true, Err(Status::NotFound)),
        ("linux/arm64", false, Ok(2)),
        ("linux/aarch64", false, Ok(2)),
        ("linux/arm64/v8", true, Ok(2)),
        ("linux/arm/v8", false, Ok(4)),
        ("linux/arm/v7", false, Ok(4)),
        ("linux/arm", false, Ok(4)),
        ("linux/armhf", false, Ok(4)),
        ("linux/arm/v6", false, Ok(3)),
        ("linux/armel", false, Ok(3)),
        ("linux/arm/v5", false, Err(Status::NotFound)),
        ("linux/i386", false, Ok(5)),
        ("windows/amd64", false, Ok(6)),
        ("linux/riscv64", false, Ok(7)),
        ("linux/s390x", false, Err(Status::NotFound)),
        ("darwin/arm64", false, Err(Status::NotFound)),
    ] {
        assert_eq!(shelf.pull(wanted, strict), expected, "{wanted} {strict}");
    }
    // The first that fits; an entry without a platform where there is nothing else; an index that is empty.
    assert_eq!(Shelf::new(&["linux/amd64", "linux/amd64"]).pull("linux/amd64", false), Ok(0));
    assert_eq!(Shelf::new(&[""]).pull("linux/amd64", false), Ok(0));
    assert_eq!(Shelf::new(&["", "linux/amd64"]).pull("linux/amd64", false), Ok(1));
    assert_eq!(Shelf::new(&[]).pull("linux/amd64", false), Err(Status::NotFound));
    assert_eq!(Shelf::new(&["unknown/unknown"]).pull("linux/amd64", false), Err(Status::Unsupported));
}

/// Indexes in indexes are followed, and not for ever.
#[test]
fn nested_indexes_end() {
    for (depth, expected) in [(1, None), (3, None), (9, Some(Status::Limit))] {
        let mut content = Content::new();
        for _ in 0..depth {
            let size = content.manifests[&content.latest].1.len();
            let inner = &content.latest;
            let index = format!(
                r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{INDEX}","digest":"{inner}","size":{size}}}]}}"#
            );
            content.latest = Digest::of(index.as_bytes()).to_string();
            content.manifests.insert(content.latest.clone(), (INDEX, index.into_bytes()));
        }
        let server = Server::new(move |asked, _| content.answer(asked));
        let dir = temp_dir();
        let result = quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options_for(&server));
        assert_eq!(result.err().map(|error| error.status()), expected, "{depth}");
    }
}

/// A digest decides, whatever the tag; a tag that moved is noticed when the registry is asked.
#[test]
fn tags_and_digests() {
    let bench = Bench::honest();
    let digest = bench.content.manifest.clone().unwrap();
    let image = bench.storage.pull(&format!("{}:no-such-tag@{digest}", bench.reference()), &bench.options()).unwrap();
    assert_eq!(image.manifest_digest, digest);
    let by_index = format!("{}@{}", bench.reference(), bench.content.latest);
    assert_eq!(bench.storage.pull(&by_index, &bench.options()).unwrap().manifest_digest, digest);
    let missing = format!("{}@sha256:{}", bench.reference(), "0".repeat(64));
    let error = bench.storage.pull(&missing, &bench.options()).unwrap_err();
    assert_eq!((error.status(), error.registry_code()), (Status::NotFound, Some("MANIFEST_UNKNOWN")));
    for text in ["", "UPPER/x y", "http://x/y", "x@sha256:12", "a/../b", "host:0/x"] {
        assert_eq!(bench.storage.pull(text, &bench.options()).unwrap_err().status(), Status::InvalidArgument, "{text}");
    }

    // A tag that moves.
    let (first, mut second) = (Content::new(), Content::default());
    second.image(&[Archive::new().file(b"new", b"").finish()]);
    second.latest = second.manifests.keys().next().unwrap().clone();
    let moved = second.latest.clone();
    let server = Server::new(move |asked, before| {
        let is_new = asked.path.ends_with("latest") && before > 0
            || second.manifests.keys().chain(second.blobs.keys()).any(|key| asked.path.contains(key));
        if is_new { second.answer(asked) } else { first.answer(asked) }
    });
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let reference = format!("{}/library/app", server.host());
    let mut options = options_for(&server);
    let old = storage.pull(&reference, &options).unwrap().manifest_digest;
    assert_eq!(storage.pull(&reference, &options).unwrap().manifest_digest, old);
    options.policy = PullPolicy::Always;
    assert_eq!(storage.pull(&reference, &options).unwrap().manifest_digest.to_string(), moved);
    drop(server);
    // Nobody answers: what is here is good enough for one policy and not for the other.
    options.connect_timeout = Some(std::time::Duration::from_millis(200));
    assert_eq!(storage.pull(&reference, &options).unwrap_err().status(), Status::Network);
    options.policy = PullPolicy::Newer;
    assert_eq!(storage.pull(&reference, &options).unwrap().manifest_digest.to_string(), moved);
}

#[test]
fn an_image_may_be_too_large() {
    let bench = Bench::honest();
    let mut options = bench.options();
    options.max_bytes = Some(1000);
    let error = bench.storage.pull(&bench.reference(), &options).unwrap_err();
    assert_eq!(error.status(), Status::Limit, "{error}");
    assert!(error.message().contains("image size limit is 1000"), "{error}");
    bench.assert_nothing();
}

/// What the store has under a name is good enough for the platform that it is for, and for no other.
#[test]
fn a_name_is_not_enough_for_another_platform() {
    let mut content = Content::default();
    let digest = content.image(&[Archive::new().file(b"f", b"").finish()]);
    content.latest = digest.to_string();
    let server = Server::new(move |asked, _| content.answer(asked));
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let reference = format!("{}/library/app", server.host());
    let pull = |platform: Option<&str>, policy| {
        let mut options = options_for(&server);
        options.platform = platform.map(|platform| Platform::parse(platform).unwrap());
        options.policy = policy;
        storage.pull(&reference, &options).map(|image| image.manifest_digest).map_err(|error| error.status())
    };
    // The image says that it is for Linux, and no more.
    assert_eq!(pull(Some("windows/amd64"), PullPolicy::Missing), Err(Status::NotFound));
    assert_eq!(pull(Some("linux/amd64"), PullPolicy::Missing), Ok(digest.clone()));
    let asked = server.asked().len();
    assert_eq!(pull(Some("linux/arm64"), PullPolicy::Never), Ok(digest.clone()));
    assert_eq!(pull(None, PullPolicy::Never), Ok(digest));
    assert_eq!(pull(Some("windows/amd64"), PullPolicy::Never), Err(Status::NotFound));
    assert_eq!(server.asked().len(), asked);
    assert_eq!(pull(Some("windows/amd64"), PullPolicy::Missing), Err(Status::NotFound));
}

/// A layer that decayed in the store, or lost its end, is fetched again.
#[test]
fn a_damaged_layer_is_replaced() {
    for damage in ["other bytes", "a shorter file"] {
        let bench = Bench::honest();
        bench.pull().unwrap();
        let layer = &bench.content.layers[0];
        let path = bench.storage.layer_tarball_path(layer);
        let mut bytes = std::fs::read(&path).unwrap();
        if damage == "other bytes" {
            bytes[1000] ^= 1;
        } else {
            bytes.truncate(1000);
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_dir_all(bench.storage.layer_extracted_path(layer)).unwrap();
        let mut options = bench.options();
        options.policy = PullPolicy::Always;
        let image = bench.storage.pull(&bench.reference(), &options);
        bench.assert_pulled(&image.unwrap_or_else(|error| panic!("{damage}: {error}")));
    }
}
