//! Reports 5 and 6, and of 11 what is about choosing (nydus#1692, image-spec#870, k3s#7035,
//! singularity#3158, moby#47210, #47517, podman#8132). An entry is chosen before it is known to be
//! an image; open formats are read too narrowly. Each case is imported as an archive and as a
//! folder, opened as a bundle where it is one image, and pulled from a registry.

use boxlite_images::oci::Platform;
use boxlite_images::{Digest, ImageName, ImportOptions, Status};

use super::super::archive::Archive;
use super::super::image_files::{Bench, File, Made, docker, folder, layout, named, tar};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image whose config says what it is for: `os/architecture`, or nothing.
fn image(content: &str, platform: &str) -> Made {
    let plain = Made::new(&[content]);
    if platform.is_empty() {
        return plain;
    }
    let (os, architecture) = platform.split_once('/').unwrap();
    let config = String::from_utf8(plain.config.clone()).unwrap();
    let config = config.replacen('{', &format!(r#"{{"os":"{os}","architecture":"{architecture}","#), 1);
    Made::with_config(plain.tars, &config)
}

fn ours() -> &'static str {
    if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" }
}

fn platform(text: &str) -> String {
    let (os, architecture) = text.split_once('/').unwrap();
    format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
}

/// A document that is no image, and its blobs.
struct Other {
    document: String,
    media_type: &'static str,
    blobs: Vec<Vec<u8>>,
}

impl Other {
    fn entry(&self, more: &str) -> String {
        let (digest, size) = (Digest::of(self.document.as_bytes()), self.document.len());
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}{more}}}"#, self.media_type)
    }

    fn files(&self) -> Vec<File> {
        let all = self.blobs.iter().cloned().chain([self.document.clone().into_bytes()]);
        all.map(|blob| (format!("blobs/sha256/{}", Digest::of(&blob).hex()), blob)).collect()
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
}

/// A manifest of this config type, with a layer of this type, and what else it says.
fn manifest(config_type: &str, layer_type: &str, more: &str) -> Other {
    let (config, layer) = (b"{}".to_vec(), b"signature".to_vec());
    let document = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]{more}}}"#,
        descriptor(config_type, &config),
        descriptor(layer_type, &layer)
    );
    Other { document, media_type: MANIFEST, blobs: vec![config, layer] }
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What lies beside images, each with the words that name it where it is alone.
fn beside() -> Vec<(&'static str, Other, String, &'static str)> {
    let subject = format!(r#","subject":{}"#, descriptor(MANIFEST, b"x"));
    let of_type = r#","artifactType":"application/vnd.example.sbom""#.to_owned();
    let none = String::new;
    vec![
        ("an artifact", manifest("application/vnd.oci.empty.v1+json", "text/plain", &of_type), none(), "example.sbom"),
        ("one whose entry says so", manifest(CONFIG, LAYER, ""), of_type.clone(), "example.sbom"),
        ("a Helm chart", manifest("application/vnd.cncf.helm.config.v1+json", "x/y", ""), none(), "helm.config"),
        (
            "a signature of cosign",
            manifest(CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json", ""),
            none(),
            "simplesigning",
        ),
        ("what has a subject", manifest(CONFIG, LAYER, &subject), none(), "subject"),
        (
            "an attestation",
            manifest(CONFIG, "application/vnd.in-toto+json", ""),
            platform("unknown/unknown"),
            "attestation",
        ),
        (
            "one by its annotation",
            manifest(CONFIG, LAYER, ""),
            r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#.into(),
            "attestation",
        ),
        (
            "what is for features that we do not have",
            manifest(CONFIG, LAYER, ""),
            r#","platform":{"os":"linux","architecture":"amd64","os.features":["win32k"]}"#.into(),
            "win32k",
        ),
        (
            "an encrypted image",
            manifest(CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ""),
            none(),
            "encrypted",
        ),
        (
            "an entry of a type that nobody knows",
            Other { media_type: "application/vnd.example.v9+json", ..manifest(CONFIG, LAYER, "") },
            none(),
            "example.v9",
        ),
    ]
}

fn archive(entries: &[String], images: &[&Made], others: &[&Other]) -> Vec<File> {
    let mut blobs: Vec<File> = images.iter().flat_map(|made| made.blobs()).collect();
    blobs.extend(others.iter().flat_map(|other| other.files()));
    layout(entries, blobs)
}

fn wanting(platform: &str) -> ImportOptions {
    let mut options = ImportOptions::default();
    options.platform = (!platform.is_empty()).then(|| Platform::parse(platform).unwrap());
    options
}

/// The digests that an import gives, or its error; the same from an archive and from a folder.
fn imported(files: &[File], options: &ImportOptions) -> Result<Vec<Digest>, (Status, String)> {
    let result = |imported: Result<Vec<boxlite_images::Imported>, boxlite_images::Error>| match imported {
        Ok(images) => Ok(images.into_iter().map(|image| image.manifest).collect::<Vec<_>>()),
        Err(error) => Err((error.status(), error.message().to_owned())),
    };
    let from_archive = result(Bench::new().import(&tar(files), options));
    let dir = folder(files);
    let from_folder = result(Bench::new().import_path(dir.path(), options));
    assert_eq!(from_archive.as_ref().map_err(|(status, _)| status), from_folder.as_ref().map_err(|(status, _)| status));
    if let Ok([digest]) = from_archive.as_deref() {
        let bench = Bench::new();
        let (_, opened) = bench.storage.open_bundle(dir.path(), options).unwrap();
        assert_eq!(opened.manifest, *digest);
    }
    from_archive
}

/// An image is found before and behind everything else, in a flat index and in a nested one. Alone,
/// the rest is refused by what it is.
#[test]
fn what_is_no_image_is_passed_over() {
    for (what, other, more, word) in beside() {
        let made = image("good", ours());
        let (name, platform) = (named("a.org/x:1"), platform(ours()));
        for entries in [
            [other.entry(&more), made.entry(&name)],
            [made.entry(&name), other.entry(&more)],
            [other.entry(&more), made.entry(&format!("{platform}{name}"))],
        ] {
            let found = imported(&archive(&entries, &[&made], &[&other]), &ImportOptions::default());
            assert_eq!(found, Ok(vec![made.digest()]), "{what}");
        }
        let found = imported(&archive(&[other.entry(&more)], &[], &[&other]), &ImportOptions::default());
        let (status, message) = found.expect_err(what);
        assert_eq!(status, Status::Unsupported, "{what}: {message}");
        assert!(message.contains(word), "{what}: {message}");
        // In an index of the image's own.
        for entries in [
            [other.entry(&more), made.entry(&platform)],
            [made.entry(&platform), other.entry(&more)],
            [other.entry(&more), made.entry("")],
        ] {
            let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
            let nested = Other { document: index, media_type: INDEX, blobs: Vec::new() };
            let found = imported(&archive(&[nested.entry(&name)], &[&made], &[&other, &nested]), &Default::default());
            assert_eq!(found, Ok(vec![made.digest()]), "{what}, nested");
        }
    }
}

/// The first of several is not taken for another processor; an entry that does not say what it is for is judged by its config.
#[test]
fn platforms_are_those_of_entries_or_configs() {
    let (amd, arm, silent) = (image("amd", "linux/amd64"), image("arm", "linux/arm64"), image("silent", ""));
    let both = |one: &Made, other: &Made, say: bool| {
        let entry =
            |made: &Made, platform_text: &str| made.entry(&if say { platform(platform_text) } else { String::new() });
        let entries = [entry(one, "linux/amd64"), entry(other, "linux/arm64")];
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        let nested = Other { document: index, media_type: INDEX, blobs: Vec::new() };
        (entries, nested)
    };
    for say in [true, false] {
        for (wanted, expected) in
            [("linux/amd64", Ok(amd.digest())), ("linux/arm64", Ok(arm.digest())), ("linux/s390x", Err(()))]
        {
            let (_, nested) = both(&amd, &arm, say);
            let files = archive(&[nested.entry(&named("a.org/x:1"))], &[&amd, &arm], &[&nested]);
            let found = imported(&files, &wanting(wanted));
            match expected {
                Ok(digest) => assert_eq!(found, Ok(vec![digest]), "{wanted} {say}"),
                Err(()) => {
                    let (status, message) = found.unwrap_err();
                    assert_eq!(status, Status::NotFound);
                    assert!(message.contains("linux/amd64, linux/arm64"), "{message}");
                }
            }
        }
    }
    // One image, for a platform that it is not for, in every form; what it does not say cannot be wrong.
    for (what, files) in [
        ("a layout", archive(&[arm.entry(&named("a.org/x:1"))], &[&arm], &[])),
        ("docker save", docker(&arm, r#"["a.org/x:1"]"#)),
    ] {
        let take =
            |wanted: &str| Bench::new().import(&tar(&files), &wanting(wanted)).map(|_| ()).map_err(|e| e.status());
        assert_eq!(take("linux/amd64"), Err(Status::NotFound), "{what}");
        assert_eq!((take("linux/arm64"), take("")), (Ok(()), Ok(())), "{what}");
    }
    let files = archive(&[silent.entry("")], &[&silent], &[]);
    assert_eq!(imported(&files, &wanting("linux/riscv64")), Ok(vec![silent.digest()]));
}

/// A flat index.json with one manifest a platform (apko): one name, one image; without a name too.
#[test]
fn a_flat_index_is_an_index() {
    let (amd, arm) = (image("amd", "linux/amd64"), image("arm", "linux/arm64"));
    for name in [named("a.org/x:1"), String::new()] {
        let entries = [
            arm.entry(&format!("{}{name}", platform("linux/arm64"))),
            amd.entry(&format!("{}{name}", platform("linux/amd64"))),
        ];
        let files = archive(&entries, &[&amd, &arm], &[]);
        assert_eq!(imported(&files, &wanting("linux/amd64")), Ok(vec![amd.digest()]));
        assert_eq!(imported(&files, &wanting("linux/arm64")), Ok(vec![arm.digest()]));
        assert_eq!(imported(&files, &wanting("")).unwrap().len(), 1);
        assert_eq!(imported(&files, &wanting("linux/s390x")).unwrap_err().0, Status::NotFound);
    }
    // Two images of one platform are two.
    let other = image("other", "linux/amd64");
    let entries = [amd.entry(&platform("linux/amd64")), other.entry(&platform("linux/amd64"))];
    let files = archive(&entries, &[&amd, &other], &[]);
    assert_eq!(imported(&files, &wanting("linux/amd64")), Ok(vec![amd.digest(), other.digest()]));
}

/// An archive that holds one platform of an index of many says which.
#[test]
fn an_archive_with_one_platform_of_many_says_which() {
    let (amd, arm) = (image("amd", "linux/amd64"), image("arm", "linux/arm64"));
    let entries = [amd.entry(&platform("linux/amd64")), arm.entry(&platform("linux/arm64"))];
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
    let nested = Other { document: index, media_type: INDEX, blobs: Vec::new() };
    let files = archive(&[nested.entry(&named("a.org/x:1"))], &[&arm], &[&nested]);
    assert_eq!(imported(&files, &wanting("linux/arm64")), Ok(vec![arm.digest()]));
    let (status, message) = imported(&files, &wanting("linux/amd64")).unwrap_err();
    assert_eq!(status, Status::NotFound);
    assert!(message.contains("for linux/amd64 is not there") && message.contains("linux/arm64"), "{message}");
}

#[test]
fn a_digest_selects() {
    let (amd, arm) = (image("amd", "linux/amd64"), image("arm", "linux/arm64"));
    let entries = [amd.entry(&platform("linux/amd64")), arm.entry(&platform("linux/arm64"))];
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
    let nested = Other { document: index, media_type: INDEX, blobs: Vec::new() };
    let alone = image("alone", "");
    let files = archive(&[nested.entry(""), alone.entry("")], &[&amd, &arm, &alone], &[&nested]);
    let select = |digest: &Digest, wanted: &str| {
        let mut options = wanting(wanted);
        options.select = Some(digest.to_string());
        imported(&files, &options).map_err(|(status, _)| status)
    };
    for made in [&amd, &arm, &alone] {
        assert_eq!(select(&made.digest(), ""), Ok(vec![made.digest()]));
    }
    let outer = Digest::of(nested.document.as_bytes());
    assert_eq!(select(&outer, "linux/arm64"), Ok(vec![arm.digest()]));
    assert_eq!(select(&amd.digest(), "linux/arm64"), Err(Status::NotFound));
    assert_eq!(select(&Digest::of(b"none"), ""), Err(Status::NotFound));
    // In what docker save wrote, by the config that Docker calls the image's id.
    let saved = tar(&docker(&amd, r#"["a.org/x:1"]"#));
    let mut options = ImportOptions::default();
    options.select = Some(Digest::of(&amd.config).to_string());
    assert_eq!(Bench::new().import(&saved, &options).unwrap().len(), 1);
    options.select = Some(Digest::of(b"none").to_string());
    assert_eq!(Bench::new().import(&saved, &options).unwrap_err().status(), Status::NotFound);
}

/// `cosign save`, `oras copy -r` and `regctl image export`, by what their layouts look like.
#[test]
fn layouts_of_other_tools() {
    let made = image("good", ours());
    let signature = manifest(CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json", "");
    let attestation = manifest(CONFIG, "application/vnd.dsse.envelope.v1+json", "");
    let kind = |kind: &str| {
        format!(
            r#","annotations":{{"kind":"dev.cosignproject.cosign/{kind}","org.opencontainers.image.ref.name":"a.org/x:1"}}"#
        )
    };
    let cosign = archive(
        &[made.entry(&kind("image")), signature.entry(&kind("sigs")), attestation.entry(&kind("atts"))],
        &[&made],
        &[&signature, &attestation],
    );
    let subject =
        format!(r#","subject":{},"artifactType":"application/spdx+json""#, descriptor(MANIFEST, &made.manifest));
    let sbom = manifest("application/vnd.oci.empty.v1+json", "application/spdx+json", &subject);
    let of_type = r#","artifactType":"application/spdx+json""#;
    let oras = archive(&[sbom.entry(of_type), made.entry(&named("a.org/x:1"))], &[&made], &[&sbom]);
    let mut regctl = archive(&[made.entry(&named("a.org/x:1"))], &[&made], &[]);
    let config = format!("blobs/sha256/{}", Digest::of(&made.config).hex());
    let layer = format!("blobs/sha256/{}", Digest::of(&made.layers[0]).hex());
    let json = format!(r#"[{{"Config":"{config}","RepoTags":["a.org/x:1"],"Layers":["{layer}"]}}]"#);
    regctl.push(("manifest.json".into(), json.into_bytes()));
    for (what, files) in [("cosign save", cosign), ("oras copy -r", oras), ("regctl image export", regctl)] {
        let bench = Bench::new();
        let imported = bench.import(&tar(&files), &ImportOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found: Vec<_> = imported.iter().map(|image| (&image.manifest, image.names.len())).collect();
        assert_eq!(found, [(&made.digest(), 1)], "{what}");
        bench.assert_image("a.org/x:1", &["good"]);
    }
}

/// JSON `null` is Go's empty value, wherever a Go program writes lists, maps and texts.
#[test]
fn null_is_empty() {
    let made = Made::new(&["one"]);
    let text = String::from_utf8(made.config.clone()).unwrap();
    let nulls = r#"{"history":null,"created":null,"variant":null,"os":null,"architecture":null,"os.features":null,
        "config":{"Env":null,"Cmd":null,"Entrypoint":null,"Labels":null,"Volumes":null,"ExposedPorts":null,"User":null,
        "WorkingDir":null,"StopSignal":null},"#;
    let odd = r#"{"config":{"Env":[null,"A=1"],"Cmd":["a",null],"Labels":{"a":null}},"#;
    for config in [nulls, odd] {
        let made = Made::with_config(made.tars.clone(), &text.replacen('{', config, 1));
        let nulls = r#","annotations":null,"platform":null,"urls":null,"artifactType":null"#;
        let variant = r#","platform":{"os":"linux","architecture":"amd64","variant":null,"os.features":null}"#;
        for more in [nulls, variant, r#","annotations":{"a":null}"#] {
            let files = archive(&[made.entry(more)], &[&made], &[]);
            assert_eq!(imported(&files, &wanting("linux/amd64")), Ok(vec![made.digest()]), "{more}");
        }
        let with_nulls = String::from_utf8(made.manifest.clone()).unwrap();
        let with_nulls = with_nulls.replacen('{', r#"{"annotations":null,"subject":null,"manifests":null,"#, 1);
        let made = Made { manifest: with_nulls.into_bytes(), ..made };
        assert!(imported(&archive(&[made.entry("")], &[&made], &[]), &Default::default()).is_ok());
    }
    let no_layers = Made::with_config(vec![], r#"{"rootfs":{"diff_ids":null}}"#);
    let text = String::from_utf8(no_layers.manifest.clone()).unwrap().replace("\"layers\":[]", "\"layers\":null");
    let no_layers = Made { manifest: text.into_bytes(), ..no_layers };
    assert!(imported(&archive(&[no_layers.entry("")], &[&no_layers], &[]), &Default::default()).is_ok());
    // docker save.
    let files = |json: &str| {
        let mut files = docker(&made, "null");
        let (_, bytes) = files.last_mut().unwrap();
        *bytes = json.replace("OLD", std::str::from_utf8(bytes).unwrap().trim_matches(['[', ']'])).into_bytes();
        tar(&files)
    };
    for (json, count) in [
        ("[OLD]", Ok(1)),
        (r#"[{"Parent":null,"LayerSources":null,"RepoTags":[null],"Config":"x"}]"#, Err(Status::NotFound)),
        // What has no list is no manifest.json.
        ("null", Err(Status::Malformed)),
    ] {
        let result = Bench::new().import(&files(json), &ImportOptions::default());
        assert_eq!(result.map(|images| images.len()).map_err(|error| error.status()), count, "{json}");
    }
}

/// An index of nothing leaves what docker save wrote to be read; alone it has no image.
#[test]
fn an_index_of_nothing_leaves_the_rest() {
    let made = Made::new(&["one"]);
    for manifests in ["[]", "null"] {
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":{manifests}}}"#);
        let mut files = docker(&made, r#"["app:1"]"#);
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files.push(("index.json".into(), index.into_bytes()));
        let bench = Bench::new();
        bench.import(&tar(&files), &ImportOptions::default()).unwrap();
        bench.assert_image("app:1", &["one"]);
        files.retain(|(name, _)| name != "manifest.json");
        let alone = Bench::new().import(&tar(&files), &ImportOptions::default());
        assert_eq!(alone.unwrap_err().status(), Status::NotFound);
    }
}

/// What lies about in archives is nobody's, wherever it lies; what is referenced is verified as ever.
#[test]
fn strangers_are_passed_by() {
    let made = Made::new(&["one", "two"]);
    let strangers = [
        "._index.json",
        ".DS_Store",
        "README.md",
        "blobs/.DS_Store",
        "blobs/sha256/._0123",
        "blobs/sha256/.DS_Store",
        "blobs/sha256/.nfs000000000001",
        "blobs/sha256/README",
        "blobs/sha256/abc",
        "blobs/sha384/00",
        "blobs/blake3/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "blobs/sha256/sub/file",
        "blobs/README",
    ];
    for good in [layout(&[made.entry(&named("app:1"))], made.blobs()), docker(&made, r#"["app:1"]"#)] {
        for bytes in [&b"stranger"[..], b"{\"a\":1}", b""] {
            let mut files: Vec<File> = strangers.iter().map(|name| ((*name).to_owned(), bytes.to_vec())).collect();
            files.extend(good.clone());
            let bench = Bench::new();
            bench.import(&tar(&files), &ImportOptions::default()).unwrap();
            bench.assert_image("app:1", &["one", "two"]);
        }
    }
    let mut files = layout(&[made.entry("")], made.blobs());
    files.push((format!("blobs/sha256/{}", Digest::of(b"x").hex()), b"other".to_vec()));
    assert_eq!(Bench::new().import(&tar(&files), &Default::default()).unwrap_err().status(), Status::DigestMismatch);
}

/// Names in manifest.json are cut as the archive's own; keys in either case.
#[test]
fn manifest_json_as_others_wrote_it() {
    let made = Made::new(&["one"]);
    let json = |text: &str| {
        let files = docker(&made, "null");
        let mut archive = Archive::new();
        for (name, bytes) in &files[..files.len() - 1] {
            archive = archive.file(format!("./{name}").as_bytes(), bytes);
        }
        let config = format!("{}.json", Digest::of(&made.config).hex());
        let layer = format!("0{}/layer.tar", "0".repeat(63));
        let text = text.replace("CONFIG", &config).replace("LAYER", &layer);
        let bench = Bench::new();
        let result = bench.import(&archive.file(b"manifest.json", text.as_bytes()).finish(), &Default::default());
        result.map(|_| bench.assert_image("app:1", &["one"])).map_err(|error| error.status())
    };
    for text in [
        r#"[{"Config":"CONFIG","RepoTags":["app:1"],"Layers":["LAYER"]}]"#,
        r#"[{"Config":"./CONFIG","RepoTags":["app:1"],"Layers":["./LAYER"]}]"#,
        r#"[{"Config":"/CONFIG","RepoTags":["app:1"],"Layers":["//LAYER"]}]"#,
        r#"[{"Config":"/./CONFIG","RepoTags":["app:1"],"Layers":[".//LAYER"]}]"#,
        r#"[{"config":"CONFIG","repoTags":["app:1"],"layers":["LAYER"]}]"#,
    ] {
        assert_eq!(json(text), Ok(()), "{text}");
    }
    for (text, status) in [
        (r#"[{"Config":"CONFIG","config":"CONFIG","RepoTags":["app:1"],"Layers":["LAYER"]}]"#, Status::Malformed),
        (r#"[{"Config":"../CONFIG","RepoTags":["app:1"],"Layers":["LAYER"]}]"#, Status::UnsafePath),
        (r#"[{"Config":"/../CONFIG","RepoTags":["app:1"],"Layers":["LAYER"]}]"#, Status::UnsafePath),
    ] {
        assert_eq!(json(text), Err(status), "{text}");
    }
    // A config with small keys: what it says holds.
    let config = String::from_utf8(made.config.clone()).unwrap();
    let small =
        config.replacen('{', r#"{"Architecture":"arm64","OS":"linux","config":{"env":["A=1"],"cmd":["x"]},"#, 1);
    let small = Made::with_config(made.tars.clone(), &small);
    let bench = Bench::new();
    bench.import(&tar(&docker(&small, r#"["app:1"]"#)), &Default::default()).unwrap();
    let image = bench.storage.open_image(&ImageName::parse("app:1").unwrap()).unwrap();
    let config = &image.config;
    assert_eq!((&config.env[..], &config.cmd[..]), (&["A=1".to_owned()][..], &["x".to_owned()][..]));
    assert_eq!(config.architecture, "arm64");
}

/// Bytes that are no UTF-8 are refused wherever they stand in a document, also where nobody looks.
#[test]
fn invalid_utf8_is_malformed() {
    let made = Made::new(&["one"]);
    let with = |text: &[u8]| {
        let mut bytes = text.to_vec();
        bytes.splice(1..1, b"\"comment\":\"\xff\",".iter().copied());
        bytes
    };
    let in_config = {
        let config = with(&made.config);
        let digest = (Digest::of(&made.config).to_string(), Digest::of(&config).to_string());
        let manifest = String::from_utf8(made.manifest.clone()).unwrap().replace(&digest.0, &digest.1);
        let size = |bytes: &[u8]| format!("\"size\":{}", bytes.len());
        let manifest = manifest.replacen(&size(&made.config), &size(&config), 1);
        Made { config, manifest: manifest.into_bytes(), tars: made.tars.clone(), layers: made.layers.clone() }
    };
    let in_manifest = Made { manifest: with(&made.manifest), ..Made::new(&["one"]) };
    for (what, wrong) in [("a config", &in_config), ("a manifest", &in_manifest)] {
        let files = archive(&[wrong.entry("")], &[wrong], &[]);
        assert_eq!(imported(&files, &Default::default()).unwrap_err().0, Status::Malformed, "{what}");
    }
    let mut files = archive(&[made.entry("")], &[&made], &[]);
    files[1].1 = with(&files[1].1);
    assert_eq!(imported(&files, &Default::default()).unwrap_err().0, Status::Malformed, "index.json");
    let mut files = docker(&made, r#"["app:1"]"#);
    files.last_mut().unwrap().1.splice(2..2, b"\"x\":\"\xff\",".iter().copied());
    assert_eq!(Bench::new().import(&tar(&files), &Default::default()).unwrap_err().status(), Status::Malformed);
}

/// A directory where a layout has a file.
#[test]
fn a_directory_is_no_index() {
    let made = Made::new(&["one"]);
    for (what, name) in [
        ("the index", "index.json".to_owned()),
        ("the marker", "oci-layout".to_owned()),
        ("a manifest", format!("blobs/sha256/{}", made.digest().hex())),
    ] {
        let dir = folder(&archive(&[made.entry("")], &[&made], &[]));
        std::fs::remove_file(dir.path().join(&name)).unwrap();
        std::fs::create_dir(dir.path().join(&name)).unwrap();
        let error = Bench::new().import_path(dir.path(), &ImportOptions::default()).unwrap_err();
        assert_eq!(error.status(), Status::Malformed, "{what}: {error}");
        assert!(error.message().contains("directory"), "{what}: {error}");
    }
}

#[cfg(feature = "pull")]
mod pulls;
