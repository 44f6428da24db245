//! Congestion window validation (RFC 7661): whether the window has lately been used, and so says something of the path.
//!
//! Owns pipeACK, the amount acknowledged in a round trip, as its maximum over the sampling period; and since when the window is not validated.
//! Refuses to change a window. Replaces the restart after idleness of RFC 5681 §4.1 and RFC 2861: an unused window is kept for
//! the non-validated period, then halved. What is sent meanwhile is paced (§4.4.2), as all is.

use super::Acknowledged;
use crate::time::{Duration, Instant};
use crate::wire::SequenceNumber;

/// Parts of the sampling period, each with its own maximum (§4.5.1).
const PARTS: usize = 4;
/// §4.2: the sampling period is Max(3*RTT, 1 second).
const LEAST_PERIOD: Duration = Duration::from_secs(1);

/// The variables of §4.
#[derive(Clone, Debug)]
pub(super) struct Validation {
    /// The largest samples, part by part, the latest first; all `None`: pipeACK is undefined, or nothing was acknowledged for a period.
    parts: [Option<usize>; PARTS],
    /// When the latest part began.
    part_start: Instant,
    /// Whether there was a sample since the start or the last recovery.
    is_defined: bool,
    /// SND.NXT when the present round began; `None` while nothing is in flight.
    round_end: Option<SequenceNumber>,
    /// Bytes acknowledged in it.
    round_bytes: usize,
    /// Whether all that was acknowledged in it was sent while the window was the limit.
    is_limited: bool,
    /// The same of the round before.
    was_limited: bool,
    /// SRTT, as it was last.
    round_trip: Duration,
    /// Since when the window has not been validated.
    unused_since: Option<Instant>,
    /// NVP.
    period: Duration,
}

/// What an idle connection remembers of them.
#[derive(Copy, Clone, Debug)]
pub(super) struct AtRest {
    pipe: Option<u32>,
    part_start: Instant,
    unused_since: Option<Instant>,
}

impl Validation {
    /// The variables as they were; the parts of the sampling period are one, for they are about to be over.
    pub(super) fn resumed(period: Duration, rested: AtRest) -> Validation {
        let mut resumed = Validation::new(period);
        resumed.is_defined = rested.pipe.is_some();
        resumed.parts = [rested.pipe.map(|pipe| pipe as usize), None, None, None];
        (resumed.part_start, resumed.unused_since) = (rested.part_start, rested.unused_since);
        resumed
    }

    /// What there is to remember while nothing is in flight.
    pub(super) fn at_rest(&self) -> AtRest {
        let largest = self.parts.iter().flatten().max().copied().unwrap_or(0);
        let pipe = self.is_defined.then(|| u32::try_from(largest).unwrap_or(u32::MAX));
        AtRest { pipe, part_start: self.part_start, unused_since: self.unused_since }
    }

    /// §4.1: pipeACK is undefined. `period` is the non-validated period (§5: five minutes).
    pub(super) fn new(period: Duration) -> Validation {
        Validation {
            parts: [None; PARTS],
            part_start: Instant::ZERO,
            is_defined: false,
            round_end: None,
            round_bytes: 0,
            is_limited: false,
            was_limited: false,
            round_trip: Duration::ZERO,
            unused_since: None,
            period: period.max(Duration::from_secs(1)),
        }
    }

    /// Takes an acknowledgement outside of recovery: one sample for each round (§4.2).
    pub(super) fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        self.round_trip = acknowledged.round_trip;
        self.round_bytes = self.round_bytes.saturating_add(acknowledged.bytes);
        if self.round_end.is_none() {
            self.begin_round(acknowledged);
        }
        self.is_limited &= acknowledged.is_window_limited;
        if self.round_end.is_some_and(|end| acknowledged.number.before(end)) {
            return;
        }
        self.take_sample(acknowledged.now);
        if acknowledged.number.before(acknowledged.next) {
            self.begin_round(acknowledged);
        } else {
            (self.round_end, self.is_limited) = (None, false);
        }
    }

    fn begin_round(&mut self, acknowledged: &Acknowledged) {
        self.round_end = Some(acknowledged.next);
        (self.was_limited, self.is_limited) = (self.is_limited, true);
    }

    fn take_sample(&mut self, now: Instant) {
        let sample = std::mem::take(&mut self.round_bytes);
        self.expire(now);
        self.is_defined = true;
        let [latest, ..] = &mut self.parts;
        *latest = Some(latest.map_or(sample, |largest| largest.max(sample)));
    }

    /// Forgets the parts that lie before the sampling period.
    fn expire(&mut self, now: Instant) {
        let part = self.sampling_period() / PARTS as u32;
        if now.since(self.part_start) < part {
            return;
        }
        let passed = now.since(self.part_start).as_nanos() / part.as_nanos().max(1);
        for _ in 0..passed.min(PARTS as u128) {
            self.parts.rotate_right(1);
            let [latest, ..] = &mut self.parts;
            *latest = None;
        }
        if passed > 0 {
            self.part_start = now;
        }
    }

    /// pipeACK; `None` is the undefined value.
    fn pipe(&mut self, now: Instant) -> Option<usize> {
        if !self.is_defined {
            return None;
        }
        self.expire(now);
        Some(self.parts.iter().flatten().max().copied().unwrap_or(0))
    }

    /// pipeACK, if `window` is not validated by it (§4.3). A sender that has been limited by its window for a round and longer is no rate-limited one, whatever
    /// the samples say: they are a round old, and slow start, which "is permitted to double its FlightSize", is about at the half all the time.
    pub(super) fn unvalidated(&mut self, now: Instant, window: usize) -> Option<usize> {
        let is_limited = self.was_limited && self.is_limited;
        self.pipe(now).filter(|&pipe| !is_limited && pipe < window / 2)
    }

    /// Whether the window is validated. Notes since when it is not.
    pub(super) fn is_validated(&mut self, now: Instant, window: usize) -> bool {
        let last_sample = self.part_start;
        let is_validated = self.unvalidated(now, window).is_none();
        if is_validated {
            self.unused_since = None;
        } else {
            self.unused_since.get_or_insert((last_sample + self.sampling_period()).min(now));
        }
        is_validated
    }

    /// §4.4.3: how many non-validated periods have passed since the last call.
    pub(super) fn periods_over(&mut self, now: Instant) -> u32 {
        let Some(since) = &mut self.unused_since else { return 0 };
        let periods = now.since(*since).as_nanos() / self.period.as_nanos().max(1);
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        *since += self.period.saturating_mul(periods);
        periods
    }

    /// pipeACK is undefined again: after recovery (§4.4.1) and timeouts.
    pub(super) fn reset(&mut self) {
        *self = Validation::new(self.period);
    }

    fn sampling_period(&self) -> Duration {
        self.round_trip.saturating_mul(3).max(LEAST_PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn validation() -> Validation {
        Validation::new(Duration::from_secs(300))
    }

    /// Acknowledges `bytes` that were a whole round.
    fn round(validation: &mut Validation, now: Instant, una: &mut u32, bytes: u32) {
        *una += bytes;
        let number = SequenceNumber(*una);
        let whole = Acknowledged { now, number, next: number, ..Acknowledged::sample(bytes as usize, ROUND_TRIP) };
        validation.acknowledged(&whole);
    }

    #[test]
    fn section_4_1_it_is_undefined_at_first_and_that_validates() {
        let mut validation = validation();
        assert_eq!(validation.pipe(Instant::ZERO), None);
        assert!(validation.is_validated(Instant::ZERO, 1 << 30));
    }

    #[test]
    fn section_4_2_a_sample_is_what_a_round_trip_acknowledges() {
        let mut validation = validation();
        let ack = |number, next| Acknowledged {
            now: Instant::from_secs(1),
            number: SequenceNumber(number),
            next: SequenceNumber(next),
            ..Acknowledged::sample(1_000, ROUND_TRIP)
        };
        for number in 1..10 {
            validation.acknowledged(&ack(number * 1_000, 10_000 + number * 1_000));
        }
        assert_eq!(validation.pipe(Instant::from_secs(1)), None, "the round lasts");
        // The round began with the first acknowledgement, when SND.NXT was 11,000.
        validation.acknowledged(&ack(10_000, 20_000));
        validation.acknowledged(&ack(11_000, 20_000));
        assert_eq!(validation.pipe(Instant::from_secs(1)), Some(11_000));
    }

    #[test]
    fn section_4_5_1_the_largest_sample_of_the_sampling_period_counts() {
        let (mut validation, mut una) = (validation(), 0);
        let at = |millis: u64| Instant::from_millis(10_000 + millis);
        round(&mut validation, at(0), &mut una, 5_000);
        round(&mut validation, at(300), &mut una, 3_000);
        assert_eq!(validation.pipe(at(400)), Some(5_000));
        round(&mut validation, at(900), &mut una, 4_000);
        assert_eq!(validation.pipe(at(1_200)), Some(4_000), "the first is a second old");
        assert_eq!(validation.pipe(at(3_000)), Some(0), "nothing was acknowledged for a period");
    }

    #[test]
    fn section_4_3_half_a_window_validates() {
        let (mut validation, mut una) = (validation(), 0);
        let now = Instant::from_secs(9);
        round(&mut validation, now, &mut una, 5_000);
        assert!(validation.is_validated(now, 10_000));
        assert!(!validation.is_validated(now, 10_002));
    }

    #[test]
    fn section_4_3_slow_start_is_validated_in_the_midst_of_a_round_too() {
        let mut validation = validation();
        let now = Instant::from_secs(9);
        let ack = |number, next| Acknowledged {
            now,
            number: SequenceNumber(number),
            next: SequenceNumber(next),
            ..Acknowledged::sample(1_000, ROUND_TRIP)
        };
        // A round of ten segments, and then some of the next one, which has twenty.
        let rounds = |validation: &mut Validation, is_window_limited| {
            (1..=10).for_each(|segment| {
                validation.acknowledged(&Acknowledged { is_window_limited, ..ack(segment * 1_000, 10_000 + segment / 10 * 20_000) })
            });
            (11..=15).for_each(|segment| validation.acknowledged(&Acknowledged { is_window_limited, ..ack(segment * 1_000, 30_000) }));
        };
        rounds(&mut validation, true);
        assert!(validation.is_validated(now, 25_000), "the sample is of ten segments, but the window was the limit");
        let mut validation = Validation::new(Duration::from_secs(300));
        rounds(&mut validation, false);
        assert!(!validation.is_validated(now, 25_000));
    }

    #[test]
    fn section_4_2_the_sampling_period_is_three_round_trips_of_a_long_path() {
        let (mut validation, round_trip) = (validation(), Duration::from_millis(600));
        let number = SequenceNumber(5_000);
        let now = Instant::from_secs(9);
        validation.acknowledged(&Acknowledged { now, number, next: number, ..Acknowledged::sample(5_000, round_trip) });
        assert_eq!(validation.pipe(now + Duration::from_millis(1_700)), Some(5_000));
        assert_eq!(validation.pipe(now + Duration::from_millis(4_000)), Some(0));
    }

    #[test]
    fn section_4_4_3_whole_periods_without_validation_are_counted_once() {
        let (mut validation, mut una) = (validation(), 0);
        round(&mut validation, Instant::from_secs(9), &mut una, 5_000);
        assert!(!validation.is_validated(Instant::from_secs(1_000), 5_000));
        assert_eq!(validation.periods_over(Instant::from_secs(1_000)), 3);
        assert_eq!(validation.periods_over(Instant::from_secs(1_000)), 0);
        assert_eq!(validation.periods_over(Instant::from_secs(1_300)), 1);
        round(&mut validation, Instant::from_secs(1_301), &mut una, 5_000);
        assert!(validation.is_validated(Instant::from_secs(1_301), 5_000));
        assert_eq!(validation.periods_over(Instant::from_secs(9_000)), 0);
    }

    #[test]
    fn recovery_makes_it_undefined() {
        let (mut validation, mut una) = (validation(), 0);
        round(&mut validation, Instant::from_secs(9), &mut una, 5_000);
        validation.reset();
        assert_eq!(validation.pipe(Instant::from_secs(9)), None);
    }
}
