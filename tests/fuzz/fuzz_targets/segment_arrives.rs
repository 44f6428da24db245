//! SEGMENT ARRIVES: one connection of a whole host, and a peer that sends segments near what is expected, or anything. Until the peer opens
//! another connection, what the program reads is what the peer's numbers stand for, and what is sent is what the program wrote.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use hopline::device::Medium;
use hopline::simulation::{Host, HostOptions};
use hopline::socket::TcpStream;
use hopline::wire::checksum::pseudo_header;
use hopline::wire::{Ipv4Header, Protocol, SackBlock, SequenceNumber, TcpFlags, TcpHeader, TcpOptions, Timestamps};
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::time::Duration;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const IRS: SequenceNumber = SequenceNumber(u32::MAX - 3_000);
/// The peer's window shift, if it has one.
const SHIFT: u8 = 2;

#[derive(Arbitrary, Debug)]
enum Number {
    /// From the number that is expected next.
    Near(i8),
    Far(i32),
    Any(u32),
}

#[derive(Arbitrary, Debug)]
struct Seg {
    sequence: Number,
    acknowledgement: Option<Number>,
    flags: u16,
    is_plain: bool,
    window: u16,
    urgent: u16,
    length: u16,
    blocks: [Option<(Number, u16)>; 2],
    stamp: Option<(i8, i8)>,
    rare: Option<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Receive(Vec<Seg>),
    Write(u16),
    WriteUrgent(u16),
    Read(u16),
    Shutdown(bool),
    Wait(u16),
    WaitLong(u8),
    Mtu(u16),
}

/// The peer's byte at a number, and ours at a place in what was written.
fn byte(place: u32) -> u8 {
    (place.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

struct Model {
    host: Host,
    stream: Option<TcpStream>,
    own_port: u16,
    peer_port: u16,
    is_active: bool,
    /// Our first number, once seen.
    iss: Option<SequenceNumber>,
    acknowledged: SequenceNumber,
    sent: SequenceNumber,
    /// The furthest end of our window, as offered.
    edge: Option<SequenceNumber>,
    shift: u8,
    written: u32,
    read: u32,
    is_shut: bool,
    stamps: bool,
    latest_stamp: u32,
    /// Another connection may have taken the place of the first: nothing is known of it.
    is_lost: bool,
}

impl Model {
    fn new(is_active: bool, is_open: bool, options: TcpOptions) -> Model {
        let mut setup = HostOptions::new("192.0.2.1/24");
        setup.medium = Medium::Ip;
        setup.config.tcp.receive_buffer = 20_000;
        setup.config.tcp.send_buffer = 40_000;
        let mut host = Host::new(setup);
        let listener = host.listen("192.0.2.1:80").expect("a listener");
        let stream = is_active.then(|| host.connect("192.0.2.2:80").expect("a connection"));
        let mut model = Model {
            host,
            stream,
            own_port: 80,
            peer_port: if is_active { 80 } else { 50_000 },
            is_active,
            iss: None,
            acknowledged: IRS,
            sent: IRS,
            edge: None,
            shift: 0,
            written: 0,
            read: 0,
            is_shut: false,
            stamps: options.timestamps.is_some(),
            latest_stamp: 0,
            is_lost: false,
        };
        if !is_active {
            model.send(SequenceNumber(0), TcpFlags::SYN, IRS, 60_000, options, 0, &[]);
        }
        model.settle();
        if is_active && is_open {
            model.send(model.sent, TcpFlags::SYN_ACK, IRS, 60_000, options, 0, &[]);
        } else if is_open {
            let timestamps = options.timestamps.map(|stamp| Timestamps { echo_reply: model.latest_stamp, ..stamp });
            model.send(model.sent, TcpFlags::ACK, IRS + 1, 60_000, TcpOptions { timestamps, ..TcpOptions::default() }, 0, &[]);
        }
        model.settle();
        if !is_active {
            model.stream = listener.accept().ok().map(|(stream, _)| stream);
        }
        // Whoever opens the connection while anything arrives chooses its numbers.
        model.is_lost = !is_open;
        model
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a segment")]
    fn send(
        &mut self,
        acknowledgement: SequenceNumber,
        flags: TcpFlags,
        sequence: SequenceNumber,
        window: u16,
        options: TcpOptions,
        urgent_pointer: u16,
        payload: &[u8],
    ) {
        let (source_port, destination_port) = (self.peer_port, self.own_port);
        let header = TcpHeader { source_port, destination_port, sequence, acknowledgement, flags, window, urgent_pointer, options };
        let length = header.header_length() + payload.len();
        let ip = Ipv4Header {
            total_length: (20 + length) as u16,
            protocol: Protocol::TCP,
            source: PEER,
            destination: OWN,
            ..Ipv4Header::default()
        };
        let mut bytes = vec![0; 20 + header.header_length()];
        ip.emit(&mut bytes);
        header.emit(&mut bytes[20..]);
        bytes.extend_from_slice(payload);
        let mut sum = pseudo_header(PEER.into(), OWN.into(), Protocol::TCP, length as u32);
        sum.add_bytes(&bytes[20..]);
        bytes[36..38].copy_from_slice(&sum.finish().to_be_bytes());
        self.host.inject_bytes(&bytes);
    }

    fn settle(&mut self) {
        self.host.settle();
        for sent in self.host.take_sent() {
            let bytes = sent.packet.to_vec();
            let ip = Ipv4Header::parse(&bytes).expect("an IPv4 packet");
            if ip.protocol == Protocol::TCP && ip.destination == PEER {
                let (header, length) = TcpHeader::parse(ip.payload(&bytes)).expect("a segment");
                self.check(&header, &ip.payload(&bytes)[length..]);
            }
        }
    }

    fn check(&mut self, header: &TcpHeader, payload: &[u8]) {
        if self.iss.is_none() {
            self.own_port = header.source_port;
            self.iss = Some(header.sequence);
            self.sent = header.sequence + 1;
        }
        let iss = self.iss.unwrap_or_default();
        let is_ours = header.source_port == self.own_port && header.destination_port == self.peer_port;
        let is_new = header.flags.contains(TcpFlags::SYN) && header.sequence != iss;
        self.is_lost |= is_new;
        if !is_ours || self.is_lost || header.flags.contains(TcpFlags::RST) {
            return;
        }
        if header.flags.contains(TcpFlags::SYN) {
            self.shift = header.options.window_scale.unwrap_or(0);
        }
        self.check_sent(header, payload, iss);
        self.check_window(header);
        self.latest_stamp = header.options.timestamps.map_or(self.latest_stamp, |stamp| stamp.value);
    }

    /// Only what was written, in its place; FIN behind all of it, after the program has closed.
    fn check_sent(&mut self, header: &TcpHeader, payload: &[u8], iss: SequenceNumber) {
        let start = header.sequence.distance_from(iss + 1);
        for (at, &sent) in payload.iter().enumerate() {
            let place = start.wrapping_add(at as u32);
            // A probe of a closed window may carry a byte that was sent before.
            assert!(place < self.written, "byte {place} was never written");
            assert_eq!(sent, byte(place), "byte {place}");
        }
        if header.flags.contains(TcpFlags::URG) {
            assert!(start.wrapping_add(header.urgent_pointer.into()) <= self.written, "urgent data that was never written");
        }
        if header.flags.contains(TcpFlags::FIN) {
            assert!(self.is_shut, "FIN before the program closed");
            assert_eq!(start.wrapping_add(payload.len() as u32), self.written, "FIN behind the last byte");
        }
        self.sent = self.sent.latest(header.sequence + header.segment_length(payload.len() as u32));
    }

    /// Neither what is acknowledged nor what is offered is ever taken back; but less than a unit of the scaled window is not told (RFC 7323 §2.4).
    fn check_window(&mut self, header: &TcpHeader) {
        if !header.flags.contains(TcpFlags::ACK) {
            return;
        }
        assert!(self.acknowledged == IRS || header.acknowledgement.after_or_equal(self.acknowledged), "an acknowledgement taken back");
        self.acknowledged = header.acknowledgement;
        if header.flags.contains(TcpFlags::SYN) {
            return;
        }
        let shift = if self.stamps { self.shift } else { 0 };
        let edge = header.acknowledgement + (u32::from(header.window) << shift);
        let furthest = self.edge.map_or(edge, |furthest| furthest.latest(edge));
        self.edge = Some(furthest);
        assert!((edge + (1 << shift) - 1).after_or_equal(furthest), "the window's edge went back from {furthest} to {edge}");
    }

    fn number(&self, number: &Number, base: SequenceNumber) -> SequenceNumber {
        match *number {
            Number::Near(by) => base + i32::from(by).cast_unsigned(),
            Number::Far(by) => base + (by % 100_000).cast_unsigned(),
            Number::Any(any) => SequenceNumber(any),
        }
    }

    fn receive(&mut self, seg: &Seg) {
        let flags = match (seg.is_plain, seg.flags % 8) {
            (true, 0) => TcpFlags::FIN,
            (true, _) => TcpFlags::NONE,
            _ => TcpFlags(seg.flags & 0x1ff),
        };
        let (flags, acknowledgement) = match &seg.acknowledgement {
            Some(number) => (flags | TcpFlags::ACK, self.number(number, self.sent)),
            None if seg.is_plain => (flags | TcpFlags::ACK, self.sent),
            None => (flags, SequenceNumber(0)),
        };
        let sequence = self.number(&seg.sequence, self.acknowledged);
        let mut options = TcpOptions::default();
        for (from, length) in seg.blocks.iter().flatten() {
            let left = self.number(from, self.sent);
            options.sack.push(SackBlock { left, right: left + u32::from(*length) });
        }
        if let Some((value, echo)) = seg.stamp {
            let value = 1_000_u32.wrapping_add_signed(value.into());
            options.timestamps = Some(Timestamps { value, echo_reply: self.latest_stamp.wrapping_add_signed(echo.into()) });
        } else if self.stamps && seg.is_plain {
            options.timestamps = Some(Timestamps { value: 1_000, echo_reply: self.latest_stamp });
        }
        if let Some((size, shift)) = seg.rare {
            (options.maximum_segment_size, options.window_scale, options.sack_permitted) = (Some(size), Some(shift), shift % 2 == 0);
        }
        let start = sequence + u32::from(flags.contains(TcpFlags::SYN));
        let payload: Vec<u8> = (0..u32::from(seg.length % 1_400)).map(|at| byte((start + at).0)).collect();
        self.send(acknowledgement, flags, sequence, seg.window, options, seg.urgent, &payload);
    }

    fn write(&mut self, count: u16, write: impl FnOnce(&mut TcpStream, &[u8]) -> std::io::Result<usize>) {
        let bytes: Vec<u8> = (0..u32::from(count)).map(|at| byte(self.written + at)).collect();
        if let Some(Ok(count)) = self.stream.as_mut().map(|stream| write(stream, &bytes)) {
            self.written += count as u32;
        }
    }

    fn read(&mut self, count: u16) {
        let mut bytes = vec![0; count.into()];
        let urgent = self.stream.as_ref().and_then(|stream| stream.urgent().ok());
        let Some(Ok(count)) = self.stream.as_mut().map(|stream| stream.read(&mut bytes)) else { return };
        assert!(urgent.is_some_and(|left| left <= 20_000 + 65_535 + 1), "an urgent pointer beyond window and field");
        for &got in &bytes[..count] {
            assert!(self.is_lost || got == byte((IRS + 1 + self.read).0), "byte {} is not what the peer sent", self.read);
            self.read += 1;
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Receive(segs) => segs.iter().take(20).for_each(|seg| self.receive(seg)),
            Step::Write(count) => self.write(*count, |stream, bytes| stream.write(bytes)),
            Step::WriteUrgent(count) => self.write(*count, |stream, bytes| stream.write_urgent(bytes)),
            Step::Read(count) => self.read(*count),
            Step::Shutdown(true) => {
                self.is_shut |= self.stream.as_ref().is_some_and(|stream| stream.shutdown(Shutdown::Write).is_ok());
            }
            Step::Shutdown(false) => {
                self.is_shut = true;
                self.stream = None;
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(u64::from(*millis % 2_000))),
            Step::WaitLong(seconds) => self.wait(Duration::from_secs(u64::from(*seconds))),
            Step::Mtu(mtu) => self.report_mtu(*mtu),
        }
        self.settle();
    }

    /// Bit by bit, because what is sent in between has to be looked at in order.
    fn wait(&mut self, duration: Duration) {
        self.settle();
        let end = self.host.now() + duration;
        while let Some(next) = self.host.next_event().filter(|&next| next <= end) {
            self.host.advance_to(next.max(self.host.now()));
            self.settle();
        }
        self.host.advance_to(end);
    }

    /// "Fragmentation needed" for the oldest segment in flight.
    fn report_mtu(&mut self, mtu: u16) {
        let Some(iss) = self.iss else { return };
        let mut quoted = vec![0; 28];
        Ipv4Header {
            total_length: 1_500,
            dont_fragment: true,
            protocol: Protocol::TCP,
            source: OWN,
            destination: PEER,
            ..Ipv4Header::default()
        }
        .emit(&mut quoted);
        quoted[20..22].copy_from_slice(&self.own_port.to_be_bytes());
        quoted[22..24].copy_from_slice(&self.peer_port.to_be_bytes());
        quoted[24..28].copy_from_slice(&(iss + 1).0.to_be_bytes());
        let mut bytes = vec![0; 28];
        let header = Ipv4Header {
            total_length: 28 + quoted.len() as u16,
            protocol: Protocol::ICMP,
            source: PEER,
            destination: OWN,
            ..Ipv4Header::default()
        };
        header.emit(&mut bytes);
        bytes[20..22].copy_from_slice(&[3, 4]);
        bytes[26..28].copy_from_slice(&mtu.to_be_bytes());
        bytes.extend_from_slice(&quoted);
        let sum = hopline::wire::checksum::checksum(&bytes[20..]);
        bytes[22..24].copy_from_slice(&sum.to_be_bytes());
        self.host.inject_bytes(&bytes);
    }
}

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let stamps: bool = u.arbitrary()?;
    let options = TcpOptions {
        maximum_segment_size: u.arbitrary()?,
        sack_permitted: u.arbitrary()?,
        window_scale: stamps.then_some(SHIFT),
        timestamps: stamps.then_some(Timestamps { value: 1_000, echo_reply: 0 }),
        ..TcpOptions::default()
    };
    let mut model = Model::new(u.arbitrary()?, u.ratio(7, 8)?, options);
    for step in u.arbitrary_iter::<Step>()?.take(100) {
        model.take(&step?);
    }
    let _ = model.is_active;
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
