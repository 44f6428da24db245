//! What stands in front of a packet on a link without Ethernet: nothing, or the packet's address family in four bytes.
//!
//! Owns that header (pcap-linktype(7): `NULL`, `LOOP`, `RAW`). Refuses frames it cannot name a family for.

use crate::packet::Packet;

/// `AF_INET`, the same everywhere.
const INET: u32 = 2;
/// `AF_INET6` of macOS and of FreeBSD.
const INET6_OF_MACOS: u32 = 30;
const INET6_OF_FREEBSD: u32 = 28;

/// In front of each packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: Ethernet frames, or bare packets.
    None,
    /// The family in host order (`DLT_NULL`).
    FamilyInHostOrder,
    /// The family in network order (`DLT_LOOP`, `utun`, `tun`).
    FamilyInNetworkOrder,
}

impl Framing {
    /// Bytes in front of each packet.
    pub fn length(self) -> usize {
        if self == Framing::None { 0 } else { 4 }
    }

    /// What a received frame carries, without what is in front; `None` if that is not IP.
    pub fn strip(self, frame: &[u8]) -> Option<&[u8]> {
        let (header, packet) = frame.split_at_checked(self.length())?;
        let family = match self {
            Framing::None => return Some(packet),
            Framing::FamilyInHostOrder => u32::from_ne_bytes(*header.first_chunk()?),
            Framing::FamilyInNetworkOrder => u32::from_be_bytes(*header.first_chunk()?),
        };
        matches!(family, INET | INET6_OF_MACOS | INET6_OF_FREEBSD).then_some(packet)
    }

    /// What goes in front of `packet`; `inet6` is the system's `AF_INET6`.
    pub fn header(self, packet: &Packet, inet6: u8) -> [u8; 4] {
        let is_ipv6 = packet.front().first().is_some_and(|first| first >> 4 == 6);
        let family = if is_ipv6 { u32::from(inet6) } else { INET };
        if self == Framing::FamilyInHostOrder { family.to_ne_bytes() } else { family.to_be_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Pool;

    #[test]
    fn what_is_put_in_front_comes_off() {
        for (framing, inet6) in [(Framing::FamilyInHostOrder, 30), (Framing::FamilyInNetworkOrder, 28)] {
            for first in [0x45, 0x60] {
                let packet = Packet::from_bytes(&Pool::default(), &[first, 1, 2]);
                let frame = [&framing.header(&packet, inet6)[..], packet.front()].concat();
                assert_eq!(framing.strip(&frame), Some(&[first, 1, 2][..]));
            }
        }
        assert_eq!(Framing::None.strip(&[1]), Some(&[1][..]));
    }

    #[test]
    fn other_families_and_short_frames_are_refused() {
        assert_eq!(Framing::FamilyInNetworkOrder.strip(&[0, 0, 0, 18, 0x45]), None);
        assert_eq!(Framing::FamilyInHostOrder.strip(&[2, 0]), None);
    }
}
