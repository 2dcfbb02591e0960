//! Which addresses may be connected to.
//!
//! A storage that one of many users of a platform has configured must not lead into the machine that carries
//! the platform, nor to the service by which a cloud gives its machines their rights. It is asked of every
//! address that a name resolves to, at the moment of connecting. Addresses of private networks are none of
//! that: a storage in one's own network is what many have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far connections may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Anywhere.
    #[default]
    Anywhere,
    /// Not to loopback, link-local and other addresses that lead to nobody else.
    Elsewhere,
}

/// The metadata service of a cloud by IPv6, which is in a private range (RFC 4193).
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Reach {
    /// Whether an address is within it.
    pub fn allows(self, address: IpAddr) -> bool {
        self == Self::Anywhere || is_elsewhere(address)
    }

    /// Whether any address of a server is within it. A name that does not resolve leads nowhere, and is.
    pub async fn allows_host(self, host: &str) -> bool {
        if self == Self::Anywhere {
            return true;
        }
        let host = host.trim_matches(['[', ']']);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        // Whether or not it resolves here: it is loopback by its name (RFC 6761, 6.3).
        if name == "localhost" || name.ends_with(".localhost") {
            return false;
        }
        match tokio::net::lookup_host((host, 0)).await {
            Ok(mut addresses) => addresses.all(|address| self.allows(address.ip())),
            Err(_) => true,
        }
    }
}

fn is_elsewhere(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_elsewhere_v4(address),
        IpAddr::V6(address) => {
            let leads_nowhere = address.is_loopback() || address.is_unspecified() || address.is_multicast();
            let hidden = embedded(address);
            !leads_nowhere
                && !address.is_unicast_link_local()
                && address != METADATA
                && hidden.is_none_or(is_elsewhere_v4)
        }
    }
}

fn is_elsewhere_v4(address: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 is this host (RFC 1122, 3.2.1.3).
    let this_host = address.octets()[0] == 0;
    !(this_host
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast())
}

/// The address of version 4 that one of version 6 leads to: NAT64 (RFC 6052) and 6to4 (RFC 3056); those that
/// are only written so (`::a.b.c.d`) besides.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] | [0, 0, 0, 0, 0, 0] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_back_here_or_to_a_clouds_metadata_is_not_elsewhere() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            let address: IpAddr = address.parse().expect(address);
            assert!(!Reach::Elsewhere.allows(address), "{address}");
            assert!(Reach::Anywhere.allows(address), "{address}");
        }
        for address in ["10.0.0.7", "192.168.1.5", "172.17.0.1", "8.8.8.8", "2a00::1", "fd12::5"] {
            assert!(Reach::Elsewhere.allows(address.parse().expect(address)), "{address}");
        }
    }

    #[tokio::test]
    async fn names_count_by_what_they_resolve_to() {
        for host in ["localhost", "bucket.LOCALHOST.", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "0"] {
            assert!(!Reach::Elsewhere.allows_host(host).await, "{host}");
        }
        assert!(Reach::Elsewhere.allows_host("10.0.0.7").await);
        assert!(Reach::Elsewhere.allows_host("nowhere.invalid").await);
    }
}
