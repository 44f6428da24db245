//! A toy peer: builds frames by hand and speaks as much TCP as a transfer without loss needs.

use hopline::device::{Device, DeviceProperties, FrameReceiver, FrameSender, LinkChange, Medium, Received, Sent, Waker};
use hopline::packet::{ChecksumState, HEADROOM, Packet, Pool, Segmentation, SegmentationKind};
use hopline::wire::{EtherType, EthernetHeader, Ipv4Header, MacAddress, Protocol, SequenceNumber, TcpFlags, TcpHeader, UdpHeader};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PEERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

pub(crate) struct Toy {
    pub(crate) properties: DeviceProperties,
    pub(crate) receiver: Box<dyn FrameReceiver>,
    pub(crate) sender: Box<dyn FrameSender>,
    pub(crate) waker: Arc<dyn Waker>,
    pub(crate) pool: Pool,
    pub(crate) peer_mac: MacAddress,
    pub(crate) inbox: VecDeque<Packet>,
    pub(crate) changes: Vec<LinkChange>,
}

/// A received segment.
pub(crate) struct Segment {
    pub(crate) tcp: TcpHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) frame: Packet,
}

impl Toy {
    pub(crate) fn new(device: impl Device + 'static, peer_mac: MacAddress) -> Toy {
        let properties = device.properties();
        let open = Box::new(device).open().expect("the device opens");
        Toy {
            properties,
            receiver: open.receiver,
            sender: open.sender,
            waker: open.waker,
            pool: Pool::default(),
            peer_mac,
            inbox: VecDeque::new(),
            changes: Vec::new(),
        }
    }

    /// Where the IP header begins.
    pub(crate) fn link_length(&self) -> usize {
        if self.properties.medium == Medium::Ip { 0 } else { EthernetHeader::LENGTH }
    }

    /// One blocking receive; a watchdog ends it after a minute.
    pub(crate) fn receive(&mut self) -> Received {
        let mut batch = Vec::new();
        let (waker, (done, watchdog)) = (self.waker.clone(), std::sync::mpsc::channel::<()>());
        let guard = std::thread::spawn(move || {
            let late =
                watchdog.recv_timeout(Duration::from_secs(60)).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout);
            if late {
                waker.wake();
            }
            late
        });
        let received = self.receiver.receive(&self.pool, 32, false, &mut batch).expect("receives");
        drop(done);
        assert!(!guard.join().unwrap(), "nothing came for ten seconds");
        self.inbox.extend(batch);
        self.changes.extend(received.link);
        received
    }

    /// The next packet that `wanted` selects; others are dropped.
    #[track_caller]
    pub(crate) fn next<T>(&mut self, wanted: impl Fn(&Toy, &Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            while let Some(packet) = self.inbox.pop_front() {
                if let Some(found) = wanted(self, &packet) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "waited in vain for a packet");
            self.receive();
        }
    }

    /// Everything that comes until the wire has been quiet for a while; something does.
    #[track_caller]
    pub(crate) fn drain(&mut self, quiet: Duration) -> Vec<Packet> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut drained = Vec::new();
        loop {
            let waker = self.waker.clone();
            let sleeper = std::thread::spawn(move || {
                std::thread::sleep(quiet);
                waker.wake();
            });
            while !self.receive().woken {}
            sleeper.join().unwrap();
            if self.inbox.is_empty() && !drained.is_empty() {
                return drained;
            }
            drained.extend(self.inbox.drain(..));
            assert!(Instant::now() < deadline, "the wire is never quiet, or always: {} frames", drained.len());
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, packet: Packet) -> Sent {
        let mut frames = VecDeque::from([packet]);
        let sent = self.sender.send(&mut frames).expect("sends");
        assert!(frames.is_empty(), "the device takes the frame");
        sent
    }

    fn headers(&self, protocol: Protocol, transport: &[u8], payload_length: usize) -> (Vec<u8>, usize) {
        let mut bytes = vec![0; self.link_length() + 20];
        if let Medium::Ethernet(mac) = self.properties.medium {
            EthernetHeader { destination: self.peer_mac, source: mac, ethertype: EtherType::IPV4 }.emit(&mut bytes);
        }
        let ip = Ipv4Header {
            total_length: (20 + transport.len() + payload_length) as u16,
            header_length: 20,
            dont_fragment: true,
            time_to_live: 64,
            protocol,
            source: OURS,
            destination: PEERS,
            ..Ipv4Header::default()
        };
        let link = self.link_length();
        ip.emit(&mut bytes[link..]);
        bytes.extend(transport);
        let offset = if protocol == Protocol::TCP { TcpHeader::CHECKSUM_OFFSET } else { UdpHeader::CHECKSUM_OFFSET };
        let partial = ip.pseudo_header((transport.len() + payload_length) as u32).partial();
        bytes[link + 20 + offset..][..2].copy_from_slice(&partial.to_be_bytes());
        (bytes, offset)
    }

    fn packet(&self, protocol: Protocol, transport: &[u8], payload: &[u8]) -> Packet {
        let (headers, offset) = self.headers(protocol, transport, payload.len());
        let mut packet = Packet::new(self.pool.copy_from(HEADROOM, &headers));
        payload.chunks(5000).for_each(|chunk| packet.push(self.pool.copy_from(0, chunk)));
        packet.offload.checksum = ChecksumState::Partial { start: (self.link_length() + 20) as u16, offset: offset as u16 };
        packet
    }

    /// A UDP datagram with a partial checksum.
    pub(crate) fn datagram(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Packet {
        let length = (8 + payload.len()) as u16;
        let header = [source_port, destination_port, length, 0].map(u16::to_be_bytes).concat();
        self.packet(Protocol::UDP, &header, payload)
    }

    /// A TCP segment with a partial checksum; a super-segment if the payload is longer than `size`.
    pub(crate) fn segment(&self, tcp: &TcpHeader, payload: &[u8], size: u16) -> Packet {
        let mut header = vec![0; tcp.header_length()];
        tcp.emit(&mut header);
        let mut packet = self.packet(Protocol::TCP, &header, payload);
        let kind = SegmentationKind::TcpIpv4;
        packet.offload.segmentation = (payload.len() > usize::from(size)).then_some(Segmentation { kind, size });
        packet
    }

    /// The IP header and transport bytes of a packet for us.
    pub(crate) fn ip(&self, packet: &Packet) -> Option<(Ipv4Header, Vec<u8>)> {
        let bytes = packet.to_vec().get(self.link_length()..)?.to_vec();
        let ip = Ipv4Header::parse(&bytes).ok()?;
        Some((ip, ip.payload(&bytes).to_vec()))
    }

    pub(crate) fn next_segment(&mut self, port: u16) -> Segment {
        self.next(|toy, packet| {
            let (ip, transport) = toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::TCP)?;
            let (tcp, length) = TcpHeader::parse(&transport).ok().filter(|(tcp, _)| tcp.destination_port == port)?;
            assert_checksum(&ip, &transport, packet);
            Some(Segment { tcp, payload: transport[length..].to_vec(), frame: packet.share() })
        })
    }
}

/// Whatever is not verified or partial must be right.
#[track_caller]
pub(crate) fn assert_checksum(ip: &Ipv4Header, transport: &[u8], packet: &Packet) {
    if packet.offload.checksum == ChecksumState::Unknown {
        let mut sum = ip.pseudo_header(transport.len() as u32);
        sum.add_bytes(transport);
        assert!(sum.is_valid(), "bad checksum");
    }
}

/// A connection to the kernel: handshake, bulk each way, no loss expected.
pub(crate) struct ToyTcp {
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    pub(crate) next: SequenceNumber,
    pub(crate) expected: SequenceNumber,
}

impl ToyTcp {
    pub(crate) const SEGMENT_SIZE: u16 = 1460;

    pub(crate) fn connect(toy: &mut Toy, port: u16, peer_port: u16) -> ToyTcp {
        let mut tcp = ToyTcp { port, peer_port, next: SequenceNumber(1000), expected: SequenceNumber(0) };
        let mut syn = tcp.header(TcpFlags::SYN);
        syn.options.maximum_segment_size = Some(Self::SEGMENT_SIZE);
        toy.send(toy.segment(&syn, &[], Self::SEGMENT_SIZE));
        let answer = toy.next_segment(port).tcp;
        assert_eq!(answer.flags, TcpFlags::SYN | TcpFlags::ACK, "the kernel accepts");
        tcp.expected = SequenceNumber(answer.sequence.0.wrapping_add(1));
        tcp.next = SequenceNumber(1001);
        toy.send(toy.segment(&tcp.header(TcpFlags::ACK), &[], Self::SEGMENT_SIZE));
        tcp
    }

    fn header(&self, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            source_port: self.port,
            destination_port: self.peer_port,
            sequence: self.next,
            acknowledgement: self.expected,
            flags,
            window: 65_535,
            ..TcpHeader::default()
        }
    }

    /// Sends `data` in one packet and waits until it is acknowledged.
    pub(crate) fn write(&mut self, toy: &mut Toy, data: &[u8]) -> Sent {
        let packet = toy.segment(&self.header(TcpFlags::ACK | TcpFlags::PSH), data, Self::SEGMENT_SIZE);
        let sent = toy.send(packet);
        self.next = SequenceNumber(self.next.0.wrapping_add(data.len() as u32));
        while toy.next_segment(self.port).tcp.acknowledgement != self.next {}
        sent
    }

    /// Reads `length` bytes, acknowledging each packet; also says how long the longest packet's payload was, and whether it can be cut again.
    pub(crate) fn read(&mut self, toy: &mut Toy, length: usize) -> (Vec<u8>, usize, bool) {
        let (mut data, mut longest, mut has_size) = (Vec::new(), 0, true);
        while data.len() < length {
            let segment = toy.next_segment(self.port);
            if segment.tcp.sequence != self.expected || segment.payload.is_empty() {
                continue;
            }
            longest = longest.max(segment.payload.len());
            has_size &= segment.payload.len() <= usize::from(Self::SEGMENT_SIZE) || segment.frame.offload.segmentation.is_some();
            self.expected = SequenceNumber(self.expected.0.wrapping_add(segment.payload.len() as u32));
            data.extend(segment.payload);
            toy.send(toy.segment(&self.header(TcpFlags::ACK), &[], Self::SEGMENT_SIZE));
        }
        (data, longest, has_size)
    }
}
