//! Software segmentation: super-segments cut to frames of the MTU, for devices that cannot do it.
//!
//! Owns what a network card with TSO does: headers are copied, payload slices are shared. Partial checksums alone are completed by
//! [`crate::network::checksum`]. Refuses to decide where it is needed; [`prepare`]
//! only compares a packet with what the device offers. Read [`cut`] first.

use super::frame::{FrameLayout, get_u16, layout, put_u16};
use super::{DeviceOffload, Medium};
use crate::network::checksum::complete;
use crate::packet::{ChecksumState, Packet, Pool, SMALL_SLOT, SegmentationKind};
use crate::wire::checksum::checksum;
use crate::wire::{Ipv4Header, Protocol, TcpFlags, TcpHeader, UdpHeader};
use std::collections::VecDeque;

/// Bytes within which all headers of a frame lie: Ethernet, two 802.1Q tags, IPv4 and TCP with as many options as fit.
const LONGEST_HEADERS: usize = 14 + 8 + 60 + 60;

/// Cuts a super-segment into frames and appends them to `pieces`, complete with checksums. A packet that is none is appended as it is. The
/// guard moves to the last piece. A super-segment whose headers do not make sense is given back.
pub fn cut(mut packet: Packet, medium: Medium, pool: &Pool, pieces: &mut VecDeque<Packet>) -> Result<(), Box<Packet>> {
    let Some(segmentation) = packet.offload.segmentation else {
        pieces.push_back(packet);
        return Ok(());
    };
    let Some(layout) = layout_of(&mut packet, medium, pool).filter(|_| segmentation.size > 0) else { return Err(Box::new(packet)) };
    let guard = packet.guard.take();
    let end = layout.end.min(packet.len());
    let mut rest = layout.payload..end;
    while let Some(start) = append_pieces(&packet, &layout, rest, pool, pieces) {
        rest = start..end;
    }
    if let Some(last) = pieces.back_mut() {
        last.guard = guard;
    }
    Ok(())
}

fn layout_of(packet: &mut Packet, medium: Medium, pool: &Pool) -> Option<FrameLayout> {
    layout(packet.front(), medium).or_else(|| {
        packet.gather_front(LONGEST_HEADERS, pool);
        layout(packet.front(), medium)
    })
}

/// Appends as many pieces as one small slot has room for headers; says where the next one begins, if there are more.
fn append_pieces(
    packet: &Packet,
    layout: &FrameLayout,
    range: std::ops::Range<usize>,
    pool: &Pool,
    pieces: &mut VecDeque<Packet>,
) -> Option<usize> {
    let size = packet.offload.segmentation.map_or(1, |segmentation| usize::from(segmentation.size.max(1)));
    let model = packet.front().get(..layout.payload).filter(|model| !model.is_empty())?;
    let count = range.len().div_ceil(size).clamp(1, (SMALL_SLOT / model.len()).max(1));
    let before = pieces.len();
    let mut block = pool.buffer(0, count * model.len());
    let mut start = range.start;
    for headers in block.bytes_mut().chunks_exact_mut(model.len()) {
        let end = range.end.min(start + size);
        let mut body = packet.part(start..end);
        headers.copy_from_slice(model);
        let offset = start - layout.payload;
        write_headers(headers, layout, &body, (offset, offset / size), end == range.end);
        (body.arrived, body.number) = (packet.arrived, packet.number);
        pieces.push_back(body);
        start = end;
    }
    let mut block = block.freeze();
    for piece in pieces.range_mut(before..) {
        piece.push_front(block.split_to(model.len()));
    }
    (start < range.end).then_some(start)
}

fn write_headers(headers: &mut [u8], layout: &FrameLayout, body: &Packet, (offset, number): (usize, usize), is_last: bool) {
    let transport_length = layout.payload - layout.transport + body.len();
    write_ip(headers, layout, number as u16, transport_length);
    match layout.ip.protocol {
        Protocol::TCP => write_tcp(headers, layout.transport, offset as u32, is_last),
        _ => put_u16(headers, layout.transport + 4, transport_length as u16),
    }
    write_checksum(headers, layout, transport_length, body);
}

/// Each piece has an identification of its own (RFC 791 §3.2; it matters only where DF is not set, RFC 6864 §4).
fn write_ip(headers: &mut [u8], layout: &FrameLayout, number: u16, transport_length: usize) {
    let header_length = usize::from(layout.ip.header_length);
    put_u16(headers, layout.network + 2, (header_length + transport_length) as u16);
    put_u16(headers, layout.network + 4, layout.ip.identification.wrapping_add(number));
    write_ip_checksum(headers, layout);
}

/// Computes the IPv4 header's checksum anew.
pub(super) fn write_ip_checksum(headers: &mut [u8], layout: &FrameLayout) {
    let field = layout.network + Ipv4Header::CHECKSUM_OFFSET;
    put_u16(headers, field, 0);
    let sum = checksum(headers.get(layout.network..layout.transport).unwrap_or_default());
    put_u16(headers, field, sum);
}

/// FIN and PSH belong to the end of the data, CWR to its beginning (RFC 3168 §6.1.2: once).
fn write_tcp(headers: &mut [u8], transport: usize, offset: u32, is_last: bool) {
    let Some(sequence) = headers.get_mut(transport + 4..).and_then(|bytes| bytes.first_chunk_mut()) else { return };
    *sequence = u32::from_be_bytes(*sequence).wrapping_add(offset).to_be_bytes();
    let mut gone = 0;
    if !is_last {
        gone |= TcpFlags::FIN.0 | TcpFlags::PSH.0;
    }
    if offset > 0 {
        gone |= TcpFlags::CWR.0;
    }
    let word = get_u16(headers, transport + 12).unwrap_or_default();
    put_u16(headers, transport + 12, word & !gone);
}

fn write_checksum(headers: &mut [u8], layout: &FrameLayout, transport_length: usize, body: &Packet) {
    let is_tcp = layout.ip.protocol == Protocol::TCP;
    let field = layout.transport + if is_tcp { TcpHeader::CHECKSUM_OFFSET } else { UdpHeader::CHECKSUM_OFFSET };
    put_u16(headers, field, 0);
    let mut sum = layout.ip.pseudo_header(transport_length as u32);
    sum.add_bytes(headers.get(layout.transport..).unwrap_or_default());
    body.slices().iter().for_each(|slice| sum.add_bytes(slice));
    put_u16(headers, field, if is_tcp { sum.finish() } else { sum.finish_udp() });
}

/// Whether a device with these offloads takes the packet as it is.
pub fn fits(packet: &Packet, offload: &DeviceOffload) -> bool {
    let is_partial = matches!(packet.offload.checksum, ChecksumState::Partial { .. });
    match packet.offload.segmentation.map(|segmentation| segmentation.kind) {
        None => !is_partial || offload.checksum,
        Some(SegmentationKind::TcpIpv4) => is_partial && offload.tcp_segmentation_ipv4,
        Some(SegmentationKind::TcpIpv6) => is_partial && offload.tcp_segmentation_ipv6,
        Some(SegmentationKind::Udp) => is_partial && offload.udp_segmentation,
    }
}

/// Makes every packet of `frames` one that the device takes: cuts super-segments, completes checksums, keeps the order. Says how many had to
/// be dropped because they make no sense.
pub fn prepare(frames: &mut VecDeque<Packet>, offload: &DeviceOffload, medium: Medium, pool: &Pool) -> u64 {
    prepare_front(frames, usize::MAX, offload, medium, pool, &mut VecDeque::new())
}

/// The same for `count` packets at the front. `spare` is an empty queue, kept for its memory.
fn prepare_front(
    frames: &mut VecDeque<Packet>,
    count: usize,
    offload: &DeviceOffload,
    medium: Medium,
    pool: &Pool,
    spare: &mut VecDeque<Packet>,
) -> u64 {
    if frames.iter().take(count).all(|packet| fits(packet, offload)) {
        return 0;
    }
    if frames.iter().take(count).all(|packet| packet.offload.segmentation.is_none()) {
        frames.iter_mut().take(count).filter(|packet| !fits(packet, offload)).for_each(|packet| complete(packet, pool));
        return 0;
    }
    let mut refused = 0;
    while spare.len() < count
        && let Some(mut packet) = frames.pop_front()
    {
        if fits(&packet, offload) {
            spare.push_back(packet);
        } else if packet.offload.segmentation.is_some() {
            refused += u64::from(cut(packet, medium, pool, spare).is_err());
        } else {
            complete(&mut packet, pool);
            spare.push_back(packet);
        }
    }
    while let Some(packet) = spare.pop_back() {
        frames.push_front(packet);
    }
    refused
}

/// What a sending half keeps to make frames ready, a few at a time: slots for the headers of cut segments, and a queue's memory.
pub struct Preparer {
    medium: Medium,
    pool: Pool,
    spare: VecDeque<Packet>,
}

impl Preparer {
    /// Slots that are kept.
    const HEADER_SLOTS: usize = 256;

    /// For a device that carries `medium`.
    pub fn new(medium: Medium) -> Preparer {
        Preparer { medium, pool: Pool::new(Preparer::HEADER_SLOTS, 0), spare: VecDeque::new() }
    }

    /// [`prepare`] for `count` packets at the front: what a device cannot take at once anyway stays whole, and needs no slots for headers yet.
    pub fn prepare_front(&mut self, frames: &mut VecDeque<Packet>, count: usize, offload: &DeviceOffload) -> u64 {
        prepare_front(frames, count, offload, self.medium, &self.pool, &mut self.spare)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::packet::{Account, Guard, HEADROOM, Segmentation};
    use crate::wire::{EtherType, EthernetHeader, MacAddress, SequenceNumber};
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    pub(in crate::device) const MEDIUM: Medium = Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1]));

    /// A TCP super-segment in an Ethernet frame, its checksum partial, its payload in slices of 1000 bytes.
    pub(in crate::device) fn super_segment(pool: &Pool, payload: &[u8], size: u16, flags: TcpFlags) -> Packet {
        let tcp = TcpHeader { source_port: 1, destination_port: 2, sequence: SequenceNumber(u32::MAX - 5), flags, ..TcpHeader::default() };
        let mut front = frame_headers(Protocol::TCP, tcp.header_length() + payload.len());
        let start = front.len();
        front.resize(start + tcp.header_length(), 0);
        tcp.emit(&mut front[start..]);
        finish(pool, front, start, TcpHeader::CHECKSUM_OFFSET, payload, SegmentationKind::TcpIpv4, size)
    }

    fn super_datagram(pool: &Pool, payload: &[u8], size: u16) -> Packet {
        let mut front = frame_headers(Protocol::UDP, 8 + payload.len());
        let start = front.len();
        front.extend([0, 1, 0, 2]);
        front.extend((8 + payload.len() as u16).to_be_bytes());
        front.extend([0, 0]);
        finish(pool, front, start, UdpHeader::CHECKSUM_OFFSET, payload, SegmentationKind::Udp, size)
    }

    fn frame_headers(protocol: Protocol, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; 34];
        let ethernet =
            EthernetHeader { destination: MacAddress([2; 6]), source: MacAddress([2, 0, 0, 0, 0, 1]), ethertype: EtherType::IPV4 };
        ethernet.emit(&mut bytes);
        ip_header(protocol, length).emit(&mut bytes[14..]);
        bytes
    }

    fn ip_header(protocol: Protocol, length: usize) -> Ipv4Header {
        Ipv4Header {
            total_length: 20 + length as u16,
            header_length: 20,
            identification: u16::MAX,
            dont_fragment: true,
            time_to_live: 64,
            protocol,
            source: SOURCE,
            destination: DESTINATION,
            ..Ipv4Header::default()
        }
    }

    fn finish(pool: &Pool, mut front: Vec<u8>, start: usize, offset: usize, payload: &[u8], kind: SegmentationKind, size: u16) -> Packet {
        let protocol = if kind == SegmentationKind::Udp { Protocol::UDP } else { Protocol::TCP };
        let length = front.len() - start + payload.len();
        let partial = ip_header(protocol, length).pseudo_header(length as u32).partial();
        put_u16(&mut front, start + offset, partial);
        let mut packet = Packet::new(pool.copy_from(HEADROOM, &front));
        payload.chunks(1000).for_each(|chunk| packet.push(pool.copy_from(0, chunk)));
        packet.offload.checksum = ChecksumState::Partial { start: start as u16, offset: offset as u16 };
        packet.offload.segmentation = Some(Segmentation { kind, size });
        packet
    }

    /// Checks every length and checksum of a frame and returns its IP header and transport bytes.
    #[track_caller]
    pub(in crate::device) fn checked(frame: &Packet) -> (Ipv4Header, Vec<u8>) {
        let bytes = frame.to_vec();
        let ip = Ipv4Header::parse(&bytes[14..]).expect("a right IP header");
        assert_eq!(usize::from(ip.total_length) + 14, bytes.len());
        let transport = ip.payload(&bytes[14..]).to_vec();
        let mut sum = ip.pseudo_header(transport.len() as u32);
        sum.add_bytes(&transport);
        assert!(sum.is_valid(), "bad transport checksum");
        (ip, transport)
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 % 251) as u8).collect()
    }

    #[test]
    fn tcp_is_cut_as_a_network_card_cuts_it() {
        let pool = Pool::default();
        let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
        let mut pieces = VecDeque::new();
        let data = payload(3500);
        cut(super_segment(&pool, &data, 1448, flags), MEDIUM, &pool, &mut pieces).unwrap();
        let mut joined = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let (ip, transport) = checked(piece);
            let (tcp, header_length) = TcpHeader::parse(&transport).unwrap();
            assert_eq!(ip.identification, u16::MAX.wrapping_add(number as u16));
            assert_eq!(tcp.sequence.0, (u32::MAX - 5).wrapping_add(joined.len() as u32));
            assert_eq!(tcp.flags.contains(TcpFlags::CWR), number == 0);
            assert_eq!(tcp.flags.intersects(TcpFlags::FIN | TcpFlags::PSH), number == 2);
            joined.extend(&transport[header_length..]);
        }
        assert_eq!((pieces.len(), joined), (3, data));
    }

    #[test]
    fn udp_is_cut_into_datagrams() {
        let pool = Pool::default();
        let mut pieces = VecDeque::new();
        cut(super_datagram(&pool, &payload(2500), 1000), MEDIUM, &pool, &mut pieces).unwrap();
        let bodies: Vec<_> = pieces.iter().map(|piece| checked(piece).1).collect();
        assert_eq!(bodies.iter().map(|body| body.len()).collect::<Vec<_>>(), [1008, 1008, 508]);
        assert_eq!(bodies[2][4..6], 508_u16.to_be_bytes());
        assert_eq!(bodies[1][8..], payload(2500)[1000..2000]);
    }

    #[test]
    fn the_guard_lives_until_the_last_piece_is_taken() {
        #[derive(Default)]
        struct Room(AtomicUsize);
        impl Account for Room {
            fn give_back(&self, bytes: usize) {
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let (pool, room) = (Pool::default(), Arc::new(Room::default()));
        let mut packet = super_segment(&pool, &payload(3000), 1000, TcpFlags::ACK);
        packet.guard = Some(Guard::new(room.clone(), 9));
        let mut pieces = VecDeque::new();
        cut(packet, MEDIUM, &pool, &mut pieces).unwrap();
        while pieces.len() > 1 {
            pieces.pop_front();
            assert_eq!(room.0.load(Ordering::Relaxed), 0);
        }
        pieces.clear();
        assert_eq!(room.0.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn a_device_gets_what_it_can_take_in_order() {
        let pool = Pool::default();
        let none = DeviceOffload::default();
        let all = DeviceOffload { checksum: true, tcp_segmentation_ipv4: true, tcp_segmentation_ipv6: true, udp_segmentation: true };
        let make = || {
            let mut small = super_segment(&pool, b"small", 1, TcpFlags::ACK);
            small.offload.segmentation = None;
            VecDeque::from([super_segment(&pool, &payload(2000), 1448, TcpFlags::ACK), small])
        };
        let mut frames = make();
        assert_eq!((prepare(&mut frames, &all, MEDIUM, &pool), frames.len()), (0, 2));
        assert_eq!((prepare(&mut frames, &none, MEDIUM, &pool), frames.len()), (0, 3));
        frames.iter().for_each(|frame| drop(checked(frame)));
        assert_eq!(frames.iter().map(Packet::len).collect::<Vec<_>>(), [54 + 1448, 54 + 552, 59]);
    }

    #[test]
    fn what_is_far_from_the_front_stays_whole() {
        let (pool, none) = (Pool::default(), DeviceOffload::default());
        let mut frames: VecDeque<_> = (0..3).map(|_| super_segment(&pool, &payload(3000), 1000, TcpFlags::ACK)).collect();
        let mut spare = VecDeque::new();
        assert_eq!(prepare_front(&mut frames, 4, &none, MEDIUM, &pool, &mut spare), 0);
        assert_eq!((frames.len(), spare.len()), (7, 0));
        frames.iter().take(6).for_each(|frame| drop(checked(frame)));
        assert!(frames.back().is_some_and(|last| last.offload.segmentation.is_some()));
        assert_eq!(prepare_front(&mut frames, 6, &none, MEDIUM, &pool, &mut spare), 0);
        assert_eq!(frames.len(), 7, "what is ready is left alone");
    }

    #[test]
    fn nonsense_is_given_back() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, &[0; 100]);
        packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size: 10 });
        assert!(cut(packet, MEDIUM, &pool, &mut VecDeque::new()).is_err());
        let empty = super_segment(&pool, b"data", 0, TcpFlags::ACK);
        assert!(cut(empty, MEDIUM, &pool, &mut VecDeque::new()).is_err());
    }
}
