//! A real registry: distribution, from Debian's package `docker-registry`, on loopback: plain, with TLS, with passwords.
//! And TLS as registries should not have it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use boxlite_images::{Credentials, PullOptions, RegistryOptions, Status};

use super::super::support::{has_tool, in_own_process, quick_store, side_by_side, temp_dir, wait_until, watchdog};
use super::certificates::Certificates;
use super::content::Content;
use super::server::{Answer, Server};
use super::{Bench, plain};

/// `me:secret`, as the registry wants it: `htpasswd -Bbn me secret`.
const HTPASSWD: &str = "me:$2y$05$WyOzk.ZcohnMK5UVGrF.Yu9ygsn48Yzvn0yDDCx.d3Alv3dT6WET2\n";

/// A registry that runs as long as this lives.
struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// `http` is what its configuration has below that, beside the address.
    fn start(content: &Content, http: &str, auth: &str) -> Registry {
        let dir = temp_dir();
        fill(&dir.path().join("data"), content);
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n{auth}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg("config.yml")
            .current_dir(dir.path())
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the registry comes up", || {
            assert!(child.try_wait().unwrap().is_none(), "the registry died");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Registry { child, port, _dir: dir }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts an image where distribution keeps its own.
fn fill(root: &Path, content: &Content) {
    let root = root.join("docker/registry/v2");
    let repository = root.join("repositories/library/app");
    let hex = |digest: &str| digest.strip_prefix("sha256:").unwrap().to_owned();
    let put = |path: PathBuf, bytes: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let blobs = content.blobs.iter().map(|(digest, bytes)| (digest, bytes, "_layers/sha256"));
    let manifests = content.manifests.iter().map(|(digest, (_, bytes))| (digest, bytes, "_manifests/revisions/sha256"));
    for (digest, bytes, kind) in blobs.chain(manifests) {
        let hex = hex(digest);
        put(root.join("blobs/sha256").join(&hex[..2]).join(&hex).join("data"), bytes);
        put(repository.join(kind).join(&hex).join("link"), digest.as_bytes());
    }
    let tag = repository.join("_manifests/tags/latest");
    put(tag.join("current/link"), content.latest.as_bytes());
    put(tag.join("index/sha256").join(hex(&content.latest)).join("link"), content.latest.as_bytes());
}

fn registry(host: &str) -> RegistryOptions {
    RegistryOptions::new(host)
}

fn options(registry: RegistryOptions) -> PullOptions {
    let mut options = PullOptions::default();
    options.registries = vec![registry];
    options.stall_timeout = Some(watchdog());
    options
}

#[test]
fn a_real_registry_in_each_of_its_forms() {
    if !has_tool("docker-registry") || !has_tool("openssl") {
        return;
    }
    let (content, certificates) = (Content::new(), Certificates::new());
    let tls = format!(
        "  tls: {{certificate: {}, key: {}}}",
        certificates.path("server.pem").display(),
        certificates.path("server.key").display()
    );
    let htpasswd = "auth: {htpasswd: {realm: x, path: htpasswd}}";
    for (what, http, auth) in [
        ("plain", "", ""),
        ("plain with passwords", "", htpasswd),
        ("TLS", tls.as_str(), ""),
        ("TLS with passwords", tls.as_str(), htpasswd),
    ] {
        let running = Registry::start(&content, http, auth);
        let host = format!("localhost:{}", running.port);
        let mut special = registry(&host);
        if http.is_empty() {
            special = plain(host.clone());
        } else {
            special.authorities = vec![certificates.path("ca.pem")];
        }
        let mut options = options(special);
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let reference = format!("{host}/library/app");
        if !auth.is_empty() {
            let error = storage.pull(&reference, &options).unwrap_err();
            assert_eq!((error.status(), error.http_status()), (Status::Unauthorized, Some(401)), "{what}: {error}");
            options.credentials = Some(Credentials::new("me", "wrong"));
            assert_eq!(storage.pull(&reference, &options).unwrap_err().status(), Status::Unauthorized, "{what}");
            options.credentials = Some(Credentials::new("me", "secret"));
        }
        let image = storage.pull(&reference, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(Some(&image.manifest_digest), content.manifest.as_ref());
        assert_eq!(image.missing, []);
        assert_eq!(storage.check(&Default::default()).unwrap().findings, []);
        let missing = storage.pull(&format!("{host}/library/app:none"), &options).unwrap_err();
        assert_eq!((missing.status(), missing.registry_code()), (Status::NotFound, Some("MANIFEST_UNKNOWN")), "{what}");
        let missing = storage.pull(&format!("{host}/library/none"), &options).unwrap_err();
        assert_eq!(missing.status(), Status::NotFound, "{what}: {missing}");
    }
}

/// A registry that gives ranges: what arrived before is not asked for again.
#[test]
fn a_real_registry_goes_on_in_the_middle() {
    if !has_tool("docker-registry") {
        return;
    }
    let bench = Bench::honest();
    let content = &bench.content;
    let running = Registry::start(content, "", "");
    let host = format!("127.0.0.1:{}", running.port);
    for layer in &content.layers {
        let (hex, blob) = (layer.hex(), &content.blobs[&layer.to_string()]);
        let kept = bench.dir.path().join(format!("layers/sha256-{hex}.{}.downloading", &hex[..32]));
        std::fs::write(kept, &blob[..blob.len() - 1000]).unwrap();
    }
    let operation = bench.storage.start_pull(&format!("{host}/library/app"), &options(plain(host))).unwrap();
    assert!(operation.wait(None).unwrap());
    let image = operation.finish().unwrap();
    assert_eq!(image.missing, []);
    let progress = operation.tracker().unwrap().progress();
    assert_eq!((progress.bytes_to_fetch, progress.bytes_fetched), (3000, 3000));
    assert_eq!(bench.storage.check(&Default::default()).unwrap().findings, []);
}

/// A staged download is where oci-client's own way to pull a blob puts it, as boxlite 0.9 had it. (Report 10.)
#[test]
fn a_client_writes_into_a_staged_download() {
    // A process has one provider of cryptography, which our own pulls do without.
    in_own_process("pull::real::a_client_writes_into_a_staged_download", client_writes_into_a_staged_download);
}

fn client_writes_into_a_staged_download() {
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    if !has_tool("docker-registry") {
        return;
    }
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let content = Content::new();
    let running = Registry::start(&content, "", "");
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = Client::try_from(config).unwrap();
    let reference: oci_client::Reference = format!("127.0.0.1:{}/library/app", running.port).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for layer in &content.layers {
        let blob = &content.blobs[&layer.to_string()];
        let mut staged = storage.stage_layer(layer, Some(blob.len() as u64)).unwrap();
        runtime.block_on(client.pull_blob(&reference, layer.as_str(), &mut staged)).unwrap();
        assert!(!storage.has_layer(layer).unwrap(), "it is not committed by itself");
        staged.commit().unwrap();
        assert_eq!(std::fs::read(storage.layer_tarball_path(layer)).unwrap(), *blob);
    }
    // What the store refuses ends the pull, with its own words.
    let mut staged = storage.stage_layer(&content.layers[0], Some(5)).unwrap();
    let error = runtime.block_on(client.pull_blob(&reference, content.layers[0].as_str(), &mut staged)).unwrap_err();
    assert!(error.to_string().contains("declared as 5 bytes"), "{error}");
    assert_eq!(staged.commit().unwrap_err().status(), Status::State);
}

/// Who is believed, and who we are: each way to get it wrong ends in `NETWORK`.
#[test]
fn tls_is_not_negotiable() {
    if !has_tool("openssl") {
        return;
    }
    use rustls::version::{TLS12, TLS13};
    let certificates = Certificates::new();
    let all = &[&TLS12, &TLS13][..];
    let ca = || vec![certificates.path("ca.pem")];
    let client = |certificate: &str, key: &str| Some((certificates.path(certificate), certificates.path(key)));
    type Set<'a> = Box<dyn Fn(&mut RegistryOptions) + Send + 'a>;
    let cases: Vec<(&str, rustls::ServerConfig, Set<'_>, Option<Status>)> = vec![
        ("nobody knows it", certificates.server("server", all, false), Box::new(|_| {}), Some(Status::Network)),
        ("the caller knows it", certificates.server("server", all, false), Box::new(|o| o.authorities = ca()), None),
        ("TLS 1.2", certificates.server("server", &[&TLS12], false), Box::new(|o| o.authorities = ca()), None),
        ("TLS 1.3", certificates.server("server", &[&TLS13], false), Box::new(|o| o.authorities = ca()), None),
        (
            "it is somebody else",
            certificates.server("other", all, false),
            Box::new(|o| o.authorities = ca()),
            Some(Status::Network),
        ),
        ("nobody cares", certificates.server("other", all, false), Box::new(|o| o.skip_verify = true), None),
        (
            "it wants to know who we are",
            certificates.server("server", all, true),
            Box::new(|o| o.authorities = ca()),
            Some(Status::Network),
        ),
        (
            "we say who we are",
            certificates.server("server", all, true),
            Box::new(|o| {
                o.authorities = ca();
                o.client_certificate = client("client.pem", "client.key");
            }),
            None,
        ),
        (
            "we say it in one file",
            certificates.server("server", all, true),
            Box::new(|o| {
                o.authorities = ca();
                o.client_certificate = client("both.pem", "both.pem");
            }),
            None,
        ),
        (
            "the key is of another certificate",
            certificates.server("server", all, true),
            Box::new(|o| {
                o.authorities = ca();
                o.client_certificate = client("client.pem", "other.key");
            }),
            Some(Status::Malformed),
        ),
        (
            "a file of certificates that has none",
            certificates.server("server", all, false),
            Box::new(|o| o.authorities = vec![certificates.path("server.key")]),
            Some(Status::Malformed),
        ),
        (
            "a file of certificates that is not there",
            certificates.server("server", all, false),
            Box::new(|o| o.authorities = vec![certificates.path("nothing")]),
            Some(Status::InvalidArgument),
        ),
    ];
    side_by_side(cases, |(what, tls, set, expected)| {
        let content = Content::new();
        let server = Server::with_tls(tls, move |asked, _| content.answer(asked));
        let mut special = registry(&server.host());
        set(&mut special);
        let dir = temp_dir();
        let result = quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options(special));
        assert_eq!(result.as_ref().err().map(|error| error.status()), expected, "{what}: {result:?}");
    });
    // Plain HTTP where TLS was to be, and the other way round.
    let bench = Bench::honest();
    let error = bench.storage.pull(&bench.reference(), &options(registry(&bench.server.host()))).unwrap_err();
    assert_eq!(error.status(), Status::Network, "{error}");
    let server = Server::with_tls(certificates.server("server", all, false), |_, _| Answer::new(200, ""));
    let reference = format!("{}/library/app", server.host());
    assert!(bench.storage.pull(&reference, &options(plain(server.host()))).is_err());
    assert_eq!(server.asked().len(), 0);
}

/// Never from https to plain http, with nobody's secret and to nobody; and what opens the registry over TLS opens
/// nothing where it sends us.
#[test]
fn redirects_stay_behind_tls() {
    if !has_tool("openssl") {
        return;
    }
    use rustls::version::TLS13;
    let certificates = Certificates::new();
    let content = Content::new();
    let (served, stolen) = (content.clone(), content.clone());
    let plain_host = Server::new(move |asked, _| stolen.answer(asked));
    let target = plain_host.host();
    let server = Server::with_tls(certificates.server("server", &[&TLS13], false), move |asked, _| {
        if asked.path.contains("/blobs/") {
            return Answer::new(307, "").header("location", format!("http://{target}{}", asked.path));
        }
        served.answer(asked)
    });
    let mut special = registry(&server.host());
    special.authorities = vec![certificates.path("ca.pem")];
    let dir = temp_dir();
    let error =
        quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options(special.clone())).unwrap_err();
    assert_eq!(error.status(), Status::Registry, "{error}");
    assert_eq!(plain_host.asked().len(), 0);

    // A token server that is not reached by https, and one whose certificate nobody knows, though the registry's own
    // need not be known.
    let token_server =
        Server::with_tls(certificates.server("other", &[&TLS13], false), |_, _| Answer::new(200, r#"{"token":"t"}"#));
    for (realm, expected) in [
        (format!("http://{}/token", plain_host.host()), Status::Registry),
        (format!("https://{}/token", token_server.host()), Status::Network),
    ] {
        let server = Server::with_tls(certificates.server("server", &[&TLS13], false), move |_, _| {
            Answer::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let mut special = registry(&server.host());
        special.skip_verify = true;
        let mut options = options(special);
        options.credentials = Some(Credentials::new("me", "secret"));
        let error = quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).unwrap_err();
        assert_eq!(error.status(), expected, "{error}");
    }
    assert_eq!((plain_host.asked().len(), token_server.asked().len()), (0, 0));
}

/// Proxies are used when the call says so, and by the environment only when the call says that.
#[test]
fn proxies() {
    let content = Content::new();
    let proxy = Server::new(move |asked, _| {
        let path = asked.path.strip_prefix("http://registry.example:5000").map(str::to_owned);
        content.answer(&super::server::Asked { path: path.unwrap_or_default(), ..asked.clone() })
    });
    let dir = temp_dir();
    let mut options = options(plain("registry.example:5000".into()));
    options.proxy = Some(format!("http://{}", proxy.host()));
    quick_store(dir.path()).pull("registry.example:5000/library/app", &options).unwrap();
    assert_eq!(proxy.asked().len(), 6);
    options.proxy = Some("::".into());
    let error = quick_store(dir.path()).pull("registry.example:5000/other", &options).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
}
