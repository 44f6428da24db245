//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::addresses::{EtherType, MacAddress};
use super::cursor::{Reader, Writer};
use super::error::{Malformed, Reason};

/// One ARP packet. Other hardware and protocol spaces than Ethernet and IPv4 are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Question or answer.
    pub operation: ArpOperation,
    /// The sender's Ethernet address.
    pub sender_hardware: MacAddress,
    /// The sender's IPv4 address; unspecified in a probe (RFC 5227 §1.1).
    pub sender_protocol: Ipv4Addr,
    /// The target's Ethernet address; without meaning in a request.
    pub target_hardware: MacAddress,
    /// The IPv4 address that is asked for or answered to.
    pub target_protocol: Ipv4Addr,
}

/// What an ARP packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArpOperation {
    /// "Who has the target address?"
    Request,
    /// "I have the sender address."
    Reply,
    /// Anything else, such as reverse ARP.
    Other(u16),
}

impl From<u16> for ArpOperation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Reply,
            other => Self::Other(other),
        }
    }
}

impl From<ArpOperation> for u16 {
    fn from(operation: ArpOperation) -> Self {
        match operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
            ArpOperation::Other(number) => number,
        }
    }
}

impl ArpPacket {
    /// Bytes on the wire, without the padding to Ethernet's minimum.
    pub const LENGTH: usize = 28;
    const HARDWARE_ETHERNET: u16 = 1;

    /// Reads the first [`LENGTH`](Self::LENGTH) bytes; padding behind them is ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("ARP", bytes);
        check_spaces(&mut reader)?;
        Ok(Self {
            operation: reader.take_u16("operation")?.into(),
            sender_hardware: reader.take_mac("sender hardware address")?,
            sender_protocol: reader.take_ipv4("sender protocol address")?,
            target_hardware: reader.take_mac("target hardware address")?,
            target_protocol: reader.take_ipv4("target protocol address")?,
        })
    }

    /// Writes the first [`LENGTH`](Self::LENGTH) bytes of `out`; panics if it is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..Self::LENGTH]);
        writer.put_u16(Self::HARDWARE_ETHERNET);
        writer.put_u16(EtherType::IPV4.0);
        writer.put_u8(6);
        writer.put_u8(4);
        writer.put_u16(self.operation.into());
        writer.put(&self.sender_hardware.0);
        writer.put(&self.sender_protocol.octets());
        writer.put(&self.target_hardware.0);
        writer.put(&self.target_protocol.octets());
    }
}

/// "Packet Reception" of RFC 826 begins so: do I have the hardware type, do I speak the protocol?
fn check_spaces(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let expect = |field, is_expected: bool| {
        if is_expected { Ok(()) } else { Err(Malformed::new("ARP", field, Reason::Invalid)) }
    };
    expect("hardware type", reader.take_u16("hardware type")? == ArpPacket::HARDWARE_ETHERNET)?;
    expect("protocol type", reader.take_u16("protocol type")? == EtherType::IPV4.0)?;
    expect("hardware address length", reader.take_u8("hardware address length")? == 6)?;
    expect("protocol address length", reader.take_u8("protocol address length")? == 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{assert_cuts_refused, bytes, config, mutate, mutations};

    const REQUEST: [u8; 28] = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];

    #[test]
    fn a_request_reads_as_one() {
        let packet = ArpPacket::parse(&REQUEST).unwrap();
        assert_eq!(packet.operation, ArpOperation::Request);
        assert_eq!(packet.sender_hardware, MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(packet.sender_protocol, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(packet.target_protocol, Ipv4Addr::new(192, 0, 2, 2));
    }

    #[test]
    fn other_address_spaces_are_refused_by_name() {
        for (at, field) in [(1, "hardware type"), (2, "protocol type"), (4, "hardware address length"), (5, "protocol address length")] {
            let mut bytes = REQUEST;
            bytes[at] = 7;
            assert_eq!(ArpPacket::parse(&bytes), Err(Malformed::new("ARP", field, Reason::Invalid)));
        }
        assert_eq!(ArpPacket::parse(&REQUEST[..27]).unwrap_err().field, "target protocol address");
    }

    fn any_packet() -> impl Strategy<Value = ArpPacket> {
        any::<(u16, [u8; 6], [u8; 4], [u8; 6], [u8; 4])>().prop_map(|(operation, sender, from, target, to)| ArpPacket {
            operation: operation.into(),
            sender_hardware: MacAddress(sender),
            sender_protocol: from.into(),
            target_hardware: MacAddress(target),
            target_protocol: to.into(),
        })
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(packet in any_packet()) {
            let mut out = [0xa5; ArpPacket::LENGTH];
            packet.emit(&mut out);
            prop_assert_eq!(ArpPacket::parse(&out), Ok(packet));
            assert_cuts_refused(&out, ArpPacket::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(40), mutations in mutations()) {
            let _ = ArpPacket::parse(&data);
            let _ = ArpPacket::parse(&mutate(REQUEST.to_vec(), &mutations));
        }
    }
}
