//! The TCP header (RFC 9293 §3.1).
//!
//! Owns: the fixed part of the header and the flags. The options are in [`tcp_options`](super::tcp_options), sequence
//! number arithmetic in [`sequence`](super::sequence). Refuses: the checksum, which the device may have verified or may
//! be about to fill in; see [`checksum`](super::checksum).

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

use super::cursor::{Reader, Writer};
use super::error::{Malformed, Reason};
use super::sequence::SequenceNumber;
use super::tcp_options::TcpOptions;

/// A TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Of the first byte of data, or of the SYN.
    pub sequence: SequenceNumber,
    /// The next number the sender expects; with [`TcpFlags::ACK`] only.
    pub acknowledgement: SequenceNumber,
    /// Control bits.
    pub flags: TcpFlags,
    /// The receive window as on the wire, not scaled.
    pub window: u16,
    /// Offset of the end of urgent data from `sequence`; with [`TcpFlags::URG`] only.
    pub urgent_pointer: u16,
    /// Options that are understood.
    pub options: TcpOptions,
}

impl TcpHeader {
    /// Bytes of a header without options.
    pub const MINIMUM_LENGTH: usize = 20;
    /// Bytes of a header with as many options as fit.
    pub const MAXIMUM_LENGTH: usize = 60;
    /// Where in the header the checksum stands.
    pub const CHECKSUM_OFFSET: usize = 16;

    /// Reads a header, and says how many bytes it took: where the payload begins. The checksum is not verified.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut reader = Reader::new("TCP", bytes);
        let source_port = reader.take_u16("source port")?;
        let destination_port = reader.take_u16("destination port")?;
        let sequence = SequenceNumber(reader.take_u32("sequence number")?);
        let acknowledgement = SequenceNumber(reader.take_u32("acknowledgment number")?);
        let offset_and_flags = reader.take_u16("data offset")?;
        let window = reader.take_u16("window")?;
        let _checksum = reader.take_u16("checksum")?;
        let urgent_pointer = reader.take_u16("urgent pointer")?;
        let header_length = usize::from(offset_and_flags >> 12) * 4;
        let options = parse_options(&mut reader, header_length)?;
        let flags = TcpFlags(offset_and_flags & TcpFlags::ALL.0);
        let header = Self { source_port, destination_port, sequence, acknowledgement, flags, window, urgent_pointer, options };
        Ok((header, header_length))
    }

    /// Reads ports and sequence number, all that an ICMP error must quote of a TCP header (RFC 792: 64 bits).
    pub fn parse_quoted(bytes: &[u8]) -> Result<(u16, u16, SequenceNumber), Malformed> {
        let mut reader = Reader::new("TCP", bytes);
        let source_port = reader.take_u16("source port")?;
        let destination_port = reader.take_u16("destination port")?;
        Ok((source_port, destination_port, SequenceNumber(reader.take_u32("sequence number")?)))
    }

    /// Bytes that `emit` writes: 20 and the options, padded to a multiple of four.
    pub fn header_length(&self) -> usize {
        Self::MINIMUM_LENGTH + self.options.length()
    }

    /// Writes the first [`header_length`](Self::header_length) bytes of `out`, with a checksum of zero for the caller to
    /// fill in; panics if `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let length = self.header_length();
        let (fixed, options) = out[..length].split_at_mut(Self::MINIMUM_LENGTH);
        let mut writer = Writer::new(fixed);
        writer.put_u16(self.source_port);
        writer.put_u16(self.destination_port);
        writer.put_u32(self.sequence.0);
        writer.put_u32(self.acknowledgement.0);
        writer.put_u16(((length / 4) as u16) << 12 | self.flags.0 & TcpFlags::ALL.0);
        writer.put_u16(self.window);
        writer.put_u16(0);
        writer.put_u16(self.urgent_pointer);
        self.options.emit(options);
    }

    /// How much of the sequence space a segment with `payload_length` bytes takes: SYN and FIN count as one each (RFC 9293
    /// §3.4, SEG.LEN).
    pub const fn segment_length(&self, payload_length: u32) -> u32 {
        let syn = self.flags.contains(TcpFlags::SYN) as u32;
        let fin = self.flags.contains(TcpFlags::FIN) as u32;
        payload_length.saturating_add(syn + fin)
    }
}

fn parse_options(reader: &mut Reader<'_>, header_length: usize) -> Result<TcpOptions, Malformed> {
    let length = header_length.checked_sub(TcpHeader::MINIMUM_LENGTH).ok_or_else(|| reader.malformed("data offset", Reason::TooSmall))?;
    let Ok(bytes) = reader.take_slice(length, "options") else {
        return Err(reader.malformed("data offset", Reason::TooLarge));
    };
    TcpOptions::parse(bytes)
}

/// The control bits of a TCP header; the default has none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x001);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x002);
    /// Reset the connection.
    pub const RST: Self = Self(0x004);
    /// Push function.
    pub const PSH: Self = Self(0x008);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x010);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x020);
    /// ECN echo (RFC 3168 §6.1).
    pub const ECE: Self = Self(0x040);
    /// Congestion window reduced (RFC 3168 §6.1).
    pub const CWR: Self = Self(0x080);
    /// Accurate ECN (RFC 9768 §2), once the nonce sum.
    pub const AE: Self = Self(0x100);
    /// SYN and ACK.
    pub const SYN_ACK: Self = Self(Self::SYN.0 | Self::ACK.0);
    /// Every bit that has a meaning; the three above are reserved and never kept.
    pub const ALL: Self = Self(0x1ff);
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether none is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for TcpFlags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for TcpFlags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// As tcpdump writes them: `[S.]` for SYN and ACK, `[none]` for none.
impl fmt::Display for TcpFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(TcpFlags, &str); 9] = [
            (TcpFlags::FIN, "F"),
            (TcpFlags::SYN, "S"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
            (TcpFlags::AE, "e"),
        ];
        if !self.intersects(Self::ALL) {
            return formatter.write_str("[none]");
        }
        formatter.write_str("[")?;
        for (_, letter) in LETTERS.iter().filter(|(flag, _)| self.contains(*flag)) {
            formatter.write_str(letter)?;
        }
        formatter.write_str("]")
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TcpFlags{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tcp_options::strategies::any_options;
    use crate::wire::testing::{assert_cuts_refused, bytes, config, mutate, mutations};

    #[test]
    fn fields_lie_where_the_rfc_says() {
        let header = TcpHeader {
            source_port: 0x0102,
            destination_port: 0x0304,
            sequence: SequenceNumber(0x0506_0708),
            acknowledgement: SequenceNumber(0x090a_0b0c),
            flags: TcpFlags::SYN_ACK | TcpFlags::AE,
            window: 0x0d0e,
            urgent_pointer: 0x0f10,
            options: TcpOptions { maximum_segment_size: Some(1460), ..TcpOptions::default() },
        };
        let mut out = [0xa5; 24];
        header.emit(&mut out);
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x61, 0x12, 13, 14, 0, 0, 15, 16, 2, 4, 5, 0xb4]);
        assert_eq!(TcpHeader::parse(&out), Ok((header, 24)));
        assert_eq!(TcpHeader::parse_quoted(&out[..8]), Ok((0x0102, 0x0304, SequenceNumber(0x0506_0708))));
    }

    #[test]
    fn data_offset_is_checked_both_ways() {
        let with_offset = |words: u8| {
            let mut bytes = [0; 20];
            bytes[12] = words << 4;
            TcpHeader::parse(&bytes)
        };
        assert_eq!(with_offset(4), Err(Malformed::new("TCP", "data offset", Reason::TooSmall)));
        assert_eq!(with_offset(6), Err(Malformed::new("TCP", "data offset", Reason::TooLarge)));
        assert_eq!(with_offset(5), Ok((TcpHeader::default(), 20)));
        assert_eq!(TcpHeader::parse(&[0; 13]), Err(Malformed::new("TCP", "data offset", Reason::Truncated)));
    }

    #[test]
    fn flags_read_as_tcpdump_writes_them() {
        assert_eq!(TcpFlags::SYN_ACK.to_string(), "[S.]");
        assert_eq!((TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK).to_string(), "[FP.]");
        assert_eq!(TcpFlags::NONE.to_string(), "[none]");
        assert!(TcpFlags::SYN_ACK.contains(TcpFlags::ACK) && !TcpFlags::ACK.contains(TcpFlags::SYN_ACK));
        assert_eq!(TcpFlags::SYN_ACK & !TcpFlags::ACK, TcpFlags::SYN);
    }

    #[test]
    fn syn_and_fin_take_sequence_space() {
        let with = |flags| TcpHeader { flags, ..TcpHeader::default() };
        assert_eq!(with(TcpFlags::SYN | TcpFlags::FIN).segment_length(10), 12);
        assert_eq!(with(TcpFlags::ACK).segment_length(10), 10);
    }

    prop_compose! {
        fn any_header()(
            (source_port, destination_port, sequence, acknowledgement) in any::<(u16, u16, u32, u32)>(),
            (flags, window, urgent_pointer) in (0..0x200_u16, any::<u16>(), any::<u16>()),
            options in any_options(),
        ) -> TcpHeader {
            TcpHeader {
                source_port, destination_port, window, urgent_pointer, options,
                sequence: SequenceNumber(sequence),
                acknowledgement: SequenceNumber(acknowledgement),
                flags: TcpFlags(flags),
            }
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(header in any_header()) {
            let mut out = vec![0xa5; header.header_length()];
            header.emit(&mut out);
            prop_assert_eq!(TcpHeader::parse(&out), Ok((header, out.len())));
            assert_cuts_refused(&out, TcpHeader::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(80), header in any_header(), mutations in mutations()) {
            let mut valid = vec![0; header.header_length()];
            header.emit(&mut valid);
            for data in [data, mutate(valid, &mutations)] {
                let _ = TcpHeader::parse_quoted(&data);
                if let Ok((header, length)) = TcpHeader::parse(&data) {
                    prop_assert!(length <= data.len());
                    let mut out = [0; TcpHeader::MAXIMUM_LENGTH];
                    header.emit(&mut out);
                    prop_assert!(TcpHeader::parse(&out[..header.header_length()]).is_ok());
                }
            }
        }
    }
}
