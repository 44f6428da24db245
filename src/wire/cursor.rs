//! Reading and writing bytes in order, without indexing.
//!
//! Owns: [`Reader`], which names the field it misses, and [`Writer`]. Refuses: meaning; what the numbers are is the
//! protocol's affair.

use std::net::Ipv4Addr;

use super::addresses::MacAddress;
use super::error::{Malformed, Reason};

/// Takes fields from the front of a slice; each take that finds too few bytes fails with the field's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    protocol: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(protocol: &'static str, bytes: &'a [u8]) -> Self {
        Self { protocol, rest: bytes }
    }

    /// An error about a field of the protocol being read.
    pub(crate) const fn malformed(&self, field: &'static str, reason: Reason) -> Malformed {
        Malformed::new(self.protocol, field, reason)
    }

    #[inline]
    pub(crate) fn take_array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed(field, Reason::Truncated));
        };
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(crate) fn take_u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.take_array(field).map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn take_u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.take_array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn take_u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.take_array(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn take_mac(&mut self, field: &'static str) -> Result<MacAddress, Malformed> {
        self.take_array(field).map(MacAddress)
    }

    #[inline]
    pub(crate) fn take_ipv4(&mut self, field: &'static str) -> Result<Ipv4Addr, Malformed> {
        self.take_array::<4>(field).map(Ipv4Addr::from)
    }

    /// The next `length` bytes.
    #[inline]
    pub(crate) fn take_slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let Some((slice, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.malformed(field, Reason::Truncated));
        };
        self.rest = rest;
        Ok(slice)
    }

    /// What has not been taken yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Puts fields at the front of a slice.
///
/// Each put panics if the slice is full: the caller sizes the buffer from its own header, never from network bytes.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let (space, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes.len());
        space.copy_from_slice(bytes);
        self.rest = rest;
    }

    #[inline]
    pub(crate) fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    pub(crate) fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_takes_in_network_order_and_names_what_it_misses() {
        let mut reader = Reader::new("test", &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(reader.take_u8("a"), Ok(1));
        assert_eq!(reader.take_u16("b"), Ok(0x0203));
        assert_eq!(reader.take_u32("c"), Ok(0x0405_0607));
        assert_eq!(reader.take_u16("d"), Err(Malformed::new("test", "d", Reason::Truncated)));
        assert_eq!(reader.take_slice(2, "e"), Err(Malformed::new("test", "e", Reason::Truncated)));
        assert_eq!(reader.rest(), [8]);
        assert_eq!(reader.take_slice(1, "f"), Ok(&[8][..]));
        assert!(reader.is_empty());
    }

    #[test]
    fn writer_puts_in_network_order() {
        let mut bytes = [0xff; 9];
        let mut writer = Writer::new(&mut bytes);
        writer.put_u8(1);
        writer.put_u16(0x0203);
        writer.put_u32(0x0405_0607);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 0xff, 0xff]);
    }
}
