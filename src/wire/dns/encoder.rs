//! Writing a message: growing bytes that remember where names stand, for compression.

use std::collections::BTreeMap;

use super::name::Name;

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    /// Where each name and each of its ancestors was first written, by their wire form in lower case.
    positions: BTreeMap<Vec<u8>, u16>,
}

/// A place to return to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

impl Encoder {
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn put_u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A name as short as possible: labels until one of its ancestors has been written before (RFC 1035 §4.1.4).
    pub(super) fn put_name(&mut self, name: &Name) {
        for suffix in name.suffixes() {
            let [length, rest @ ..] = suffix else { break };
            if rest.is_empty() {
                break;
            }
            let key = suffix.to_ascii_lowercase();
            if let Some(position) = self.positions.get(&key) {
                return self.put_u16(POINTER | position);
            }
            self.remember(key);
            let label = rest.get(..usize::from(*length)).unwrap_or_default();
            self.put_u8(*length);
            self.put(label);
        }
        self.put_u8(0);
    }

    /// Pointers have 14 bits; what stands behind that cannot be pointed to.
    fn remember(&mut self, key: Vec<u8>) {
        if let Some(position) = u16::try_from(self.len()).ok().filter(|position| *position < POINTER_LIMIT) {
            self.positions.insert(key, position);
        }
    }

    /// A name in full, where compression is not allowed.
    pub(super) fn put_name_in_full(&mut self, name: &Name) {
        self.put(name.as_wire());
    }

    /// Whatever `put` writes, behind its length in 16 bits; what is too long for them is capped, and dropped with its
    /// record, since no message is so long.
    pub(super) fn put_with_length(&mut self, put: impl FnOnce(&mut Self)) {
        let start = self.len();
        self.put_u16(0);
        put(self);
        let length = u16::try_from(self.len() - start - 2).unwrap_or(u16::MAX);
        self.overwrite(start, length);
    }

    /// Puts `value` where two bytes have been written before.
    pub(super) fn overwrite(&mut self, position: usize, value: u16) {
        self.bytes[position..position + 2].copy_from_slice(&value.to_be_bytes());
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark(self.len())
    }

    /// Forgets everything written since `mark`.
    pub(super) fn return_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.0);
        self.positions.retain(|_, position| usize::from(*position) < mark.0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

const POINTER: u16 = 0xc000;
const POINTER_LIMIT: u16 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(names: &[&str]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        names.iter().for_each(|name| encoder.put_name(&name.parse().unwrap()));
        encoder.finish()
    }

    #[test]
    fn example_of_rfc_1035_section_4_1_4() {
        let bytes = encoded(&["F.ISI.ARPA", "FOO.F.ISI.ARPA", "ARPA", "."]);
        assert_eq!(bytes, b"\x01F\x03ISI\x04ARPA\0\x03FOO\xc0\x00\xc0\x06\0");
    }

    #[test]
    fn case_does_not_hinder_compression() {
        assert_eq!(encoded(&["lab.test", "LAB.Test"]), b"\x03lab\x04test\0\xc0\x00");
    }

    #[test]
    fn nothing_points_beyond_fourteen_bits() {
        let mut encoder = Encoder::default();
        encoder.put(&[0; 0x3fff]);
        encoder.put_name(&"a.b".parse().unwrap());
        encoder.put_name(&"a.b".parse().unwrap());
        encoder.put_name(&"b".parse().unwrap());
        assert_eq!(&encoder.finish()[0x3fff..], b"\x01a\x01b\0\xff\xff\x01b\0");
    }

    #[test]
    fn what_was_taken_back_is_not_pointed_to() {
        let mut encoder = Encoder::default();
        let mark = encoder.mark();
        encoder.put_name(&"a".parse().unwrap());
        encoder.return_to(mark);
        encoder.put_u8(7);
        encoder.put_name(&"a".parse().unwrap());
        assert_eq!(encoder.finish(), b"\x07\x01a\0");
    }
}
