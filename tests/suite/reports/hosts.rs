//! Report 2 (containerd#7118, #12273, #13212): a folder of hosts speaks of the registry's own
//! address, or of one in two places, and that is lost. The rule of containerd: the entries in their
//! order, then the server, unless it is among them.

use std::path::Path;
use std::sync::{Arc, Mutex};

use boxlite_images::{Digest, PullOptions, RegistryOptions, Status};
use rustls::version::{TLS12, TLS13};

use super::super::pull::certificates::Certificates;
use super::super::pull::content::Content;
use super::super::pull::server::{Answer, Asked, Server};
use super::super::support::{has_tool, quick_store, side_by_side, temp_dir, watchdog};

/// Who was asked for what, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn kind(asked: &Asked) -> &'static str {
    match () {
        () if asked.path.contains("/manifests/sha256") => "manifest",
        () if asked.path.contains("/manifests/") => "tag",
        () => "blob",
    }
}

/// A server of the image that notes its name with each request that has all of these headers, and refuses others.
fn serving(
    name: &'static str,
    log: &Log,
    headers: &'static [(&'static str, &'static str)],
    root: &'static str,
) -> Server {
    let (content, log) = (Content::new(), log.clone());
    Server::new(move |asked, _| {
        if !headers.iter().all(|(name, value)| asked.header(name) == Some(value)) {
            return Answer::new(400, "");
        }
        let Some(rest) = asked.path.strip_prefix(root) else { return Answer::new(404, "") };
        log.lock().unwrap().push(format!("{name} {}", kind(asked)));
        content.answer(&Asked { path: format!("/v2{rest}"), ..asked.clone() })
    })
}

fn write(dir: &Path, registry: &str, text: &str) -> PullOptions {
    let folder = dir.join("certs.d").join(registry);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    from_folder(dir)
}

fn from_folder(dir: &Path) -> PullOptions {
    let mut options = PullOptions::default();
    options.hosts_dir = Some(dir.join("certs.d"));
    options
}

fn pull(options: &PullOptions, host: &str) -> Result<Digest, boxlite_images::Error> {
    let store = temp_dir();
    let image = quick_store(store.path()).pull(&format!("{host}/library/app"), options)?;
    Ok(image.manifest_digest)
}

const X: &[(&str, &str)] = &[("x-a", "1")];

/// The entry of the registry itself has its settings and its place.
#[test]
fn an_entry_of_the_registry_keeps_its_settings() {
    let of = |log: &Log| (serving("origin", log, X, "/v2"), serving("mirror", log, &[], "/v2"));
    let header = |host: &str| format!("[host.\"http://{host}\".header]\nx-a = \"1\"\n");
    for (what, text, expected) in [
        ("alone", "server = \"http://O\"\n[host.\"http://O\"]\nH", "origin tag,origin manifest"),
        ("without a server", "[host.\"http://O\"]\nH", "origin tag,origin manifest"),
        ("with the path of the API", "server = \"http://O/v2\"\n[host.\"http://O\"]\nH", "origin tag,origin manifest"),
        ("the other way round", "server = \"http://O\"\n[host.\"http://O/v2/\"]\nG", "origin tag,origin manifest"),
        (
            "before a mirror",
            "server = \"http://O\"\n[host.\"http://O\"]\nH\n[host.\"http://M\"]\n",
            "origin tag,origin manifest",
        ),
        (
            "after a mirror that may not resolve",
            "server = \"http://O\"\n[host.\"http://M\"]\ncapabilities = [\"pull\"]\n[host.\"http://O\"]\nH",
            "origin tag,mirror manifest",
        ),
        (
            "that may not give blobs",
            "server = \"http://O\"\n[host.\"http://O\"]\ncapabilities = [\"resolve\"]\nH[host.\"http://M\"]\n\
             capabilities = [\"pull\"]",
            "origin tag,mirror manifest",
        ),
    ] {
        let log = Log::default();
        let (origin, mirror) = of(&log);
        let slashed = format!("{}/v2/", origin.host());
        let text = text.replace('H', &header(&origin.host())).replace('G', &header(&slashed));
        let text = text.replace('O', &origin.host()).replace('M', &mirror.host());
        let dir = temp_dir();
        let options = write(dir.path(), &origin.host(), &text);
        pull(&options, &origin.host()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let log = log.lock().unwrap();
        assert_eq!(log[..2].join(","), expected, "{what}: {log:?}");
    }
}

/// Where the registry's API is elsewhere on its own host.
#[test]
fn an_entry_may_override_the_registrys_path() {
    let log = Log::default();
    let origin = serving("origin", &log, &[], "/registry/api");
    let dir = temp_dir();
    let host = origin.host();
    for text in [
        format!("server = \"http://{host}/registry/api\"\noverride_path = true"),
        format!("server = \"http://{host}/registry/api\"\n[host.\"http://{host}/registry/api\"]\noverride_path = true"),
    ] {
        pull(&write(dir.path(), &host, &text), &host).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// Settings at the top of a file are the registry's, also where it does not say where that is.
#[test]
fn settings_without_a_server_are_the_registrys() {
    let log = Log::default();
    let (origin, mirror) = (serving("origin", &log, X, "/v2"), serving("mirror", &log, &[], "/v2/nothing"));
    let dir = temp_dir();
    let text = format!("[header]\nx-a = \"1\"\n[host.\"http://{}\"]\n", mirror.host());
    let mut options = write(dir.path(), &origin.host(), &text);
    let mut plain = RegistryOptions::new(origin.host());
    plain.plain_http = true;
    options.registries = vec![plain];
    pull(&options, &origin.host()).unwrap();
}

/// What the call and a file say of one mirror are one thing.
#[test]
fn settings_of_the_call_and_of_a_file_are_merged() {
    const BOTH: &[(&str, &str)] = &[("x-a", "1"), ("x-b", "2")];
    let log = Log::default();
    let (origin, mirror) = (serving("origin", &log, &[], "/v2"), serving("mirror", &log, BOTH, "/v2"));
    let dir = temp_dir();
    let mut of_mirror = RegistryOptions::new(mirror.host());
    of_mirror.headers = vec![("X-B".into(), "2".into())];
    let mut own = RegistryOptions::new(origin.host());
    own.plain_http = true;
    let text = format!("[host.\"http://{0}\"]\n[host.\"http://{0}\".header]\nx-a = \"1\"\n", mirror.host());
    // Named as a mirror by both, and by the file alone.
    for mirrors in [vec![format!("http://{}/", mirror.host())], vec![]] {
        own.mirrors = mirrors;
        let mut options = write(dir.path(), &origin.host(), &text);
        options.registries = vec![own.clone(), of_mirror.clone()];
        pull(&options, &origin.host()).unwrap();
    }
    assert!(log.lock().unwrap().iter().all(|line| line.starts_with("mirror")), "{log:?}");
    assert_eq!(log.lock().unwrap().len(), 2 * 6);
}

/// The registry's own refusal is final, also where a mirror comes after it.
#[test]
fn a_refusal_of_the_registry_is_final() {
    for (status, expected) in [(401, Status::Unauthorized), (403, Status::Denied)] {
        let origin = Server::new(move |_, _| Answer::new(status, "").header("www-authenticate", "Basic realm=\"x\""));
        let log = Log::default();
        let mirror = serving("mirror", &log, &[], "/v2");
        let dir = temp_dir();
        let text = format!("[host.\"http://{}\"]\n[host.\"http://{}\"]\n", origin.host(), mirror.host());
        let options = write(dir.path(), &origin.host(), &format!("server = \"http://{}\"\n{text}", origin.host()));
        assert_eq!(pull(&options, &origin.host()).unwrap_err().status(), expected);
        assert_eq!(mirror.asked().len(), 0);
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let dir = temp_dir();
    let long = format!("server = \"http://x\"\n{}", "# comment\n".repeat((1 << 20) / 10));
    for (what, text, status) in [
        ("one that is too long", long.as_str(), Status::Limit),
        ("one that says nothing of use", "server = 7", Status::Malformed),
        ("a wrong entry", "[host.\"https://r\"]\nskip_verify = \"no\"", Status::Malformed),
        ("nobody who may resolve", "[host.\"https://r.example\"]\ncapabilities = []", Status::NotFound),
    ] {
        let error = pull(&write(dir.path(), "r.example", text), "r.example").unwrap_err();
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.message().contains("hosts.toml"), "{what}: {error}");
    }
}

/// Certificates: in an entry of the registry itself, at the top of a file, and lying in the folder as for Docker.
#[test]
fn certificates_of_the_registry_itself() {
    if !has_tool("openssl") {
        return;
    }
    let certificates = Certificates::new();
    let versions = &[&TLS12, &TLS13][..];
    let read = |name: &str| std::fs::read(certificates.path(name)).unwrap();
    let pem = |name: &str| certificates.path(name).display().to_string();
    let (ca, client, key) = (pem("ca.pem"), pem("client.pem"), pem("client.key"));
    let all = format!("ca = {ca:?}\nclient = [[{client:?}, {key:?}]]\n");
    type Files<'a> = Vec<(&'a str, Vec<u8>)>;
    let hosts = |text: String| -> Files<'_> { vec![("hosts.toml", text.into_bytes())] };
    let cases: Vec<(&str, Files<'_>, Option<Status>)> = vec![
        ("an entry", hosts(format!("server = \"https://ORIGIN\"\n[host.\"https://ORIGIN\"]\n{all}")), None),
        ("an entry, no server", hosts(format!("[host.\"https://ORIGIN\"]\n{all}")), None),
        ("the top", hosts(format!("{all}server = \"https://ORIGIN\"")), None),
        ("the top, no server", hosts(all.clone()), None),
        ("skip_verify without a client", hosts("skip_verify = true".into()), Some(Status::Network)),
        (
            "as Docker has them",
            vec![("ca.crt", read("ca.pem")), ("a.cert", read("client.pem")), ("a.key", read("client.key"))],
            None,
        ),
        (
            "two authorities",
            vec![
                ("a.crt", read("other.pem")),
                ("z.crt", read("ca.pem")),
                ("b.cert", read("client.pem")),
                ("b.key", read("client.key")),
                ("README", b"x".to_vec()),
            ],
            None,
        ),
        ("a certificate without its key", vec![("a.cert", read("client.pem"))], Some(Status::Malformed)),
        ("authorities alone", vec![("ca.crt", read("ca.pem"))], Some(Status::Network)),
        (
            "a hosts.toml goes before them",
            vec![("hosts.toml", b"".to_vec()), ("ca.crt", read("ca.pem")), ("a.cert", read("client.pem"))],
            Some(Status::Network),
        ),
        ("nothing", vec![], Some(Status::Network)),
    ];
    side_by_side(cases, |(what, files, expected)| {
        let content = Content::new();
        // It wants to know who we are too.
        let tls = certificates.server("server", versions, true);
        let server = Server::with_tls(tls, move |asked, _| content.answer(asked));
        let dir = temp_dir();
        let folder = dir.path().join("certs.d").join(server.host());
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            let bytes = match name {
                "hosts.toml" => String::from_utf8(bytes).unwrap().replace("ORIGIN", &server.host()).into_bytes(),
                _ => bytes,
            };
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        let mut options = from_folder(dir.path());
        options.stall_timeout = Some(watchdog());
        let result = pull(&options, &server.host());
        assert_eq!(result.as_ref().err().map(|error| error.status()), expected, "{what}: {result:?}");
    });
}
