//! Resource records (RFC 1035 §4.1.3) and the registries of their types and classes.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::name::Name;
use super::record_data::RecordData;
use crate::wire::error::{Malformed, Reason};

/// One resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose data this is.
    pub name: Name,
    /// Nearly always [`RecordClass::INTERNET`]; in an OPT record the sender's UDP payload size.
    pub class: RecordClass,
    /// How long the record may be kept, in seconds, as on the wire: see [`Record::lifetime_seconds`].
    pub ttl: u32,
    /// The data, which also says the type.
    pub data: RecordData,
}

impl Record {
    /// An Internet record.
    pub const fn new(name: Name, ttl: u32, data: RecordData) -> Self {
        Self { name, class: RecordClass::INTERNET, ttl, data }
    }

    /// The type of the data.
    pub const fn kind(&self) -> RecordType {
        self.data.kind()
    }

    /// The time to live in seconds, with values beyond 31 bits taken as zero (RFC 2181 §8).
    pub const fn lifetime_seconds(&self) -> u32 {
        if self.ttl > i32::MAX as u32 { 0 } else { self.ttl }
    }

    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let name = decoder.take_name("record name")?;
        let kind = RecordType(decoder.reader.take_u16("record type")?);
        let class = RecordClass(decoder.reader.take_u16("record class")?);
        let ttl = decoder.reader.take_u32("time to live")?;
        let length = decoder.reader.take_u16("record data length")?;
        let mut part = decoder.take_part(usize::from(length), "record data")?;
        let data = RecordData::decode(&mut part, kind, class)?;
        if !part.reader.is_empty() {
            return Err(part.reader.malformed("record data length", Reason::TooLarge));
        }
        Ok(Self { name, class, ttl, data })
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.put_name(&self.name);
        encoder.put_u16(self.kind().0);
        encoder.put_u16(self.class.0);
        encoder.put_u32(self.ttl);
        encoder.put_with_length(|encoder| self.data.encode(encoder));
    }
}

/// Name, time to live, class, type and data, as in a zone file.
impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, class, ttl, data } = self;
        write!(formatter, "{name}\t{ttl}\t{class}\t{}\t{data}", data.kind())
    }
}

/// What kind of data a record holds or a question asks for.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

/// Declares the types that have a name, once for the constants and both directions of text.
macro_rules! record_types {
    ($($(#[$about:meta])* $name:ident = $number:literal,)*) => {
        impl RecordType {
            $($(#[$about])* pub const $name: Self = Self($number);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

record_types! {
    /// An IPv4 address.
    A = 1,
    /// An authoritative name server.
    NS = 2,
    /// The canonical name of an alias.
    CNAME = 5,
    /// The start of a zone of authority.
    SOA = 6,
    /// A pointer to another name, for reverse lookup.
    PTR = 12,
    /// A mail exchange.
    MX = 15,
    /// Text.
    TXT = 16,
    /// An IPv6 address (RFC 3596).
    AAAA = 28,
    /// The location of a service (RFC 2782).
    SRV = 33,
    /// EDNS, not data (RFC 6891).
    OPT = 41,
    /// Delegation signer (RFC 4034).
    DS = 43,
    /// A signature (RFC 4034).
    RRSIG = 46,
    /// Proof that there is nothing (RFC 4034).
    NSEC = 47,
    /// A zone's key (RFC 4034).
    DNSKEY = 48,
    /// How to reach a service, for HTTPS (RFC 9460).
    HTTPS = 65,
    /// In questions: a whole zone.
    AXFR = 252,
    /// In questions: whatever there is.
    ANY = 255,
    /// Who may issue certificates (RFC 8659).
    CAA = 257,
}

impl fmt::Display for RecordType {
    /// The name, or `TYPE` and the number (RFC 3597 §5).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => formatter.write_str(name),
            None => write!(formatter, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Text that names no record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseRecordTypeError;

impl fmt::Display for ParseRecordTypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a DNS record type: expected a name such as AAAA, or TYPE and a number")
    }
}

impl Error for ParseRecordTypeError {}

impl FromStr for RecordType {
    type Err = ParseRecordTypeError;

    /// Reads a name in any case, or `TYPE` and a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        if let Some((kind, _)) = Self::NAMES.iter().find(|(_, name)| *name == upper) {
            return Ok(*kind);
        }
        let digits = upper.strip_prefix("TYPE").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(ParseRecordTypeError)
    }
}

/// Which network's data a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordClass(pub u16);

impl RecordClass {
    /// The Internet.
    pub const INTERNET: Self = Self(1);
    /// Chaosnet, today used to ask servers about themselves.
    pub const CHAOS: Self = Self(3);
    /// In questions: any class.
    pub const ANY: Self = Self(255);
}

impl Default for RecordClass {
    fn default() -> Self {
        Self::INTERNET
    }
}

impl fmt::Display for RecordClass {
    /// The name, or `CLASS` and the number (RFC 3597 §5).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match *self {
            Self::INTERNET => "IN",
            Self::CHAOS => "CH",
            Self::ANY => "ANY",
            Self(number) => return write!(formatter, "CLASS{number}"),
        })
    }
}

impl fmt::Debug for RecordClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_both_ways() {
        assert_eq!("aaaa".parse(), Ok(RecordType::AAAA));
        assert_eq!("TYPE65280".parse(), Ok(RecordType(65280)));
        for text in ["", "TYPE", "TYPE65536", "TYPE+1", "QUAD"] {
            assert_eq!(text.parse::<RecordType>(), Err(ParseRecordTypeError), "{text}");
        }
        for number in 0..=300 {
            assert_eq!(RecordType(number).to_string().parse(), Ok(RecordType(number)));
        }
    }

    #[test]
    fn absurd_lifetimes_count_as_zero() {
        let record = |ttl| Record::new(Name::root(), ttl, RecordData::A([192, 0, 2, 1].into()));
        assert_eq!(record(0x7fff_ffff).lifetime_seconds(), 0x7fff_ffff);
        assert_eq!(record(0x8000_0000).lifetime_seconds(), 0);
    }

    #[test]
    fn records_print_as_in_a_zone_file() {
        let record = Record::new("www.lab.test".parse().unwrap(), 60, RecordData::A([192, 0, 2, 1].into()));
        assert_eq!(record.to_string(), "www.lab.test.\t60\tIN\tA\t192.0.2.1");
    }
}
