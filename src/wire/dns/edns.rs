//! Extension mechanisms (RFC 6891): the OPT record, which is no data but more header.

use std::fmt;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::name::Name;
use super::record::{Record, RecordClass};
use super::record_data::{RecordData, write_hexadecimal};
use crate::wire::error::Malformed;

/// What an OPT record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP payload the sender takes, in bytes; values below 512 count as 512 (RFC 6891 §6.2.3).
    pub udp_payload_size: u16,
    /// The upper eight bits of the response code.
    pub extended_response_code: u8,
    /// Zero is the only version there is.
    pub version: u8,
    /// DO: the sender wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// Further options.
    pub options: Vec<EdnsOption>,
}

impl Edns {
    /// Fits without fragments into every path that carries IPv6 (DNS flag day 2020; RFC 9715 §3.2 allows for 1400).
    pub const DEFAULT_UDP_PAYLOAD_SIZE: u16 = 1232;
    /// What may be sent without EDNS (RFC 1035 §4.2.1).
    pub const MINIMUM_UDP_PAYLOAD_SIZE: u16 = 512;

    const DNSSEC_OK: u32 = 0x8000;

    /// Reads an OPT record; `None` if the record is of another type.
    pub fn from_record(record: &Record) -> Option<Self> {
        let RecordData::Opt(options) = &record.data else {
            return None;
        };
        let [extended_response_code, version, ..] = record.ttl.to_be_bytes();
        Some(Self {
            udp_payload_size: record.class.0,
            extended_response_code,
            version,
            dnssec_ok: record.ttl & Self::DNSSEC_OK != 0,
            options: options.clone(),
        })
    }

    /// The OPT record that says this.
    pub fn into_record(self) -> Record {
        let flags = if self.dnssec_ok { Self::DNSSEC_OK } else { 0 };
        let ttl = u32::from_be_bytes([self.extended_response_code, self.version, 0, 0]) | flags;
        let data = RecordData::Opt(self.options);
        Record { name: Name::root(), class: RecordClass(self.udp_payload_size), ttl, data }
    }

    /// The largest UDP payload the sender takes, in bytes, with the least that everyone must take.
    pub fn effective_udp_payload_size(&self) -> u16 {
        self.udp_payload_size.max(Self::MINIMUM_UDP_PAYLOAD_SIZE)
    }
}

impl Default for Edns {
    fn default() -> Self {
        Self {
            udp_payload_size: Self::DEFAULT_UDP_PAYLOAD_SIZE,
            extended_response_code: 0,
            version: 0,
            dnssec_ok: false,
            options: Vec::new(),
        }
    }
}

/// One option in an OPT record; its data is cut after 65,535 bytes, more than any message can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdnsOption {
    /// Which option (IANA "DNS EDNS0 Option Codes").
    pub code: u16,
    /// Its data.
    pub data: Vec<u8>,
}

impl EdnsOption {
    pub(super) fn decode_all(decoder: &mut Decoder<'_>) -> Result<Vec<Self>, Malformed> {
        let mut options = Vec::new();
        while !decoder.reader.is_empty() {
            let code = decoder.reader.take_u16("EDNS option code")?;
            let length = decoder.reader.take_u16("EDNS option length")?;
            let data = decoder.reader.take_slice(usize::from(length), "EDNS option data")?.to_vec();
            options.push(Self { code, data });
        }
        Ok(options)
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.put_u16(self.code);
        encoder.put_with_length(|encoder| encoder.put(&self.data));
    }

    /// Bytes on the wire.
    pub(super) const fn encoded_length(&self) -> usize {
        4 + self.data.len()
    }
}

impl fmt::Display for EdnsOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OPT{}", self.code)?;
        write_hexadecimal(formatter, &self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_rfc_says() {
        let options = vec![EdnsOption { code: 10, data: vec![1, 2] }];
        let edns = Edns { udp_payload_size: 4096, extended_response_code: 1, version: 0, dnssec_ok: true, options };
        let record = edns.clone().into_record();
        assert_eq!((record.class.0, record.ttl), (4096, 0x0100_8000));
        assert_eq!(Edns::from_record(&record), Some(edns));
        let address = Record::new(Name::root(), 0, RecordData::A([192, 0, 2, 1].into()));
        assert_eq!(Edns::from_record(&address), None);
    }

    #[test]
    fn small_sizes_count_as_512() {
        let edns = Edns { udp_payload_size: 100, ..Edns::default() };
        assert_eq!(edns.effective_udp_payload_size(), 512);
    }
}
