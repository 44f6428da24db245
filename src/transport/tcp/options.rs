//! What the two ends agree on in their SYNs: segment size, window scaling, timestamps, SACK.
//!
//! Owns the agreement. Refuses the options' bytes, which are [`crate::wire::TcpOptions`]'.

use crate::config::TcpConfig;
use crate::network::topology::Topology;
use crate::wire::{TcpHeader, TcpOptions, Timestamps};
use std::net::IpAddr;

/// RFC 7323 §2.3: larger shifts count as 14.
const MAXIMUM_SHIFT: u8 = 14;
/// What a peer takes that does not say (RFC 9293 §3.7.1, MUST-15): 536 over IPv4, 1220 over IPv6.
const DEFAULT_SEGMENT_SIZE: (usize, usize) = (536, 1_220);
/// No peer gets us to cut data finer than this: each segment costs a header and an interrupt (Linux: 48).
const LOWEST_SEGMENT_SIZE: usize = 48;

/// What was agreed on.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    /// Our and the peer's window shift, if in use.
    pub(super) window_scale: Option<(u8, u8)>,
    /// Whether every segment carries timestamps.
    pub(super) timestamps: bool,
    /// Whether SACK is in use.
    pub(super) sack: bool,
    /// Whether lost tails are probed for, which needs SACK (RFC 8985 §7).
    pub(super) loss_probes: bool,
    /// Bytes of payload, options included, that the peer takes.
    pub(super) peer_segment_size: usize,
}

impl Agreement {
    /// Before the peer's SYN: what we would agree on.
    pub(super) fn offer(config: &TcpConfig, peer: IpAddr, receive_buffer: usize) -> Agreement {
        Agreement {
            window_scale: config
                .window_scaling
                .then(|| (shift_for(receive_buffer.max(config.receive_buffer).max(config.receive_buffer_maximum)), 0)),
            timestamps: config.timestamps,
            sack: true,
            loss_probes: config.loss_probes,
            peer_segment_size: default_segment_size(peer),
        }
    }

    /// After the peer's SYN: an option is in use if both SYNs had it (RFC 7323 §2.2, §3.2, RFC 2018 §2).
    pub(super) fn conclude(&mut self, peer: &TcpOptions) {
        self.window_scale = self.window_scale.zip(peer.window_scale).map(|((own, _), peer)| (own, peer.min(MAXIMUM_SHIFT)));
        self.timestamps &= peer.timestamps.is_some();
        self.sack &= peer.sack_permitted;
        self.loss_probes &= self.sack;
        if let Some(size) = peer.maximum_segment_size {
            self.peer_segment_size = usize::from(size).max(LOWEST_SEGMENT_SIZE);
        }
    }

    /// The options of our SYN or SYN-ACK.
    pub(super) fn syn_options(&self, topology: &Topology, peer: IpAddr, timestamps: Timestamps) -> TcpOptions {
        TcpOptions {
            maximum_segment_size: Some(own_segment_size(topology, peer)),
            window_scale: self.window_scale.map(|(own, _)| own),
            sack_permitted: self.sack,
            timestamps: self.timestamps.then_some(timestamps),
            ..TcpOptions::default()
        }
    }

    pub(super) fn own_shift(&self) -> u8 {
        self.window_scale.map_or(0, |(own, _)| own)
    }

    pub(super) fn peer_shift(&self) -> u8 {
        self.window_scale.map_or(0, |(_, peer)| peer)
    }
}

/// The smallest shift with which a window of `buffer` bytes fits 16 bits.
fn shift_for(buffer: usize) -> u8 {
    (0..MAXIMUM_SHIFT).find(|&shift| buffer >> shift <= usize::from(u16::MAX)).unwrap_or(MAXIMUM_SHIFT)
}

fn default_segment_size(peer: IpAddr) -> usize {
    if peer.is_ipv4() { DEFAULT_SEGMENT_SIZE.0 } else { DEFAULT_SEGMENT_SIZE.1 }
}

/// Bytes of IP and TCP header without options.
pub(super) fn header_bytes(peer: IpAddr) -> usize {
    TcpHeader::MINIMUM_LENGTH + if peer.is_ipv4() { 20 } else { 40 }
}

/// What we announce: the link's MTU without headers (RFC 9293 §3.7.1, RFC 6691 §2: options do not count).
fn own_segment_size(topology: &Topology, peer: IpAddr) -> u16 {
    u16::try_from(topology.mtu.saturating_sub(header_bytes(peer))).unwrap_or(u16::MAX)
}

/// Bytes of payload and options that one segment may carry on a path (RFC 9293 §3.7.1: the lesser of what the peer takes and the path carries).
pub(super) fn segment_size(peer_segment_size: usize, path_mtu: u16, peer: IpAddr) -> usize {
    usize::from(path_mtu).saturating_sub(header_bytes(peer)).min(peer_segment_size).max(LOWEST_SEGMENT_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn an_option_is_used_if_both_have_it() {
        let mut agreement = Agreement::offer(&TcpConfig::default(), PEER, 1 << 20);
        assert_eq!(agreement.window_scale, Some((10, 0)), "room for the largest buffer of 63 MiB");
        agreement.conclude(&TcpOptions { window_scale: Some(99), sack_permitted: true, ..TcpOptions::default() });
        assert_eq!((agreement.window_scale, agreement.timestamps, agreement.sack), (Some((10, 14)), false, true));
        agreement.conclude(&TcpOptions::default());
        assert_eq!((agreement.own_shift(), agreement.peer_shift(), agreement.sack), (0, 0, false));
        assert_eq!(agreement.peer_segment_size, 536);
    }

    #[test]
    fn segment_sizes_are_bounded_by_peer_and_path() {
        assert_eq!(segment_size(1_460, 1_500, PEER), 1_460);
        assert_eq!(segment_size(9_000, 1_400, PEER), 1_360);
        assert_eq!(segment_size(1, 1_500, PEER), LOWEST_SEGMENT_SIZE);
        assert_eq!(segment_size(1_460, 0, PEER), LOWEST_SEGMENT_SIZE);
    }

    #[test]
    fn the_shift_is_as_small_as_can_be() {
        assert_eq!([65_535, 65_536, 4 << 20, usize::MAX].map(shift_for), [0, 1, 7, 14]);
    }
}
