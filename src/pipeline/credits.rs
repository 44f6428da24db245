//! Credits: how many packets from the device, and how many of their bytes, may be inside the stack.
//!
//! The receive thread takes credit before it reads; each packet's guard gives it back. At zero credit nothing is read, so that the kernel's buffer
//! is the one place where load is shed.

use crate::device::Waker;
use crate::packet::{Account, LARGE_SLOT};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One packet in [`Credits::used`]: more than all bytes that can be inside.
const PACKET: u64 = 1 << 40;

/// One account for all packets from one device.
pub(crate) struct Credits {
    /// Packets inside, in units of [`PACKET`], and their bytes.
    used: AtomicU64,
    packet_limit: usize,
    byte_limit: usize,
    stalled: AtomicBool,
    waker: Arc<dyn Waker>,
}

impl Credits {
    /// Credit for `packet_limit` packets and `byte_limit` bytes, at least one packet. `waker` ends the wait of a receive thread that had none.
    pub(crate) fn new(packet_limit: usize, byte_limit: usize, waker: Arc<dyn Waker>) -> Arc<Credits> {
        Arc::new(Credits {
            used: AtomicU64::new(0),
            packet_limit: packet_limit.max(1),
            byte_limit: byte_limit.max(1),
            stalled: AtomicBool::new(false),
            waker,
        })
    }

    /// How many packets, at most `wanted`, may be read now, were each as long as can be. At 0, the waker is used as soon as there is credit.
    pub(crate) fn allowance(&self, wanted: usize) -> usize {
        let allowed = self.free(wanted);
        if allowed > 0 {
            return allowed;
        }
        self.stalled.store(true, Ordering::SeqCst);
        let allowed = self.free(wanted);
        if allowed > 0 {
            self.stalled.store(false, Ordering::SeqCst);
        }
        allowed
    }

    /// Counts packets that have been read, and their bytes together.
    pub(crate) fn take(&self, packets: usize, bytes: usize) {
        self.used.fetch_add(packets as u64 * PACKET + bytes as u64, Ordering::SeqCst);
    }

    /// Packets inside, and their bytes.
    pub(crate) fn used(&self) -> (usize, usize) {
        let used = self.used.load(Ordering::SeqCst);
        ((used / PACKET) as usize, (used % PACKET) as usize)
    }

    fn free(&self, wanted: usize) -> usize {
        let (packets, bytes) = self.used();
        wanted.min(self.packet_limit.saturating_sub(packets)).min(self.byte_limit.saturating_sub(bytes).div_ceil(LARGE_SLOT))
    }

    /// A quarter of the credit is back, or a batch's worth: enough for a wake-up to be worth while.
    fn may_resume(&self) -> bool {
        let packets = self.packet_limit.saturating_sub(self.used().0);
        packets >= (self.packet_limit / 4).clamp(1, 32) && self.free(1) > 0
    }
}

impl Account for Credits {
    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(PACKET + bytes as u64, Ordering::SeqCst);
        if self.stalled.load(Ordering::SeqCst) && self.may_resume() && self.stalled.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Waker for Wakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn credits(packets: usize, bytes: usize) -> (Arc<Credits>, Arc<Wakes>) {
        let wakes = Arc::new(Wakes::default());
        (Credits::new(packets, bytes, wakes.clone()), wakes)
    }

    #[test]
    fn packets_and_bytes_both_bound_what_is_read() {
        let (credits, _) = credits(10, 3 * LARGE_SLOT);
        assert_eq!((credits.allowance(32), credits.allowance(2)), (3, 2));
        credits.take(1, 2 * LARGE_SLOT);
        assert_eq!(credits.allowance(32), 1);
        credits.take(1, LARGE_SLOT);
        assert_eq!(credits.allowance(32), 0);
    }

    #[test]
    fn who_had_none_is_woken_once() {
        let (credits, wakes) = credits(2, 1 << 20);
        credits.take(1, 100);
        credits.take(1, 100);
        assert_eq!(credits.allowance(8), 0);
        credits.give_back(100);
        credits.give_back(100);
        assert_eq!((wakes.0.load(Ordering::SeqCst), credits.used()), (1, (0, 0)));
        assert_eq!(credits.allowance(8), 2);
    }

    #[test]
    fn nobody_is_woken_without_a_stall() {
        let (credits, wakes) = credits(4, 1 << 20);
        credits.take(1, 1);
        credits.give_back(1);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    }
}
