//! One direction of an emulated link: what happens to a packet between two ends, and when it arrives.
//!
//! Owns the bottleneck's queue, the random draws and the packets in flight. Refuses to know clocks, threads and devices: the
//! simulation turns it by hand, the [virtual link](super) under a real clock. The same seed and the same packets at the same times give the same result.
//!
//! A packet meets, in this order: the bottleneck (rate, and a queue with tail drop), loss, corruption, delay, reordering, duplication.

use crate::packet::{Packet, Pool};
use crate::random::PublicRandom;
use crate::time::{Duration, Instant};
use crate::wire::EtherType;
use std::collections::BTreeMap;

/// What a link does to packets in one direction. The default does nothing: no loss, no delay, no limit.
///
/// Probabilities are between 0.0 (never) and 1.0 (always).
#[derive(Clone, Debug, PartialEq)]
pub struct Impairments {
    /// Probability that a packet is lost, each on its own.
    pub loss: f64,
    /// Losses in bursts, beside those.
    pub burst_loss: Option<BurstLoss>,
    /// Larger packets (frames on Ethernet) vanish without a word: a black hole, such as a hop whose ICMP errors are filtered makes it.
    pub largest_packet: Option<usize>,
    /// Time that every packet takes.
    pub delay: Duration,
    /// Up to this much more, evenly distributed. Packets do not overtake each other because of it.
    pub jitter: Duration,
    /// Probability that a packet is held back by `reordering_delay`, so that later ones overtake it.
    pub reordering: f64,
    /// By how much.
    pub reordering_delay: Duration,
    /// Probability that a packet arrives twice.
    pub duplication: f64,
    /// Probability that one bit of a packet is flipped. Frames that only Ethernet's frame check sequence protects (ARP) are lost instead, as
    /// they would be on a wire. Packets to be corrupted must carry complete checksums.
    pub corruption: f64,
    /// The bottleneck: bits per second.
    pub rate_bits_per_second: Option<u64>,
    /// Bytes that may wait for the bottleneck; a packet that would exceed them is lost, unless it is alone.
    pub queue_bytes: usize,
}

impl Default for Impairments {
    fn default() -> Impairments {
        Impairments {
            loss: 0.0,
            burst_loss: None,
            largest_packet: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordering: 0.0,
            reordering_delay: Duration::ZERO,
            duplication: 0.0,
            corruption: 0.0,
            rate_bits_per_second: None,
            queue_bytes: 256 << 10,
        }
    }
}

/// Losses in bursts: the model of Gilbert and Elliott, a Markov chain of two states. A good state loses nothing, a bad one loses packets with probability `loss`.
///
/// The chain takes one step before each packet, or as many as there are whole `step`s in the time since the packet before, if those are more. So a burst ends with
/// packets while they follow each other closely, and with time while few are sent: it lasts `1 / leave` packets or steps on average.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct BurstLoss {
    /// Probability of going from good to bad, in each step.
    pub enter: f64,
    /// Probability of going from bad to good, in each step.
    pub leave: f64,
    /// Probability of loss in the bad state.
    pub loss: f64,
    /// How long a step takes while nothing is sent; zero: for ever, so that packets alone change the state.
    pub step: Duration,
}

impl BurstLoss {
    /// Steps before a packet that leaves the bottleneck so long after the one before it.
    fn steps(&self, pause: Duration) -> f64 {
        let whole = pause.as_nanos().checked_div(self.step.as_nanos()).unwrap_or(0);
        whole.max(1) as f64
    }

    /// Probability that the state is another one after so many steps: the power of the chain's matrix. The share of the other state in the long run, times what is
    /// left to go towards it: each step leaves `1 - enter - leave` of the distance.
    fn turns(&self, is_bad: bool, steps: f64) -> f64 {
        let both = self.enter + self.leave;
        if both <= 0.0 {
            return 0.0;
        }
        let other = if is_bad { self.leave } else { self.enter };
        other / both * (1.0 - (1.0 - both).powf(steps))
    }
}

/// Why a packet does not arrive.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PathDrop {
    /// Lost at random.
    Lost,
    /// The bottleneck's queue was full.
    QueueFull,
}

/// What became of the packets.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Packets pushed.
    pub pushed: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets lost to a full queue.
    pub queue_full: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets held back.
    pub reordered: u64,
    /// Packets that arrive twice.
    pub duplicated: u64,
    /// Packets popped.
    pub delivered: u64,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Path {
    impairments: Impairments,
    random: PublicRandom,
    frame_header: usize,
    in_flight: BTreeMap<(Instant, u64), Packet>,
    serial: u64,
    is_bad: bool,
    /// When the packet that last had a chance to change that left the bottleneck.
    stepped: Instant,
    /// When the bottleneck has sent everything in its queue.
    busy_until: Instant,
    /// Nothing that is not held back arrives before this.
    latest_arrival: Instant,
    counters: PathCounters,
}

impl Path {
    /// An empty path for bare IP packets.
    pub fn new(impairments: Impairments, seed: u64) -> Path {
        Path {
            impairments,
            random: PublicRandom::from_seed(seed),
            frame_header: 0,
            in_flight: BTreeMap::new(),
            serial: 0,
            is_bad: false,
            stepped: Instant::ZERO,
            busy_until: Instant::ZERO,
            latest_arrival: Instant::ZERO,
            counters: PathCounters::default(),
        }
    }

    /// The same for Ethernet frames.
    pub fn for_ethernet(impairments: Impairments, seed: u64) -> Path {
        Path { frame_header: crate::wire::EthernetHeader::LENGTH, ..Path::new(impairments, seed) }
    }

    /// Sends a packet at `now`. Its guard gives the room back at once, as a device's does that has taken it. `pool` lends the memory of a corrupted copy.
    pub fn push(&mut self, now: Instant, mut packet: Packet, pool: &Pool) -> Result<(), PathDrop> {
        self.counters.pushed += 1;
        packet.guard = None;
        let Some(left) = self.pass_bottleneck(now, packet.len()) else {
            self.counters.queue_full += 1;
            return Err(PathDrop::QueueFull);
        };
        let mut is_lost = self.is_lost(left) || self.impairments.largest_packet.is_some_and(|largest| packet.len() > largest);
        if self.random.chance(self.impairments.corruption) {
            is_lost |= !self.corrupt(&mut packet, pool);
        }
        if is_lost {
            self.counters.lost += 1;
            return Err(PathDrop::Lost);
        }
        let arrival = self.arrival(left);
        if self.random.chance(self.impairments.duplication) {
            self.counters.duplicated += 1;
            self.insert(arrival, packet.share());
        }
        self.insert(arrival, packet);
        Ok(())
    }

    /// When the next packet arrives.
    pub fn next_delivery(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|(&(arrival, _), _)| arrival)
    }

    /// Takes the next packet that has arrived by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Packet> {
        let entry = self.in_flight.first_entry()?;
        let (arrival, _) = *entry.key();
        if arrival > now {
            return None;
        }
        self.counters.delivered += 1;
        let mut packet = entry.remove();
        packet.arrived = arrival;
        Some(packet)
    }

    /// Packets on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What it does to packets, from the next one on.
    pub fn impairments_mut(&mut self) -> &mut Impairments {
        &mut self.impairments
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> PathCounters {
        self.counters
    }

    /// When the packet has passed the bottleneck; `None` if its queue is full.
    fn pass_bottleneck(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.impairments.rate_bits_per_second.filter(|&rate| rate > 0) else { return Some(now) };
        let waiting = self.busy_until.since(now);
        let backlog = waiting.as_nanos().saturating_mul(rate.into()) / 8_000_000_000;
        if backlog > 0 && backlog.saturating_add(bytes as u128) > self.impairments.queue_bytes as u128 {
            return None;
        }
        let nanos = (bytes as u128).saturating_mul(8_000_000_000) / u128::from(rate);
        let start = self.busy_until.max(now);
        self.busy_until = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Some(self.busy_until)
    }

    fn is_lost(&mut self, left: Instant) -> bool {
        let alone = self.random.chance(self.impairments.loss);
        let Some(burst) = self.impairments.burst_loss else { return alone };
        let pause = left.since(std::mem::replace(&mut self.stepped, left));
        let steps = burst.steps(pause);
        self.is_bad ^= self.random.chance(burst.turns(self.is_bad, steps));
        alone || (self.is_bad && self.random.chance(burst.loss))
    }

    /// Flips a bit in a copy of the packet (the sender still holds the bytes); false if what is left has no checksum to notice it.
    fn corrupt(&mut self, packet: &mut Packet, pool: &Pool) -> bool {
        let bytes = packet.to_vec();
        if self.frame_header > 0 && bytes.get(12..14) != Some(&EtherType::IPV4.0.to_be_bytes()) {
            return false;
        }
        let covered = bytes.len().saturating_sub(self.frame_header) as u32;
        let position = self.frame_header + self.random.below(covered) as usize;
        let mut copy = Packet::from_bytes(pool, &bytes);
        copy.number = packet.number;
        copy.offload.segmentation = packet.offload.segmentation;
        let bit = 1 << self.random.below(8);
        if let Some(byte) = copy.front_mut().and_then(|front| front.get_mut(position)) {
            *byte ^= bit;
        }
        self.counters.corrupted += 1;
        *packet = copy;
        true
    }

    fn arrival(&mut self, left: Instant) -> Instant {
        let jitter = self.impairments.jitter.mul_f64(self.random.unit());
        let in_order = (left + self.impairments.delay + jitter).max(self.latest_arrival);
        if self.random.chance(self.impairments.reordering) {
            self.counters.reordered += 1;
            return in_order + self.impairments.reordering_delay;
        }
        self.latest_arrival = in_order;
        in_order
    }

    fn insert(&mut self, arrival: Instant, packet: Packet) {
        self.serial += 1;
        self.in_flight.insert((arrival, self.serial), packet);
    }
}

/// The packet as its receiver gets it: its bytes copied into memory of its own, as a kernel copies them, so that neither stack pins the other's.
pub fn receive_copy(packet: &Packet, pool: &Pool) -> Packet {
    let mut buffer = pool.buffer(0, packet.len());
    packet.copy_to(buffer.bytes_mut());
    let mut copy = Packet::new(buffer.freeze());
    (copy.offload, copy.arrived, copy.number) = (packet.offload, packet.arrived, packet.number);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Account, Guard};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn packet(pool: &Pool, number: u64, length: usize) -> Packet {
        let mut packet = Packet::from_bytes(pool, &vec![number as u8; length]);
        packet.number = number;
        packet
    }

    /// Pushes `count` packets of 100 bytes, one each millisecond, and gives numbers and arrival times in order of arrival.
    fn run(path: &mut Path, count: u64) -> Vec<(u64, Instant)> {
        let pool = Pool::default();
        for number in 0..count {
            path.push(at(number), packet(&pool, number, 100), &pool).ok();
        }
        std::iter::from_fn(|| path.pop(Instant::FAR_FUTURE)).map(|packet| (packet.number, packet.arrived)).collect()
    }

    #[test]
    fn a_perfect_path_delivers_everything_at_once_and_in_order() {
        let mut path = Path::new(Impairments::default(), 1);
        let expected: Vec<_> = (0..500).map(|number| (number, at(number))).collect();
        assert_eq!(run(&mut path, 500), expected);
    }

    #[test]
    fn losses_come_as_often_as_asked_for() {
        let lost = |impairments| {
            let mut path = Path::new(impairments, 7);
            run(&mut path, 10_000);
            path.counters().lost
        };
        assert!((400..600).contains(&lost(Impairments { loss: 0.05, ..Impairments::default() })));
        let burst = BurstLoss { enter: 0.01, leave: 0.1, loss: 0.5, step: Duration::ZERO };
        // The share of the bad state is 1/11, and half of that is lost.
        assert!((300..620).contains(&lost(Impairments { burst_loss: Some(burst), ..Impairments::default() })));
        assert_eq!(lost(Impairments { loss: 1.0, ..Impairments::default() }), 10_000);
    }

    /// Of the losses among packets that are sent so far apart, the share that follows another loss.
    fn losses_in_a_row(burst: BurstLoss, pause: Duration) -> f64 {
        let (pool, mut now) = (Pool::default(), at(0));
        let mut path = Path::new(Impairments { burst_loss: Some(burst), ..Impairments::default() }, 7);
        let lost: Vec<bool> = (0..20_000)
            .map(|number| {
                now += pause;
                path.push(now, packet(&pool, number, 100), &pool).is_err()
            })
            .collect();
        let in_a_row = lost.windows(2).filter(|pair| pair[0] && pair[1]).count();
        in_a_row as f64 / path.counters().lost as f64
    }

    #[test]
    fn a_burst_ends_with_packets_or_with_time() {
        let burst = BurstLoss { enter: 0.02, leave: 0.1, loss: 1.0, step: Duration::from_millis(10) };
        let expected = [(0, 0.9), (10, 0.9), (19, 0.9), (20, 0.812), (50, 0.607), (10_000, 1.0 / 6.0)];
        for (pause, share) in expected {
            let measured = losses_in_a_row(burst, Duration::from_millis(pause));
            assert!((measured - share).abs() < 0.03, "{measured} instead of {share} with pauses of {pause} ms");
        }
        let by_packets = losses_in_a_row(BurstLoss { step: Duration::ZERO, ..burst }, Duration::from_secs(10));
        assert!((by_packets - 0.9).abs() < 0.03, "{by_packets}");
    }

    #[test]
    fn many_steps_at_once_are_as_many_one_by_one() {
        for (enter, leave) in [(0.005, 0.3), (0.9, 0.8), (1.0, 1.0), (0.0, 0.0), (0.1, 0.0)] {
            let burst = BurstLoss { enter, leave, loss: 1.0, step: Duration::ZERO };
            let (mut bad_from_good, mut bad_from_bad) = (0.0, 1.0);
            for steps in 1..50 {
                let one = |bad: f64| bad * (1.0 - leave) + (1.0 - bad) * enter;
                (bad_from_good, bad_from_bad) = (one(bad_from_good), one(bad_from_bad));
                let turns = [burst.turns(false, f64::from(steps)), 1.0 - burst.turns(true, f64::from(steps))];
                assert!(
                    (turns[0] - bad_from_good).abs() < 1e-9 && (turns[1] - bad_from_bad).abs() < 1e-9,
                    "{steps} steps of {burst:?}: {turns:?}"
                );
            }
        }
    }

    #[test]
    fn jitter_delays_without_reordering() {
        let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(20));
        let arrivals = run(&mut Path::new(Impairments { delay, jitter, ..Impairments::default() }, 3), 1_000);
        assert!(arrivals.is_sorted_by_key(|&(number, _)| number));
        assert!(arrivals.iter().all(|&(number, arrival)| arrival >= at(number) + delay && arrival <= at(number) + delay + jitter));
    }

    #[test]
    fn what_is_held_back_is_overtaken() {
        let impairments = Impairments { reordering: 0.1, reordering_delay: Duration::from_millis(5), ..Impairments::default() };
        let mut path = Path::new(impairments, 3);
        let arrivals = run(&mut path, 1_000);
        assert_eq!(arrivals.len(), 1_000);
        let overtaken = arrivals.windows(2).filter(|pair| pair[0].0 > pair[1].0).count() as u64;
        assert!(overtaken > 50 && overtaken <= path.counters().reordered, "{overtaken} of {:?}", path.counters());
    }

    #[test]
    fn duplicates_arrive_twice() {
        let mut path = Path::new(Impairments { duplication: 0.5, ..Impairments::default() }, 3);
        let arrivals = run(&mut path, 1_000);
        assert_eq!(arrivals.len() as u64, 1_000 + path.counters().duplicated);
        assert!((400..600).contains(&path.counters().duplicated));
    }

    #[test]
    fn one_bit_is_flipped_and_the_senders_copy_stays() {
        let pool = Pool::default();
        let mut path = Path::for_ethernet(Impairments { corruption: 1.0, ..Impairments::default() }, 3);
        for _ in 0..200 {
            let mut bytes = vec![0; 100];
            bytes[12..14].copy_from_slice(&[8, 0]);
            let original = Packet::from_bytes(&pool, &bytes);
            path.push(at(0), original.share(), &pool).unwrap();
            let arrived = path.pop(at(0)).unwrap().to_vec();
            let flipped: Vec<_> = arrived.iter().zip(&bytes).enumerate().filter(|(_, (new, old))| new != old).collect();
            assert!(flipped.len() == 1 && flipped[0].0 >= 14 && (flipped[0].1.0 ^ flipped[0].1.1).count_ones() == 1);
            assert_eq!(original.to_vec(), bytes);
        }
        assert_eq!(path.push(at(0), Packet::from_bytes(&pool, &[6; 60]), &pool), Err(PathDrop::Lost));
    }

    #[test]
    fn the_bottleneck_has_its_rate_and_drops_at_the_tail() {
        let pool = Pool::default();
        let impairments = Impairments { rate_bits_per_second: Some(800_000), queue_bytes: 1_000, ..Impairments::default() };
        let mut path = Path::new(impairments, 3);
        let results: Vec<_> = (0..15).map(|number| path.push(at(0), packet(&pool, number, 100), &pool)).collect();
        assert_eq!((results.iter().filter(|result| result.is_ok()).count(), path.counters().queue_full), (10, 5));
        assert_eq!((path.next_delivery(), path.pop(Instant::ZERO).map(|packet| packet.number)), (Some(at(1)), None));
        let arrivals: Vec<_> = std::iter::from_fn(|| path.pop(at(99))).map(|packet| packet.arrived).collect();
        assert_eq!(arrivals, (1..=10).map(at).collect::<Vec<_>>());
        assert_eq!(path.push(at(99), packet(&pool, 1, 60_000), &pool), Ok(()), "a packet alone always passes");
    }

    #[test]
    fn room_is_given_back_when_the_path_has_the_packet() {
        struct Room(AtomicUsize);
        impl Account for Room {
            fn give_back(&self, bytes: usize) {
                self.0.fetch_add(bytes, Ordering::SeqCst);
            }
        }
        let (pool, room) = (Pool::default(), Arc::new(Room(AtomicUsize::new(0))));
        let mut path = Path::new(Impairments { delay: Duration::from_secs(1), ..Impairments::default() }, 3);
        let mut packet = packet(&pool, 1, 100);
        packet.guard = Some(Guard::new(room.clone(), 100));
        path.push(at(0), packet, &pool).unwrap();
        assert_eq!((room.0.load(Ordering::SeqCst), path.in_flight()), (100, 1));
    }

    #[test]
    fn the_receivers_copy_is_whole_and_in_a_slot_of_its_size() {
        let pool = Pool::default();
        let mut sent = Packet::new(pool.copy_from(0, &[7; 60_000]).part(10..1_010));
        sent.push(pool.copy_from(0, &[8; 400]));
        sent.offload.checksum = crate::packet::ChecksumState::Partial { start: 34, offset: 16 };
        let received = receive_copy(&sent, &pool);
        assert_eq!((received.to_vec(), received.offload), (sent.to_vec(), sent.offload));
        assert_eq!((received.slices().len(), received.slices()[0].slot_bytes()), (1, crate::packet::SMALL_SLOT));
    }

    #[test]
    fn the_seed_decides_everything() {
        let impairments = Impairments {
            loss: 0.1,
            burst_loss: Some(BurstLoss { enter: 0.1, leave: 0.3, loss: 0.5, step: Duration::from_micros(700) }),
            jitter: Duration::from_millis(3),
            reordering: 0.1,
            reordering_delay: Duration::from_millis(4),
            duplication: 0.1,
            corruption: 0.1,
            ..Impairments::default()
        };
        let arrivals = |seed| run(&mut Path::new(impairments.clone(), seed), 300);
        assert_eq!(arrivals(1), arrivals(1));
        assert_ne!(arrivals(1), arrivals(2));
    }
}
