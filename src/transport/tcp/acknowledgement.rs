//! The fifth step of RFC 9293 §3.10.7.4: what an acknowledgement does to the send side.

use super::retransmission::Told;
use super::sack_scoreboard::{Progress, Witness};
use super::segment_arrives::{Check, drop_because};
use super::{Connection, Context, Segment, State};
use crate::layer::DropReason;
use crate::time::Duration;
use crate::transport::tcp::congestion::Acknowledged;
use crate::wire::{SackBlock, TcpFlags};
use std::ops::ControlFlow;

/// No round trip is believed to be longer: the machine may have slept.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(60);
/// A tick of the timestamp clock, which the echo is rounded to.
const TICK: Duration = Duration::from_millis(1);

/// What an acknowledgement says of the congestion window's use.
struct Growth {
    /// Bytes that left the network.
    bytes: usize,
    /// Bytes that were in the network before.
    in_flight: usize,
    /// The round trip that was measured.
    sample: Option<Duration>,
    /// The window limited the sender when it sent what is acknowledged.
    is_window_limited: bool,
}

impl Connection {
    /// "Fifth, check the ACK field."
    pub(super) fn check_acknowledgement(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        if !segment.has(TcpFlags::ACK) {
            return drop_because(DropReason::Malformed);
        }
        if self.state == State::SynReceived {
            self.complete_handshake(cx, segment)?;
        } else if !self.send.is_acknowledgement_plausible(segment.header.acknowledgement) {
            // RFC 5961 §5.2: discard, and send an ACK back.
            self.challenge(cx);
            return drop_because(DropReason::Suspicious);
        }
        self.take_acknowledgement(cx, segment);
        self.after_acknowledgement(cx)
    }

    /// SYN-RECEIVED: the ACK of our SYN leads to ESTABLISHED, any other to a reset.
    fn complete_handshake(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        let acknowledgement = segment.header.acknowledgement;
        let is_acceptable = acknowledgement.after(self.send.unacknowledged) && acknowledgement.before_or_equal(self.send.next);
        if !is_acceptable {
            super::reset_for(cx, segment);
            return drop_because(DropReason::Suspicious);
        }
        self.send.set_window(&segment.header, self.scaled_window(segment));
        self.enter(cx, State::Established);
        ControlFlow::Continue(())
    }

    /// SEG.WND in bytes. The window of a SYN is never scaled (RFC 7323 §2.2).
    pub(super) fn scaled_window(&self, segment: &Segment) -> u32 {
        let shift = if segment.has(TcpFlags::SYN) { 0 } else { self.agreement.peer_shift() };
        u32::from(segment.header.window) << shift
    }

    /// What the states from ESTABLISHED on have in common.
    pub(super) fn take_acknowledgement(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        let acknowledgement = segment.header.acknowledgement;
        if acknowledgement.before(self.send.unacknowledged) {
            return;
        }
        self.recovery.probes_unanswered = 0;
        let window = self.scaled_window(segment);
        if acknowledgement == self.send.unacknowledged && self.awaits_nothing(segment) {
            self.take_window(segment, window);
            self.take_echo(cx, segment);
            return;
        }
        let was_duplicate = self.is_duplicate(segment, window);
        let is_repeated = segment.length() == 0 && acknowledgement == self.send.unacknowledged && window == self.send.window;
        let in_network = self.send.scoreboard.in_flight();
        let report = self.duplicate_report(segment);
        let witness = self.witness(segment);
        let is_window_limited = self.send.unacknowledged.before(self.send.window_limited_at);
        let advanced = acknowledgement.distance_from(self.send.unacknowledged) as usize;
        // The SYN is not data: it says nothing of the window's use.
        let syn = usize::from(self.send.unacknowledged == self.send.initial);
        let mut progress = if advanced > 0 { self.advance_unacknowledged(segment, &witness) } else { Progress::default() };
        if advanced > 0 {
            self.path_acknowledged(cx);
        }
        let by_sack = self.take_sack(cx, segment, &witness, &mut progress);
        let sample = self.measure_round_trip(cx, segment, &progress);
        self.send.scoreboard.rate.delivered(progress.delivered, progress.newest, segment.arrived, self.round_trip.minimum());
        let forward = progress.highest.map_or(acknowledgement, |highest| highest.latest(acknowledgement));
        self.recovery.rack.delivered(progress.latest, segment.arrived, progress.is_reordered, forward);
        self.take_window(segment, window);
        let was_fast = self.recovery.is_fast();
        let is_echo = self.take_echo(cx, segment);
        let told = Told {
            advanced,
            is_duplicate: was_duplicate || by_sack > 0,
            is_repeated,
            is_marked: is_echo,
            report,
            ..self.told(segment, &progress)
        };
        let is_put_back = self.recover(cx, &told);
        if !was_fast && !is_echo && !is_put_back && (advanced > 0 || self.recovery.rack.reordering_seen()) {
            // RFC 3042 §2: a duplicate does not change the window; unless duplicates are what the path is like.
            let bytes = progress.delivered.min(in_network).saturating_sub(syn);
            self.grow_congestion_window(segment, Growth { bytes, in_flight: in_network, sample, is_window_limited });
        }
    }

    /// Whether an acknowledgement of nothing new says nothing: nothing is in flight, and nothing was sent again that may have been sent for nothing. So it is where
    /// the peer alone sends.
    fn awaits_nothing(&self, segment: &Segment) -> bool {
        self.send.scoreboard.is_empty() && segment.header.options.sack.is_empty() && self.recovery.is_undisturbed()
    }

    fn told(&self, segment: &Segment, progress: &Progress) -> Told {
        Told {
            advanced: 0,
            delivered: progress.delivered,
            is_duplicate: false,
            is_repeated: false,
            is_marked: false,
            has_blocks: !segment.header.options.sack.is_empty(),
            report: None,
            echo: self.echo(segment),
            highest: progress.highest,
            original: progress.original,
            unacknowledged: self.send.unacknowledged,
            next: self.send.next,
            is_something_left: !self.send.scoreboard.is_empty(),
            can_send_new: self.state.may_send() && self.send.has_unsent() && self.send.usable_window() > 0,
        }
    }

    /// Our timestamp, as the peer echoes it.
    fn echo(&self, segment: &Segment) -> Option<u32> {
        segment.header.options.timestamps.filter(|_| self.agreement.timestamps).map(|timestamps| timestamps.echo_reply)
    }

    fn witness(&self, segment: &Segment) -> Witness {
        Witness {
            arrived: segment.arrived,
            minimum_round_trip: self.round_trip.minimum(),
            echo: self.echo(segment).map(|echo| (echo, self.timestamp_offset)),
            forward: self.recovery.rack.forward(),
        }
    }

    /// What the peer says it has received twice: a first block at or below the acknowledgement, or within the second (RFC 2883 §4).
    fn duplicate_report(&self, segment: &Segment) -> Option<SackBlock> {
        let blocks = segment.header.options.sack.as_slice();
        let first = *blocks.first().filter(|block| self.agreement.sack && block.left.before(block.right))?;
        let is_below = first.right.before_or_equal(segment.header.acknowledgement);
        let is_within = |second: &SackBlock| first.left.after_or_equal(second.left) && first.right.before_or_equal(second.right);
        (is_below || blocks.get(1).is_some_and(is_within)).then_some(first)
    }

    /// RFC 5681 §2: outstanding data, no data, no SYN or FIN, the same number, the same window.
    fn is_duplicate(&self, segment: &Segment, window: u32) -> bool {
        let answers_probe = self.send.window == 0;
        !self.send.scoreboard.is_empty()
            && !answers_probe
            && segment.length() == 0
            && segment.header.acknowledgement == self.send.unacknowledged
            && window == self.send.window
    }

    fn advance_unacknowledged(&mut self, segment: &Segment, witness: &Witness) -> Progress {
        let acknowledgement = segment.header.acknowledgement;
        self.send.unacknowledged = acknowledgement;
        let bytes = self.send.queue.acknowledge(acknowledgement);
        self.news.acknowledged += bytes;
        self.send.acknowledged_bytes += bytes as u64;
        self.send.scoreboard.acknowledge(acknowledgement, witness)
    }

    /// Takes the SACK blocks; says how many numbers they newly told of.
    fn take_sack(&mut self, cx: &Context<'_>, segment: &Segment, witness: &Witness, progress: &mut Progress) -> usize {
        if !self.agreement.sack || segment.header.options.sack.is_empty() {
            return 0;
        }
        let before = progress.delivered;
        let (limit, size) = (cx.config.sack_ranges, self.send.segment_size);
        self.send.scoreboard.selectively_acknowledge(segment.header.options.sack.as_slice(), limit, size, witness, progress);
        cx.out.counters().transport.sack_blocks_ignored.add(progress.blocks_ignored);
        progress.delivered - before
    }

    /// A sample from the time of the transmission: of the only one (Karn), or of the last one, if the peer's echo of our timestamp tells that it is the one
    /// that was acknowledged (RFC 7323 §4.1). It ends when the device had the segment, not when we look at it.
    fn measure_round_trip(&mut self, cx: &mut Context<'_>, segment: &Segment, progress: &Progress) -> Option<Duration> {
        let once = progress.sent.map(|sent| segment.arrived.since(sent));
        let again = || progress.resent.map(|resent| segment.arrived.since(resent)).filter(|&since| self.is_echo_within(segment, since));
        let measured = once.or_else(again)?.min(LONGEST_ROUND_TRIP);
        let (was_near, is_first) = (self.round_trip.is_near(), self.round_trip.smoothed().is_none());
        self.round_trip.sample(measured, segment.arrived);
        if !was_near && (is_first || self.round_trip.is_near()) {
            self.start_near(cx);
        }
        self.recovery.loss_probes.measured();
        // The SYN's acknowledgement is never delayed, and says nothing.
        if progress.delivered <= self.send.segment_size && self.send.scoreboard.is_empty() && self.send.acknowledged_bytes > 0 {
            self.recovery.loss_probes.single_acknowledged(measured.saturating_sub(self.round_trip.minimum()));
        }
        Some(measured)
    }

    /// Whether the echoed timestamp is of the last `since`. An older one means that the first transmission arrived and its acknowledgement was
    /// lost: what passed meanwhile is our timeout, not the path's round trip.
    fn is_echo_within(&self, segment: &Segment, since: Duration) -> bool {
        let Some(timestamps) = segment.header.options.timestamps.filter(|_| self.agreement.timestamps) else { return false };
        let arrived = (segment.arrived.as_millis() as u32).wrapping_add(self.timestamp_offset);
        let elapsed = Duration::from_millis(arrived.wrapping_sub(timestamps.echo_reply).into());
        elapsed <= since + TICK
    }

    /// Takes the window. While it is open, however little, it is not probed ever later, but used ever again after the same time. If it was closed and opens, what
    /// is in flight was refused by it, and goes again at once.
    fn take_window(&mut self, segment: &Segment, window: u32) {
        let was_closed = self.send.window == 0;
        self.send.update_window(&segment.header, window);
        if self.send.window > 0 {
            self.recovery.probes = 0;
        }
        if was_closed && self.send.window > 0 && !self.send.scoreboard.is_empty() {
            self.send.scoreboard.all_is_lost();
            self.recovery.force_one();
        }
    }

    fn grow_congestion_window(&mut self, segment: &Segment, growth: Growth) {
        let Growth { bytes, in_flight, sample, is_window_limited } = growth;
        if bytes == 0 || self.recovery.is_fast() {
            return;
        }
        self.congestion.on_acknowledged(Acknowledged {
            now: segment.arrived,
            bytes,
            in_flight,
            round_trip: self.round_trip.smoothed().unwrap_or_default(),
            sample,
            number: self.send.unacknowledged,
            next: self.send.next,
            is_window_limited,
        });
    }

    /// What follows from the acknowledgement of our FIN, state by state.
    fn after_acknowledgement(&mut self, cx: &mut Context<'_>) -> Check {
        if !self.send.is_finish_acknowledged() {
            return ControlFlow::Continue(());
        }
        match self.state {
            State::FinWait1 => self.enter(cx, State::FinWait2),
            State::Closing => self.enter(cx, State::TimeWait),
            State::LastAck => {
                self.finish(cx);
                return ControlFlow::Break(None);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
