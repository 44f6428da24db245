//! What a listener's handle shares with the transport layer.

use super::{Failure, Mark, MarkQueue, Marks, Readiness, Socket, SocketOptions, State, TcpShared, Wakeup, Watched, Watches};
use crate::layer::Notify;
use crate::transport::ports::PortLease;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The shared part of one listener.
pub struct ListenerShared {
    /// The one lock.
    pub state: State<ListenerState>,
    /// What the program wants of the transport layer.
    pub marks: Marks,
    /// Who waits.
    pub wakeup: Wakeup,
    /// The listener's place in the transport layer's table, plus 1; 0 while it has none.
    pub place: AtomicU32,
    itself: std::sync::Weak<ListenerShared>,
}

/// Guarded by [`ListenerShared::state`].
#[derive(Debug)]
pub struct ListenerState {
    /// The address and port; the port is 0 until the transport layer chose one.
    pub local: SocketAddr,
    /// The port, and what guards it; each accepted connection holds a clone.
    pub lease: PortLease,
    /// Whether the transport layer has opened it.
    pub listening: bool,
    /// Connections whose handshake is complete, in order.
    pub accepted: VecDeque<Arc<TcpShared>>,
    /// How many may wait there.
    pub backlog: usize,
    /// Connections that may be handed over, by Fast Open, before their handshake is complete; zero: none.
    pub fast_open: usize,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What accepted connections start with.
    pub options: Arc<SocketOptions>,
    /// Pollers.
    pub watches: Watches,
}

impl std::fmt::Debug for TcpShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.state.try_lock() {
            Some(state) => write!(f, "TCP {} -> {} ({:?})", state.local, state.remote, state.phase),
            None => write!(f, "TCP (busy)"),
        }
    }
}

impl ListenerShared {
    /// A listener that has not been opened.
    pub fn new(queue: Arc<dyn MarkQueue>, local: SocketAddr, backlog: usize, options: SocketOptions) -> Arc<ListenerShared> {
        Arc::new_cyclic(|itself| ListenerShared {
            state: State::new(ListenerState {
                local,
                lease: PortLease::default(),
                listening: false,
                accepted: VecDeque::new(),
                backlog,
                fast_open: 0,
                failure: None,
                options: Arc::new(options),
                watches: Watches::new(),
            }),
            marks: Marks::new(queue),
            wakeup: Wakeup::default(),
            place: AtomicU32::new(0),
            itself: itself.clone(),
        })
    }

    /// Sets a mark. Call it with the lock released.
    pub fn mark(&self, mark: Mark) {
        if let Some(itself) = self.itself.upgrade() {
            self.marks.set(mark, || Socket::Listener(itself));
        }
    }
}

impl Watched for ListenerState {
    fn watches(&mut self) -> &mut Watches {
        &mut self.watches
    }
}

impl Notify for ListenerShared {
    fn notify(&self) -> bool {
        self.wakeup.tell(|| self.state.lock().watches.clone())
    }
}

impl ListenerState {
    /// What a program can do without blocking.
    pub fn readiness(&self) -> Readiness {
        if self.accepted.is_empty() && self.failure.is_none() { Readiness::NONE } else { Readiness::READABLE }
    }
}
