//! Domain names (RFC 1035 §3.1, §4.1.4, §5.1).
//!
//! Owns: the wire form, comparison without regard to case (RFC 4343), the text form with its escapes. Refuses: search
//! lists and internationalised names, which must arrive in their ASCII form.

use std::error::Error;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::str::FromStr;

/// A full domain name, kept as it is written on the wire: each label behind its length, the root's empty label last.
///
/// Two names are equal if they differ in the case of ASCII letters only; [`eq_exact_case`](Self::eq_exact_case) tells
/// them apart all the same.
///
/// ```
/// use hopline::wire::dns::Name;
/// let name: Name = "www.Example.com".parse()?;
/// assert_eq!(name, "WWW.example.com.".parse()?);
/// assert_eq!(name.to_string(), "www.Example.com.");
/// # Ok::<(), hopline::wire::dns::ParseNameError>(())
/// ```
#[derive(Clone)]
pub struct Name {
    /// Valid: labels of at most 63 bytes, 255 bytes in all, one empty label, at the end.
    wire: Box<[u8]>,
}

impl Name {
    /// Longest name in bytes, lengths and the root's label included (RFC 1035 §2.3.4).
    pub const MAXIMUM_LENGTH: usize = 255;
    /// Longest label in bytes (RFC 1035 §2.3.4).
    pub const MAXIMUM_LABEL_LENGTH: usize = 63;

    /// The root, which has no labels.
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// A name from its labels, without the root's.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ParseNameError> {
        let mut builder = NameBuilder::default();
        for label in labels {
            builder.push(label)?;
        }
        Ok(builder.finish())
    }

    /// The name that a PTR record for `address` has: under `in-addr.arpa` (RFC 1035 §3.5) or `ip6.arpa` (RFC 3596 §2.5).
    pub fn for_reverse_lookup(address: IpAddr) -> Self {
        let mut builder = NameBuilder::default();
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets().iter().rev() {
                    builder.push_short(octet.to_string().as_bytes());
                }
                builder.push_short(b"in-addr");
            }
            IpAddr::V6(address) => {
                for octet in address.octets().iter().rev() {
                    builder.push_short(&[hexadecimal_digit(octet & 0x0f)]);
                    builder.push_short(&[hexadecimal_digit(octet >> 4)]);
                }
                builder.push_short(b"ip6");
            }
        }
        builder.push_short(b"arpa");
        builder.finish()
    }

    /// The bytes of the wire form without compression.
    pub const fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// The labels from left to right, without the root's.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.suffixes().filter_map(|suffix| {
            let (length, rest) = suffix.split_first()?;
            rest.get(..usize::from(*length)).filter(|label| !label.is_empty())
        })
    }

    /// How many labels there are, the root's not counted.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The wire forms of the name, its parent, and so on up to the root.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::successors(Some(self.as_wire()), |suffix| {
            let length = usize::from(*suffix.first()?);
            suffix.get(1 + length..).filter(|rest| !rest.is_empty())
        })
    }

    /// The name without its first label; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.suffixes().nth(1).map(|wire| Self { wire: wire.into() })
    }

    /// Whether `self` is `ancestor` or lies under it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.suffixes().any(|suffix| suffix.eq_ignore_ascii_case(&ancestor.wire))
    }

    /// `self` in front of `suffix`, as a search list does it.
    pub fn join(&self, suffix: &Self) -> Result<Self, ParseNameError> {
        Self::from_labels(self.labels().chain(suffix.labels()))
    }

    /// Equality that minds the case of letters, for answers to a question with mixed case ("0x20").
    pub fn eq_exact_case(&self, other: &Self) -> bool {
        self.wire == other.wire
    }

    /// The name with each letter in upper case where `is_upper`, asked once for each letter from left to right, says so.
    #[must_use]
    pub fn with_case(&self, mut is_upper: impl FnMut() -> bool) -> Self {
        let mut wire = self.wire.clone();
        // Lengths are at most 63 and so never look like a letter.
        for byte in wire.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
            *byte = if is_upper() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        }
        Self { wire }
    }
}

fn hexadecimal_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

impl Default for Name {
    fn default() -> Self {
        Self::root()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire.to_ascii_lowercase().hash(state);
    }
}

/// Labels under construction; the limits of length are kept here and nowhere else.
#[derive(Default)]
pub(super) struct NameBuilder {
    wire: Vec<u8>,
}

impl NameBuilder {
    /// Appends a label.
    pub(super) fn push(&mut self, label: &[u8]) -> Result<(), ParseNameError> {
        if label.is_empty() {
            return Err(ParseNameError::EmptyLabel);
        }
        if label.len() > Name::MAXIMUM_LABEL_LENGTH {
            return Err(ParseNameError::LabelTooLong);
        }
        if self.wire.len() + 1 + label.len() + 1 > Name::MAXIMUM_LENGTH {
            return Err(ParseNameError::TooLong);
        }
        self.push_short(label);
        Ok(())
    }

    /// Appends one of a few labels that are known to be short.
    fn push_short(&mut self, label: &[u8]) {
        self.wire.push(label.len() as u8);
        self.wire.extend_from_slice(label);
    }

    pub(super) fn finish(mut self) -> Name {
        self.wire.push(0);
        Name { wire: self.wire.into() }
    }
}

/// Text that is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseNameError {
    /// Two dots in a row, a dot in front, or no text at all.
    EmptyLabel,
    /// More than 63 bytes between two dots.
    LabelTooLong,
    /// More than 255 bytes on the wire.
    TooLong,
    /// A backslash that is followed neither by three digits up to 255 nor by another character.
    BadEscape,
    /// A character beyond ASCII: the name must be given in its `xn--` form.
    NotAscii,
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::EmptyLabel => "domain name with an empty label",
            Self::LabelTooLong => "domain name with a label of more than 63 bytes",
            Self::TooLong => "domain name of more than 255 bytes",
            Self::BadEscape => "domain name with an escape that is neither \\DDD nor \\X",
            Self::NotAscii => "domain name with a character beyond ASCII: write it in its xn-- form",
        })
    }
}

impl Error for ParseNameError {}

impl FromStr for Name {
    type Err = ParseNameError;

    /// Reads labels joined by dots, with or without a dot at the end; `.` is the root. `\.` is a dot within a label,
    /// `\DDD` the byte with that decimal number (RFC 1035 §5.1).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut builder = NameBuilder::default();
        let mut bytes = text.bytes();
        loop {
            let (label, is_last) = read_label(&mut bytes)?;
            builder.push(&label)?;
            if is_last || bytes.len() == 0 {
                return Ok(builder.finish());
            }
        }
    }
}

/// The bytes up to the next dot, and whether the text ended instead.
fn read_label(bytes: &mut std::str::Bytes<'_>) -> Result<(Vec<u8>, bool), ParseNameError> {
    let mut label = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => return Ok((label, false)),
            b'\\' => label.push(read_escape(bytes)?),
            0x80.. => return Err(ParseNameError::NotAscii),
            _ => label.push(byte),
        }
    }
    Ok((label, true))
}

fn read_escape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, ParseNameError> {
    let first = bytes.next().filter(u8::is_ascii).ok_or(ParseNameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut number = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(ParseNameError::BadEscape)?;
        number = number * 10 + u16::from(digit - b'0');
    }
    u8::try_from(number).map_err(|_| ParseNameError::BadEscape)
}

/// With the dot at the end, and escapes where `FromStr` and zone files need them.
impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return formatter.write_str(".");
        }
        for label in self.labels() {
            write_escaped(formatter, label, b".\\\"();@$")?;
            formatter.write_str(".")?;
        }
        Ok(())
    }
}

/// Writes bytes as text: those in `special` behind a backslash, those that do not print as `\DDD`.
pub(super) fn write_escaped(formatter: &mut fmt::Formatter<'_>, bytes: &[u8], special: &[u8]) -> fmt::Result {
    for byte in bytes {
        match byte {
            byte if special.contains(byte) => write!(formatter, "\\{}", char::from(*byte))?,
            0x21..=0x7e => formatter.write_char(char::from(*byte))?,
            byte => write!(formatter, "\\{byte:03}")?,
        }
    }
    Ok(())
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Name({self})")
    }
}

/// Generators for property tests of this folder.
#[cfg(test)]
pub(super) mod strategies {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Name;

    /// Short names over few letters, so that suffixes repeat, and now and then any bytes at all.
    pub(crate) fn any_name() -> impl Strategy<Value = Name> {
        let usual = prop_oneof![Just(b"a".to_vec()), Just(b"B".to_vec()), Just(b"lab".to_vec()), Just(b"test".to_vec())];
        let label = prop_oneof![4 => usual, 1 => vec(any::<u8>(), 1..=63)];
        vec(label, 0..=3).prop_map(|labels| Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::strategies::any_name;
    use super::*;
    use crate::wire::testing::config;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn text_becomes_labels() {
        assert_eq!(name("www.lab.test").as_wire(), b"\x03www\x03lab\x04test\0");
        assert_eq!(name("www.lab.test.").label_count(), 3);
        assert!(name(".").is_root() && name(".").label_count() == 0);
        assert_eq!(name(".").to_string(), ".");
    }

    #[test]
    fn escapes_go_both_ways() {
        let strange = name(r"a\.b.c\\d.\000\255\032x");
        assert_eq!(strange.as_wire(), b"\x03a.b\x03c\\d\x04\x00\xff x\0");
        assert_eq!(strange.to_string(), r"a\.b.c\\d.\000\255\032x.");
    }

    #[test]
    fn text_that_is_no_name_is_refused() {
        let refused = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(refused(""), ParseNameError::EmptyLabel);
        assert_eq!(refused(".a"), ParseNameError::EmptyLabel);
        assert_eq!(refused("a..b"), ParseNameError::EmptyLabel);
        assert_eq!(refused("a.."), ParseNameError::EmptyLabel);
        assert_eq!(refused(&"a".repeat(64)), ParseNameError::LabelTooLong);
        assert_eq!(refused(&"a.".repeat(128)), ParseNameError::TooLong);
        assert_eq!(refused("a\\"), ParseNameError::BadEscape);
        assert_eq!(refused("a\\25"), ParseNameError::BadEscape);
        assert_eq!(refused("a\\256"), ParseNameError::BadEscape);
        assert_eq!(refused("bücher.test"), ParseNameError::NotAscii);
    }

    #[test]
    fn the_longest_name_is_255_bytes() {
        assert_eq!(name(&"a.".repeat(127)).as_wire().len(), 255);
        assert_eq!(name(&"a".repeat(63)).label_count(), 1);
        let long = name(&"a.".repeat(100));
        assert_eq!(long.join(&long), Err(ParseNameError::TooLong));
    }

    #[test]
    fn case_matters_only_when_asked_for() {
        let (lower, mixed) = (name("www.lab.test"), name("wWw.lAb.teSt"));
        assert_eq!(lower, mixed);
        assert!(!lower.eq_exact_case(&mixed));
        assert_eq!(HashSet::from([lower.clone(), mixed]).len(), 1);
        let mut turn = false;
        let alternating = lower.with_case(|| {
            turn = !turn;
            turn
        });
        assert_eq!(alternating.to_string(), "WwW.lAb.TeSt.");
    }

    #[test]
    fn ancestors_and_parents() {
        let host = name("www.Lab.test");
        assert!(host.is_within(&name("lab.TEST")) && host.is_within(&host) && host.is_within(&Name::root()));
        assert!(!host.is_within(&name("ab.test")) && !name("test").is_within(&host));
        assert_eq!(host.parent(), Some(name("lab.test")));
        assert_eq!(Name::root().parent(), None);
        assert_eq!(name("www").join(&name("lab.test")), Ok(name("www.lab.test")));
    }

    #[test]
    fn addresses_have_reverse_names() {
        let reverse = |address: &str| Name::for_reverse_lookup(address.parse().unwrap()).to_string();
        assert_eq!(reverse("192.0.2.7"), "7.2.0.192.in-addr.arpa.");
        let expected = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa.";
        assert_eq!(reverse("4321:0:1:2:3:4:567:89ab"), expected);
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn text_round_trip(name in any_name()) {
            let parsed: Name = name.to_string().parse().unwrap();
            prop_assert!(parsed.eq_exact_case(&name));
        }

        #[test]
        fn no_text_panics(text: String, escaped in "[a.\\\\0-9]{0,20}") {
            let _ = text.parse::<Name>();
            let _ = escaped.parse::<Name>();
        }
    }
}
