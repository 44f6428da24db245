//! The UDP header (RFC 768).

use super::cursor::{Reader, Writer};
use super::error::{Malformed, Reason};

/// Ports, length and checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpHeader {
    /// The sender's port; zero if no answer is wanted.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Header and payload together, in bytes: at least 8.
    pub length: u16,
    /// Over pseudo-header, header and payload; zero if the sender made none (IPv4 only). `parse` does not verify it:
    /// the device may have, or may have left it partial.
    pub checksum: u16,
}

impl UdpHeader {
    /// Bytes on the wire.
    pub const LENGTH: usize = 8;
    /// Where in the header the checksum stands.
    pub const CHECKSUM_OFFSET: usize = 6;

    /// Reads a header whose length must fit into `bytes`, which is the whole IP payload; more bytes are padding.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_quoted(bytes)?;
        let length = usize::from(header.length);
        if length < Self::LENGTH {
            return Err(Malformed::new("UDP", "length", Reason::TooSmall));
        }
        if length > bytes.len() {
            return Err(Malformed::new("UDP", "length", Reason::TooLarge));
        }
        Ok(header)
    }

    /// Reads a header quoted in an ICMP error, where the payload is cut.
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("UDP", bytes);
        Ok(Self {
            source_port: reader.take_u16("source port")?,
            destination_port: reader.take_u16("destination port")?,
            length: reader.take_u16("length")?,
            checksum: reader.take_u16("checksum")?,
        })
    }

    /// The payload, given the bytes that were parsed.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(Self::LENGTH..usize::from(self.length)).unwrap_or_default()
    }

    /// Writes the first [`LENGTH`](Self::LENGTH) bytes of `out`; panics if it is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..Self::LENGTH]);
        writer.put_u16(self.source_port);
        writer.put_u16(self.destination_port);
        writer.put_u16(self.length);
        writer.put_u16(self.checksum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{assert_cuts_refused, bytes, config};

    #[test]
    fn length_is_checked_both_ways() {
        assert_eq!(UdpHeader::parse(&[0, 1, 0, 2, 0, 7, 0, 0]).unwrap_err(), Malformed::new("UDP", "length", Reason::TooSmall));
        assert_eq!(UdpHeader::parse(&[0, 1, 0, 2, 0, 9, 0, 0]).unwrap_err(), Malformed::new("UDP", "length", Reason::TooLarge));
        assert_eq!(UdpHeader::parse(&[0, 1, 0, 2, 0, 8, 0]).unwrap_err(), Malformed::new("UDP", "checksum", Reason::Truncated));
    }

    #[test]
    fn payload_ends_where_the_length_says() {
        let bytes = [0, 1, 0, 2, 0, 10, 0, 0, 7, 8, 9];
        let header = UdpHeader::parse(&bytes).unwrap();
        assert_eq!(header.payload(&bytes), [7, 8]);
        assert!(UdpHeader::parse_quoted(&bytes[..8]).unwrap().payload(&bytes[..8]).is_empty());
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(source_port: u16, destination_port: u16, payload in 0..100_u16, checksum: u16) {
            let header = UdpHeader { source_port, destination_port, length: 8 + payload, checksum };
            let mut out = [0xa5; 108];
            header.emit(&mut out);
            prop_assert_eq!(UdpHeader::parse(&out), Ok(header));
            prop_assert_eq!(header.payload(&out).len(), usize::from(payload));
            assert_cuts_refused(&out[..usize::from(header.length)], UdpHeader::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(20)) {
            if let Ok(header) = UdpHeader::parse(&data) {
                let _ = header.payload(&data);
                let _ = header.payload(&data[1..]);
            }
        }
    }
}
