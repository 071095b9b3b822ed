//! Images out of files: every form that they come in, how one is chosen, and archives that lie.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use boxlite_images::oci::Platform;
use boxlite_images::{
    Digest, Error, ExportOptions, ExportTarget, ImageName, ImportOptions, ImportSource, Interrupt, Status,
};

use super::archive::{Archive, gzip, zstd};
use super::image_files::{Bench, File, Made, descriptor, docker, folder, layout, named, tar};
use super::support::{as_each_user, assert_nothing_half_made, has_tool, is_root, names_in, run, temp_dir, watched};

#[test]
fn every_form_comes_to_the_same() {
    as_each_user("archives::every_form_comes_to_the_same", || {
        let made = Made::new(&["one", "two", "three"]);
        let oci = layout(&[made.entry(&named("example.org/app:1"))], made.blobs());
        let containerd = r#","annotations":{"io.containerd.image.name":"example.org/app:1","org.opencontainers.image.ref.name":"1"}"#;
        let mut new_docker = layout(&[made.entry(containerd)], made.blobs());
        new_docker.extend(docker(&made, r#"["example.org/app:1"]"#));
        let backwards: Vec<File> = oci.iter().rev().cloned().collect();
        let old = docker(&made, r#"["example.org/app:1"]"#);
        let cases = [
            ("a layout", tar(&oci), true),
            ("one backwards", tar(&backwards), true),
            ("one with gzip", gzip(&tar(&oci)), true),
            ("one with zstd", zstd(&tar(&backwards)), true),
            ("docker save", tar(&old), false),
            ("docker save with gzip", gzip(&tar(&old)), false),
            ("docker save with a layout", tar(&new_docker), true),
        ];
        for (what, bytes, is_kept) in cases {
            for is_pipe in [false, true] {
                let bench = Bench::new();
                let imported = if is_pipe {
                    let (reader, mut writer) = std::io::pipe().unwrap();
                    std::thread::scope(|scope| {
                        let bytes = &bytes;
                        scope.spawn(move || writer.write_all(bytes).unwrap());
                        let source = ImportSource::File(reader.into());
                        bench.storage.import(source, &ImportOptions::default())
                    })
                } else {
                    bench.import(&bytes, &ImportOptions::default())
                };
                let imported = imported.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(imported.len(), 1, "{what}");
                assert_eq!(imported[0].manifest == made.digest(), is_kept, "{what}");
                assert_eq!(imported[0].names, [ImageName::parse("example.org/app:1").unwrap()], "{what}");
                bench.assert_image("example.org/app:1", &["one", "two", "three"]);
                bench.assert_sound();
            }
        }
        let bench = Bench::new();
        let dir = folder(&oci);
        assert_eq!(bench.import_path(dir.path(), &ImportOptions::default()).unwrap()[0].manifest, made.digest());
        bench.assert_image("example.org/app:1", &["one", "two", "three"]);
        // Once more changes nothing.
        assert_eq!(bench.import_path(dir.path(), &ImportOptions::default()).unwrap().len(), 1);
        let bench = Bench::new();
        let mut options = ImportOptions::default();
        options.no_unpack = true;
        bench.import(&tar(&oci), &options).unwrap();
        assert_eq!(names_in(&bench.storage.images_dir().join("extracted")), [""; 0]);
    });
}

/// Layers that several images share are there once, and links say where.
#[test]
fn links_in_an_archive() {
    let made = Made::new(&["one", "one"]);
    let mut files = docker(&made, r#"["app:1"]"#);
    let second = files.iter().position(|(name, _)| name.starts_with('1') && name.ends_with("layer.tar")).unwrap();
    let (name, _) = files.remove(second);
    for link in [true, false] {
        let archive = files.iter().fold(Archive::new(), |archive, (name, bytes)| archive.file(name.as_bytes(), bytes));
        let first = format!("0{}/layer.tar", "0".repeat(63));
        let archive = match link {
            true => archive.symlink(name.as_bytes(), format!("../{first}").as_bytes()),
            false => archive.hardlink(name.as_bytes(), first.as_bytes()),
        };
        let bench = Bench::new();
        bench.import(&archive.finish(), &ImportOptions::default()).unwrap();
        bench.assert_image("app:1", &["one", "one"]);
    }
}

#[test]
fn images_are_chosen() {
    let (one, two) = (Made::new(&["one"]), Made::new(&["two"]));
    let platform =
        |os: &str, architecture: &str| format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#);
    let inner = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
        one.entry(&platform("linux", "s390x")),
        two.entry(&platform("linux", "riscv64"))
    );
    let nested = format!(
        r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":{}{}}}"#,
        Digest::of(inner.as_bytes()),
        inner.len(),
        named("many.org/x:1")
    );
    let mut blobs = one.blobs();
    blobs.extend(two.blobs());
    blobs.push((format!("blobs/sha256/{}", Digest::of(inner.as_bytes()).hex()), inner.clone().into_bytes()));
    let attestation = one.entry(&platform("unknown", "unknown"));
    let entries = [one.entry(&named("a.org/one:1")), two.entry(&named("latest")), nested, attestation];
    let bytes = tar(&layout(&entries, blobs));
    let import = |change: &dyn Fn(&mut ImportOptions)| {
        let bench = Bench::new();
        let mut options = ImportOptions::default();
        change(&mut options);
        let imported = bench.import(&bytes, &options)?;
        let names: Vec<String> = bench.storage.images().unwrap().iter().map(|image| image.name.to_string()).collect();
        Ok::<_, Error>((imported.into_iter().map(|image| image.manifest).collect::<Vec<_>>(), names))
    };
    let one_name = || vec!["a.org/one:1".to_owned()];
    // All for this machine; what has only a tag has no name.
    assert_eq!(import(&|_| {}).unwrap(), (vec![one.digest(), two.digest()], one_name()));
    assert_eq!(import(&|o| o.select = Some("a.org/one:1".into())).unwrap(), (vec![one.digest()], one_name()));
    assert_eq!(import(&|o| o.select = Some("latest".into())).unwrap(), (vec![two.digest()], vec![]));
    let renamed = import(&|o| {
        o.select = Some("latest".into());
        o.name = Some(ImageName::parse("mine").unwrap());
    });
    assert_eq!(renamed.unwrap(), (vec![two.digest()], vec!["docker.io/library/mine:latest".to_owned()]));
    let other = import(&|o| {
        o.select = Some("many.org/x:1".into());
        o.platform = Some(Platform::parse("linux/riscv64").unwrap());
    });
    assert_eq!(other.unwrap(), (vec![two.digest()], vec!["many.org/x:1".to_owned()]));
    let status = |change: &dyn Fn(&mut ImportOptions)| import(change).unwrap_err().status();
    assert_eq!(status(&|o| o.select = Some("none".into())), Status::NotFound);
    assert_eq!(status(&|o| o.select = Some("many.org/x:1".into())), Status::NotFound);
    assert_eq!(status(&|o| o.name = Some(ImageName::parse("mine").unwrap())), Status::InvalidArgument);
}

/// Archives that are not what they say, and what they come to. None of them leaves a name.
#[test]
fn archives_that_lie() {
    let made = Made::new(&["one", "two"]);
    let good = || layout(&[made.entry(&named("a.org/x:1"))], made.blobs());
    let with = |change: &dyn Fn(&mut Vec<File>)| {
        let mut files = good();
        change(&mut files);
        tar(&files)
    };
    let saved = |manifest: &str| {
        let mut files = docker(&made, r#"["app:1"]"#);
        files.pop();
        files.push(("manifest.json".to_owned(), manifest.as_bytes().to_vec()));
        tar(&files)
    };
    let config = format!("{}.json", Digest::of(&made.config).hex());
    let wrong_ids = Made::with_config(made.tars.clone(), r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let swapped: Vec<String> = made.tars.iter().rev().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
    let swapped = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, swapped.join(","));
    let swapped = Made::with_config(made.tars.clone(), &swapped);
    let short = String::from_utf8(made.manifest.clone()).unwrap().replace("\"size\":", "\"size\":1");
    let short_entry =
        format!("{}{}}}", descriptor("manifest.v1+json", short.as_bytes()).strip_suffix('}').unwrap(), "");
    let looped = r#"{"schemaVersion":2,"manifests":[]}"#;
    let truncated = tar(&good());
    let links = |target: &str| {
        let archive = docker(&made, r#"["app:1"]"#)
            .iter()
            .filter(|(name, _)| !name.ends_with("layer.tar"))
            .fold(Archive::new(), |archive, (name, bytes)| archive.file(name.as_bytes(), bytes));
        (0..2)
            .fold(archive, |a, i| a.symlink(format!("{i}{}/layer.tar", "0".repeat(63)).as_bytes(), target.as_bytes()))
            .finish()
    };
    let cases: Vec<(&str, Vec<u8>, Status)> = vec![
        ("a blob that hashes to something else", with(&|f| f[4].1.push(b' ')), Status::DigestMismatch),
        ("a document that does", with(&|f| f[3].1.push(b' ')), Status::DigestMismatch),
        ("a config that is missing", with(&|f| drop(f.remove(2))), Status::NotFound),
        ("a manifest that is missing", with(&|f| drop(f.remove(3))), Status::NotFound),
        ("a layer that is missing", with(&|f| drop(f.remove(4))), Status::NotFound),
        ("a blob of no digest", with(&|f| f[4].0 = "blobs/sha256/../../x".into()), Status::NotFound),
        ("a blob of a short digest", with(&|f| f[4].0 = "blobs/sha256/abc".into()), Status::NotFound),
        (
            "sizes that are wrong",
            {
                let mut files = layout(&[short_entry], made.blobs());
                files
                    .push((format!("blobs/sha256/{}", Digest::of(short.as_bytes()).hex()), short.clone().into_bytes()));
                tar(&files)
            },
            Status::SizeMismatch,
        ),
        ("fewer diff_ids than layers", tar(&layout(&[wrong_ids.entry("")], wrong_ids.blobs())), Status::Malformed),
        ("diff_ids of other layers", tar(&layout(&[swapped.entry("")], swapped.blobs())), Status::DigestMismatch),
        ("an index that is none", with(&|f| f[1].1 = b"{}".to_vec()), Status::Malformed),
        ("an index that is a manifest", with(&|f| f[1].1 = made.manifest.clone()), Status::Malformed),
        ("an index of nothing", with(&|f| f[1].1 = looped.into()), Status::NotFound),
        ("no index", with(&|f| drop(f.remove(1))), Status::Malformed),
        ("nothing", tar(&[]), Status::Malformed),
        ("no archive", b"hello".to_vec(), Status::Malformed),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec(), Status::Unsupported),
        ("one that ends early", truncated[..truncated.len() - 3000].to_vec(), Status::Malformed),
        (
            "layers outside",
            saved(&format!(r#"[{{"Config":"{config}","Layers":["../x/layer.tar","y.tar"]}}]"#)),
            Status::UnsafePath,
        ),
        (
            "layers at the root",
            saved(&format!(r#"[{{"Config":"{config}","Layers":["/etc/passwd","y.tar"]}}]"#)),
            Status::NotFound,
        ),
        ("a config outside", saved(r#"[{"Config":"../../etc/passwd","Layers":[]}]"#), Status::UnsafePath),
        (
            "a layer that is not there",
            saved(&format!(r#"[{{"Config":"{config}","Layers":["x.tar","y.tar"]}}]"#)),
            Status::NotFound,
        ),
        ("too few layers", saved(&format!(r#"[{{"Config":"{config}","Layers":[]}}]"#)), Status::Malformed),
        ("no list", saved("{}"), Status::Malformed),
        ("too deep", saved(&"[".repeat(100)), Status::Limit),
        ("a link out of it", links("../../../etc/passwd"), Status::UnsafePath),
        ("a link to the root", links("/etc/passwd"), Status::UnsafePath),
        ("links in circles", links("layer.tar"), Status::Malformed),
        ("a name that leads out", Archive::new().file(b"../x.tar", b"x").finish(), Status::UnsafePath),
    ];
    for (what, bytes, status) in cases {
        let error = Bench::new().import(&bytes, &ImportOptions::default()).expect_err(what);
        assert_eq!(error.status(), status, "{what}: {error}");
    }
    let bench = Bench::new();
    let refused = |change: &dyn Fn(&Path)| {
        let dir = folder(&good());
        change(dir.path());
        bench.import_path(dir.path(), &ImportOptions::default()).unwrap_err().status()
    };
    let layer = good()[4].0.clone();
    let outside = temp_dir();
    std::fs::write(outside.path().join("blob"), &made.layers[0]).unwrap();
    let relink = |path: std::path::PathBuf| {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(outside.path().join("blob"), path).unwrap();
    };
    assert_eq!(refused(&|dir| relink(dir.join(&layer))), Status::UnsafePath);
    assert_eq!(refused(&|dir| relink(dir.join("index.json"))), Status::UnsafePath);
    assert_eq!(refused(&|dir| std::fs::remove_file(dir.join("oci-layout")).unwrap()), Status::Malformed);
    assert_eq!(refused(&|dir| std::fs::write(dir.join("oci-layout"), "{}").unwrap()), Status::Malformed);
    let newer = r#"{"imageLayoutVersion":"2.0.0"}"#;
    assert_eq!(refused(&|dir| std::fs::write(dir.join("oci-layout"), newer).unwrap()), Status::Unsupported);
    assert_eq!(refused(&|dir| std::fs::write(dir.join(&layer), "short").unwrap()), Status::SizeMismatch);
    assert_eq!(
        refused(&|dir| std::fs::write(dir.join(&layer), vec![0; made.layers[0].len()]).unwrap()),
        Status::DigestMismatch
    );
    assert_eq!(refused(&|dir| std::fs::remove_file(dir.join(&layer)).unwrap()), Status::NotFound);
    let none = bench.import_path(Path::new("/no/such/thing"), &ImportOptions::default()).unwrap_err();
    assert_eq!(none.status(), Status::NotFound);
}

/// From the command line, by name and through a pipe.
#[test]
fn blimg_imports() {
    let Some(tool) = super::blimg::Tool::new() else { return };
    let made = Made::new(&["one"]);
    let dir = temp_dir();
    let path = dir.path().join("x.tar");
    std::fs::write(&path, tar(&docker(&made, r#"["app:1"]"#))).unwrap();
    let text = path.to_str().unwrap();
    let output = tool.blimg(&["import", text]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "app:1\n");
    let mut command = std::process::Command::new(tool.path("blimg"));
    command.arg("--store").arg(tool.store()).args(["--json", "import", "-", "--name", "b", "--no-unpack"]);
    let output = command.stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "{\"image\":\"docker.io/library/b:latest\",\"familiar_name\":\"b:latest\"}\n"
    );
    assert_eq!(super::blimg::status_in(&tool.blimg(&["import", text, "--select", "c"])), "NOT_FOUND");
    assert_eq!(tool.blimg(&["import"]).status.code(), Some(2));
}

/// From the command line, out and in.
#[test]
fn blimg_exports() {
    let Some(tool) = super::blimg::Tool::new() else { return };
    let made = Made::new(&["one"]);
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("x.tar"), tar(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()))).unwrap();
    assert!(tool.blimg(&["import", &at("x.tar")]).status.success());
    assert!(tool.blimg(&["export", "a.org/x:1", &at("y.tar")]).status.success());
    assert_eq!(super::blimg::status_in(&tool.blimg(&["export", "a.org/x:1", &at("y.tar")])), "EXISTS");
    assert!(tool.blimg(&["export", "a.org/x:1", &at("y.tar"), "--replace"]).status.success());
    assert!(tool.blimg(&["export", "--folder", "a.org/x:1", &at("y")]).status.success());
    let piped = tool.blimg(&["export", "a.org/x:1", "-"]).stdout;
    assert_eq!(piped, std::fs::read(at("y.tar")).unwrap());
    for source in ["y.tar", "y"] {
        let other = Bench::new();
        let imported = other.import_path(Path::new(&at(source)), &ImportOptions::default()).unwrap();
        assert_eq!(imported[0].manifest, made.digest());
    }
    assert_eq!(tool.blimg(&["export", &at("z")]).status.code(), Some(2));
}

/// A pipe in which nothing comes holds nobody for longer than he wants.
#[test]
fn a_silent_pipe_can_be_left() {
    let made = Made::new(&["one"]);
    let bytes = tar(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()));
    for at in [0, 100, 1500, bytes.len() - 600] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&bytes[..at]).unwrap();
        let bench = Bench::new();
        let mut options = ImportOptions::default();
        options.interrupt = Interrupt::new(None, Some(Duration::from_millis(200)));
        let source = ImportSource::File(reader.into());
        let error = watched("an import", || bench.storage.import(source, &options).unwrap_err());
        assert_eq!(error.status(), Status::Timeout, "{at}: {error}");
        bench.assert_sound();
        assert!(bench.storage.images().unwrap().is_empty());
    }
}

/// What goes out comes in again as it was, in both forms, whole or not at all.
#[test]
fn exports_come_in_again() {
    as_each_user("archives::exports_come_in_again", || {
        let (one, two) = (Made::new(&["one", "shared"]), Made::new(&["two", "shared"]));
        let mut blobs = one.blobs();
        blobs.extend(two.blobs());
        let entries = [one.entry(&named("a.org/one:1")), two.entry(&named("a.org/two:2"))];
        let bench = Bench::new();
        bench.import(&tar(&layout(&entries, blobs)), &ImportOptions::default()).unwrap();
        let open = |name: &str| bench.storage.open_image(&ImageName::parse(name).unwrap()).unwrap();
        let images = [open("a.org/one:1"), open("a.org/two:2")];
        let images = [&images[0], &images[1]];
        let (archive, folder) = (bench.dir.path().join("out.tar"), bench.dir.path().join("out"));
        let export = |target, options: &ExportOptions| {
            let result = bench.storage.export(&images, target, options);
            assert_nothing_half_made(bench.dir.path(), "export");
            bench.assert_sound();
            result.map_err(|error| error.status())
        };
        let default = ExportOptions::default();
        export(ExportTarget::Archive(archive.clone()), &default).unwrap();
        export(ExportTarget::Folder(folder.clone()), &default).unwrap();
        assert_eq!(export(ExportTarget::Archive(archive.clone()), &default), Err(Status::Exists));
        assert_eq!(export(ExportTarget::Folder(folder.clone()), &default), Err(Status::Exists));
        let mut replace = ExportOptions::default();
        replace.replace = true;
        let before = std::fs::read(&archive).unwrap();
        export(ExportTarget::Archive(archive.clone()), &replace).unwrap();
        export(ExportTarget::Folder(folder.clone()), &replace).unwrap();
        assert_eq!(std::fs::read(&archive).unwrap(), before, "the same content makes the same archive");
        let mut piped = Vec::new();
        let (mut reader, writer) = std::io::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Read::read_to_end(&mut reader, &mut piped).unwrap());
            export(ExportTarget::File(writer.into()), &default).unwrap();
        });
        assert_eq!(piped, before);
        for source in [&archive, &folder] {
            let other = Bench::new();
            let imported = other.import_path(source, &ImportOptions::default()).unwrap();
            let found: Vec<_> =
                imported.iter().map(|image| (image.manifest.clone(), image.names[0].to_string())).collect();
            assert_eq!(found, [(one.digest(), "a.org/one:1".to_owned()), (two.digest(), "a.org/two:2".to_owned())]);
            other.assert_image("a.org/two:2", &["two", "shared"]);
        }
        // By what docker load reads of it: the same config and layers.
        let files: Vec<File> = files_of(&before).into_iter().filter(|(name, _)| name != "index.json").collect();
        let other = Bench::new();
        let imported = other.import(&tar(&files), &ImportOptions::default()).unwrap();
        assert_eq!(imported.len(), 2);
        other.assert_image("a.org/one:1", &["one", "shared"]);
        // A layer that is not what it was goes nowhere.
        let layer = bench.storage.layer_tarball_path(&images[0].manifest.layers[0].digest);
        let mut bytes = std::fs::read(&layer).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&layer, &bytes).unwrap();
        let gone = bench.dir.path().join("gone");
        for target in [ExportTarget::Archive(gone.clone()), ExportTarget::Folder(gone.clone())] {
            let error = bench.storage.export(&images, target, &default).unwrap_err();
            assert_eq!(error.status(), Status::DigestMismatch, "{error}");
        }
        std::fs::write(&layer, &bytes[..10]).unwrap();
        let error = bench.storage.export(&images, ExportTarget::Archive(gone.clone()), &default).unwrap_err();
        assert_eq!(error.status(), Status::SizeMismatch, "{error}");
        assert!(!gone.exists());
        let none = bench.storage.export(&[], ExportTarget::Archive(gone), &default).unwrap_err();
        assert_eq!(none.status(), Status::InvalidArgument);
    });
}

/// The files of an archive of ours.
fn files_of(bytes: &[u8]) -> Vec<File> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if !name.ends_with('/') {
            files.push((name, bytes));
        }
    }
    files
}

/// What other tools write we read, and what we write they read, digests and all.
#[test]
fn other_tools_agree() {
    let made = Made::new(&["one", "two"]);
    let bench = Bench::new();
    let image = with_platform(&made);
    bench.import(&tar(&layout(&[image.entry(&named("a.org/x:1"))], image.blobs())), &ImportOptions::default()).unwrap();
    let opened = bench.storage.open_image(&ImageName::parse("a.org/x:1").unwrap()).unwrap();
    let (archive, folder) = (bench.dir.path().join("x.tar"), bench.dir.path().join("x"));
    bench.storage.export(&[&opened], ExportTarget::Archive(archive.clone()), &ExportOptions::default()).unwrap();
    bench.storage.export(&[&opened], ExportTarget::Folder(folder.clone()), &ExportOptions::default()).unwrap();
    let at = |name: &str| bench.dir.path().join(name).display().to_string();
    if has_tool("umoci") {
        let mut args = vec!["unpack".to_owned(), "--image".into(), format!("{}:1", folder.display()), at("bundle")];
        if !is_root() {
            args.insert(1, "--rootless".into());
        }
        let args: Vec<_> = args.iter().map(std::ffi::OsStr::new).collect();
        assert!(run("umoci", &args).status.success());
        assert_eq!(std::fs::read(bench.dir.path().join("bundle/rootfs/two")).unwrap(), b"two");
    }
    if !has_tool("skopeo") {
        return;
    }
    let skopeo = |from: String, to: String| {
        let args = ["--insecure-policy".to_owned(), "copy".into(), "--quiet".into(), from.clone(), to.clone()];
        let output = run("skopeo", &args.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>());
        assert!(output.status.success(), "{from} to {to}: {output:?}");
    };
    let theirs = |what: &str, name: &str| {
        let other = Bench::new();
        let imported = other.import_path(Path::new(&at(what)), &ImportOptions::default()).unwrap();
        assert_eq!(imported.len(), 1);
        let config = other.storage.open_image_by_digest(&imported[0].manifest).unwrap().manifest.config.digest;
        assert_eq!(config, Digest::of(&image.config), "{what}");
        if !name.is_empty() {
            other.assert_image(name, &["one", "two"]);
        }
        imported[0].manifest.clone()
    };
    // Ours, read by them as each form, and theirs by us.
    skopeo(format!("oci:{}:1", folder.display()), format!("oci:{}:1", at("oci")));
    assert_eq!(theirs("oci", ""), image.digest());
    skopeo(format!("oci-archive:{}:1", archive.display()), format!("oci-archive:{}:1", at("oci.tar")));
    assert_eq!(theirs("oci.tar", ""), image.digest());
    skopeo(
        format!("docker-archive:{}:a.org/x:1", archive.display()),
        format!("docker-archive:{}:b.org/y:2", at("d.tar")),
    );
    theirs("d.tar", "b.org/y:2");
}

/// The same with what skopeo wants of a config.
fn with_platform(made: &Made) -> Made {
    let ids: Vec<String> = made.tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    Made::with_config(made.tars.clone(), &config)
}
