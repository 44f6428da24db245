//! Segments out: headers, super-segments, acknowledgements, resets.
//!
//! Owns how a segment becomes a packet: one slot for the header, slices of the send queue behind it, a partial checksum, and the size by which the
//! device cuts it. Refuses to decide what is sent.

use super::receive_side::Due;
use super::state::State;
use super::{Connection, Context, Segment};
use crate::layer::{Event, Level};
use crate::network::{self, Fragmentation, Outgoing};
use crate::packet::{ChecksumState, Guard, HEADROOM, Packet, Segmentation, SegmentationKind};
use crate::time::Duration;
use crate::transport::shared::NoRoom;
use crate::wire::checksum::pseudo_header;
use crate::wire::{Protocol, SequenceNumber, TcpFlags, TcpHeader, TcpOptions, Timestamps};
use std::net::SocketAddr;

/// The largest IP packet; super-segments obey it as well.
const LARGEST_PACKET: usize = 65_535;
/// Slices of payload in one packet: with the header they stay below what one system call gathers.
const LARGEST_SLICE_COUNT: usize = 60;

/// Where a packet comes from and goes to, and what IP needs to know besides.
pub(super) struct Route {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) time_to_live: u8,
    pub(super) traffic_class: u8,
}

/// What a piece of the sequence space is sent for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is new.
    New,
    /// It is sent again, for this reason.
    Again(&'static str),
}

impl Connection {
    /// Bytes of payload in a full segment that carries these options.
    fn payload_limit(&self, options: &TcpOptions) -> usize {
        let without = super::options::segment_size(self.agreement.peer_segment_size, self.path_mtu, self.remote.ip());
        without.saturating_sub(options.length()).max(1)
    }

    /// Bytes of payload in a full segment, and in the largest packet, as the options stand now.
    pub(super) fn payload_limits(&self) -> (usize, usize) {
        let options = self.segment_options(0);
        let segment = self.payload_limit(&options);
        let headers = super::options::header_bytes(self.remote.ip()) + options.length();
        // An urgent pointer counts from its own segment: whoever cuts a super-segment copies it.
        let whole = if self.send.urgent.is_some() { segment } else { LARGEST_PACKET.saturating_sub(headers) };
        (segment, (whole - whole % segment).max(segment))
    }

    /// SACK blocks that fit beside what every segment carries (RFC 2018 §3).
    pub(super) fn sack_room(&self) -> usize {
        match (self.agreement.sack, self.agreement.timestamps) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => 4,
        }
    }

    /// Our timestamp clock.
    pub(super) fn timestamp(&self, cx: &Context<'_>) -> u32 {
        cx.timestamp(self.timestamp_offset)
    }

    /// The options of every segment but a SYN.
    fn segment_options(&self, timestamp: u32) -> TcpOptions {
        let timestamps = Timestamps { value: timestamp, echo_reply: self.receive.recent_timestamp() };
        TcpOptions {
            timestamps: self.agreement.timestamps.then_some(timestamps),
            sack: self.receive.sack(self.sack_room()),
            user_timeout: self.user_timeout_option(),
            ..TcpOptions::default()
        }
    }

    /// The header of a segment that is sent now; it acknowledges all there is to acknowledge.
    fn header(&mut self, cx: &Context<'_>, sequence: SequenceNumber, flags: TcpFlags) -> TcpHeader {
        let options = self.segment_options(self.timestamp(cx));
        self.receive.duplicate = None;
        self.receive.reassembly.note_reported();
        self.user_timeout_sent();
        let urgent = self.send.urgent_pointer(sequence);
        let flags = flags | if urgent.is_some() { TcpFlags::URG } else { TcpFlags::NONE };
        TcpHeader {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            sequence,
            acknowledgement: self.receive.next,
            flags: flags | TcpFlags::ACK | self.ecn.echo(),
            window: self.receive.advertise(),
            urgent_pointer: urgent.unwrap_or(0),
            options,
        }
    }

    fn route(&self) -> Route {
        let traffic_class = super::ecn::without_field(self.options.traffic_class);
        Route { local: self.local, remote: self.remote, time_to_live: self.options.time_to_live, traffic_class }
    }

    /// The same for data: new data within the window may be marked on its way (RFC 3168 §6.1.2, §6.1.5, §6.1.6).
    fn route_for_data(&self, bytes: usize, end: SequenceNumber, cause: Cause) -> Route {
        let is_new_data = bytes > 0 && cause == Cause::New && end.before_or_equal(self.send.unacknowledged + self.send.window);
        let route = self.route();
        Route { traffic_class: route.traffic_class | self.ecn.field(is_new_data), ..route }
    }

    /// Sends our SYN, or SYN-ACK, for the first time or again.
    pub(super) fn send_syn(&mut self, cx: &mut Context<'_>) {
        let timestamps = Timestamps { value: self.timestamp(cx), echo_reply: self.receive.recent_timestamp() };
        let answers = self.state == State::SynReceived;
        let is_repeated = self.send.next != self.send.initial;
        let flags = match answers {
            true => TcpFlags::SYN_ACK | self.ecn.syn_ack_flags(),
            false => TcpFlags::SYN | self.ecn.syn_flags(self.options.ecn, is_repeated),
        };
        let options = self.agreement.syn_options(cx.topology, self.remote.ip(), timestamps);
        let options = TcpOptions { user_timeout: self.user_timeout_option(), ..options };
        let (fast_open, data) = self.fast_open_of_syn(&options);
        let header = TcpHeader {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            sequence: self.send.initial,
            acknowledgement: if answers { self.receive.next } else { SequenceNumber::default() },
            flags,
            window: self.receive.advertise_unscaled(),
            urgent_pointer: 0,
            options: TcpOptions { fast_open, ..options },
        };
        self.note_syn_sent(cx);
        let mut packet = start_packet(cx, &header);
        packet.doubts_path = self.recovery.doubts_path();
        let data = self.send.queue.copy_to(&mut packet, self.send.initial + 1, data, LARGEST_SLICE_COUNT);
        self.note_syn_data(cx, data);
        emit(cx, &self.route(), &header, packet, None);
    }

    /// Keeps the SYN in the scoreboard, as one number.
    fn note_syn_sent(&mut self, cx: &mut Context<'_>) {
        let (start, end) = (self.send.initial, self.send.initial + 1);
        if self.send.next == start {
            self.send.scoreboard.sent(start, end, cx.now, 1);
            self.send.next = end;
        } else {
            self.send.scoreboard.resent(start, end, cx.now);
            cx.out.counters().transport.segments_retransmitted.increment();
        }
    }

    /// Sends an acknowledgement by itself.
    pub(super) fn send_acknowledgement(&mut self, cx: &mut Context<'_>) {
        let header = self.header(cx, self.send.next, TcpFlags::NONE);
        emit(cx, &self.route(), &header, start_packet(cx, &header), None);
    }

    /// Sends a segment that is old to the peer and therefore answered (RFC 9293 §3.8.4: SEG.SEQ = SND.NXT - 1).
    pub(super) fn send_keepalive(&mut self, cx: &mut Context<'_>) {
        let header = self.header(cx, self.send.next - 1, TcpFlags::NONE);
        emit(cx, &self.route(), &header, start_packet(cx, &header), None);
    }

    /// Answers what RFC 5961 does not believe, within the connection's and the stack's budget (§7).
    pub(super) fn challenge(&mut self, cx: &mut Context<'_>) {
        let is_soon = self.last_challenge.is_some_and(|last| cx.now.since(last) < cx.config.challenge_ack_interval);
        if is_soon || !cx.challenge_acks.allow(cx.now, cx.random) {
            return cx.out.counters().transport.challenge_acks_withheld.increment();
        }
        self.last_challenge = Some(cx.now);
        cx.out.counters().transport.challenge_acks_sent.increment();
        self.send_acknowledgement(cx);
    }

    /// `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>` (RFC 9293 §3.10.5).
    pub(super) fn send_reset(&mut self, cx: &mut Context<'_>) {
        let header = TcpHeader {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            sequence: self.send.next,
            acknowledgement: self.receive.next,
            flags: TcpFlags::RST | TcpFlags::ACK,
            ..TcpHeader::default()
        };
        cx.out.counters().transport.resets_sent.increment();
        emit(cx, &self.route(), &header, start_packet(cx, &header), None);
    }

    /// Sends up to `length` bytes from `start` on, and the FIN if `finish`; with room taken from the socket and the device. Says how many
    /// numbers went; none if there was no room, which is remembered in `blocked`.
    pub(super) fn send_data(&mut self, cx: &mut Context<'_>, start: SequenceNumber, length: usize, finish: bool, cause: Cause) -> usize {
        let (segment_size, _) = self.payload_limits();
        let mut payload = Packet::default();
        let mut bytes = self.send.queue.copy_to(&mut payload, start, length, LARGEST_SLICE_COUNT);
        if bytes < length && bytes > segment_size {
            bytes -= bytes % segment_size;
            payload.truncate(bytes);
        }
        let finish = finish && bytes == length;
        if bytes == 0 && !finish || !self.take_room(cx, bytes.max(1)) {
            return 0;
        }
        let end = start + bytes as u32;
        let reduced = if cause == Cause::New && bytes > 0 { self.ecn.take_reduced() } else { TcpFlags::NONE };
        let header = self.header(cx, start, self.data_flags(end, bytes, finish) | reduced);
        let mut packet = start_packet(cx, &header);
        payload.into_slices().for_each(|slice| packet.push(slice));
        packet.guard = Some(Guard::new(self.shared.clone(), bytes.max(1)));
        packet.doubts_path = self.recovery.doubts_path();
        let route = self.route_for_data(bytes, end, cause);
        let number = emit(cx, &route, &header, packet, Some(segment_size).filter(|&size| bytes > size));
        if cause == Cause::New && !bytes.is_multiple_of(segment_size) {
            self.send.small_segment_end = end;
        }
        self.note_sent(cx, start, end + u32::from(finish), cause, number);
        bytes + usize::from(finish)
    }

    /// PSH where the data ends (RFC 9293 §3.9.1.2: "MUST set the PSH bit in the last buffered segment").
    fn data_flags(&self, end: SequenceNumber, bytes: usize, finish: bool) -> TcpFlags {
        let push = if bytes > 0 && end == self.send.queue.end() { TcpFlags::PSH } else { TcpFlags::NONE };
        push | if finish { TcpFlags::FIN } else { TcpFlags::NONE }
    }

    fn take_room(&mut self, cx: &Context<'_>, bytes: usize) -> bool {
        self.blocked = self.shared.take_room(bytes, self.in_stack_limit(cx)).err();
        self.blocked.is_none()
    }

    fn in_stack_limit(&self, cx: &Context<'_>) -> usize {
        let window = self.congestion.window().min(self.send.window as usize);
        let (least, most) = (cx.config.in_stack_bytes, cx.config.in_stack_bytes_when_fast);
        self.round_trip.smoothed().map_or(least, |smoothed| bytes_in_a_millisecond(window, smoothed).min(most).max(least))
    }

    fn note_sent(&mut self, cx: &mut Context<'_>, start: SequenceNumber, end: SequenceNumber, cause: Cause, number: u64) {
        let (size, bytes) = (self.send.segment_size, end.distance_from(start) as usize);
        match cause {
            Cause::New => {
                self.send.scoreboard.sent(start, end, cx.now, size);
                self.send.next = end;
                self.recovery.sent(bytes);
                self.recovery.probe_is_next = true;
                self.note_path_use(start, end);
                self.send.largest_flight = self.send.largest_flight.max(self.send.flight_size());
                self.receive.note_dialogue(cx.now, cx.config.delayed_acknowledgement);
            }
            Cause::Again(cause) => {
                self.note_path_reuse(cx, start, end);
                self.send.scoreboard.resent(start, end, cx.now);
                self.recovery.sent(bytes);
                self.recovery.resent_bytes += bytes;
                self.recovery.sent_again(start, end, bytes.div_ceil(size.max(1)), self.timestamp(cx));
                cx.out.counters().transport.segments_retransmitted.increment();
                cx.out.observe(|| Event::Retransmitted { number, cause });
            }
        }
        self.note_paced(cx.now, bytes);
        self.send.last_sent = cx.now;
    }

    /// The acknowledgements that are due, if no data took them along.
    pub(super) fn acknowledge_if_due(&mut self, cx: &mut Context<'_>) {
        let duplicates = std::mem::take(&mut self.receive.duplicates);
        if self.state == State::Closed || self.state == State::SynSent {
            return;
        }
        for _ in 1..duplicates {
            self.send_acknowledgement(cx);
        }
        let is_due = match self.receive.due {
            Due::Now => true,
            // The window goes along with the answer.
            Due::Soon => cx.config.answer_time.is_zero(),
            Due::Not | Due::Delayed => self.wants_window_update(),
        };
        if duplicates > 0 || is_due {
            self.send_acknowledgement(cx);
        }
    }

    fn wants_window_update(&self) -> bool {
        self.state.may_receive() && self.receive.update_is_due()
    }
}

/// RFC 9293 §3.10.7.1: the RST that answers a segment for which there is no connection. Never for a RST.
pub fn reset_for(cx: &mut Context<'_>, segment: &Segment) {
    if segment.has(TcpFlags::RST) {
        return;
    }
    let (sequence, acknowledgement, flags) = if segment.has(TcpFlags::ACK) {
        (segment.header.acknowledgement, SequenceNumber::default(), TcpFlags::RST)
    } else {
        (SequenceNumber::default(), segment.end(), TcpFlags::RST | TcpFlags::ACK)
    };
    let header = TcpHeader {
        source_port: segment.destination.port(),
        destination_port: segment.source.port(),
        sequence,
        acknowledgement,
        flags,
        ..TcpHeader::default()
    };
    let time_to_live = cx.config.socket_options().time_to_live;
    let route = Route { local: segment.destination, remote: segment.source, time_to_live, traffic_class: 0 };
    cx.out.counters().transport.resets_sent.increment();
    emit(cx, &route, &header, start_packet(cx, &header), None);
}

/// A packet with room for `header`, which [`emit`] writes.
pub(super) fn start_packet(cx: &Context<'_>, header: &TcpHeader) -> Packet {
    Packet::new(cx.pool.buffer(HEADROOM, header.header_length()).freeze())
}

/// Writes the header, leaves the checksum to the device, and sends. Gives the packet's number.
pub(super) fn emit(cx: &mut Context<'_>, route: &Route, header: &TcpHeader, mut packet: Packet, segment_size: Option<usize>) -> u64 {
    let sum = pseudo_header(route.local.ip(), route.remote.ip(), Protocol::TCP, packet.len() as u32).partial();
    if let Some(front) = packet.front_mut() {
        header.emit(front);
        if let Some(field) = front.get_mut(TcpHeader::CHECKSUM_OFFSET..TcpHeader::CHECKSUM_OFFSET + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
    let kind = if route.local.is_ipv4() { SegmentationKind::TcpIpv4 } else { SegmentationKind::TcpIpv6 };
    packet.offload.checksum = ChecksumState::Partial { start: 0, offset: TcpHeader::CHECKSUM_OFFSET as u16 };
    packet.offload.segmentation = segment_size.map(|size| Segmentation { kind, size: u16::try_from(size).unwrap_or(u16::MAX) });
    packet.number = cx.next_packet_number();
    packet.arrived = cx.now;
    let number = packet.number;
    if cx.out.is_observed() {
        log_departure(cx, route, header, packet.len() - header.header_length());
    }
    cx.out.counters().transport.segments_sent.add_alone(1);
    cx.out.down.push_back(network::Message::Send(Outgoing {
        source: route.local.ip(),
        destination: route.remote.ip(),
        protocol: Protocol::TCP,
        time_to_live: route.time_to_live,
        traffic_class: route.traffic_class,
        fragmentation: Fragmentation::Forbidden,
        header_included: false,
        packet,
    }));
    number
}

fn log_departure(cx: &Context<'_>, route: &Route, header: &TcpHeader, length: usize) {
    cx.out.log(
        "tcp",
        Level::Trace,
        format_args!(
            "{} -> {} {} seq {} ack {} win {} len {length}",
            route.local, route.remote, header.flags, header.sequence.0, header.acknowledgement.0, header.window
        ),
    );
}

/// What a window in each round trip comes to. A connection may have as much on its way to the device: a slow device gets no standing queue, a
/// fast one many packets for each wake-up (Linux bounds a socket likewise: `tcp_small_queue_check`).
fn bytes_in_a_millisecond(window: usize, round_trip: Duration) -> usize {
    let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX).max(1);
    usize::try_from((window as u64).saturating_mul(1_000_000) / nanos).unwrap_or(usize::MAX)
}

impl Connection {
    /// Whether the device must have room before anything can be sent.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(self.blocked, Some(NoRoom::Socket | NoRoom::Device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_in_the_stack_follows_the_rate() {
        assert_eq!(bytes_in_a_millisecond(1 << 20, Duration::from_millis(4)), 1 << 18);
        assert_eq!(bytes_in_a_millisecond(1 << 20, Duration::from_micros(250)), 1 << 22);
        assert_eq!(bytes_in_a_millisecond(usize::MAX, Duration::ZERO), usize::MAX);
    }
}
