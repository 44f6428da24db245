//! What is known of the path MTU to each destination (RFC 1191).
//!
//! Owns the cache and the rules for lowering and forgetting. Refuses to judge whether an ICMP message is to be believed beyond what its numbers
//! say: RFC 5927's checks against a connection's state are the transport layer's.

use super::expiring::Expiring;
use crate::config::NetworkConfig;
use crate::time::Instant;
use std::net::IpAddr;

/// The plateau table (RFC 1191 §7.1): the MTUs of common links, for routers that do not say theirs.
const PLATEAUS: [u16; 11] = [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// The cache. Entries expire by themselves, so that a path that grew is found out (RFC 1191 §6.3).
pub(super) struct PathMtus {
    minimum: u16,
    known: Expiring<u16>,
}

/// What became of a report.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// The path MTU that holds now.
    pub(super) mtu: u16,
    /// Whether it is lower than before.
    pub(super) is_lower: bool,
    /// Whether another destination was forgotten for it.
    pub(super) evicted: bool,
}

impl PathMtus {
    pub(super) fn new(config: &NetworkConfig) -> PathMtus {
        PathMtus { minimum: config.path_mtu_minimum, known: Expiring::new(config.path_mtu_entries, config.path_mtu_timeout) }
    }

    /// The path MTU to `destination`, where it is known to be lower than the link's.
    pub(super) fn get(&self, now: Instant, destination: IpAddr) -> Option<u16> {
        self.known.get(now, destination)
    }

    /// Notes that a packet for `destination` found a link of `mtu` bytes. A path MTU is never raised by a report (RFC 1191 §3), and never set
    /// below the configured minimum, whatever is claimed.
    pub(super) fn lower(&mut self, now: Instant, destination: IpAddr, mtu: u16, link_mtu: u16) -> Noted {
        let current = self.get(now, destination).unwrap_or(link_mtu).min(link_mtu);
        let mtu = mtu.max(self.minimum);
        if mtu >= current {
            return Noted { mtu: current, is_lower: false, evicted: false };
        }
        let evicted = self.known.insert(now, destination, mtu);
        Noted { mtu, is_lower: true, evicted }
    }

    /// Forgets everything: the link is another one.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// The MTU that an ICMP message means: its own word, or, if it has none, the next plateau below the packet that was too big (RFC 1191 §5).
/// `None` if it claims that a packet did not fit which would have: no router says that.
pub(super) fn reported_mtu(next_hop_mtu: u16, quoted_total_length: u16) -> Option<u16> {
    match next_hop_mtu {
        0 => PLATEAUS.into_iter().find(|&plateau| plateau < quoted_total_length),
        mtu => (mtu < quoted_total_length).then_some(mtu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, number])
    }

    #[test]
    fn plateaus_help_where_the_router_does_not() {
        assert_eq!(reported_mtu(0, 1_500), Some(1_492));
        assert_eq!(reported_mtu(0, 1_492), Some(1_006));
        assert_eq!(reported_mtu(0, 68), None);
        assert_eq!(reported_mtu(1_400, 1_500), Some(1_400));
        assert_eq!(reported_mtu(1_500, 1_500), None);
    }

    #[test]
    fn it_falls_never_rises_and_is_forgotten() {
        let (mut mtus, start) = (PathMtus::new(&NetworkConfig::default()), Instant::ZERO);
        assert_eq!(mtus.lower(start, host(1), 1_400, 1_500), Noted { mtu: 1_400, is_lower: true, evicted: false });
        assert!(!mtus.lower(start, host(1), 1_450, 1_500).is_lower);
        assert_eq!(mtus.lower(start, host(1), 68, 1_500).mtu, 552);
        assert_eq!(mtus.get(start + Duration::from_secs(599), host(1)), Some(552));
        assert_eq!(mtus.get(start + Duration::from_secs(600), host(1)), None);
        assert_eq!(mtus.lower(start, host(2), 9_000, 1_500), Noted { mtu: 1_500, is_lower: false, evicted: false });
    }
}
