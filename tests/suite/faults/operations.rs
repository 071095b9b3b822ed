//! What is done to a store while something goes wrong: each changing command of the examples, on a store that was
//! prepared for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boxlite_images::{
    CheckOptions, Digest, DiskFormat, DiskLayout, DiskOptions, ExtractOptions, ImageName, Storage, StorageOptions,
};

use super::super::archive::{Archive, gzip};
use super::super::images::put_image;
use super::super::support::{has_tool, put_layer, quick_store, run, temp_dir};

/// A command and what it is done to.
pub struct Operation {
    pub name: &'static str,
    pub args: Vec<String>,
    /// The store before it.
    template: PathBuf,
    /// What holds once it has succeeded.
    pub holds: Box<dyn Fn(&Storage)>,
    /// The store is damaged before it, on purpose.
    pub is_damaged: bool,
}

/// The compiled example, and a place for stores.
pub struct Tool {
    dir: tempfile::TempDir,
}

impl Tool {
    /// `None` where something is not installed.
    pub fn new() -> Option<Tool> {
        if !has_tool("gcc") || !has_tool("strace") || !has_tool("cp") {
            return None;
        }
        let dir = temp_dir();
        super::super::blimg::install_examples(dir.path());
        Some(Tool { dir })
    }

    /// The store before the operation, made anew.
    pub fn prepare(&self, operation: &Operation) -> PathBuf {
        let store = self.dir.path().join("store");
        std::fs::remove_dir_all(&store).ok();
        run("cp", &["-a".as_ref(), operation.template.as_os_str(), store.as_os_str()]);
        store
    }

    /// Runs the operation, perhaps under strace with these arguments. On one core, so that there are no more threads than
    /// need be.
    pub fn run(&self, operation: &Operation, store: &Path, strace: &[&str]) -> Output {
        let mut command = Command::new(if strace.is_empty() { "env" } else { "strace" });
        command.args(strace);
        // Which cargo sets, and in which the loader would search dozens of files first.
        command.env_remove("LD_LIBRARY_PATH");
        command.arg(self.dir.path().join("blimg")).arg("--store").arg(store).args(&operation.args);
        command.output().unwrap()
    }

    /// All operations.
    pub fn operations(&self) -> Vec<Operation> {
        let blob = gzip(
            &Archive::new()
                .dir(b"d")
                .file(b"d/f", &[b'x'; 3000])
                .file(b"d/g", b"g")
                .file(b"d/f", b"replaced")
                .symlink(b"d/s", b"f")
                .hardlink(b"h", b"d/g")
                .file(b".wh.gone", b"")
                .finish(),
        );
        let layer = Digest::of(&blob);
        let (blob_file, config_file) = (self.file("layer", &blob), self.file("config", b"{}"));
        let manifest = br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
        let manifest_file = self.file("manifest", manifest);
        let (config, manifest) = (Digest::of(b"{}"), Digest::of(manifest));
        let name = || ImageName::parse("example.org/x:1").unwrap();

        let empty = self.template("empty", |_| ());
        let with_layer = {
            let blob = blob.clone();
            self.template("layer", move |storage| _ = put_layer(storage, &blob))
        };
        let image = put_image(&quick_store(temp_dir().path()), "1", &["a", "b"]);
        let with_image = self.template("image", |storage| _ = put_image(storage, "1", &["a", "b"]));
        let extract_all = |storage: &Storage| {
            for (layer, _) in storage.open_image_by_digest(&put_image(storage, "1", &["a", "b"])).unwrap().layers() {
                storage.extract_layer(&layer.digest, &ExtractOptions::default()).unwrap();
            }
        };
        let named = self.template("named", |storage| {
            storage.tag_image(&name(), &put_image(storage, "1", &["a", "b"])).unwrap();
        });
        let unreached = self.template("unreached", extract_all);
        let damaged = self.template("damaged", |storage| {
            extract_all(storage);
            let digest = put_layer(storage, b"x");
            std::fs::write(storage.layer_tarball_path(&digest), "y").unwrap();
            let trees = std::fs::read_dir(storage.images_dir().join("extracted")).unwrap();
            for tree in trees.map(|tree| tree.unwrap().path()).filter(|tree| tree.is_dir()) {
                std::fs::write(tree.join("more"), "").unwrap();
            }
        });

        let mut all = Vec::new();
        let mut add = |name, template: &PathBuf, args: &[&str], holds: Box<dyn Fn(&Storage)>| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let (template, is_damaged) = (template.clone(), name == "check --repair");
            all.push(Operation { name, args, template, holds, is_damaged });
        };
        let (l, c, m) = (layer.to_string(), config.to_string(), manifest.to_string());
        add("open", &self.dir.path().join("nothing"), &["ls"], Box::new(|_| ()));
        let has = layer.clone();
        add(
            "put layer",
            &empty,
            &["put", "layer", &l, &blob_file],
            Box::new(move |s| assert!(s.has_layer(&has).unwrap())),
        );
        add(
            "put config",
            &empty,
            &["put", "config", &c, &config_file],
            Box::new(move |s| {
                assert!(s.has_config(&config).unwrap());
            }),
        );
        add(
            "put manifest",
            &empty,
            &["put", "manifest", &m, &manifest_file],
            Box::new(move |s| {
                assert!(s.has_manifest(&manifest).unwrap());
            }),
        );
        add(
            "extract",
            &with_layer,
            &["extract", &l],
            Box::new(move |s| {
                assert!(s.extract_layer(&layer, &ExtractOptions::default()).unwrap().cached);
            }),
        );
        let mut as_disk = ExtractOptions::default();
        as_disk.tree.form.erofs = true;
        let disk = Digest::parse(&l).unwrap();
        add(
            "extract as a disk",
            &with_layer,
            &["extract", &l, "--form", "erofs"],
            Box::new(move |s| assert!(s.extract_layer(&disk, &as_disk).unwrap().cached)),
        );
        let i = image.to_string();
        let erofs = DiskOptions::default().format(DiskFormat::Erofs);
        for (name, options, more) in [
            ("keep an ext4", DiskOptions::default().free_bytes(1u64 << 20), &["--free", "1M"][..]),
            ("keep a disk", erofs.clone(), &["--format", "erofs"]),
            ("keep a merged disk", erofs.layout(DiskLayout::Merged), &["--format", "erofs", "--merged", "--direct"]),
        ] {
            let args = [&["disk", "--cached", &i][..], more].concat();
            let of = image.clone();
            let is_kept = move |s: &Storage| {
                let image = s.open_image_by_digest(&of).unwrap();
                assert!(s.keep_disk(&image, &options).unwrap().disk.cached);
            };
            add(name, &with_image, &args, Box::new(is_kept));
        }
        let to = self.dir.path().join("made.erofs").to_str().unwrap().to_owned();
        let made = PathBuf::from(&to);
        add(
            "make a disk",
            &with_image,
            &["disk", &i, &to, "--journal", "--growable", "--replace"],
            Box::new(move |_| assert!(std::fs::metadata(&made).unwrap().len() > 4096)),
        );
        let [verified, empty_disk] = ["verified.ext4", "empty.ext4"].map(|name| self.dir.path().join(name));
        let texts = [&verified, &empty_disk].map(|path| path.to_str().unwrap().to_owned());
        add(
            "make a verified disk with a file",
            &with_image,
            &["disk", &i, &texts[0], "--verity", "--inject", &format!("{config_file}:/etc/config"), "--replace"],
            Box::new(move |_| assert!(std::fs::metadata(&verified).unwrap().len() > 4096)),
        );
        add(
            "make an empty disk",
            &with_image,
            &["disk", "--empty", "64M", &texts[1], "--replace"],
            Box::new(move |_| assert_eq!(std::fs::metadata(&empty_disk).unwrap().len(), 64 << 20)),
        );
        for (name, args) in self.ways_back(&i) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            add(
                name,
                &with_image,
                &args,
                Box::new(|s| {
                    let image = s.open_image(&ImageName::parse("example.org/new:1").unwrap()).unwrap();
                    assert_eq!(image.missing, []);
                }),
            );
        }
        add(
            "tag",
            &with_image,
            &["tag", &i, "example.org/x:1"],
            Box::new(move |s| {
                assert_eq!(s.image(&name()).unwrap().manifest, image);
            }),
        );
        add("remove", &named, &["rm", "example.org/x:1"], Box::new(move |s| assert!(s.image(&name()).is_err())));
        add(
            "gc",
            &unreached,
            &["gc", "--any-age"],
            Box::new(|s| {
                assert_eq!(s.disk_usage().unwrap().bytes(), 0);
            }),
        );
        add("lease", &empty, &["lease", "create", "60"], Box::new(|_| ()));
        add(
            "check --repair",
            &damaged,
            &["check", "--repair"],
            Box::new(|s| {
                assert_eq!(s.check(&CheckOptions::default()).unwrap().findings, []);
            }),
        );
        all
    }

    /// What makes an image of another one.
    fn ways_back(&self, image: &str) -> [(&'static str, Vec<String>); 5] {
        let changed = self.dir.path().join("changed");
        std::fs::create_dir_all(changed.join("d")).unwrap();
        std::fs::write(changed.join("d/f"), vec![b'x'; 70_000]).unwrap();
        let (changed, archive) =
            (changed.to_str().unwrap(), self.file("archive", &Archive::new().file(b"n", b"n").finish()));
        let args = |command: &str, more: &[&str]| {
            [&[command, image, "example.org/new:1", "--epoch", "1"][..], more]
                .concat()
                .iter()
                .map(|arg| (*arg).to_owned())
                .collect()
        };
        [
            ("commit", args("commit", &["--upper", changed])),
            ("commit a tree", args("commit", &["--tree", changed, "--compression", "gzip"])),
            ("commit an archive", args("commit", &["--tar", &archive, "--compression", "none"])),
            ("squash", args("squash", &["--from", "1"])),
            ("edit", args("edit", &["--env", "A=b"])),
        ]
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn template(&self, name: &str, fill: impl Fn(&Storage)) -> PathBuf {
        std::fs::create_dir_all(self.dir.path().join("nothing")).unwrap();
        let path = self.dir.path().join(format!("template-{name}"));
        let mut options = StorageOptions::default();
        options.durability = boxlite_images::Durability::None;
        fill(&Storage::open(&path, &options).unwrap());
        path
    }
}
