//! Transport checksums of packets that arrived.

use crate::network::Delivery;
use crate::packet::{ChecksumState, Packet, Pool};
use crate::wire::checksum::pseudo_header;
use crate::wire::{Checksum, Protocol};

/// Whether header and payload are intact, as the device says, or else as the checksum does. A partial checksum comes from a local peer whose bytes
/// never were on a wire: as good as verified.
pub(super) fn checksum_is_good(delivery: &Delivery) -> bool {
    if delivery.packet.offload.checksum != ChecksumState::Unknown {
        return true;
    }
    let mut sum = match delivery.protocol {
        Protocol::ICMP => Checksum::new(),
        protocol => {
            pseudo_header(delivery.source, delivery.destination, protocol, u32::try_from(delivery.packet.len()).unwrap_or(u32::MAX))
        }
    };
    delivery.packet.slices().iter().for_each(|slice| sum.add_bytes(slice));
    sum.is_valid()
}

/// Completes a partial checksum in a copy of the bytes: for who wants to see the packet as it would be on a wire.
pub(super) fn fill_in_checksum(packet: &mut Packet, pool: &Pool) {
    let ChecksumState::Partial { start, offset } = packet.offload.checksum else { return };
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
    let mut sum = Checksum::new();
    packet.part(start..packet.len()).slices().iter().for_each(|slice| sum.add_bytes(slice));
    if let Some(space) = packet.make_writable(field + 2, pool).and_then(|bytes| bytes.get_mut(field..)) {
        space.copy_from_slice(&sum.finish_udp().to_be_bytes());
        packet.offload.checksum = ChecksumState::Verified;
    }
}
