//! Looking for firewall rules that *reject*: they run before a port guard, and answer our peers in our name.
//!
//! Owns the search through the host's nftables (which is where firewalld, ufw and today's iptables put their rules), by netlink, without running any
//! program and without changing anything. Refuses certainty: a rule that rejects somewhere behind the input hook may never match our packets, so what is
//! found is a warning. Rules of the old iptables kernel interface, and jumps through verdict maps, are not seen; nor is anything without CAP_NET_ADMIN.

use super::netlink::{Attributes, Request, text, u32_at};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

// linux/netfilter/nf_tables.h
const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `NFTA_IMMEDIATE_DATA`, `NFTA_DATA_VERDICT` and `NFTA_VERDICT_CHAIN` are all number 2: the way to the name of the chain that a rule jumps to.
const VERDICT_PATH: u16 = 2;
/// `NFTA_TARGET_NAME`: iptables' own targets.
const TARGET_NAME: u16 = 1;
/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_IN`.
const HOOKS_BEFORE_SOCKETS: [u32; 2] = [0, 1];

/// A chain's place: family, table, name.
type Place = (u8, String, String);

/// What the rules of one chain do.
#[derive(Debug, Default)]
struct Chain {
    is_hooked: bool,
    rejects: bool,
    jumps: BTreeSet<String>,
}

/// A place in the host's firewall that may reject packets for our connections, as a line that says what to do; `None` if there is none to be seen.
pub(super) fn rejecting_firewall() -> Option<String> {
    let chains = read_chains().ok()?;
    let (_, table, chain) = find_rejecting(&chains)?;
    Some(format!(
        "the host's firewall rejects packets (table {table}, chain {chain}) and may reset connections on the shared address: \
         let it drop or accept packets to our ports, or use an own address (--address)"
    ))
}

fn read_chains() -> io::Result<BTreeMap<Place, Chain>> {
    // The body is `nfgenmsg`: family (0: every one), version, resource.
    let mut chains = BTreeMap::<Place, Chain>::new();
    for reply in Request::netfilter_dump(GET_CHAIN, &[0; 4]).exchange()? {
        if let Some((place, is_hooked)) = parse_chain(&reply.body) {
            chains.entry(place).or_default().is_hooked = is_hooked;
        }
    }
    for reply in Request::netfilter_dump(GET_RULE, &[0; 4]).exchange()? {
        if let Some((place, expressions)) = parse_rule(&reply.body) {
            read_expressions(expressions, chains.entry(place).or_default());
        }
    }
    Ok(chains)
}

/// Follows the jumps from the hooks that packets to local sockets pass.
fn find_rejecting(chains: &BTreeMap<Place, Chain>) -> Option<Place> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<Place> = chains.iter().filter(|(_, chain)| chain.is_hooked).map(|(place, _)| place.clone()).collect();
    while let Some(place) = open.pop() {
        let Some(chain) = chains.get(&place).filter(|_| seen.insert(place.clone())) else { continue };
        if chain.rejects {
            return Some(place);
        }
        open.extend(chain.jumps.iter().map(|name| (place.0, place.1.clone(), name.clone())));
    }
    None
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(bytes).find(|&(kind, _)| kind == wanted).map(|(_, value)| value)
}

fn parse_chain(body: &[u8]) -> Option<(Place, bool)> {
    let attributes = body.get(4..)?;
    let hook = attribute(attributes, CHAIN_HOOK).and_then(|hook| attribute(hook, HOOK_NUMBER)).and_then(|number| u32_at(number, 0));
    let place = (*body.first()?, text(attribute(attributes, CHAIN_TABLE)?), text(attribute(attributes, CHAIN_NAME)?));
    Some((place, hook.is_some_and(|hook| HOOKS_BEFORE_SOCKETS.contains(&u32::from_be(hook)))))
}

fn parse_rule(body: &[u8]) -> Option<(Place, &[u8])> {
    let attributes = body.get(4..)?;
    let place = (*body.first()?, text(attribute(attributes, RULE_TABLE)?), text(attribute(attributes, RULE_CHAIN)?));
    Some((place, attribute(attributes, RULE_EXPRESSIONS)?))
}

fn read_expressions(expressions: &[u8], chain: &mut Chain) {
    for (_, expression) in Attributes(expressions) {
        let name = attribute(expression, EXPRESSION_NAME).map(text).unwrap_or_default();
        let data = attribute(expression, EXPRESSION_DATA).unwrap_or_default();
        match name.as_str() {
            "reject" => chain.rejects = true,
            "target" => chain.rejects |= attribute(data, TARGET_NAME).is_some_and(|name| text(name) == "REJECT"),
            "immediate" => chain.jumps.extend(jump_target(data)),
            _ => {}
        }
    }
}

fn jump_target(data: &[u8]) -> Option<String> {
    let verdict = attribute(attribute(data, VERDICT_PATH)?, VERDICT_PATH)?;
    attribute(verdict, VERDICT_PATH).map(text)
}

/// Every parser of this file over any bytes.
#[cfg(fuzzing)]
pub(in crate::device) fn fuzz(bytes: &[u8]) {
    let mut chains = BTreeMap::<Place, Chain>::new();
    if let Some((place, is_hooked)) = parse_chain(bytes) {
        chains.entry(place).or_default().is_hooked = is_hooked;
    }
    if let Some((place, expressions)) = parse_rule(bytes) {
        read_expressions(expressions, chains.entry(place).or_default());
    }
    let _ = find_rejecting(&chains);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain(is_hooked: bool, rejects: bool, jumps: &[&str]) -> Chain {
        Chain { is_hooked, rejects, jumps: jumps.iter().map(|&name| name.to_owned()).collect() }
    }

    fn place(name: &str) -> Place {
        (2, "filter".to_owned(), name.to_owned())
    }

    #[test]
    fn jumps_are_followed_and_loops_end() {
        let mut chains = BTreeMap::from([
            (place("input"), chain(true, false, &["zones"])),
            (place("zones"), chain(false, false, &["input", "public"])),
            (place("public"), chain(false, false, &[])),
            (place("forward"), chain(false, true, &[])),
        ]);
        assert_eq!(find_rejecting(&chains), None);
        chains.insert(place("public"), chain(false, true, &[]));
        assert_eq!(find_rejecting(&chains), Some(place("public")));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_chain(&bytes);
            if let Some((_, expressions)) = parse_rule(&bytes) {
                read_expressions(expressions, &mut Chain::default());
            }
        }
    }
}
