//! Reading a message: a cursor that also knows the bytes before it, for compressed names.

use super::name::{Name, NameBuilder, ParseNameError};
use crate::wire::cursor::Reader;
use crate::wire::error::{Malformed, Reason};

/// The protocol in every [`Malformed`] of this folder.
pub(super) const PROTOCOL: &str = "DNS";

/// A position in a message. `reader` always ends where `message` ends, so that the position follows from both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    message: &'a [u8],
    pub(super) reader: Reader<'a>,
}

impl<'a> Decoder<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { message, reader: Reader::new(PROTOCOL, message) }
    }

    const fn position(&self) -> usize {
        self.message.len() - self.reader.rest().len()
    }

    /// A decoder over the next `length` bytes, which can still follow pointers to what was before them.
    pub(super) fn take_part(&mut self, length: usize, field: &'static str) -> Result<Self, Malformed> {
        let reader = Reader::new(PROTOCOL, self.reader.take_slice(length, field)?);
        let message = self.message.get(..self.position()).unwrap_or_default();
        Ok(Self { message, reader })
    }

    /// A name, possibly compressed (RFC 1035 §4.1.4).
    ///
    /// Each pointer must lead to before everything that was read of this name so far, and there may be no more of them
    /// than a name has labels, so that no message is worth more than a few thousand steps for each of its names.
    pub(super) fn take_name(&mut self, field: &'static str) -> Result<Name, Malformed> {
        let mut builder = NameBuilder::default();
        let mut segment_start = self.position();
        let mut pointer = take_labels(&mut self.reader, &mut builder, field)?;
        for _ in 0..MAXIMUM_POINTERS {
            let Some(target) = pointer else {
                return Ok(builder.finish());
            };
            let target = usize::from(target);
            let segment = self.message.get(target..segment_start).filter(|segment| !segment.is_empty());
            let segment = segment.ok_or(Malformed::new(PROTOCOL, field, Reason::Invalid))?;
            segment_start = target;
            pointer = take_labels(&mut Reader::new(PROTOCOL, segment), &mut builder, field)?;
        }
        Err(Malformed::new(PROTOCOL, field, Reason::TooLarge))
    }
}

const MAXIMUM_POINTERS: usize = 128;

/// Reads labels up to the root's, or up to a pointer, whose target is returned.
fn take_labels(reader: &mut Reader<'_>, builder: &mut NameBuilder, field: &'static str) -> Result<Option<u16>, Malformed> {
    loop {
        let first = reader.take_u8(field)?;
        match first {
            0 => return Ok(None),
            1..=0x3f => {
                let label = reader.take_slice(usize::from(first), field)?;
                builder.push(label).map_err(|error| malformed_name(field, error))?;
            }
            0x40..=0xbf => return Err(reader.malformed(field, Reason::Invalid)),
            0xc0.. => {
                let second = reader.take_u8(field)?;
                return Ok(Some(u16::from_be_bytes([first & 0x3f, second])));
            }
        }
    }
}

const fn malformed_name(field: &'static str, error: ParseNameError) -> Malformed {
    let reason = match error {
        ParseNameError::LabelTooLong | ParseNameError::TooLong => Reason::TooLarge,
        ParseNameError::EmptyLabel | ParseNameError::BadEscape | ParseNameError::NotAscii => Reason::Invalid,
    };
    Malformed::new(PROTOCOL, field, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_at(message: &[u8], position: usize) -> Result<String, Reason> {
        let mut decoder = Decoder::new(message);
        decoder.reader.take_slice(position, "skipped").unwrap();
        decoder.take_name("name").map(|name| name.to_string()).map_err(|error| error.reason)
    }

    #[test]
    fn example_of_rfc_1035_section_4_1_4() {
        let mut message = vec![0; 93];
        message[20..32].copy_from_slice(b"\x01F\x03ISI\x04ARPA\0");
        message[40..46].copy_from_slice(b"\x03FOO\xc0\x14");
        message[64..66].copy_from_slice(b"\xc0\x1a");
        assert_eq!(name_at(&message, 20).unwrap(), "F.ISI.ARPA.");
        assert_eq!(name_at(&message, 40).unwrap(), "FOO.F.ISI.ARPA.");
        assert_eq!(name_at(&message, 64).unwrap(), "ARPA.");
        assert_eq!(name_at(&message, 92).unwrap(), ".");
    }

    #[test]
    fn pointers_lead_back_only() {
        assert_eq!(name_at(b"\xc0\x00", 0), Err(Reason::Invalid));
        assert_eq!(name_at(b"\xc0\x02\x00", 0), Err(Reason::Invalid));
        assert_eq!(name_at(b"\x01a\xc0\x00", 0), Err(Reason::Invalid));
        assert_eq!(name_at(b"\xc0\x02\xc0\x00", 2), Err(Reason::Invalid));
        assert_eq!(name_at(b"\x01a\x01b\xc0\x00", 2), Err(Reason::Truncated));
    }

    #[test]
    fn long_chains_of_pointers_are_refused() {
        let mut message = vec![0, 0];
        for target in 0..300_u16 {
            message.extend((0xc000 | (2 * target)).to_be_bytes());
        }
        assert_eq!(name_at(&message, 200).unwrap(), ".");
        assert_eq!(name_at(&message, 600), Err(Reason::TooLarge));
    }

    #[test]
    fn names_grow_no_longer_than_allowed() {
        let mut message = vec![0];
        let mut previous = 0_u16;
        for _ in 0..5 {
            let position = message.len() as u16;
            message.push(60);
            message.extend([b'x'; 60]);
            message.extend((0xc000 | previous).to_be_bytes());
            previous = position;
        }
        assert_eq!(name_at(&message, usize::from(previous)), Err(Reason::TooLarge));
    }

    #[test]
    fn reserved_label_types_and_cuts_are_refused() {
        assert_eq!(name_at(b"\x41a\0", 0), Err(Reason::Invalid));
        assert_eq!(name_at(b"\x80a\0", 0), Err(Reason::Invalid));
        for cut in [&b""[..], b"\x03ab", b"\x02ab", b"\xc0"] {
            assert_eq!(name_at(cut, 0), Err(Reason::Truncated), "{cut:?}");
        }
    }
}
