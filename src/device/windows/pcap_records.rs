//! Frames as `wpcap.dll` passes them: each behind a header of its own.
//!
//! Owns the header's layout on Windows (`struct pcap_pkthdr` with two 32-bit numbers as its time) and the records of a send queue, so that both can be
//! tested anywhere. Refuses to know the frames.

/// What precedes a frame. Numbers are in host order.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// When it was seen: seconds since 1970.
    pub seconds: u32,
    /// And microseconds.
    pub microseconds: u32,
    /// Bytes of the frame that follow.
    pub captured: u32,
    /// Bytes that the frame had on the wire.
    pub length: u32,
}

impl RecordHeader {
    /// Bytes of a header.
    pub const LENGTH: usize = 16;

    /// Reads a header; `None` if it is cut off, or claims more bytes than there were on the wire.
    pub fn parse(bytes: &[u8]) -> Option<RecordHeader> {
        let field = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
        let header = RecordHeader { seconds: field(0)?, microseconds: field(4)?, captured: field(8)?, length: field(12)? };
        (header.captured <= header.length).then_some(header)
    }

    /// Whether the frame was longer than what there is of it.
    pub fn is_truncated(&self) -> bool {
        self.captured < self.length
    }

    fn emit(&self) -> [u8; RecordHeader::LENGTH] {
        let mut bytes = [0; RecordHeader::LENGTH];
        let fields = [self.seconds, self.microseconds, self.captured, self.length];
        bytes.chunks_exact_mut(4).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_ne_bytes()));
        bytes
    }
}

/// Frames for one call of `pcap_sendqueue_transmit`: records without padding between them.
#[derive(Clone, Debug, Default)]
pub struct SendRecords {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl SendRecords {
    /// Forgets all frames, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a frame in pieces.
    pub fn push<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]> + Clone) {
        let length = pieces.clone().map(<[u8]>::len).sum::<usize>() as u32;
        self.bytes.extend(RecordHeader { captured: length, length, ..RecordHeader::default() }.emit());
        pieces.for_each(|piece| self.bytes.extend_from_slice(piece));
        self.ends.push(self.bytes.len());
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The frames, each in one piece.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, &end)| self.bytes.get(start + RecordHeader::LENGTH..end))
    }

    /// The records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames lie within the first `sent` bytes: what the driver took when it stopped there.
    pub fn frames_within(&self, sent: usize) -> usize {
        self.ends.iter().take_while(|&&end| end <= sent).count()
    }
}

/// Whether this `wpcap.dll` has the extensions of Npcap (send queues, an event to wait on), by what `pcap_lib_version` says. Other libraries export
/// the names and fail in the call.
pub fn is_npcap(version: &str) -> bool {
    version.starts_with("Npcap") || version.starts_with("WinPcap")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `pcap_next_ex` gave it for an ARP request of 42 bytes.
    const RECORDED: [u8; 16] = [0x2a, 0x0c, 0x21, 0x69, 0x91, 0x5a, 0x0b, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00];

    #[test]
    #[cfg(target_endian = "little")]
    fn a_recorded_header_is_read() {
        let header = RecordHeader::parse(&RECORDED).unwrap();
        assert_eq!(header, RecordHeader { seconds: 0x6921_0c2a, microseconds: 744_081, captured: 42, length: 42 });
        assert!(!header.is_truncated());
        assert_eq!(header.emit(), RECORDED);
    }

    #[test]
    fn every_cut_is_refused() {
        for length in 0..RecordHeader::LENGTH {
            assert_eq!(RecordHeader::parse(&RECORDED[..length]), None);
        }
        let shortened = RecordHeader { captured: 64, length: 1514, ..RecordHeader::default() };
        assert!(RecordHeader::parse(&shortened.emit()).unwrap().is_truncated());
        let impossible = RecordHeader { captured: 1515, length: 1514, ..RecordHeader::default() };
        assert_eq!(RecordHeader::parse(&impossible.emit()), None);
    }

    #[test]
    fn only_npcap_has_its_extensions() {
        assert!(is_npcap("Npcap version 1.79, based on libpcap version 1.10.4"));
        assert!(is_npcap("WinPcap version 4.1.3 (packet.dll version 4.1.0.2980), based on libpcap version 1.0"));
        assert!(!is_npcap("libpcap version 1.10.3 (with TPACKET_V3)") && !is_npcap(""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(header) = RecordHeader::parse(&bytes) {
                prop_assert_eq!(&header.emit()[..], &bytes[..RecordHeader::LENGTH]);
            }
        }

        #[test]
        fn queued_frames_are_read_back(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..9), cut: usize) {
            let mut records = SendRecords::default();
            for frame in &frames {
                records.push([&frame[..frame.len() / 2], &frame[frame.len() / 2..]].into_iter());
            }
            let (mut rest, mut read) = (records.bytes(), Vec::new());
            while let Some(header) = RecordHeader::parse(rest) {
                let (frame, behind) = rest[RecordHeader::LENGTH..].split_at(header.captured as usize);
                read.push(frame.to_vec());
                rest = behind;
            }
            prop_assert_eq!(&read, &frames);
            prop_assert!(records.frames().eq(frames.iter().map(Vec::as_slice)));
            prop_assert_eq!((records.count(), records.frames_within(records.bytes().len())), (frames.len(), frames.len()));
            let cut = cut % (records.bytes().len() + 1);
            let whole = frames.iter().scan(0, |end, frame| { *end += 16 + frame.len(); Some(*end) }).filter(|&end| end <= cut).count();
            prop_assert_eq!(records.frames_within(cut), whole);
        }
    }
}
