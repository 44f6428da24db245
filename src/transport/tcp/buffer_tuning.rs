//! Buffers that grow with the path: dynamic right-sizing of the receive buffer, and a send buffer for two windows.
//!
//! Owns what is measured for it. Refuses to lower anything: what has been offered stays offered (RFC 9293 §3.8.6). A buffer that the program set is the
//! program's; and while the stack's memory is under pressure ([`Context::is_under_pressure`]), none grows.

use super::{Connection, Context};
use crate::time::{Duration, Instant};
use crate::transport::shared::SocketOptions;

/// Shorter round trips are not told apart: there, a millisecond's worth is little memory.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// Segments that a window should have beyond what was measured.
const SPARE_SEGMENTS: usize = 16;
/// By how much more than twice what was read the window grows, at most: a sender that doubles its rate in each round trip must not find a closed window before
/// what we offer reaches it.
const FASTEST: usize = 6;
/// On a near path a receive buffer starts with what it may grow to, divided by this.
const NEAR_START: usize = 8;

/// What the program read in a round trip (the idea of Fisk and Feng, "Dynamic right-sizing in TCP", 2001, as Linux has it).
#[derive(Copy, Clone, Debug)]
pub(super) struct Tuning {
    since: Instant,
    /// Bytes read since then.
    read: usize,
    /// The most that was read in one round trip.
    most: usize,
}

impl Tuning {
    pub(super) fn new(now: Instant) -> Tuning {
        Tuning { since: now, read: 0, most: 0 }
    }

    /// Takes what the program read; at the end of a round trip in which it was more than ever, gives the bytes that the buffer should have.
    fn take_read(&mut self, now: Instant, round_trip: Duration, bytes: usize, segment_size: usize) -> Option<usize> {
        self.read = self.read.saturating_add(bytes);
        if now.since(self.since) < round_trip.max(LEAST_INTERVAL) {
            return None;
        }
        self.since = now;
        let read = std::mem::take(&mut self.read);
        let before = self.most.max(1);
        self.most = self.most.max(read);
        let growth = read.saturating_sub(before);
        let ahead = growth.saturating_mul(4).checked_div(before).unwrap_or(usize::MAX).saturating_add(2).min(FASTEST);
        (growth > 0).then(|| read.saturating_mul(ahead).saturating_add(SPARE_SEGMENTS.saturating_mul(segment_size)))
    }
}

impl Connection {
    /// The round trip is known: a receive buffer that has not grown starts smaller on a near path. What is offered already stays so.
    pub(super) fn start_near(&mut self, cx: &mut Context<'_>) {
        if self.round_trip.is_near() && cx.near_peers.note(self.remote.ip(), cx.now) {
            cx.out.counters().transport.near_peers_evicted.increment();
        }
        self.learn_near(cx);
        let receive = &mut self.receive;
        if self.round_trip.is_near() && self.options.tunes_receive_buffer && receive.buffer == cx.config.receive_buffer {
            receive.buffer = receive.buffer.min((cx.config.near_buffer / NEAR_START).max(receive.window() as usize));
        }
    }

    /// What other connections to this peer have found.
    fn learn_near(&mut self, cx: &Context<'_>) {
        if !self.round_trip.is_near() && cx.near_peers.knows(self.remote.ip(), cx.now) {
            self.round_trip.set_near();
        }
    }

    /// The program has read `bytes` since the last look.
    pub(super) fn tune_receive_buffer(&mut self, cx: &Context<'_>, bytes: usize) {
        if bytes == 0 || !self.options.tunes_receive_buffer {
            return;
        }
        let round_trip = self.round_trip.smoothed().unwrap_or_default();
        let wanted = self.receive.tuning.take_read(cx.now, round_trip, bytes, self.receive.segment_size);
        let Some(wanted) = wanted else { return };
        self.learn_near(cx);
        let wanted = wanted.min(cx.config.receive_buffer_maximum).min(self.near_bound(cx));
        if wanted > self.receive.buffer && !cx.is_under_pressure() {
            self.receive.buffer = wanted;
        }
    }

    /// On a near path what was used is no measure: nothing is lost there, and what is sent faster than the peer reads only waits longer in its buffer. What
    /// comes in one round trip is what came in one batch, of other connections' data as well: each would grow with the turns that it got.
    fn near_bound(&self, cx: &Context<'_>) -> usize {
        if self.round_trip.is_near() { cx.near_share } else { usize::MAX }
    }

    /// What the send buffer should be: two congestion windows, as far as they are used.
    pub(super) fn tuned_send_buffer(&self, cx: &Context<'_>, options: &SocketOptions) -> usize {
        let present = options.send_buffer;
        if !options.tunes_send_buffer || cx.is_under_pressure() {
            return present;
        }
        let used = self.congestion.window().min(self.send.largest_flight.saturating_mul(2));
        used.saturating_mul(2).min(self.near_bound(cx)).min(cx.config.send_buffer_maximum).max(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_in_a_round_trip_sets_the_pace() {
        let mut tuning = Tuning::new(Instant::ZERO);
        let round_trip = Duration::from_millis(100);
        let mut read = |millis, bytes| tuning.take_read(Instant::from_millis(millis), round_trip, bytes, 1_000);
        assert_eq!(read(50, 10_000), None, "the round trip is not over");
        assert_eq!(read(100, 10_000), Some(6 * 20_000 + 16_000), "the first measurement");
        assert_eq!(read(200, 20_000), None, "no more than before");
        assert_eq!(read(300, 30_000), Some(4 * 30_000 + 16_000), "half as much again");
        assert_eq!(read(400, 31_000), Some(2 * 31_000 + 16_000));
        assert_eq!(read(500, 1_000), None);
    }
}
