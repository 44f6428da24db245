//! What is said to pfctl(8), and what it answers.
//!
//! Owns rules and names of anchors as text. Refuses to run anything, so that it can be tested anywhere.

use crate::device::filter::{PortSet, ranges};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Rules that keep the host from answering for `ports` of `address`: it drops what comes for them, in silence. `/dev/bpf` has its copy before.
pub fn rules(address: Ipv4Addr, ports: &PortSet) -> String {
    [("tcp", &ports.tcp), ("udp", &ports.udp)].into_iter().filter_map(|(protocol, ports)| rule(protocol, address, ports)).collect()
}

fn rule(protocol: &str, address: Ipv4Addr, ports: &BTreeSet<u16>) -> Option<String> {
    let ranges: Vec<_> = ranges(ports).map(|(first, last)| format!("{first}:{last}")).collect();
    (!ranges.is_empty()).then(|| format!("block drop in quick proto {protocol} from any to {address} port {{ {} }}\n", ranges.join(", ")))
}

/// The anchor of a process below `prefix`.
pub fn anchor(prefix: &str, process: u32) -> String {
    format!("{prefix}{process}")
}

/// Anchors below `prefix`, of a listing (`pfctl -s Anchors -v`), whose processes are gone.
pub fn stale_anchors(listing: &str, prefix: &str, is_alive: impl Fn(u32) -> bool) -> Vec<String> {
    let process = |name: &&str| name.strip_prefix(prefix).and_then(|number| number.parse().ok());
    let names = listing.lines().map(str::trim);
    names.filter(|name| process(name).is_some_and(|process| !is_alive(process))).map(str::to_owned).collect()
}

/// The token of `pfctl -E`, which gives back what it enabled.
pub fn token(output: &str) -> Option<&str> {
    let line = output.lines().find_map(|line| line.trim().strip_prefix("Token"))?;
    let token = line.trim_start().strip_prefix(':')?.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit())).then_some(token)
}

/// Whether `pfctl -s info` says that the packet filter runs.
pub fn is_enabled(info: &str) -> bool {
    info.lines().any(|line| line.trim_start().starts_with("Status: Enabled"))
}

/// Whether the ruleset of `pfctl -s rules` evaluates every anchor below `prefix` (`hopline/`).
pub fn evaluates(rules: &str, prefix: &str) -> bool {
    let wanted = format!("\"{prefix}*\"");
    rules.lines().any(|line| line.starts_with("anchor ") && line.contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn rules_name_the_ports() {
        let ports = PortSet { tcp: (40_000..40_064).chain([80]).collect(), udp: [53].into() };
        let expected = "block drop in quick proto tcp from any to 192.0.2.7 port { 80:80, 40000:40063 }\n\
                        block drop in quick proto udp from any to 192.0.2.7 port { 53:53 }\n";
        assert_eq!(rules(ADDRESS, &ports), expected);
        assert_eq!(rules(ADDRESS, &PortSet::default()), "");
    }

    #[test]
    fn anchors_of_processes_that_are_gone_are_found() {
        let listing = "  com.apple/200.AirDrop\n  com.apple/hopline-17\n  com.apple/hopline-18\n  com.apple/hopline-x\n";
        assert_eq!(stale_anchors(listing, "com.apple/hopline-", |process| process == 18), [anchor("com.apple/hopline-", 17)]);
    }

    #[test]
    fn answers_are_understood() {
        assert_eq!(token("pf enabled\nToken : 10734237163331471049\n"), Some("10734237163331471049"));
        assert_eq!(token("Token :\n"), None);
        assert_eq!(token("pfctl: Operation not permitted"), None);
        assert!(is_enabled("Status: Enabled for 0 days 00:01:12         Debug: Urgent\n") && !is_enabled("Status: Disabled\n"));
        assert!(evaluates("scrub in all\nanchor \"hopline/*\" all\n", "hopline/"));
        assert!(!evaluates("# anchor \"hopline/*\"\nanchor \"other/*\" all\n", "hopline/"));
    }
}
