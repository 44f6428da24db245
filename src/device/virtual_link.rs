//! A link within the process: two devices joined by a cable that can be as bad as wanted.
//!
//! Owns the two [paths](path) and their ends; who waits there is told by `waits.rs`. Refuses randomness of its own: everything comes from the seed. Without impairments it loses
//! nothing: when its bounded queue is full, it takes no more frames until the other end has read some. Read [`path`] first.
//!
//! ```
//! use hopline::device::virtual_link::{self, LinkOptions};
//! use hopline::device::Device;
//! let (a, _b) = virtual_link::pair(LinkOptions { mtu: 9_000, ..LinkOptions::default() });
//! assert_eq!(a.properties().mtu, 9_000);
//! ```

pub mod path;
mod waits;

pub use path::{BurstLoss, Impairments, Path, PathCounters, PathDrop};

use path::receive_copy;

use super::segmentation::prepare;
use super::{Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Medium, OpenDevice, Received, Sent, Stock, Waits, Waker};
use crate::packet::{Guard, Packet, Pool};
use crate::time::Instant;
use crate::wire::{EthernetHeader, MacAddress};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What kind of cable it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LinkMedium {
    /// Ethernet, with the address of each end.
    Ethernet(MacAddress, MacAddress),
    /// Bare IP packets.
    Ip,
}

/// A link's properties.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The largest IP packet in bytes.
    pub mtu: usize,
    /// Frames or bare packets.
    pub medium: LinkMedium,
    /// What happens to packets from the first device to the second.
    pub a_to_b: Impairments,
    /// What happens to packets from the second device to the first.
    pub b_to_a: Impairments,
    /// Whether super-segments and partial checksums cross the link as they are, as they do between two virtual interfaces of one host. Otherwise
    /// each end cuts and completes them before they meet the link. A direction that corrupts packets has no offload.
    pub offload: bool,
    /// Of all randomness.
    pub seed: u64,
    /// Packets in flight in one direction; at this bound an end takes no more frames until half of them are read.
    pub capacity_packets: usize,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions {
            mtu: 1500,
            medium: LinkMedium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])),
            a_to_b: Impairments::default(),
            b_to_a: Impairments::default(),
            offload: true,
            seed: 0,
            capacity_packets: 4_096,
        }
    }
}

impl LinkOptions {
    /// The paths from the first device to the second and back.
    pub fn paths(&self) -> [Path; 2] {
        let path = |impairments: &Impairments, seed| match self.medium {
            LinkMedium::Ethernet(..) => Path::for_ethernet(impairments.clone(), seed),
            LinkMedium::Ip => Path::new(impairments.clone(), seed),
        };
        [path(&self.a_to_b, self.seed), path(&self.b_to_a, !self.seed)]
    }

    /// What each end looks like to its stack.
    pub fn properties(&self) -> [DeviceProperties; 2] {
        let media = match self.medium {
            LinkMedium::Ethernet(a, b) => [Medium::Ethernet(a), Medium::Ethernet(b)],
            LinkMedium::Ip => [Medium::Ip, Medium::Ip],
        };
        let outgoing = [&self.a_to_b, &self.b_to_a];
        [0, 1].map(|end: usize| {
            let offload = self.offload && outgoing[end].corruption == 0.0;
            DeviceProperties { name: "virtual".to_owned(), medium: media[end], mtu: self.mtu, offload: offload_of(offload) }
        })
    }
}

/// Everything or nothing.
fn offload_of(all: bool) -> DeviceOffload {
    DeviceOffload { checksum: all, tcp_segmentation_ipv4: all, tcp_segmentation_ipv6: all, udp_segmentation: all }
}

/// Two devices joined by a link under the real clock.
pub fn pair(options: LinkOptions) -> (VirtualDevice, VirtualDevice) {
    let cable = Arc::new(Cable {
        start: std::time::Instant::now(),
        capacity: options.capacity_packets.max(1),
        state: Mutex::new(CableState { paths: options.paths(), ends: [EndState::default(); 2] }),
        hosts: Waiters::default(),
        guests: Waiters::default(),
    });
    let [a, b] = options.properties();
    let end = |index, properties| VirtualDevice { end: End { cable: cable.clone(), index }, properties };
    (end(0, a), end(1, b))
}

/// One end of a virtual link.
pub struct VirtualDevice {
    end: End,
    properties: DeviceProperties,
}

impl VirtualDevice {
    /// What became of the packets that this end has sent.
    pub fn counters(&self) -> PathCounters {
        self.end.cable.counters(self.end.index)
    }

    /// A view of the link that outlives the device's start.
    pub fn monitor(&self) -> LinkMonitor {
        LinkMonitor { cable: self.end.cable.clone(), index: self.end.index }
    }
}

/// Looks at a link in use, and changes it.
#[derive(Clone)]
pub struct LinkMonitor {
    cable: Arc<Cable>,
    index: usize,
}

impl LinkMonitor {
    /// What became of the packets that this end has sent.
    pub fn counters(&self) -> PathCounters {
        self.cable.counters(self.index)
    }

    /// Changes what happens to the packets that this end sends from now on.
    pub fn change(&self, change: impl FnOnce(&mut Impairments)) {
        let mut state = self.cable.state.lock();
        if let Some(path) = state.paths.get_mut(self.index) {
            change(path.impairments_mut());
        }
    }
}

struct Cable {
    start: std::time::Instant,
    capacity: usize,
    state: Mutex<CableState>,
    /// The receive threads.
    hosts: Waiters,
    /// Those that read in their place.
    guests: Waiters,
}

/// One for each end.
#[derive(Default)]
struct Waiters([Condvar; 2]);

struct CableState {
    /// By the end that sends.
    paths: [Path; 2],
    ends: [EndState; 2],
}

#[derive(Copy, Clone, Default)]
struct EndState {
    /// The waker was used.
    woken: bool,
    /// It was refused a frame, and has not been told since that there is room.
    is_blocked: bool,
    /// Its receiver is gone: what is sent to it vanishes.
    is_gone: bool,
    /// A guest waits: the host is not told of frames.
    guest_waits: bool,
    guest_is_called: bool,
    /// When the host's wait ends, if it must not last.
    host_until: Option<std::time::Instant>,
}

#[derive(Clone)]
struct End {
    cable: Arc<Cable>,
    index: usize,
}

impl Cable {
    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn counters(&self, index: usize) -> PathCounters {
        self.state.lock().paths.get(index).map(Path::counters).unwrap_or_default()
    }

    fn real_time(&self, at: Instant) -> std::time::Instant {
        self.start + at.since(Instant::ZERO)
    }
}

impl Waiters {
    fn notify(&self, index: usize) {
        let Waiters(changed) = self;
        if let Some(changed) = changed.get(index) {
            changed.notify_all();
        }
    }

    fn wait(&self, index: usize, state: &mut MutexGuard<'_, CableState>, until: Option<std::time::Instant>) {
        let Waiters(changed) = self;
        let Some(changed) = changed.get(index) else { return };
        match until {
            Some(until) => {
                changed.wait_until(state, until);
            }
            None => changed.wait(state),
        }
    }
}

impl End {
    fn peer(&self) -> usize {
        1 - self.index
    }

    /// The state of this end's receiving side, with the path that leads here.
    fn incoming<'a>(&self, state: &'a mut CableState) -> Option<&'a mut Path> {
        state.paths.get_mut(self.peer())
    }

    fn state<'a>(&self, state: &'a mut CableState) -> Option<&'a mut EndState> {
        state.ends.get_mut(self.index)
    }
}

impl Device for VirtualDevice {
    fn properties(&self) -> DeviceProperties {
        self.properties.clone()
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let VirtualDevice { end, properties } = *self;
        Ok(OpenDevice {
            receiver: Box::new(VirtualReceiver { end: end.clone() }),
            sender: Box::new(VirtualSender { end: end.clone(), properties, pool: Pool::default(), released: Vec::new() }),
            waker: Arc::new(end),
        })
    }
}

impl Waker for End {
    fn wake(&self) {
        if let Some(state) = self.state(&mut self.cable.state.lock()) {
            state.woken = true;
        }
        self.cable.hosts.notify(self.index);
    }
}

struct VirtualReceiver {
    end: End,
}

impl VirtualReceiver {
    fn take_frames(&self, state: &mut CableState, limit: usize, batch: &mut Vec<Packet>) -> usize {
        let (now, capacity) = (self.end.cable.now(), self.end.cable.capacity);
        let Some(path) = self.end.incoming(state) else { return 0 };
        let before = batch.len();
        batch.extend(std::iter::from_fn(|| path.pop(now)).take(limit));
        let has_room = path.in_flight() <= capacity / 2;
        let peer = self.end.peer();
        if has_room && state.ends.get(peer).is_some_and(|end| end.is_blocked) {
            self.end.cable.hosts.notify(peer);
        }
        batch.len() - before
    }
}

impl FrameReceiver for VirtualReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let before = batch.len();
        let received = self.wait(limit, want_writable, batch);
        copy_from(before, batch, pool);
        Ok(received)
    }

    fn part(&mut self) -> Option<Waits> {
        Some(Waits { host: Box::new(waits::Host(self.end.clone())), guest: Arc::new(self.end.clone()) })
    }

    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let before = batch.len();
        let cable = self.end.cable.clone();
        let mut state = cable.state.lock();
        self.take_frames(&mut state, limit, batch);
        let next = self.end.next_delivery(&state);
        drop(state);
        if next.is_some() {
            cable.hosts.notify(self.end.index);
        }
        copy_from(before, batch, pool);
        Ok(if next.is_some_and(|next| next <= cable.now()) { Stock::Unknown } else { Stock::Empty })
    }
}

/// What the receiver has of the packets behind the first so many; not under the cable's lock.
fn copy_from(first: usize, batch: &mut [Packet], pool: &Pool) {
    batch.iter_mut().skip(first).for_each(|packet| *packet = receive_copy(packet, pool));
}

impl VirtualReceiver {
    fn wait(&self, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> Received {
        let cable = self.end.cable.clone();
        let mut state = cable.state.lock();
        loop {
            let count = self.take_frames(&mut state, limit, batch);
            let received = self.end.take_events(&mut state, want_writable);
            if count > 0 || received.writable || received.woken {
                return received;
            }
            let next = if limit > 0 { self.end.next_delivery(&state) } else { None };
            cable.hosts.wait(self.end.index, &mut state, next.map(|next| cable.real_time(next)));
        }
    }
}

impl Drop for VirtualReceiver {
    fn drop(&mut self) {
        if let Some(state) = self.end.state(&mut self.end.cable.state.lock()) {
            state.is_gone = true;
        }
        self.end.cable.hosts.notify(self.end.peer());
    }
}

struct VirtualSender {
    end: End,
    properties: DeviceProperties,
    pool: Pool,
    /// Room to be given back once the cable's lock is released, for that may call a thread which waits here.
    released: Vec<Guard>,
}

impl FrameSender for VirtualSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let refused = prepare(frames, &self.properties.offload, self.properties.medium, &self.pool);
        let mut sent = Sent { refused, ..Sent::default() };
        let cable = self.end.cable.clone();
        let now = cable.now();
        let mut state = cable.state.lock();
        while let Some(packet) = self.next(&mut state, frames) {
            self.send_one(&mut state, now, packet, &mut sent);
        }
        let peer = self.end.peer();
        let guest_waits = state.ends.get(peer).is_some_and(|end| end.guest_waits);
        drop(state);
        if guest_waits { &cable.guests } else { &cable.hosts }.notify(peer);
        self.released.clear();
        Ok(sent)
    }
}

impl VirtualSender {
    /// The next frame, if there is room for it.
    fn next(&mut self, state: &mut CableState, frames: &mut VecDeque<Packet>) -> Option<Packet> {
        let is_full = state.paths.get(self.end.index).is_some_and(|path| path.in_flight() >= self.end.cable.capacity);
        let peer_is_gone = state.ends.get(self.end.peer()).is_some_and(|end| end.is_gone);
        if is_full && !peer_is_gone && !frames.is_empty() {
            self.end.state(state)?.is_blocked = true;
            return None;
        }
        let mut packet = frames.pop_front()?;
        self.released.extend(packet.guard.take());
        Some(packet)
    }

    fn send_one(&self, state: &mut CableState, now: Instant, packet: Packet, sent: &mut Sent) {
        if packet.offload.segmentation.is_none() && packet.len() > self.longest_frame() {
            sent.refused += 1;
            return;
        }
        sent.frames += 1;
        sent.bytes += packet.len() as u64;
        let peer_is_gone = state.ends.get(self.end.peer()).is_some_and(|end| end.is_gone);
        if let Some(path) = state.paths.get_mut(self.end.index).filter(|_| !peer_is_gone) {
            // A packet that is lost has been taken all the same; the path counts it.
            path.push(now, packet, &self.pool).ok();
        }
    }

    fn longest_frame(&self) -> usize {
        match self.properties.medium {
            Medium::Ethernet(_) => self.properties.mtu + EthernetHeader::LENGTH,
            Medium::Ip => self.properties.mtu,
        }
    }
}

#[cfg(test)]
mod tests;
