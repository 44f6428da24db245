//! resolv.conf(5), as far as it names servers: for systems that have such a file.
//!
//! Owns its parser and what a server on the host's own loopback stands for.

use super::host::HostResolver;
use std::net::IpAddr;

/// Where the host's programs find their resolvers.
pub(super) const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// systemd-resolved's stub at 127.0.0.53 stands for the servers that it asks; any other loopback address only for itself.
pub(super) fn choose_resolvers(own: &[IpAddr], upstream: &[IpAddr]) -> Vec<HostResolver> {
    let is_stub = |address: &IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[..3] == [127, 0, 0] && matches!(address.octets()[3], 53 | 54));
    let mut chosen = Vec::new();
    for address in own {
        if is_stub(address) && !upstream.is_empty() {
            chosen.extend(upstream.iter().map(|&address| resolver(address)));
        } else {
            chosen.push(resolver(*address));
        }
    }
    chosen
}

fn resolver(address: IpAddr) -> HostResolver {
    if address.is_loopback() { HostResolver::LocalOnly(address) } else { HostResolver::Reachable(address) }
}

/// The `nameserver` lines of a resolv.conf(5). Addresses with a zone are left out.
pub(super) fn name_servers(text: &str) -> Vec<IpAddr> {
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter_map(|fields| if let ["nameserver", address, ..] = fields[..] { address.parse().ok() } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn resolver_files_are_read() {
        let text = "# comment\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53 \nsearch example\nnameserver fe80::1%eth0\nnameserver\n";
        assert_eq!(name_servers(text), [ip("192.0.2.53"), ip("2001:db8::53")]);
    }

    #[test]
    fn local_resolvers_stand_for_others_or_are_reported() {
        use HostResolver::{LocalOnly, Reachable};
        let stub = ip("127.0.0.53");
        assert_eq!(choose_resolvers(&[stub], &[ip("192.0.2.1")]), [Reachable(ip("192.0.2.1"))]);
        assert_eq!(choose_resolvers(&[stub], &[]), [LocalOnly(stub)]);
        let docker = ip("127.0.0.11");
        assert_eq!(choose_resolvers(&[docker, ip("192.0.2.2")], &[ip("192.0.2.1")]), [LocalOnly(docker), Reachable(ip("192.0.2.2"))]);
    }
}
