//! The IPv4 header (RFC 791 §3.1).
//!
//! Owns: the header with its checksum and raw options. Refuses: what to do about a packet; see [`ipv4_options`] for the
//! options' inside.
//!
//! [`ipv4_options`]: super::ipv4_options

use std::net::Ipv4Addr;

use super::checksum::{self, Checksum};
use super::cursor::{Reader, Writer};
use super::error::{Malformed, Reason};
use super::ipv4_options::Ipv4Options;
use super::protocol::Protocol;

/// An IPv4 header. The default has no options, a time to live of 64 and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Differentiated services code point (upper six bits, RFC 2474) and ECN (lower two, RFC 3168 §5).
    pub traffic_class: u8,
    /// Header and payload together, in bytes.
    pub total_length: u16,
    /// Tells the fragments of one packet from those of another; without meaning in an atomic packet (RFC 6864 §4.1).
    pub identification: u16,
    /// Routers must not fragment.
    pub dont_fragment: bool,
    /// This is not the last fragment.
    pub more_fragments: bool,
    /// Where in the original payload this one begins: in bytes, a multiple of 8.
    pub fragment_offset: u16,
    /// Hops left.
    pub time_to_live: u8,
    /// What the payload is.
    pub protocol: Protocol,
    /// Who sent the packet.
    pub source: Ipv4Addr,
    /// Whom it is for.
    pub destination: Ipv4Addr,
    /// In bytes, 20 to 60. Set by `parse`; `emit` goes by the options instead.
    pub header_length: u8,
    /// Raw options, padded to four bytes.
    pub options: Ipv4Options,
}

impl Default for Ipv4Header {
    fn default() -> Self {
        Self {
            traffic_class: 0,
            total_length: Self::MINIMUM_LENGTH as u16,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            time_to_live: 64,
            protocol: Protocol::default(),
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::UNSPECIFIED,
            header_length: Self::MINIMUM_LENGTH as u8,
            options: Ipv4Options::default(),
        }
    }
}

impl Ipv4Header {
    /// Bytes of a header without options.
    pub const MINIMUM_LENGTH: usize = 20;
    /// Bytes of a header with as many options as fit.
    pub const MAXIMUM_LENGTH: usize = 60;
    /// Where in the header the checksum stands.
    pub const CHECKSUM_OFFSET: usize = 10;
    /// The unit of the fragment offset, in bytes.
    pub const FRAGMENT_UNIT: u16 = 8;

    const DONT_FRAGMENT: u16 = 0x4000;
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET_MASK: u16 = 0x1fff;

    /// Reads and checks a header: version, header length, total length (at most `bytes.len()`; more bytes are the
    /// link's padding), checksum (RFC 1122 §3.2.1.2) and the form of the options.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::parse_front(bytes, bytes.len())
    }

    /// Like [`parse`](Self::parse), for a packet of `available` bytes of which only the first are at hand: the whole header must be.
    pub fn parse_front(bytes: &[u8], available: usize) -> Result<Self, Malformed> {
        let header = Self::parse_quoted(bytes)?;
        header.check_lengths(available)?;
        let is_intact = bytes.get(..usize::from(header.header_length)).is_some_and(|bytes| checksum::checksum(bytes) == 0);
        if !is_intact {
            return Err(malformed("header checksum", Reason::Checksum));
        }
        header.options.validate()?;
        Ok(header)
    }

    /// Reads a header quoted in an ICMP error: the payload may be cut and the checksum overtaken by what routers
    /// changed, so neither is checked, and the options are not looked into.
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("IPv4", bytes);
        let header_length = parse_header_length(reader.take_u8("version")?)?;
        let traffic_class = reader.take_u8("type of service")?;
        let total_length = reader.take_u16("total length")?;
        let identification = reader.take_u16("identification")?;
        let fragment = reader.take_u16("fragment offset")?;
        let time_to_live = reader.take_u8("time to live")?;
        let protocol = Protocol(reader.take_u8("protocol")?);
        let _checksum = reader.take_u16("header checksum")?;
        Ok(Self {
            traffic_class,
            total_length,
            identification,
            dont_fragment: fragment & Self::DONT_FRAGMENT != 0,
            more_fragments: fragment & Self::MORE_FRAGMENTS != 0,
            fragment_offset: (fragment & Self::OFFSET_MASK) * Self::FRAGMENT_UNIT,
            time_to_live,
            protocol,
            source: reader.take_ipv4("source address")?,
            destination: reader.take_ipv4("destination address")?,
            header_length,
            options: parse_options(&mut reader, header_length)?,
        })
    }

    fn check_lengths(&self, available: usize) -> Result<(), Malformed> {
        if self.total_length < u16::from(self.header_length) {
            return Err(malformed("total length", Reason::TooSmall));
        }
        if usize::from(self.total_length) > available {
            return Err(malformed("total length", Reason::TooLarge));
        }
        Ok(())
    }

    /// Whether this is a part of a larger packet.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Bytes that `emit` writes: 20 and the options.
    pub const fn emitted_length(&self) -> usize {
        Self::MINIMUM_LENGTH + self.options.len()
    }

    /// Bytes of payload, by the header's own word.
    pub const fn payload_length(&self) -> usize {
        (self.total_length as usize).saturating_sub(self.header_length as usize)
    }

    /// The payload without the link's padding, given the bytes that were parsed.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(usize::from(self.header_length)..usize::from(self.total_length)).unwrap_or_default()
    }

    /// Writes the header with its checksum into the first [`emitted_length`](Self::emitted_length) bytes of `out`;
    /// panics if it is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let length = self.emitted_length();
        let out = &mut out[..length];
        self.emit_fields(out, length);
        let checksum = checksum::checksum(out);
        out[Self::CHECKSUM_OFFSET..Self::CHECKSUM_OFFSET + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn emit_fields(&self, out: &mut [u8], length: usize) {
        let mut writer = Writer::new(out);
        writer.put_u8(0x40 | (length / 4) as u8);
        writer.put_u8(self.traffic_class);
        writer.put_u16(self.total_length);
        writer.put_u16(self.identification);
        writer.put_u16(self.fragment_word());
        writer.put_u8(self.time_to_live);
        writer.put_u8(self.protocol.0);
        writer.put_u16(0);
        writer.put(&self.source.octets());
        writer.put(&self.destination.octets());
        writer.put(self.options.as_bytes());
    }

    fn fragment_word(&self) -> u16 {
        debug_assert!(self.fragment_offset.is_multiple_of(Self::FRAGMENT_UNIT), "fragments begin at multiples of eight bytes");
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        flag(self.dont_fragment, Self::DONT_FRAGMENT)
            | flag(self.more_fragments, Self::MORE_FRAGMENTS)
            | (self.fragment_offset / Self::FRAGMENT_UNIT)
    }

    /// The pseudo-header sum for an upper-layer packet of `length` bytes between these addresses.
    pub fn pseudo_header(&self, length: u32) -> Checksum {
        checksum::pseudo_header(self.source.into(), self.destination.into(), self.protocol, length)
    }
}

const fn malformed(field: &'static str, reason: Reason) -> Malformed {
    Malformed::new("IPv4", field, reason)
}

/// Version and header length share the first byte; the length counts four-byte words, at least five.
fn parse_header_length(byte: u8) -> Result<u8, Malformed> {
    if byte >> 4 != 4 {
        return Err(malformed("version", Reason::Invalid));
    }
    let length = (byte & 0x0f) * 4;
    if usize::from(length) < Ipv4Header::MINIMUM_LENGTH {
        return Err(malformed("header length", Reason::TooSmall));
    }
    Ok(length)
}

fn parse_options(reader: &mut Reader<'_>, header_length: u8) -> Result<Ipv4Options, Malformed> {
    let length = usize::from(header_length).saturating_sub(Ipv4Header::MINIMUM_LENGTH);
    let bytes = reader.take_slice(length, "options")?;
    Ipv4Options::from_bytes(bytes).ok_or(malformed("options", Reason::TooLarge))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{assert_cuts_refused, bytes, config, mutate, mutations};

    const HEADER: [u8; 20] = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

    fn packet() -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.resize(0x73, 0xee);
        packet
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], field: &'static str, reason: Reason) {
        assert_eq!(Ipv4Header::parse(bytes), Err(Malformed::new("IPv4", field, reason)));
    }

    #[test]
    fn a_known_header_reads_and_writes() {
        let header = Ipv4Header::parse(&packet()).unwrap();
        let expected = Ipv4Header {
            total_length: 0x73,
            dont_fragment: true,
            protocol: Protocol::UDP,
            source: Ipv4Addr::new(192, 168, 0, 1),
            destination: Ipv4Addr::new(192, 168, 0, 199),
            ..Ipv4Header::default()
        };
        assert_eq!(header, expected);
        assert_eq!(header.payload(&packet()).len(), 0x73 - 20);
        let mut out = [0xff; 20];
        header.emit(&mut out);
        assert_eq!(out, HEADER);
    }

    #[test]
    fn every_check_names_its_field() {
        let with = |at: usize, byte: u8| {
            let mut packet = packet();
            packet[at] = byte;
            packet
        };
        assert_refused(&with(0, 0x65), "version", Reason::Invalid);
        assert_refused(&with(0, 0x44), "header length", Reason::TooSmall);
        assert_refused(&with(3, 19), "total length", Reason::TooSmall);
        assert_refused(&with(3, 0x74), "total length", Reason::TooLarge);
        assert_refused(&with(8, 1), "header checksum", Reason::Checksum);
        assert_refused(&HEADER[..19], "destination address", Reason::Truncated);
        assert_refused(&[0x4f; 20], "options", Reason::Truncated);
    }

    #[test]
    fn malformed_options_are_refused_even_under_a_right_checksum() {
        let options = Ipv4Options::from_bytes(&[7, 3, 4, 0x83]).unwrap();
        let header = Ipv4Header { total_length: 24, header_length: 24, options, ..Ipv4Header::default() };
        let mut out = [0; 24];
        header.emit(&mut out);
        assert_refused(&out, "option length", Reason::Truncated);
        assert_eq!(Ipv4Header::parse_quoted(&out), Ok(header));
    }

    #[test]
    fn a_quoted_header_may_be_cut_and_changed() {
        let mut quoted = HEADER;
        quoted[8] = 0;
        assert_eq!(Ipv4Header::parse_quoted(&quoted).unwrap().total_length, 0x73);
    }

    prop_compose! {
        fn any_header()(
            (traffic_class, identification, dont_fragment, more_fragments) in any::<(u8, u16, bool, bool)>(),
            (offset, payload) in (0..0x2000_u16, 0..200_u16),
            (time_to_live, protocol, source, destination) in any::<(u8, u8, [u8; 4], [u8; 4])>(),
            words in 0..=10_usize,
        ) -> Ipv4Header {
            let header_length = 20 + 4 * words as u8;
            Ipv4Header {
                traffic_class, identification, dont_fragment, more_fragments, time_to_live, header_length,
                total_length: u16::from(header_length) + payload,
                fragment_offset: offset * 8,
                protocol: Protocol(protocol),
                source: source.into(),
                destination: destination.into(),
                options: Ipv4Options::from_bytes(&[1; 40][..4 * words]).unwrap(),
            }
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(header in any_header()) {
            let mut out = vec![0xa5; usize::from(header.total_length)];
            header.emit(&mut out);
            prop_assert_eq!(Ipv4Header::parse(&out), Ok(header));
            prop_assert_eq!(header.payload(&out).len(), header.payload_length());
            assert_cuts_refused(&out, Ipv4Header::parse);
            assert_cuts_refused(&out[..header.emitted_length()], Ipv4Header::parse_quoted);
        }

        #[test]
        fn no_input_panics(data in bytes(80), header in any_header(), mutations in mutations()) {
            let mut valid = vec![0; usize::from(header.total_length)];
            header.emit(&mut valid);
            for data in [data, mutate(valid, &mutations)] {
                let _ = Ipv4Header::parse(&data);
                if let Ok(header) = Ipv4Header::parse_quoted(&data) {
                    let _ = (header.payload(&data), header.payload_length(), header.is_fragment());
                    prop_assert!(header.options.iter().count() <= 40);
                }
            }
        }
    }
}
