//! System calls behind safe functions: the one place of the BSD devices with `unsafe`.
//!
//! Owns lifetimes and lengths of what the kernel reads and writes. Refuses to decide anything: results come back as the kernel gave them.

use crate::device::filter::Instruction;
use std::ffi::{CStr, CString};
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Longest address that `getifaddrs` gives: a `sockaddr_dl` with a long name.
const ADDRESS_BYTES: usize = 255;

/// The answer of a system call that says -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Values that the kernel reads or writes as they are.
///
/// # Safety
/// Any bytes must be a valid value, and the type must hold no pointer that the kernel would follow.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: nothing.
unsafe impl Plain for () {}
// SAFETY: an integer.
unsafe impl Plain for i32 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers only.
unsafe impl Plain for [u32; 2] {}
// SAFETY: integers only.
unsafe impl Plain for [u8; 32] {}

/// A value of zeros.
#[cfg(target_os = "macos")]
pub(super) fn zero<T: Plain>() -> T {
    // SAFETY: `Plain` promises that any bytes are a valid value.
    unsafe { zeroed() }
}

/// A socket that a child process does not inherit.
pub(super) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = check(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: fcntl with this command touches no memory.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(socket)
}

/// Makes a descriptor non-blocking.
pub(super) fn set_nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let descriptor = descriptor.as_fd().as_raw_fd();
    // SAFETY: fcntl with these commands touches no memory.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// An ioctl whose argument is a `T`: the request says how many bytes the kernel reads or writes, and that has to be its size.
pub(super) fn ioctl<T: Plain>(descriptor: impl AsFd, request: libc::c_ulong, value: &mut T) -> io::Result<()> {
    let bytes = (request >> 16) & 0x1fff;
    if bytes != size_of::<T>() as libc::c_ulong {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("ioctl {request:#x} takes {bytes} bytes")));
    }
    // SAFETY: the kernel reads and writes as many bytes as the request says, which is the size of `value`; `Plain` promises that any bytes are valid.
    check(unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), request, std::ptr::from_mut(value)) }).map(drop)
}

/// `struct bpf_program`.
#[repr(C)]
struct Program {
    length: libc::c_uint,
    instructions: *const Instruction,
}

/// Sets a packet filter by `BIOCSETF` or `BIOCSETFNR`.
pub(super) fn set_filter(bpf: impl AsFd, request: libc::c_ulong, instructions: &[Instruction]) -> io::Result<()> {
    let length = libc::c_uint::try_from(instructions.len()).map_err(|_| io::Error::other("packet filter too long"))?;
    let program = Program { length, instructions: instructions.as_ptr() };
    // SAFETY: `Program` has the layout of `bpf_program` and `Instruction` that of `bpf_insn`; the kernel copies them and writes nothing.
    check(unsafe { libc::ioctl(bpf.as_fd().as_raw_fd(), request, &raw const program) }).map(drop)
}

/// Reads into `bytes`.
pub(super) fn read(descriptor: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    check_size(unsafe { libc::read(descriptor.as_fd().as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) })
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

/// Connects a system socket to a kernel control's unit.
#[cfg(target_os = "macos")]
pub(super) fn connect_control(socket: impl AsFd, id: u32, unit: u32) -> io::Result<()> {
    // SAFETY: `sockaddr_ctl` is integers; zeros are valid.
    let mut address: libc::sockaddr_ctl = unsafe { zeroed() };
    address.sc_len = size_of::<libc::sockaddr_ctl>() as u8;
    address.sc_family = libc::AF_SYSTEM as u8;
    address.ss_sysaddr = libc::AF_SYS_CONTROL as u16;
    address.sc_id = id;
    address.sc_unit = unit;
    let length = size_of::<libc::sockaddr_ctl>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

/// What `getifaddrs` says: an address of an interface, or (family `AF_LINK`) the interface itself.
pub(super) struct InterfaceEntry {
    pub(super) name: String,
    pub(super) flags: u32,
    /// A `sockaddr`.
    pub(super) address: Vec<u8>,
    /// Its mask, as a `sockaddr`.
    pub(super) mask: Vec<u8>,
    /// The MTU, where the entry is the interface itself.
    pub(super) mtu: Option<u32>,
}

/// Everything that `getifaddrs` lists.
pub(super) fn interface_entries() -> io::Result<Vec<InterfaceEntry>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the kernel's library writes one pointer, to a list that is freed below.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut entries = Vec::new();
    let mut next = first;
    // SAFETY: each node of the list, and what it points to, lives until `freeifaddrs`; the last one's link is null.
    while let Some(node) = unsafe { next.as_ref() } {
        // SAFETY: as above, the fields of a node are what getifaddrs(3) says.
        entries.push(unsafe { entry(node) });
        next = node.ifa_next;
    }
    // SAFETY: the list came from `getifaddrs`, and nothing of it is kept.
    unsafe { libc::freeifaddrs(first) };
    Ok(entries)
}

/// # Safety
/// `node` must be of a list that `getifaddrs` gave and that was not freed.
unsafe fn entry(node: &libc::ifaddrs) -> InterfaceEntry {
    // SAFETY: the name is a C string.
    let name = unsafe { CStr::from_ptr(node.ifa_name) }.to_string_lossy().into_owned();
    // SAFETY: both are null or point to a `sockaddr` whose first byte is its length.
    let (address, mask) = unsafe { (address_bytes(node.ifa_addr), address_bytes(node.ifa_netmask)) };
    let is_link = address.get(1).is_some_and(|&family| libc::c_int::from(family) == libc::AF_LINK);
    let data = node.ifa_data.cast::<[u32; 3]>();
    // SAFETY: for `AF_LINK` the data is an `if_data`, whose MTU is the 32-bit number behind eight bytes, on both systems.
    let mtu = (is_link && !data.is_null()).then(|| unsafe { data.read_unaligned() }[2]);
    InterfaceEntry { name, flags: node.ifa_flags, address, mask, mtu }
}

/// # Safety
/// `address` must be null or point to a `sockaddr` with its length in its first byte.
unsafe fn address_bytes(address: *const libc::sockaddr) -> Vec<u8> {
    if address.is_null() {
        return Vec::new();
    }
    // SAFETY: the first byte of a `sockaddr` is its length, by which many bytes may be read.
    let length = usize::from(unsafe { address.cast::<u8>().read() }).min(ADDRESS_BYTES);
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) }.to_vec()
}

/// The kernel's IPv4 routing table, as messages.
pub(super) fn route_table() -> io::Result<Vec<u8>> {
    let mut name = [libc::CTL_NET, libc::PF_ROUTE, 0, libc::AF_INET, libc::NET_RT_DUMP, 0];
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let mut length = bytes.len();
        let to = if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_mut_ptr() };
        // SAFETY: name and buffer are described by their pointers and lengths; a null buffer asks for the length alone.
        let result = check(unsafe { libc::sysctl(name.as_mut_ptr(), 6, to.cast(), &raw mut length, std::ptr::null_mut(), 0) });
        match result {
            // The table grew since its length was asked for.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => bytes.clear(),
            Err(error) => return Err(error),
            Ok(_) if bytes.is_empty() && length > 0 => bytes = vec![0; length + length / 4],
            Ok(_) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
        }
    }
}

/// A number that the kernel has under a name.
pub(super) fn kernel_number(name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    let (mut value, mut length) = (0_i32, size_of::<i32>());
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    let result = unsafe { libc::sysctlbyname(name.as_ptr(), (&raw mut value).cast(), &raw mut length, std::ptr::null_mut(), 0) };
    (result == 0 && length == size_of::<i32>()).then_some(value)
}

/// Whether there is a process of this number.
pub(super) fn process_exists(process: u32) -> bool {
    let Ok(process) = libc::pid_t::try_from(process) else { return false };
    // SAFETY: signal 0 only asks.
    let asked = check(unsafe { libc::kill(process, 0) });
    asked.map_or_else(|error| error.raw_os_error() == Some(libc::EPERM), |_| true)
}

/// Raises the soft limit of open descriptors as far as it goes; says how many there may be now.
pub(super) fn raise_descriptor_limit() -> io::Result<usize> {
    /// `OPEN_MAX` of macOS, which refuses an unlimited one.
    const MOST: libc::rlim_t = 10_240;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, which we hold.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max.min(MOST).max(limit.rlim_cur);
    // SAFETY: the kernel reads one `rlimit`, which we hold.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// A kernel event queue.
pub(super) struct Queue(OwnedFd);

/// What a queue waits for.
#[derive(Copy, Clone, Debug)]
pub(super) enum Interest<'a> {
    /// Something to read.
    Readable(BorrowedFd<'a>),
    /// A call of [`Queue::trigger`].
    Trigger,
}

/// What happened.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Happened {
    /// The descriptor that can be read; -1 for a trigger.
    pub(super) descriptor: libc::c_int,
    /// The descriptor's other end is gone.
    pub(super) is_over: bool,
}

/// Most events of one wait: the device, news, the trigger.
pub(super) const EVENTS: usize = 4;

impl Queue {
    pub(super) fn new() -> io::Result<Queue> {
        // SAFETY: no memory is passed.
        let descriptor = check(unsafe { libc::kqueue() })?;
        // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
        Ok(Queue(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// From now on waits for it.
    pub(super) fn add(&self, interest: Interest<'_>) -> io::Result<()> {
        let clear = if matches!(interest, Interest::Trigger) { libc::EV_CLEAR } else { 0 };
        self.change(&event(interest, libc::EV_ADD | clear, 0))
    }

    /// From now on waits for it no more.
    pub(super) fn remove(&self, interest: Interest<'_>) -> io::Result<()> {
        self.change(&event(interest, libc::EV_DELETE, 0))
    }

    /// Ends a wait, or the next one, from any thread.
    pub(super) fn trigger(&self) {
        // Only a queue that is being closed refuses.
        let _ = self.change(&event(Interest::Trigger, 0, libc::NOTE_TRIGGER));
    }

    fn change(&self, change: &libc::kevent) -> io::Result<()> {
        // SAFETY: the kernel reads one change, which we hold, and writes no events.
        check(unsafe { libc::kevent(self.0.as_raw_fd(), change, 1, std::ptr::null_mut(), 0, std::ptr::null()) }).map(drop)
    }

    /// Waits, at most `timeout`; says what happened. An interruption by a signal ends the wait.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<([Happened; EVENTS], usize)> {
        // SAFETY: `kevent` is integers and a pointer that nobody follows; zeros are valid.
        let mut events: [libc::kevent; EVENTS] = unsafe { zeroed() };
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the kernel writes at most `EVENTS` events, which we hold, and reads no changes.
        let count =
            check(unsafe { libc::kevent(self.0.as_raw_fd(), std::ptr::null(), 0, events.as_mut_ptr(), EVENTS as libc::c_int, limit) });
        let count = match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count? as usize,
        };
        Ok((events.map(|event| happened(&event)), count))
    }
}

fn happened(event: &libc::kevent) -> Happened {
    let descriptor = if event.filter == libc::EVFILT_USER { -1 } else { event.ident as libc::c_int };
    Happened { descriptor, is_over: event.flags & libc::EV_EOF != 0 }
}

fn event(interest: Interest<'_>, flags: u16, filter_flags: u32) -> libc::kevent {
    // SAFETY: `kevent` is integers and a pointer that nobody follows; zeros are valid.
    let mut event: libc::kevent = unsafe { zeroed() };
    (event.ident, event.filter) = match interest {
        Interest::Readable(descriptor) => (descriptor.as_raw_fd() as usize, libc::EVFILT_READ),
        Interest::Trigger => (0, libc::EVFILT_USER),
    };
    event.flags = flags;
    event.fflags = filter_flags;
    event
}
