//! TUN and TAP: an interface of the kernel's whose other end is a descriptor in our hands.
//!
//! Owns opening one by name, or taking one that a privileged parent handed over (then nothing here needs a privilege), and both halves of the device. A
//! TUN carries bare IP packets, a TAP Ethernet frames from a MAC address of our own. One frame for each system call: the kernel has no batches here, which
//! super-segments make up for.
//!
//! Opening by name uses the interface if it exists, and else creates one that vanishes with the descriptor; a created one is set up, its addresses are
//! the caller's business.
//!
//! A virtio-net header in front of each frame is what offload takes. Without offload it is left out where that needs no interface to be made anew.

use super::netlink::{Link, link_by_name, set_up};
use super::receive_buffer::ReceiveBuffer;
use super::sending::{Verdict, judge};
use super::sys;
use super::wait::{LossReport, OnFailure, Waiter, parted};
use crate::device::segmentation::Preparer;
use crate::device::{
    Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Losses, Medium, OpenDevice, Received, Sent, Stock, Waits, Wanted,
    local_mac, merge, virtio,
};
use crate::packet::{Packet, Pool, SMALL_SLOT};
use crate::random::SecretRandom;
use crate::wire::MacAddress;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often an interface that is still in use is tried again, and how long it is waited between: a second in all.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes in front of an IP packet, at most: virtio-net header, Ethernet header, two 802.1Q tags.
const LONGEST_PREFIX: usize = virtio::LENGTH + 14 + 8;
/// Frames of so many bytes, the header in front of them included, are written in one piece.
const SHORT: usize = 256;

/// Which of the two.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TunTapKind {
    /// Bare IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

/// A TUN/TAP device that has not been started.
pub struct TunTap {
    tun: OwnedFd,
    name: String,
    medium: Medium,
    mtu: usize,
    has_header: bool,
    offload: bool,
    /// Where the interface is one of our namespace's: for news of it.
    link: Option<Link>,
}

impl TunTap {
    /// The TAP interface `name`, with offload and a random MAC address of our own.
    pub fn tap(name: &str) -> io::Result<TunTap> {
        TunTap::open_named(name, TunTapKind::Tap, true)
    }

    /// The TUN interface `name`, with offload.
    pub fn tun(name: &str) -> io::Result<TunTap> {
        TunTap::open_named(name, TunTapKind::Tun, true)
    }

    /// A descriptor of `/dev/net/tun` that was attached to an interface with `IFF_NO_PI`, in this or another namespace; `IFF_VNET_HDR` is used if it is set. `mtu` is
    /// the interface's.
    pub fn from_fd(tun: OwnedFd, kind: TunTapKind, mtu: usize, offload: bool) -> io::Result<TunTap> {
        let (name, flags) = sys::tun_interface(&tun)?;
        let is_tap = flags & libc::IFF_TAP != 0;
        if is_tap != (kind == TunTapKind::Tap) || flags & libc::IFF_NO_PI == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name}: not a {kind:?} descriptor without packet information"),
            ));
        }
        TunTap::new(tun, name, kind, mtu, flags & libc::IFF_VNET_HDR != 0, None)?.offload(offload)
    }

    /// The interface `name`, attached once: offload is known.
    pub(super) fn open_named(name: &str, kind: TunTapKind, offload: bool) -> io::Result<TunTap> {
        let existed = link_by_name(name).is_ok();
        let (tun, has_header) = attach(name, kind, offload).map_err(|error| open_error(name, error))?;
        let link = link_by_name(name)?;
        if !existed {
            set_up(link.index)?;
        }
        TunTap::new(tun, name.to_owned(), kind, link.mtu, has_header, Some(link))?.offload(offload)
    }

    fn new(tun: OwnedFd, name: String, kind: TunTapKind, mtu: usize, has_header: bool, link: Option<Link>) -> io::Result<TunTap> {
        sys::set_nonblocking(&tun)?;
        let medium = match kind {
            TunTapKind::Tap => Medium::Ethernet(local_mac(&mut SecretRandom::from_os()?)),
            TunTapKind::Tun => Medium::Ip,
        };
        Ok(TunTap { tun, name, medium, mtu, has_header, offload: false, link })
    }

    /// The descriptor, for handing over to another process or namespace.
    pub fn into_fd(self) -> OwnedFd {
        self.tun
    }

    /// Switches super-segments and checksum offload on or off.
    pub fn offload(mut self, on: bool) -> io::Result<TunTap> {
        if self.has_header != on && self.link.is_some() && self.outlives_descriptor()? {
            self = self.attached_again(on)?;
        }
        self.offload = on && self.has_header;
        if self.has_header {
            sys::tun_set_header_length(&self.tun, virtio::LENGTH as libc::c_int)?;
        }
        // Not USO: a super-datagram from the kernel would only be cut again, since to UDP each piece is a datagram of its own.
        let all = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        // An interface keeps what its last descriptor took.
        sys::tun_set_offload(&self.tun, if self.offload { all } else { 0 })?;
        Ok(self)
    }

    /// Whether the interface stays when its descriptor is closed.
    fn outlives_descriptor(&self) -> io::Result<bool> {
        sys::tun_interface(&self.tun).map(|(_, flags)| flags & libc::IFF_PERSIST != 0)
    }

    /// The same interface, with a virtio-net header in front of frames or without.
    fn attached_again(self, with_header: bool) -> io::Result<TunTap> {
        let kind = if self.medium == Medium::Ip { TunTapKind::Tun } else { TunTapKind::Tap };
        drop(self.tun);
        let (tun, has_header) = attach_when_free(&self.name, kind, with_header).map_err(|error| open_error(&self.name, error))?;
        sys::set_nonblocking(&tun)?;
        Ok(TunTap { tun, has_header, ..self })
    }

    /// Sends from and receives on this MAC address (TAP only; on a TUN there is none to set).
    pub fn mac(mut self, mac: MacAddress) -> TunTap {
        if let Medium::Ethernet(own) = &mut self.medium {
            *own = mac;
        }
        self
    }

    fn device_offload(&self) -> DeviceOffload {
        let on = self.offload;
        DeviceOffload { checksum: on, tcp_segmentation_ipv4: on, tcp_segmentation_ipv6: on, udp_segmentation: on }
    }
}

/// Attaches to an interface whose descriptor was just closed: what another thread forked meanwhile has it as well, until it executes its program.
fn attach_when_free(name: &str, kind: TunTapKind, with_header: bool) -> io::Result<(OwnedFd, bool)> {
    for _ in 0..ATTEMPTS {
        match attach(name, kind, with_header) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attach(name, kind, with_header)
}

/// A descriptor of the interface `name`, and whether there is a virtio-net header in front of frames: not without being wanted, nor on kernels that have none.
fn attach(name: &str, kind: TunTapKind, with_header: bool) -> io::Result<(OwnedFd, bool)> {
    let tun: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?.into();
    let kind = if kind == TunTapKind::Tap { libc::IFF_TAP } else { libc::IFF_TUN };
    let set = |header: libc::c_int| sys::tun_set_interface(&tun, name, (kind | libc::IFF_NO_PI | header) as libc::c_short);
    let has_header = match set(if with_header { libc::IFF_VNET_HDR } else { 0 }) {
        Err(error) if with_header && error.raw_os_error() == Some(libc::EINVAL) => set(0).map(|()| false)?,
        result => result.map(|()| with_header)?,
    };
    Ok((tun, has_header))
}

fn open_error(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let text = format!(
                "no permission to open {name}: run as root or give the program CAP_NET_ADMIN, or have root make the interface for this user (ip tuntap add dev {name} mode tap user USER)"
            );
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        Some(libc::EBUSY) => io::Error::new(error.kind(), format!("{name} is in use by another program")),
        Some(libc::EINVAL) => io::Error::new(error.kind(), format!("{name} is an interface of another kind")),
        Some(libc::ENOENT) => io::Error::new(error.kind(), "this kernel has no /dev/net/tun (modprobe tun)"),
        _ => io::Error::new(error.kind(), format!("{name}: {error}")),
    }
}

impl Device for TunTap {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties { name: self.name.clone(), medium: self.medium, mtu: self.mtu, offload: self.device_offload() }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let waiter = Waiter::new(self.link.as_ref(), None, OnFailure::Gone)?;
        let waker = waiter.waker();
        let offload = self.device_offload();
        let tun = Arc::new(self.tun);
        let sender = TunTapSender {
            tun: tun.clone(),
            has_header: self.has_header,
            offload,
            preparer: Preparer::new(self.medium),
            congestion: waiter.congestion(),
        };
        let receiver = TunTapReceiver {
            tun,
            medium: self.medium,
            has_header: self.has_header,
            loss: waiter.loss_report(),
            waiter: Some(waiter),
            are_short: !self.offload && self.mtu + LONGEST_PREFIX < SMALL_SLOT,
            buffer: None,
            truncated: 0,
        };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker })
    }
}

struct TunTapReceiver {
    tun: Arc<OwnedFd>,
    medium: Medium,
    has_header: bool,
    loss: LossReport,
    /// Until it is parted.
    waiter: Option<Waiter>,
    /// Whether frames are so short that a small slot holds them, and the header in front: then a plain read takes both, which the kernel has less to do for than
    /// for one in pieces.
    are_short: bool,
    /// Slots that the next frame is read into, its virtio-net header in front.
    buffer: Option<ReceiveBuffer>,
    truncated: u64,
}

impl FrameReceiver for TunTapReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let waiter = self.waiter.as_mut().ok_or_else(parted)?;
        let wanted = Wanted { frames: limit > 0, unshared: true, writable: want_writable, ..Wanted::default() };
        let (received, readable) = waiter.wait(self.tun.as_fd(), wanted)?;
        if readable {
            self.read(pool, limit, batch)?;
        }
        Ok(received)
    }

    fn part(&mut self) -> Option<Waits> {
        Waiter::part(&mut self.waiter, &self.tun)
    }

    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let first = batch.len();
        while batch.len() - first < limit {
            let Some(packet) = self.read_frame(pool)? else {
                merge::merge(batch, first, self.medium, pool);
                return Ok(Stock::Empty);
            };
            batch.push(packet);
        }
        merge::merge(batch, first, self.medium, pool);
        Ok(Stock::Unknown)
    }

    fn losses(&mut self) -> Losses {
        Losses { kernel_drops: 0, truncated: std::mem::take(&mut self.truncated) }
    }
}

impl TunTapReceiver {
    /// The next frame; `None` if there is none now, or never more.
    fn read_frame(&mut self, pool: &Pool) -> io::Result<Option<Packet>> {
        let buffer = self.buffer.get_or_insert_with(|| ReceiveBuffer::new(0, pool));
        let (room, read) = if self.are_short {
            let start = buffer.start_mut();
            (start.len(), sys::read(&self.tun, start))
        } else {
            let pieces = buffer.pieces_mut();
            (pieces.iter().map(|piece| piece.len()).sum(), sys::read_into_both(&self.tun, pieces))
        };
        let length = match read {
            Ok(length) => length,
            Err(error) => return self.survive(error),
        };
        let mut packet = buffer.take(length, pool);
        if length == room {
            // The kernel cuts a frame that is longer than our room, and does not say so. The interface's MTU may have grown.
            self.truncated += 1;
            self.are_short = false;
        }
        if self.has_header {
            let offload = packet.front().first_chunk().map(virtio::parse);
            packet.advance(virtio::LENGTH);
            packet.offload = offload.unwrap_or_default();
        }
        Ok(Some(packet))
    }

    fn survive(&mut self, error: io::Error) -> io::Result<Option<Packet>> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR | libc::EIO) => Ok(None),
            Some(libc::EBADFD) => {
                self.loss.send();
                Ok(None)
            }
            _ => Err(error),
        }
    }
}

struct TunTapSender {
    tun: Arc<OwnedFd>,
    has_header: bool,
    offload: DeviceOffload,
    preparer: Preparer,
    congestion: Arc<AtomicBool>,
}

impl FrameSender for TunTapSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            sent.refused += self.preparer.prepare_front(frames, 1, &self.offload);
            let Some(packet) = frames.front() else { break };
            let verdict = match self.write(packet) {
                Ok(_) => {
                    sent.take_front(frames, 1);
                    continue;
                }
                Err(error) => judge(&error, Some(packet), &mut self.offload),
            };
            match verdict {
                Verdict::Again => {}
                Verdict::Wait => break,
                Verdict::Pause => {
                    self.congestion.store(true, Ordering::Relaxed);
                    break;
                }
                Verdict::Refuse => sent.refuse_front(frames),
            }
        }
        Ok(sent)
    }
}

impl TunTapSender {
    /// What is short is put together first: to take pieces costs the kernel more.
    fn write(&self, packet: &Packet) -> io::Result<usize> {
        let header = virtio::emit(packet);
        let front = if self.has_header { virtio::LENGTH } else { 0 };
        let mut whole = [0; SHORT];
        if let Some(whole) = whole.get_mut(..front + packet.len()) {
            let (front, rest) = whole.split_at_mut(front);
            front.iter_mut().zip(header).for_each(|(to, from)| *to = from);
            packet.copy_to(rest);
            return sys::write(&self.tun, whole);
        }
        let header = self.has_header.then(|| IoSlice::new(&header));
        let slices = packet.slices().iter().map(|slice| IoSlice::new(slice));
        let pieces: SmallVec<[IoSlice<'_>; 32]> = header.into_iter().chain(slices).collect();
        sys::write_frame(&self.tun, &pieces)
    }
}
