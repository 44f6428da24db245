//! Round-trip time and retransmission timeout (RFC 6298), in nanoseconds.
//!
//! Owns SRTT, RTTVAR, RTO and its backoff. Refuses to decide which acknowledgement makes a sample (Karn's rule is the scoreboard's business).

use crate::config::TcpConfig;
use crate::time::{Duration, Instant};

/// The estimator. It reckons in plain nanoseconds, for it does so with every segment.
#[derive(Clone, Debug)]
pub(super) struct RoundTrip {
    estimate: Option<Estimate>,
    initial: Duration,
    minimum: Duration,
    maximum: Duration,
    backoff: u32,
    /// The last timeout came too early, and the next sample is to say so (RFC 4015 §3.1, step 11).
    is_cautious: bool,
    least: Least,
    is_near: bool,
}

/// What an idle connection remembers of it, in nanoseconds; [`NONE`] for what was never measured.
#[derive(Copy, Clone, Debug)]
pub(super) struct RoundTripAtRest {
    smoothed: u64,
    variation: u64,
    least: [u64; 2],
    least_since: Instant,
    backoff: u8,
    is_cautious: bool,
    is_near: bool,
}

/// Stands for no measurement.
const NONE: u64 = u64::MAX;

/// The shortest round trip of the last five minutes or so: RACK.min_RTT of RFC 8985 §6.2 step 1, "a windowed min-filtered estimate".
#[derive(Copy, Clone, Debug, Default)]
struct Least {
    /// Of the present half of the window.
    present: Option<Duration>,
    /// Of the half before.
    past: Option<Duration>,
    /// When the present half began.
    since: Instant,
}

impl Least {
    /// Half of the window (Linux: 300 s in all).
    const HALF: Duration = Duration::from_secs(150);

    fn sample(&mut self, measured: Duration, now: Instant) {
        if now.since(self.since) >= Least::HALF {
            (self.past, self.present, self.since) = (self.present.take(), None, now);
        }
        self.present = Some(self.present.map_or(measured, |present| present.min(measured)));
    }

    fn get(&self) -> Option<Duration> {
        self.present.into_iter().chain(self.past).min()
    }
}

/// In nanoseconds.
#[derive(Copy, Clone, Debug)]
struct Estimate {
    smoothed: u64,
    variation: u64,
}

/// A path with a shorter round trip, when nothing waits on it, is near.
const NEAR: Duration = Duration::from_millis(1);
/// What RFC 6298 §5.7 puts in place of an initial timeout that turned out too short for the SYN.
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);

impl RoundTrip {
    pub(super) fn new(config: &TcpConfig) -> RoundTrip {
        RoundTrip {
            estimate: None,
            initial: config.initial_retransmission_timeout,
            minimum: config.minimum_retransmission_timeout,
            maximum: config.maximum_retransmission_timeout,
            backoff: 0,
            is_cautious: false,
            least: Least::default(),
            is_near: false,
        }
    }

    /// Whether there ever was a measurement.
    pub(super) fn is_measured(&self) -> bool {
        self.estimate.is_some()
    }

    /// What there is to remember while the connection is idle, once there was a measurement.
    pub(super) fn at_rest(&self) -> RoundTripAtRest {
        RoundTripAtRest {
            smoothed: self.estimate.map_or(NONE, |estimate| estimate.smoothed),
            variation: self.estimate.map_or(0, |estimate| estimate.variation),
            least: [self.least.present, self.least.past].map(|least| least.map_or(NONE, nanos)),
            least_since: self.least.since,
            backoff: self.backoff as u8,
            is_cautious: self.is_cautious,
            is_near: self.is_near,
        }
    }

    /// The estimator as it was.
    pub(super) fn resumed(config: &TcpConfig, rested: RoundTripAtRest) -> RoundTrip {
        let duration = |nanos: u64| (nanos != NONE).then_some(Duration::from_nanos(nanos));
        let [present, past] = rested.least.map(duration);
        let estimate = Estimate { smoothed: rested.smoothed, variation: rested.variation };
        RoundTrip {
            estimate: (rested.smoothed != NONE).then_some(estimate),
            backoff: rested.backoff.into(),
            is_cautious: rested.is_cautious,
            least: Least { present, past, since: rested.least_since },
            is_near: rested.is_near,
            ..RoundTrip::new(config)
        }
    }

    /// Takes one measurement (RFC 6298 §2.2, §2.3). Each counts an eighth, however many come in one round trip (Linux does the same; RFC 7323
    /// §4.2 asks for less): super-segments make them few, and the floor of the variation keeps the timeout from sinking too low.
    pub(super) fn sample(&mut self, measured: Duration, now: Instant) {
        self.backoff = 0;
        self.least.sample(measured, now);
        self.is_near |= measured < NEAR;
        let is_cautious = std::mem::take(&mut self.is_cautious);
        let measured = nanos(measured);
        let Some(old) = self.estimate else {
            self.estimate = Some(Estimate { smoothed: measured, variation: measured / 2 });
            return;
        };
        let variation = approach::<4>(old.variation, old.smoothed.abs_diff(measured));
        let smoothed = approach::<8>(old.smoothed, measured);
        self.estimate = Some(Estimate { smoothed, variation });
        if is_cautious {
            let (smoothed, variation) = (old.smoothed.max(measured), old.variation.max(measured / 2));
            self.estimate = Some(Estimate { smoothed, variation });
        }
    }

    /// The timeout, backoff included. RFC 6298 §2.3: SRTT + max(G, 4 * RTTVAR). The variation's floor is the lowest timeout, as in Linux: on a
    /// path of constant delay the RFC's formula would sink below the peer's delayed acknowledgement.
    pub(super) fn timeout(&self) -> Duration {
        self.backed_off(self.backoff)
    }

    /// The timeout after `times` doublings.
    pub(super) fn backed_off(&self, times: u32) -> Duration {
        let minimum = nanos(self.minimum);
        let base = match self.estimate {
            Some(estimate) => estimate.smoothed.saturating_add(estimate.variation.saturating_mul(4).max(minimum)),
            None => nanos(self.initial),
        };
        let doubled = base.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX));
        Duration::from_nanos(doubled.clamp(minimum, nanos(self.maximum).max(minimum)))
    }

    /// Doubles the timeout (RFC 6298 §5.5). It stays so until the next sample (Karn).
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1).min(31);
    }

    /// The last timeout was spurious: it is taken back, and the next sample counts whole (RFC 4015 §3.1, step 11).
    pub(super) fn timeout_was_spurious(&mut self) {
        self.backoff = 0;
        self.is_cautious = true;
    }

    /// The shortest round trip lately; zero before the first sample.
    pub(super) fn minimum(&self) -> Duration {
        self.least.get().unwrap_or_default()
    }

    /// Whether a round trip ever took less than a millisecond: a longer one is time in queues then.
    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// The path is known to be one.
    pub(super) fn set_near(&mut self) {
        self.is_near = true;
    }

    /// RFC 6298 §5.7: the SYN had to be sent again, so data starts with 3 s.
    pub(super) fn handshake_was_retransmitted(&mut self) {
        self.initial = self.initial.max(AFTER_LOST_SYN);
        self.backoff = 0;
    }

    /// SRTT; `None` before the first sample.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.estimate.map(|estimate| Duration::from_nanos(estimate.smoothed))
    }

    /// RTTVAR.
    pub(super) fn variation(&self) -> Duration {
        self.estimate.map_or(Duration::ZERO, |estimate| Duration::from_nanos(estimate.variation))
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// `old` moved one `PARTS`th of the way to `new`.
fn approach<const PARTS: u64>(old: u64, new: u64) -> u64 {
    let step = old.abs_diff(new) / PARTS;
    if new > old { old + step } else { old - step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimator() -> RoundTrip {
        RoundTrip::new(&TcpConfig::default())
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn numbers_of_rfc_6298_section_2() {
        let mut rtt = estimator();
        assert_eq!(rtt.timeout(), millis(1_000)); // 2.1
        rtt.sample(millis(800), Instant::ZERO);
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.timeout()), (Some(millis(800)), millis(400), millis(2_400))); // 2.2
        rtt.sample(millis(400), Instant::ZERO);
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.timeout()), (Some(millis(750)), millis(400), millis(2_350))); // 2.3
    }

    #[test]
    fn the_timeout_doubles_up_to_the_maximum_until_a_sample() {
        let mut rtt = estimator();
        rtt.back_off();
        assert_eq!(rtt.timeout(), millis(2_000));
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(), millis(60_000)); // 2.5
        rtt.sample(millis(100), Instant::ZERO);
        assert_eq!(rtt.timeout(), millis(300));
    }

    #[test]
    fn tiny_round_trips_keep_their_precision_and_the_floor() {
        let mut rtt = estimator();
        (0..1_000).for_each(|_| rtt.sample(Duration::from_nanos(30_001), Instant::ZERO));
        assert_eq!(rtt.smoothed(), Some(Duration::from_nanos(30_001)));
        assert_eq!(rtt.timeout(), millis(200) + Duration::from_nanos(30_001));
    }

    #[test]
    fn a_lost_syn_raises_the_first_timeout() {
        let mut rtt = estimator();
        rtt.back_off();
        rtt.handshake_was_retransmitted();
        assert_eq!(rtt.timeout(), millis(3_000));
    }

    #[test]
    fn a_near_path_stays_near_through_queues_and_rest() {
        let mut rtt = estimator();
        assert!(!rtt.is_near());
        rtt.sample(Duration::from_micros(999), Instant::ZERO);
        (1..=2_000).for_each(|second| rtt.sample(millis(20), Instant::from_secs(second)));
        let resumed = RoundTrip::resumed(&TcpConfig::default(), rtt.at_rest());
        assert!(rtt.is_near() && resumed.is_near() && rtt.minimum() == millis(20));
    }
}
