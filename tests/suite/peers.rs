//! Round trips with the newest podman and crane, out of a folder to chroot into (`BL_TEST_PEERS`).
//! They read what is exported, and what they write is imported, with the same digests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use boxlite_images::{Digest, ExportOptions, ExportTarget, ImageName, ImportOptions};

use super::image_files::{Bench, Made, layout, named, tar};
use super::support::{is_root, skip, wait_until};

/// The folder, and a place in it that both see.
struct Peers {
    root: PathBuf,
    work: tempfile::TempDir,
}

impl Peers {
    fn new() -> Option<Peers> {
        match std::env::var_os("BL_TEST_PEERS").map(PathBuf::from) {
            Some(root) if is_root() => {
                let work = tempfile::tempdir_in(root.join("tmp")).unwrap();
                Some(Peers { root, work })
            }
            _ => {
                skip("BL_TEST_PEERS is not set, or not as root");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// What they call it.
    fn inside(&self, name: &str) -> String {
        format!("/{}", self.path(name).strip_prefix(&self.root).unwrap().display())
    }

    /// In a mount namespace of its own, so that nothing stays mounted.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let script = r#"mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; mount --rbind /sys "$1/sys"; exec chroot "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.root).arg(program).args(args);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program, args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn podman(&self, args: &[&str]) -> String {
        let (root, run) = (self.inside("podman"), self.inside("podman-run"));
        let all = [&["--root", &root, "--runroot", &run, "--storage-driver", "vfs"], args].concat();
        self.run("podman", &all)
    }
}

/// An image with what these tools want of a config, in a store, and exported in both forms.
fn export(peers: &Peers) -> (Bench, Made) {
    let plain = Made::new(&["one", "two"]);
    let ids: Vec<String> = plain.tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{{}},{{}}]}}"#,
        ids.join(",")
    );
    let made = Made::with_config(plain.tars, &config);
    let bench = Bench::new();
    bench.import(&tar(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs())), &ImportOptions::default()).unwrap();
    let image = bench.storage.open_image(&ImageName::parse("a.org/x:1").unwrap()).unwrap();
    let options = ExportOptions::default();
    bench.storage.export(&[&image], ExportTarget::Archive(peers.path("x.tar")), &options).unwrap();
    bench.storage.export(&[&image], ExportTarget::Folder(peers.path("x")), &options).unwrap();
    (bench, made)
}

/// Imports what they wrote; gives the digests of its manifest and its config.
fn import(path: &Path) -> (Digest, Digest) {
    let bench = Bench::new();
    let imported = bench.import_path(path, &ImportOptions::default()).unwrap();
    assert_eq!(imported.len(), 1, "{}", path.display());
    let image = bench.storage.open_image_by_digest(&imported[0].manifest).unwrap();
    assert_eq!(image.manifest.layers.len(), 2);
    (imported[0].manifest.clone(), image.manifest.config.digest)
}

#[test]
fn podman() {
    let Some(peers) = Peers::new() else { return };
    let (_bench, made) = export(&peers);
    let config = Digest::of(&made.config);
    peers.podman(&["load", "--quiet", "--input", &peers.inside("x.tar")]);
    assert_eq!(peers.podman(&["image", "inspect", "--format", "{{.Id}}", "a.org/x:1"]), config.hex());
    for from in [format!("oci:{}:1", peers.inside("x")), format!("oci-archive:{}", peers.inside("x.tar"))] {
        let id = peers.podman(&["pull", "--quiet", &from]);
        assert_eq!(id, config.hex());
        assert_eq!(peers.podman(&["image", "inspect", "--format", "{{.Digest}}", &id]), made.digest().to_string());
    }
    for (number, format) in ["oci-archive", "docker-archive", "oci-dir"].into_iter().enumerate() {
        let name = format!("saved{number}");
        peers.podman(&["save", "--quiet", "--format", format, "--output", &peers.inside(&name), config.hex()]);
        assert_eq!(import(&peers.path(&name)).1, config, "{format}");
    }
}

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn crane() {
    let Some(peers) = Peers::new() else { return };
    let (_bench, made) = export(&peers);
    peers.run("crane", &["validate", "--tarball", &peers.inside("x.tar")]);
    // A registry of its own, on a port that nobody has.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let mut command = peers.command("crane", &["registry", "serve", "--address", &host]);
    let _registry = Registry(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("crane's registry comes up", || std::net::TcpStream::connect(&host).is_ok());
    let folder = format!("{host}/folder:1");
    let archive = format!("{host}/archive:1");
    peers.run("crane", &["push", "--insecure", &peers.inside("x"), &folder]);
    peers.run("crane", &["push", "--insecure", &peers.inside("x.tar"), &archive]);
    let digest = made.digest().to_string();
    assert_eq!(peers.run("crane", &["digest", "--insecure", &folder]), digest);
    let config = peers.run("crane", &["config", "--insecure", &archive]);
    assert_eq!(Digest::of(config.as_bytes()), Digest::of(&made.config));
    for (format, name) in [("oci", "pulled"), ("tarball", "pulled.tar")] {
        let image = format!("{host}/folder@{digest}");
        peers.run("crane", &["pull", "--insecure", "--format", format, &image, &peers.inside(name)]);
        let (manifest, config) = import(&peers.path(name));
        assert_eq!(config, Digest::of(&made.config), "{format}");
        assert!(format == "tarball" || manifest == made.digest(), "{format}");
    }
}
