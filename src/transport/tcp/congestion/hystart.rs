//! HyStart++ (RFC 9406): slow start that ends before the queue overflows, because the round-trip time rises.
//!
//! Owns the rounds, their least round-trip times, and the phase. Refuses to change a window: it says how fast one may grow.
//!
//! L, the most that one acknowledgement may add, is infinite, for what it lets go is paced (§4.3). Paths too short for pacing are the exception: one acknowledges a
//! whole super-segment there as well. Three deviations:
//!
//! - It is the least of every eight samples that is compared with the last round's, not that of the whole round so far. What goes at the beginning of a round finds
//!   the queue that the round before has left, and slow start sends faster than the path carries only behind that: the least of a round rises a round trip after the
//!   queue has begun to grow, and the window has doubled once more. A queue that is gone with the next eight was a burst, and the exit is taken back, as §4.2 has it.
//! - Conservative Slow Start does not grow beyond what the path was seen to carry ([`Capacity`]) until it is known that nothing of slow start's last window was lost:
//!   what slow start sends it sends in trains, and the last one stands in the queue then, higher than it would if it were spread over the round trip. Then a
//!   reserve is added, or what slow start was ahead of it is given back. Five rounds of a quarter more would be three windows, and where the delay has
//!   risen, the path is full with the first of them.
//! - An acknowledgement of many segments counts as many samples: as many as a receiver would have sent that
//!   merges nothing, one for every second segment (RFC 5681 §4.2). Else a round of super-segments, each acknowledged once, would rarely have eight.

use super::Acknowledged;
use super::capacity::Capacity;
use crate::time::Duration;
use crate::wire::SequenceNumber;

// §4.3.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: usize = 8;
const CSS_GROWTH_DIVISOR: usize = 4;
const CSS_ROUNDS: u8 = 5;
/// Rounds of Conservative Slow Start, the partial one included, after which all that was sent before it is acknowledged, or known to be lost.
const KNOWN_ROUNDS: u8 = 2;

/// The variables of §4.2.
#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    /// windowEnd.
    window_end: Option<SequenceNumber>,
    /// lastRoundMinRTT; `None` is infinity, as below.
    last_round: Option<Duration>,
    /// currentRoundMinRTT.
    current_round: Option<Duration>,
    /// The least of the samples that are counted.
    current: Option<Duration>,
    /// rttSampleCount.
    samples: usize,
    capacity: Capacity,
    /// Set in Conservative Slow Start.
    conservative: Option<Conservative>,
}

#[derive(Copy, Clone, Debug)]
struct Conservative {
    /// cssBaselineMinRtt.
    baseline: Duration,
    /// Rounds that ended in it.
    rounds: u8,
}

/// What an acknowledgement in slow start leads to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// The window grows by so many bytes.
    By(usize),
    /// By so many, and then slow start is over.
    Last(usize),
}

impl HyStart {
    /// Whether the delay has risen.
    pub(super) fn is_conservative(&self) -> bool {
        self.conservative.is_some()
    }

    /// Bytes in flight that fill the path and nothing of its queue, as far as was seen in slow start.
    pub(super) fn product(&self) -> Option<usize> {
        self.capacity.product()
    }

    /// How far Conservative Slow Start lets a window of `bytes` go: no further than the path carries, and later with a reserve in its queue.
    pub(super) fn ceiling(&self, bytes: usize) -> usize {
        let Some(css) = self.conservative else { return usize::MAX };
        let ceiling = match css.rounds {
            ..KNOWN_ROUNDS => self.capacity.product().map(|product| product.max(bytes)),
            _ => self.capacity.window(MIN_RTT_THRESH),
        };
        ceiling.unwrap_or(usize::MAX)
    }

    /// Takes an acknowledgement in slow start.
    pub(super) fn acknowledged(&mut self, acknowledged: &Acknowledged, segment_size: usize) -> Growth {
        let growth = match self.conservative {
            None => acknowledged.bytes,
            Some(_) => acknowledged.bytes / CSS_GROWTH_DIVISOR,
        };
        self.capacity.acknowledged(acknowledged);
        self.take_sample(acknowledged, segment_size);
        self.look_at_delay();
        if self.end_round(acknowledged) { Growth::Last(growth) } else { Growth::By(growth) }
    }

    fn take_sample(&mut self, acknowledged: &Acknowledged, segment_size: usize) {
        let Some(sample) = acknowledged.sample else { return };
        self.current_round = self.current_round.into_iter().chain([sample]).min();
        self.current = self.current.into_iter().chain([sample]).min();
        self.samples = self.samples.saturating_add((acknowledged.bytes / segment_size.max(1) / 2).max(1));
    }

    /// Enters Conservative Slow Start when the delay rises, and leaves it again when it falls.
    fn look_at_delay(&mut self) {
        let Some(current) = self.current.filter(|_| self.samples >= N_RTT_SAMPLE) else { return };
        self.forget_samples();
        match (self.conservative, self.last_round) {
            (Some(css), _) if current < css.baseline => self.conservative = None,
            (None, Some(last)) if current >= last + threshold(last) => {
                self.conservative = Some(Conservative { baseline: current, rounds: 0 });
            }
            _ => {}
        }
    }

    fn forget_samples(&mut self) {
        (self.current, self.samples) = (None, 0);
    }

    /// "When windowEnd is ACKed, the current round ends." Says whether that was the last round of Conservative Slow Start; one that was entered
    /// in the middle of a round counts that round.
    fn end_round(&mut self, acknowledged: &Acknowledged) -> bool {
        let end = *self.window_end.get_or_insert(acknowledged.next);
        if acknowledged.number.before(end) {
            return false;
        }
        self.window_end = Some(acknowledged.next);
        self.last_round = self.current_round.take();
        self.forget_samples();
        let Some(css) = &mut self.conservative else { return false };
        css.rounds += 1;
        css.rounds >= CSS_ROUNDS
    }
}

/// RttThresh.
fn threshold(last_round: Duration) -> Duration {
    (last_round / MIN_RTT_DIVISOR).min(MAX_RTT_THRESH).max(MIN_RTT_THRESH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const SEGMENT: usize = 1_000;

    /// A sender whose windows are ten segments, each acknowledged by itself.
    #[derive(Default)]
    struct Sender {
        start: HyStart,
        una: u32,
    }

    impl Sender {
        /// One round with these round-trip times in milliseconds; gives what each acknowledgement led to.
        fn round(&mut self, millis: impl IntoIterator<Item = u64>) -> Vec<Growth> {
            let next = SequenceNumber(self.una + 10_000);
            let mut growths = vec![];
            for millis in millis {
                self.una += 1_000;
                let number = SequenceNumber(self.una);
                let after = if number == next { next + 10_000 } else { next };
                let acknowledged = Acknowledged { number, next: after, ..Acknowledged::sample(1_000, Duration::from_millis(millis)) };
                growths.push(self.start.acknowledged(&acknowledged, SEGMENT));
            }
            growths
        }
    }

    /// A sender one of whose rounds is over.
    fn after_a_round_of(millis: u64) -> Sender {
        let mut sender = Sender::default();
        sender.start.window_end = Some(SequenceNumber(10_000));
        sender.round([millis; 10]);
        assert_eq!(sender.start.last_round, Some(Duration::from_millis(millis)));
        sender
    }

    #[test]
    fn the_threshold_is_an_eighth_between_4_and_16_ms() {
        for (last, expected) in [(8, 4), (32, 4), (80, 10), (128, 16), (800, 16)] {
            assert_eq!(threshold(Duration::from_millis(last)), Duration::from_millis(expected), "{last}");
        }
    }

    #[test]
    fn section_4_2_the_delay_has_to_rise_by_the_threshold_in_eight_samples() {
        let mut sender = after_a_round_of(40);
        sender.round([44; 10]);
        assert!(!sender.start.is_conservative(), "less than 40 + 5");
        let mut sender = after_a_round_of(40);
        sender.round([45; 7]);
        assert!(!sender.start.is_conservative(), "only seven samples");
        sender.round([45]);
        assert!(sender.start.is_conservative());
        assert_eq!(sender.start.conservative.unwrap().baseline, Duration::from_millis(45));
    }

    #[test]
    fn one_low_sample_of_eight_keeps_slow_start() {
        let mut sender = after_a_round_of(40);
        sender.round([80, 80, 41, 80, 80, 80, 80, 80, 80, 80]);
        assert!(!sender.start.is_conservative());
    }

    #[test]
    fn a_queue_that_grows_within_a_round_is_seen_in_it() {
        let mut sender = after_a_round_of(40);
        sender.start.window_end = Some(SequenceNumber(sender.una + 50_000));
        sender.round([40; 8]);
        assert!(!sender.start.is_conservative(), "the round begins with an empty queue");
        sender.round([46, 47, 48, 49, 50, 51, 52, 53]);
        assert_eq!(sender.start.conservative.map(|css| css.baseline), Some(Duration::from_millis(46)));
        sender.round([41; 8]);
        assert!(!sender.start.is_conservative(), "it was a burst");
    }

    #[test]
    fn conservative_slow_start_stays_within_what_the_path_carries() {
        let mut sender = after_a_round_of(40);
        assert_eq!(sender.start.ceiling(500_000), usize::MAX, "slow start has no bound");
        sender.start.capacity = Capacity::default();
        for millis in 0..50 {
            let now = Instant::from_millis(millis);
            sender.start.capacity.acknowledged(&Acknowledged { now, ..Acknowledged::sample(1_000, Duration::from_millis(40)) });
        }
        sender.round([60; 10]);
        assert_eq!([30_000, 500_000].map(|bytes| sender.start.ceiling(bytes)), [40_000, 500_000], "no further, and no less yet");
        sender.round([60; 10]);
        let carried = 40_000 * 10 / 7;
        let later = [30_000, 500_000].map(|bytes| sender.start.ceiling(bytes));
        assert_eq!(later, [carried; 2], "nothing was lost: it may take a reserve, and what is more is given back");
    }

    #[test]
    fn conservative_slow_start_grows_by_a_quarter_and_ends_after_five_rounds() {
        let mut sender = after_a_round_of(40);
        // The round in which it was entered counts.
        let growths = sender.round([60; 10]);
        assert_eq!(growths[8..], [Growth::By(250), Growth::By(250)]);
        for _ in 0..3 {
            assert_eq!(sender.round([60; 10]), [Growth::By(250); 10]);
        }
        assert_eq!(sender.round([60; 10])[9], Growth::Last(250));
    }

    #[test]
    fn a_spurious_exit_is_taken_back_when_the_delay_falls_below_the_baseline() {
        let mut sender = after_a_round_of(40);
        sender.round([60; 10]);
        assert!(sender.start.is_conservative());
        sender.round([59; 7]);
        assert!(sender.start.is_conservative(), "only seven samples");
        sender.round([59; 3]);
        assert!(!sender.start.is_conservative());
        assert_eq!(sender.round([59; 1]), [Growth::By(1_000)]);
    }

    #[test]
    fn a_merged_acknowledgement_counts_as_what_was_merged() {
        let mut sender = after_a_round_of(40);
        let merged = Acknowledged {
            number: SequenceNumber(sender.una + 16_000),
            next: SequenceNumber(sender.una + 90_000),
            ..Acknowledged::sample(16_000, Duration::from_millis(60))
        };
        sender.start.window_end = Some(SequenceNumber(sender.una + 90_000));
        sender.start.acknowledged(&merged, SEGMENT);
        assert!(sender.start.is_conservative());
    }
}
