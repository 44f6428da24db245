//! Loss: what follows when it is found (RFC 5681 §3.2, RFC 6582, RFC 6675 §5, RFC 6298 §5, RFC 8985).
//!
//! Owns the phases of recovery. Refuses to know which numbers are lost (the scoreboard, by the rules of `rack`), how much to send meanwhile
//! (`rate_reduction`), what shows that nothing was lost (`spurious`), and how fast to send otherwise (congestion control).

use super::congestion::Timeout;
use super::loss_probe::LossProbes;
use super::rack::{Rack, Surroundings};
use super::rate_reduction::{Delivery, RateReduction};
use super::spurious::{Episode, ForwardStep, Verdict};
use super::{Connection, Context};
use crate::time::Instant;
use crate::transport::shared::Failure;
use crate::wire::{SackBlock, SequenceNumber};

/// RFC 5681 §3.2: the third duplicate acknowledgement means loss.
const DUPLICATE_THRESHOLD: usize = 3;
/// RFC 6582 §4.1: an acknowledgement of more segments than this tells that they had arrived before they were sent again.
const DUPLICATE_REACH: usize = 4;
/// R1: "SHOULD correspond to at least 3 retransmissions" (RFC 9293 §3.8.3, SHLD-10).
const RETRANSMISSIONS_BEFORE_DOUBT: u32 = 3;

/// Where recovery is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
enum Phase {
    /// No loss is known.
    #[default]
    Open,
    /// Loss was found by acknowledgements; over when this number is acknowledged.
    Fast(SequenceNumber),
    /// The timer expired; over when this number is acknowledged.
    Timeout(SequenceNumber),
}

/// The variables of loss recovery.
pub(super) struct Recovery {
    phase: Phase,
    /// What the present recovery, or the last one for a while, remembers.
    episode: Option<Box<Episode>>,
    pub(super) rack: Rack,
    pub(super) loss_probes: LossProbes,
    /// Duplicate acknowledgements in a row.
    duplicates: usize,
    /// "recover" of RFC 6582, one further: what fast retransmission, when it last began, or the last timeout had sent before. Without SACK, duplicates at or
    /// below it may be of what was sent again for nothing.
    recover: SequenceNumber,
    /// How far the last acknowledgement that advanced went (highest_ack - prev_highest_ack of RFC 6582 §4.1).
    last_advance: usize,
    /// One segment may go whatever the congestion window says.
    forced: bool,
    /// Timeouts in a row.
    timeouts: u32,
    /// Segments sent again.
    pub(super) retransmitted: u64,
    /// Bytes sent again since the last loss was found.
    pub(super) resent_bytes: usize,
    /// Segments found lost.
    pub(super) lost: u64,
    /// Recoveries undone because nothing had been lost.
    pub(super) undone: u64,
    /// The peer has reported a duplicate (RFC 2883).
    peer_reports_duplicates: bool,
    /// The retransmission timer is to start anew (RFC 6298 §5.3).
    pub(super) restarts_timer: bool,
    /// Something was acknowledged or sent for the first time: the wait for a loss probe begins anew.
    pub(super) probe_is_next: bool,
    /// When what may be late, and may be reordered, will be judged (RFC 8985 §6.2 step 5).
    pub(super) judges_at: Option<Instant>,
    /// When the retransmission timer expires, whichever timer runs in its place.
    pub(super) expires_at: Option<Instant>,
    /// Since when nothing in flight has been acknowledged.
    pub(super) stalled_since: Instant,
    /// Probes of the present window.
    pub(super) probes: u32,
    /// Of those, the ones that nothing answered.
    pub(super) probes_unanswered: u32,
    /// Without SACK each duplicate acknowledgement stands for a segment that has left the network.
    counts_duplicates: bool,
}

/// What an acknowledgement told, as far as recovery is concerned.
#[derive(Copy, Clone, Debug)]
pub(super) struct Told {
    /// Numbers cumulatively acknowledged.
    pub(super) advanced: usize,
    /// Numbers newly known to be delivered, by SACK or cumulatively.
    pub(super) delivered: usize,
    /// It was a duplicate (RFC 5681 §2), or had news by SACK (RFC 6675 §2).
    pub(super) is_duplicate: bool,
    /// It acknowledged what had been acknowledged, and had nothing else.
    pub(super) is_repeated: bool,
    /// It had SACK blocks.
    pub(super) has_blocks: bool,
    /// It echoed a mark of congestion (RFC 3168 §6.1.2).
    pub(super) is_marked: bool,
    /// What it says was received twice (RFC 2883).
    pub(super) report: Option<SackBlock>,
    /// Our timestamp that it echoes.
    pub(super) echo: Option<u32>,
    /// The end of the highest number it newly told of.
    pub(super) highest: Option<SequenceNumber>,
    /// The end of the lowest of those that were sent once only.
    pub(super) original: Option<SequenceNumber>,
    /// SND.UNA.
    pub(super) unacknowledged: SequenceNumber,
    /// SND.NXT.
    pub(super) next: SequenceNumber,
    /// Something is still outstanding.
    pub(super) is_something_left: bool,
    /// There is something new that the peer's window admits.
    pub(super) can_send_new: bool,
}

impl Recovery {
    pub(super) fn new(now: Instant, initial: SequenceNumber) -> Recovery {
        Recovery {
            phase: Phase::Open,
            episode: None,
            rack: Rack::new(initial),
            loss_probes: LossProbes::default(),
            duplicates: 0,
            recover: initial,
            last_advance: 0,
            forced: false,
            timeouts: 0,
            retransmitted: 0,
            resent_bytes: 0,
            lost: 0,
            undone: 0,
            peer_reports_duplicates: false,
            restarts_timer: false,
            probe_is_next: false,
            judges_at: None,
            expires_at: None,
            stalled_since: now,
            probes: 0,
            probes_unanswered: 0,
            counts_duplicates: false,
        }
    }

    /// Whether it remembers nothing but that a round trip was measured.
    pub(super) fn is_as_new(&self) -> bool {
        let has_acted = self.retransmitted > 0 || self.lost > 0 || self.undone > 0 || self.timeouts > 0 || self.probes > 0;
        let waits = self.forced || self.duplicates > 0 || self.judges_at.is_some() || self.expires_at.is_some();
        let is_open = self.phase == Phase::Open && self.episode.is_none();
        let knows = self.peer_reports_duplicates || !self.rack.is_as_new() || !self.loss_probes.is_unused();
        is_open && !has_acted && !waits && !knows
    }

    /// As new behind `next`, where a round trip was measured.
    pub(super) fn resumed(now: Instant, next: SequenceNumber) -> Recovery {
        let mut recovery = Recovery::new(now, next);
        recovery.loss_probes.measured();
        recovery
    }

    /// Bytes that duplicate acknowledgements say have left the network, when there is no SACK to say it: what RFC 6582 inflates the window by.
    pub(super) fn left_network(&self, segment_size: usize) -> usize {
        if self.counts_duplicates { self.duplicates.saturating_mul(segment_size) } else { 0 }
    }

    /// R1 (RFC 9293 §3.8.3): so many timeouts in a row cast doubt on the path.
    pub(super) fn doubts_path(&self) -> bool {
        self.timeouts >= RETRANSMISSIONS_BEFORE_DOUBT
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Lets one segment go whatever the congestion window says.
    pub(super) fn force_one(&mut self) {
        self.forced = true;
    }

    /// No loss is known.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Nothing was lost or probed for lately, as far as acknowledgements may still tell.
    pub(super) fn is_undisturbed(&self) -> bool {
        self.phase == Phase::Open && self.episode.is_none() && !self.loss_probes.is_outstanding()
    }

    /// Whether the congestion window is frozen.
    pub(super) fn is_fast(&self) -> bool {
        matches!(self.phase, Phase::Fast(_))
    }

    /// What the next timeout is to congestion control.
    fn next_timeout(&self) -> Timeout {
        match (self.timeouts, self.is_fast()) {
            (0, false) => Timeout::First,
            (0, true) => Timeout::InRecovery,
            _ => Timeout::Again,
        }
    }

    /// How much fast recovery admits.
    pub(super) fn rate(&self) -> Option<&RateReduction> {
        self.episode.as_ref().filter(|_| self.is_fast())?.rate.as_ref()
    }

    /// Whether F-RTO wants to see what comes of new data before more is sent again (RFC 5682 §2.1 step 2b).
    pub(super) fn prefers_new(&self) -> bool {
        self.episode.as_ref().is_some_and(|episode| matches!(episode.forward, Some(ForwardStep::Three(_))))
    }

    /// There is nothing new after all.
    pub(super) fn stop_preferring_new(&mut self) {
        if let Some(episode) = &mut self.episode {
            episode.forward = None;
        }
    }

    /// Why data is being sent again.
    pub(super) fn cause(&self) -> &'static str {
        match self.phase {
            Phase::Open => "path or window changed",
            Phase::Fast(_) => "fast retransmission",
            Phase::Timeout(_) => "retransmission timeout",
        }
    }

    pub(super) fn note_probe(&mut self) {
        self.probes = self.probes.saturating_add(1);
        self.probes_unanswered = self.probes_unanswered.saturating_add(1);
    }

    /// So many bytes were sent, new or again.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(rate) = self.episode.as_mut().and_then(|episode| episode.rate.as_mut()) {
            rate.sent(bytes);
        }
    }

    /// `start..end` was sent again, as so many segments, with this timestamp.
    pub(super) fn sent_again(&mut self, start: SequenceNumber, end: SequenceNumber, segments: usize, timestamp: u32) {
        self.forced = false;
        self.retransmitted += segments as u64;
        if let Some(episode) = self.episode.as_mut().filter(|episode| episode.ends_behind.is_none()) {
            episode.sent_again(start, end, timestamp);
        }
    }

    fn end_of_phase(&self) -> Option<SequenceNumber> {
        match self.phase {
            Phase::Open => None,
            Phase::Fast(end) | Phase::Timeout(end) => Some(end),
        }
    }

    fn begin(&mut self, phase: Phase, episode: Episode) {
        self.phase = phase;
        self.episode = Some(Box::new(episode));
        self.loss_probes.reset();
        self.restarts_timer = true;
    }

    /// "recover" follows what is acknowledged, lest it seem to lie ahead once the numbers have gone half way round.
    fn note_advance(&mut self, told: &Told) {
        self.last_advance = told.advanced;
        if told.unacknowledged.after(self.recover) {
            self.recover = told.unacknowledged - 1;
        }
    }

    /// What RFC 6582 §3.2 step 3 deflates by: segments that a partial acknowledgement covers no longer count as having left the network, but for one. Gives the
    /// bytes that are news: RFC 9937 §6.2 counts "the change in SND.UNA minus one SMSS for each preceding duplicate".
    fn deflate(&mut self, advanced: usize, segment_size: usize) -> usize {
        let covered = (advanced / segment_size.max(1)).saturating_sub(1);
        let counted = if self.is_fast() { covered.min(self.duplicates) } else { self.duplicates };
        self.duplicates -= counted;
        advanced.saturating_sub(counted.saturating_mul(segment_size))
    }
}

impl Connection {
    /// Moves recovery along after an acknowledgement has been entered in the scoreboard. Says whether congestion control has been put back, for then its window does
    /// not grow (RFC 4015 §3.4).
    pub(super) fn recover(&mut self, cx: &mut Context<'_>, told: &Told) -> bool {
        let delivered = self.count_delivered(cx.now, told);
        if let Some(episode) = self.recovery.episode.as_mut() {
            episode.is_marked |= told.is_marked;
        }
        let is_spurious = self.take_report(told) || self.is_recovery_spurious(told);
        if is_spurious {
            self.undo(cx);
        }
        let is_repaired = self.recovery.loss_probes.acknowledged(told);
        let is_over = self.end_phase(told);
        let found = self.find_losses(cx.now, told);
        if (found > 0 || (is_over && self.send.scoreboard.lost() > 0)) && self.recovery.phase == Phase::Open {
            self.enter_fast_recovery(cx, delivered, told.advanced);
        } else if is_repaired && self.recovery.phase == Phase::Open {
            // RFC 8985 §7.4.2: a loss all the same.
            self.congestion_is_told(cx.now, self.send.flight_size());
        }
        self.reduce_rate(delivered, told.advanced > 0 && found == 0);
        is_spurious
    }

    /// Bytes that this acknowledgement says have left the network: DeliveredData of RFC 9937 §6.2.
    fn count_delivered(&mut self, now: Instant, told: &Told) -> usize {
        let size = self.send.segment_size;
        self.recovery.counts_duplicates = !self.agreement.sack;
        let mut delivered = told.delivered;
        if told.advanced > 0 {
            let news = self.recovery.deflate(told.advanced, size);
            delivered = if self.agreement.sack { delivered } else { news };
            self.recovery.note_advance(told);
            self.recovery.timeouts = 0;
            self.recovery.stalled_since = now;
            self.recovery.restarts_timer = true;
            self.recovery.probe_is_next = true;
        } else if told.is_duplicate && !self.agreement.sack {
            delivered = size;
        }
        if told.is_duplicate {
            let bound = self.send.flight_size() / size.max(1) + 1;
            self.recovery.duplicates = (self.recovery.duplicates + 1).min(bound);
        }
        delivered
    }

    /// The peer received something twice (RFC 2883): RACK's window was too narrow (RFC 8985 §6.2 step 4). If that is so of everything that was
    /// sent again, nothing was lost (RFC 3708 §3).
    fn take_report(&mut self, told: &Told) -> bool {
        let Some(block) = told.report else { return false };
        self.recovery.peer_reports_duplicates = true;
        self.recovery.rack.duplicate_reported(told.unacknowledged, told.next);
        self.recovery.episode.as_mut().is_some_and(|episode| episode.reported(block))
    }

    fn is_recovery_spurious(&mut self, told: &Told) -> bool {
        let Some(episode) = self.recovery.episode.as_mut().filter(|episode| episode.ends_behind.is_none()) else { return false };
        let by_timestamp = episode.is_echo_older(told, self.recovery.peer_reports_duplicates);
        by_timestamp || episode.judge_timeout(told, self.agreement.sack) == Verdict::Spurious
    }

    /// Nothing was lost: what was to be sent again is on its way, and congestion control is as it was (RFC 4015 §3.1 steps 8 to 11).
    fn undo(&mut self, cx: &mut Context<'_>) {
        let Some(episode) = self.recovery.episode.take() else { return };
        cx.out.counters().transport.recoveries_undone.increment();
        self.recovery.undone += 1;
        self.recovery.duplicates = 0;
        self.recovery.forced = false;
        if self.recovery.phase != Phase::Open {
            self.send.scoreboard.nothing_is_lost();
            self.recovery.phase = Phase::Open;
            self.recovery.rack.recovery_ended();
        }
        if episode.is_timeout {
            self.round_trip.timeout_was_spurious();
            self.send.last_sent = cx.now;
        } else {
            self.recovery.rack.recovery_was_spurious();
        }
        // RFC 4015 §3.4: "In that case, the TCP sender MUST refrain from reversing congestion control state".
        let is_reversed = !episode.is_marked && episode.before.name() == self.congestion.name();
        if is_reversed && episode.before.window() > self.congestion.window() {
            self.congestion = episode.before;
            self.congestion.set_segment_size(self.send.segment_size);
        }
    }

    /// Whether the present recovery ends here. What it remembers is kept for another round trip, in which D-SACK may still tell that it was not needed.
    fn end_phase(&mut self, told: &Told) -> bool {
        let is_over = self.recovery.end_of_phase().is_some_and(|end| told.unacknowledged.after_or_equal(end));
        if is_over {
            if self.recovery.is_fast() {
                self.congestion.on_recovered(self.recovery.resent_bytes);
            }
            self.recovery.phase = Phase::Open;
            self.recovery.duplicates = 0;
            self.recovery.rack.recovery_ended();
        }
        if let Some(episode) = self.recovery.episode.as_mut().filter(|_| is_over) {
            (episode.rate, episode.forward, episode.ends_behind) = (None, None, Some(told.next));
        }
        let ends_behind = self.recovery.episode.as_ref().and_then(|episode| episode.ends_behind);
        if ends_behind.is_some_and(|end| told.unacknowledged.after(end)) {
            self.recovery.episode = None;
        }
        is_over
    }

    /// Says how many numbers were found lost: by RACK where there is SACK (RFC 8985 §4), else by the third duplicate, or by a partial acknowledgement,
    /// which says that the next segment is lost as well (RFC 6582 §3.2 step 3).
    fn find_losses(&mut self, now: Instant, told: &Told) -> usize {
        let found = if self.agreement.sack {
            self.judge_by_time(now)
        } else if self.recovery.is_fast() && told.advanced > 0 {
            self.next_is_lost()
        } else if self.recovery.phase == Phase::Open && self.recovery.duplicates >= DUPLICATE_THRESHOLD {
            self.third_duplicate()
        } else {
            0
        };
        self.note_lost(found);
        found
    }

    /// RFC 6582 §3.2 step 2: three duplicates mean loss if they acknowledge "more than recover"; else only if the acknowledgement before them was not that of
    /// several segments at once, for then they answer what was sent again for nothing (§4.1). Those are counted no further than limited transmit needs (RFC 3042).
    fn third_duplicate(&mut self) -> usize {
        let size = self.send.segment_size;
        let is_beyond = self.send.unacknowledged.after(self.recovery.recover);
        let is_hole = self.congestion.window() > size && self.recovery.last_advance <= DUPLICATE_REACH * size;
        if is_beyond || is_hole {
            return self.send.scoreboard.first_is_lost(size);
        }
        self.recovery.duplicates = DUPLICATE_THRESHOLD - 1;
        0
    }

    /// "retransmit the first unacknowledged segment", whatever the rate.
    fn next_is_lost(&mut self) -> usize {
        let found = self.send.scoreboard.first_is_lost(self.send.segment_size);
        if found > 0 {
            self.recovery.force_one();
        }
        found
    }

    fn note_lost(&mut self, bytes: usize) {
        self.recovery.lost += bytes.div_ceil(self.send.segment_size.max(1)) as u64;
    }

    fn judge_by_time(&mut self, now: Instant) -> usize {
        let window = self.recovery.rack.reordering_window(self.rack_surroundings());
        let judged = self.send.scoreboard.judge_by_time(&self.recovery.rack, window, now);
        self.recovery.judges_at = judged.wait_until;
        judged.lost
    }

    fn rack_surroundings(&self) -> Surroundings {
        Surroundings {
            is_recovering: self.recovery.phase != Phase::Open,
            delivered_segments: self.send.scoreboard.delivered_segments(),
            minimum_round_trip: self.round_trip.minimum(),
            smoothed_round_trip: self.round_trip.smoothed().unwrap_or_default(),
        }
    }

    /// RFC 5681 §3.2 steps 2 and 3, RFC 6675 §5 step 4, RFC 9937 §6.2. What limited transmit added does not count as having been in flight (RFC 5681
    /// §3.2): it is what exceeds the congestion window. RecoverFS is without what was delivered before.
    ///
    /// FlightSize is what it was before this acknowledgement, `advanced` included: three duplicates find the window full, but RACK may find a loss before
    /// what was just acknowledged has made room for more.
    fn enter_fast_recovery(&mut self, cx: &mut Context<'_>, delivered: usize, advanced: usize) {
        if self.only_probe_is_lost(cx) {
            return;
        }
        cx.out.counters().transport.fast_retransmits.increment();
        let outstanding = self.send.scoreboard.in_flight() + self.send.scoreboard.lost() + delivered;
        let flight = outstanding.saturating_sub(self.recovery.left_network(self.send.segment_size));
        let episode = Episode::fast(self.congestion.snapshot(), flight);
        self.recovery.begin(Phase::Fast(self.send.next), episode);
        self.recovery.recover = self.send.next;
        self.recovery.resent_bytes = 0;
        self.recovery.force_one();
        self.congestion_is_told(cx.now, (self.send.flight_size() + advanced).min(self.congestion.window()));
    }

    /// RFC 3168 §6.1.2: once for a window, whether it was marks or losses that told.
    fn congestion_is_told(&mut self, now: Instant, flight: usize) {
        if !self.ecn.is_answered(self.send.unacknowledged) {
            self.congestion.on_loss(now, flight);
            self.ecn.note_reduced(self.send.next);
        }
    }

    fn reduce_rate(&mut self, delivered: usize, is_safe: bool) {
        let segment_size = self.send.segment_size;
        let (in_flight, threshold) = (self.pipe(), self.congestion.threshold());
        if let Some(rate) = self.recovery.episode.as_mut().and_then(|episode| episode.rate.as_mut()) {
            rate.acknowledged(Delivery { delivered, in_flight, threshold, segment_size, is_safe });
        }
    }

    /// Bytes believed to be in the network.
    pub(super) fn pipe(&self) -> usize {
        self.send.scoreboard.in_flight().saturating_sub(self.recovery.left_network(self.send.segment_size))
    }

    /// The reordering timer expired (RFC 8985 §6.2 step 5): what was waited for is lost.
    pub(super) fn reordering_timeout(&mut self, cx: &mut Context<'_>) {
        let found = self.judge_by_time(cx.now);
        self.note_lost(found);
        if found > 0 && self.recovery.phase == Phase::Open {
            self.enter_fast_recovery(cx, 0, 0);
            self.reduce_rate(0, false);
        } else if found > 0 {
            self.recovery.force_one();
        }
    }

    /// The retransmission timer expired (RFC 6298 §5.4 to 5.7).
    pub(super) fn retransmission_timeout(&mut self, cx: &mut Context<'_>) {
        let retries = if self.state.is_opening() { cx.config.syn_retries } else { cx.config.data_retries };
        if self.recovery.timeouts >= retries || self.is_stalled_too_long(cx.now) {
            self.give_fast_open_up(cx);
            return self.give_up(cx);
        }
        cx.out.counters().transport.retransmission_timeouts.increment();
        let is_first = self.recovery.timeouts == 0;
        let which = self.recovery.next_timeout();
        self.recovery.timeouts += 1;
        self.recovery.restarts_timer = true;
        self.round_trip.back_off();
        if self.state.is_opening() {
            self.recovery.retransmitted += 1;
            return self.send_syn(cx);
        }
        if is_first {
            let episode = Episode::timeout(self.congestion.snapshot(), self.recovery.is_open());
            self.recovery.begin(Phase::Timeout(self.send.next), episode);
        }
        self.congestion.on_timeout(cx.now, self.send.flight_size(), which);
        self.ecn.note_reduced(self.send.next);
        self.lose_on_timeout(cx.now);
        self.recovery.phase = Phase::Timeout(self.send.next);
        self.recovery.recover = self.send.next;
        self.recovery.duplicates = 0;
        self.recovery.judges_at = None;
        self.recovery.force_one();
    }

    fn lose_on_timeout(&mut self, now: Instant) {
        let before = self.send.scoreboard.lost();
        if self.agreement.sack && self.round_trip.smoothed().is_some() {
            let window = self.recovery.rack.reordering_window(self.rack_surroundings());
            self.send.scoreboard.judge_on_timeout(&self.recovery.rack, window, self.send.segment_size, now);
        } else {
            self.send.scoreboard.all_is_lost();
        }
        self.note_lost(self.send.scoreboard.lost().saturating_sub(before));
    }

    fn is_stalled_too_long(&self, now: Instant) -> bool {
        self.options.user_timeout.is_some_and(|limit| now.since(self.recovery.stalled_since) >= limit)
    }

    /// R2, or the user timeout, is reached (RFC 9293 §3.8.3, §3.10.8): the last soft error says why, if there was one (RFC 1122 §4.2.3.9).
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>) {
        let failure = self.news.soft_failure().unwrap_or(Failure::TimedOut);
        self.fail(cx, failure);
    }
}
