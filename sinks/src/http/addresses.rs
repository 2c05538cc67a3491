//! The host's addresses, for presence.

use std::{collections::BTreeSet, net::IpAddr};

use nix::sys::socket::SockaddrStorage;
use wire::limits;

/// Addresses of the host's interfaces, IPv4 first, at most [`limits::ADDRESSES_MAX`]. Without
/// loopback, and without IPv6 link-local, which says nothing outside its own link. Empty if the
/// kernel won't say (a sandbox without netlink).
#[must_use]
pub fn addresses() -> Vec<String> {
    let found = match nix::ifaddrs::getifaddrs() {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "the host's addresses can't be read");
            return Vec::new();
        }
    };
    select(found.filter_map(|interface| ip(interface.address.as_ref()?)))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip())))
}

fn select(found: impl Iterator<Item = IpAddr>) -> Vec<String> {
    let says_nothing = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    let sorted: BTreeSet<IpAddr> = found.filter(|address| !says_nothing(address)).collect();
    sorted.iter().take(limits::ADDRESSES_MAX).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sorted_once_each_and_only_what_says_something() {
        let found =
            ["2001:db8::1", "127.0.0.1", "10.0.0.2", "::1", "fe80::1", "10.0.0.2", "9.0.0.1"];
        let selected = select(found.iter().map(|address| address.parse().unwrap()));
        assert_eq!(selected, ["9.0.0.1", "10.0.0.2", "2001:db8::1"]);
        let many = select((0..=255).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))));
        assert_eq!(many.len(), limits::ADDRESSES_MAX);
    }

    #[test]
    fn the_host_can_be_asked() {
        for address in addresses() {
            let parsed: IpAddr = address.parse().unwrap();
            assert!(!parsed.is_loopback(), "{address}");
        }
    }
}
