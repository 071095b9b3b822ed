//! Who is asked without a proxy, by what the environment says of it, as Go's programs read it
//! (golang.org/x/net/http/httpproxy). So do containerd, Docker and podman, and a variable means the
//! same to all who share it.

use std::net::IpAddr;

use reqwest::Url;

/// What `NO_PROXY` says.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    /// `*`
    Everybody,
    /// `10.0.0.0/8`, `fd00::/8`
    Network(IpAddr, u8),
    /// `10.0.0.1`, `10.0.0.1:5000`, `[::1]:5000`
    Address(IpAddr, Option<String>),
    /// `example.com` is it and everything below; `.example.com` and `*.example.com` are only what is below.
    Domain { below: String, itself: bool, port: Option<String> },
}

impl NoProxy {
    pub(super) fn parse(text: &str) -> NoProxy {
        NoProxy { rules: text.split(',').filter_map(|part| Rule::parse(part.trim())).collect() }
    }

    /// Whether an address is asked directly. This machine always is.
    pub(super) fn covers(&self, url: &Url) -> bool {
        let host =
            url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default().map(|port| port.to_string()).unwrap_or_default();
        self.rules.iter().any(|rule| rule.covers(&host, ip, &port))
    }
}

impl Rule {
    /// `None` for what is none, which is passed over.
    fn parse(text: &str) -> Option<Rule> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Some(Rule::Everybody);
        }
        if let Some((address, bits)) = text.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
        {
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Rule::Network(address, bits));
        }
        // Of several colons without brackets none is that of a port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port.to_owned())),
            _ => (text.as_str(), None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        let port = port.filter(|port| !port.is_empty());
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Rule::Address(address.to_canonical(), port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let itself = !host.starts_with('.');
        let below = if itself { format!(".{host}") } else { host.to_owned() };
        Some(Rule::Domain { below, itself, port })
    }

    fn covers(&self, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
        let is_port = |wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| wanted == port);
        match self {
            Rule::Everybody => true,
            Rule::Network(network, bits) => ip.is_some_and(|ip| is_in(ip, *network, *bits)),
            Rule::Address(address, wanted) => ip == Some(*address) && is_port(wanted),
            Rule::Domain { below, itself, port: wanted } => {
                (host.ends_with(below.as_str()) || *itself && host == &below[1..]) && is_port(wanted)
            }
        }
    }
}

/// Whether the first bits of two addresses are the same.
fn is_in(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Report 8 (reqwest#2579): each line is what Go's httpproxy answers.
    #[test]
    fn it_is_read_as_go_reads_it() {
        for (no_proxy, url, is_covered) in [
            ("", "https://r.example", false),
            ("*", "https://r.example", true),
            ("a, * ,b", "https://10.0.0.1", true),
            ("example.com", "https://example.com", true),
            ("example.com", "https://r.example.com", true),
            ("example.com", "https://notexample.com", false),
            ("EXAMPLE.com", "https://Example.COM", true),
            (" example.com ", "https://example.com", true),
            (".example.com", "https://example.com", false),
            (".example.com", "https://r.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("*.example.com", "https://a.r.example.com", true),
            ("example.com:5000", "https://example.com", false),
            ("example.com:5000", "https://example.com:5000", true),
            ("example.com:443", "https://example.com", true),
            ("example.com:80", "http://example.com", true),
            (".example.com:5000", "http://r.example.com:5000", true),
            ("10.0.0.1", "http://10.0.0.1:5000", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5000", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5001", false),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("10.0.0.0/33", "http://10.1.2.3", false),
            ("0.0.0.0/0", "http://11.1.2.3", true),
            ("10.0.0.0/8", "http://ten.example", false),
            ("fd00::/8", "http://[fd12::1]:5000", true),
            ("fd00::/8", "http://[fe80::1]", false),
            ("2001:db8::1", "http://[2001:db8::1]", true),
            ("[2001:db8::1]:5000", "http://[2001:db8::1]:5000", true),
            ("[2001:db8::1]:5000", "http://[2001:db8::1]:5001", false),
            ("::ffff:10.0.0.1", "http://10.0.0.1", true),
            (",,:5000,", "http://10.0.0.1:5000", false),
            // This machine, whatever is said.
            ("", "http://localhost:5000", true),
            ("", "http://127.0.0.1:5000", true),
            ("", "http://[::1]:5000", true),
        ] {
            assert_eq!(NoProxy::parse(no_proxy).covers(&Url::parse(url).unwrap()), is_covered, "{no_proxy:?} {url}");
        }
    }
}
