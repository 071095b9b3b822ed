//! How far an address is. A registry on the internet has no business to send us, and our password,
//! to a token server inside this machine or its network. That is the class of CVE-2026-48978. What
//! a name resolves to counts, and what was checked is what is connected to.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpScope {
    /// This machine, or unspecified.
    Machine,
    /// This link; clouds answer there with secrets.
    Link,
    /// This site's network.
    Site,
    Everywhere,
}

impl IpScope {
    pub(super) fn of(ip: IpAddr) -> IpScope {
        match ip {
            IpAddr::V4(ip) if ip.is_loopback() || ip.octets()[0] == 0 => IpScope::Machine,
            IpAddr::V4(ip) if ip.is_link_local() => IpScope::Link,
            // Shared address space (RFC 6598) is somebody's network too.
            IpAddr::V4(ip) if ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64) => {
                IpScope::Site
            }
            IpAddr::V4(_) => IpScope::Everywhere,
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => IpScope::of(IpAddr::V4(ip)),
                // A gateway to IPv4 (RFC 6052).
                None if ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
                    let [.., a, b, c, d] = ip.octets();
                    IpScope::of(IpAddr::V4([a, b, c, d].into()))
                }
                // IPv4 by way of a relay (RFC 3056).
                None if ip.segments()[0] == 0x2002 => {
                    let [_, _, a, b, c, d, ..] = ip.octets();
                    IpScope::of(IpAddr::V4([a, b, c, d].into()))
                }
                None if ip.is_loopback() || ip.is_unspecified() => IpScope::Machine,
                None if ip.is_unicast_link_local() => IpScope::Link,
                None if ip.is_unique_local() => IpScope::Site,
                None => IpScope::Everywhere,
            },
        }
    }

    /// Whether a registry that is here may name a server that is there.
    pub(super) fn may_name(self, other: IpScope) -> bool {
        other == IpScope::Everywhere || other == self
    }
}

/// Resolves names, and refuses those that lead where a registry may not send us.
pub(super) struct ScopedResolver {
    pub(super) from: IpScope,
    /// The proxies' own names.
    pub(super) but_for: Vec<String>,
}

impl Resolve for ScopedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let from = if self.but_for.iter().any(|host| host == name.as_str()) { None } else { Some(self.from) };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if from.is_some_and(|from| found.iter().any(|address| !from.may_name(IpScope::of(address.ip())))) {
                return Err("an address inside this machine or network".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_where_they_are() {
        for (text, expected) in [
            ("127.0.0.1", IpScope::Machine),
            ("127.9.9.9", IpScope::Machine),
            ("0.0.0.0", IpScope::Machine),
            ("0.1.2.3", IpScope::Machine),
            ("::1", IpScope::Machine),
            ("::", IpScope::Machine),
            ("::ffff:127.0.0.1", IpScope::Machine),
            ("169.254.169.254", IpScope::Link),
            ("fe80::1", IpScope::Link),
            ("10.0.0.1", IpScope::Site),
            ("172.16.0.1", IpScope::Site),
            ("192.168.1.1", IpScope::Site),
            ("100.64.0.1", IpScope::Site),
            ("fd00::1", IpScope::Site),
            ("::ffff:10.0.0.1", IpScope::Site),
            ("64:ff9b::a00:1", IpScope::Site),
            ("64:ff9b::101:101", IpScope::Everywhere),
            ("2002:7f00:1::1", IpScope::Machine),
            ("2002:a9fe:a9fe::", IpScope::Link),
            ("2002:101:101::1", IpScope::Everywhere),
            ("1.1.1.1", IpScope::Everywhere),
            ("172.32.0.1", IpScope::Everywhere),
            ("2606:4700::1", IpScope::Everywhere),
        ] {
            assert_eq!(IpScope::of(text.parse().unwrap()), expected, "{text}");
        }
        assert!(IpScope::Everywhere.may_name(IpScope::Everywhere) && IpScope::Site.may_name(IpScope::Everywhere));
        assert!(IpScope::Site.may_name(IpScope::Site) && IpScope::Machine.may_name(IpScope::Machine));
        for inside in [IpScope::Machine, IpScope::Link, IpScope::Site] {
            assert!(!IpScope::Everywhere.may_name(inside));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let resolve = |from| {
            runtime.block_on(
                ScopedResolver { from, but_for: vec!["proxy.example".into()] }.resolve("localhost".parse().unwrap()),
            )
        };
        assert!(resolve(IpScope::Everywhere).is_err() && resolve(IpScope::Site).is_err());
        assert!(resolve(IpScope::Machine).is_ok());
        assert!(!IpScope::Site.may_name(IpScope::Link) && !IpScope::Machine.may_name(IpScope::Link));
    }
}
