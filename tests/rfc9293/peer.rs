//! One host under virtual time, and a peer that is a list of segments: it crafts every byte of what it sends, and reads every byte of what it gets.
//!
//! Numbers are relative: the peer's to its initial number, the host's to the host's. A test reads as a packet trace.

use hopline::device::Medium;
use hopline::packet::Packet;
use hopline::simulation::{Host, HostOptions};
use hopline::socket::{StreamInfo, TcpListener, TcpStream};
use hopline::time::Instant;
use hopline::wire::checksum::{checksum, pseudo_header};
use hopline::wire::{Icmpv4Message, Ipv4Header, Protocol, SackBlock, SequenceNumber, TcpFlags, TcpHeader, TcpOptions, Timestamps};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The host's address, and the peer's.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The peer's initial number: the circle ends within the first data.
pub(crate) const IRS: SequenceNumber = SequenceNumber(u32::MAX - 2_000);
/// The port of whoever is connected to, and the peer's when it connects.
pub(crate) const SERVER_PORT: u16 = 80;
pub(crate) const PEER_PORT: u16 = 40_000;

/// A segment of the peer's; the default is an acknowledgement of the host's SYN.
#[derive(Clone)]
pub(crate) struct Seg {
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: TcpOptions,
    /// In place of `options`: bytes as they are, a multiple of four.
    pub(crate) raw_options: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
    /// Bytes of IP options, a multiple of four.
    pub(crate) ip_options: Vec<u8>,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    /// What the checksum is wrong by.
    pub(crate) damage: u16,
}

impl Default for Seg {
    fn default() -> Seg {
        Seg {
            seq: 1,
            ack: Some(1),
            flags: TcpFlags::NONE,
            window: 60_000,
            urgent: 0,
            options: TcpOptions::default(),
            raw_options: None,
            payload: vec![],
            ip_options: vec![],
            source: PEER,
            destination: HOST,
            damage: 0,
        }
    }
}

/// The peer's SYN with these options.
pub(crate) fn syn(options: TcpOptions) -> Seg {
    Seg { seq: 0, ack: None, flags: TcpFlags::SYN, options, ..Seg::default() }
}

/// The peer's SYN-ACK with these options.
pub(crate) fn syn_ack(options: TcpOptions) -> Seg {
    Seg { seq: 0, flags: TcpFlags::SYN, options, ..Seg::default() }
}

/// An acknowledgement.
pub(crate) fn ack(number: u32) -> Seg {
    Seg { ack: Some(number), ..Seg::default() }
}

/// `length` bytes of the peer's from `seq` on.
pub(crate) fn data(seq: u32, length: usize) -> Seg {
    Seg { seq, payload: pattern(seq, length), ..Seg::default() }
}

/// The peer's FIN.
pub(crate) fn fin(seq: u32, ack: u32) -> Seg {
    Seg { seq, ack: Some(ack), flags: TcpFlags::FIN, ..Seg::default() }
}

/// The peer's RST.
pub(crate) fn rst(seq: u32) -> Seg {
    Seg { seq, flags: TcpFlags::RST, ..Seg::default() }
}

/// Bytes that tell their place.
pub(crate) fn pattern(from: u32, length: usize) -> Vec<u8> {
    (from..).take(length).map(|at| (at % 251) as u8).collect()
}

/// The options of a peer that knows the maximum segment size alone: no scaling, no SACK, no timestamps.
pub(crate) fn plain() -> TcpOptions {
    TcpOptions { maximum_segment_size: Some(1_000), ..TcpOptions::default() }
}

/// The same with SACK.
pub(crate) fn with_sack() -> TcpOptions {
    TcpOptions { sack_permitted: true, ..plain() }
}

/// The same with timestamps and a window shift.
pub(crate) fn with_timestamps(value: u32) -> TcpOptions {
    TcpOptions { timestamps: Some(Timestamps { value, echo_reply: 0 }), window_scale: Some(0), ..plain() }
}

/// A packet of the host's, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) ip: Ipv4Header,
    pub(crate) tcp: TcpHeader,
    /// TCP options as they are on the wire.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A host and its peer.
pub(crate) struct Trace {
    pub(crate) host: Host,
    /// The port that the host talks from, and the peer's.
    pub(crate) host_port: u16,
    pub(crate) peer_port: u16,
    /// The host's initial number, once it is known.
    pub(crate) iss: Option<SequenceNumber>,
    /// The packets behind the last lines of [`Trace::sent`].
    pub(crate) last: Vec<Sent>,
    /// ICMP messages that the host sent.
    pub(crate) icmp_sent: Vec<Icmpv4Message>,
    start: Instant,
}

impl Trace {
    /// A host alone.
    pub(crate) fn new() -> Trace {
        Trace::with(|_| ())
    }

    /// A host with other options.
    pub(crate) fn with(change: impl FnOnce(&mut HostOptions)) -> Trace {
        let mut options = HostOptions::new("192.0.2.1/24");
        options.medium = Medium::Ip;
        // Acknowledgements do not wait for answers: traces are easier to read then.
        options.config.tcp.answer_time = Duration::ZERO;
        change(&mut options);
        let mut host = Host::new(options);
        // Not at zero: a clock that reads zero hides mistakes.
        host.advance_by(Duration::from_secs(5));
        let start = host.now();
        let iss = None;
        Trace { host, host_port: SERVER_PORT, peer_port: PEER_PORT, iss, last: vec![], icmp_sent: vec![], start }
    }

    /// The host has sent its SYN.
    #[track_caller]
    pub(crate) fn connect(&mut self) -> TcpStream {
        let stream = self.host.connect(SocketAddr::from((PEER, SERVER_PORT))).expect("the connection begins");
        self.peer_port = SERVER_PORT;
        assert_eq!(self.sent(), ["[S] 0"]);
        stream
    }

    /// The host listens.
    pub(crate) fn listen(&mut self) -> TcpListener {
        self.host.listen(SocketAddr::from((HOST, SERVER_PORT))).expect("the port is free")
    }

    /// An active connection to a peer with these options, its handshake complete.
    #[track_caller]
    pub(crate) fn established(options: TcpOptions) -> (Trace, TcpStream) {
        let mut trace = Trace::new();
        let stream = trace.open_to(options);
        (trace, stream)
    }

    /// The same for a host that there is.
    #[track_caller]
    pub(crate) fn open_to(&mut self, options: TcpOptions) -> TcpStream {
        let stream = self.connect();
        self.send(syn_ack(options));
        assert_eq!(self.sent(), ["[.] 1 ack 1"]);
        stream
    }

    /// An active connection over a path of 40 ms, at the time 40, without Nagle's algorithm, and with NewReno, whose windows are round numbers.
    #[track_caller]
    pub(crate) fn far_away(options: TcpOptions) -> (Trace, TcpStream) {
        // What is sent, and not how it is spread, is what these tests are about.
        let mut trace = Trace::with(|options| options.config.tcp.pacing = false);
        let stream = trace.open_far_away(options);
        (trace, stream)
    }

    /// The same for a host that there is.
    #[track_caller]
    pub(crate) fn open_far_away(&mut self, options: TcpOptions) -> TcpStream {
        let stream = self.connect();
        stream.set_nodelay(true).unwrap();
        stream.set_congestion_control("newreno").unwrap();
        self.at(40);
        self.send(syn_ack(options));
        assert_eq!(self.sent(), ["[.] 1 ack 1"]);
        stream
    }

    /// An acknowledgement with these SACK blocks.
    pub(crate) fn sack(&self, number: u32, blocks: &[(u32, u32)]) -> Seg {
        let iss = self.iss.expect("a SYN was sent");
        let block = |&(left, right): &(u32, u32)| SackBlock { left: iss + left, right: iss + right };
        Seg { options: TcpOptions { sack: blocks.iter().map(block).collect(), ..TcpOptions::default() }, ..ack(number) }
    }

    /// What the stack tells of the connection now.
    pub(crate) fn info(&mut self, stream: &TcpStream) -> StreamInfo {
        // The first question has it told.
        stream.info().unwrap();
        self.host.settle();
        stream.info().unwrap()
    }

    /// A passive connection of a peer with these options, its handshake complete and itself accepted.
    #[track_caller]
    pub(crate) fn accepted(options: TcpOptions) -> (Trace, TcpStream) {
        let mut trace = Trace::new();
        let listener = trace.listen();
        let stream = trace.accept_from(&listener, options);
        (trace, stream)
    }

    /// The same for a listener that there is.
    #[track_caller]
    pub(crate) fn accept_from(&mut self, listener: &TcpListener, options: TcpOptions) -> TcpStream {
        self.send(syn(options));
        assert_eq!(self.sent(), ["[S.] 0 ack 1"]);
        let timestamps = options.timestamps.map(|own| Timestamps { echo_reply: self.echo(), ..own });
        self.send(Seg { options: TcpOptions { timestamps, ..TcpOptions::default() }, ..Seg::default() });
        assert_eq!(self.sent(), [""; 0]);
        listener.accept().expect("the handshake is complete").0
    }

    /// The host's latest timestamp.
    #[track_caller]
    pub(crate) fn echo(&self) -> u32 {
        self.last.last().expect("something was sent").tcp.options.timestamps.expect("with a timestamp").value
    }

    /// So long after the start.
    pub(crate) fn at(&mut self, millis: u64) {
        self.host.advance_to(self.start + Duration::from_millis(millis));
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.host.now().since(self.start).as_millis() as u64
    }

    /// One segment arrives.
    pub(crate) fn send(&mut self, seg: Seg) {
        self.send_batch([seg]);
    }

    /// Segments arrive that the host finds waiting together.
    pub(crate) fn send_batch(&mut self, segs: impl IntoIterator<Item = Seg>) {
        for seg in segs {
            let bytes = self.bytes_of(&seg);
            self.host.inject_bytes(&bytes);
        }
        self.host.settle();
    }

    /// The peer's segment on the wire.
    pub(crate) fn bytes_of(&self, seg: &Seg) -> Vec<u8> {
        let iss = self.iss.unwrap_or_default();
        let header = TcpHeader {
            source_port: self.peer_port,
            destination_port: self.host_port,
            sequence: IRS + seg.seq,
            acknowledgement: seg.ack.map_or(SequenceNumber(0), |ack| iss + ack),
            flags: seg.flags | if seg.ack.is_some() { TcpFlags::ACK } else { TcpFlags::NONE },
            window: seg.window,
            urgent_pointer: seg.urgent,
            options: if seg.raw_options.is_some() { TcpOptions::default() } else { seg.options },
        };
        let mut segment = vec![0; header.header_length()];
        header.emit(&mut segment);
        if let Some(raw) = &seg.raw_options {
            segment.extend_from_slice(raw);
            segment[12] = ((segment.len() / 4) as u8) << 4 | segment[12] & 0x0f;
        }
        segment.extend_from_slice(&seg.payload);
        let mut sum = pseudo_header(seg.source.into(), seg.destination.into(), Protocol::TCP, segment.len() as u32);
        sum.add_bytes(&segment);
        segment[16..18].copy_from_slice(&(sum.finish() ^ seg.damage).to_be_bytes());
        ip_packet(Protocol::TCP, seg.source, seg.destination, &seg.ip_options, &segment)
    }

    /// What the host sent to the peer since the last look: flags, numbers, acknowledgement, SACK blocks. ECN's flags on a SYN are left out: they are
    /// not this test's business.
    #[track_caller]
    pub(crate) fn sent(&mut self) -> Vec<String> {
        self.host.settle();
        self.last.clear();
        for packet in self.host.take_sent() {
            let at = packet.at.since(self.start);
            self.read(at, &packet.packet);
        }
        let iss = self.iss.unwrap_or_default();
        self.last.iter().map(|sent| line(sent, iss)).collect()
    }

    /// The same, with the milliseconds since the start in front.
    #[track_caller]
    pub(crate) fn sent_with_times(&mut self) -> Vec<String> {
        let lines = self.sent();
        lines.iter().zip(&self.last).map(|(line, sent)| format!("{} {line}", sent.at.as_millis())).collect()
    }

    fn read(&mut self, at: Duration, packet: &Packet) {
        let bytes = packet.to_vec();
        let ip = Ipv4Header::parse(&bytes).expect("an IPv4 packet with a good checksum");
        let body = ip.payload(&bytes);
        if ip.protocol == Protocol::ICMP {
            self.icmp_sent.push(Icmpv4Message::parse(body).expect("an ICMP message").0);
            return;
        }
        let (tcp, length) = TcpHeader::parse(body).expect("a TCP segment");
        if tcp.flags.contains(TcpFlags::SYN) && self.iss.is_none() {
            self.iss = Some(tcp.sequence);
            self.host_port = tcp.source_port;
        }
        self.last.push(Sent { at, ip, tcp, options: body[20..length].to_vec(), payload: body[length..].to_vec() });
    }

    /// The one segment sent last.
    #[track_caller]
    pub(crate) fn header(&self) -> TcpHeader {
        self.last.last().expect("something was sent").tcp
    }

    /// An ICMP message arrives that quotes the host's segment with the (relative) number `seq`.
    pub(crate) fn icmp(&mut self, message: Icmpv4Message, seq: u32) {
        let iss = self.iss.unwrap_or_default();
        let mut quoted = vec![0; 28];
        let ip = Ipv4Header {
            total_length: 1_500,
            dont_fragment: true,
            protocol: Protocol::TCP,
            source: HOST,
            destination: PEER,
            ..Ipv4Header::default()
        };
        ip.emit(&mut quoted);
        quoted[20..22].copy_from_slice(&self.host_port.to_be_bytes());
        quoted[22..24].copy_from_slice(&self.peer_port.to_be_bytes());
        quoted[24..28].copy_from_slice(&(iss + seq).0.to_be_bytes());
        let mut body = vec![0; message.header_length()];
        message.emit(&mut body);
        body.extend_from_slice(&quoted);
        let sum = checksum(&body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        self.host.inject_bytes(&ip_packet(Protocol::ICMP, Ipv4Addr::new(192, 0, 2, 9), HOST, &[], &body));
        self.host.settle();
    }
}

fn ip_packet(protocol: Protocol, source: Ipv4Addr, destination: Ipv4Addr, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header = Ipv4Header {
        total_length: (20 + options.len() + body.len()) as u16,
        protocol,
        source,
        destination,
        options: hopline::wire::Ipv4Options::from_bytes(options).expect("at most 40 bytes"),
        ..Ipv4Header::default()
    };
    let mut packet = vec![0; header.emitted_length()];
    header.emit(&mut packet);
    packet.extend_from_slice(body);
    packet
}

fn line(sent: &Sent, iss: SequenceNumber) -> String {
    let tcp = &sent.tcp;
    let is_syn = tcp.flags.contains(TcpFlags::SYN);
    let shown = if is_syn { tcp.flags & !(TcpFlags::ECE | TcpFlags::CWR) } else { tcp.flags };
    let start = tcp.sequence.offset_from(iss);
    let mut line = format!("{shown} {start}");
    if !sent.payload.is_empty() {
        line += &format!("..{}", start + sent.payload.len() as i32);
    }
    if tcp.flags.contains(TcpFlags::ACK) {
        line += &format!(" ack {}", tcp.acknowledgement.offset_from(IRS));
    }
    for block in &tcp.options.sack {
        line += &format!(" sack {}..{}", block.left.offset_from(IRS), block.right.offset_from(IRS));
    }
    if tcp.flags.contains(TcpFlags::URG) {
        line += &format!(" urg {}", tcp.urgent_pointer);
    }
    line
}

/// Everything that can be read now; panics at an error.
#[track_caller]
pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut buffer) = (vec![], [0; 4_096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes `length` bytes, all at once.
#[track_caller]
pub(crate) fn write(stream: &mut TcpStream, from: u32, length: usize) {
    assert_eq!(stream.write(&pattern(from, length)).expect("there is room"), length);
}

/// What a read says that finds no data.
#[track_caller]
pub(crate) fn read_error(stream: &mut TcpStream) -> std::io::ErrorKind {
    stream.read(&mut [0]).expect_err("nothing can be read").kind()
}

/// A connection on which the quick acknowledgements of the start are over; the next number.
pub(crate) fn calm() -> (Trace, TcpStream, u32) {
    let (mut trace, stream) = Trace::established(plain());
    let seq = calm_down(&mut trace, 1);
    (trace, stream, seq)
}

/// Forty segments from `seq` on, after which quick acknowledgements are over; the next number.
pub(crate) fn calm_down(trace: &mut Trace, seq: u32) -> u32 {
    let mut seq = seq;
    for _ in 0..40 {
        trace.send(data(seq, 1_000));
        seq += 1_000;
    }
    trace.at(1_000);
    trace.sent();
    seq
}
