//! Images in the forms that files have them in, for the tests of [`super::archives`] and [`super::bundles`].

use std::path::Path;

use boxlite_images::{CheckOptions, Digest, Error, ImageName, ImportOptions, ImportSource, Imported, Storage};

use super::archive::{Archive, gzip};
use super::support::{leftovers, names_in, quick_store, temp_dir};

/// An image's parts.
pub struct Made {
    pub tars: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub manifest: Vec<u8>,
}

pub fn descriptor(kind: &str, bytes: &[u8]) -> String {
    let (digest, size) = (Digest::of(bytes), bytes.len());
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
}

impl Made {
    pub fn new(contents: &[&str]) -> Made {
        let tar = |text: &&str| Archive::new().file(text.as_bytes(), text.as_bytes()).finish();
        let tars: Vec<Vec<u8>> = contents.iter().map(tar).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
        Made::with_config(tars, &format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, diff_ids.join(",")))
    }

    /// With a command that a guest could start.
    pub fn runnable(contents: &[&str]) -> Made {
        let made = Made::new(contents);
        let ids: Vec<String> = made.tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
        let rootfs = format!(r#"{{"type":"layers","diff_ids":[{}]}}"#, ids.join(","));
        Made::with_config(made.tars, &format!(r#"{{"config":{{"Cmd":["sh"]}},"rootfs":{rootfs}}}"#))
    }

    pub fn with_config(tars: Vec<Vec<u8>>, config: &str) -> Made {
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let list: Vec<String> = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor("config.v1+json", config.as_bytes()),
            list.join(",")
        );
        Made { tars, config: config.as_bytes().to_vec(), layers, manifest: manifest.into_bytes() }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn entry(&self, more: &str) -> String {
        let entry = descriptor("manifest.v1+json", &self.manifest);
        format!("{}{more}}}", entry.strip_suffix('}').unwrap())
    }

    pub fn blobs(&self) -> Vec<File> {
        let blobs = [&self.config, &self.manifest].into_iter().chain(&self.layers);
        blobs.map(|blob| (format!("blobs/sha256/{}", Digest::of(blob).hex()), blob.clone())).collect()
    }
}

pub type File = (String, Vec<u8>);

pub fn named(name: &str) -> String {
    format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

/// The files of a layout, with its index.
pub fn layout(entries: &[String], blobs: Vec<File>) -> Vec<File> {
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    files.extend(blobs);
    files
}

/// What `docker save` wrote before it wrote layouts.
pub fn docker(made: &Made, tags: &str) -> Vec<File> {
    let config = format!("{}.json", Digest::of(&made.config).hex());
    let names: Vec<String> = (0..made.tars.len()).map(|i| format!("{i}{}/layer.tar", "0".repeat(63))).collect();
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let manifest = format!(r#"[{{"Config":"{config}","RepoTags":{tags},"Layers":[{}]}}]"#, list.join(","));
    let mut files = Vec::new();
    for (name, tar) in names.iter().zip(&made.tars) {
        let folder = name.strip_suffix("layer.tar").unwrap();
        files.push((format!("{folder}VERSION"), b"1.0".to_vec()));
        files.push((format!("{folder}json"), b"{}".to_vec()));
        files.push((name.clone(), tar.clone()));
    }
    files.push((config, made.config.clone()));
    files.push(("manifest.json".to_owned(), manifest.into_bytes()));
    files
}

pub fn tar(files: &[File]) -> Vec<u8> {
    files.iter().fold(Archive::new(), |archive, (name, bytes)| archive.file(name.as_bytes(), bytes)).finish()
}

pub fn folder(files: &[File]) -> tempfile::TempDir {
    let dir = temp_dir();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub storage: Storage,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        Bench { dir, storage }
    }

    pub fn import(&self, bytes: &[u8], options: &ImportOptions) -> Result<Vec<Imported>, Error> {
        let path = self.dir.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        self.import_path(&path, options)
    }

    pub fn import_path(&self, path: &Path, options: &ImportOptions) -> Result<Vec<Imported>, Error> {
        let result = self.storage.import(ImportSource::Path(path.to_owned()), options);
        self.assert_sound();
        if result.is_err() {
            assert!(self.storage.images().unwrap().is_empty());
        }
        result
    }

    pub fn assert_sound(&self) {
        assert_eq!(leftovers(self.storage.images_dir()), [""; 0]);
        assert_eq!(names_in(&self.storage.images_dir().join("leases")), [""; 0]);
        assert_eq!(self.storage.check(&CheckOptions::default()).unwrap().findings, []);
    }

    /// The trees of an image have what its layers have.
    pub fn assert_image(&self, name: &str, contents: &[&str]) {
        let image = self.storage.open_image(&ImageName::parse(name).unwrap()).unwrap();
        assert_eq!((image.missing.len(), image.manifest.layers.len()), (0, contents.len()));
        for ((layer, _), text) in image.layers().zip(contents) {
            let tree = self.storage.layer_extracted_path(&layer.digest);
            assert_eq!(std::fs::read_to_string(tree.join(text)).unwrap(), *text, "{name}");
        }
    }
}
