//! What is sent, and when: lost data first, then new data, within window, congestion window and the room on the way to the device; and the
//! timers that watch over it.

use super::emit::Cause;
use super::receive_side::Due;
use super::send_side::Allowance;
use super::timers::Timer;
use super::{Connection, Context, State};
use crate::time::{Duration, Instant};
use crate::transport::shared::Failure;

/// RFC 7765 §4: rrthresh, in segments.
const RESTART_THRESHOLD: usize = 4;

impl Connection {
    /// Sends all that may be sent now.
    pub(super) fn transmit(&mut self, cx: &mut Context<'_>) {
        if !self.state.is_synchronized() && !self.is_early() {
            return;
        }
        if self.recovery.prefers_new() {
            while self.may_go(cx.now) && self.send_new(cx) {}
            if !self.may_go(cx.now) || self.pipe() > 0 {
                return;
            }
            // Nothing would ever be acknowledged (RFC 5682 §2.2).
            self.recovery.stop_preferring_new();
        }
        while self.may_go(cx.now) && self.send_lost(cx) {}
        if self.send_path_probe(cx) {
            return;
        }
        while self.may_go(cx.now) && self.send_new(cx) {}
        self.note_limit(cx.now);
    }

    fn may_go(&self, now: Instant) -> bool {
        !self.is_blocked() && !self.is_paced(now)
    }

    /// Notes whether it is the congestion window that keeps us from sending (RFC 7661 §4.5.3): not the peer's, not the way to the device, not the program; or
    /// whether it is the program.
    fn note_limit(&mut self, now: Instant) {
        let wants = self.send.unsent().min(self.send.usable_window());
        if wants > 0 && !self.is_blocked() && self.is_limited_by_window(now, wants) {
            self.send.window_limited_at = self.send.next;
        } else if self.send.unsent() == 0 && self.send.scoreboard.lost() == 0 && self.congestion_room() > 0 {
            self.send.scoreboard.rate.program_limits(self.send.scoreboard.in_flight());
        }
    }

    /// The pace is the window's too: who is held back by it uses the window, if at least half of that is in flight.
    fn is_limited_by_window(&self, now: Instant, wants: usize) -> bool {
        let is_full = self.congestion_room() < wants.min(self.send.segment_size);
        is_full || (self.is_paced(now) && self.pipe() >= self.congestion.window() / 2)
    }

    /// Bytes that congestion control admits now; during fast recovery, rate reduction does.
    pub(super) fn congestion_room(&self) -> usize {
        match self.recovery.rate() {
            Some(rate) => rate.room(),
            None => self.congestion.window().saturating_sub(self.pipe()),
        }
    }

    /// Sends the first lost piece again (RFC 6675 §4, NextSeg rule 1). Right after a loss was found, one segment goes whatever the congestion
    /// window says (RFC 5681 §3.2 step 3, RFC 6675 §5 step 4.3).
    fn send_lost(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((start, end)) = self.send.scoreboard.next_lost() else { return false };
        let (segment_size, packet_limit) = self.payload_limits();
        let packet_limit = self.paced_limit(segment_size, packet_limit);
        let forced = if self.recovery.is_forced() { segment_size } else { 0 };
        let data_end = end.earliest(self.send.queue.end());
        let bytes = data_end.offset_from(start).max(0) as usize;
        let room = self.congestion_room().max(forced);
        let length = whole_segments(bytes.min(packet_limit), room, segment_size);
        let finish = end.after(data_end) && length == bytes;
        if length == 0 && !finish {
            return false;
        }
        self.send_data(cx, start, length, finish, Cause::Again(self.recovery.cause())) > 0
    }

    /// Sends new data, and the FIN behind the last of it.
    fn send_new(&mut self, cx: &mut Context<'_>) -> bool {
        if !(self.state.may_send() || self.is_early()) || !self.send.has_unsent() {
            return false;
        }
        self.revalidate_after_idleness(cx);
        let length = self.send.next_length(self.allowance());
        let start = self.send.next;
        let finish = self.state.may_send() && self.send.finish_follows(start + length as u32);
        (length > 0 || finish) && self.send_first_time(cx, length, finish) > 0
    }

    /// Sends numbers that were never sent; with the FIN among them the state changes (RFC 9293 §3.10.4).
    pub(super) fn send_first_time(&mut self, cx: &mut Context<'_>, length: usize, finish: bool) -> usize {
        if self.send.scoreboard.is_empty() {
            self.recovery.stalled_since = cx.now;
        }
        let sent = self.send_data(cx, self.send.next, length, finish, Cause::New);
        if sent > length {
            self.send.finish_sent = true;
            self.enter(cx, if self.state == State::CloseWait { State::LastAck } else { State::FinWait1 });
        }
        sent
    }

    pub(super) fn allowance(&self) -> Allowance {
        let (segment_size, packet_limit) = self.payload_limits();
        let packet_limit = self.paced_limit(segment_size, packet_limit);
        let packet_limit = if self.ecn.owes_reduced() { segment_size } else { packet_limit };
        Allowance { congestion_room: self.congestion_room(), segment_size, packet_limit, no_delay: self.options.no_delay }
    }

    /// A window that was not used for long says nothing of the network any more (RFC 7661 §4.4.3, in place of the restart of RFC 5681 §4.1).
    fn revalidate_after_idleness(&mut self, cx: &Context<'_>) {
        if self.send.scoreboard.is_empty() {
            self.congestion.before_sending(cx.now);
        }
    }

    /// Arms every timer that the present state asks for, and disarms what it does not.
    pub(super) fn arm_timers(&mut self, cx: &Context<'_>) {
        if self.state.is_over() {
            return;
        }
        self.arm_send_timers(cx.now);
        self.arm_pacing(cx);
        self.arm_delayed_acknowledgement(cx);
        self.arm_keepalive();
    }

    /// Something in flight: retransmission, or, while the window is closed, persist: a peer with a closed window is not a lossy path. Nothing in
    /// flight, but something to send that no lack of room holds back: the window is too small, so persist.
    fn arm_send_timers(&mut self, now: Instant) {
        let is_in_flight = !self.send.scoreboard.is_empty();
        let is_window_closed = self.state.is_synchronized() && self.send.window == 0;
        let waits_for_window = self.state.may_send() && self.send.has_unsent() && self.may_go(now);
        if is_in_flight && !is_window_closed {
            self.timers.cancel(Timer::Persist);
            self.arm_retransmission(now);
        } else if is_in_flight || waits_for_window {
            self.disarm_retransmission();
            self.timers.set_if_idle(Timer::Persist, now + self.persist_interval());
        } else {
            self.timers.cancel(Timer::Persist);
            self.disarm_retransmission();
        }
        self.recovery.restarts_timer = false;
        self.recovery.probe_is_next = false;
        self.held_since = self.timers.is_set(Timer::Persist).then(|| self.held_since.unwrap_or(now));
    }

    fn disarm_retransmission(&mut self) {
        self.recovery.expires_at = None;
        for timer in [Timer::Retransmission, Timer::LossProbe, Timer::Reordering] {
            self.timers.cancel(timer);
        }
    }

    /// The retransmission timer (RFC 6298 §5.1 and §5.3), or a loss probe in its place if that is sooner (RFC 8985 §7.2, §8); and the reordering
    /// timer, which is sooner than either.
    fn arm_retransmission(&mut self, now: Instant) {
        let kept = self.recovery.expires_at.filter(|_| !self.recovery.restarts_timer);
        let expiry = kept.unwrap_or_else(|| self.expiry(now));
        self.recovery.expires_at = Some(expiry);
        let begins = self.recovery.probe_is_next;
        let probe = self.probe_interval().and_then(|wait| if begins { Some(now + wait) } else { self.timers.get(Timer::LossProbe) });
        let (runs, rests, at) = match probe {
            Some(probe) => (Timer::LossProbe, Timer::Retransmission, probe.min(expiry)),
            None => (Timer::Retransmission, Timer::LossProbe, expiry),
        };
        self.timers.cancel(rests);
        self.timers.set(runs, at);
        match self.recovery.judges_at {
            Some(at) => self.timers.set(Timer::Reordering, at),
            None => self.timers.cancel(Timer::Reordering),
        }
    }

    /// A timeout from now; no later than the user timeout. While few segments are outstanding, and none is left to send, from the transmission of the
    /// earliest: no duplicate acknowledgements would tell of its loss before (RFC 7765 §4).
    fn expiry(&self, now: Instant) -> Instant {
        let timeout = self.round_trip.timeout();
        let outstanding = (self.send.flight_size() + self.send.unsent()).div_ceil(self.send.segment_size.max(1));
        let is_few = outstanding < RESTART_THRESHOLD && self.recovery.is_open() && !self.recovery.loss_probes.is_outstanding();
        let first = self.send.scoreboard.first_sent().filter(|&sent| is_few && now.since(sent) < timeout);
        let deadline = first.unwrap_or(now) + timeout;
        let last = self.options.user_timeout.map(|limit| (self.recovery.stalled_since + limit).max(now));
        last.map_or(deadline, |last| deadline.min(last))
    }

    /// RFC 9293 §3.8.6.1: the first probe after a retransmission timeout, then exponentially later.
    fn persist_interval(&self) -> Duration {
        self.round_trip.backed_off(self.recovery.probes)
    }

    fn arm_delayed_acknowledgement(&mut self, cx: &Context<'_>) {
        let delay = match self.receive.due {
            Due::Delayed => cx.config.delayed_acknowledgement,
            Due::Soon => cx.config.answer_time.min(cx.config.delayed_acknowledgement),
            Due::Not | Due::Now => return self.timers.cancel(Timer::DelayedAcknowledgement),
        };
        let at = self.timers.get(Timer::DelayedAcknowledgement).map_or(cx.now + delay, |at| at.min(cx.now + delay));
        self.timers.set(Timer::DelayedAcknowledgement, at);
    }

    fn arm_keepalive(&mut self) {
        match self.options.keepalive {
            Some(keepalive) if self.state.is_synchronized() => {
                self.timers.set_if_idle(Timer::Keepalive, self.last_heard + keepalive.idle);
            }
            _ => self.timers.cancel(Timer::Keepalive),
        }
    }

    /// A closed, or too small, window is probed with what is next in line: one byte at least, whatever the window (RFC 9293 §3.8.6.1). As long as
    /// the peer answers, this goes on for ever (MUST-37).
    pub(super) fn persist_timeout(&mut self, cx: &mut Context<'_>) {
        if self.recovery.probes_unanswered >= cx.config.data_retries || self.is_silent_too_long(cx.now) {
            return self.give_up(cx);
        }
        if self.is_held_too_long(cx) {
            cx.out.counters().transport.zero_windows_aborted.increment();
            return self.abort(cx, Failure::TimedOut);
        }
        let sent = if self.send.scoreboard.is_empty() {
            let length = self.send.usable_window().clamp(1, self.send.segment_size).min(self.send.unsent());
            self.send_first_time(cx, length, self.send.finish && length == 0)
        } else {
            let start = self.send.unacknowledged;
            let length = usize::from(start.before(self.send.queue.end()));
            self.send_data(cx, start, length, length == 0, Cause::Again("zero-window probe"))
        };
        if sent > 0 {
            self.recovery.note_probe();
        }
    }

    fn is_silent_too_long(&self, now: Instant) -> bool {
        self.options.user_timeout.is_some_and(|limit| now.since(self.last_heard) >= limit)
    }

    /// A peer that answers probes and never opens its window keeps our memory for nothing: a program may bound that, for an orphan nobody else can.
    fn is_held_too_long(&self, cx: &Context<'_>) -> bool {
        let orphans = Some(cx.config.orphan_zero_window_timeout).filter(|_| self.is_released);
        let limit = orphans.into_iter().chain(cx.config.zero_window_timeout).min();
        self.held_since.zip(limit).is_some_and(|(since, limit)| cx.now.since(since) >= limit)
    }

    /// RFC 9293 §3.8.4.
    pub(super) fn keepalive_timeout(&mut self, cx: &mut Context<'_>) {
        let Some(keepalive) = self.options.keepalive else { return };
        let idle_until = self.last_heard + keepalive.idle;
        if idle_until > cx.now || !self.send.scoreboard.is_empty() {
            let next = idle_until.max(cx.now + keepalive.interval.max(Duration::from_millis(1)));
            return self.timers.set(Timer::Keepalive, if idle_until > cx.now { idle_until } else { next });
        }
        if self.keepalive_probes >= keepalive.count || (self.keepalive_probes > 0 && self.is_silent_too_long(cx.now)) {
            return self.give_up(cx);
        }
        self.keepalive_probes += 1;
        self.send_keepalive(cx);
        self.timers.set(Timer::Keepalive, cx.now + keepalive.interval.max(Duration::from_millis(1)));
    }
}

/// As many of `bytes` as fit `room` in whole segments; all of them if they fit.
fn whole_segments(bytes: usize, room: usize, segment_size: usize) -> usize {
    if bytes <= room { bytes } else { room - room % segment_size.max(1) }
}
