//! The message header (RFC 1035 §4.1.1; RFC 4035 §3.2 for the two DNSSEC bits; RFC 6895 for the registries).

use std::fmt;

use super::decoder::{Decoder, PROTOCOL};
use crate::wire::cursor::Reader;
use crate::wire::error::Malformed;

/// Identifier and flags: the header without its four counts, which follow from the message's sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Joins an answer to its question.
    pub identifier: u16,
    /// QR: a response and not a query.
    pub is_response: bool,
    /// What kind of query.
    pub opcode: Opcode,
    /// AA: the server is an authority for the name.
    pub is_authoritative: bool,
    /// TC: there was more than the transport could carry; ask again over TCP.
    pub is_truncated: bool,
    /// RD: please ask others if need be.
    pub recursion_desired: bool,
    /// RA: the server would.
    pub recursion_available: bool,
    /// AD: the server has verified the data.
    pub authentic_data: bool,
    /// CD: please do not verify.
    pub checking_disabled: bool,
    /// How it went; only the lower four bits are in the header, see [`Message::response_code`](super::Message::response_code).
    pub response_code: ResponseCode,
}

impl Header {
    /// Bytes on the wire, the four counts included.
    pub const LENGTH: usize = 12;

    /// Reads the header alone, which a server needs to refuse a message whose rest does not parse.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::take(&mut Reader::new(PROTOCOL, bytes)).map(|(header, _)| header)
    }

    /// The header and the counts of questions, answers, authorities and additional records.
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<(Self, [u16; 4]), Malformed> {
        Self::take(&mut decoder.reader)
    }

    fn take(reader: &mut Reader<'_>) -> Result<(Self, [u16; 4]), Malformed> {
        let identifier = reader.take_u16("identifier")?;
        let flags = reader.take_u16("flags")?;
        let counts = [
            reader.take_u16("question count")?,
            reader.take_u16("answer count")?,
            reader.take_u16("authority count")?,
            reader.take_u16("additional count")?,
        ];
        Ok((Self::from_words(identifier, flags), counts))
    }

    fn from_words(identifier: u16, flags: u16) -> Self {
        let is_set = |bit: u32| flags & (1 << bit) != 0;
        Self {
            identifier,
            is_response: is_set(15),
            opcode: Opcode((flags >> 11) as u8 & 0x0f),
            is_authoritative: is_set(10),
            is_truncated: is_set(9),
            recursion_desired: is_set(8),
            recursion_available: is_set(7),
            authentic_data: is_set(5),
            checking_disabled: is_set(4),
            response_code: ResponseCode(flags & 0x0f),
        }
    }

    /// The header's second word.
    pub(super) fn flags(&self) -> u16 {
        let bit = |is_set: bool, bit: u32| u16::from(is_set) << bit;
        bit(self.is_response, 15)
            | (u16::from(self.opcode.0 & 0x0f) << 11)
            | bit(self.is_authoritative, 10)
            | bit(self.is_truncated, 9)
            | bit(self.recursion_desired, 8)
            | bit(self.recursion_available, 7)
            | bit(self.authentic_data, 5)
            | bit(self.checking_disabled, 4)
            | (self.response_code.0 & 0x0f)
    }
}

/// What kind of query a message is, in four bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A standard query.
    pub const QUERY: Self = Self(0);
    /// A server's status (obsolete in practice).
    pub const STATUS: Self = Self(2);
    /// A zone has changed (RFC 1996).
    pub const NOTIFY: Self = Self(4);
    /// Change a zone (RFC 2136).
    pub const UPDATE: Self = Self(5);
}

impl fmt::Display for Opcode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match *self {
            Self::QUERY => "QUERY",
            Self::STATUS => "STATUS",
            Self::NOTIFY => "NOTIFY",
            Self::UPDATE => "UPDATE",
            Self(number) => return write!(formatter, "OPCODE{number}"),
        })
    }
}

impl fmt::Debug for Opcode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How a query went: four bits in the header, and eight more with EDNS (RFC 6891 §6.1.3).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u16);

impl ResponseCode {
    /// All is well; the answer may still be empty.
    pub const NO_ERROR: Self = Self(0);
    /// The server could not read the query.
    pub const FORMAT_ERROR: Self = Self(1);
    /// The server failed.
    pub const SERVER_FAILURE: Self = Self(2);
    /// The name does not exist.
    pub const NAME_ERROR: Self = Self(3);
    /// The server does not do this kind of query.
    pub const NOT_IMPLEMENTED: Self = Self(4);
    /// The server does not want to.
    pub const REFUSED: Self = Self(5);
    /// The server does not know this version of EDNS (RFC 6891 §9).
    pub const BAD_VERSION: Self = Self(16);
}

/// The names that `dig` prints.
impl fmt::Display for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match *self {
            Self::NO_ERROR => "NOERROR",
            Self::FORMAT_ERROR => "FORMERR",
            Self::SERVER_FAILURE => "SERVFAIL",
            Self::NAME_ERROR => "NXDOMAIN",
            Self::NOT_IMPLEMENTED => "NOTIMP",
            Self::REFUSED => "REFUSED",
            Self::BAD_VERSION => "BADVERS",
            Self(number) => return write!(formatter, "RCODE{number}"),
        })
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Reason;
    use crate::wire::testing::config;

    #[test]
    fn flags_lie_where_the_rfc_says() {
        let header = Header::parse(&[0x12, 0x34, 0x85, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let expected = Header {
            identifier: 0x1234,
            is_response: true,
            is_authoritative: true,
            recursion_desired: true,
            recursion_available: true,
            response_code: ResponseCode::NAME_ERROR,
            ..Header::default()
        };
        assert_eq!(header, expected);
        let error = Header::parse(&[0; 11]).unwrap_err();
        assert_eq!(error, Malformed::new("DNS", "additional count", Reason::Truncated));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn flags_round_trip(identifier: u16, flags: u16) {
            let header = Header::from_words(identifier, flags);
            prop_assert_eq!(header.flags(), flags & !0x40); // One bit is reserved (RFC 1035: "must be zero").
        }
    }
}
