//! IPv4 options (RFC 791 §3.1, "Options").
//!
//! Owns: their raw bytes, a walk over them that always ends, and which of them every fragment must carry. Refuses to act
//! on any: record route, source routes and timestamps are skipped (RFC 1122 §3.2.1.8 lets a host do so).

use std::fmt;

use super::cursor::Reader;
use super::error::{Malformed, Reason};

/// Up to 40 bytes of options, a multiple of four long. The default has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Options {
    /// Bytes beyond `length` are zero, so that derived equality is right.
    bytes: [u8; Self::MAXIMUM_LENGTH],
    length: u8,
}

/// One option that is more than padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// The type byte: copied flag, class and number.
    pub kind: u8,
    /// What follows type and length.
    pub data: &'a [u8],
}

impl Ipv4Option<'_> {
    /// Loose source and record route.
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source and record route.
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    /// Record route.
    pub const RECORD_ROUTE: u8 = 7;
    /// Internet timestamp.
    pub const TIMESTAMP: u8 = 68;
    /// Router alert (RFC 2113).
    pub const ROUTER_ALERT: u8 = 148;

    /// Whether every fragment carries the option, and not the first alone.
    pub const fn is_copied(&self) -> bool {
        self.kind & 0x80 != 0
    }
}

impl Ipv4Options {
    /// What the header length field leaves room for.
    pub const MAXIMUM_LENGTH: usize = 40;
    /// The router alert option with value 0, which IGMP messages carry (RFC 2113 §2.1, RFC 3376 §4).
    pub const ROUTER_ALERT: Self = {
        let mut bytes = [0; Self::MAXIMUM_LENGTH];
        bytes[0] = Ipv4Option::ROUTER_ALERT;
        bytes[1] = 4;
        Self { bytes, length: 4 }
    };

    const END_OF_LIST: u8 = 0;
    const NO_OPERATION: u8 = 1;

    /// Takes raw options over, padded with zeros ("end of list") to a multiple of four. `None` if there are more than 40 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        options.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        options.length = bytes.len().next_multiple_of(4) as u8;
        Some(options)
    }

    /// The raw bytes, padding included.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Length in bytes: a multiple of four, at most 40.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The options in order, up to the end of the list or the first malformed one.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Option<'_>> {
        let mut reader = Reader::new("IPv4", self.as_bytes());
        std::iter::from_fn(move || next_option(&mut reader).ok().flatten())
    }

    /// Whether the walk over the options reaches their end.
    pub fn validate(&self) -> Result<(), Malformed> {
        let mut reader = Reader::new("IPv4", self.as_bytes());
        while next_option(&mut reader)?.is_some() {}
        Ok(())
    }

    /// The options that fragments after the first carry (RFC 791 §3.1, "copied flag").
    #[must_use]
    pub fn for_later_fragments(&self) -> Self {
        let mut kept = [0; Self::MAXIMUM_LENGTH];
        let mut length = 0;
        for option in self.iter().filter(Ipv4Option::is_copied) {
            let Some(space) = kept.get_mut(length..length + 2 + option.data.len()) else {
                break;
            };
            let (head, data) = space.split_at_mut(2);
            head.copy_from_slice(&[option.kind, 2 + option.data.len() as u8]);
            data.copy_from_slice(option.data);
            length += 2 + option.data.len();
        }
        kept.get(..length).and_then(Self::from_bytes).unwrap_or_default()
    }
}

/// The next option that is more than padding; `None` at the end. Each call takes at least one byte, so a walk ends.
fn next_option<'a>(reader: &mut Reader<'a>) -> Result<Option<Ipv4Option<'a>>, Malformed> {
    while !reader.is_empty() {
        match reader.take_u8("option type")? {
            Ipv4Options::END_OF_LIST => return Ok(None),
            Ipv4Options::NO_OPERATION => {}
            kind => return take_option(reader, kind).map(Some),
        }
    }
    Ok(None)
}

fn take_option<'a>(reader: &mut Reader<'a>, kind: u8) -> Result<Ipv4Option<'a>, Malformed> {
    let length = usize::from(reader.take_u8("option length")?);
    let data_length = length.checked_sub(2).ok_or_else(|| reader.malformed("option length", Reason::TooSmall))?;
    let data = reader.take_slice(data_length, "option data")?;
    Ok(Ipv4Option { kind, data })
}

impl Default for Ipv4Options {
    fn default() -> Self {
        Self { bytes: [0; Self::MAXIMUM_LENGTH], length: 0 }
    }
}

impl fmt::Debug for Ipv4Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ipv4Options({:02x?})", self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{bytes, config};

    fn options(bytes: &[u8]) -> Ipv4Options {
        Ipv4Options::from_bytes(bytes).unwrap()
    }

    #[test]
    fn padding_is_skipped_and_the_end_is_the_end() {
        let options = options(&[1, 7, 3, 4, 1, 1, 148, 4, 0, 0, 0, 9]);
        let kinds: Vec<_> = options.iter().map(|option| (option.kind, option.data.to_vec())).collect();
        assert_eq!(kinds, [(7, vec![4]), (148, vec![0, 0])]);
        assert_eq!(options.validate(), Ok(()));
    }

    #[test]
    fn malformed_lengths_end_the_walk() {
        let refused = |bytes: &[u8], field, reason| {
            assert_eq!(options(bytes).validate(), Err(Malformed::new("IPv4", field, reason)));
            assert_eq!(options(bytes).iter().count(), 0);
        };
        refused(&[7, 0, 0, 0], "option length", Reason::TooSmall);
        refused(&[7, 1, 0, 0], "option length", Reason::TooSmall);
        refused(&[7, 5, 0, 0], "option data", Reason::Truncated);
        refused(&[1, 1, 1, 7], "option length", Reason::Truncated);
    }

    #[test]
    fn later_fragments_carry_the_copied_ones() {
        let all = options(&[7, 3, 4, 131, 3, 4, 68, 4, 5, 0]);
        assert_eq!(all.for_later_fragments(), options(&[131, 3, 4, 0]));
        assert_eq!(Ipv4Options::ROUTER_ALERT.for_later_fragments(), Ipv4Options::ROUTER_ALERT);
        assert!(options(&[7, 3, 4]).for_later_fragments().is_empty());
    }

    #[test]
    fn at_most_forty_bytes() {
        assert!(Ipv4Options::from_bytes(&[1; 40]).is_some());
        assert!(Ipv4Options::from_bytes(&[1; 41]).is_none());
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn any_bytes_walk_to_an_end(data in bytes(40)) {
            let options = options(&data);
            prop_assert!(options.iter().count() <= 20);
            prop_assert!(options.for_later_fragments().len() <= options.len());
            prop_assert_eq!(options.for_later_fragments().validate(), Ok(()));
            let _ = options.validate();
        }
    }
}
