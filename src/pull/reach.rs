//! How far an address is: a registry that is reached over the internet has no business to send us, and our password, to a
//! token server inside this machine or its network (the class of CVE-2026-48978). What a name resolves to counts, and
//! what was checked is what is connected to.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine, or unspecified.
    Machine,
    /// This link; clouds answer there with secrets.
    Link,
    /// This site's network.
    Site,
    Everywhere,
}

impl Reach {
    pub(super) fn of(ip: IpAddr) -> Reach {
        match ip {
            IpAddr::V4(ip) if ip.is_loopback() || ip.octets()[0] == 0 => Reach::Machine,
            IpAddr::V4(ip) if ip.is_link_local() => Reach::Link,
            // Shared address space (RFC 6598) is somebody's network too.
            IpAddr::V4(ip) if ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64) => Reach::Site,
            IpAddr::V4(_) => Reach::Everywhere,
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Reach::of(IpAddr::V4(ip)),
                // A gateway to IPv4 (RFC 6052).
                None if ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
                    let [.., a, b, c, d] = ip.octets();
                    Reach::of(IpAddr::V4([a, b, c, d].into()))
                }
                // IPv4 by way of a relay (RFC 3056).
                None if ip.segments()[0] == 0x2002 => {
                    let [_, _, a, b, c, d, ..] = ip.octets();
                    Reach::of(IpAddr::V4([a, b, c, d].into()))
                }
                None if ip.is_loopback() || ip.is_unspecified() => Reach::Machine,
                None if ip.is_unicast_link_local() => Reach::Link,
                None if ip.is_unique_local() => Reach::Site,
                None => Reach::Everywhere,
            },
        }
    }

    /// Whether a registry that is here may name a server that is there.
    pub(super) fn may_name(self, other: Reach) -> bool {
        other == Reach::Everywhere || other == self
    }
}

/// Resolves names, and refuses those that lead where a registry may not send us.
pub(super) struct OnlyFrom {
    pub(super) from: Reach,
    /// The proxies' own names.
    pub(super) but_for: Vec<String>,
}

impl Resolve for OnlyFrom {
    fn resolve(&self, name: Name) -> Resolving {
        let from = if self.but_for.iter().any(|host| host == name.as_str()) { None } else { Some(self.from) };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if from.is_some_and(|from| found.iter().any(|address| !from.may_name(Reach::of(address.ip())))) {
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
            ("127.0.0.1", Reach::Machine),
            ("127.9.9.9", Reach::Machine),
            ("0.0.0.0", Reach::Machine),
            ("0.1.2.3", Reach::Machine),
            ("::1", Reach::Machine),
            ("::", Reach::Machine),
            ("::ffff:127.0.0.1", Reach::Machine),
            ("169.254.169.254", Reach::Link),
            ("fe80::1", Reach::Link),
            ("10.0.0.1", Reach::Site),
            ("172.16.0.1", Reach::Site),
            ("192.168.1.1", Reach::Site),
            ("100.64.0.1", Reach::Site),
            ("fd00::1", Reach::Site),
            ("::ffff:10.0.0.1", Reach::Site),
            ("64:ff9b::a00:1", Reach::Site),
            ("64:ff9b::101:101", Reach::Everywhere),
            ("2002:7f00:1::1", Reach::Machine),
            ("2002:a9fe:a9fe::", Reach::Link),
            ("2002:101:101::1", Reach::Everywhere),
            ("1.1.1.1", Reach::Everywhere),
            ("172.32.0.1", Reach::Everywhere),
            ("2606:4700::1", Reach::Everywhere),
        ] {
            assert_eq!(Reach::of(text.parse().unwrap()), expected, "{text}");
        }
        assert!(Reach::Everywhere.may_name(Reach::Everywhere) && Reach::Site.may_name(Reach::Everywhere));
        assert!(Reach::Site.may_name(Reach::Site) && Reach::Machine.may_name(Reach::Machine));
        for inside in [Reach::Machine, Reach::Link, Reach::Site] {
            assert!(!Reach::Everywhere.may_name(inside));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let resolve = |from| {
            runtime.block_on(
                OnlyFrom { from, but_for: vec!["proxy.example".into()] }.resolve("localhost".parse().unwrap()),
            )
        };
        assert!(resolve(Reach::Everywhere).is_err() && resolve(Reach::Site).is_err());
        assert!(resolve(Reach::Machine).is_ok());
        assert!(!Reach::Site.may_name(Reach::Link) && !Reach::Machine.may_name(Reach::Link));
    }
}
