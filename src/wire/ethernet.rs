//! The Ethernet II header (RFC 894 for IPv4, RFC 2464 for IPv6).

use super::addresses::{EtherType, MacAddress};
use super::cursor::{Reader, Writer};
use super::error::Malformed;

/// Destination, source and type: the first 14 bytes of a frame. The frame check sequence is the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EthernetHeader {
    /// The station or group the frame is for.
    pub destination: MacAddress,
    /// The station that sent it.
    pub source: MacAddress,
    /// What follows, or, up to 1500, an IEEE 802.3 length.
    pub ethertype: EtherType,
}

impl EthernetHeader {
    /// Bytes on the wire.
    pub const LENGTH: usize = 14;

    /// Reads the first [`LENGTH`](Self::LENGTH) bytes of a frame.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("Ethernet", bytes);
        Ok(Self {
            destination: reader.take_mac("destination")?,
            source: reader.take_mac("source")?,
            ethertype: EtherType(reader.take_u16("type")?),
        })
    }

    /// Writes the first [`LENGTH`](Self::LENGTH) bytes of `out`; panics if it is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..Self::LENGTH]);
        writer.put(&self.destination.0);
        writer.put(&self.source.0);
        writer.put_u16(self.ethertype.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Reason;
    use crate::wire::testing::{assert_cuts_refused, bytes, config};

    #[test]
    fn a_cut_frame_names_what_is_missing() {
        let error = |length| EthernetHeader::parse(&[0; 14][..length]).unwrap_err();
        assert_eq!(error(0), Malformed::new("Ethernet", "destination", Reason::Truncated));
        assert_eq!(error(11).field, "source");
        assert_eq!(error(13).field, "type");
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(destination: [u8; 6], source: [u8; 6], ethertype: u16) {
            let header = EthernetHeader {
                destination: MacAddress(destination),
                source: MacAddress(source),
                ethertype: EtherType(ethertype),
            };
            let mut out = [0xa5; EthernetHeader::LENGTH];
            header.emit(&mut out);
            prop_assert_eq!(EthernetHeader::parse(&out), Ok(header));
            assert_cuts_refused(&out, EthernetHeader::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(20)) {
            let _ = EthernetHeader::parse(&data);
        }
    }
}
