//! Waiting at an end of a virtual link: for frames that have arrived, or are still on their way, for room, and for calls.
//!
//! Owns who is told of a frame, where two threads wait at one end. Refuses to read frames. While a guest waits it alone is told, and it alone keeps the time of
//! frames that are still on their way; when it leaves, and whenever somebody has read, the host takes that up.

use super::{CableState, End};
use crate::device::{GuestWait, HostWait, Received, Wanted};
use crate::time::Instant;
use std::io;
use std::time::Duration;

/// The receive thread's side.
pub(super) struct Host(pub(super) End);

impl HostWait for Host {
    fn wait(&mut self, wanted: Wanted) -> io::Result<(Received, bool)> {
        let Host(end) = self;
        let mut state = end.cable.state.lock();
        end.set_host_until(&mut state, deadline(wanted.at_most));
        loop {
            let deadline = end.host_until(&state);
            let next = if wanted.frames && !end.guest_waits(&state) { end.next_delivery(&state) } else { None };
            let is_readable = next.is_some_and(|next| next <= end.cable.now());
            let received = end.take_events(&mut state, wanted.writable);
            if is_readable || received.woken || received.writable || is_over(deadline) {
                return Ok((received, is_readable));
            }
            let next = next.map(|next| end.cable.real_time(next));
            end.cable.hosts.wait(end.index, &mut state, next.into_iter().chain(deadline).min());
        }
    }
}

impl GuestWait for End {
    fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut state = self.cable.state.lock();
        self.set_guest_waits(&mut state, true);
        let has_frames = self.wait_as_guest(&mut state, deadline(timeout));
        self.set_guest_waits(&mut state, false);
        let leaves_some = !has_frames && self.next_delivery(&state).is_some();
        drop(state);
        if leaves_some {
            self.cable.hosts.notify(self.index);
        }
        Ok(has_frames)
    }

    fn wake(&self) {
        if let Some(state) = self.state(&mut self.cable.state.lock()) {
            state.guest_is_called = true;
        }
        self.cable.guests.notify(self.index);
    }

    /// That it waits for longer the host finds out when the time that it knows of is over.
    fn put_off(&self, at_most: Duration) {
        let until = deadline(Some(at_most));
        let mut state = self.cable.state.lock();
        let before = self.host_until(&state);
        if before.is_some() {
            self.set_host_until(&mut state, until);
        }
        drop(state);
        if until < before {
            self.cable.hosts.notify(self.index);
        }
    }
}

/// So far from now.
fn deadline(timeout: Option<Duration>) -> Option<std::time::Instant> {
    timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout))
}

fn is_over(deadline: Option<std::time::Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= std::time::Instant::now())
}

impl End {
    fn wait_as_guest(&self, state: &mut parking_lot::MutexGuard<'_, CableState>, deadline: Option<std::time::Instant>) -> bool {
        loop {
            if self.state(state).is_some_and(|end| std::mem::take(&mut end.guest_is_called)) {
                return false;
            }
            let next = self.next_delivery(state);
            if next.is_some_and(|next| next <= self.cable.now()) {
                return true;
            }
            if is_over(deadline) {
                return false;
            }
            let next = next.map(|next| self.cable.real_time(next));
            self.cable.guests.wait(self.index, state, next.into_iter().chain(deadline).min());
        }
    }

    pub(super) fn guest_waits(&self, state: &CableState) -> bool {
        state.ends.get(self.index).is_some_and(|end| end.guest_waits)
    }

    fn host_until(&self, state: &CableState) -> Option<std::time::Instant> {
        state.ends.get(self.index).and_then(|end| end.host_until)
    }

    fn set_host_until(&self, state: &mut CableState, until: Option<std::time::Instant>) {
        if let Some(end) = self.state(state) {
            end.host_until = until;
        }
    }

    fn set_guest_waits(&self, state: &mut CableState, waits: bool) {
        if let Some(end) = self.state(state) {
            end.guest_waits = waits;
        }
    }

    /// When the next frame arrives here, or has arrived.
    pub(super) fn next_delivery(&self, state: &CableState) -> Option<Instant> {
        state.paths.get(self.peer()).and_then(|path| path.next_delivery())
    }

    /// What has happened besides frames; each is told once.
    pub(super) fn take_events(&self, state: &mut CableState, want_writable: bool) -> Received {
        let writable = want_writable && self.take_writable(state);
        let woken = self.state(state).is_some_and(|end| std::mem::take(&mut end.woken));
        Received { woken, writable, link: None }
    }

    /// Whether frames that were refused find room again.
    fn take_writable(&self, state: &mut CableState) -> bool {
        let has_room = state.paths.get(self.index).is_some_and(|path| path.in_flight() <= self.cable.capacity / 2);
        let peer_is_gone = state.ends.get(self.peer()).is_some_and(|end| end.is_gone);
        let Some(end) = self.state(state) else { return false };
        (has_room || peer_is_gone) && std::mem::take(&mut end.is_blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Impairments, LinkOptions, pair};
    use super::*;
    use crate::device::{Device, OpenDevice, Stock, Waits};
    use crate::packet::{Packet, Pool};

    const DELAY: Duration = Duration::from_millis(5);
    /// Who waits longer than that waits in vain.
    const FRAMES: Wanted = Wanted { frames: true, unshared: false, writable: false, at_most: Some(Duration::from_secs(20)) };

    /// A device that sends with this delay, and one whose waits are given away.
    fn open(delay: Duration) -> (OpenDevice, OpenDevice, End, Waits) {
        let a_to_b = Impairments { delay, ..Impairments::default() };
        let (a, b) = pair(LinkOptions { a_to_b, ..LinkOptions::default() });
        let end = b.end.clone();
        let (a, mut b) = (Box::new(a).open().unwrap(), Box::new(b).open().unwrap());
        let waits = b.receiver.part().unwrap();
        (a, b, end, waits)
    }

    fn send(device: &mut OpenDevice, count: usize) {
        device.sender.send(&mut (0..count).map(|_| Packet::from_bytes(&Pool::default(), &[7; 60])).collect()).unwrap();
    }

    fn read(device: &mut OpenDevice, limit: usize) -> (usize, Stock) {
        let mut batch = Vec::new();
        let stock = device.receiver.read(&Pool::default(), limit, &mut batch).unwrap();
        (batch.len(), stock)
    }

    #[test]
    fn the_host_is_not_told_of_frames_while_a_guest_waits() {
        let (mut a, b, end, mut waits) = open(Duration::ZERO);
        end.set_guest_waits(&mut end.cable.state.lock(), true);
        send(&mut a, 1);
        b.waker.wake();
        let woken = Received { woken: true, ..Received::default() };
        assert_eq!(waits.host.wait(FRAMES).unwrap(), (woken, false));
        end.set_guest_waits(&mut end.cable.state.lock(), false);
        assert_eq!(waits.host.wait(FRAMES).unwrap(), (Received::default(), true));
        b.waker.wake();
        assert_eq!(waits.host.wait(Wanted::default()).unwrap(), (woken, false), "nor if it does not want them");
        for at_most in [Duration::ZERO, Duration::from_millis(1)] {
            let nothing = Wanted { at_most: Some(at_most), ..Wanted::default() };
            assert_eq!(waits.host.wait(nothing).unwrap(), (Received::default(), false), "nor does it wait for longer than it may");
        }
    }

    #[test]
    fn a_guest_that_waits_is_told_of_a_frame() {
        let (mut a, mut b, _, waits) = open(Duration::ZERO);
        let guest = waits.guest.clone();
        let waiting = std::thread::spawn(move || guest.wait(None).unwrap());
        send(&mut a, 3);
        assert!(waiting.join().unwrap());
        assert!(waits.guest.wait(None).unwrap(), "it has not been read");
        assert_eq!(read(&mut b, 2), (2, Stock::Unknown));
        assert_eq!(read(&mut b, 2), (1, Stock::Empty));
        assert!(!waits.guest.wait(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_guest_keeps_the_time_of_a_frame_on_its_way() {
        let (mut a, mut b, _, waits) = open(DELAY);
        let start = std::time::Instant::now();
        send(&mut a, 1);
        assert!(waits.guest.wait(None).unwrap());
        assert!(start.elapsed() >= DELAY);
        assert_eq!(read(&mut b, 9), (1, Stock::Empty));
    }

    /// However the two waits begin, and whenever the frame leaves.
    #[test]
    fn a_guest_that_leaves_leaves_a_frame_on_its_way_to_the_host() {
        for _ in 0..20 {
            let (mut a, b, _, Waits { mut host, guest }) = open(DELAY);
            std::thread::scope(|scope| {
                let leaving = scope.spawn(|| guest.wait(None).unwrap());
                let staying = scope.spawn(|| host.wait(FRAMES).unwrap());
                send(&mut a, 1);
                guest.wake();
                // Where the frame came before the call, it is the guest that owes a call.
                if leaving.join().unwrap() {
                    b.waker.wake();
                }
                let (_, is_readable) = staying.join().unwrap();
                assert!(is_readable);
            });
        }
    }

    #[test]
    fn a_guest_that_is_called_leaves_also_if_the_call_came_first() {
        let (_a, _b, _, waits) = open(Duration::ZERO);
        waits.guest.wake();
        assert!(!waits.guest.wait(None).unwrap());
        let guest = waits.guest.clone();
        let waiting = std::thread::spawn(move || guest.wait(None).unwrap());
        waits.guest.wake();
        assert!(!waiting.join().unwrap());
    }

    #[test]
    fn a_guest_sets_how_long_the_host_waits() {
        let (_a, _b, end, Waits { mut host, guest }) = open(Duration::ZERO);
        guest.put_off(Duration::ZERO);
        assert_eq!(end.host_until(&end.cable.state.lock()), None, "it does not wait");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| host.wait(Wanted { at_most: FRAMES.at_most, ..Wanted::default() }).unwrap());
            while end.host_until(&end.cable.state.lock()).is_none() {
                std::thread::yield_now();
            }
            guest.put_off(Duration::from_secs(3_600));
            assert!(end.host_until(&end.cable.state.lock()) > deadline(FRAMES.at_most));
            guest.put_off(Duration::ZERO);
            assert_eq!(waiting.join().unwrap(), (Received::default(), false));
        });
    }
}
