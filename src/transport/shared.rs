//! What a program's handle and the transport layer have in common: one small struct for each socket.
//!
//! Owns chunks to send, chunks received, state, options, and who waits. Refuses to know either side: handles import this module, never the
//! other way round. Three rules (all checked in review, the first two by types):
//!
//! 1. **One lock, held briefly.** The mutex of a socket covers moves of pointers, never a copy of bytes, never a channel operation, never a
//!    second lock. (The only lock in protocol code.)
//! 2. **Programs speak by marks.** A program changes the state under the lock, then sets a [`Mark`]; the first mark set puts the socket
//!    on the dirty list once, and the transport layer takes all its marks in one visit. So neither `Drop` nor a non-blocking call can block, and a
//!    thousand small writes are one visit.
//! 3. **The layer speaks by readiness.** The transport layer changes the state under the lock, calls [`Wakeup::raise`], and puts the socket on its
//!    outbox's list of wakes if that was the first change; the driver calls [`Notify::notify`] after everything is unlocked.

mod datagram;
mod listener;
mod stream;
mod stream_info;

pub use datagram::{DATAGRAM_OVERHEAD, Datagram, DatagramKind, DatagramShared, DatagramState};
pub use listener::{ListenerShared, ListenerState};
pub use stream::{NoRoom, Phase, TcpShared, TcpSharedState};
pub use stream_info::StreamInfo;

use crate::layer::Notify;
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// Something that a program, or a packet's end, tells the transport layer about a socket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mark {
    /// Open it: connect, listen, or bind, as its state says.
    Open = 1,
    /// There is more to send.
    Send = 2,
    /// The program read enough for the window to be worth announcing.
    Window = 4,
    /// Options changed.
    Options = 8,
    /// The program sends no more (half-close).
    CloseWrite = 16,
    /// The program reads no more.
    CloseRead = 32,
    /// The last handle is gone: close gracefully in the background (or as linger says).
    Released = 64,
    /// There is room for more packets on their way to the device.
    Room = 128,
}

/// A set of marks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct MarkSet(u32);

impl MarkSet {
    /// Whether `mark` is in the set.
    pub fn has(self, mark: Mark) -> bool {
        self.0 & mark as u32 != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Mark> for MarkSet {
    fn from_iter<I: IntoIterator<Item = Mark>>(marks: I) -> MarkSet {
        MarkSet(marks.into_iter().fold(0, |set, mark| set | mark as u32))
    }
}

/// A socket, as the dirty list names it.
#[derive(Clone)]
pub enum Socket {
    /// A TCP connection.
    Tcp(Arc<TcpShared>),
    /// A TCP listener.
    Listener(Arc<ListenerShared>),
    /// A UDP, ICMP or raw socket.
    Datagram(Arc<DatagramShared>),
    /// Not a socket: the way to the device has room again for whoever waits in the transport layer (see [`DeviceRoom`]).
    DeviceRoom,
}

/// The dirty list, seen from where marks are set. Implementations never block: they push and kick.
pub trait MarkQueue: Send + Sync {
    /// Puts `socket` on the list; called once until its marks are taken.
    fn push(&self, socket: Socket);
}

/// The marks of one socket.
pub struct Marks {
    bits: AtomicU32,
    queue: Arc<dyn MarkQueue>,
}

impl Marks {
    /// No marks yet.
    pub fn new(queue: Arc<dyn MarkQueue>) -> Marks {
        Marks { bits: AtomicU32::new(0), queue }
    }

    /// Sets `mark`; if it is the first one, puts what `socket` returns on the dirty list. Call it with no lock held.
    pub fn set(&self, mark: Mark, socket: impl FnOnce() -> Socket) {
        if self.bits.fetch_or(mark as u32, Ordering::AcqRel) == 0 {
            self.queue.push(socket());
        }
    }

    /// Takes all marks: the transport layer, once for a visit, before it looks at the state.
    pub fn take(&self) -> MarkSet {
        MarkSet(self.bits.swap(0, Ordering::AcqRel))
    }

    /// The dirty list.
    pub fn queue(&self) -> &Arc<dyn MarkQueue> {
        &self.queue
    }
}

/// What a waiting program may want to know.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Readiness(u32);

impl Readiness {
    /// A read, receive or accept would not block.
    pub const READABLE: Readiness = Readiness(1);
    /// A write or send would not block.
    pub const WRITABLE: Readiness = Readiness(2);
    /// The phase changed: connected, closed, failed.
    pub const STATE: Readiness = Readiness(4);
    /// Urgent data is to be read, or announced (RFC 9293 §3.8.5).
    pub const URGENT: Readiness = Readiness(8);
    /// Nothing.
    pub const NONE: Readiness = Readiness(0);

    /// Whether any of `other` is in this set.
    pub fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is ready.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Readiness {
    type Output = Readiness;
    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Readiness) {
        self.0 |= other.0;
    }
}

/// Somebody who waits on many sockets at once: a poller. Called with no lock held; must not block.
pub trait Watcher: Send + Sync {
    /// The socket registered under `token` changed in these ways. Whether it really is ready is asked of the socket itself.
    fn changed(&self, token: u64, readiness: Readiness);
}

/// A poller's registration on a socket.
#[derive(Clone)]
pub struct Watch {
    /// Whom to tell.
    pub watcher: Arc<dyn Watcher>,
    /// Under which name.
    pub token: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.token)
    }
}

/// Changes that have not been told yet, and the program threads that wait for them.
#[derive(Default)]
pub struct Wakeup {
    pending: AtomicU32,
    watched: AtomicBool,
    readers: Condvar,
    writers: Condvar,
}

impl Wakeup {
    /// Notes a change; true if it is the first one since the last [`Wakeup::tell`], so that the socket has to be put on the list of wakes.
    pub fn raise(&self, readiness: Readiness) -> bool {
        self.pending.fetch_or(readiness.0, Ordering::AcqRel) == 0
    }

    /// Changes who watches: `watches` is the socket's list, whose lock the caller holds.
    pub fn change_watches(&self, watches: &mut Watches, change: &mut dyn FnMut(&mut Watches)) {
        change(watches);
        self.watched.store(!watches.is_empty(), Ordering::Release);
    }

    /// Wakes the threads that wait for what changed, and tells the watchers, which `watches` reads under the socket's lock: not called
    /// where nobody watches, so that most wake-ups take no lock. A watcher that comes later looks at the state itself. Says whether there was anybody.
    pub fn tell(&self, watches: impl FnOnce() -> Watches) -> bool {
        let readiness = Readiness(self.pending.swap(0, Ordering::AcqRel));
        let mut threads = 0;
        if readiness.intersects(Readiness::READABLE | Readiness::STATE) {
            threads += self.readers.notify_all();
        }
        if readiness.intersects(Readiness::WRITABLE | Readiness::STATE) {
            threads += self.writers.notify_all();
        }
        let watches = if self.watched.load(Ordering::Acquire) { watches() } else { Watches::new() };
        for watch in &watches {
            watch.watcher.changed(watch.token, readiness);
        }
        threads > 0 || !watches.is_empty()
    }

    /// Waits as a reader (or acceptor) until told or until `timeout`; the lock of `state` is released meanwhile. True if told.
    pub fn wait_readable<T>(&self, state: &mut parking_lot::MutexGuard<'_, T>, timeout: Option<Duration>) -> bool {
        wait(&self.readers, state, timeout)
    }

    /// Waits as a writer (or connector), likewise.
    pub fn wait_writable<T>(&self, state: &mut parking_lot::MutexGuard<'_, T>, timeout: Option<Duration>) -> bool {
        wait(&self.writers, state, timeout)
    }
}

fn wait<T>(condition: &Condvar, state: &mut parking_lot::MutexGuard<'_, T>, timeout: Option<Duration>) -> bool {
    match timeout {
        Some(timeout) => !condition.wait_for(state, timeout).timed_out(),
        None => {
            condition.wait(state);
            true
        }
    }
}

/// The pollers that watch a socket: rarely more than one.
pub type Watches = smallvec::SmallVec<[Watch; 1]>;

/// A socket's state, whose list of watches its lock covers.
pub trait Watched {
    /// That list.
    fn watches(&mut self) -> &mut Watches;
}

/// Room on the way to the device, shared by every socket of a stack: so that the queues between the layers cannot overflow.
pub struct DeviceRoom {
    used: AtomicUsize,
    limit: usize,
    wanted: AtomicBool,
    queue: Arc<dyn MarkQueue>,
}

impl DeviceRoom {
    /// Room for `limit` packets.
    pub fn new(limit: usize, queue: Arc<dyn MarkQueue>) -> DeviceRoom {
        DeviceRoom { used: AtomicUsize::new(0), limit, wanted: false.into(), queue }
    }

    /// Takes room for one packet; false if there is none, and then [`Socket::DeviceRoom`] comes up on the dirty list once half is free. Only
    /// the transport layer takes.
    pub fn take(&self) -> bool {
        if self.used.fetch_add(1, Ordering::SeqCst) < self.limit {
            return true;
        }
        self.wanted.store(true, Ordering::SeqCst);
        self.give_back();
        false
    }

    /// Gives the room of one packet back.
    pub fn give_back(&self) {
        let left = self.used.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        if left <= self.limit / 2 && self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            self.queue.push(Socket::DeviceRoom);
        }
    }

    /// Packets on their way.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// How a socket failed. Becomes an [`io::Error`] at the handle.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The peer answered the SYN with a RST, or a datagram with port unreachable.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// We reset the connection, or the stack shut down under it.
    Aborted,
    /// The peer did not answer in time.
    TimedOut,
    /// Host unreachable, from a router or from our own neighbour cache.
    HostUnreachable,
    /// Network unreachable, or no route.
    NetworkUnreachable,
    /// The interface is down or gone.
    NetworkDown,
    /// A router or the destination forbids it.
    Prohibited,
    /// The local address or port is in use.
    AddressInUse,
    /// The local address is not ours.
    AddressNotAvailable,
    /// The datagram is larger than IP, or a don't-fragment path, can carry.
    MessageTooBig,
    /// A bound of `config.rs` is reached: connections, sockets.
    ResourceLimit,
    /// A layer panicked; the stack is dead.
    StackFailed,
}

impl Failure {
    /// The kind of I/O error that `std::net` gives for this.
    pub fn kind(self) -> io::ErrorKind {
        match self {
            Failure::Refused => io::ErrorKind::ConnectionRefused,
            Failure::Reset => io::ErrorKind::ConnectionReset,
            Failure::Aborted => io::ErrorKind::ConnectionAborted,
            Failure::TimedOut => io::ErrorKind::TimedOut,
            Failure::HostUnreachable => io::ErrorKind::HostUnreachable,
            Failure::NetworkUnreachable => io::ErrorKind::NetworkUnreachable,
            Failure::NetworkDown => io::ErrorKind::NetworkDown,
            Failure::Prohibited => io::ErrorKind::PermissionDenied,
            Failure::AddressInUse => io::ErrorKind::AddrInUse,
            Failure::AddressNotAvailable => io::ErrorKind::AddrNotAvailable,
            Failure::MessageTooBig => io::ErrorKind::InvalidInput,
            Failure::ResourceLimit => io::ErrorKind::OutOfMemory,
            Failure::StackFailed => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Refused => "connection refused",
            Failure::Reset => "connection reset by peer",
            Failure::Aborted => "connection aborted",
            Failure::TimedOut => "timed out",
            Failure::HostUnreachable => "host unreachable",
            Failure::NetworkUnreachable => "network unreachable",
            Failure::NetworkDown => "the network interface is down",
            Failure::Prohibited => "prohibited by the network",
            Failure::AddressInUse => "address in use",
            Failure::AddressNotAvailable => "address not available",
            Failure::MessageTooBig => "message too long",
            Failure::ResourceLimit => "too many sockets",
            Failure::StackFailed => "the stack failed",
        })
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        io::Error::new(failure.kind(), failure)
    }
}

/// A program's wishes for a socket; defaults come from the stack's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Send small segments at once (no Nagle, RFC 9293 §3.7.4).
    pub no_delay: bool,
    /// Acknowledge at once.
    pub quick_ack: bool,
    /// Probe an idle peer (RFC 9293 §3.8.4).
    pub keepalive: Option<Keepalive>,
    /// Give up on unacknowledged data after this time (RFC 9293 §3.8.3, RFC 5482); `None`: R2.
    pub user_timeout: Option<Duration>,
    /// Tell the peer the user timeout, and, unless this socket has one of its own, adapt it to what the peer tells (RFC 5482).
    pub advertise_user_timeout: bool,
    /// Client: use Fast Open (RFC 7413). Data that is written before the connection is opened may then arrive twice, so it has to be harmless to
    /// repeat.
    pub fast_open: bool,
    /// What the last handle's drop does: `None` closes in the background; zero resets; else data that is unsent after this time is lost.
    pub linger: Option<Duration>,
    /// IPv4 time to live, IPv6 hop limit.
    pub time_to_live: u8,
    /// DSCP and ECN bits.
    pub traffic_class: u8,
    /// Bytes that may wait unread.
    pub receive_buffer: usize,
    /// Bytes that may wait unacknowledged (TCP) or unsent (UDP).
    pub send_buffer: usize,
    /// The receive buffer grows with what the program reads in a round trip, up to the stack's bound (TCP).
    pub tunes_receive_buffer: bool,
    /// The send buffer grows to two congestion windows, up to the stack's bound (TCP).
    pub tunes_send_buffer: bool,
    /// May send to broadcast addresses.
    pub broadcast: bool,
    /// Congestion control by name: `"cubic"`, `"newreno"`.
    pub congestion_control: CongestionControl,
    /// Whether TCP takes part in explicit congestion notification. Counts when the connection is opened.
    pub ecn: Ecn,
}

/// Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them. As on Linux, where `net.ipv4.tcp_ecn` is 0, 2 (the
/// default) and 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Ecn {
    /// Neither asked for nor granted.
    Never,
    /// Granted to peers that ask for it; not asked for, since some middleboxes drop a SYN that does.
    #[default]
    WhenAsked,
    /// Asked for in the first SYN, not in those that follow a lost one; and granted.
    Request,
}

/// Keepalive timing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without answer before the connection is given up.
    pub count: u32,
}

impl Default for Keepalive {
    /// Two hours (RFC 9293 §3.8.4, MUST-28: no less), then nine probes at intervals of 75 s, as everybody does.
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// The congestion controls there are.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum CongestionControl {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681 and 6582.
    NewReno,
}

impl CongestionControl {
    /// The name people use.
    pub fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::NewReno => "newreno",
        }
    }
}

impl std::str::FromStr for CongestionControl {
    type Err = io::Error;
    fn from_str(name: &str) -> io::Result<CongestionControl> {
        match name {
            "cubic" => Ok(CongestionControl::Cubic),
            "newreno" | "reno" => Ok(CongestionControl::NewReno),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no congestion control is named {name:?}: there are cubic and newreno"),
            )),
        }
    }
}

/// Locks a socket's state: the one lock of protocol code.
pub(crate) type State<T> = Mutex<T>;

/// Puts `shared` on the outbox's list of wakes if `readiness` is the first change since it was last woken.
pub(crate) fn raise<S: Notify + 'static>(wakes: &mut Vec<Arc<dyn Notify>>, shared: &Arc<S>, wakeup: &Wakeup, readiness: Readiness) {
    if !readiness.is_empty() && wakeup.raise(readiness) {
        wakes.push(shared.clone());
    }
}
