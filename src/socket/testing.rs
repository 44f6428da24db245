//! A stand-in for the transport layer: tests change the shared structs by hand, as the layer would, and see which marks were set.

use super::backend::{Backend, BackendParts, Waiting};
use crate::config::Config;
use crate::device::{DeviceOffload, Medium};
use crate::layer::Notify;
use crate::network::topology::{AddressMode, Topology};
use crate::packet::Pool;
use crate::pipeline::{Health, Seat};
use crate::time::{Clock, Instant};
use crate::transport::ports::OwnPorts;
use crate::transport::shared::{
    DatagramShared, DeviceRoom, ListenerShared, MarkQueue, MarkSet, Phase, Readiness, Socket, TcpShared, TcpSharedState,
};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// The dirty list, and what a test takes off it.
#[derive(Default)]
pub(super) struct Marked {
    sockets: Mutex<Vec<Socket>>,
    changed: Condvar,
}

impl MarkQueue for Marked {
    fn push(&self, socket: Socket) {
        self.sockets.lock().push(socket);
        self.changed.notify_all();
    }
}

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Instant {
        Instant::from_secs(1)
    }
}

/// A backend without layers.
pub(super) struct Fake {
    pub(super) backend: Arc<Backend>,
    pub(super) marked: Arc<Marked>,
}

impl Fake {
    pub(super) fn new(waiting: Waiting) -> Fake {
        Fake::with_config(waiting, Config::default())
    }

    pub(super) fn with_config(waiting: Waiting, config: Config) -> Fake {
        Fake::with_parts(waiting, config, Arc::default())
    }

    /// Whose threads may receive, where they wait.
    pub(super) fn with_seat(waiting: Waiting, seat: Arc<Seat>) -> Fake {
        Fake::with_parts(waiting, Config::default(), seat)
    }

    fn with_parts(waiting: Waiting, config: Config, seat: Arc<Seat>) -> Fake {
        let marked = Arc::new(Marked::default());
        let topology = Topology {
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            routes: Vec::new(),
            mtu: 1500,
            medium: Medium::Ip,
            offload: DeviceOffload::default(),
            mode: AddressMode::Own,
        };
        let backend = Backend::new(BackendParts {
            marks: marked.clone(),
            device_room: Arc::new(DeviceRoom::new(16, marked.clone())),
            pool: Pool::default(),
            ports: Arc::new(OwnPorts),
            config: Arc::new(config),
            clock: Arc::new(Stopped),
            topology: Arc::new(topology),
            waiting,
            health: Arc::new(Health::default()),
            seat,
        });
        Fake { backend, marked }
    }

    /// Waits for the next socket on the dirty list.
    pub(super) fn next(&self) -> Socket {
        let mut sockets = self.marked.sockets.lock();
        while sockets.is_empty() {
            self.marked.changed.wait(&mut sockets);
        }
        sockets.remove(0)
    }

    /// Whether nobody is on the dirty list.
    pub(super) fn is_idle(&self) -> bool {
        self.marked.sockets.lock().is_empty()
    }

    /// The next socket, which is a TCP one, and its marks.
    #[track_caller]
    pub(super) fn next_tcp(&self) -> (Arc<TcpShared>, MarkSet) {
        match self.next() {
            Socket::Tcp(shared) => {
                let marks = shared.marks.take();
                (shared, marks)
            }
            _ => panic!("not a TCP socket"),
        }
    }

    /// The next socket, which is a datagram one, and its marks.
    #[track_caller]
    pub(super) fn next_datagram(&self) -> (Arc<DatagramShared>, MarkSet) {
        match self.next() {
            Socket::Datagram(shared) => {
                let marks = shared.marks.take();
                (shared, marks)
            }
            _ => panic!("not a datagram socket"),
        }
    }

    /// The next socket, which is a listener, and its marks.
    #[track_caller]
    pub(super) fn next_listener(&self) -> (Arc<ListenerShared>, MarkSet) {
        match self.next() {
            Socket::Listener(shared) => {
                let marks = shared.marks.take();
                (shared, marks)
            }
            _ => panic!("not a listener"),
        }
    }

    /// A connection as the transport layer would have opened it.
    pub(super) fn connection(&self) -> Arc<TcpShared> {
        let shared = TcpShared::new(
            self.backend.marks.clone(),
            self.backend.device_room.clone(),
            "192.0.2.1:40000".parse().unwrap(),
            "192.0.2.2:80".parse().unwrap(),
            self.backend.config.tcp.socket_options(),
        );
        shared.state.lock().phase = Phase::Connected;
        shared
    }
}

/// Changes a connection's state as the transport layer does, and wakes whoever waits.
pub(super) fn change(shared: &TcpShared, change: impl FnOnce(&mut TcpSharedState)) {
    change(&mut shared.state.lock());
    if shared.wakeup.raise(Readiness::READABLE | Readiness::WRITABLE | Readiness::STATE) {
        shared.notify();
    }
}

/// Bytes that have arrived in order.
pub(super) fn arrive(shared: &TcpShared, pool: &Pool, bytes: &[u8]) {
    change(shared, |state| {
        state.unread += bytes.len();
        state.received.push_back(pool.copy_from(0, bytes));
    });
}
