//! What a path carries, measured in slow start: how fast acknowledgements come at their fastest, and the shortest round trip.
//!
//! Owns both. Refuses to change a window: it says what one is good for.
//!
//! Slow start sends in trains with gaps between them, and a train that the bottleneck stretches comes back as fast as the bottleneck lets it pass. So the fastest
//! quarter of a round trip says what the path carries, as soon as the path is full for so long. Before, it says what was sent in a quarter of a round trip; of a
//! window that doubles, however evenly it goes, that and the reserve are nine tenths at least. So a path that is not full is not taken for one by more than that.

use super::Acknowledged;
use crate::time::{Duration, Instant};

/// Acknowledgements are counted for so many parts of the shortest round trip, each by itself.
const PARTS: u32 = 4;
/// A window of so much more than the path carries still fills it when CUBIC has reduced it (RFC 9438 §4.6: by 0.7).
const RESERVE: [u32; 2] = [10, 7];

/// The measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacity {
    /// The shortest round trip.
    round_trip: Option<Duration>,
    /// When the acknowledgement came behind which those that follow are counted.
    since: Option<Instant>,
    /// What they acknowledged.
    bytes: usize,
    /// The fastest part, in bytes per second; zero before the first.
    rate: u64,
}

impl Capacity {
    /// Takes an acknowledgement.
    pub(super) fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        self.round_trip = self.round_trip.into_iter().chain(acknowledged.sample).min();
        let Some(part) = self.round_trip.map(|round_trip| round_trip / PARTS) else { return };
        let Some(since) = self.since else {
            self.since = Some(acknowledged.now);
            return;
        };
        if acknowledged.now.since(since) <= part {
            self.bytes = self.bytes.saturating_add(acknowledged.bytes);
            return;
        }
        let per_second = self.bytes as u128 * 1_000_000_000 / part.as_nanos().max(1);
        self.rate = self.rate.max(u64::try_from(per_second).unwrap_or(u64::MAX));
        (self.since, self.bytes) = (Some(acknowledged.now), 0);
    }

    /// Bytes in flight that fill the path and nothing of its queue. `None` before there was a measurement.
    pub(super) fn product(&self) -> Option<usize> {
        self.bytes_in(self.round_trip?)
    }

    /// Bytes in flight that fill the path with a reserve in its queue: of the round trip, and of `least` at least.
    pub(super) fn window(&self, least: Duration) -> Option<usize> {
        let round_trip = self.round_trip?;
        let [numerator, denominator] = RESERVE;
        self.bytes_in((round_trip * numerator / denominator).max(round_trip + least))
    }

    fn bytes_in(&self, time: Duration) -> Option<usize> {
        let bytes = u128::from(self.rate) * time.as_nanos() / 1_000_000_000;
        usize::try_from(bytes).ok().filter(|_| self.rate > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// What is measured of acknowledgements of so many bytes, at these times in milliseconds.
    fn measured(acknowledgements: impl IntoIterator<Item = (u64, usize)>) -> Capacity {
        let mut capacity = Capacity::default();
        for (millis, bytes) in acknowledgements {
            capacity.acknowledged(&Acknowledged { now: Instant::from_millis(millis), ..Acknowledged::sample(bytes, ROUND_TRIP) });
        }
        capacity
    }

    #[test]
    fn a_steady_stream_shows_its_rate() {
        let capacity = measured((0..100).map(|millis| (millis, 1_000)));
        assert_eq!(capacity.rate, 1_000_000);
        assert_eq!(capacity.product(), Some(40_000));
        assert_eq!(capacity.window(Duration::ZERO), Some(57_142), "ten sevenths of 40 kB");
        assert_eq!(capacity.window(ROUND_TRIP), Some(80_000));
    }

    #[test]
    fn trains_show_the_rate_within_them() {
        let train = |start: u64| (start..start + 15).map(|millis| (millis, 1_000));
        assert_eq!(measured(train(0).chain(train(40)).chain([(80, 1_000)])).rate, 1_000_000);
    }

    #[test]
    fn a_burst_counts_for_a_part_of_the_round_trip() {
        let burst = [(0, 1_000), (0, 1_000), (0, 1_000), (0, 1_000), (40, 1_000)];
        assert_eq!(measured(burst).rate, 300_000, "3,000 bytes in 10 ms: far more than a window of 4,000 in 40");
    }

    #[test]
    fn nothing_is_known_before_a_part_is_over() {
        assert_eq!(measured([(0, 1_000), (5, 1_000)]).window(ROUND_TRIP), None);
        let mut capacity = Capacity::default();
        capacity.acknowledged(&Acknowledged { sample: None, ..Acknowledged::sample(1_000, ROUND_TRIP) });
        assert_eq!(capacity.window(ROUND_TRIP), None);
    }
}
