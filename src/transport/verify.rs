//! Transport checksums of packets that arrived.

use crate::network::Delivery;
use crate::packet::ChecksumState;
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
