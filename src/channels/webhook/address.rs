//! Which addresses a webhook may reach: the public internet only, unless more is allowed.
//!
//! A name is judged by the addresses that it resolves to, at each new connection, so that a name that changes
//! its address later is judged again.

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// It cannot be parsed.
    #[error("is not a url: {0}")]
    NotAUrl(String),
    /// Another scheme.
    #[error("must start with http:// or https://")]
    Scheme,
    /// User name or password: they would be shown wherever the URL is.
    #[error("must not hold a user name or a password")]
    Credentials,
    /// It points to an internal address.
    #[error("points to an internal address; set allow_private = true to reach it")]
    Internal,
}

/// Checks everything that can be known of a URL without resolving its name.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, UrlProblem> {
    let url = Url::parse(text).map_err(|error| UrlProblem::NotAUrl(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlProblem::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    // The client never asks the resolver about literal addresses. The parser has brought odd forms
    // (0x7f.1, 2130706433) into the usual one.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let name = host.trim_end_matches('.');
    let internal = match host.parse::<IpAddr>() {
        Ok(address) => is_internal(address),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    };
    match internal && !allow_private {
        true => Err(UrlProblem::Internal),
        false => Ok(url),
    }
}

/// The name resolves to internal addresses only.
#[derive(Debug, thiserror::Error)]
#[error("the webhook's host name resolves to an internal address, which is refused")]
pub(super) struct RefusedAddress;

/// Resolves with the system's resolver and drops internal addresses.
pub(super) struct PublicResolver {
    /// Drop nothing.
    pub allow_private: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let any = !found.is_empty();
            let usable: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || !is_internal(address.ip())).collect();
            if any && usable.is_empty() {
                return Err(RefusedAddress.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is anything but a public unicast one.
pub(super) fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_internal_v4(address),
        IpAddr::V6(address) => is_internal_v6(address),
    }
}

/// Networks that are not the public internet: IANA's special-purpose registry, multicast and reserved.
const INTERNAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

fn is_internal_v4(address: Ipv4Addr) -> bool {
    INTERNAL_V4.iter().any(|(network, bits)| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0)
}

/// Parts of the global unicast space (2000::/3) that are not the public internet: protocol assignments with
/// Teredo and ORCHID, documentation, 6to4.
const INTERNAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_internal_v6(address: Ipv6Addr) -> bool {
    let within = |network: Ipv6Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0;
    // NAT64 carries an IPv4 address in its last four bytes.
    if within(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96) {
        let [.., a, b, c, d] = address.octets();
        return is_internal_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Everything outside global unicast: loopback, unspecified, IPv4-mapped, unique local, link local, multicast.
    let global_unicast = within(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    !global_unicast || INTERNAL_V6.iter().any(|(network, bits)| within(*network, *bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_known() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "5f00::1",
        ] {
            assert!(is_internal(text.parse().unwrap()), "{text} is internal");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(!is_internal(text.parse().unwrap()), "{text} is public");
        }
    }

    #[test]
    fn literal_addresses_in_a_url_are_judged_in_every_spelling() {
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "https://[::1]:8443/x",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert_eq!(check_url(text, false), Err(UrlProblem::Internal), "{text}");
            assert!(check_url(text, true).is_ok(), "{text}");
        }
        assert!(check_url("https://example.org/hook?x=1", false).is_ok());
        assert!(check_url("https://[2606:4700::1111]/", false).is_ok());
    }

    #[test]
    fn other_schemes_and_credentials_are_refused() {
        assert_eq!(check_url("ftp://example.org/", true), Err(UrlProblem::Scheme));
        assert_eq!(check_url("file:///etc/passwd", true), Err(UrlProblem::Scheme));
        assert_eq!(check_url("https://u:p@example.org/", true), Err(UrlProblem::Credentials));
        assert!(matches!(check_url("example.org", true), Err(UrlProblem::NotAUrl(_))));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_an_internal_address_is_refused() {
        let name = || "localhost".parse::<Name>().unwrap();
        let error = PublicResolver { allow_private: false }.resolve(name()).await.err().unwrap();
        assert!(error.downcast_ref::<RefusedAddress>().is_some());
        assert!(PublicResolver { allow_private: true }.resolve(name()).await.unwrap().count() > 0);
    }
}
