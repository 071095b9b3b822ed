//! Makes a small OCI image layout to try the library on: `make-layout DIR`.
//!
//! Four layers that between them use what images use: gzip and zstd, a hard link, a symlink, sub-second times, an
//! extended attribute, a whiteout and an opaque directory. Tagged `demo`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn main() {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("usage: make-layout DIR"));
    make(&dir);
    println!("{}: tag demo", dir.display());
}

/// Writes the layout.
pub fn make(dir: &Path) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let layers = [base_layer(), app_layer(), whiteout_layer(), opaque_layer()];
    let packed = [gzip(&layers[0]), zstd::encode_all(&layers[1][..], 3).unwrap(), gzip(&layers[2]), layers[3].clone()];
    let media = ["tar+gzip", "tar+zstd", "tar+gzip", "tar"];
    let diff_ids: Vec<Value> = layers.iter().map(|layer| digest(layer).into()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/hello"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = descriptor(dir, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<Value> = packed
        .iter()
        .zip(media)
        .map(|(blob, kind)| descriptor(dir, &format!("application/vnd.oci.image.layer.v1.{kind}"), blob))
        .collect();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
    let mut manifest = descriptor(dir, manifest_type, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "demo" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn base_layer() -> Vec<u8> {
    let mut tar = Layer::new();
    tar.dir("./").dir("bin/").dir("etc/").dir("usr/share/doc/hello/");
    tar.file("bin/hello", 0o755, b"#!/bin/sh\necho hello\n");
    tar.file("etc/motd", 0o644, b"welcome\n").file("usr/share/doc/hello/README", 0o644, b"to be hidden\n");
    tar.link(tar::EntryType::Symlink, "bin/hi", "hello").link(tar::EntryType::Link, "bin/hello2", "bin/hello");
    tar.finish()
}

fn app_layer() -> Vec<u8> {
    let mut tar = Layer::new();
    tar.dir("srv/app/");
    tar.pax(&[("mtime", b"1700000000.25"), ("SCHILY.xattr.user.origin", b"demo")]);
    tar.file("srv/app/data", 0o640, &b"0123456789abcdef".repeat(65536));
    tar.finish()
}

fn whiteout_layer() -> Vec<u8> {
    let mut tar = Layer::new();
    tar.dir("etc/").file("etc/.wh.motd", 0o644, b"");
    tar.finish()
}

fn opaque_layer() -> Vec<u8> {
    let mut tar = Layer::new();
    tar.dir("usr/share/doc/").file("usr/share/doc/.wh..wh..opq", 0o644, b"").file("usr/share/doc/NEW", 0o644, b"new\n");
    tar.finish()
}

struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }

    fn dir(&mut self, name: &str) -> &mut Layer {
        self.entry(tar::EntryType::Directory, name, "", 0o755, b"")
    }

    fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> &mut Layer {
        self.entry(tar::EntryType::Regular, name, "", mode, data)
    }

    fn link(&mut self, kind: tar::EntryType, name: &str, target: &str) -> &mut Layer {
        self.entry(kind, name, target, 0o777, b"")
    }

    fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Layer {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn entry(&mut self, kind: tar::EntryType, name: &str, target: &str, mode: u32, data: &[u8]) -> &mut Layer {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        // "./" would be normalised away by the crate's own setter.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(dir: &Path, media_type: &str, blob: &[u8]) -> Value {
    let digest = digest(blob);
    std::fs::write(dir.join("blobs").join(digest.replace(':', "/")), blob).unwrap();
    json!({ "mediaType": media_type, "digest": digest, "size": blob.len() })
}
