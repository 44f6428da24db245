//! What the network layer learned of path MTUs: a bounded copy, for segment sizes.
//!
//! Owns one number for each destination whose path is narrower than our link. Refuses to learn or to forget by itself: the network layer
//! tells both (RFC 1191 §6.3).

use super::demux::{KeyedHash, KeyedMap};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Path MTUs by destination.
#[derive(Debug)]
pub(super) struct PathMtus {
    known: KeyedMap<IpAddr, u16>,
    order: VecDeque<IpAddr>,
    limit: usize,
}

impl PathMtus {
    /// Remembers at most `limit` destinations; beyond it, the one learned first goes.
    pub(super) fn new(limit: usize, hash: KeyedHash) -> PathMtus {
        PathMtus { known: HashMap::with_hasher(hash), order: VecDeque::new(), limit }
    }

    /// The path MTU to `destination`, given that of the link.
    pub(super) fn get(&self, destination: IpAddr, link_mtu: usize) -> u16 {
        let link_mtu = u16::try_from(link_mtu).unwrap_or(u16::MAX);
        self.known.get(&destination).map_or(link_mtu, |&known| known.min(link_mtu))
    }

    /// Notes `mtu`; one that is no narrower than the link is forgotten.
    pub(super) fn set(&mut self, destination: IpAddr, mtu: u16, link_mtu: usize) {
        if usize::from(mtu) >= link_mtu {
            self.forget(destination);
        } else if self.known.insert(destination, mtu).is_none() {
            self.order.push_back(destination);
            self.shrink();
        }
    }

    fn forget(&mut self, destination: IpAddr) {
        if self.known.remove(&destination).is_some() {
            self.order.retain(|&other| other != destination);
        }
    }

    fn shrink(&mut self) {
        while self.known.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else { return };
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecretRandom;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn mtus(limit: usize) -> PathMtus {
        PathMtus::new(limit, KeyedHash::new(&mut SecretRandom::from_seed(1)))
    }

    #[test]
    fn the_link_is_the_upper_bound() {
        let mut mtus = mtus(4);
        assert_eq!(mtus.get(ip(1), 1500), 1500);
        mtus.set(ip(1), 1400, 1500);
        assert_eq!((mtus.get(ip(1), 1500), mtus.get(ip(1), 1280), mtus.get(ip(2), 1 << 20)), (1400, 1280, u16::MAX));
        mtus.set(ip(1), 1500, 1500);
        assert_eq!((mtus.get(ip(1), 1500), mtus.order.len()), (1500, 0));
    }

    #[test]
    fn the_bound_holds_and_the_oldest_goes() {
        let mut mtus = mtus(2);
        for last in 1..=3 {
            mtus.set(ip(last), 1400, 1500);
            mtus.set(ip(last), 1300, 1500);
        }
        assert_eq!((mtus.get(ip(1), 1500), mtus.get(ip(2), 1500), mtus.get(ip(3), 1500)), (1500, 1300, 1300));
        assert_eq!((mtus.known.len(), mtus.order.len()), (2, 2));
    }
}
