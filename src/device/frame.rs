//! Where the headers of a frame lie: as much of the protocols as an offload has to know.
//!
//! Owns the walk from the link header to the transport payload, for unfragmented IPv4. Refuses everything else: such a frame is neither cut
//! nor merged.

use crate::device::Medium;
use crate::wire::{EtherType, EthernetHeader, Ipv4Header, Protocol, VlanTag};

/// Offsets from the front of a frame, and the IPv4 header.
#[derive(Clone, Debug)]
pub(super) struct FrameLayout {
    /// Where the IP header begins: the length of the link header.
    pub(super) network: usize,
    /// Where the transport header begins.
    pub(super) transport: usize,
    /// Where the transport payload begins.
    pub(super) payload: usize,
    /// Where the IP packet ends, according to its header; link padding follows.
    pub(super) end: usize,
    /// The IP header.
    pub(super) ip: Ipv4Header,
}

/// The layout of a TCP or UDP frame over IPv4 that is not a fragment.
pub(super) fn layout(front: &[u8], medium: Medium) -> Option<FrameLayout> {
    let network = network_offset(front, medium)?;
    let bytes = front.get(network..)?;
    let ip = Ipv4Header::parse_quoted(bytes).ok()?;
    let transport = network + usize::from(ip.header_length);
    let payload = transport + transport_header_length(ip.protocol, front.get(transport..)?)?;
    let end = network + usize::from(ip.total_length);
    (!ip.is_fragment() && payload <= end).then_some(FrameLayout { network, transport, payload, end, ip })
}

/// Where the IPv4 header begins: behind the Ethernet header and its tags, or at the front.
pub(super) fn network_offset(front: &[u8], medium: Medium) -> Option<usize> {
    if medium == Medium::Ip {
        return (front.first()? >> 4 == 4).then_some(0);
    }
    let mut offset = EthernetHeader::LENGTH;
    let mut ethertype = EthernetHeader::parse(front).ok()?.ethertype;
    while ethertype.is_vlan() {
        ethertype = VlanTag::parse(front.get(offset..)?).ok()?.ethertype;
        offset += VlanTag::LENGTH;
    }
    (ethertype == EtherType::IPV4).then_some(offset)
}

fn transport_header_length(protocol: Protocol, bytes: &[u8]) -> Option<usize> {
    match protocol {
        Protocol::UDP => (bytes.len() >= 8).then_some(8),
        Protocol::TCP => {
            let length = usize::from(bytes.get(12)? >> 4) * 4;
            (length >= 20 && bytes.len() >= length).then_some(length)
        }
        _ => None,
    }
}

/// Puts `value` at `offset`, in network order, if there is room.
pub(super) fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = bytes.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Reads the field at `offset`, in network order.
pub(super) fn get_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}
