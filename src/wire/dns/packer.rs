//! Fitting a message into a limited space (RFC 2181 §9, RFC 6891 §7).

use super::edns::EdnsOption;
use super::encoder::Encoder;
use super::header::Header;
use super::message::{Message, Question};
use super::record::Record;
use super::record_data::RecordData;

/// A message on its way into a limited space.
pub(super) struct Packer {
    encoder: Encoder,
    /// Bytes that may be used; what the OPT record needs is set aside.
    limit: usize,
    /// Something did not fit, so nothing more is put.
    is_full: bool,
}

impl Packer {
    /// The bytes of `message`, at most `limit` of them (at least a header's).
    pub(super) fn pack(message: &Message, limit: usize) -> Vec<u8> {
        let Message { header, questions, answers, authorities, additionals } = message;
        let reserved: usize = additionals.iter().map(edns_length).sum();
        let mut packer = Self { encoder: Encoder::default(), limit: limit.saturating_sub(reserved), is_full: false };
        packer.encoder.put(&[0; Header::LENGTH]);
        let question_count = packer.put_all(questions, Question::encode);
        let answer_count = packer.put_all(answers, Record::encode);
        let authority_count = packer.put_all(authorities, Record::encode);
        let is_truncated = packer.is_full || header.is_truncated;
        let additional_count = packer.put_additionals(additionals);
        let counts = [question_count, answer_count, authority_count, additional_count];
        packer.put_header(Header { is_truncated, ..*header }, counts);
        packer.encoder.finish()
    }

    fn put_header(&mut self, header: Header, counts: [u16; 4]) {
        let words = [header.identifier, header.flags()].into_iter().chain(counts);
        for (index, word) in words.enumerate() {
            self.encoder.overwrite(2 * index, word);
        }
    }

    /// Writes items until one does not fit; returns how many did. They are fewer than 2¹⁶, since each takes bytes.
    fn put_all<T>(&mut self, items: &[T], encode: impl Fn(&T, &mut Encoder)) -> u16 {
        items.iter().map(|item| u16::from(self.put(item, &encode))).sum()
    }

    fn put<T>(&mut self, item: &T, encode: impl Fn(&T, &mut Encoder)) -> bool {
        self.is_full = self.is_full || !self.put_if_it_fits(item, encode);
        !self.is_full
    }

    fn put_if_it_fits<T>(&mut self, item: &T, encode: impl Fn(&T, &mut Encoder)) -> bool {
        let mark = self.encoder.mark();
        encode(item, &mut self.encoder);
        let fits = self.encoder.len() <= self.limit;
        if !fits {
            self.encoder.return_to(mark);
        }
        fits
    }

    /// EDNS goes into the room that was set aside for it, even if nothing else fits any more.
    fn put_additionals(&mut self, records: &[Record]) -> u16 {
        let mut count = 0;
        for record in records {
            self.limit += edns_length(record);
            count += u16::from(match record.data {
                RecordData::Opt(_) => self.put_if_it_fits(record, Record::encode),
                _ => self.put(record, Record::encode),
            });
        }
        count
    }
}

/// Bytes of an OPT record, whose name is the root; zero for any other record.
fn edns_length(record: &Record) -> usize {
    match &record.data {
        RecordData::Opt(options) => 11 + options.iter().map(EdnsOption::encoded_length).sum::<usize>(),
        _ => 0,
    }
}
