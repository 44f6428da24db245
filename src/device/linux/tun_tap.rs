//! TUN and TAP: an interface of the kernel's whose other end is a descriptor in our hands.
//!
//! Owns opening one by name, or taking one that a privileged parent handed over (then nothing here needs a privilege), and both halves of the device. A
//! TUN carries bare IP packets, a TAP Ethernet frames from a MAC address of our own. A system call carries one frame; many at once go by `ring` where there is one.
//!
//! Opening by name uses the interface if it exists, and else creates one that vanishes with the descriptor; a created one is set up, its addresses are
//! the caller's business.
//!
//! A virtio-net header in front of each frame is what offload takes. Without offload it is left out where that needs no interface to be made anew.

use super::netlink::{Link, link_by_name, set_up};
use super::receive_buffer::ReceiveBuffer;
use super::ring::Ring;
use super::sending::{Verdict, batch, headers, judge};
use super::sys::{self, Results};
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
            ring: Ring::default(),
            congestion: waiter.congestion(),
        };
        let receiver = TunTapReceiver {
            tun,
            medium: self.medium,
            has_header: self.has_header,
            loss: waiter.loss_report(),
            waiter: Some(waiter),
            are_short: !self.offload && self.mtu + LONGEST_PREFIX < SMALL_SLOT,
            buffers: Vec::new(),
            ring: Ring::default(),
            expected: 0,
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
    /// Where the next frames are read into, their virtio-net headers in front.
    buffers: Vec<ReceiveBuffer>,
    ring: Ring,
    /// Frames of the last reading: as many are expected of the next one.
    expected: usize,
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
        let mut stock = Stock::Unknown;
        while stock == Stock::Unknown && batch.len() - first < limit {
            stock = self.read_some(limit - (batch.len() - first), pool, batch)?;
        }
        self.expected = if stock == Stock::Empty { batch.len() - first } else { limit };
        merge::merge(batch, first, self.medium, pool);
        Ok(stock)
    }

    fn losses(&mut self) -> Losses {
        Losses { kernel_drops: 0, truncated: std::mem::take(&mut self.truncated) }
    }
}

impl TunTapReceiver {
    /// Reads a frame, or several by one call where many are expected.
    fn read_some(&mut self, limit: usize, pool: &Pool, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let expected = self.expected.min(limit).min(sys::MESSAGES);
        let several = if self.ring.is_worthwhile(expected) { self.read_by_ring(expected, pool) } else { None };
        match several {
            Some(results) => self.take_frames(results, pool, batch),
            None => {
                let result = self.read_plainly(pool);
                self.take_frames([result], pool, batch)
            }
        }
    }

    fn read_by_ring(&mut self, count: usize, pool: &Pool) -> Option<Results> {
        self.provide_buffers(count, pool);
        self.ring.read(&self.tun, self.buffers.get_mut(..count)?)
    }

    fn read_plainly(&mut self, pool: &Pool) -> io::Result<usize> {
        self.provide_buffers(1, pool);
        let Some(buffer) = self.buffers.first_mut() else { return Err(io::ErrorKind::OutOfMemory.into()) };
        match buffer.pieces_mut() {
            [start, []] => sys::read(&self.tun, start),
            pieces => sys::read_into_both(&self.tun, pieces),
        }
    }

    fn provide_buffers(&mut self, count: usize, pool: &Pool) {
        let are_short = self.are_short;
        let buffer = || if are_short { ReceiveBuffer::short(pool) } else { ReceiveBuffer::new(0, pool) };
        self.buffers.resize_with(count.max(self.buffers.len()), buffer);
    }

    /// Takes out of the buffers, in order, what was read into them.
    fn take_frames(
        &mut self,
        results: impl IntoIterator<Item = io::Result<usize>>,
        pool: &Pool,
        batch: &mut Vec<Packet>,
    ) -> io::Result<Stock> {
        let (mut stock, mut failure, truncated) = (Stock::Unknown, None, self.truncated);
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(length) => {
                    batch.extend(self.take_frame(number, length, pool));
                    stock = Stock::Unknown;
                }
                Err(error) => match self.survive(error) {
                    Ok(left) => stock = left,
                    Err(error) => failure = failure.or(Some(error)),
                },
            }
        }
        if self.truncated > truncated {
            self.are_short = false;
            self.buffers.clear();
        }
        failure.map_or(Ok(stock), Err)
    }

    fn take_frame(&mut self, number: usize, length: usize, pool: &Pool) -> Option<Packet> {
        let buffer = self.buffers.get_mut(number)?;
        // The kernel cuts a frame that is longer than our room, and does not say so. The interface's MTU may have grown.
        self.truncated += u64::from(length == buffer.room());
        let mut packet = buffer.take(length, pool);
        if self.has_header {
            let offload = packet.front().first_chunk().map(virtio::parse);
            packet.advance(virtio::LENGTH);
            packet.offload = offload.unwrap_or_default();
        }
        Some(packet)
    }

    fn survive(&mut self, error: io::Error) -> io::Result<Stock> {
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(Stock::Unknown),
            Some(libc::EAGAIN | libc::EIO) => Ok(Stock::Empty),
            Some(libc::EBADFD) => {
                self.loss.send();
                Ok(Stock::Empty)
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
    ring: Ring,
    congestion: Arc<AtomicBool>,
}

impl FrameSender for TunTapSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            let count = if self.ring.is_worthwhile(sys::MESSAGES) { sys::MESSAGES } else { 1 };
            sent.refused += self.preparer.prepare_front(frames, count, &self.offload);
            let Some(packet) = frames.front() else { break };
            let several = if self.ring.is_worthwhile(frames.len()) { self.write_by_ring(frames) } else { None };
            let verdict = match several {
                Some(results) => self.settle(results, frames, &mut sent),
                None => {
                    let result = self.write_plainly(packet);
                    self.settle([result], frames, &mut sent)
                }
            };
            if verdict == Verdict::Pause {
                self.congestion.store(true, Ordering::Relaxed);
            }
            if verdict != Verdict::Again {
                break;
            }
        }
        Ok(sent)
    }
}

impl TunTapSender {
    fn write_by_ring(&mut self, frames: &VecDeque<Packet>) -> Option<Results> {
        let headers = headers(frames, self.has_header);
        self.ring.write(&self.tun, &batch(frames, &headers, |_| None))
    }

    /// What is short is put together first: to take pieces costs the kernel more.
    fn write_plainly(&self, packet: &Packet) -> io::Result<usize> {
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

    /// Removes the frames that were taken or refused; says what the first of the others has to wait for: [`Verdict::Again`] for nothing.
    fn settle(&mut self, results: impl IntoIterator<Item = io::Result<usize>>, frames: &mut VecDeque<Packet>, sent: &mut Sent) -> Verdict {
        let mut kept = SmallVec::<[Packet; 1]>::new();
        let (mut waits_for, offered) = (Verdict::Again, self.offload);
        for result in results {
            let Err(error) = result else {
                sent.take_front(frames, 1);
                continue;
            };
            match judge(&error, frames.front(), offered, &mut self.offload) {
                Verdict::Refuse => sent.refuse_front(frames),
                verdict => {
                    if kept.is_empty() {
                        waits_for = verdict;
                    }
                    kept.extend(frames.pop_front());
                }
            }
        }
        kept.into_iter().rev().for_each(|frame| frames.push_front(frame));
        waits_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Segmentation, SegmentationKind};
    use std::os::unix::net::UnixDatagram;

    fn sender() -> TunTapSender {
        let on = DeviceOffload { checksum: true, tcp_segmentation_ipv4: true, tcp_segmentation_ipv6: true, udp_segmentation: true };
        TunTapSender {
            tun: Arc::new(UnixDatagram::unbound().unwrap().into()),
            has_header: false,
            offload: on,
            preparer: Preparer::new(Medium::Ip),
            ring: Ring::default(),
            congestion: Arc::default(),
        }
    }

    fn receiver(tun: UnixDatagram) -> TunTapReceiver {
        let waiter = Waiter::new(None, None, OnFailure::Gone).unwrap();
        TunTapReceiver {
            tun: Arc::new(tun.into()),
            medium: Medium::Ip,
            has_header: false,
            loss: waiter.loss_report(),
            waiter: Some(waiter),
            are_short: true,
            buffers: Vec::new(),
            ring: Ring::default(),
            expected: 0,
            truncated: 0,
        }
    }

    fn failed(code: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(code))
    }

    fn numbers(frames: impl IntoIterator<Item = Packet>) -> Vec<u8> {
        frames.into_iter().filter_map(|frame| frame.front().first().copied()).collect()
    }

    fn frames(count: u8) -> VecDeque<Packet> {
        (0..count).map(|number| Packet::from_bytes(&Pool::default(), &[number; 20])).collect()
    }

    #[test]
    fn frames_that_found_no_room_stay_in_order_and_those_that_are_refused_go() {
        let (mut sender, mut frames, mut sent) = (sender(), frames(7), Sent::default());
        let results = [Ok(20), failed(libc::EAGAIN), Ok(20), failed(libc::EMSGSIZE), failed(libc::ENOBUFS), Ok(20)];
        assert_eq!(sender.settle(results, &mut frames, &mut sent), Verdict::Wait);
        assert_eq!((sent.frames, sent.bytes, sent.refused, numbers(frames)), (3, 60, 1, vec![1, 4, 6]));
    }

    #[test]
    fn super_datagrams_that_the_kernel_is_too_old_for_all_stay() {
        let (mut sender, mut frames, mut sent) = (sender(), frames(3), Sent::default());
        frames.iter_mut().for_each(|frame| frame.offload.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 9 }));
        let results = [failed(libc::EINVAL), failed(libc::EINVAL), failed(libc::EINVAL)];
        assert_eq!(sender.settle(results, &mut frames, &mut sent), Verdict::Again);
        assert_eq!((sent, numbers(frames)), (Sent::default(), vec![0, 1, 2]));
        assert!(!sender.offload.udp_segmentation && sender.offload.tcp_segmentation_ipv4 && sender.offload.checksum);
    }

    #[test]
    fn the_device_is_empty_if_the_last_reading_says_so() {
        let (pool, mut receiver) = (Pool::default(), receiver(UnixDatagram::unbound().unwrap()));
        for (results, stock, count) in [
            (vec![Ok(9), failed(libc::EAGAIN)], Stock::Empty, 1),
            (vec![failed(libc::EAGAIN), Ok(9)], Stock::Unknown, 1),
            (vec![Ok(9), failed(libc::EINTR)], Stock::Unknown, 1),
            (vec![Ok(9), Ok(9), failed(libc::EBADFD), failed(libc::EBADFD)], Stock::Empty, 2),
        ] {
            receiver.provide_buffers(results.len(), &pool);
            let mut batch = Vec::new();
            assert_eq!(receiver.take_frames(results, &pool, &mut batch).unwrap(), stock);
            assert_eq!(batch.len(), count);
        }
        receiver.provide_buffers(3, &pool);
        let mut batch = Vec::new();
        let failure = receiver.take_frames([Ok(9), failed(libc::ENOMEM), Ok(9)], &pool, &mut batch).unwrap_err();
        assert_eq!((failure.raw_os_error(), batch.len()), (Some(libc::ENOMEM), 2), "what was read is not lost");
    }

    #[test]
    fn frames_that_fill_their_buffers_bring_larger_ones() {
        let (pool, mut receiver) = (Pool::default(), receiver(UnixDatagram::unbound().unwrap()));
        receiver.provide_buffers(3, &pool);
        let results = [Ok(SMALL_SLOT), Ok(20), Ok(SMALL_SLOT)];
        receiver.take_frames(results, &pool, &mut Vec::new()).unwrap();
        assert_eq!(receiver.losses(), Losses { kernel_drops: 0, truncated: 2 });
        receiver.provide_buffers(1, &pool);
        assert!(receiver.buffers[0].room() > SMALL_SLOT);
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn as_many_are_read_at_once_as_the_last_time() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (pool, mut receiver, mut batch) = (Pool::default(), receiver(ours), Vec::new());
        for (round, limit, stock) in [(0, 9, Stock::Unknown), (9, 9, Stock::Unknown), (18, 10, Stock::Empty), (27, 10, Stock::Empty)] {
            (round..round + 9).for_each(|number| assert_eq!(theirs.send(&[number; 20]).unwrap(), 20));
            assert_eq!(receiver.read(&pool, limit, &mut batch).unwrap(), stock);
            assert_eq!((receiver.expected, matches!(receiver.ring, Ring::Untried)), (9, round == 0));
        }
        assert_eq!(numbers(batch), (0..36).collect::<Vec<_>>());
    }
}
