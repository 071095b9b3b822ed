//! HTTP clients: rustls with ring and the system's roots, HTTP/1.1, no redirects of their own, and
//! no proxy but those that the caller wants. One for a host, one for whom that host sends us to,
//! one for its token server. What we are to a host, and what we overlook there, is for that host
//! alone.

use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Proxy, Url};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::host::{Host, Trust};
use super::ip_scope::{IpScope, ScopedResolver};
use super::no_proxy::NoProxy;
use super::options::PullOptions;
use super::pem::{certificates, read};
use super::verifier::{AcceptAnyCertificate, Known};
use crate::error::{Error, Result, Status};

const CONNECT: Duration = Duration::from_secs(10);

/// The clients for one host, each made when it is needed.
pub(super) struct Transport {
    own: OnceCell<Client>,
    stranger: OnceCell<Client>,
    token: OnceCell<Client>,
    trust: Trust,
    is_plain: bool,
    agent: String,
    connect_timeout: Duration,
    proxies: Proxies,
}

/// Who asks in our place.
#[derive(Default)]
struct Proxies {
    list: Vec<Proxy>,
    /// Their own names.
    hosts: Vec<String>,
}

impl Transport {
    pub(super) fn new(host: &Host, options: &PullOptions) -> Result<Transport> {
        let agent = options.user_agent.clone();
        Ok(Transport {
            own: OnceCell::new(),
            stranger: OnceCell::new(),
            token: OnceCell::new(),
            trust: host.settings.trust.clone(),
            is_plain: host.base.scheme() == "http",
            agent: agent.unwrap_or_else(|| concat!("boxlite-images/", env!("CARGO_PKG_VERSION")).to_owned()),
            connect_timeout: host.settings.connect_timeout.or(options.connect_timeout).unwrap_or(CONNECT),
            proxies: proxies(options)?,
        })
    }

    /// For the host itself.
    pub(super) fn own(&self) -> Result<&Client> {
        self.own.get_or_try_init(|| {
            // One that is spoken to in plain HTTP needs no roots, which take a while to read.
            let tls = if self.is_plain { no_tls()? } else { tls(&self.trust, true)? };
            build(self.builder(tls))
        })
    }

    /// Whether others may ask in our place.
    pub(super) fn has_proxies(&self) -> bool {
        !self.proxies.list.is_empty()
    }

    /// Who they are, for an error.
    pub(super) fn proxy_names(&self) -> String {
        self.proxies.hosts.join(", ")
    }

    /// For whom the host sends us to.
    pub(super) fn stranger(&self) -> Result<&Client> {
        self.stranger.get_or_try_init(|| build(self.builder(tls(&self.trust, false)?)))
    }

    /// For the host's token server; `from` is where the host is.
    pub(super) fn token(&self, from: IpScope) -> Result<&Client> {
        self.token.get_or_try_init(|| {
            let builder = self.builder(tls(&self.trust, false)?);
            build(builder.dns_resolver(Arc::new(ScopedResolver { from, but_for: self.proxies.hosts.clone() })))
        })
    }

    fn builder(&self, tls: ClientConfig) -> ClientBuilder {
        let builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(&self.agent)
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(self.connect_timeout);
        self.proxies.list.iter().fold(builder, |builder, proxy| builder.proxy(proxy.clone()))
    }
}

fn build(builder: ClientBuilder) -> Result<Client> {
    builder.build().map_err(|cause| fail(&cause))
}

fn fail(cause: &dyn std::error::Error) -> Error {
    Error::new(Status::Internal, format!("cannot set up TLS: {cause}"))
}

/// The provider is ours alone: which one the process has is for the host to say.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn no_tls() -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(builder.map_err(|cause| fail(&cause))?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// TLS 1.2 and later. Without `is_own` for somebody else than the host that the trust is about.
fn tls(trust: &Trust, is_own: bool) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|cause| fail(&cause))?.dangerous();
    let builder = if is_own && trust.skip_verify {
        builder.with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider())))
    } else {
        let mut authorities = Vec::new();
        for path in &trust.authorities {
            authorities.extend(certificates(path)?);
        }
        let none = |cause| {
            let remedy = "install the system's (ca-certificates), or name a file in SSL_CERT_FILE or ca_file";
            let why = format!("no certificate authorities to believe: {cause}; {remedy}");
            Error::new(Status::Unsupported, why)
        };
        let verifier = Known::new(authorities, provider()).map_err(none)?;
        builder.with_custom_certificate_verifier(Arc::new(verifier))
    };
    match trust.client.as_ref().filter(|_| is_own) {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let bad = |cause: &dyn std::error::Error| {
                let paths = format!("{} with {}", certificate.display(), key.display());
                Error::new(Status::Malformed, format!("client certificate {paths}: {cause}"))
            };
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(read(key)?)).map_err(|cause| bad(&cause))?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| bad(&cause))
        }
    }
}

/// The proxies that the caller wants.
fn proxies(options: &PullOptions) -> Result<Proxies> {
    // Its address may hold a password.
    let bad = |what: &str| {
        let why = format!("{what} is no address of a proxy, such as http://proxy.example:3128");
        Error::new(Status::InvalidArgument, why)
    };
    if let Some(proxy) = &options.proxy {
        let list = vec![Proxy::all(proxy).map_err(|_| bad("the option proxy"))?];
        return Ok(Proxies { list, hosts: host_of(proxy) });
    }
    if !options.proxy_from_environment {
        return Ok(Proxies::default());
    }
    static ENVIRONMENT: OnceCell<[Option<String>; 4]> = OnceCell::new();
    let [http, https, all, none] = ENVIRONMENT.get_or_init(|| {
        ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].map(|name| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_uppercase()));
            value.ok().filter(|value| !value.is_empty())
        })
    });
    let not_for = NoProxy::parse(none.as_deref().unwrap_or_default());
    let mut proxies = Proxies::default();
    for (value, name, scheme) in [(http, "HTTP_PROXY", "http"), (https, "HTTPS_PROXY", "https"), (all, "ALL_PROXY", "")]
    {
        let Some(value) = value else { continue };
        let address = address_of(value).ok_or_else(|| bad(name))?;
        Proxy::all(address.clone()).map_err(|_| bad(name))?;
        proxies.hosts.extend(host_of(value));
        let not_for = not_for.clone();
        proxies.list.push(Proxy::custom(move |url| {
            let is_for = (scheme.is_empty() || url.scheme() == scheme) && !not_for.covers(url);
            is_for.then(|| address.clone())
        }));
    }
    Ok(proxies)
}

/// Without a scheme it is HTTP.
fn address_of(text: &str) -> Option<Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&with_scheme).ok().filter(Url::has_host)
}

fn host_of(address: &str) -> Vec<String> {
    address_of(address).and_then(|url| url.host_str().map(str::to_owned)).into_iter().collect()
}
