//! What the program, or the stack, asks of a connection: marks, CLOSE, ABORT (RFC 9293 §3.10.3 to §3.10.5), and its end by failure.

use super::receive_side::Due;
use super::timers::Timer;
use super::{Connection, Context, State, congestion};
use crate::transport::shared::{Failure, Mark, MarkSet, NoRoom};

impl Connection {
    /// Looks at what the program marked. What it wrote, and what its reading allows, is taken up by [`Connection::end_batch`].
    pub fn marked(&mut self, cx: &mut Context<'_>, marks: MarkSet) {
        self.news.is_wanted |= [Mark::Send, Mark::Window, Mark::CloseWrite, Mark::CloseRead].into_iter().any(|mark| marks.has(mark));
        if marks.has(Mark::Options) {
            self.news.is_wanted = true;
            self.news.options_changed = true;
        }
        if marks.has(Mark::Room) && self.blocked == Some(NoRoom::Socket) {
            self.blocked = None;
        }
        if marks.has(Mark::Released) && !self.is_released {
            self.released(cx);
        }
    }

    /// The last handle is gone. With unread data, or a linger time of zero, the peer gets a RST: it must not believe that all was read (RFC 1122
    /// §4.2.2.13). Else what was written is still sent, then FIN.
    fn released(&mut self, cx: &mut Context<'_>) {
        self.is_released = true;
        self.news.is_wanted = true;
        let (has_unread, linger) = {
            let state = self.shared.state.lock();
            (state.unread > 0, state.options.linger)
        };
        let has_unread = has_unread || self.receive.pending_bytes > 0;
        let is_hard = linger.is_some_and(|time| time.is_zero()) || has_unread;
        if is_hard && !self.state.is_over() {
            return self.abort(cx, Failure::Aborted);
        }
        if let Some(time) = linger.filter(|_| !self.state.is_over()) {
            self.timers.set(Timer::Linger, cx.now + time);
        }
        self.close(cx);
        if self.state == State::FinWait2 {
            self.limit_finish_wait(cx);
        }
    }

    /// The linger time is over: what the peer has not acknowledged is lost.
    pub(super) fn linger_timeout(&mut self, cx: &mut Context<'_>) {
        if self.send.has_unsent() || !self.send.scoreboard.is_empty() {
            self.abort(cx, Failure::TimedOut);
        }
    }

    /// CLOSE (§3.10.4): no more is taken from the program; FIN follows what it wrote, and so is `Connection::exchange`'s to add. Before the handshake there is
    /// nothing to close.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::SynSent => self.fail(cx, Failure::Aborted),
            state if state.is_over() => {}
            _ => self.news.closes(),
        }
        self.end_batch(cx);
    }

    /// ABORT (§3.10.5): a RST where the peer knows of the connection, then CLOSED. The program is told `failure`.
    pub fn abort(&mut self, cx: &mut Context<'_>, failure: Failure) {
        let peer_knows = matches!(
            self.state,
            State::SynReceived
                | State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
        );
        if peer_knows {
            cx.out.counters().transport.resets.increment();
            self.send_reset(cx);
        }
        self.fail(cx, failure);
    }

    /// The end, without a word to the peer. A connection that was over already does not fail.
    pub fn fail(&mut self, cx: &mut Context<'_>, failure: Failure) {
        if self.state == State::Closed {
            return;
        }
        if self.state != State::TimeWait {
            self.news.failed(failure);
        }
        self.enter(cx, State::Closed);
        self.exchange(cx);
        self.tell(cx);
    }

    /// An orphan does not wait for the peer's FIN for ever.
    pub(super) fn limit_finish_wait(&mut self, cx: &Context<'_>) {
        if self.is_released {
            self.timers.set_if_idle(Timer::FinWait2, cx.now + cx.config.fin_wait_2_timeout);
        }
    }

    /// Takes changed options into effect.
    pub(super) fn apply_options(&mut self, cx: &Context<'_>) {
        if self.wished_user_timeout != self.options.user_timeout {
            self.advertise_user_timeout();
        }
        self.wished_user_timeout = self.options.user_timeout;
        self.adapt_user_timeout(cx.config.user_timeout_limits);
        if !self.options.tunes_receive_buffer {
            self.receive.buffer = self.options.receive_buffer;
        }
        self.timers.cancel(Timer::Keepalive);
        self.recovery.restarts_timer |= self.options.user_timeout.is_some();
        if self.congestion.name() != self.options.congestion_control.name() {
            self.change_congestion_control(cx);
        }
        if self.options.quick_ack && matches!(self.receive.due, Due::Delayed | Due::Soon) {
            self.receive.owe(Due::Now);
        }
    }

    /// Another algorithm starts from its first window, which is safe whatever the path.
    fn change_congestion_control(&mut self, cx: &Context<'_>) {
        let segment_size = self.send.segment_size;
        let initial_segments = u32::try_from(self.congestion.window() / segment_size).unwrap_or(u32::MAX).clamp(1, 10);
        let non_validated_period = cx.config.congestion_window_validity;
        let settings = congestion::Settings { segment_size, initial_segments, non_validated_period };
        self.congestion = congestion::controller(self.options.congestion_control, &settings);
    }
}
