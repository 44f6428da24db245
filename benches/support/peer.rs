//! The other station on a scripted wire: answers ARP, and speaks as much TCP as one connection without loss needs.

use super::device::Wire;
use hopline::packet::Packet;
use hopline::wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, Icmpv4Message, Ipv4Header, MacAddress, Protocol, SequenceNumber, TcpFlags,
    TcpHeader, TcpOptions,
};
use std::net::Ipv4Addr;

/// The stack's address.
pub(crate) const STACK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// The stack's hardware address.
pub(crate) const STACK_MAC: MacAddress = MacAddress([2, 0, 0x5e, 0x10, 0, 7]);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER_MAC: MacAddress = MacAddress([2, 0, 0x5e, 0x10, 0, 1]);
const PEER_PORT: u16 = 40_000;

/// The station at 192.0.2.1.
pub(crate) struct Peer {
    wire: Wire,
    port: u16,
    next_to_send: SequenceNumber,
    next_expected: SequenceNumber,
}

/// A TCP segment from the stack.
struct Segment {
    header: TcpHeader,
    payload: usize,
}

impl Peer {
    /// A station on `wire` that will talk to the stack's `port`.
    pub(crate) fn new(wire: Wire, port: u16) -> Peer {
        Peer { wire, port, next_to_send: SequenceNumber(1_000), next_expected: SequenceNumber(0) }
    }

    /// Opens the connection: SYN, SYN-ACK, ACK.
    pub(crate) fn connect(&mut self) {
        self.inject(self.segment(TcpFlags::SYN, &[]));
        self.next_to_send.0 += 1;
        let answer = self.next_segment();
        assert!(answer.header.flags.contains(TcpFlags::SYN_ACK), "a listener answers with SYN-ACK, not {:?}", answer.header);
        self.next_expected = SequenceNumber(answer.header.sequence.0.wrapping_add(1));
        self.acknowledge();
    }

    /// The next segment of data, to be [injected](Peer::inject).
    pub(crate) fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = self.segment(TcpFlags::ACK | TcpFlags::PSH, payload);
        self.next_to_send.0 = self.next_to_send.0.wrapping_add(payload.len() as u32);
        frame
    }

    /// Puts a frame on the wire.
    pub(crate) fn inject(&self, frame: Vec<u8>) {
        self.wire.inject(frame);
    }

    /// Waits for the next segment with data, and notes it as received.
    pub(crate) fn expect_data(&mut self) {
        loop {
            let segment = self.next_segment();
            if segment.payload > 0 {
                self.next_expected = SequenceNumber(segment.header.sequence.0.wrapping_add(segment.payload as u32));
                return;
            }
        }
    }

    /// Acknowledges what was received.
    pub(crate) fn acknowledge(&self) {
        self.inject(self.segment(TcpFlags::ACK, &[]));
    }

    /// Takes away what the stack has sent on its own: acknowledgements. Answers ARP.
    pub(crate) fn discard_output(&self) {
        while let Some(frame) = self.wire.try_next() {
            self.answer_arp(&frame);
        }
    }

    /// An echo request, to be [injected](Peer::inject).
    pub(crate) fn echo_request(&self, sequence: u16, data: &[u8]) -> Vec<u8> {
        let message = Icmpv4Message::EchoRequest { identifier: 1, sequence };
        let mut bytes = vec![0; message.header_length() + data.len()];
        bytes[message.header_length()..].copy_from_slice(data);
        message.emit(&mut bytes);
        fill_checksum(&mut bytes, Icmpv4Message::CHECKSUM_OFFSET, hopline::wire::Checksum::new());
        frame(Protocol::ICMP, &bytes)
    }

    /// Waits for an ICMP message.
    pub(crate) fn expect_icmp(&self) {
        while self.next_ip().0 != Protocol::ICMP {}
    }

    fn next_segment(&self) -> Segment {
        loop {
            let (protocol, bytes) = self.next_ip();
            if protocol == Protocol::TCP {
                let (header, length) = TcpHeader::parse(&bytes).expect("the stack sends segments that parse");
                return Segment { header, payload: bytes.len() - length };
            }
        }
    }

    /// The next IP packet's protocol and payload.
    fn next_ip(&self) -> (Protocol, Vec<u8>) {
        loop {
            let packet = self.wire.next();
            if !self.answer_arp(&packet) {
                let bytes = packet.to_vec();
                let ip = Ipv4Header::parse(&bytes[EthernetHeader::LENGTH..]).expect("the stack sends packets that parse");
                return (ip.protocol, ip.payload(&bytes[EthernetHeader::LENGTH..]).to_vec());
            }
        }
    }

    /// Whether the frame was no IP packet; an ARP request for our address is answered.
    fn answer_arp(&self, frame: &Packet) -> bool {
        let ethernet = EthernetHeader::parse(frame.front()).expect("the stack sends frames");
        let Some(request) = (ethernet.ethertype == EtherType::ARP).then(|| ArpPacket::parse(&frame.front()[EthernetHeader::LENGTH..]))
        else {
            return false;
        };
        let request = request.expect("the stack sends ARP packets that parse");
        if request.operation == ArpOperation::Request && request.target_protocol == PEER {
            self.inject(arp_reply(&request));
        }
        true
    }

    fn segment(&self, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
        let is_syn = flags.contains(TcpFlags::SYN);
        let maximum_segment_size = is_syn.then_some(1_460);
        let header = TcpHeader {
            source_port: PEER_PORT,
            destination_port: self.port,
            sequence: self.next_to_send,
            acknowledgement: self.next_expected,
            flags,
            window: u16::MAX,
            urgent_pointer: 0,
            options: TcpOptions { maximum_segment_size, ..TcpOptions::default() },
        };
        let mut bytes = vec![0; header.header_length()];
        header.emit(&mut bytes);
        bytes.extend_from_slice(payload);
        let pseudo_header = ip_header(Protocol::TCP, bytes.len()).pseudo_header(bytes.len() as u32);
        fill_checksum(&mut bytes, TcpHeader::CHECKSUM_OFFSET, pseudo_header);
        frame(Protocol::TCP, &bytes)
    }
}

fn fill_checksum(bytes: &mut [u8], offset: usize, mut sum: hopline::wire::Checksum) {
    sum.add_bytes(bytes);
    bytes[offset..offset + 2].copy_from_slice(&sum.finish().to_be_bytes());
}

fn ip_header(protocol: Protocol, payload: usize) -> Ipv4Header {
    let total_length = (Ipv4Header::MINIMUM_LENGTH + payload) as u16;
    Ipv4Header { total_length, protocol, dont_fragment: true, source: PEER, destination: STACK, ..Ipv4Header::default() }
}

fn frame(protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let headers = EthernetHeader::LENGTH + Ipv4Header::MINIMUM_LENGTH;
    let mut bytes = vec![0; headers];
    EthernetHeader { destination: STACK_MAC, source: PEER_MAC, ethertype: EtherType::IPV4 }.emit(&mut bytes);
    ip_header(protocol, payload.len()).emit(&mut bytes[EthernetHeader::LENGTH..]);
    bytes.extend_from_slice(payload);
    bytes
}

fn arp_reply(request: &ArpPacket) -> Vec<u8> {
    let reply = ArpPacket {
        operation: ArpOperation::Reply,
        sender_hardware: PEER_MAC,
        sender_protocol: PEER,
        target_hardware: request.sender_hardware,
        target_protocol: request.sender_protocol,
    };
    let mut bytes = vec![0; EthernetHeader::LENGTH + ArpPacket::LENGTH];
    EthernetHeader { destination: request.sender_hardware, source: PEER_MAC, ethertype: EtherType::ARP }.emit(&mut bytes);
    reply.emit(&mut bytes[EthernetHeader::LENGTH..]);
    bytes
}
