//! Listeners: which ports accept connections, and how many may be on their way to be accepted.
//!
//! Owns the table of listeners and the two bounds of each: handshakes that are under way (the SYN queue, from the configuration), and connections that
//! nobody has accepted yet (the accept queue, the listener's backlog). Refuses to know TCP.
//!
//! A SYN is dropped while the accept queue is full. While the SYN queue is, it is answered with a cookie and forgotten ([`syn_cookies`]), or dropped
//! as well, as the configuration says. No handshake is completed, by a cookie neither, while the accept queue is full: its acknowledgement is dropped.
//! Peers send again.

use super::datagram::place_of;
use super::demux::PortTable;
use super::environment::{Environment, Out};
use super::shared::{self, DeviceRoom, Failure, ListenerShared, MarkQueue, Readiness, SocketOptions, TcpShared};
use super::syn_cookies;
use crate::config::{SynCookies, TcpConfig};
use crate::time::{Duration, Instant};
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Every listener that is open.
pub(super) struct Listeners {
    sockets: Slab<Listener>,
    ports: PortTable,
    marks: Arc<dyn MarkQueue>,
    device_room: Arc<DeviceRoom>,
}

struct Listener {
    shared: Arc<ListenerShared>,
    local: SocketAddr,
    /// Places of the connections whose handshake is under way.
    half_open: BTreeSet<usize>,
    /// Until when cookies that it sent may come back.
    cookies_until: Option<Instant>,
    /// Places of connections that were handed over before their handshake was complete (RFC 7413 §4.2, PendingFastOpenRequests).
    early: BTreeSet<usize>,
    /// Until when those count that were reset then: a reset must not be the way round the bound (RFC 7413 §5.1).
    early_resets: VecDeque<Instant>,
}

/// How long a reset connection counts against the bound (Linux: 60 s).
const EARLY_RESET_COUNTS: Duration = Duration::from_secs(60);

/// What to do with a SYN.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Remember it.
    Remember,
    /// Answer it with a cookie.
    Cookie,
}

/// A listener that is gone, and what it left behind.
pub(super) struct Remains {
    /// Places of connections whose handshake is not complete.
    pub(super) half_open: Vec<usize>,
    /// Connections that nobody accepted.
    pub(super) accepted: Vec<Arc<TcpShared>>,
}

impl Listeners {
    /// None yet. `marks` and `device_room` are for the connections that peers will open.
    pub(super) fn new(ports: PortTable, marks: Arc<dyn MarkQueue>, device_room: Arc<DeviceRoom>) -> Listeners {
        Listeners { sockets: Slab::new(), ports, marks, device_room }
    }

    /// Opens a listener; a failure is told through the shared state.
    pub(super) fn open(&mut self, environment: &mut Environment, shared: &Arc<ListenerShared>, out: &mut Out) {
        if self.key_of(shared).is_some() {
            return;
        }
        match self.bind(environment, shared) {
            Ok((key, local)) => {
                shared.place.store(place_of(key), Ordering::Relaxed);
                let mut state = shared.state.lock();
                state.local = local;
                state.lease.port = local.port();
                state.listening = true;
            }
            Err(failure) => {
                if failure == Failure::ResourceLimit {
                    out.counters().transport.listeners_refused.increment();
                }
                close(shared, Some(failure));
            }
        }
        shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::STATE | Readiness::READABLE);
    }

    /// Closes a listener.
    pub(super) fn release(&mut self, shared: &Arc<ListenerShared>) -> Option<Remains> {
        let key = self.key_of(shared)?;
        let listener = self.sockets.try_remove(key)?;
        self.ports.remove(listener.local);
        shared.place.store(0, Ordering::Relaxed);
        let accepted = std::mem::take(&mut shared.state.lock().accepted);
        close(shared, None);
        Some(Remains { half_open: listener.half_open.into_iter().collect(), accepted: accepted.into() })
    }

    /// Closes every listener with this failure.
    pub(super) fn fail_all(&mut self, failure: Failure, out: &mut Out) -> Vec<Remains> {
        let all: Vec<_> = self.sockets.iter().map(|(_, listener)| listener.shared.clone()).collect();
        let remains = all.iter().filter_map(|shared| self.release(shared)).collect();
        for shared in &all {
            shared.state.lock().failure = Some(failure);
            shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::STATE | Readiness::READABLE);
        }
        remains
    }

    /// Who listens on `local`.
    pub(super) fn find(&self, local: SocketAddr) -> Option<usize> {
        self.ports.find(local)
    }

    /// Whether, and how, another handshake may begin.
    pub(super) fn admit(&self, key: usize, config: &TcpConfig) -> Option<Admission> {
        match config.syn_cookies {
            _ if !self.may_complete(key) => None,
            SynCookies::Always => Some(Admission::Cookie),
            _ if self.may_begin(key, config) => Some(Admission::Remember),
            SynCookies::WhenFull => Some(Admission::Cookie),
            SynCookies::Off => None,
        }
    }

    /// Whether the SYN queue has room.
    pub(super) fn may_begin(&self, key: usize, config: &TcpConfig) -> bool {
        self.sockets.get(key).is_some_and(|listener| listener.half_open.len() < config.syn_queue)
    }

    /// The listener sends a cookie.
    pub(super) fn sends_cookie(&mut self, key: usize, now: Instant) {
        if let Some(listener) = self.sockets.get_mut(key) {
            listener.cookies_until = Some(now + syn_cookies::LIFETIME);
        }
    }

    /// Whether a cookie of the listener's may come back.
    pub(super) fn expects_cookie(&self, key: usize, now: Instant) -> bool {
        self.sockets.get(key).and_then(|listener| listener.cookies_until).is_some_and(|until| now < until)
    }

    /// How many connections of the listener may be handed over early, if any; `Some(true)`: one more now.
    pub(super) fn may_hand_over_early(&mut self, key: usize, now: Instant) -> Option<bool> {
        let listener = self.sockets.get_mut(key)?;
        while listener.early_resets.front().is_some_and(|&until| until <= now) {
            listener.early_resets.pop_front();
        }
        let limit = listener.shared.state.lock().fast_open;
        (limit > 0).then_some(listener.early.len() + listener.early_resets.len() < limit)
    }

    /// The connection at `connection` was handed over early.
    pub(super) fn is_early(&mut self, key: usize, connection: usize) {
        if let Some(listener) = self.sockets.get_mut(key) {
            listener.early.insert(connection);
        }
    }

    /// It is no longer: its handshake is complete, or it was reset before.
    pub(super) fn no_longer_early(&mut self, key: usize, connection: usize, reset_at: Option<Instant>) {
        let Some(listener) = self.sockets.get_mut(key) else { return };
        if listener.early.remove(&connection) {
            listener.early_resets.extend(reset_at.map(|at| at + EARLY_RESET_COUNTS));
        }
    }

    /// What connections of the listener start with.
    pub(super) fn options(&self, key: usize) -> Option<SocketOptions> {
        Some(SocketOptions::clone(&self.sockets.get(key)?.shared.state.lock().options))
    }

    /// Whether another connection may wait to be accepted.
    pub(super) fn may_complete(&self, key: usize) -> bool {
        self.sockets.get(key).is_some_and(|listener| {
            let state = listener.shared.state.lock();
            state.accepted.len() < state.backlog
        })
    }

    /// The shared part of a connection to be: with the listener's options and its hold on the port.
    pub(super) fn child(&self, key: usize, local: SocketAddr, remote: SocketAddr) -> Option<Arc<TcpShared>> {
        let (options, lease) = {
            let state = self.sockets.get(key)?.shared.state.lock();
            (state.options.clone(), state.lease.clone())
        };
        let shared = TcpShared::new(self.marks.clone(), self.device_room.clone(), local, remote, options);
        shared.state.lock().lease = lease;
        Some(shared)
    }

    /// The connection at `connection` has begun its handshake.
    pub(super) fn began(&mut self, key: usize, connection: usize) {
        if let Some(listener) = self.sockets.get_mut(key) {
            listener.half_open.insert(connection);
        }
    }

    /// It has completed it.
    pub(super) fn completed(&mut self, key: usize, connection: usize, child: Arc<TcpShared>, out: &mut Out) {
        let Some(listener) = self.sockets.get_mut(key) else { return };
        listener.half_open.remove(&connection);
        listener.shared.state.lock().accepted.push_back(child);
        shared::raise(&mut out.wakes, &listener.shared, &listener.shared.wakeup, Readiness::READABLE);
    }

    /// It never will.
    pub(super) fn forget(&mut self, key: usize, connection: usize) {
        if let Some(listener) = self.sockets.get_mut(key) {
            listener.half_open.remove(&connection);
        }
    }

    fn bind(&mut self, environment: &mut Environment, shared: &Arc<ListenerShared>) -> Result<(usize, SocketAddr), Failure> {
        environment.may_open()?;
        if self.sockets.len() >= environment.tcp.listeners {
            return Err(Failure::ResourceLimit);
        }
        let (mut local, leased) = {
            let state = shared.state.lock();
            (state.local, state.lease.port)
        };
        if !local.ip().is_unspecified() && !environment.topology.is_local(local.ip()) {
            return Err(Failure::AddressNotAvailable);
        }
        if leased != 0 {
            local.set_port(leased);
        }
        if local.port() == 0 {
            let Environment { ephemeral, random, .. } = environment;
            let port = ephemeral.choose_any(random, |port| self.ports.is_port_free(port)).ok_or(Failure::AddressInUse)?;
            local.set_port(port);
        }
        let key = self.sockets.vacant_key();
        if !self.ports.insert(local, key) {
            return Err(Failure::AddressInUse);
        }
        self.sockets.insert(Listener {
            shared: shared.clone(),
            local,
            half_open: BTreeSet::new(),
            cookies_until: None,
            early: BTreeSet::new(),
            early_resets: VecDeque::new(),
        });
        Ok((key, local))
    }

    fn key_of(&self, shared: &Arc<ListenerShared>) -> Option<usize> {
        let key = shared.place.load(Ordering::Relaxed).checked_sub(1)? as usize;
        self.sockets.get(key).is_some_and(|listener| Arc::ptr_eq(&listener.shared, shared)).then_some(key)
    }
}

/// Notes that it does not listen (any more); the port is let go with the lock released.
fn close(shared: &ListenerShared, failure: Option<Failure>) {
    let lease = {
        let mut state = shared.state.lock();
        state.listening = false;
        state.failure = failure.or(state.failure);
        std::mem::take(&mut state.lease)
    };
    drop(lease);
}
