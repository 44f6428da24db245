//! A path between two hosts: what it does to packets, in units that tests speak of (round trips, bandwidth-delay products).

use hopline::device::Medium;
use hopline::device::virtual_link::{BurstLoss, Impairments};
use hopline::simulation::{HostId, HostOptions, World};
use std::fmt;
use std::time::Duration;

/// No path holds more than this much data in flight: faster paths are slowed down to it.
pub(crate) const LARGEST_PRODUCT: u64 = 32 << 20;
/// Packets that every queue holds, however short the path.
const LEAST_QUEUE_PACKETS: u64 = 4;
/// A burst of loss lasts three packets, or, while few are sent, three times this: as long as a fade of a radio link, and far shorter than any series of timeouts.
const BURST_STEP: Duration = Duration::from_millis(10);
/// Bytes of IP and TCP header with timestamps, in each packet with data.
const HEADERS: u64 = 52;

/// What stands between two hosts. From the first to the second, data; back, mostly acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Path {
    /// Probability of loss on the way there.
    pub(crate) loss: f64,
    /// Whether there are bursts of loss as well.
    pub(crate) bursts: bool,
    /// Probability of being held back on the way there.
    pub(crate) reordering: f64,
    /// Probability of arriving twice.
    pub(crate) duplication: f64,
    /// Probability of loss on the way back.
    pub(crate) ack_loss: f64,
    /// Each way.
    pub(crate) delay_millis: u64,
    /// Each way, bits per second.
    pub(crate) rate: u64,
    /// Room before the bottleneck, in bandwidth-delay products.
    pub(crate) queue: f64,
    pub(crate) mtu: usize,
}

impl Default for Path {
    fn default() -> Path {
        Path {
            loss: 0.0,
            bursts: false,
            reordering: 0.0,
            duplication: 0.0,
            ack_loss: 0.0,
            delay_millis: 10,
            rate: 100_000_000,
            queue: 1.0,
            mtu: 1500,
        }
    }
}

impl Path {
    /// Of an empty path.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_millis(2 * self.delay_millis) + 2 * self.packet_time()
    }

    /// Bits per second, slowed down to [`LARGEST_PRODUCT`].
    pub(crate) fn rate(&self) -> u64 {
        let slowest = (LARGEST_PRODUCT * 8_000).checked_div(2 * self.delay_millis);
        self.rate.min(slowest.unwrap_or(u64::MAX))
    }

    /// Bits per second of payload that the rate leaves beside headers.
    pub(crate) fn payload_rate(&self) -> f64 {
        self.rate() as f64 * (self.mtu as u64 - HEADERS) as f64 / self.mtu as f64
    }

    /// The bandwidth-delay product, in bytes.
    pub(crate) fn product(&self) -> u64 {
        self.rate() * 2 * self.delay_millis / 8_000
    }

    pub(crate) fn queue_bytes(&self) -> usize {
        let asked = (self.product() as f64 * self.queue) as u64;
        asked.max(LEAST_QUEUE_PACKETS * self.mtu as u64) as usize
    }

    fn packet_time(&self) -> Duration {
        Duration::from_nanos(self.mtu as u64 * 8_000_000_000 / self.rate())
    }

    fn there(&self) -> Impairments {
        let burst = BurstLoss { enter: 0.005, leave: 0.3, loss: 0.7, step: BURST_STEP.max(self.packet_time()) };
        Impairments {
            loss: self.loss,
            burst_loss: self.bursts.then_some(burst),
            reordering: self.reordering,
            reordering_delay: (self.round_trip() / 4).max(3 * self.packet_time()),
            duplication: self.duplication,
            ..self.back(0.0)
        }
    }

    fn back(&self, loss: f64) -> Impairments {
        Impairments {
            loss,
            delay: Duration::from_millis(self.delay_millis),
            rate_bits_per_second: Some(self.rate()),
            queue_bytes: self.queue_bytes(),
            ..Impairments::default()
        }
    }

    fn host(&self, address: &str) -> HostOptions {
        // All defaults: what a path needs beyond them, the buffers' tuning has to find.
        HostOptions { medium: Medium::Ip, mtu: self.mtu, ..HostOptions::new(address) }
    }

    /// Two hosts, `192.0.2.1` and `192.0.2.2`, joined by this path.
    pub(crate) fn world(&self, seed: u64) -> (World, [HostId; 2]) {
        let mut world = World::new(seed);
        let hosts = [world.host(self.host("192.0.2.1/24")), world.host(self.host("192.0.2.2/24"))];
        world.join_each(&[(hosts[0], self.there()), (hosts[1], self.back(self.ack_loss))]);
        if let Some(mut trace) = crate::trace::Trace::wanted() {
            world.set_tap(move |now, _, packet| trace.note(now, "", &packet.to_vec()));
        }
        (world, hosts)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{}%", share * 100.0);
        write!(
            f,
            "{:>4} Mbit/s {:>3} ms each way, queue {:>3} BDP, MTU {:>5}, loss {:>4}{}, reordering {:>3}, duplicates {:>2}, ACK loss {:>3}",
            self.rate / 1_000_000,
            self.delay_millis,
            self.queue,
            self.mtu,
            percent(self.loss),
            if self.bursts { " + bursts" } else { "         " },
            percent(self.reordering),
            percent(self.duplication),
            percent(self.ack_loss),
        )
    }
}
