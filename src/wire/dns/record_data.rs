//! What records hold (RFC 1035 §3.3, RFC 3596 §2.2, RFC 2782).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::decoder::Decoder;
use super::edns::EdnsOption;
use super::encoder::Encoder;
use super::name::{Name, write_escaped};
use super::record::{RecordClass, RecordType};
use crate::wire::error::Malformed;

/// The data of a record, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    /// An IPv4 address; of the Internet class only.
    A(Ipv4Addr),
    /// An IPv6 address; of the Internet class only.
    Aaaa(Ipv6Addr),
    /// The name is an alias for this one.
    Cname(Name),
    /// A name server of the zone.
    Ns(Name),
    /// The name that an address has.
    Ptr(Name),
    /// A mail exchange.
    Mx {
        /// Lower ones are tried first.
        preference: u16,
        /// The host.
        exchange: Name,
    },
    /// Text.
    Txt(Vec<CharacterString>),
    /// The start of a zone.
    Soa(Box<StartOfAuthority>),
    /// Where a service is; of the Internet class only.
    Srv {
        /// Lower ones are tried first.
        priority: u16,
        /// Among equal priorities, how often to choose this one.
        weight: u16,
        /// The service's port.
        port: u16,
        /// The host; the root if there is no such service.
        target: Name,
    },
    /// EDNS options; see [`Edns`](super::Edns).
    Opt(Vec<EdnsOption>),
    /// Any other type, or a type above in a class that gives it another form.
    Other {
        /// The type.
        kind: RecordType,
        /// The data as on the wire.
        raw: Vec<u8>,
    },
}

/// The data of an SOA record (RFC 1035 §3.3.13); times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartOfAuthority {
    /// The zone's first name server.
    pub primary: Name,
    /// Who is responsible, with the `@` written as a dot.
    pub mailbox: Name,
    /// Version of the zone.
    pub serial: u32,
    /// How often secondary servers look for a new version.
    pub refresh: u32,
    /// How soon they try again.
    pub retry: u32,
    /// When they give the zone up.
    pub expire: u32,
    /// How long a negative answer may be kept (RFC 2308 §4).
    pub minimum: u32,
}

/// Up to 255 bytes of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CharacterString(Box<[u8]>);

impl CharacterString {
    /// Takes the bytes over; `None` if there are more than 255.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        u8::try_from(bytes.len()).is_ok().then_some(Self(bytes))
    }

    /// The bytes, mostly but not always ASCII.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl RecordData {
    /// The type that goes with the data.
    pub const fn kind(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Cname(_) => RecordType::CNAME,
            Self::Ns(_) => RecordType::NS,
            Self::Ptr(_) => RecordType::PTR,
            Self::Mx { .. } => RecordType::MX,
            Self::Txt(_) => RecordType::TXT,
            Self::Soa(_) => RecordType::SOA,
            Self::Srv { .. } => RecordType::SRV,
            Self::Opt(_) => RecordType::OPT,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// `decoder` ends with the record; what is left over then makes the record malformed.
    pub(super) fn decode(decoder: &mut Decoder<'_>, kind: RecordType, class: RecordClass) -> Result<Self, Malformed> {
        let is_internet = class == RecordClass::INTERNET;
        Ok(match kind {
            RecordType::A if is_internet => Self::A(decoder.reader.take_ipv4("A address")?),
            RecordType::AAAA if is_internet => Self::Aaaa(decoder.reader.take_array::<16>("AAAA address")?.into()),
            RecordType::CNAME => Self::Cname(decoder.take_name("CNAME name")?),
            RecordType::NS => Self::Ns(decoder.take_name("NS name")?),
            RecordType::PTR => Self::Ptr(decoder.take_name("PTR name")?),
            RecordType::MX => {
                Self::Mx { preference: decoder.reader.take_u16("MX preference")?, exchange: decoder.take_name("MX exchange")? }
            }
            RecordType::TXT => Self::Txt(take_strings(decoder)?),
            RecordType::SOA => Self::Soa(Box::new(StartOfAuthority::decode(decoder)?)),
            RecordType::SRV if is_internet => take_service(decoder)?,
            RecordType::OPT => Self::Opt(EdnsOption::decode_all(decoder)?),
            kind => Self::Other { kind, raw: take_rest(decoder)? },
        })
    }

    /// Names are compressed in the types of RFC 1035 alone (RFC 3597 §4).
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::A(address) => encoder.put(&address.octets()),
            Self::Aaaa(address) => encoder.put(&address.octets()),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => encoder.put_name(name),
            Self::Mx { preference, exchange } => {
                encoder.put_u16(*preference);
                encoder.put_name(exchange);
            }
            Self::Txt(strings) => strings.iter().for_each(|string| string.encode(encoder)),
            Self::Soa(authority) => authority.encode(encoder),
            Self::Srv { priority, weight, port, target } => {
                [priority, weight, port].into_iter().for_each(|number| encoder.put_u16(*number));
                encoder.put_name_in_full(target);
            }
            Self::Opt(options) => options.iter().for_each(|option| option.encode(encoder)),
            Self::Other { raw, .. } => encoder.put(raw),
        }
    }
}

impl CharacterString {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.put_u8(self.0.len() as u8);
        encoder.put(&self.0);
    }
}

impl StartOfAuthority {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            primary: decoder.take_name("SOA primary")?,
            mailbox: decoder.take_name("SOA mailbox")?,
            serial: decoder.reader.take_u32("SOA serial")?,
            refresh: decoder.reader.take_u32("SOA refresh")?,
            retry: decoder.reader.take_u32("SOA retry")?,
            expire: decoder.reader.take_u32("SOA expire")?,
            minimum: decoder.reader.take_u32("SOA minimum")?,
        })
    }

    fn encode(&self, encoder: &mut Encoder) {
        let Self { primary, mailbox, serial, refresh, retry, expire, minimum } = self;
        encoder.put_name(primary);
        encoder.put_name(mailbox);
        [serial, refresh, retry, expire, minimum].into_iter().for_each(|number| encoder.put_u32(*number));
    }
}

fn take_strings(decoder: &mut Decoder<'_>) -> Result<Vec<CharacterString>, Malformed> {
    let mut strings = Vec::new();
    while !decoder.reader.is_empty() {
        let length = decoder.reader.take_u8("TXT length")?;
        let bytes = decoder.reader.take_slice(usize::from(length), "TXT string")?;
        strings.push(CharacterString(bytes.into()));
    }
    Ok(strings)
}

/// Targets must not be compressed (RFC 2782), but some are, and reading them does no harm.
fn take_service(decoder: &mut Decoder<'_>) -> Result<RecordData, Malformed> {
    Ok(RecordData::Srv {
        priority: decoder.reader.take_u16("SRV priority")?,
        weight: decoder.reader.take_u16("SRV weight")?,
        port: decoder.reader.take_u16("SRV port")?,
        target: decoder.take_name("SRV target")?,
    })
}

fn take_rest(decoder: &mut Decoder<'_>) -> Result<Vec<u8>, Malformed> {
    let length = decoder.reader.rest().len();
    decoder.reader.take_slice(length, "record data").map(<[u8]>::to_vec)
}

/// As in a zone file; data without a form of its own as RFC 3597 §5 writes it.
impl fmt::Display for RecordData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(formatter, "{address}"),
            Self::Aaaa(address) => write!(formatter, "{address}"),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => write!(formatter, "{name}"),
            Self::Mx { preference, exchange } => write!(formatter, "{preference} {exchange}"),
            Self::Txt(strings) => write_joined(formatter, strings),
            Self::Soa(authority) => write!(formatter, "{authority}"),
            Self::Srv { priority, weight, port, target } => write!(formatter, "{priority} {weight} {port} {target}"),
            Self::Opt(options) => write_joined(formatter, options),
            Self::Other { raw, .. } => {
                write!(formatter, "\\# {}", raw.len())?;
                write_hexadecimal(formatter, raw)
            }
        }
    }
}

fn write_joined(formatter: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        write!(formatter, "{separator}{item}")?;
    }
    Ok(())
}

/// A space and the bytes, or nothing if there are none.
pub(super) fn write_hexadecimal(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if !bytes.is_empty() {
        formatter.write_str(" ")?;
    }
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

/// In quotes, with escapes as in names.
impl fmt::Display for CharacterString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for (index, word) in self.0.split(|byte| *byte == b' ').enumerate() {
            formatter.write_str(if index == 0 { "" } else { " " })?;
            write_escaped(formatter, word, b"\"\\")?;
        }
        formatter.write_str("\"")
    }
}

impl fmt::Display for StartOfAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { primary, mailbox, serial, refresh, retry, expire, minimum } = self;
        write!(formatter, "{primary} {mailbox} {serial} {refresh} {retry} {expire} {minimum}")
    }
}

/// Generators for property tests of this folder.
#[cfg(test)]
pub(super) mod strategies {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::name::strategies::any_name;
    use super::*;

    fn any_string() -> impl Strategy<Value = CharacterString> {
        vec(any::<u8>(), 0..40).prop_map(|bytes| CharacterString::new(bytes).unwrap())
    }

    fn any_authority() -> impl Strategy<Value = StartOfAuthority> {
        (any_name(), any_name(), any::<[u32; 5]>()).prop_map(|(primary, mailbox, [serial, refresh, retry, expire, minimum])| {
            StartOfAuthority { primary, mailbox, serial, refresh, retry, expire, minimum }
        })
    }

    /// Any data but EDNS, which may stand in a message only once.
    pub(crate) fn any_data() -> impl Strategy<Value = RecordData> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| RecordData::A(octets.into())),
            any::<[u8; 16]>().prop_map(|octets| RecordData::Aaaa(octets.into())),
            any_name().prop_map(RecordData::Cname),
            any_name().prop_map(RecordData::Ns),
            any_name().prop_map(RecordData::Ptr),
            (any::<u16>(), any_name()).prop_map(|(preference, exchange)| RecordData::Mx { preference, exchange }),
            vec(any_string(), 0..4).prop_map(RecordData::Txt),
            any_authority().prop_map(|authority| RecordData::Soa(Box::new(authority))),
            (any::<[u16; 3]>(), any_name())
                .prop_map(|([priority, weight, port], target)| { RecordData::Srv { priority, weight, port, target } }),
            (100..200_u16, vec(any::<u8>(), 0..40)).prop_map(|(kind, raw)| RecordData::Other { kind: RecordType(kind), raw }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn data_prints_as_in_a_zone_file() {
        let mail = RecordData::Mx { preference: 10, exchange: name("mail.lab.test") };
        assert_eq!(mail.to_string(), "10 mail.lab.test.");
        let text = [&b"v=spf1 -all"[..], b"say \"hi\"\x07"].map(|bytes| CharacterString::new(bytes).unwrap());
        assert_eq!(RecordData::Txt(text.to_vec()).to_string(), r#""v=spf1 -all" "say \"hi\"\007""#);
        let other = RecordData::Other { kind: RecordType(65280), raw: vec![1, 0xab] };
        assert_eq!(other.to_string(), r"\# 2 01ab");
        let service = RecordData::Srv { priority: 1, weight: 2, port: 443, target: Name::root() };
        assert_eq!(service.to_string(), "1 2 443 .");
    }

    #[test]
    fn strings_hold_255_bytes() {
        assert!(CharacterString::new(vec![b'x'; 255]).is_some());
        assert!(CharacterString::new(vec![b'x'; 256]).is_none());
    }
}
