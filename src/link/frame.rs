//! Ethernet frames: what is before the IP or ARP packet, taken off and put on (RFC 894, IEEE 802.1Q).
//!
//! Owns the header and its tags. Refuses to know what is inside.

use super::Cast;
use crate::layer::DropReason;
use crate::packet::{Packet, Pool};
use crate::wire::{EtherType, EthernetHeader, MacAddress, VlanTag};

/// Tags behind each other: IEEE 802.1ad knows two.
const MOST_TAGS: usize = 2;
/// Bytes in front of the payload at most.
const LONGEST_HEADER: usize = EthernetHeader::LENGTH + MOST_TAGS * VlanTag::LENGTH;

/// One station's view of the wire.
#[derive(Copy, Clone, Debug)]
pub(super) struct Framing {
    /// Our address.
    pub(super) station: MacAddress,
    /// The VLAN we live in.
    pub(super) vlan: Option<u16>,
}

/// A frame whose header was taken off.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// How it was addressed.
    pub(super) cast: Cast,
    /// What is inside.
    pub(super) ethertype: EtherType,
}

impl Framing {
    /// Takes the header and the tags off, or says why the frame is not for us.
    pub(super) fn open(&self, packet: &mut Packet, pool: &Pool) -> Result<Opened, DropReason> {
        packet.gather_front(LONGEST_HEADER, pool);
        let header = EthernetHeader::parse(packet.front()).map_err(|_| DropReason::Malformed)?;
        // Our own frames, sent back by a bridge or seen by a tap, say nothing new.
        let is_own = header.source == self.station;
        let cast = self.cast_of(header.destination).filter(|_| !is_own).ok_or(DropReason::NotForUs)?;
        packet.advance(EthernetHeader::LENGTH);
        let (vlan, ethertype) = take_tags(packet, header.ethertype)?;
        if vlan != self.vlan.unwrap_or(0) {
            return Err(DropReason::NotForUs);
        }
        Ok(Opened { cast, ethertype })
    }

    /// Puts a header in front.
    pub(super) fn close(&self, packet: &mut Packet, destination: MacAddress, ethertype: EtherType, pool: &Pool) {
        let header = EthernetHeader { destination, source: self.station, ethertype };
        match self.vlan {
            None => header.emit(packet.prepend(EthernetHeader::LENGTH, pool)),
            Some(identifier) => {
                let space = packet.prepend(EthernetHeader::LENGTH + VlanTag::LENGTH, pool);
                EthernetHeader { ethertype: EtherType::VLAN, ..header }.emit(space);
                let tag = VlanTag { identifier, ethertype, ..VlanTag::default() };
                tag.emit(space.get_mut(EthernetHeader::LENGTH..).unwrap_or_default());
            }
        }
    }

    fn cast_of(&self, destination: MacAddress) -> Option<Cast> {
        match destination {
            MacAddress::BROADCAST => Some(Cast::Broadcast),
            group if group.is_multicast() => Some(Cast::Multicast),
            station => (station == self.station).then_some(Cast::Unicast),
        }
    }
}

/// Takes the tags off; gives the VLAN they name and the type behind them. Identifier 0 names none, only a priority; two tags that name one each
/// are a provider's business, not a host's.
fn take_tags(packet: &mut Packet, mut ethertype: EtherType) -> Result<(u16, EtherType), DropReason> {
    let mut vlan = 0;
    for _ in 0..MOST_TAGS {
        if !ethertype.is_vlan() {
            break;
        }
        let tag = VlanTag::parse(packet.front()).map_err(|_| DropReason::Malformed)?;
        packet.advance(VlanTag::LENGTH);
        ethertype = tag.ethertype;
        if vlan != 0 && tag.identifier != 0 {
            return Err(DropReason::NotForUs);
        }
        vlan |= tag.identifier;
    }
    Ok((vlan, ethertype))
}
