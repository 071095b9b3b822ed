//! Report 8 (reqwest#2579, guest-components#1569, containers/image#509): the rules of a crate, not
//! of the peers, about TLS and proxies; and errors that say what to do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use boxlite_images::{PullOptions, RegistryOptions, Status};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::blimg::{Tool, status_in};
use super::super::pull::Bench;
use super::super::pull::content::Content;
use super::super::pull::server::{Answer, Server};
use super::super::support::{has_tool, quick_store, side_by_side, temp_dir, wait_until, watchdog};

/// Certificates that their holders signed themselves, as `openssl req -x509` makes them (CA:TRUE), and one with which such a holder
/// signed another's.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Made {
        let dir = temp_dir();
        let script = "set -e
            own() { openssl req -x509 -newkey $2 $3 $4 -nodes -keyout $1.key -out $1.pem -days 30 -subj /CN=$1 \
                -addext basicConstraints=critical,CA:TRUE -addext subjectAltName=$5; }
            own own ec -pkeyopt ec_paramgen_curve:P-256 IP:127.0.0.1
            own rsa rsa:2048 '' '' IP:127.0.0.1
            own p384 ec -pkeyopt ec_paramgen_curve:P-384 IP:127.0.0.1
            own p521 ec -pkeyopt ec_paramgen_curve:P-521 IP:127.0.0.1
            own elsewhere ec -pkeyopt ec_paramgen_curve:P-256 DNS:other.example
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout old.key -out old.csr -subj /CN=old
            printf 'basicConstraints=critical,CA:TRUE\nsubjectAltName=IP:127.0.0.1\n' >ext
            openssl x509 -req -in old.csr -signkey old.key -days -1 -out old.pem -extfile ext
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout below.key -out below.csr -subj /CN=below
            openssl x509 -req -in below.csr -CA own.pem -CAkey own.key -CAcreateserial -days 30 -out below.pem -extfile ext
            cat own.pem p384.pem >several.pem";
        let output = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Made(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A registry that shows one of them.
    fn serve(&self, name: &str) -> Server {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let content = Content::new();
        Server::with_tls(config, move |asked, _| content.answer(asked))
    }
}

fn pull(host: &str, change: impl FnOnce(&mut PullOptions, &mut RegistryOptions)) -> Result<(), boxlite_images::Error> {
    let dir = temp_dir();
    let mut options = PullOptions::default();
    let mut registry = RegistryOptions::new(host);
    change(&mut options, &mut registry);
    options.registries.push(registry);
    options.stall_timeout = Some(watchdog());
    quick_store(dir.path()).pull(&format!("{host}/library/app"), &options).map(drop)
}

/// A certificate that the caller named is that server's own, whatever it says of being an
/// authority, for its names and in its time. Any other authority's is refused as a server's.
#[test]
fn a_certificate_that_was_named_is_believed() {
    if !has_tool("openssl") {
        return;
    }
    let made = Made::new();
    let cases = [
        ("own", Some("own.pem"), None),
        ("rsa", Some("rsa.pem"), None),
        ("p384", Some("p384.pem"), None),
        ("p384", Some("several.pem"), None),
        ("own", Some("rsa.pem"), Some("name that very certificate")),
        ("own", None, Some("name")),
        ("elsewhere", Some("elsewhere.pem"), Some("not valid for name")),
        ("old", Some("old.pem"), Some("Expired")),
        // Signed by a named one, and an authority of its own: it may sign, and not serve.
        ("below", Some("own.pem"), Some("authority")),
        ("below", Some("below.pem"), None),
    ];
    side_by_side(cases, |(shown, named, expected)| {
        let server = made.serve(shown);
        let by_file = pull(&server.host(), |_, registry| {
            registry.authorities = named.map(|named| made.path(named)).into_iter().collect();
        });
        let dir = temp_dir();
        let folder = dir.path().join(server.host());
        std::fs::create_dir(&folder).unwrap();
        let ca = named.map_or_else(String::new, |named| format!("ca = {:?}", made.path(named)));
        std::fs::write(folder.join("hosts.toml"), ca).unwrap();
        let by_folder = pull(&server.host(), |options, _| options.hosts_dir = Some(dir.path().to_owned()));
        for (how, result) in [("ca_file", by_file), ("hosts.toml", by_folder)] {
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => {
                    assert_eq!(error.status(), Status::Network, "{shown} by {named:?}: {error}");
                    assert!(error.message().contains(words), "{shown} by {named:?}: {error}");
                }
                (result, _) => panic!("{shown} by {named:?}, {how}: {result:?}"),
            }
        }
    });
}

/// Named by the environment, as for every program on the host.
#[test]
fn the_environment_names_certificates_too() {
    let Some(tool) = Tool::new() else { return };
    if !has_tool("openssl") {
        return;
    }
    let made = Made::new();
    let server = made.serve("own");
    let folder = made.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(made.path("own.pem"), folder.join("own.pem")).unwrap();
    let (own, other) = (made.path("own.pem"), made.path("rsa.pem"));
    side_by_side(
        [("SSL_CERT_FILE", &own, true), ("SSL_CERT_FILE", &other, false), ("SSL_CERT_DIR", &folder, true)],
        |(variable, value, is_good)| {
            let store = temp_dir();
            let mut command = Command::new(tool.path("blimg"));
            command.arg("--store").arg(store.path()).args([
                "--quiet",
                "pull",
                &format!("{}/library/app", server.host()),
            ]);
            let output = command.env(variable, value).output().unwrap();
            assert_eq!(output.status.success(), is_good, "{variable}={value:?}: {output:?}");
        },
    );
}

/// `openssl s_server`, since ours cannot show a P-521 key.
struct Other(Child, u16);

impl Other {
    fn serve(made: &Made, name: &str) -> Other {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")]);
        command.arg("-cert").arg(made.path(&format!("{name}.pem"))).arg("-key").arg(made.path(&format!("{name}.key")));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("openssl serves", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Other(child, port)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address of a server that answers whatever is no HTTP as HTTP servers do.
fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

/// What cannot be says so, and what to do.
#[test]
fn errors_say_what_to_do() {
    if !has_tool("openssl") {
        return;
    }
    let made = Made::new();
    let other = Other::serve(&made, "p521");
    let error =
        pull(&format!("127.0.0.1:{}", other.1), |_, registry| registry.authorities = vec![made.path("p521.pem")]);
    let error = error.unwrap_err();
    assert!(error.message().contains("P-521 is not"), "{error}");

    // HTTP that is spoken to TLS, and the other way round.
    let closing = Bench::honest();
    for host in [closing.server.host(), refusing()] {
        let error = pull(&host, |_, _| {}).unwrap_err();
        assert!(
            error.message().contains("plain HTTP: ") && error.message().contains("BL_REGISTRY_PLAIN_HTTP"),
            "{error}"
        );
    }
    let tls = made.serve("own");
    let error = pull(&tls.host(), |_, registry| registry.plain_http = true).unwrap_err();
    assert!(error.message().contains("do not mark it with BL_REGISTRY_PLAIN_HTTP"), "{error}");
    for words in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<center>The plain HTTP request was sent to HTTPS port</center>",
    ] {
        let server = Server::new(move |_, _| Answer::new(400, words));
        let error = pull(&server.host(), |_, registry| registry.plain_http = true).unwrap_err();
        assert!(error.message().contains("do not mark it with BL_REGISTRY_PLAIN_HTTP"), "{error}");
    }
    // A proxy that is not there is named; what is no proxy is named by what it was given as.
    let error = pull("registry.example", |options, _| options.proxy = Some("http://127.0.0.1:1".into())).unwrap_err();
    assert!(error.message().contains("by way of the proxy 127.0.0.1"), "{error}");
    let error = pull("registry.example", |options, _| options.proxy = Some("::".into())).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    assert!(error.message().contains("the option proxy") && error.message().contains("http://"), "{error}");
}

/// NO_PROXY from the environment: each kind of rule once, from end to end; the table of all is beside the code.
#[test]
fn no_proxy_as_go_reads_it() {
    let Some(tool) = Tool::new() else { return };
    let proxy = Server::new(|_, _| Answer::new(404, ""));
    let address = format!("http://{}", proxy.host());
    let cases = [
        ("", true),
        ("*", false),
        ("registry.invalid", false),
        ("invalid", false),
        (".invalid", false),
        ("*.invalid", false),
        (".registry.invalid", true),
        ("registry.invalid:5000", false),
        ("registry.invalid:5001", true),
        ("10.0.0.0/8, ,other", true),
    ];
    let asked = |name: &str| proxy.asked().iter().any(|asked| asked.path.contains(name));
    side_by_side(cases.iter().enumerate(), |(number, (no_proxy, is_asked))| {
        let store = temp_dir();
        // A repository for each, by which the proxy knows them apart.
        let repository = format!("case{number}x");
        let mut command = Command::new(tool.path("blimg"));
        command.arg("--store").arg(store.path()).args([
            "--quiet",
            "pull",
            &format!("registry.invalid:5000/{repository}"),
        ]);
        command.args(["--plain-http", "registry.invalid:5000", "--proxy-environment"]);
        let output = command.env_clear().env("HTTP_PROXY", &address).env("NO_PROXY", no_proxy).output().unwrap();
        assert_eq!(status_in(&output), if *is_asked { "NOT_FOUND" } else { "NETWORK" }, "{no_proxy}: {output:?}");
        assert_eq!(asked(&repository), *is_asked, "{no_proxy}");
    });
}
