//! The same of a pull.

use super::super::super::pull::content::Content;
use super::super::super::pull::options_for;
use super::super::super::pull::server::Server;
use super::super::super::support::{quick_store, temp_dir};
use super::*;

fn serve(document: &str, kind: &'static str, images: &[&Made], others: &[&Other]) -> Server {
    let mut content = Content { latest: Digest::of(document.as_bytes()).to_string(), ..Content::default() };
    content.manifests.insert(content.latest.clone(), (kind, document.as_bytes().to_vec()));
    for made in images {
        content.manifests.insert(made.digest().to_string(), (MANIFEST, made.manifest.clone()));
        for blob in made.layers.iter().chain([&made.config]) {
            content.blobs.insert(Digest::of(blob).to_string(), blob.clone());
        }
    }
    for other in others {
        let bytes = other.document.clone().into_bytes();
        content.manifests.insert(Digest::of(&bytes).to_string(), (other.media_type, bytes));
        for blob in &other.blobs {
            content.blobs.insert(Digest::of(blob).to_string(), blob.clone());
        }
    }
    Server::new(move |asked, _| content.answer(asked))
}

fn pull(server: &Server, platform: &str) -> Result<Digest, boxlite_images::Error> {
    let dir = temp_dir();
    let mut options = options_for(server);
    options.platform = (!platform.is_empty()).then(|| Platform::parse(platform).unwrap());
    let reference = format!("{}/library/app", server.host());
    quick_store(dir.path()).pull(&reference, &options).map(|image| image.manifest_digest)
}

#[test]
fn what_is_no_image_is_passed_over() {
    for (what, other, more, word) in beside() {
        let made = image("good", ours());
        for entries in [
            [other.entry(&more), made.entry(&platform(ours()))],
            [other.entry(&more), made.entry("")],
            [made.entry(""), other.entry(&more)],
        ] {
            let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
            let server = serve(&index, INDEX, &[&made], &[&other]);
            assert_eq!(pull(&server, "").unwrap(), made.digest(), "{what}");
        }
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, other.entry(&more));
        let error = pull(&serve(&index, INDEX, &[], &[&other]), "").expect_err(what);
        assert_eq!(error.status(), Status::Unsupported, "{what}: {error}");
        assert!(error.message().contains(word), "{what}: {error}");
        // By its own name, where its manifest says it.
        if more.is_empty() && other.media_type == MANIFEST {
            let error = pull(&serve(&other.document, MANIFEST, &[], &[&other]), "").expect_err(what);
            assert_eq!(error.status(), Status::Unsupported, "{what}: {error}");
            assert!(error.message().contains(word), "{what}: {error}");
        }
    }
}

#[test]
fn platforms_are_those_of_entries_or_configs() {
    let (amd, arm) = (image("amd", "linux/amd64"), image("arm", "linux/arm64"));
    for say in [true, false] {
        let text = |name: &str| if say { platform(name) } else { String::new() };
        let entries = [amd.entry(&text("linux/amd64")), arm.entry(&text("linux/arm64"))];
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let server = serve(&index, INDEX, &[&amd, &arm], &[]);
        assert_eq!(pull(&server, "linux/arm64").unwrap(), arm.digest());
        assert_eq!(pull(&server, "linux/amd64").unwrap(), amd.digest());
        let error = pull(&server, "linux/s390x").unwrap_err();
        assert!(error.message().contains("linux/amd64, linux/arm64"), "{error}");
    }
    let alone = serve(std::str::from_utf8(&arm.manifest).unwrap(), MANIFEST, &[&arm], &[]);
    assert_eq!(pull(&alone, "linux/arm64").unwrap(), arm.digest());
    assert_eq!(pull(&alone, "").unwrap(), arm.digest());
    let error = pull(&alone, "linux/amd64").unwrap_err();
    assert_eq!(error.status(), Status::NotFound);
    assert!(error.message().contains("is for linux/arm64, not for linux/amd64"), "{error}");
}

/// An index whose entries say nothing is not fetched without an end.
#[test]
fn entries_that_say_nothing_are_looked_at_within_bounds() {
    let arm = image("arm", "linux/arm64");
    let entries = vec![arm.entry(""); 1000].join(",");
    let server = serve(&format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#), INDEX, &[&arm], &[]);
    assert_eq!(pull(&server, "linux/amd64").unwrap_err().status(), Status::Limit);
}

/// A document of one kind by OCI's and Docker's name is the same kind (containerd's rule).
#[test]
fn names_of_one_kind_are_the_same_kind() {
    let made = image("good", ours());
    let text = String::from_utf8(made.manifest.clone()).unwrap();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    for (inside, outside, is_good) in
        [(MANIFEST, docker, true), (docker, MANIFEST, true), (MANIFEST, INDEX, false), (docker, list, false)]
    {
        let text = text.replacen('{', &format!(r#"{{"mediaType":"{inside}","#), 1);
        let result = pull(&serve(&text, outside, &[&made], &[]), "");
        match result {
            Ok(_) => assert!(is_good, "{inside} as {outside}"),
            Err(error) => {
                assert!(!is_good && error.status() == Status::Malformed, "{inside} as {outside}: {error}")
            }
        }
    }
}
