//! What a read of `/dev/bpf` brings: frames, each behind a header, padded to an alignment (bpf(4)).
//!
//! Owns the walk over such a buffer, for every layout of the header that there is, so that it can be tested anywhere. Refuses to know the frames.

use std::ops::Range;

/// How a system lays its records out. Numbers are in host order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    /// Bytes of the time stamp at the front of a header.
    pub time_bytes: usize,
    /// What each record is padded to.
    pub alignment: usize,
}

impl RecordLayout {
    /// macOS: `bpf_hdr` with two 32-bit numbers as its time, and `BPF_ALIGNMENT` of `int32_t`.
    pub const MACOS: RecordLayout = RecordLayout { time_bytes: 8, alignment: 4 };
    /// FreeBSD on 64-bit machines: `bpf_hdr` with a `timeval`, and `BPF_ALIGNMENT` of `long`.
    pub const FREEBSD: RecordLayout = RecordLayout { time_bytes: 16, alignment: 8 };

    /// Bytes of the fields behind the time stamp: captured length, frame length, header length.
    const FIELDS: usize = 4 + 4 + 2;

    fn padded(self, length: usize) -> Option<usize> {
        length.checked_next_multiple_of(self.alignment)
    }
}

/// One frame of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where in the buffer the frame is.
    pub bytes: Range<usize>,
    /// How long it was on the wire: longer than `bytes` if the kernel cut it.
    pub wire_length: usize,
}

impl Record {
    /// Whether the kernel did not give all of it.
    pub fn is_truncated(&self) -> bool {
        self.wire_length > self.bytes.len()
    }
}

/// The records of what one read brought. It can be left and taken up again: [`RecordReader::next`] takes the buffer anew each time.
#[derive(Clone, Debug)]
pub struct RecordReader {
    layout: RecordLayout,
    at: usize,
    end: usize,
}

impl RecordReader {
    /// Nothing to read.
    pub fn empty(layout: RecordLayout) -> RecordReader {
        RecordReader { layout, at: 0, end: 0 }
    }

    /// A buffer whose first `length` bytes were read from the device.
    pub fn new(layout: RecordLayout, length: usize) -> RecordReader {
        RecordReader { layout, at: 0, end: length }
    }

    /// Whether there is nothing (more).
    pub fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// The next record. A header that cannot be true ends the buffer: what follows it cannot be found.
    pub fn next(&mut self, buffer: &[u8]) -> Option<Record> {
        let record = self.parse(buffer.get(..self.end)?);
        if record.is_none() {
            self.at = self.end;
        }
        record
    }

    fn parse(&mut self, buffer: &[u8]) -> Option<Record> {
        let header = buffer.get(self.at..)?;
        let fields = header.get(self.layout.time_bytes..)?;
        let captured = u32_at(fields, 0)?;
        let wire_length = u32_at(fields, 4)?;
        let header_length = usize::from(u16::from_ne_bytes(*fields.get(8..)?.first_chunk()?));
        if header_length < self.layout.time_bytes + RecordLayout::FIELDS {
            return None;
        }
        let start = self.at.checked_add(header_length)?;
        let end = start.checked_add(captured).filter(|&end| end <= buffer.len())?;
        self.at = self.at.checked_add(self.layout.padded(header_length.checked_add(captured)?)?)?;
        Some(Record { bytes: start..end, wire_length })
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let number = u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?);
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header's length as the systems have it: so that the frame behind a 14-byte Ethernet header is aligned.
    fn header_length(layout: RecordLayout) -> usize {
        if layout == RecordLayout::MACOS { 18 } else { 26 }
    }

    fn record(layout: RecordLayout, frame: &[u8], wire_length: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; layout.time_bytes];
        bytes.extend((frame.len() as u32).to_ne_bytes());
        bytes.extend((wire_length as u32).to_ne_bytes());
        bytes.extend((header_length(layout) as u16).to_ne_bytes());
        bytes.resize(header_length(layout), 0);
        bytes.extend(frame);
        bytes
    }

    fn buffer(layout: RecordLayout, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.resize(bytes.len().next_multiple_of(layout.alignment), 0);
            bytes.extend(record(layout, frame, frame.len()));
        }
        bytes
    }

    fn read(layout: RecordLayout, buffer: &[u8]) -> Vec<Record> {
        let mut reader = RecordReader::new(layout, buffer.len());
        std::iter::from_fn(|| reader.next(buffer)).collect()
    }

    /// Two frames as a Mac writes them: a record of 60 bytes at 0, padded from 78 to 80, one of 42 bytes behind it; little endian.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_buffer_of_a_mac_is_read() {
        let mut bytes = vec![0x10, 0x20, 0x30, 0x60, 0x01, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 18, 0];
        bytes.extend([0xaa; 60]);
        bytes.extend([0, 0]);
        bytes.extend([0x10, 0x20, 0x30, 0x60, 0x02, 0, 0, 0, 42, 0, 0, 0, 0xea, 0x05, 0, 0, 18, 0]);
        bytes.extend([0xbb; 42]);
        let records = read(RecordLayout::MACOS, &bytes);
        assert_eq!(records, [Record { bytes: 18..78, wire_length: 60 }, Record { bytes: 98..140, wire_length: 1_514 }]);
        assert!(!records[0].is_truncated() && records[1].is_truncated());
    }

    #[test]
    fn headers_that_cannot_be_true_end_the_buffer() {
        let layout = RecordLayout::FREEBSD;
        let good = buffer(layout, &[vec![1; 100], vec![2; 60]]);
        let second = (26_usize + 100).next_multiple_of(8);
        for (offset, value) in [(16, [0xff; 4]), (24, [25, 0, 0, 0]), (24, [0xff, 0xff, 0, 0])] {
            let mut bad = good.clone();
            bad[second + offset..second + offset + 4].copy_from_slice(&value);
            assert_eq!(read(layout, &bad).len(), 1, "{offset} {value:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8), is_mac: bool) {
            let layout = if is_mac { RecordLayout::MACOS } else { RecordLayout::FREEBSD };
            let buffer = buffer(layout, &frames);
            let found: Vec<_> = read(layout, &buffer).into_iter().map(|record| buffer[record.bytes].to_vec()).collect();
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn a_cut_buffer_gives_the_whole_frames_alone(count in 1_usize..6, cut in 0_usize..400, is_mac: bool) {
            let layout = if is_mac { RecordLayout::MACOS } else { RecordLayout::FREEBSD };
            let frames: Vec<_> = (0..count).map(|index| vec![index as u8; 20 + index]).collect();
            let mut buffer = buffer(layout, &frames);
            buffer.truncate(cut);
            for (record, frame) in read(layout, &buffer).into_iter().zip(&frames) {
                prop_assert_eq!(&buffer[record.bytes], &frame[..]);
            }
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_mac: bool) {
            let layout = if is_mac { RecordLayout::MACOS } else { RecordLayout::FREEBSD };
            for record in read(layout, &bytes) {
                prop_assert!(record.bytes.end <= bytes.len());
            }
        }
    }
}
