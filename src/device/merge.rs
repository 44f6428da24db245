//! Software receive merge: runs of TCP segments of one flow become one packet before they enter the pipeline.
//!
//! Owns what a network card with LRO, or the kernel's GRO, does, and by the same rules, so that the result can be cut again into exactly what
//! came. Refuses whatever is not the plain middle of a flow: options of IP, fragments, any flag but ACK and PSH, headers that differ, bad
//! checksums (such a packet goes up as it is, for its layer to drop and count).

use super::Medium;
use super::frame::{FrameLayout, get_u16, layout, put_u16};
use super::segmentation::write_ip_checksum;
use crate::packet::{ChecksumState, Packet, Pool, Segmentation, SegmentationKind};
use crate::wire::checksum::checksum;
use crate::wire::{EtherType, EthernetHeader, Ipv4Header, Protocol, SequenceNumber, TcpFlags, TcpHeader};
use smallvec::SmallVec;
use std::ops::Range;

/// Flows looked after at once within a batch; packets of further ones stay as they are.
const RUNS: usize = 8;
/// Segments that follow the first one of a run: as many as a batch of the receive thread brings.
const SEGMENTS_EXPECTED: usize = 31;
/// Flows that such a batch may be of.
const FLOWS_EXPECTED: usize = 32;

/// Bytes of an IPv4 header and a TCP header without options.
const SHORTEST_HEADERS: usize = 40;

/// Merges the packets of `batch` from index `first` on. Packets of one flow keep their order.
pub fn merge(batch: &mut Vec<Packet>, first: usize, medium: Medium, pool: &Pool) {
    if !has_two_of_a_flow(batch.iter().skip(first), medium) {
        return;
    }
    let mut runs: SmallVec<[Run; RUNS]> = SmallVec::new();
    let mut kept = first;
    for index in first..batch.len() {
        let Some(packet) = batch.get_mut(index).map(std::mem::take) else { break };
        if let Some(packet) = offer(packet, kept, &mut runs, batch, medium)
            && let Some(place) = batch.get_mut(kept)
        {
            *place = packet;
            kept += 1;
        }
    }
    batch.truncate(kept);
    for run in runs {
        run.finish(batch, pool);
    }
}

/// Whether two frames may be segments of one flow, at first sight: most batches have none such, and nobody has to look closer.
fn has_two_of_a_flow<'a>(packets: impl Iterator<Item = &'a Packet>, medium: Medium) -> bool {
    let mut flows: SmallVec<[u32; FLOWS_EXPECTED]> = SmallVec::new();
    packets.filter_map(|packet| flow_with_data(packet.front(), medium)).any(|flow| {
        let is_known = flows.contains(&flow);
        flows.push(flow);
        is_known
    })
}

/// The ports of a frame that may be a segment with data; frames with tags pass for one flow.
fn flow_with_data(front: &[u8], medium: Medium) -> Option<u32> {
    let network = if medium == Medium::Ip { 0 } else { EthernetHeader::LENGTH };
    if medium != Medium::Ip && get_u16(front, network - 2) != Some(EtherType::IPV4.0) {
        // There may be a tag.
        return Some(0);
    }
    let headers = front.get(network..)?.first_chunk::<SHORTEST_HEADERS>()?;
    let &[0x45, _, total_0, total_1, _, _, _, _, _, protocol, ..] = headers else { return None };
    let &[.., offset, flags, _, _, _, _, _, _] = headers;
    let header_length = Ipv4Header::MINIMUM_LENGTH + usize::from(offset >> 4) * 4;
    let is_plain = u16::from(flags) & !TcpFlags::PSH.0 == TcpFlags::ACK.0;
    let has_data = usize::from(u16::from_be_bytes([total_0, total_1])) > header_length;
    let ports = headers.get(Ipv4Header::MINIMUM_LENGTH..)?.first_chunk().copied().map(u32::from_be_bytes)?;
    (Protocol(protocol) == Protocol::TCP && is_plain && has_data).then_some(ports)
}

/// Appends the packet to its run, or gives it back to be kept at index `kept`, perhaps as the start of a run.
fn offer(packet: Packet, kept: usize, runs: &mut SmallVec<[Run; RUNS]>, batch: &mut [Packet], medium: Medium) -> Option<Packet> {
    let Some(layout) = layout(packet.front(), medium).filter(|layout| layout.ip.protocol == Protocol::TCP) else { return Some(packet) };
    let position = runs.iter().position(|run| run.is_same_flow(&packet, &layout, batch));
    let Some(segment) = Segment::new(&packet, layout) else {
        close(runs, position);
        return Some(packet);
    };
    if let Some(run) = position.and_then(|position| runs.get_mut(position)) {
        if run.continues(&segment, &packet, batch) {
            run.append(segment, packet, batch);
            return None;
        }
        close(runs, position);
    }
    if runs.iter().filter(|run| run.is_open).count() < RUNS {
        runs.push(Run::new(kept, segment));
    }
    Some(packet)
}

fn close(runs: &mut [Run], position: Option<usize>) {
    if let Some(run) = position.and_then(|position| runs.get_mut(position)) {
        run.is_open = false;
    }
}

/// A segment that may be merged.
struct Segment {
    layout: FrameLayout,
    sequence: SequenceNumber,
    is_pushed: bool,
}

impl Segment {
    fn new(packet: &Packet, layout: FrameLayout) -> Option<Segment> {
        let tcp = packet.front().get(layout.transport..)?;
        let flags = get_u16(tcp, 12)? & TcpFlags::ALL.0;
        let is_plain = flags & !TcpFlags::PSH.0 == TcpFlags::ACK.0
            && layout.ip.header_length == 20
            && layout.payload < layout.end
            && layout.end <= packet.len()
            && packet.offload.segmentation.is_none();
        let sequence = SequenceNumber(u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?));
        let segment = Segment { layout, sequence, is_pushed: flags & TcpFlags::PSH.0 != 0 };
        (is_plain && segment.is_intact(packet)).then_some(segment)
    }

    fn payload_length(&self) -> usize {
        self.layout.end - self.layout.payload
    }

    /// Both checksums are right, or somebody vouches for the transport's.
    fn is_intact(&self, packet: &Packet) -> bool {
        let FrameLayout { network, transport, end, ref ip, .. } = self.layout;
        let is_header_intact = packet.front().get(network..transport).is_some_and(|bytes| checksum(bytes) == 0);
        is_header_intact && (packet.offload.checksum != ChecksumState::Unknown || is_transport_intact(packet, ip, transport..end))
    }
}

fn is_transport_intact(packet: &Packet, ip: &Ipv4Header, range: Range<usize>) -> bool {
    let mut sum = ip.pseudo_header(range.len() as u32);
    packet.pieces(range).for_each(|piece| sum.add_bytes(piece));
    sum.is_valid()
}

/// Segments merged so far: the packet in the batch that they are appended to, and what must come next.
struct Run {
    index: usize,
    layout: FrameLayout,
    size: usize,
    total: usize,
    next_sequence: SequenceNumber,
    last_identification: u16,
    is_pushed: bool,
    segments: usize,
    is_open: bool,
}

impl Run {
    fn new(index: usize, segment: Segment) -> Run {
        let size = segment.payload_length();
        Run {
            index,
            size,
            total: usize::from(segment.layout.ip.total_length),
            next_sequence: advanced(segment.sequence, size),
            last_identification: segment.layout.ip.identification,
            is_pushed: segment.is_pushed,
            segments: 1,
            is_open: !segment.is_pushed,
            layout: segment.layout,
        }
    }

    fn is_same_flow(&self, packet: &Packet, layout: &FrameLayout, batch: &[Packet]) -> bool {
        let Some(head) = batch.get(self.index) else { return false };
        self.is_open
            && (self.layout.ip.source, self.layout.ip.destination) == (layout.ip.source, layout.ip.destination)
            && head.front().get(self.layout.transport..self.layout.transport + 4)
                == packet.front().get(layout.transport..layout.transport + 4)
    }

    /// The rules of the kernel's `tcp_gro_receive`: the next bytes, no larger than the first, behind headers that say the same.
    fn continues(&self, segment: &Segment, packet: &Packet, batch: &[Packet]) -> bool {
        let length = segment.payload_length();
        segment.sequence == self.next_sequence
            && length <= self.size
            && self.total + length <= usize::from(u16::MAX)
            && self.follows(segment.layout.ip.identification, segment.layout.ip.dont_fragment)
            && batch.get(self.index).is_some_and(|head| self.has_same_headers(head, packet, &segment.layout))
    }

    fn follows(&self, identification: u16, dont_fragment: bool) -> bool {
        identification == self.last_identification.wrapping_add(1) || (dont_fragment && identification == self.last_identification)
    }

    fn has_same_headers(&self, head: &Packet, packet: &Packet, layout: &FrameLayout) -> bool {
        let (own, other) = (&self.layout, layout);
        (own.network, own.transport, own.payload) == (other.network, other.transport, other.payload)
            && self
                .constant()
                .into_iter()
                .all(|range| head.front().get(range.clone()).is_some_and(|bytes| packet.front().get(range) == Some(bytes)))
    }

    /// What the headers of all segments have in common: everything but IP's length, identification and checksum, and TCP's sequence number, flags and checksum.
    fn constant(&self) -> [Range<usize>; 6] {
        let FrameLayout { network, transport, payload, .. } = self.layout;
        let checksum = transport + TcpHeader::CHECKSUM_OFFSET;
        [
            0..network + 2,
            network + 6..network + 10,
            network + 12..transport + 4,
            transport + 8..transport + 13,
            transport + 14..checksum,
            checksum + 2..payload,
        ]
    }

    fn append(&mut self, segment: Segment, mut packet: Packet, batch: &mut [Packet]) {
        let Some(head) = batch.get_mut(self.index) else { return };
        if self.segments == 1 {
            head.truncate(self.layout.end);
            head.reserve(SEGMENTS_EXPECTED);
        }
        let length = segment.payload_length();
        packet.truncate(segment.layout.end);
        packet.advance(segment.layout.payload);
        packet.into_slices().for_each(|slice| head.push(slice));
        self.segments += 1;
        self.total += length;
        self.next_sequence = advanced(self.next_sequence, length);
        self.last_identification = segment.layout.ip.identification;
        self.is_pushed = segment.is_pushed;
        self.is_open = length == self.size && !segment.is_pushed;
    }

    /// Rewrites the headers of the whole: lengths, PSH, and a partial checksum, as the kernel leaves it after merging.
    fn finish(self, batch: &mut [Packet], pool: &Pool) {
        let Some(head) = batch.get_mut(self.index).filter(|_| self.segments > 1) else { return };
        let transport_length = self.total - usize::from(self.layout.ip.header_length);
        let partial = self.layout.ip.pseudo_header(transport_length as u32).partial();
        let Some(headers) = head.make_writable(self.layout.payload, pool) else { return };
        put_u16(headers, self.layout.network + 2, self.total as u16);
        write_ip_checksum(headers, &self.layout);
        let flags = get_u16(headers, self.layout.transport + 12).unwrap_or_default();
        put_u16(headers, self.layout.transport + 12, if self.is_pushed { flags | TcpFlags::PSH.0 } else { flags });
        put_u16(headers, self.layout.transport + TcpHeader::CHECKSUM_OFFSET, partial);
        head.offload.checksum = ChecksumState::Partial { start: self.layout.transport as u16, offset: TcpHeader::CHECKSUM_OFFSET as u16 };
        head.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size: self.size as u16 });
    }
}

fn advanced(sequence: SequenceNumber, length: usize) -> SequenceNumber {
    SequenceNumber(sequence.0.wrapping_add(length as u32))
}

#[cfg(test)]
mod tests {
    use super::super::segmentation::cut;
    use super::super::segmentation::tests::{MEDIUM, checked, super_segment};
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn pieces_of(pool: &Pool, payload: &[u8], size: u16, flags: TcpFlags) -> Vec<Packet> {
        let mut pieces = VecDeque::new();
        cut(super_segment(pool, payload, size, flags), MEDIUM, pool, &mut pieces).unwrap();
        pieces.into()
    }

    proptest! {
        #[test]
        fn cutting_and_merging_are_inverse(length in 1_usize..40_000, size in 500_u16..3_000, push: bool) {
            let pool = Pool::default();
            let flags = if push { TcpFlags::ACK | TcpFlags::PSH } else { TcpFlags::ACK };
            let payload: Vec<u8> = (0..length).map(|index| (index % 253) as u8).collect();
            let before = super_segment(&pool, &payload, size, flags);
            let mut batch = pieces_of(&pool, &payload, size, flags);
            let count = batch.len();
            merge(&mut batch, 0, MEDIUM, &pool);
            prop_assert_eq!(batch.len(), 1);
            if count > 1 {
                prop_assert_eq!(batch[0].to_vec(), before.to_vec());
                prop_assert_eq!(batch[0].offload, before.offload);
            }
            let mut again = VecDeque::new();
            cut(batch.remove(0), MEDIUM, &pool, &mut again).unwrap();
            prop_assert_eq!(again.len(), count);
            again.iter().for_each(|piece| drop(checked(piece)));
        }

        #[test]
        fn no_bytes_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 2..6)) {
            let pool = Pool::default();
            let mut batch: Vec<_> = frames.iter().map(|bytes| Packet::from_bytes(&pool, bytes)).collect();
            merge(&mut batch, 0, MEDIUM, &pool);
            let mut batch: Vec<_> = frames.iter().map(|bytes| Packet::from_bytes(&pool, bytes)).collect();
            merge(&mut batch, 1, Medium::Ip, &pool);
        }
    }

    #[test]
    fn interleaved_flows_are_merged_each_for_itself() {
        let pool = Pool::default();
        let one = pieces_of(&pool, &[1; 3000], 1000, TcpFlags::ACK);
        let mut other = pieces_of(&pool, &[2; 3000], 1000, TcpFlags::ACK);
        for packet in &mut other {
            let bytes = packet.make_writable(54, &pool).unwrap();
            bytes[35] = 9;
            packet.offload.checksum = ChecksumState::Verified;
        }
        let mut batch: Vec<_> = one.into_iter().zip(other).flat_map(|(one, other)| [one, other]).collect();
        merge(&mut batch, 0, MEDIUM, &pool);
        assert_eq!(batch.iter().map(Packet::len).collect::<Vec<_>>(), [3054, 3054]);
        assert_eq!((batch[0].to_vec()[3000], batch[1].to_vec()[3000]), (1, 2));
    }

    #[test]
    fn gaps_bad_checksums_and_other_flags_end_a_run() {
        let pool = Pool::default();
        let spoil: [fn(&mut Vec<Packet>, &Pool); 4] = [
            |batch, _| drop(batch.remove(1)),
            |batch, pool| batch[1].make_writable(54, pool).unwrap()[51] ^= 1,
            |batch, pool| {
                batch[1].make_writable(54, pool).unwrap()[47] |= 0x20;
                batch[1].offload.checksum = ChecksumState::Verified;
            },
            |batch, pool| {
                batch[1].make_writable(54, pool).unwrap()[22] -= 1;
            },
        ];
        for spoil in spoil {
            let mut batch = pieces_of(&pool, &[3; 4000], 1000, TcpFlags::ACK);
            spoil(&mut batch, &pool);
            let (count, bytes) = (batch.len(), batch.iter().map(Packet::len).sum::<usize>());
            merge(&mut batch, 0, MEDIUM, &pool);
            assert!(batch.len() < count && batch.len() > 1, "{} of {count}", batch.len());
            assert_eq!(batch.iter().map(|packet| packet.len() - 54).sum::<usize>(), bytes - count * 54);
        }
    }

    #[test]
    fn padding_is_not_payload_and_acknowledgements_are_left_alone() {
        let pool = Pool::default();
        let mut batch = pieces_of(&pool, b"ab", 1, TcpFlags::ACK);
        batch.iter_mut().for_each(|packet| packet.push(pool.copy_from(0, &[0; 5])));
        merge(&mut batch, 0, MEDIUM, &pool);
        assert_eq!((batch.len(), batch[0].len()), (1, 56));
        let mut batch = vec![super_segment(&pool, b"", 1, TcpFlags::ACK), super_segment(&pool, b"", 1, TcpFlags::ACK)];
        batch.iter_mut().for_each(|packet| packet.offload.segmentation = None);
        merge(&mut batch, 0, MEDIUM, &pool);
        assert_eq!(batch.len(), 2);
    }
}
