//! What the handle of a UDP, ICMP or raw socket shares with the transport layer.

use super::{DeviceRoom, Failure, Mark, MarkQueue, Marks, Readiness, Socket, SocketOptions, State, Wakeup, Watched, Watches};
use crate::layer::Notify;
use crate::network::{ErrorReport, Fragmentation};
use crate::packet::{Account, Packet};
use crate::time::Instant;
use crate::transport::ports::PortLease;
use crate::wire::Protocol;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Which packets a datagram socket sees and how it frames its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// UDP: by port; the payload is the program's.
    Udp,
    /// ICMP echo: by identifier (the "port"); the program sends and receives whole ICMP messages, whose identifier and checksum are
    /// filled in by the transport layer. Errors about what it sent are delivered too.
    IcmpEcho,
    /// Every packet of this IP protocol, beside whoever else gets it; the program sends and receives what follows the IP header.
    Raw(Protocol),
}

/// A datagram on its way, either way.
#[derive(Debug)]
pub struct Datagram {
    /// Received: the sender. To send: the destination. The port is 0 for ICMP and raw sockets.
    pub peer: SocketAddr,
    /// Received: which of our addresses (or group) it was sent to.
    pub local: SocketAddr,
    /// The payload.
    pub packet: Packet,
    /// IPv4 time to live or IPv6 hop limit: as received, or to send with.
    pub time_to_live: u8,
    /// DSCP and ECN: as received, or to send with.
    pub traffic_class: u8,
    /// When it arrived.
    pub arrived: Instant,
    /// To send: whether it may be fragmented.
    pub fragmentation: Fragmentation,
}

/// What a waiting datagram takes of a buffer besides its payload: so that empty datagrams are bounded as well.
pub const DATAGRAM_OVERHEAD: usize = 256;

impl Datagram {
    /// Bytes that it takes of the send budget while it is on its way: what [`DatagramShared::take_room`] is called with.
    pub fn send_cost(&self) -> usize {
        self.packet.len() + DATAGRAM_OVERHEAD
    }

    /// Bytes that it takes of the receive buffer: the slots that it pins. What [`DatagramState::unread`] shrinks by when it is read.
    pub fn receive_cost(&self) -> usize {
        self.packet.slices().iter().map(crate::packet::Slice::slot_bytes).sum::<usize>() + DATAGRAM_OVERHEAD
    }
}

/// The shared part of one datagram socket.
pub struct DatagramShared {
    /// What it sees and sends.
    pub kind: DatagramKind,
    /// The one lock.
    pub state: State<DatagramState>,
    /// What the program wants of the transport layer.
    pub marks: Marks,
    /// Who waits.
    pub wakeup: Wakeup,
    /// The socket's place in the transport layer's table, plus 1; 0 while it has none.
    pub place: AtomicU32,
    in_stack: AtomicUsize,
    device_room: Arc<DeviceRoom>,
    itself: std::sync::Weak<DatagramShared>,
}

/// Guarded by [`DatagramShared::state`].
#[derive(Debug)]
pub struct DatagramState {
    /// Our end: for ICMP sockets the port is the echo identifier. 0 until the transport layer chose one.
    pub local: SocketAddr,
    /// Set by connect: only its packets are delivered, and its ICMP errors reported.
    pub remote: Option<SocketAddr>,
    /// The port, and what guards it.
    pub lease: PortLease,
    /// Whether the transport layer has opened it.
    pub bound: bool,
    /// Written by the program, not yet taken by the transport layer.
    pub to_send: VecDeque<Datagram>,
    /// Arrived, unread.
    pub received: VecDeque<Datagram>,
    /// Bytes that `received` pins: the sum of [`Datagram::receive_cost`].
    pub unread: usize,
    /// Datagrams dropped because `unread` would have passed the receive buffer.
    pub receive_drops: u64,
    /// Told once by the next call, as std does.
    pub failure: Option<Failure>,
    /// Errors about what ICMP and raw sockets sent, as reported; bounded by the configuration, the oldest go.
    pub errors: VecDeque<(Instant, ErrorReport)>,
    /// The program's wishes.
    pub options: SocketOptions,
    /// Pollers.
    pub watches: Watches,
}

impl DatagramShared {
    /// A socket that has not been opened.
    pub fn new(
        kind: DatagramKind,
        queue: Arc<dyn MarkQueue>,
        device_room: Arc<DeviceRoom>,
        local: SocketAddr,
        options: SocketOptions,
    ) -> Arc<DatagramShared> {
        Arc::new_cyclic(|itself| DatagramShared {
            kind,
            state: State::new(DatagramState::new(local, options)),
            marks: Marks::new(queue),
            wakeup: Wakeup::default(),
            place: AtomicU32::new(0),
            in_stack: AtomicUsize::new(0),
            device_room,
            itself: itself.clone(),
        })
    }

    /// Sets a mark. Call it with the lock released.
    pub fn mark(&self, mark: Mark) {
        if let Some(itself) = self.itself.upgrade() {
            self.marks.set(mark, || Socket::Datagram(itself));
        }
    }

    /// Bytes of datagrams that the program has sent and the device has not taken: those in `to_send` and those in the stack.
    pub fn in_stack(&self) -> usize {
        self.in_stack.load(Ordering::SeqCst)
    }

    /// Counts `bytes` ([`Datagram::send_cost`]) as sent by the program: before the datagram is put on `to_send`, under the lock. The packet's
    /// guard gives it back.
    pub fn take_room(&self, bytes: usize) {
        self.in_stack.fetch_add(bytes, Ordering::SeqCst);
    }

    /// The room for one packet on the way to the device; taken by the transport layer when it takes a datagram off `to_send`.
    pub fn device_room(&self) -> &Arc<DeviceRoom> {
        &self.device_room
    }
}

/// Gives a datagram's room back to its socket; the transport layer makes one guard of it for the packet it sends.
impl Account for DatagramShared {
    fn give_back(&self, bytes: usize) {
        self.in_stack.fetch_sub(bytes, Ordering::SeqCst);
        self.device_room.give_back();
        // Taking the lock once orders this before any writer that has looked at `in_stack` and is about to wait.
        drop(self.state.lock());
        if self.wakeup.raise(Readiness::WRITABLE) {
            self.notify();
        }
    }
}

impl Watched for DatagramState {
    fn watches(&mut self) -> &mut Watches {
        &mut self.watches
    }
}

impl Notify for DatagramShared {
    fn notify(&self) -> bool {
        self.wakeup.tell(|| self.state.lock().watches.clone())
    }
}

impl DatagramState {
    fn new(local: SocketAddr, options: SocketOptions) -> DatagramState {
        DatagramState {
            local,
            remote: None,
            lease: PortLease::default(),
            bound: false,
            to_send: VecDeque::new(),
            received: VecDeque::new(),
            unread: 0,
            receive_drops: 0,
            failure: None,
            errors: VecDeque::new(),
            options,
            watches: Watches::new(),
        }
    }

    /// What a program can do without blocking, given the bytes in the stack ([`DatagramShared::in_stack`]).
    pub fn readiness(&self, in_stack: usize) -> Readiness {
        let mut ready = Readiness::NONE;
        if !self.received.is_empty() || self.failure.is_some() || !self.errors.is_empty() {
            ready |= Readiness::READABLE;
        }
        if in_stack < self.options.send_buffer || self.failure.is_some() {
            ready |= Readiness::WRITABLE;
        }
        ready
    }
}
