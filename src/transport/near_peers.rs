//! Peers to which a round trip took less than a millisecond lately, on any connection.
//!
//! Owns a bounded memory of addresses. A connection whose handshake waited in queues, since many are opened at once or a thread got its turn late, learns here that
//! its path is a near one. It would else take the queues' time for the path's, and its buffers would grow with that. Refuses to hold what is old.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Routes change.
const VALID: Duration = Duration::from_secs(600);

/// The peers, the latest one last.
#[derive(Default)]
pub struct NearPeers {
    peers: VecDeque<(IpAddr, Instant)>,
    most: usize,
}

impl NearPeers {
    /// A memory of at most so many addresses.
    pub fn new(most: usize) -> NearPeers {
        NearPeers { peers: VecDeque::new(), most }
    }

    /// `peer` is near. Says whether another one had to be forgotten for it.
    pub(super) fn note(&mut self, peer: IpAddr, now: Instant) -> bool {
        self.peers.retain(|(known, _)| *known != peer);
        self.peers.push_back((peer, now));
        let is_full = self.peers.len() > self.most;
        if is_full {
            self.peers.pop_front();
        }
        is_full
    }

    /// Whether `peer` was near lately.
    pub(super) fn knows(&self, peer: IpAddr, now: Instant) -> bool {
        self.peers.iter().any(|(known, noted)| *known == peer && now.since(*noted) < VALID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_known_for_a_while_and_the_latest_ones_longest() {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let at = Instant::from_secs;
        let mut peers = NearPeers::new(2);
        assert!(!peers.knows(address(1), at(0)));
        assert!(!peers.note(address(1), at(0)) && !peers.note(address(2), at(1)));
        assert!(peers.knows(address(1), at(599)) && !peers.knows(address(1), at(600)));
        assert!(!peers.note(address(1), at(600)), "it is known");
        assert!(peers.note(address(3), at(600)), "one is forgotten");
        assert_eq!([1, 2, 3].map(|last| peers.knows(address(last), at(600))), [true, false, true]);
    }
}
