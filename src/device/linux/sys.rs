//! System calls behind safe functions: with `ring` the one place of the Linux devices with `unsafe`.
//!
//! Owns lifetimes and lengths of what the kernel reads and writes. Refuses to decide anything: results come back as the kernel gave them.

use super::receive_buffer::ReceiveBuffer;
use crate::device::filter::Instruction;
use smallvec::SmallVec;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Most messages that one call receives or sends. gVisor found batches of 8 in and 47 out to be enough.
pub(super) const MESSAGES: usize = 64;
/// What became of each of several requests, in order: bytes, or the error. `EINTR` says that it was not tried.
pub(super) type Results = SmallVec<[io::Result<usize>; MESSAGES]>;
/// Room for the one control message we ask for, a `tpacket_auxdata`.
const CONTROL_BYTES: usize = 64;

/// The answer of a system call that says -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Moves the calling thread into another network namespace.
pub(super) fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, which `namespace` keeps open, and touches no memory of ours.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// A new socket, closed on exec; reads and writes do not block.
pub(super) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// An eventfd, for waking somebody who polls.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Values that the kernel reads or writes as they are.
///
/// # Safety
/// Any bytes must be a valid value, and the type must hold no pointer that the kernel would follow.
pub(in crate::device) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: integers only.
unsafe impl Plain for libc::packet_mreq {}
// SAFETY: integers only.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: integers only.
unsafe impl Plain for libc::sockaddr_ll {}
// SAFETY: integers only.
unsafe impl Plain for libc::sockaddr_nl {}

/// A value of zeros.
pub(super) fn zero<T: Plain>() -> T {
    // SAFETY: `Plain` promises that any bytes are a valid value.
    unsafe { zeroed() }
}

/// Sets a socket option.
pub(in crate::device) fn set_option<T: Plain>(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and length describe `value`, which the kernel only reads and does not keep.
    check(unsafe { libc::setsockopt(descriptor, level, name, (&raw const value).cast(), size_of::<T>() as libc::socklen_t) }).map(drop)
}

/// Reads a socket option.
pub(super) fn get_option<T: Plain>(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value: T = zero();
    let mut length = size_of::<T>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`; `Plain` promises that whatever it writes is valid.
    check(unsafe { libc::getsockopt(descriptor, level, name, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

/// Replaces a socket's packet filter, atomically.
pub(in crate::device) fn attach_filter(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::other("packet filter too long"))?;
    // An `Instruction` has the layout of `sock_filter`.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: `program` describes the slice, which outlives the call; the kernel copies it and writes nothing.
    check(unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size) }).map(drop)
}

/// Binds a socket to an address of its family.
pub(super) fn bind<A: Plain>(socket: impl AsFd, address: A) -> io::Result<()> {
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and length describe `address`, which the kernel only reads.
    check(unsafe { libc::bind(descriptor, (&raw const address).cast(), size_of::<A>() as libc::socklen_t) }).map(drop)
}

/// What to wait for on a descriptor, and what came of it.
pub(super) type Poll = libc::pollfd;

/// An entry for [`poll`]; `events` 0 waits for errors alone.
pub(super) fn poll_entry(descriptor: BorrowedFd<'_>, events: i16) -> Poll {
    Poll { fd: descriptor.as_raw_fd(), events, revents: 0 }
}

/// Waits until something happens on one of the descriptors, at most for `timeout`. An interruption by a signal ends the wait.
pub(super) fn poll(entries: &mut [Poll], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(timespec);
    let pointer = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: pointer and count describe `entries`; `pointer` is null or points to `timeout`, which outlives the call, and the kernel writes to neither it nor a mask.
    match check(unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, pointer, std::ptr::null()) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// A timer, readable when its time is over (timerfd_create(2)).
pub(super) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sets the timer anew: so long from now.
pub(super) fn set_timer(timer: &OwnedFd, time: Duration) -> io::Result<()> {
    // Zero would stop it.
    let time = timespec(time.max(Duration::from_nanos(1)));
    let setting = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: time };
    // SAFETY: the kernel reads `setting`, and writes no old one to a null pointer.
    check(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const setting, std::ptr::null_mut()) }).map(drop)
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos() as _,
    }
}

/// An epoll descriptor.
pub(super) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has `epoll` tell of `events` on `descriptor` under a name.
pub(super) fn epoll_add(epoll: &OwnedFd, descriptor: impl AsFd, events: libc::c_int, name: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: name };
    // SAFETY: the kernel reads one `epoll_event`, which we hold.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, descriptor.as_fd().as_raw_fd(), &raw mut event) }).map(drop)
}

/// Has `epoll` tell of `descriptor` no more, if it did.
pub(super) fn epoll_remove(epoll: &OwnedFd, descriptor: impl AsFd) {
    // SAFETY: no memory is passed. It fails only for a descriptor that is not there.
    unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, descriptor.as_fd().as_raw_fd(), std::ptr::null_mut()) };
}

/// Waits for events, at most `timeout_millis` (-1: for ever), and gives the names of up to two. An interruption by a signal ends the wait.
pub(super) fn epoll_wait(epoll: &OwnedFd, timeout_millis: i32) -> io::Result<impl Iterator<Item = u64> + use<>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
    // SAFETY: pointer and count describe `events`.
    let count = match check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 2, timeout_millis) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        result => result? as usize,
    };
    Ok(events.into_iter().take(count).map(|event| event.u64))
}

/// Reads into `bytes`; for eventfds, netlink sockets and the like.
pub(super) fn read(descriptor: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    check_size(unsafe { libc::read(descriptor.as_fd().as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) })
}

/// Reads one frame into two pieces, one after the other.
pub(super) fn read_into_both(descriptor: impl AsFd, [start, rest]: [&mut [u8]; 2]) -> io::Result<usize> {
    let parts = [writable(start), writable(rest)];
    // SAFETY: all entries describe memory that we hold mutably for the length of the call.
    check_size(unsafe { libc::readv(descriptor.as_fd().as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int) })
}

/// Writes `bytes` in one piece.
pub(super) fn write(descriptor: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    check_size(unsafe { libc::write(descriptor.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// Writes pieces as one frame.
pub(super) fn write_frame(descriptor: impl AsFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: `IoSlice` has the layout of `iovec` (guaranteed on Unix), and its bytes live for the length of the call.
    check_size(unsafe { libc::writev(descriptor.as_fd().as_raw_fd(), pieces.as_ptr().cast(), pieces.len() as libc::c_int) })
}

fn writable(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// What came with one received message.
#[derive(Copy, Clone)]
pub(super) struct Incoming {
    /// Bytes of the frame in the buffer.
    pub(super) length: usize,
    /// The frame was longer than the buffer.
    pub(super) truncated: bool,
    /// The virtio-net header, zeros if there is none.
    pub(super) header: [u8; super::super::virtio::LENGTH],
    /// Control messages as the kernel laid them out.
    pub(super) control: ControlBytes,
    /// How many of them there are.
    pub(super) control_length: usize,
}

/// Aligned as the kernel aligns control messages.
#[derive(Copy, Clone)]
#[repr(align(8))]
pub(super) struct ControlBytes(pub(super) [u8; CONTROL_BYTES]);

impl Incoming {
    /// Nothing received.
    pub(super) const EMPTY: Incoming = Incoming {
        length: 0,
        truncated: false,
        header: [0; super::super::virtio::LENGTH],
        control: ControlBytes([0; CONTROL_BYTES]),
        control_length: 0,
    };
}

/// Receives as many messages as there are, at most one for each buffer, without waiting. Each is preceded by a virtio-net header if
/// `with_header`. Fills `incoming` and says how many there were.
pub(super) fn receive_many(
    socket: impl AsFd,
    with_header: bool,
    buffers: &mut [ReceiveBuffer],
    incoming: &mut [Incoming; MESSAGES],
) -> io::Result<usize> {
    let mut pieces: SmallVec<[[libc::iovec; 3]; MESSAGES]> = SmallVec::new();
    let mut messages: SmallVec<[libc::mmsghdr; MESSAGES]> = SmallVec::new();
    for (buffer, incoming) in buffers.iter_mut().zip(incoming.iter_mut()) {
        let [start, rest] = buffer.pieces_mut();
        pieces.push([writable(&mut incoming.header), writable(start), writable(rest)]);
    }
    for (pieces, incoming) in pieces.iter_mut().zip(incoming.iter_mut()) {
        let pieces = if with_header { &mut pieces[..] } else { &mut pieces[1..] };
        messages.push(message(pieces, Some(&mut incoming.control)));
    }
    let count = messages.len() as libc::c_uint;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: every header describes pieces and control bytes in `pieces`, `buffers` and `incoming`; these are borrowed mutably or owned
    // here, do not move after the pointers were taken (both vectors are complete, or were only filled before), and outlive the call.
    let received = check(unsafe { libc::recvmmsg(descriptor, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut()) })?;
    let header_length = if with_header { super::super::virtio::LENGTH } else { 0 };
    for (message, incoming) in messages.iter().zip(incoming.iter_mut()).take(received as usize) {
        incoming.length = (message.msg_len as usize).saturating_sub(header_length);
        incoming.truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        incoming.control_length = message.msg_hdr.msg_controllen as _;
    }
    Ok(received as usize)
}

fn message(pieces: &mut [libc::iovec], control: Option<&mut ControlBytes>) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is integers and pointers; zeros are valid, and the null pointers come with lengths of zero.
    let mut message: libc::mmsghdr = unsafe { zeroed() };
    message.msg_hdr.msg_iov = pieces.as_mut_ptr();
    message.msg_hdr.msg_iovlen = pieces.len() as _;
    if let Some(control) = control {
        message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }
    message
}

/// Frames to be sent by one call, each in pieces. Holds borrows only.
#[derive(Default)]
pub(super) struct OutgoingBatch<'a> {
    pieces: SmallVec<[IoSlice<'a>; 4 * MESSAGES]>,
    frames: SmallVec<[(usize, Option<&'a libc::sockaddr_ll>); MESSAGES]>,
}

impl<'a> OutgoingBatch<'a> {
    /// Adds a piece to the frame that the next [`OutgoingBatch::end_frame`] ends.
    pub(super) fn push(&mut self, piece: &'a [u8]) {
        self.pieces.push(IoSlice::new(piece));
    }

    /// Ends a frame; `address` says its protocol where the medium has no header to say so.
    pub(super) fn end_frame(&mut self, address: Option<&'a libc::sockaddr_ll>) {
        self.frames.push((self.pieces.len(), address));
    }

    /// The pieces of each frame.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[IoSlice<'a>]> {
        let starts = std::iter::once(0).chain(self.frames.iter().map(|&(end, _)| end));
        starts.zip(&self.frames).map(|(start, &(end, _))| self.pieces.get(start..end).unwrap_or_default())
    }

    /// Sends the frames without waiting; says how many the kernel took. An error is the first frame's.
    pub(super) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let mut messages: SmallVec<[libc::mmsghdr; MESSAGES]> = SmallVec::new();
        messages.extend(self.frames().zip(&self.frames).map(|(pieces, &(_, address))| message_to_send(pieces, address)));
        let count = messages.len() as libc::c_uint;
        // SAFETY: every header describes pieces in `self`, whose bytes and addresses are borrowed for as long as `self` lives; the kernel
        // reads them and writes only the `msg_len` fields of `messages`.
        check(unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) })
            .map(|sent| sent as usize)
    }
}

fn message_to_send(pieces: &[IoSlice<'_>], address: Option<&libc::sockaddr_ll>) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is integers and pointers; zeros are valid, and the null pointers come with lengths of zero.
    let mut message: libc::mmsghdr = unsafe { zeroed() };
    // `IoSlice` has the layout of `iovec`; sendmmsg does not write through the pointer.
    message.msg_hdr.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_hdr.msg_iovlen = pieces.len() as _;
    if let Some(address) = address {
        message.msg_hdr.msg_name = std::ptr::from_ref(address).cast_mut().cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    }
    message
}

/// What `TUNSETIFF` and `TUNGETIFF` pass: an interface's name and flags.
pub(super) fn tun_set_interface(tun: impl AsFd, name: &str, flags: libc::c_short) -> io::Result<()> {
    // SAFETY: `ifreq` is integers and a union of plain values; zeros are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which we hold.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map(drop)
}

/// The name and flags of the interface behind a TUN/TAP descriptor.
pub(super) fn tun_interface(tun: impl AsFd) -> io::Result<(String, libc::c_int)> {
    // SAFETY: `ifreq` is integers and a union of plain values; zeros are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, which we hold.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let name: Vec<u8> = request.ifr_name.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    // SAFETY: the kernel filled in the flags, and any bytes are valid flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((String::from_utf8_lossy(&name).into_owned(), libc::c_int::from(flags as u16)))
}

/// Tells the kernel what super-segments we take from a TUN/TAP device.
pub(super) fn tun_set_offload(tun: impl AsFd, offload: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) }).map(drop)
}

/// Sets the size of the virtio-net header of a TUN/TAP device.
pub(super) fn tun_set_header_length(tun: impl AsFd, length: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one integer, which lives for the length of the call.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) }).map(drop)
}

/// Makes a descriptor non-blocking.
pub(super) fn set_nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let descriptor = descriptor.as_fd().as_raw_fd();
    // SAFETY: fcntl with these commands touches no memory.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Raises the soft limit of open descriptors to the hard one; says how many there may be now.
pub(in crate::device) fn raise_descriptor_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, which we hold.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one `rlimit`, which we hold.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Medium;
    use crate::device::filter::{Filter, PortSet, TagPlace};
    use crate::wire::MacAddress;
    use std::net::Ipv4Addr;

    #[test]
    fn the_kernel_takes_the_filters() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let shared = |medium, ports: &PortSet| Filter::for_shared_address(TagPlace::Beside, medium, Ipv4Addr::LOCALHOST, ports).unwrap();
        let ports = PortSet { tcp: [80, 443].into(), udp: (40_000..40_064).collect() };
        for filter in [
            Filter::drop_all(),
            Filter::for_station(MacAddress::ZERO),
            shared(Medium::Ethernet(MacAddress::ZERO), &ports),
            shared(Medium::Ip, &PortSet::default()),
        ] {
            attach_filter(&socket, filter.instructions()).unwrap();
        }
    }
}
