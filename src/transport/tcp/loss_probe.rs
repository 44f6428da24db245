//! Tail loss probes (RFC 8985 §7): when a flight's last segments, or their acknowledgements, are lost, nobody would say so before the retransmission timer
//! does. A segment more, sent after two round trips, makes the peer say it.
//!
//! Owns TLP.end_seq and TLP.is_retrans, and what was learned of the peer's delayed acknowledgements. Refuses the timers' table, which `transmit` fills.

use super::emit::Cause;
use super::retransmission::Told;
use super::{Connection, Context};
use crate::time::Duration;
use crate::wire::SequenceNumber;

/// TLP.max_ack_delay of §7.2, before anything is known of the peer: what it takes at most to acknowledge a single segment. Peers that take longer (RFC 9293
/// §3.8.6.3 allows 500 ms) get a probe they did not need, and the report of it costs nothing (§7.4.2, case 1).
const LONGEST_ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(100);
/// What was learned is forgotten by this part with each acknowledgement of a single segment that came sooner.
const FORGETS: u32 = 8;
/// Room for the clocks of both ends, as the least that is added.
const TICK: Duration = Duration::from_millis(2);
/// The same for a single segment on a near path.
const NEAR_TICK: Duration = Duration::from_millis(40);

/// Probes of one connection.
#[derive(Clone, Debug)]
pub(super) struct LossProbes {
    /// TLP.end_seq and TLP.is_retrans, while a probe is not acknowledged.
    outstanding: Option<(SequenceNumber, bool)>,
    /// A round trip was measured since the last probe (§7.3, second condition).
    is_measured: bool,
    /// How late single segments were acknowledged lately: TLP.max_ack_delay. Dialogues, whose answers acknowledge, need not wait for a delay that never comes.
    delay: Duration,
    /// Probes sent.
    pub(super) sent: u64,
}

impl Default for LossProbes {
    fn default() -> LossProbes {
        LossProbes { outstanding: None, is_measured: false, delay: LONGEST_ACKNOWLEDGEMENT_DELAY, sent: 0 }
    }
}

impl LossProbes {
    /// A round trip was measured.
    pub(super) fn measured(&mut self) {
        self.is_measured = true;
    }

    /// A single segment was acknowledged so much later than the path takes.
    pub(super) fn single_acknowledged(&mut self, late: Duration) {
        self.delay = late.max(self.delay - self.delay / FORGETS).min(LONGEST_ACKNOWLEDGEMENT_DELAY);
    }

    /// Whether no probe was ever sent, and one may be.
    pub(super) fn is_unused(&self) -> bool {
        self.sent == 0 && self.outstanding.is_none() && self.is_measured
    }

    /// §7.3: both conditions.
    fn is_allowed(&self) -> bool {
        self.outstanding.is_none() && self.is_measured
    }

    /// Whether a probe has not been acknowledged.
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// §7.1: recovery begins.
    pub(super) fn reset(&mut self) {
        self.outstanding = None;
    }

    fn note(&mut self, end: SequenceNumber, is_retransmission: bool) {
        self.outstanding = Some((end, is_retransmission));
        self.is_measured = false;
        self.sent += 1;
    }

    /// TLP_process_ack() of §7.4.2. Says whether the probe has repaired a loss, which congestion control must hear of.
    pub(super) fn acknowledged(&mut self, told: &Told) -> bool {
        let Some((end, is_retransmission)) = self.outstanding.filter(|(end, _)| told.unacknowledged.after_or_equal(*end)) else {
            return false;
        };
        let is_reported = told.report.is_some_and(|block| block.left.before(end) && block.right.after_or_equal(end));
        let is_beyond = told.unacknowledged.after(end);
        let is_plain_duplicate = told.is_repeated && !told.has_blocks;
        if !is_retransmission || is_reported || is_beyond || is_plain_duplicate {
            self.outstanding = None;
        }
        if is_retransmission && (is_reported || is_plain_duplicate) {
            // It was too early: the peer delays its acknowledgements after all.
            self.delay = LONGEST_ACKNOWLEDGEMENT_DELAY;
        }
        is_retransmission && is_beyond && !is_reported
    }
}

impl Connection {
    /// §7.2: how long to wait for a probe, if one may be sent: never during recovery, nor while SACK tells of holes, which the reordering timer watches. On a near
    /// path the timer would run every few hundred round trips at the least, for losses that hardly happen there: where all share a processor, a dialogue's slowest
    /// hundredth would be those. (Measured: 38 µs with 10 ms, 28 with this.) So it waits longer.
    pub(super) fn probe_interval(&self) -> Option<Duration> {
        let is_quiet = self.recovery.is_open() && self.send.scoreboard.delivered() == 0 && self.state.is_synchronized();
        if !self.agreement.loss_probes || !is_quiet || !self.recovery.loss_probes.is_allowed() {
            return None;
        }
        let smoothed = self.round_trip.smoothed()?;
        let is_single = self.send.flight_size() <= self.send.segment_size;
        let least = if self.round_trip.is_near() { NEAR_TICK } else { TICK };
        let delay = if is_single { self.recovery.loss_probes.delay.max(least) } else { TICK };
        Some(smoothed * 2 + delay)
    }

    /// §7.3, TLP_send_probe(): something new if there is, else the last segment again. The retransmission timer follows.
    pub(super) fn loss_probe_timeout(&mut self, cx: &mut Context<'_>) {
        self.recovery.restarts_timer = true;
        self.recovery.probe_is_next = false;
        if self.probe_interval().is_none() || self.send.scoreboard.is_empty() {
            return;
        }
        let is_new = self.probe_with_new(cx);
        if is_new || self.probe_with_last(cx) {
            cx.out.counters().transport.loss_probes.increment();
            self.recovery.loss_probes.note(self.send.next, !is_new);
        }
        self.recovery.probe_is_next = false;
    }

    fn probe_with_new(&mut self, cx: &mut Context<'_>) -> bool {
        let (segment_size, _) = self.payload_limits();
        let length = self.send.usable_window().min(self.send.unsent()).min(segment_size);
        let finish = self.send.finish_follows(self.send.next + u32::try_from(length).unwrap_or(0));
        self.state.may_send() && (length > 0 || finish) && self.send_first_time(cx, length, finish) > 0
    }

    fn probe_with_last(&mut self, cx: &mut Context<'_>) -> bool {
        let (segment_size, _) = self.payload_limits();
        let Some((start, end)) = self.send.scoreboard.last_segment(segment_size) else { return false };
        let data_end = end.earliest(self.send.queue.end());
        let length = data_end.offset_from(start).max(0) as usize;
        self.send_data(cx, start, length, end.after(data_end), Cause::Again("tail loss probe")) > 0
    }
}
