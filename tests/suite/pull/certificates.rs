//! Certificates for tests, made by openssl.

use std::path::PathBuf;
use std::process::Command;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::support::temp_dir;

/// A certificate authority, and certificates that it, or nobody, has signed.
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    pub fn new() -> Certificates {
        let dir = temp_dir();
        let script = "set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 \
                -subj /CN=test -addext basicConstraints=critical,CA:TRUE
            for name in server client other; do
                openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
            done
            sign() { openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out $1.pem -extfile $1.ext; }
            echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >server.ext
            echo 'extendedKeyUsage=clientAuth' >client.ext
            echo 'subjectAltName=DNS:other.example' >other.ext
            sign server; sign client; sign other
            cat client.pem client.key >both.pem";
        let output = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Certificates(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server with one of the certificates; `client` that it asks for one.
    pub fn server(
        &self,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
        client: bool,
    ) -> rustls::ServerConfig {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let read = |name: String| CertificateDer::from_pem_file(self.path(&name)).unwrap();
        let builder =
            rustls::ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = if client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(read("ca.pem".into())).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        builder.with_single_cert(vec![read(format!("{name}.pem"))], key).unwrap()
    }
}
