//! What was sent and has not been cumulatively acknowledged: pieces of the sequence space, each with the time of its last transmission and what became
//! of it.
//!
//! Owns the pieces. Refuses to send, and to know bytes: SYN and FIN are one number each. A piece is as large as the super-segment that carried it,
//! and is cut where an acknowledgement or a retransmission cuts it; what the peer has is joined again, so that there are about as many pieces as holes and
//! super-segments in flight. `detection` says from them what is lost. Read RFC 2018 §5 and RFC 8985 §5.2 first.

mod detection;
#[cfg(test)]
mod tests;

use super::delivery_rate::{DeliveryRate, Stamp, Stamped};
use super::rack::Sent;
use crate::time::{Duration, Instant};
use crate::wire::{SackBlock, SequenceNumber};
use std::collections::VecDeque;

/// Small segments sent within this time share a piece, so that a stream of single bytes does not make a piece of each.
const MERGE_WITHIN: Duration = Duration::from_millis(1);
/// An empty scoreboard keeps room for no more pieces than this: a connection that is idle is small.
const ROOM_WHEN_IDLE: usize = 4;

/// What became of a piece, as far as known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// On its way.
    InFlight,
    /// The peer has it (SACK).
    Delivered,
    /// To be sent again.
    Lost,
}

#[derive(Copy, Clone, Debug)]
struct Piece {
    start: SequenceNumber,
    end: SequenceNumber,
    /// Last transmission: Segment.xmit_ts of RFC 8985 §5.2.
    sent: Instant,
    fate: Fate,
    /// Sent more than once.
    is_resent: bool,
    /// Once delivered: as how many segments the peer told it.
    segments: u16,
    /// What the delivery rate needs of its last transmission.
    stamp: Stamp,
}

impl Piece {
    fn length(&self) -> usize {
        self.end.distance_from(self.start) as usize
    }

    fn last_sent(&self) -> Sent {
        Sent { at: self.sent, end: self.end }
    }
}

/// What an acknowledgement can be asked about a piece that it covers.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Witness {
    /// When it arrived.
    pub(super) arrived: Instant,
    /// RACK.min_RTT.
    pub(super) minimum_round_trip: Duration,
    /// Our timestamp that it echoes, and where our timestamp clock starts.
    pub(super) echo: Option<(u32, u32)>,
    /// The highest number delivered before it: RACK.fack.
    pub(super) forward: SequenceNumber,
}

impl Witness {
    /// RFC 8985 §6.2 step 2: whether what was sent again at `sent`, and is acknowledged now, was delivered by that transmission, and not by one
    /// before it.
    fn is_for_retransmission(&self, sent: Instant) -> bool {
        let is_echo_older = self.echo.is_some_and(|(reply, offset)| {
            let tick = (sent.as_millis() as u32).wrapping_add(offset);
            SequenceNumber(reply).before(SequenceNumber(tick))
        });
        !is_echo_older && self.arrived.since(sent) >= self.minimum_round_trip
    }
}

/// What an acknowledgement did.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// Numbers that were not known to be delivered before.
    pub(super) delivered: usize,
    /// When the latest of them that was sent only once was sent: makes a sample of the round trip (Karn).
    pub(super) sent: Option<Instant>,
    /// When the latest of them that was sent more than once was last sent.
    pub(super) resent: Option<Instant>,
    /// The latest transmission that is known to have arrived (RFC 8985 §6.2 step 2).
    pub(super) latest: Option<Sent>,
    /// Something sent once was delivered behind something sent after it (RFC 8985 §6.2 step 3).
    pub(super) is_reordered: bool,
    /// The end of the highest of them.
    pub(super) highest: Option<SequenceNumber>,
    /// The end of the lowest that was sent only once.
    pub(super) original: Option<SequenceNumber>,
    /// What was sent last of them.
    pub(super) newest: Option<Stamped>,
    /// Blocks that were not looked at, because of the bound on pieces.
    pub(super) blocks_ignored: u64,
}

impl Progress {
    fn note(&mut self, piece: &Piece, witness: &Witness) {
        self.delivered += piece.length();
        if self.newest.is_none_or(|newest| piece.sent >= newest.sent) {
            self.newest = Some(Stamped { sent: piece.sent, stamp: piece.stamp });
        }
        if piece.is_resent {
            self.resent = self.resent.max(Some(piece.sent));
        } else {
            self.sent = self.sent.max(Some(piece.sent));
            self.is_reordered |= piece.end.before(witness.forward);
            self.original = Some(self.original.map_or(piece.end, |end| end.earliest(piece.end)));
        }
        self.highest = Some(self.highest.map_or(piece.end, |end| end.latest(piece.end)));
        let is_believed = !piece.is_resent || witness.is_for_retransmission(piece.sent);
        if is_believed && self.latest.is_none_or(|latest| piece.last_sent().is_after(latest)) {
            self.latest = Some(piece.last_sent());
        }
    }
}

/// The scoreboard.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    pieces: VecDeque<Piece>,
    in_flight: usize,
    lost: usize,
    delivered: usize,
    delivered_segments: usize,
    /// No piece before it is lost.
    first_lost: SequenceNumber,
    /// No piece before it is in flight for the first time.
    first_unjudged: SequenceNumber,
    /// What was sent again, in the order of time; some of it may have been delivered since.
    again: VecDeque<(SequenceNumber, Sent)>,
    /// How fast what is sent is delivered.
    pub(super) rate: DeliveryRate,
}

impl Scoreboard {
    /// Whether everything sent has been acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Numbers believed to be in the network: "pipe" of RFC 6675 §4.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Numbers that wait to be sent again.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// Numbers that SACK says the peer has.
    pub(super) fn delivered(&self) -> usize {
        self.delivered
    }

    /// As how many segments (RACK.segs_sacked of RFC 8985 §5.3).
    pub(super) fn delivered_segments(&self) -> usize {
        self.delivered_segments
    }

    /// When the earliest outstanding piece was last sent.
    pub(super) fn first_sent(&self) -> Option<Instant> {
        self.pieces.front().map(|first| first.sent)
    }

    /// Whether `start..end` is lost, and nothing else is.
    pub(super) fn is_all_that_is_lost(&mut self, start: SequenceNumber, end: SequenceNumber) -> bool {
        self.lost == end.distance_from(start) as usize && self.next_lost().is_some_and(|(first, last)| first == start && last == end)
    }

    /// Notes a first transmission of `start..end`, behind everything noted before.
    pub(super) fn sent(&mut self, start: SequenceNumber, end: SequenceNumber, now: Instant, segment_size: usize) {
        if self.pieces.is_empty() {
            (self.first_lost, self.first_unjudged) = (start, start);
        }
        let stamp = self.rate.stamp(now, self.in_flight == 0);
        self.in_flight += end.distance_from(start) as usize;
        if let Some(last) = self.pieces.back_mut().filter(|last| last.fate == Fate::InFlight && !last.is_resent)
            && last.end == start
            && end.distance_from(last.start) as usize <= segment_size
            && now.since(last.sent) < MERGE_WITHIN
        {
            last.end = end;
            return;
        }
        self.pieces.push_back(Piece { start, end, sent: now, fate: Fate::InFlight, is_resent: false, segments: 0, stamp });
    }

    /// Notes that `start..end` was sent again.
    pub(super) fn resent(&mut self, start: SequenceNumber, end: SequenceNumber, now: Instant) {
        let stamp = self.rate.stamp(now, self.in_flight == 0);
        self.split_at(start);
        self.split_at(end);
        for index in self.indices(start, end) {
            self.set_fate(index, Fate::InFlight);
            if let Some(piece) = self.pieces.get_mut(index) {
                (piece.sent, piece.stamp) = (now, stamp);
                piece.is_resent = true;
            }
        }
        self.remember_again(start, Sent { at: now, end });
    }

    /// Everything before `next` is acknowledged.
    pub(super) fn acknowledge(&mut self, next: SequenceNumber, witness: &Witness) -> Progress {
        self.split_at(next);
        let mut progress = Progress::default();
        while let Some(piece) = self.pieces.front().filter(|piece| piece.start.before(next)).copied() {
            if piece.fate != Fate::Delivered {
                progress.note(&piece, witness);
            }
            self.count(piece, false);
            self.pieces.pop_front();
        }
        // Without SACK, what lies behind a retransmission may have arrived long ago.
        progress.sent = progress.sent.filter(|_| progress.resent.is_none());
        self.first_lost = self.first_lost.latest(next);
        self.first_unjudged = self.first_unjudged.latest(next);
        self.shrink_if_empty();
        progress
    }

    /// Marks what `blocks` say the peer has (RFC 2018 §5). Blocks at or below the acknowledgement, D-SACK among them, and ones beyond what was
    /// sent change nothing. While there are `piece_limit` pieces, none does: a peer that acknowledges every other byte gets no more memory than that.
    pub(super) fn selectively_acknowledge(
        &mut self,
        blocks: &[SackBlock],
        piece_limit: usize,
        segment_size: usize,
        witness: &Witness,
        progress: &mut Progress,
    ) {
        for block in blocks {
            if self.pieces.len() < piece_limit {
                self.mark_delivered(block, segment_size, witness, progress);
            } else {
                progress.blocks_ignored += 1;
            }
        }
    }

    fn mark_delivered(&mut self, block: &SackBlock, segment_size: usize, witness: &Witness, progress: &mut Progress) {
        let (Some(first), Some(last)) = (self.pieces.front(), self.pieces.back()) else { return };
        let is_plausible = block.left.before(block.right) && block.left.after(first.start) && block.right.before_or_equal(last.end);
        if !is_plausible || self.is_delivered(block) {
            return;
        }
        self.split_at(block.left);
        self.split_at(block.right);
        for index in self.indices(block.left, block.right) {
            let Some(piece) = self.pieces.get_mut(index).filter(|piece| piece.fate != Fate::Delivered) else { continue };
            progress.note(piece, witness);
            piece.segments = u16::try_from(piece.length().div_ceil(segment_size.max(1))).unwrap_or(u16::MAX);
            self.set_fate(index, Fate::Delivered);
        }
        self.join(block);
    }

    /// Whether all of `block` is one delivered piece: most blocks repeat what was told before (RFC 2018 §4).
    fn is_delivered(&self, block: &SackBlock) -> bool {
        let index = self.pieces.partition_point(|piece| piece.end.before_or_equal(block.left));
        let holds = |piece: &Piece| piece.fate == Fate::Delivered && piece.end.after_or_equal(block.right);
        self.pieces.get(index).is_some_and(holds)
    }

    /// Joins the delivered pieces in and around `block` to one.
    fn join(&mut self, block: &SackBlock) {
        let mut index = self.pieces.partition_point(|piece| piece.end.before(block.left));
        while let (Some(one), Some(two)) = (self.pieces.get(index).copied(), self.pieces.get(index + 1).copied()) {
            if one.start.after(block.right) {
                return;
            }
            if one.fate != Fate::Delivered || two.fate != Fate::Delivered {
                index += 1;
                continue;
            }
            self.pieces.remove(index + 1);
            if let Some(joined) = self.pieces.get_mut(index) {
                joined.end = two.end;
                joined.sent = one.sent.max(two.sent);
                joined.segments = one.segments.saturating_add(two.segments);
            }
        }
    }

    /// The last segment that was sent, for a loss probe (RFC 8985 §7.3).
    pub(super) fn last_segment(&self, segment_size: usize) -> Option<(SequenceNumber, SequenceNumber)> {
        let last = self.pieces.back()?;
        let length = u32::try_from(last.length().min(segment_size)).unwrap_or(u32::MAX);
        Some((last.end - length, last.end))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Scoreboard::default();
    }

    /// Gives back the memory of the handshake: an idle connection has nothing in flight.
    pub(super) fn release_memory(&mut self) {
        if self.pieces.is_empty() {
            self.pieces.shrink_to_fit();
        }
    }

    fn shrink_if_empty(&mut self) {
        if self.pieces.is_empty() {
            self.again.clear();
            self.again.shrink_to(0);
            self.pieces.shrink_to(ROOM_WHEN_IDLE);
        }
    }

    fn set_fate(&mut self, index: usize, fate: Fate) {
        let Some(piece) = self.pieces.get(index).copied() else { return };
        let changed = Piece { fate, ..piece };
        self.count(piece, false);
        self.count(changed, true);
        if let Some(place) = self.pieces.get_mut(index) {
            *place = changed;
        }
        if fate == Fate::Lost {
            self.first_lost = self.first_lost.earliest(piece.start);
        }
    }

    /// Adds `piece` to the totals, or takes it out of them.
    fn count(&mut self, piece: Piece, is_added: bool) {
        let total = match piece.fate {
            Fate::InFlight => &mut self.in_flight,
            Fate::Lost => &mut self.lost,
            Fate::Delivered => &mut self.delivered,
        };
        let segments = if piece.fate == Fate::Delivered { usize::from(piece.segments) } else { 0 };
        if is_added {
            *total += piece.length();
            self.delivered_segments += segments;
        } else {
            *total = total.saturating_sub(piece.length());
            self.delivered_segments = self.delivered_segments.saturating_sub(segments);
        }
    }

    /// Makes `at` a boundary, if it lies inside a piece.
    fn split_at(&mut self, at: SequenceNumber) {
        let index = self.index_of(at);
        let Some(piece) = self.pieces.get_mut(index).filter(|piece| piece.start.before(at)) else { return };
        let mut rest = Piece { start: at, ..*piece };
        let share = piece.segments as usize * rest.length() / piece.length().max(1);
        rest.segments = u16::try_from(share).unwrap_or(u16::MAX).min(piece.segments);
        piece.end = at;
        piece.segments -= rest.segments;
        self.pieces.insert(index + 1, rest);
    }

    /// The place of the piece that holds `number`, or of the first behind it.
    fn index_of(&self, number: SequenceNumber) -> usize {
        if self.pieces.front().is_none_or(|first| number.before(first.end)) {
            return 0;
        }
        self.pieces.partition_point(|piece| piece.end.before_or_equal(number))
    }

    /// The places of the pieces between two boundaries.
    fn indices(&self, start: SequenceNumber, end: SequenceNumber) -> std::ops::Range<usize> {
        let first = self.index_of(start);
        first..self.pieces.partition_point(|piece| piece.end.before_or_equal(end)).max(first)
    }
}
