//! Devices: where frames come from and go to. The only folder with `unsafe`.
//!
//! Owns file descriptors, kernel interfaces and the in-memory link. Refuses to know any protocol beyond what an offload header needs.
//! Read the traits here first, then `virtual_link`, then `linux`. What the system brings is behind one name, `system`; `elsewhere` lists it.
//!
//! A device is opened into a receiving half, which the receive thread blocks in, a sending half, which the link thread uses and which
//! never blocks, and a waker. Where several threads can wait for frames, the receiving half gives its waits away ([`FrameReceiver::part`]), and is then
//! read from by whoever was woken.

pub mod bsd;
pub mod capture;
pub mod filter;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod host;
pub mod interface;
pub mod merge;
pub mod port_guard;
#[cfg(not(windows))]
mod resolver_file;
pub mod segmentation;
pub mod shared_address;
pub mod virtio;
pub mod virtual_link;

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd", windows)))]
mod elsewhere;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod windows;

#[cfg(any(target_os = "macos", target_os = "freebsd"))]
use bsd::kernel as system;
#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd", windows)))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(windows)]
use windows as system;

use crate::packet::{Packet, Pool};
use crate::random::SecretRandom;
use crate::wire::MacAddress;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What carries the packets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Ethernet frames; the address is the one we send from and receive on.
    Ethernet(MacAddress),
    /// Bare IP packets: TUN, WireGuard, PPP.
    Ip,
}

/// What a device can do for us when sending. (When receiving, each packet says what was done.)
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceOffload {
    /// Fills in transport checksums left partial.
    pub checksum: bool,
    /// Cuts TCP super-segments over IPv4.
    pub tcp_segmentation_ipv4: bool,
    /// Cuts TCP super-segments over IPv6.
    pub tcp_segmentation_ipv6: bool,
    /// Cuts UDP super-datagrams.
    pub udp_segmentation: bool,
}

/// What a stack has to know of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProperties {
    /// A name for people: `eth0`, `tap0`, `virtual`.
    pub name: String,
    /// Frames or bare packets.
    pub medium: Medium,
    /// The largest IP packet in bytes, as Linux counts it: without the Ethernet header.
    pub mtu: usize,
    /// What it does for senders. A device without a capability gets packets that do not need it: the sending half of every device cuts
    /// super-segments and fills checksums in by itself where its medium does not.
    pub offload: DeviceOffload,
}

/// A random MAC address that nobody else has: locally administered, unicast (IEEE 802c).
pub fn local_mac(random: &mut SecretRandom) -> MacAddress {
    let [_, _, first, rest @ ..] = random.next_u64().to_be_bytes();
    let [b, c, d, e, f] = rest;
    MacAddress([(first & 0xfc) | 0x02, b, c, d, e, f])
}

/// A device that has not been started.
pub trait Device: Send {
    /// What it is.
    fn properties(&self) -> DeviceProperties;
    /// Starts it.
    fn open(self: Box<Self>) -> io::Result<OpenDevice>;
}

/// A started device in its parts.
pub struct OpenDevice {
    /// For the receive thread.
    pub receiver: Box<dyn FrameReceiver>,
    /// For the link thread.
    pub sender: Box<dyn FrameSender>,
    /// Ends the receiver's wait, from any thread.
    pub waker: Arc<dyn Waker>,
}

/// Ends a [`FrameReceiver::receive`] that blocks, or the next one.
pub trait Waker: Send + Sync {
    /// Wakes the receive thread. Never blocks.
    fn wake(&self);
}

/// The receiving half.
pub trait FrameReceiver: Send {
    /// Waits until frames are there, the waker was used, the link changed, or (if `want_writable`) the device takes frames again. Then
    /// appends at most `limit` frames to `batch`, without waiting for more than are there. With `limit` 0 it waits for the rest of
    /// these events alone. Frames come with their offload facts set; `arrived` and `number` are the caller's.
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received>;

    /// Gives its waits away, where two threads can wait for one device: from then on [`FrameReceiver::read`] takes the place of
    /// [`FrameReceiver::receive`]. `None` where that is not possible; then everything stays as it is.
    fn part(&mut self) -> Option<Waits> {
        None
    }

    /// After [`FrameReceiver::part`]: appends at most `limit` frames to `batch`, as [`FrameReceiver::receive`] does, without waiting for any.
    fn read(&mut self, _pool: &Pool, _limit: usize, _batch: &mut Vec<Packet>) -> io::Result<Stock> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Frames lost before we could read them, since the last call: dropped by the kernel for want of room; longer than a slot.
    fn losses(&mut self) -> Losses {
        Losses::default()
    }
}

/// What a reading left in the device.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stock {
    /// Nothing: what comes from now on wakes whoever waits.
    Empty,
    /// Perhaps something, of which nobody is told again.
    Unknown,
}

/// The waits of a device at which two threads wait.
///
/// A frame wakes the guest alone while there is one in [`GuestWait::wait`], and else the host. So nobody is woken for nothing, and a guest that leaves
/// need not tell anybody, unless it was woken for frames and has not read until the device's [`Stock`] was empty: then it has to use the [`Waker`].
pub struct Waits {
    /// The receive thread's.
    pub host: Box<dyn HostWait>,
    /// One other thread's.
    pub guest: Arc<dyn GuestWait>,
}

/// The wait of a receive thread whose receiver is read by others as well.
pub trait HostWait: Send {
    /// Waits for the waker, a change of the interface, and what is `wanted` besides. Says what ended the wait, and whether there may be frames to read.
    fn wait(&mut self, wanted: Wanted) -> io::Result<(Received, bool)>;
}

/// What a wait is for, and how long it may last.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Frames that no guest is woken for.
    pub frames: bool,
    /// No guest is expected for some time: from now on none need be woken for frames, until a wait says otherwise.
    pub unshared: bool,
    /// That the device takes frames again.
    pub writable: bool,
    /// Wait no longer than this, and if it is zero not at all; `None`: as long as it takes.
    pub at_most: Option<Duration>,
}

/// The wait of a thread that reads in the receive thread's place. One thread at a time waits.
pub trait GuestWait: Send + Sync {
    /// Waits until there are frames or [`GuestWait::wake`] is called, at most for `timeout`, which may be rounded up to a few milliseconds. True if there
    /// may be frames; false also for no reason.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<bool>;
    /// Ends the wait, or the next one.
    fn wake(&self);
    /// Has the host's present wait last at most so long from now, if it is one that must not last ([`Wanted::at_most`]).
    fn put_off(&self, at_most: Duration);
}

/// What ended a wait, besides frames.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The waker was used.
    pub woken: bool,
    /// The device takes frames again.
    pub writable: bool,
    /// The interface changed.
    pub link: Option<LinkChange>,
}

/// What can happen to an interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It carries frames (again).
    Up,
    /// It carries no frames for now.
    Down,
    /// It does not exist any more: nothing will ever come.
    Gone,
    /// The address that we share with the host is no longer the host's.
    AddressLost,
}

/// Frames lost on the way to us.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped by the kernel: our reading was too slow for its buffer.
    pub kernel_drops: u64,
    /// Longer than the largest slot.
    pub truncated: u64,
}

/// The sending half.
pub trait FrameSender: Send {
    /// Sends frames from the front of `frames`, in order, and removes those that the device took (their guards give the room back) or
    /// refused (counted in the answer). Frames that remain found no room: call again when the receiver reports `writable`. (Room may come
    /// back among frames that are offered together: then one that found it overtakes.) Never blocks.
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent>;
}

/// What became of a batch.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames taken. A super-segment counts once.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that the device refused for good: too long, interface down.
    pub refused: u64,
}

impl Sent {
    /// The device took `count` frames from the front of `frames`.
    pub fn take_front(&mut self, frames: &mut VecDeque<Packet>, count: usize) {
        for _ in 0..count {
            let Some(packet) = frames.pop_front() else { return };
            self.frames += 1;
            self.bytes += packet.len() as u64;
        }
    }

    /// The device refused the first of `frames`.
    pub fn refuse_front(&mut self, frames: &mut VecDeque<Packet>) {
        frames.pop_front();
        self.refused += 1;
    }
}
