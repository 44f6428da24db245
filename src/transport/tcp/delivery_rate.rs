//! How fast the path delivers: an estimate from each acknowledgement (draft-cheng-iccrg-delivery-rate-estimation-02).
//!
//! Owns what is counted for it, and the last estimate. Refuses to control anything: it is for whoever wants to know.
//!
//! What is sent carries a [`Stamp`]; when it is delivered, the rate is what was delivered since, over the longer of the times in which that was sent and
//! acknowledged. The longer one, because acknowledgements may arrive bunched, and never faster than the data was sent.

use crate::time::{Duration, Instant};

/// What a transmission remembers (§3.1.2), as differences: it is kept for each piece in flight.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// P.delivered, modulo 2^32.
    delivered: u32,
    /// P.sent_time - P.first_sent_time, in microseconds.
    send_elapsed_micros: u32,
    /// P.sent_time - P.delivered_time, in microseconds.
    since_delivery_micros: u32,
    /// P.is_app_limited.
    is_program_limited: bool,
}

/// A transmission that has been delivered.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) sent: Instant,
    pub(super) stamp: Stamp,
}

/// The variables of a connection (§3.1.1).
#[derive(Debug, Default)]
pub(super) struct DeliveryRate {
    /// C.delivered.
    delivered: u64,
    /// C.delivered_time.
    delivered_at: Instant,
    /// C.first_sent_time.
    first_sent: Instant,
    /// C.app_limited: until so much is delivered, samples show what the program sent, not what the path carries.
    program_limited_until: Option<u64>,
    bytes_per_second: u64,
    is_program_limited: bool,
}

/// What an idle connection remembers: nothing is in flight, so that the counts can begin anew.
#[derive(Copy, Clone, Debug)]
pub(super) struct RateAtRest {
    bytes_per_second: u64,
    is_program_limited: bool,
    will_be_program_limited: bool,
}

impl RateAtRest {
    pub(super) fn wake(self) -> DeliveryRate {
        DeliveryRate {
            program_limited_until: self.will_be_program_limited.then_some(0),
            bytes_per_second: self.bytes_per_second,
            is_program_limited: self.is_program_limited,
            ..DeliveryRate::default()
        }
    }
}

impl DeliveryRate {
    pub(super) fn at_rest(&self) -> RateAtRest {
        RateAtRest {
            bytes_per_second: self.bytes_per_second,
            is_program_limited: self.is_program_limited,
            will_be_program_limited: self.program_limited_until.is_some(),
        }
    }

    /// Something is sent now (§3.2, SendPacket). `is_idle`: nothing was in flight.
    pub(super) fn stamp(&mut self, now: Instant, is_idle: bool) -> Stamp {
        if is_idle {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered as u32,
            send_elapsed_micros: micros(now.since(self.first_sent)),
            since_delivery_micros: micros(now.since(self.delivered_at)),
            is_program_limited: self.program_limited_until.is_some(),
        }
    }

    /// An acknowledgement told of `bytes` more; `newest` is what was sent last of them (§3.3, UpdateRateSample and GenerateRateSample).
    pub(super) fn delivered(&mut self, bytes: usize, newest: Option<Stamped>, now: Instant, minimum_round_trip: Duration) {
        let Some(Stamped { sent, stamp }) = newest else { return };
        self.delivered = self.delivered.wrapping_add(bytes as u64);
        self.delivered_at = now;
        self.first_sent = sent;
        self.program_limited_until = self.program_limited_until.filter(|&until| self.delivered <= until);
        let acknowledged_in = now.since(sent) + Duration::from_micros(stamp.since_delivery_micros.into());
        let interval = acknowledged_in.max(Duration::from_micros(stamp.send_elapsed_micros.into()));
        let delivered = (self.delivered as u32).wrapping_sub(stamp.delivered);
        // §3.3: a shorter time than a round trip is one that retransmissions made up.
        if interval >= minimum_round_trip && !interval.is_zero() {
            self.take(rate(delivered, interval), stamp.is_program_limited);
        }
    }

    /// A sample for which the program did not send enough counts only if it is higher than what is known.
    fn take(&mut self, bytes_per_second: u64, is_program_limited: bool) {
        if !is_program_limited || bytes_per_second >= self.bytes_per_second {
            (self.bytes_per_second, self.is_program_limited) = (bytes_per_second, is_program_limited);
        }
    }

    /// The program has nothing more to send, although the window would admit it (§3.4). `in_flight` bytes are on their way.
    pub(super) fn program_limits(&mut self, in_flight: usize) {
        self.program_limited_until = Some(self.delivered.wrapping_add(in_flight as u64));
    }

    /// Bytes per second; zero before the first sample.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Whether the program sent less than the window admitted while that was measured: the path may carry more.
    pub(super) fn is_program_limited(&self) -> bool {
        self.is_program_limited
    }
}

fn rate(bytes: u32, interval: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1_000_000_000 / interval.as_nanos().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Sends 1000 bytes each 10 ms; each is acknowledged a round trip later, but acknowledgements leave the path in pairs.
    #[test]
    fn a_steady_stream_shows_its_rate_although_acknowledgements_are_bunched() {
        let mut rate = DeliveryRate::default();
        let mut sent = std::collections::VecDeque::new();
        for turn in 0..60 {
            if turn >= 10 && turn % 2 == 1 {
                let pair = [sent.pop_front(), sent.pop_front()];
                rate.delivered(2_000, pair[1], at(turn * 10), ROUND_TRIP);
            }
            sent.push_back(Stamped { sent: at(turn * 10), stamp: rate.stamp(at(turn * 10), sent.is_empty()) });
        }
        let reached = rate.bytes_per_second();
        assert!((85_000..=105_000).contains(&reached), "{reached}");
        assert!(!rate.is_program_limited());
    }

    #[test]
    fn a_sample_of_a_program_that_sends_little_lowers_nothing() {
        let mut rate = DeliveryRate::default();
        let mut exchange = |bytes, now, is_limited: bool| {
            let stamped = Stamped { sent: at(now), stamp: rate.stamp(at(now), true) };
            rate.delivered(bytes, Some(stamped), at(now + 100), ROUND_TRIP);
            if is_limited {
                rate.program_limits(0);
            }
            (rate.bytes_per_second(), rate.is_program_limited())
        };
        assert_eq!(exchange(50_000, 0, true), (500_000, false));
        assert_eq!(exchange(100, 1_000, true), (500_000, false), "says nothing of the path");
        assert_eq!(exchange(90_000, 2_000, false), (900_000, true), "the path carries that at least");
        assert_eq!(exchange(100, 3_000, false), (1_000, false), "the window was all that held us");
    }

    #[test]
    fn what_comes_sooner_than_a_round_trip_is_no_sample() {
        let mut rate = DeliveryRate::default();
        let stamped = Stamped { sent: at(0), stamp: rate.stamp(at(0), true) };
        rate.delivered(1_000, Some(stamped), at(50), ROUND_TRIP);
        assert_eq!(rate.bytes_per_second(), 0);
        rate.delivered(1_000, None, at(200), ROUND_TRIP);
        assert_eq!(rate.bytes_per_second(), 0, "nothing new was delivered");
    }
}
