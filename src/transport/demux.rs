//! Who gets a packet: tables from addresses and ports to places in other tables.
//!
//! Owns the tables' keyed hashing (peers choose most of what is hashed, so the key is secret) and the rules of precedence among sockets that
//! share a port. Refuses to know what a place holds.

use crate::random::SecretRandom;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// Hashes with a secret key, so that no peer can make tables slow.
#[derive(Clone, Debug)]
pub(super) struct KeyedHash(u64, u64);

impl KeyedHash {
    pub(super) fn new(random: &mut SecretRandom) -> KeyedHash {
        KeyedHash(random.next_u64(), random.next_u64())
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// A map with keyed hashing.
pub(super) type KeyedMap<K, V> = HashMap<K, V, KeyedHash>;

/// Both ends of a connection, seen from ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// In few words: it is hashed for every segment.
impl Hash for Ends {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match (self.local.ip(), self.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits())),
            ends => ends.hash(state),
        }
        state.write_u32(u32::from(self.local.port()) << 16 | u32::from(self.remote.port()));
    }
}

/// Sockets by local port, and within one port by local address: at most one for each address, and one for any address.
#[derive(Debug)]
pub(super) struct PortTable {
    ports: KeyedMap<u16, Holders>,
}

type Holders = SmallVec<[(IpAddr, usize); 1]>;

impl PortTable {
    pub(super) fn new(hash: KeyedHash) -> PortTable {
        PortTable { ports: HashMap::with_hasher(hash) }
    }

    /// Enters `key`; false if the very address and port are taken.
    #[must_use]
    pub(super) fn insert(&mut self, local: SocketAddr, key: usize) -> bool {
        let is_free = self.holder(local).is_none();
        if is_free {
            self.ports.entry(local.port()).or_default().push((local.ip(), key));
        }
        is_free
    }

    pub(super) fn remove(&mut self, local: SocketAddr) {
        let Some(holders) = self.ports.get_mut(&local.port()) else { return };
        holders.retain(|&mut (address, _)| address != local.ip());
        if holders.is_empty() {
            self.ports.remove(&local.port());
        }
    }

    /// Who holds the port, on whatever address.
    pub(super) fn is_port_free(&self, port: u16) -> bool {
        !self.ports.contains_key(&port)
    }

    /// The socket for packets to `local`: one bound to the address goes before one bound to any.
    pub(super) fn find(&self, local: SocketAddr) -> Option<usize> {
        self.holder(local).or_else(|| self.matching(local).map(|(key, _)| key).next())
    }

    /// Every socket for packets to `local`, and whether it is bound to just that address.
    pub(super) fn matching(&self, local: SocketAddr) -> impl Iterator<Item = (usize, bool)> + '_ {
        let holders = self.ports.get(&local.port()).into_iter().flatten();
        holders.filter(move |(address, _)| covers(*address, local.ip())).map(move |&(address, key)| (key, address == local.ip()))
    }

    fn holder(&self, local: SocketAddr) -> Option<usize> {
        self.ports.get(&local.port())?.iter().find(|(address, _)| *address == local.ip()).map(|&(_, key)| key)
    }
}

/// Whether a socket bound to `bound` takes packets to `address`.
pub(super) fn covers(bound: IpAddr, address: IpAddr) -> bool {
    bound == address || (bound.is_unspecified() && bound.is_ipv4() == address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PortTable {
        PortTable::new(KeyedHash::new(&mut SecretRandom::from_seed(1)))
    }

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_address_goes_before_any_address() {
        let mut ports = table();
        assert!(ports.insert(end("0.0.0.0:53"), 1) && ports.insert(end("192.0.2.1:53"), 2));
        assert_eq!((ports.find(end("192.0.2.1:53")), ports.find(end("192.0.2.2:53"))), (Some(2), Some(1)));
        assert_eq!(ports.find(end("192.0.2.1:54")), None);
        let all: Vec<_> = ports.matching(end("192.0.2.1:53")).collect();
        assert_eq!(all, [(1, false), (2, true)]);
    }

    #[test]
    fn an_address_and_port_are_held_once_and_freed() {
        let mut ports = table();
        assert!(ports.insert(end("192.0.2.1:53"), 1));
        assert!(!ports.insert(end("192.0.2.1:53"), 2));
        ports.remove(end("192.0.2.1:53"));
        ports.remove(end("192.0.2.1:53"));
        assert!(ports.is_port_free(53) && ports.insert(end("192.0.2.1:53"), 2));
    }

    #[test]
    fn any_address_means_any_of_its_family() {
        let mut ports = table();
        assert!(ports.insert(end("0.0.0.0:53"), 1));
        assert_eq!(ports.find(end("[2001:db8::1]:53")), None);
    }
}
