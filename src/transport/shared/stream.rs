//! What a TCP handle shares with its connection.

use super::{DeviceRoom, Failure, Mark, MarkQueue, Marks, Readiness, Socket, SocketOptions, State, StreamInfo, Wakeup, Watched, Watches};
use crate::layer::Notify;
use crate::packet::{Account, Slice};
use crate::transport::ports::PortLease;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Where a connection is in its life, as far as a program can tell.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// Not opened yet.
    #[default]
    New,
    /// The handshake is under way.
    Connecting,
    /// Data can flow, at least in one direction.
    Connected,
    /// Over: reads give what is left, then end of stream or the failure.
    Closed,
}

/// The shared part of one TCP connection.
pub struct TcpShared {
    /// The one lock.
    pub state: State<TcpSharedState>,
    /// What the program wants of the transport layer.
    pub marks: Marks,
    /// Who waits.
    pub wakeup: Wakeup,
    /// The connection's place in the transport layer's table, plus 1; 0 while it has none. Only the transport layer reads and writes it.
    pub place: AtomicU32,
    in_stack: AtomicUsize,
    /// While the connection waits for room: fewer bytes in the stack than this make a visit worth while. Else 0.
    room_wanted_below: AtomicUsize,
    device_room: Arc<DeviceRoom>,
    itself: std::sync::Weak<TcpShared>,
}

/// Guarded by [`TcpShared::state`].
#[derive(Debug)]
pub struct TcpSharedState {
    /// Where the connection is.
    pub phase: Phase,
    /// Our end; the port is 0 until known.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The local port, and what guards it. Taken by the transport layer when it opens the connection.
    pub lease: PortLease,
    /// Written by the program, not yet taken by the connection. In order.
    pub to_send: VecDeque<Slice>,
    /// Bytes written that the peer has not acknowledged: those in `to_send` and those the connection holds. The writer adds, the connection
    /// subtracts what was acknowledged.
    pub unacknowledged: usize,
    /// The program shut its sending side down: FIN after the last byte.
    pub write_closed: bool,
    /// The program shut its receiving side down: what arrives is acknowledged and thrown away.
    pub read_closed: bool,
    /// Bytes of `to_send` up to the end of urgent data that the program wrote; taken along with them.
    pub urgent_to_send: Option<usize>,
    /// Bytes from the next one to be read up to the end of the peer's urgent data; more than `unread` while some has yet to come.
    pub urgent: usize,
    /// In order, unread.
    pub received: VecDeque<Slice>,
    /// Bytes in `received`.
    pub unread: usize,
    /// The peer's FIN is in order: after `received` comes the end of the stream.
    pub receive_finished: bool,
    /// A read that takes `consumed_unannounced` to at least this many bytes sets [`Mark::Window`]. Set by the connection: a segment or half of
    /// the buffer, whichever is less; `usize::MAX` when it does not care.
    pub window_mark_at: usize,
    /// Bytes read since the connection last looked.
    pub consumed_unannounced: usize,
    /// Why it failed. Given to reads and writes once, as std does with the kernel's `SO_ERROR`, then reads see end of stream.
    pub failure: Option<Failure>,
    /// The last soft error (ICMP host unreachable while data flows, RFC 1122 §4.2.3.9): told if the connection then times out.
    pub soft_failure: Option<Failure>,
    /// The program's wishes; connections of one listener have theirs in common until they change them. Changing them sets [`Mark::Options`].
    pub options: Arc<SocketOptions>,
    /// Pollers.
    pub watches: Watches,
    /// Somebody has asked for the figures.
    pub is_described: bool,
    /// Figures of the connection, once somebody has asked for them: refreshed whenever it meets its program; `None` while it rests. Of those that nobody asks for,
    /// the last ones are written down, if there is a handle left.
    pub info: Option<Box<StreamInfo>>,
}

impl TcpShared {
    /// A socket that has not been opened. `local` and `remote` are as far as known.
    pub fn new(
        queue: Arc<dyn MarkQueue>,
        device_room: Arc<DeviceRoom>,
        local: SocketAddr,
        remote: SocketAddr,
        options: impl Into<Arc<SocketOptions>>,
    ) -> Arc<TcpShared> {
        let options = options.into();
        Arc::new_cyclic(|itself| TcpShared {
            state: State::new(TcpSharedState::new(local, remote, options)),
            marks: Marks::new(queue),
            wakeup: Wakeup::default(),
            place: AtomicU32::new(0),
            in_stack: AtomicUsize::new(0),
            room_wanted_below: AtomicUsize::new(0),
            device_room,
            itself: itself.clone(),
        })
    }

    /// Sets a mark. Call it with the lock released.
    pub fn mark(&self, mark: Mark) {
        if let Some(itself) = self.itself.upgrade() {
            self.marks.set(mark, || Socket::Tcp(itself));
        }
    }

    /// Bytes in packets on their way to the device.
    pub fn in_stack(&self) -> usize {
        self.in_stack.load(Ordering::Relaxed)
    }

    /// Takes room for a packet of `bytes` while less than `limit` bytes are on their way and the device's queue has room; the packet's guard
    /// gives it back. If there is none, [`Mark::Room`] comes when half of `limit` is free (or [`Socket::DeviceRoom`], if the device's queue was full): so that
    /// one visit sends several packets.
    pub fn take_room(&self, bytes: usize, limit: usize) -> Result<(), NoRoom> {
        if self.in_stack.load(Ordering::SeqCst) >= limit {
            let few_enough = limit / 2 + 1;
            self.room_wanted_below.store(few_enough, Ordering::SeqCst);
            if self.in_stack.load(Ordering::SeqCst) >= few_enough {
                return Err(NoRoom::Socket);
            }
            self.room_wanted_below.store(0, Ordering::SeqCst);
        }
        if !self.device_room.take() {
            return Err(NoRoom::Device);
        }
        self.in_stack.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }
}

/// Whose room is used up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// This socket's: its own mark tells when there is some.
    Socket,
    /// The stack's: [`Socket::DeviceRoom`] tells.
    Device,
}

impl Account for TcpShared {
    fn give_back(&self, bytes: usize) {
        let left = self.in_stack.fetch_sub(bytes, Ordering::SeqCst).saturating_sub(bytes);
        self.device_room.give_back();
        if left < self.room_wanted_below.load(Ordering::SeqCst) && self.room_wanted_below.swap(0, Ordering::SeqCst) > 0 {
            self.mark(Mark::Room);
        }
    }
}

impl Watched for TcpSharedState {
    fn watches(&mut self) -> &mut Watches {
        &mut self.watches
    }
}

impl Notify for TcpShared {
    fn notify(&self) -> bool {
        self.wakeup.tell(|| self.state.lock().watches.clone())
    }
}

impl TcpSharedState {
    fn new(local: SocketAddr, remote: SocketAddr, options: Arc<SocketOptions>) -> TcpSharedState {
        TcpSharedState {
            phase: Phase::New,
            local,
            remote,
            lease: PortLease::default(),
            to_send: VecDeque::new(),
            unacknowledged: 0,
            write_closed: false,
            read_closed: false,
            urgent_to_send: None,
            urgent: 0,
            received: VecDeque::new(),
            unread: 0,
            receive_finished: false,
            window_mark_at: usize::MAX,
            consumed_unannounced: 0,
            failure: None,
            soft_failure: None,
            options,
            watches: Watches::new(),
            is_described: false,
            info: None,
        }
    }

    /// What a program can do without blocking.
    pub fn readiness(&self) -> Readiness {
        let mut ready = Readiness::NONE;
        let over = self.phase == Phase::Closed;
        if self.unread > 0 || self.receive_finished || self.read_closed || over || self.failure.is_some() {
            ready |= Readiness::READABLE;
        }
        if over || self.failure.is_some() || self.write_closed || (self.phase == Phase::Connected && self.send_room() > 0) {
            ready |= Readiness::WRITABLE;
        }
        if self.urgent > 0 && !over {
            ready |= Readiness::URGENT;
        }
        ready
    }

    /// Bytes that may still be written now.
    pub fn send_room(&self) -> usize {
        self.options.send_buffer.saturating_sub(self.unacknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TcpConfig;

    #[derive(Default)]
    struct Pushes(AtomicUsize);

    impl MarkQueue for Pushes {
        fn push(&self, _socket: Socket) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_connection_without_room_is_told_once_when_half_is_free() {
        let pushes = Arc::new(Pushes::default());
        let device_room = Arc::new(DeviceRoom::new(9, pushes.clone()));
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let shared = TcpShared::new(pushes.clone(), device_room, anywhere, anywhere, TcpConfig::default().socket_options());
        (0..4).for_each(|_| shared.take_room(100, 400).unwrap());
        assert_eq!(shared.take_room(100, 400), Err(NoRoom::Socket));
        shared.give_back(100);
        assert_eq!((pushes.0.load(Ordering::SeqCst), shared.in_stack()), (0, 300));
        (0..3).for_each(|_| shared.give_back(100));
        assert_eq!((pushes.0.load(Ordering::SeqCst), shared.in_stack()), (1, 0));
        assert!(shared.marks.take().has(Mark::Room));
    }
}
