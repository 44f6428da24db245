//! The send sequence space (RFC 9293 §3.3.1) and the decision how much to send.
//!
//! Owns SND.*, the send queue and the scoreboard. Refuses to build packets and to know timers.

use super::sack_scoreboard::Scoreboard;
use super::send_queue::SendQueue;
use crate::time::Instant;
use crate::wire::{SequenceNumber, TcpHeader};

/// The sending half's variables.
#[derive(Debug)]
pub(super) struct SendSide {
    /// ISS.
    pub(super) initial: SequenceNumber,
    /// SND.UNA.
    pub(super) unacknowledged: SequenceNumber,
    /// SND.NXT. Never goes back: what is sent again is the scoreboard's business.
    pub(super) next: SequenceNumber,
    /// SND.WND, in bytes.
    pub(super) window: u32,
    /// SND.WL1.
    pub(super) window_sequence: SequenceNumber,
    /// SND.WL2.
    pub(super) window_acknowledgement: SequenceNumber,
    /// MAX.SND.WND (RFC 5961 §5.2).
    pub(super) largest_window: u32,
    /// What is to be sent, from SND.UNA on.
    pub(super) queue: SendQueue,
    /// What has been sent, from SND.UNA on.
    pub(super) scoreboard: Scoreboard,
    /// SND.UP: what follows the program's urgent data, while that is not acknowledged.
    pub(super) urgent: Option<SequenceNumber>,
    /// The program sends no more: FIN follows the queue.
    pub(super) finish: bool,
    /// It has been sent.
    pub(super) finish_sent: bool,
    /// The end of the last segment smaller than a full one (Nagle's algorithm as Minshall changed it).
    pub(super) small_segment_end: SequenceNumber,
    /// Bytes of payload in a full segment, without options in it.
    pub(super) segment_size: usize,
    /// When the last segment with data was sent.
    pub(super) last_sent: Instant,
    /// The largest FlightSize ever.
    pub(super) largest_flight: usize,
    /// Bytes of data that were ever acknowledged.
    pub(super) acknowledged_bytes: u64,
    /// SND.NXT when the congestion window last kept us from sending.
    pub(super) window_limited_at: SequenceNumber,
}

/// What the sender is allowed to do at the moment, besides the peer's window.
#[derive(Copy, Clone, Debug)]
pub(super) struct Allowance {
    /// Bytes that congestion control admits now.
    pub(super) congestion_room: usize,
    /// Bytes of payload in a full segment.
    pub(super) segment_size: usize,
    /// Bytes of payload in the largest packet.
    pub(super) packet_limit: usize,
    /// Small segments go at once.
    pub(super) no_delay: bool,
}

impl SendSide {
    pub(super) fn new(initial: SequenceNumber, now: Instant) -> SendSide {
        SendSide {
            initial,
            unacknowledged: initial,
            next: initial,
            window: 0,
            window_sequence: SequenceNumber::default(),
            window_acknowledgement: SequenceNumber::default(),
            largest_window: 0,
            queue: SendQueue::new(initial + 1),
            scoreboard: Scoreboard::default(),
            urgent: None,
            finish: false,
            finish_sent: false,
            small_segment_end: initial,
            segment_size: 536,
            last_sent: now,
            largest_flight: 0,
            acknowledged_bytes: 0,
            window_limited_at: initial,
        }
    }

    /// Bytes in the queue that have never been sent.
    pub(super) fn unsent(&self) -> usize {
        self.queue.end().offset_from(self.next).max(0) as usize
    }

    /// Whether data, or a FIN, waits for its first transmission.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent() > 0 || (self.finish && !self.finish_sent)
    }

    /// Numbers that the peer's window still admits: SND.UNA + SND.WND - SND.NXT.
    pub(super) fn usable_window(&self) -> usize {
        (self.unacknowledged + self.window).offset_from(self.next).max(0) as usize
    }

    /// FlightSize (RFC 5681 §2).
    pub(super) fn flight_size(&self) -> usize {
        self.next.distance_from(self.unacknowledged) as usize
    }

    /// The urgent pointer of a segment at `sequence`, if there is urgent data behind that: it points behind the data (RFC 9293 §3.8.5, MUST-62), or as far
    /// in it as sixteen bits reach.
    pub(super) fn urgent_pointer(&mut self, sequence: SequenceNumber) -> Option<u16> {
        self.urgent = self.urgent.filter(|end| end.after(self.unacknowledged));
        let end = self.urgent.filter(|end| end.after(sequence))?;
        Some(u16::try_from(end.distance_from(sequence)).unwrap_or(u16::MAX))
    }

    pub(super) fn is_finish_acknowledged(&self) -> bool {
        self.finish_sent && self.unacknowledged.after(self.queue.end())
    }

    /// RFC 5961 §5.2: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT.
    pub(super) fn is_acknowledgement_plausible(&self, acknowledgement: SequenceNumber) -> bool {
        let behind = i64::from(acknowledgement.offset_from(self.unacknowledged));
        behind >= -i64::from(self.largest_window) && acknowledgement.before_or_equal(self.next)
    }

    /// RFC 9293 §3.10.7.4: takes the window of a segment that is not older than the one it was last taken from.
    pub(super) fn update_window(&mut self, header: &TcpHeader, window: u32) {
        let is_newer = self.window_sequence.before(header.sequence)
            || (self.window_sequence == header.sequence && self.window_acknowledgement.before_or_equal(header.acknowledgement));
        if is_newer {
            self.set_window(header, window);
        }
    }

    pub(super) fn set_window(&mut self, header: &TcpHeader, window: u32) {
        self.window = window;
        self.window_sequence = header.sequence;
        self.window_acknowledgement = header.acknowledgement;
        self.largest_window = self.largest_window.max(window);
    }

    /// How many unsent bytes to send now (zero: none), by the sender's silly-window rules (RFC 9293 §3.8.6.2.1).
    pub(super) fn next_length(&self, allowance: Allowance) -> usize {
        let Allowance { congestion_room, segment_size, packet_limit, .. } = allowance;
        let (available, usable) = (self.unsent(), self.usable_window());
        let possible = available.min(usable).min(congestion_room).min(packet_limit);
        let rest = possible % segment_size.max(1);
        let may_take_rest = if possible == available {
            self.may_send_small(allowance.no_delay)
        } else {
            // Rule 3: the window is smaller than a segment, but at least half of the largest ever seen.
            possible == usable && rest == possible && 2 * usable >= self.largest_window as usize && self.may_send_small(allowance.no_delay)
        };
        if may_take_rest { possible } else { possible - rest }
    }

    /// Nagle's algorithm (RFC 9293 §3.7.4) as Minshall changed it, and Linux has it: a small segment waits only for another small one, not for
    /// full ones, so that it does not meet the peer's delayed acknowledgement. What goes with a FIN does not wait.
    fn may_send_small(&self, no_delay: bool) -> bool {
        no_delay || self.finish || self.small_segment_end.before_or_equal(self.unacknowledged)
    }

    /// Whether the FIN goes with the segment that ends at `end`. It needs a number of the window, as any other.
    pub(super) fn finish_follows(&self, end: SequenceNumber) -> bool {
        self.finish && !self.finish_sent && end == self.queue.end() && end.before(self.unacknowledged + self.window)
    }

    /// Forgets everything that was to be sent.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.scoreboard.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Pool;

    const ALLOWANCE: Allowance = Allowance { congestion_room: 100_000, segment_size: 1_000, packet_limit: 60_000, no_delay: false };

    /// A sender behind its handshake with `bytes` to send and a window of `window`.
    fn sender(bytes: usize, window: u32) -> SendSide {
        let mut send = SendSide::new(SequenceNumber(99), Instant::ZERO);
        send.unacknowledged = SequenceNumber(100);
        send.next = SequenceNumber(100);
        send.window = window;
        send.largest_window = window;
        send.queue.push(Pool::default().copy_from(0, &vec![0; bytes]), &Pool::default());
        send
    }

    #[test]
    fn full_segments_go_and_the_tail_waits_for_an_earlier_small_one() {
        let mut send = sender(2_500, 50_000);
        assert_eq!(send.next_length(ALLOWANCE), 2_500);
        send.small_segment_end = SequenceNumber(101);
        assert_eq!(send.next_length(ALLOWANCE), 2_000);
        assert_eq!(send.next_length(Allowance { no_delay: true, ..ALLOWANCE }), 2_500);
        send.finish = true;
        assert_eq!(send.next_length(ALLOWANCE), 2_500);
    }

    #[test]
    fn small_windows_are_not_filled() {
        let mut send = sender(10_000, 900);
        assert_eq!(send.next_length(ALLOWANCE), 900, "the largest window the peer ever had");
        send.largest_window = 10_000;
        assert_eq!(send.next_length(ALLOWANCE), 0);
        send.window = 1_900;
        assert_eq!(send.next_length(ALLOWANCE), 1_000);
    }

    #[test]
    fn congestion_room_and_packet_size_are_used_in_whole_segments() {
        let send = sender(60_000, 50_000);
        assert_eq!(send.next_length(Allowance { congestion_room: 2_900, ..ALLOWANCE }), 2_000);
        assert_eq!(send.next_length(Allowance { congestion_room: 900, ..ALLOWANCE }), 0);
        assert_eq!(send.next_length(Allowance { packet_limit: 5_500, ..ALLOWANCE }), 5_000);
    }

    #[test]
    fn windows_of_old_segments_are_not_believed() {
        let mut send = sender(0, 1_000);
        let header = |sequence, acknowledgement| TcpHeader {
            sequence: SequenceNumber(sequence),
            acknowledgement: SequenceNumber(acknowledgement),
            ..TcpHeader::default()
        };
        send.set_window(&header(50, 100), 1_000);
        send.update_window(&header(49, 100), 1);
        send.update_window(&header(50, 99), 2);
        assert_eq!(send.window, 1_000);
        send.update_window(&header(50, 100), 3);
        assert_eq!(send.window, 3);
        send.update_window(&header(51, 99), 4);
        assert_eq!((send.window, send.largest_window), (4, 1_000));
    }

    #[test]
    fn acknowledgements_far_behind_or_ahead_are_not_plausible() {
        let mut send = sender(100, 10);
        send.next = SequenceNumber(200);
        let plausible = |number| send.is_acknowledgement_plausible(SequenceNumber(number));
        assert_eq!([89, 90, 200, 201].map(plausible), [false, true, true, false]);
    }
}
