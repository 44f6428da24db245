//! A capture wraps any device and writes what passes to a pcapng file (draft-ietf-opsawg-pcapng) that Wireshark reads.
//!
//! Owns the file and a short delay line: a packet waits a moment before it is written, so that what the layers say of it afterwards (dropped, and why;
//! sent again, and why) becomes a comment on it. Refuses to slow the pipeline down for more than a buffered write: packets are copied, and if the
//! file cannot be written, capturing ends and [`Recorder::finish`] says so.
//!
//! Packets are written as they pass between stack and device: a super-segment is one long packet. A checksum that is only partial is completed in the
//! written copy. Packets to send are written when the device is offered them.

use super::{Device, DeviceProperties, FrameReceiver, FrameSender, Losses, Medium, OpenDevice, Received, Sent, Stock, Waits};
use crate::layer::{Event, Observer};
use crate::packet::{ChecksumState, Packet, Pool};
use crate::time::Instant;
use crate::wire::{Checksum, UdpHeader};
use parking_lot::Mutex;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::{DataLink, PcapError, PcapResult};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a packet waits for comments.
const HOLD: Duration = Duration::from_millis(100);
/// Packets that wait at most.
const HELD_PACKETS: usize = 4_096;
/// Bytes of them.
const HELD_BYTES: usize = 16 << 20;
/// Comments that wait for a packet still to come.
const NOTES: usize = 1_024;
/// The buffer in front of the file.
const BUFFER_BYTES: usize = 256 << 10;
/// Timestamps are in 10⁻⁹ s.
const NANOSECONDS: u8 = 9;
/// Decryption Secrets Block, and its TLS key log.
const SECRETS_BLOCK: u32 = 0x0a;
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Enough bytes to recognize a packet by.
const RECOGNIZED_BY: usize = 24;

/// A device whose packets are written down.
pub struct Capture {
    device: Box<dyn Device>,
    recorder: Recorder,
}

/// The file of a capture. Give a clone to the stack as an observer for comments, and to TLS for its secrets.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Capture {
    /// Writes what passes through `device` to `output`, which needs no buffer of its own. Fails if the file's head cannot be written.
    pub fn new(device: Box<dyn Device>, output: impl Write + Send + 'static) -> io::Result<Capture> {
        let recording = Recording::new(Box::new(output), &device.properties()).map_err(io_error)?;
        Ok(Capture { device, recorder: Recorder(Arc::new(Mutex::new(recording))) })
    }

    /// The file, for comments and secrets.
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }
}

impl Device for Capture {
    fn properties(&self) -> DeviceProperties {
        self.device.properties()
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let Capture { device, recorder } = *self;
        let OpenDevice { receiver, sender, waker } = device.open()?;
        Ok(OpenDevice {
            receiver: Box::new(RecordingReceiver { inner: receiver, recorder: recorder.clone() }),
            sender: Box::new(RecordingSender { inner: sender, recorder, offered: 0 }),
            waker,
        })
    }
}

impl Recorder {
    /// Lines of an `SSLKEYLOGFILE`: with them Wireshark decrypts the packets that follow.
    pub fn add_tls_secrets(&self, lines: &str) {
        self.0.lock().write_secrets(lines.as_bytes());
    }

    /// Writes out what waits. An error is the first that writing met; nothing was written after it.
    pub fn finish(&self) -> io::Result<()> {
        let mut recording = self.0.lock();
        recording.write_held(0, None);
        recording.output.flush();
        recording.output.failure.take().map_or(Ok(()), Err)
    }

    fn record(&self, direction: Direction, packets: &mut dyn Iterator<Item = &Packet>) {
        let now = SystemTime::now();
        let mut recording = self.0.lock();
        for packet in packets {
            recording.hold(direction, packet, now);
        }
        recording.write_held(HELD_PACKETS, Some(now));
    }
}

impl Observer for Recorder {
    fn observe(&self, _now: Instant, event: &Event<'_>) {
        match event {
            Event::Dropped { reason, packet } => self.0.lock().note_drop(reason.text(), packet),
            Event::Retransmitted { number, cause } => self.0.lock().note_retransmission(*number, cause),
            Event::Log { .. } => {}
        }
    }
}

struct RecordingReceiver {
    inner: Box<dyn FrameReceiver>,
    recorder: Recorder,
}

impl RecordingReceiver {
    /// Records what was added to `batch` behind the first so many.
    fn record_from(&self, first: usize, batch: &[Packet]) {
        if batch.len() > first {
            self.recorder.record(Direction::In, &mut batch.iter().skip(first));
        }
    }
}

impl FrameReceiver for RecordingReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let first = batch.len();
        let received = self.inner.receive(pool, limit, want_writable, batch);
        self.record_from(first, batch);
        received
    }

    fn part(&mut self) -> Option<Waits> {
        self.inner.part()
    }

    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let first = batch.len();
        let stock = self.inner.read(pool, limit, batch);
        self.record_from(first, batch);
        stock
    }

    fn losses(&mut self) -> Losses {
        self.inner.losses()
    }
}

struct RecordingSender {
    inner: Box<dyn FrameSender>,
    recorder: Recorder,
    /// How many frames at the head of the queue were offered, and written, before.
    offered: usize,
}

impl FrameSender for RecordingSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        if frames.len() > self.offered {
            self.recorder.record(Direction::Out, &mut frames.iter().skip(self.offered));
        }
        let sent = self.inner.send(frames);
        self.offered = frames.len();
        sent
    }
}

/// As the flags of a packet block count it.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Direction {
    In = 1,
    Out = 2,
}

/// A packet that waits to be written.
struct Record {
    time: SystemTime,
    direction: Direction,
    /// For received packets the place in the order in which the device gave them, from 1, which is how the receive thread numbers them.
    number: u64,
    bytes: Vec<u8>,
    comments: Vec<String>,
}

struct Recording {
    output: Output,
    held: VecDeque<Record>,
    held_bytes: usize,
    received: u64,
    /// Comments on packets to send that have not passed yet, by number.
    notes: BTreeMap<u64, &'static str>,
}

impl Recording {
    fn new(output: Box<dyn Write + Send>, properties: &DeviceProperties) -> PcapResult<Recording> {
        let mut writer = PcapNgWriter::new(BufWriter::with_capacity(BUFFER_BYTES, output))?;
        let linktype = if properties.medium == Medium::Ip { DataLink::RAW } else { DataLink::ETHERNET };
        let options =
            vec![InterfaceDescriptionOption::IfName(properties.name.clone().into()), InterfaceDescriptionOption::IfTsResol(NANOSECONDS)];
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen: 0, options })?;
        let output = Output { writer: Some(writer), failure: None };
        Ok(Recording { output, held: VecDeque::new(), held_bytes: 0, received: 0, notes: BTreeMap::new() })
    }

    fn hold(&mut self, direction: Direction, packet: &Packet, time: SystemTime) {
        let number = match direction {
            Direction::In => {
                self.received += 1;
                self.received
            }
            Direction::Out => packet.number,
        };
        let note = if direction == Direction::Out { self.notes.remove(&number) } else { None };
        let bytes = complete_bytes(packet);
        self.held_bytes += bytes.len();
        self.held.push_back(Record { time, direction, number, bytes, comments: note.map(sent_again).into_iter().collect() });
    }

    /// Writes the oldest packets until at most `keep` are left, within the bounds, and none that has waited long enough at the time `now`.
    fn write_held(&mut self, keep: usize, now: Option<SystemTime>) {
        let is_due = |record: &Record| now.is_some_and(|now| now.duration_since(record.time).is_ok_and(|age| age >= HOLD));
        while self.held.len() > keep || self.held_bytes > HELD_BYTES || self.held.front().is_some_and(is_due) {
            let Some(record) = self.held.pop_front() else { return };
            self.held_bytes -= record.bytes.len();
            self.output.write(packet_block(record));
        }
    }

    fn note_drop(&mut self, reason: &'static str, packet: &Packet) {
        let is_it = |record: &&mut Record| record.number == packet.number && record.holds(packet.front());
        if let Some(record) = self.held.iter_mut().rev().find(is_it) {
            record.comments.push(format!("dropped: {reason}"));
        }
    }

    /// The segment usually has yet to come down to the device.
    fn note_retransmission(&mut self, number: u64, cause: &'static str) {
        let is_it = |record: &&mut Record| record.direction == Direction::Out && record.number == number;
        match self.held.iter_mut().rev().find(is_it) {
            Some(record) => record.comments.push(sent_again(cause)),
            None => {
                self.notes.insert(number, cause);
                while self.notes.len() > NOTES {
                    self.notes.pop_first();
                }
            }
        }
    }

    /// Before the packets that wait, so that they can be decrypted.
    fn write_secrets(&mut self, lines: &[u8]) {
        let mut value = TLS_KEY_LOG.to_ne_bytes().to_vec();
        value.extend((lines.len() as u32).to_ne_bytes());
        value.extend(lines);
        let length = value.len() as u32;
        self.output.write(Block::Unknown(UnknownBlock { type_: SECRETS_BLOCK, length, value: value.into() }));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.write_held(0, None);
        self.output.flush();
    }
}

impl Record {
    /// Whether these bytes, from which lower headers may have been stripped, are part of the packet. Packets that we made have numbers as well.
    fn holds(&self, front: &[u8]) -> bool {
        let sample = front.get(..RECOGNIZED_BY.min(front.len())).unwrap_or_default();
        !sample.is_empty() && self.bytes.windows(sample.len()).take(RECOGNIZED_BY * 8).any(|window| window == sample)
    }
}

fn sent_again(cause: &'static str) -> String {
    format!("sent again: {cause}")
}

fn packet_block(record: Record) -> Block<'static> {
    let mut options = vec![EnhancedPacketOption::Flags(record.direction as u32)];
    options.extend(record.comments.into_iter().map(|text| EnhancedPacketOption::Comment(text.into())));
    Block::EnhancedPacket(EnhancedPacketBlock {
        interface_id: 0,
        timestamp: record.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        original_len: record.bytes.len() as u32,
        data: record.bytes.into(),
        options,
    })
}

/// The packet's bytes with a right checksum.
fn complete_bytes(packet: &Packet) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    if let ChecksumState::Partial { start, offset } = packet.offload.checksum {
        let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
        let mut sum = Checksum::new();
        sum.add_bytes(bytes.get(start..).unwrap_or_default());
        let is_udp = usize::from(offset) == UdpHeader::CHECKSUM_OFFSET;
        super::frame::put_u16(&mut bytes, field, if is_udp { sum.finish_udp() } else { sum.finish() });
    }
    bytes
}

/// The file, until writing fails.
struct Output {
    writer: Option<PcapNgWriter<BufWriter<Box<dyn Write + Send>>>>,
    failure: Option<io::Error>,
}

impl Output {
    fn write(&mut self, block: Block<'_>) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.write_block(&block)
        {
            self.fail(io_error(error));
        }
    }

    fn flush(&mut self) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.get_mut().flush()
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.writer = None;
        self.failure = Some(error);
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::segmentation::tests::super_segment;
    use super::*;
    use crate::device::{DeviceOffload, LinkChange, Waker};
    use crate::layer::DropReason;
    use crate::wire::TcpFlags;
    use pcap_file::pcapng::PcapNgReader;

    /// Gives what it was made with, takes two frames at a time.
    struct Script(Vec<Packet>);
    struct NoWaker;

    impl Waker for NoWaker {
        fn wake(&self) {}
    }

    impl Device for Script {
        fn properties(&self) -> DeviceProperties {
            DeviceProperties {
                name: "script".into(),
                medium: super::super::segmentation::tests::MEDIUM,
                mtu: 1500,
                offload: DeviceOffload::default(),
            }
        }
        fn open(self: Box<Self>) -> io::Result<OpenDevice> {
            Ok(OpenDevice { receiver: self, sender: Box::new(Script(Vec::new())), waker: Arc::new(NoWaker) })
        }
    }

    impl FrameReceiver for Script {
        fn receive(&mut self, _: &Pool, limit: usize, _: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
            batch.extend(self.0.drain(..limit.min(self.0.len())));
            Ok(Received { link: Some(LinkChange::Up), ..Received::default() })
        }
    }

    impl FrameSender for Script {
        fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
            let count = frames.len().min(2);
            frames.drain(..count);
            Ok(Sent { frames: count as u64, ..Sent::default() })
        }
    }

    #[derive(Clone, Default)]
    struct File(Arc<Mutex<Vec<u8>>>);

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The packets of the file: direction flags, length, comments.
    fn packets_of(file: &File) -> Vec<(u32, usize, Vec<String>)> {
        let bytes = file.0.lock().clone();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                let flags = packet
                    .options
                    .iter()
                    .find_map(|option| if let EnhancedPacketOption::Flags(flags) = option { Some(*flags) } else { None });
                let comments = packet
                    .options
                    .iter()
                    .filter_map(|option| if let EnhancedPacketOption::Comment(text) = option { Some(text.to_string()) } else { None });
                packets.push((flags.unwrap(), packet.data.len(), comments.collect()));
            }
        }
        packets
    }

    #[test]
    fn both_directions_are_written_once_with_comments() {
        let pool = Pool::default();
        let file = File::default();
        let incoming = vec![Packet::from_bytes(&pool, &[1; 60]), Packet::from_bytes(&pool, &[2; 70])];
        let capture = Capture::new(Box::new(Script(incoming)), file.clone()).unwrap();
        let recorder = capture.recorder();
        let mut device = Box::new(capture).open().unwrap();
        let mut batch = Vec::new();
        device.receiver.receive(&pool, 8, false, &mut batch).unwrap();
        let mut dropped = batch.remove(1);
        dropped.number = 2;
        dropped.advance(14);
        recorder.observe(Instant::ZERO, &Event::Dropped { reason: DropReason::BadChecksum, packet: &dropped });
        recorder.observe(Instant::ZERO, &Event::Retransmitted { number: 7, cause: "timeout" });
        let frame = |number: u64, length: usize| {
            let mut packet = Packet::from_bytes(&pool, &vec![9; length]);
            packet.number = number;
            packet
        };
        let mut frames: VecDeque<_> = [frame(6, 100), frame(7, 101), frame(8, 102)].into();
        device.sender.send(&mut frames).unwrap();
        frames.push_back(frame(9, 103));
        device.sender.send(&mut frames).unwrap();
        recorder.finish().unwrap();
        let none = Vec::<String>::new();
        let expected = [
            (1, 60, none.clone()),
            (1, 70, vec!["dropped: bad checksum".to_owned()]),
            (2, 100, none.clone()),
            (2, 101, vec!["sent again: timeout".to_owned()]),
            (2, 102, none.clone()),
            (2, 103, none),
        ];
        assert_eq!(packets_of(&file), expected);
    }

    #[test]
    fn partial_checksums_are_right_in_the_file_alone() {
        let pool = Pool::default();
        let packet = super_segment(&pool, &[7; 3000], 1448, TcpFlags::ACK);
        let before = packet.to_vec();
        let mut written = Packet::default();
        written.push(pool.copy_from(0, &complete_bytes(&packet)));
        super::super::segmentation::tests::checked(&written);
        assert_eq!(packet.to_vec(), before);
    }

    #[test]
    fn waiting_packets_and_comments_are_bounded() {
        let file = File::default();
        let capture = Capture::new(Box::new(Script(Vec::new())), file.clone()).unwrap();
        let pool = Pool::default();
        let packet = Packet::from_bytes(&pool, &[0; 40_000]);
        for number in 0..1_000 {
            capture.recorder.record(Direction::Out, &mut [&packet].into_iter());
            capture.recorder.observe(Instant::ZERO, &Event::Retransmitted { number: number + 1_000_000, cause: "test" });
        }
        for number in 0..2_000 {
            capture.recorder.observe(Instant::ZERO, &Event::Retransmitted { number: number + 1, cause: "test" });
        }
        let recording = capture.recorder.0.lock();
        assert!(recording.held_bytes <= HELD_BYTES && recording.held.len() <= HELD_PACKETS && recording.notes.len() == NOTES);
        assert!(!file.0.lock().is_empty());
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_is_reported() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let capture = Capture::new(Box::new(Script(Vec::new())), Full(1_000)).unwrap();
        let packet = Packet::from_bytes(&Pool::default(), &[0; 60_000]);
        for _ in 0..20 {
            capture.recorder.record(Direction::In, &mut [&packet].into_iter());
        }
        assert_eq!(capture.recorder().finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        capture.recorder().finish().unwrap();
    }
}
