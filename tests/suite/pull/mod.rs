//! Pulling: from a registry that does what a test says (`server`), and from a real one (`real`).

pub mod certificates;
pub mod content;
pub mod credentials;
mod mirrors;
mod operations;
mod programs;
mod real;
mod references;
pub mod server;
mod syscalls;
mod transfers;

use std::sync::Arc;
use std::time::Duration;

use boxlite_images::{CheckOptions, GcOptions, Image, PullOptions, PullPolicy, RegistryOptions, Status, Storage};

use self::content::Content;
use self::server::{Answer, Asked, Server};
use super::support::{leftovers, leftovers_but, names_in, quick_store, temp_dir, watchdog};

type Change = fn(&Asked, usize, Answer) -> Answer;

/// Whether a file is what is left of a download for a later one.
fn is_resumable(name: &str) -> bool {
    let name = name.strip_prefix("layers/sha256-").and_then(|name| name.strip_suffix(".downloading"));
    name.and_then(|name| name.split_once('.')).is_some_and(|(hex, random)| random == &hex[..32])
}

/// A registry that is reached by plain HTTP.
pub fn plain(host: String) -> RegistryOptions {
    let mut registry = RegistryOptions::new(host);
    registry.plain_http = true;
    registry
}

/// Options for a registry on loopback.
pub fn options_for(server: &Server) -> PullOptions {
    let mut options = PullOptions::default();
    options.registries = vec![plain(server.host())];
    // A machine that is busy looks like a server that is silent.
    options.stall_timeout = Some(watchdog());
    options
}

/// For servers that go silent: somebody has to give up.
pub fn impatient(mut options: PullOptions) -> PullOptions {
    options.stall_timeout = Some(Duration::from_millis(1500));
    options
}

/// A registry, a store, and how one is pulled into the other.
pub struct Bench {
    pub server: Server,
    pub content: Arc<Content>,
    pub dir: tempfile::TempDir,
    pub storage: Storage,
}

impl Bench {
    pub fn new(change: impl Fn(&Asked, usize, Answer) -> Answer + Send + Sync + 'static) -> Bench {
        let content = Arc::new(Content::new());
        let served = content.clone();
        let server = Server::new(move |asked, before| change(asked, before, served.answer(asked)));
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        Bench { server, content, dir, storage }
    }

    pub fn honest() -> Bench {
        Bench::new(|_, _, answer| answer)
    }

    pub fn reference(&self) -> String {
        format!("{}/library/app", self.server.host())
    }

    pub fn options(&self) -> PullOptions {
        options_for(&self.server)
    }

    pub fn pull(&self) -> boxlite_images::Result<Image> {
        self.storage.pull(&self.reference(), &self.options())
    }

    /// Everything is there and right.
    pub fn assert_pulled(&self, image: &Image) {
        assert_eq!(Some(&image.manifest_digest), self.content.manifest.as_ref());
        assert_eq!(image.missing, []);
        for (i, layer) in self.content.layers.iter().enumerate() {
            let tree = self.storage.layer_extracted_path(layer);
            assert_eq!(std::fs::read_to_string(tree.join(format!("d/f{i}"))).unwrap(), i.to_string());
        }
        assert_eq!(self.storage.check(&CheckOptions::default()).unwrap().findings, []);
        assert_eq!(leftovers(self.dir.path()), [""; 0]);
        assert_eq!(names_in(&self.dir.path().join("leases")), [""; 0]);
    }

    /// Nothing half-made stays, and there is no name.
    pub fn assert_nothing(&self) {
        // But what a later pull goes on with.
        assert_eq!(leftovers_but(self.dir.path(), is_resumable), [""; 0]);
        assert!(self.storage.images().unwrap().is_empty());
        assert_eq!(self.storage.check(&CheckOptions::default()).unwrap().findings, []);
    }
}

#[test]
fn an_image_is_pulled_unpacked_and_named() {
    let bench = Bench::honest();
    let image = bench.pull().unwrap();
    bench.assert_pulled(&image);
    // The index is kept beside the manifest, as long as the name.
    let index = image.name.unwrap().index.unwrap();
    assert_eq!(index.to_string(), bench.content.latest);
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    bench.storage.collect(&options).unwrap();
    assert!(bench.storage.has_manifest(&index).unwrap());
    bench.assert_pulled(&bench.pull().unwrap());
    // Index, manifest, config, three layers.
    assert_eq!(bench.server.asked().len(), 6);
    // Nothing to do is no request.
    bench.assert_pulled(&bench.pull().unwrap());
    assert_eq!(bench.server.asked().len(), 6);
    let mut options = bench.options();
    options.policy = PullPolicy::Always;
    bench.storage.pull(&bench.reference(), &options).unwrap();
    assert_eq!(bench.server.asked().len(), 7);
}

#[test]
fn policies_decide_who_is_asked() {
    let bench = Bench::honest();
    let mut options = bench.options();
    options.policy = PullPolicy::Never;
    assert_eq!(bench.storage.pull(&bench.reference(), &options).unwrap_err().status(), Status::NotFound);
    assert_eq!(bench.server.asked().len(), 0);
    bench.pull().unwrap();
    bench.storage.pull(&bench.reference(), &options).unwrap();
    let asked = bench.server.asked().len();
    // A digest that is in the store is not asked for again.
    let by_digest = format!("{}@{}", bench.reference(), bench.content.manifest.as_ref().unwrap());
    bench.storage.pull(&by_digest, &bench.options()).unwrap();
    assert_eq!(bench.server.asked().len(), asked);
}

/// Several who want the same image: each blob once.
#[test]
fn together_they_fetch_once() {
    let bench = Bench::honest();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(bench.pull().unwrap().missing, []));
        }
    });
    for layer in &bench.content.layers {
        assert_eq!(bench.server.count(&layer.to_string()), 1);
    }
    bench.assert_pulled(&bench.pull().unwrap());
}
