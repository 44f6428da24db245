//! Every TCP connection: found by both its ends, visited when something concerns it or when its time has come.
//!
//! Owns the table of connections, their timers, and the listeners with what they have not handed over. Refuses to know TCP: what a segment
//! means is [`Connection`]'s business. Read `opening` for how a connection comes to be on our wish, [`listeners`](super::listeners) on a peer's.
//!
//! Nothing here looks at all connections for one packet or one tick; that is left to what concerns them all: shutdown, a change of addresses.

mod index;
mod opening;
#[cfg(test)]
mod tests;

use super::demux::{Ends, KeyedHash};
use super::environment::{Environment, Out};
use super::listeners::Listeners;
use super::segment;
use super::shared::{Failure, Mark, MarkSet, TcpShared};
use super::syn_cookies::SynCookies;
use super::tcp::{Connection, Context, InitialSequence, Segment, State, reset_for};
use super::timers::{Armed, Timers};
use crate::layer::DropReason;
use crate::network::topology::AddressMode;
use crate::network::{Delivery, ErrorReport};
use crate::time::Instant;
use crate::wire::TcpHeader;
use index::Index;
use slab::Slab;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Every connection and every listener.
pub(super) struct Connections {
    entries: Slab<Entry>,
    index: Index,
    timers: Timers,
    /// Visited in this batch; each is to be ended once.
    touched: Vec<usize>,
    /// In the order in which they found the way to the device full.
    waiting: VecDeque<usize>,
    /// Connections whose last handle is gone, and which still have something to send or to hear.
    orphans: usize,
    initial_sequence: InitialSequence,
    syn_cookies: SynCookies,
    pub(super) listeners: Listeners,
}

pub(super) struct Entry {
    connection: Connection,
    armed: Armed,
    is_touched: bool,
    is_waiting: bool,
    is_orphan: bool,
    /// The listener that it is for, until the handshake is complete.
    listener: Option<usize>,
    /// The listener that handed it over early, until the handshake is complete.
    early_for: Option<usize>,
}

impl Entry {
    fn ends(&self) -> Ends {
        Ends { local: self.connection.local(), remote: self.connection.remote() }
    }
}

impl Connections {
    pub(super) fn new(environment: &mut Environment, hash: KeyedHash, listeners: Listeners) -> Connections {
        Connections {
            entries: Slab::new(),
            index: Index::new(hash),
            timers: Timers::default(),
            touched: Vec::new(),
            waiting: VecDeque::new(),
            orphans: 0,
            initial_sequence: InitialSequence::new(&mut environment.random),
            syn_cookies: SynCookies::new(&mut environment.random),
            listeners,
        }
    }

    /// A segment, its TCP header in front.
    pub(super) fn arrived(&mut self, environment: &mut Environment, now: Instant, delivery: Delivery, out: &mut Out) {
        out.counters().transport.segments_received.increment();
        let Some(segment) = segment::parse(environment, delivery, out) else { return };
        let ends = Ends { local: segment.destination, remote: segment.source };
        match self.find(environment, now, ends, out) {
            Some(key) => self.arrived_for(key, environment, now, segment, out),
            None => self.arrived_for_listener(environment, now, segment, None, out),
        }
    }

    /// Does what the program wants of `shared`. Marks of a connection that is not, or no longer, in the table do nothing.
    pub(super) fn marked(&mut self, environment: &mut Environment, now: Instant, shared: &Arc<TcpShared>, marks: MarkSet, out: &mut Out) {
        if marks.has(Mark::Open) && self.key_of(shared).is_none() {
            self.open(environment, now, shared, out);
        }
        let Some(key) = self.key_of(shared) else { return };
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.connection.marked(&mut environment.context(now, entry.connection.remote().ip(), out), marks);
        if marks.has(Mark::Released) {
            self.orphaned(key, environment, now, out);
        }
        self.touch(key);
    }

    /// An error about a segment of ours; RFC 5927 is the connection's business.
    pub(super) fn error_reported(&mut self, environment: &mut Environment, now: Instant, report: &ErrorReport, out: &mut Out) {
        let Ok((source_port, destination_port, _)) = TcpHeader::parse_quoted(&report.quoted) else { return };
        let local = SocketAddr::new(report.source, source_port);
        let remote = SocketAddr::new(report.destination, destination_port);
        let Some(key) = self.find(environment, now, Ends { local, remote }, out) else { return };
        self.visit(key, environment, now, out, |connection, cx| connection.error_reported(cx, report));
    }

    /// The path MTU to `destination` changed.
    pub(super) fn path_mtu_changed(&mut self, environment: &mut Environment, now: Instant, destination: IpAddr, out: &mut Out) {
        let mtu = environment.path_mtu(destination);
        let keys: Vec<usize> = self.index.to(destination).collect();
        for key in keys {
            self.visit(key, environment, now, out, |connection, cx| connection.path_mtu_changed(cx, mtu));
        }
    }

    /// Fails the connections whose address is no longer ours; tells the others of the link's MTU, if that changed.
    pub(super) fn topology_changed(&mut self, environment: &mut Environment, now: Instant, mtu_changed: bool, out: &mut Out) {
        for key in self.keys() {
            let Some(entry) = self.entries.get(key) else { continue };
            let is_ours = environment.topology.is_local(entry.connection.local().ip());
            let mtu = environment.path_mtu(entry.connection.remote().ip());
            self.visit(key, environment, now, out, |connection, cx| match is_ours {
                false => connection.fail(cx, Failure::AddressNotAvailable),
                true if mtu_changed => connection.path_mtu_changed(cx, mtu),
                true => {}
            });
        }
    }

    /// There is room on the way to the device: whoever found none tries again, in that order.
    pub(super) fn device_room(&mut self, environment: &mut Environment, now: Instant, out: &mut Out) {
        for key in std::mem::take(&mut self.waiting) {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            if std::mem::take(&mut entry.is_waiting) {
                self.visit(key, environment, now, out, |connection, cx| connection.device_room(cx));
            }
        }
    }

    /// Calls `act`, which ends its own batch, for every connection.
    pub(super) fn for_all(
        &mut self,
        environment: &mut Environment,
        now: Instant,
        out: &mut Out,
        act: impl Fn(&mut Connection, &mut Context<'_>),
    ) {
        for key in self.keys() {
            self.visit(key, environment, now, out, &act);
        }
    }

    /// Ends the visits of this batch.
    pub(super) fn end_batch(&mut self, environment: &mut Environment, now: Instant, out: &mut Out) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.is_touched = false;
                self.visit(key, environment, now, out, |connection, cx| connection.end_batch(cx));
            }
        }
        // The memory is kept for the next batch.
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn run_timers(&mut self, environment: &mut Environment, now: Instant, out: &mut Out) {
        // All that are due first: a connection that wants another visit at once must not keep the layer here.
        let due: Vec<usize> = std::iter::from_fn(|| self.timers.pop_due(now)).collect();
        for key in due {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            entry.armed.fired();
            self.visit(key, environment, now, out, |connection, cx| {
                if connection.deadline().is_some_and(|deadline| deadline <= now) {
                    connection.run_timers(cx);
                }
            });
        }
    }

    /// Whether every connection is in TIME-WAIT.
    pub(super) fn is_quiet(&self) -> bool {
        self.entries.iter().all(|(_, entry)| entry.connection.state() == State::TimeWait)
    }

    /// How many there are, TIME-WAIT included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn arrived_for(&mut self, key: usize, environment: &mut Environment, now: Instant, segment: Segment, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.connection.state() == State::TimeWait && entry.connection.may_be_reused_by(&segment, now) {
            return self.succeed(key, environment, now, segment, out);
        }
        // As Linux does: a handshake is not completed while nobody could accept it. The peer, or our SYN-ACK's timer, will ask again.
        if entry.listener.is_some_and(|listener| !self.listeners.may_complete(listener)) && !segment::is_reset(&segment) {
            return out.drop_packet(DropReason::ListenerFull, segment.payload);
        }
        entry.connection.segment_arrives(&mut environment.context(now, segment.source.ip(), out), segment);
        self.promote(key, environment, now, out);
        self.touch(key);
    }

    /// A SYN that may open a new connection in the place of one in TIME-WAIT does so if somebody listens, else it is the old one's.
    fn succeed(&mut self, key: usize, environment: &mut Environment, now: Instant, segment: Segment, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if self.listeners.find(segment.destination).is_none() {
            entry.connection.segment_arrives(&mut environment.context(now, segment.source.ip(), out), segment);
            return self.touch(key);
        }
        let successor = entry.connection.successor_sequence();
        self.end(key, environment, now, out);
        self.arrived_for_listener(environment, now, segment, Some(successor), out);
    }

    /// Nobody's segment (RFC 9293 §3.10.7.1). On an address that is the host's as well, only ports that we listen on are ours to answer for.
    pub(super) fn refuse(&self, environment: &mut Environment, now: Instant, segment: Segment, out: &mut Out) {
        let is_ours = environment.topology.mode == AddressMode::Own || self.listeners.find(segment.destination).is_some();
        if is_ours {
            reset_for(&mut environment.context(now, segment.source.ip(), out), &segment);
        }
        out.drop_packet(DropReason::NoSocket, segment.payload);
    }

    /// Hands a connection whose handshake is complete over to its listener's queue.
    pub(super) fn promote(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(listener) = entry.early_for.take_if(|_| entry.connection.state().is_synchronized()) {
            self.listeners.no_longer_early(listener, key, None);
        }
        let is_ready = entry.connection.state().is_synchronized() || entry.connection.is_early();
        if entry.listener.is_none() || !is_ready {
            return;
        }
        let Some(listener) = entry.listener.take() else { return };
        if entry.connection.is_early() {
            entry.early_for = Some(listener);
            self.listeners.is_early(listener, key);
        }
        // The shared state says "connected" before anybody can accept it.
        entry.connection.end_batch(&mut environment.context(now, entry.connection.remote().ip(), out));
        let shared = entry.connection.shared().clone();
        self.listeners.completed(listener, key, shared, out);
    }

    /// Resets a connection if its handle's end leaves more orphans than may be.
    fn orphaned(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !std::mem::replace(&mut entry.is_orphan, true) {
            self.orphans += 1;
        }
        if self.orphans > environment.tcp.orphans {
            out.counters().transport.orphans_aborted.increment();
            entry.connection.abort(&mut environment.context(now, entry.connection.remote().ip(), out), Failure::ResourceLimit);
        }
    }

    /// Does something with a connection that ends its own batch, and looks at what became of it.
    fn visit(
        &mut self,
        key: usize,
        environment: &mut Environment,
        now: Instant,
        out: &mut Out,
        act: impl FnOnce(&mut Connection, &mut Context<'_>),
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let remote = entry.connection.remote().ip();
        act(&mut entry.connection, &mut environment.context(now, remote, out));
        self.settle(key);
    }

    /// After every visit: removes a connection that is over, else sees to it that it is visited again in time.
    fn settle(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.connection.is_closed() {
            return self.remove(key);
        }
        self.timers.arm(key, &mut entry.armed, entry.connection.deadline());
        if entry.connection.waits_for_device_room() && !std::mem::replace(&mut entry.is_waiting, true) {
            self.waiting.push_back(key);
        }
        if entry.connection.state() == State::TimeWait && std::mem::take(&mut entry.is_orphan) {
            self.orphans = self.orphans.saturating_sub(1);
        }
    }

    /// Removes a connection, whatever its state: one in TIME-WAIT makes room for its successor.
    fn end(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) {
        self.visit(key, environment, now, out, |connection, cx| connection.end_batch(cx));
        self.remove(key);
    }

    fn remove(&mut self, key: usize) {
        let Some(mut entry) = self.entries.try_remove(key) else { return };
        let (local, remote) = (entry.connection.local(), entry.connection.remote());
        self.index.remove(&Ends { local, remote }, key);
        self.timers.disarm(key, &mut entry.armed);
        if entry.is_orphan {
            self.orphans = self.orphans.saturating_sub(1);
        }
        if let Some(listener) = entry.listener {
            self.listeners.forget(listener, key);
        }
        if let Some(listener) = entry.early_for {
            self.listeners.no_longer_early(listener, key, Some(entry.connection.last_heard()));
        }
        let shared = entry.connection.shared();
        shared.place.store(0, Ordering::Relaxed);
        let lease = std::mem::take(&mut shared.state.lock().lease);
        // With the lock released: a guard's end is a system call.
        drop(lease);
    }

    fn insert(&mut self, connection: Connection, listener: Option<usize>) -> usize {
        let ends = Ends { local: connection.local(), remote: connection.remote() };
        let entry = Entry {
            connection,
            armed: Armed::default(),
            is_touched: false,
            is_waiting: false,
            is_orphan: false,
            listener,
            early_for: None,
        };
        let key = self.entries.insert(entry);
        if let Some(entry) = self.entries.get(key) {
            entry.connection.shared().place.store(super::datagram::place_of(key), Ordering::Relaxed);
        }
        let entries = &self.entries;
        self.index.insert(&ends, key, |key| entries.get(key).map(Entry::ends));
        self.settle(key);
        key
    }

    /// The key of the connection between these ends.
    fn key_between(&self, ends: &Ends) -> Option<usize> {
        self.index.find(ends, |key| self.entries.get(key).map(Entry::ends))
    }

    /// The connection between these ends. One that is over, and only waits for the end of the batch, is removed first.
    fn find(&mut self, environment: &mut Environment, now: Instant, ends: Ends, out: &mut Out) -> Option<usize> {
        let key = self.key_between(&ends)?;
        if self.entries.get(key)?.connection.is_closed() {
            self.end(key, environment, now, out);
            return None;
        }
        Some(key)
    }

    fn key_of(&self, shared: &Arc<TcpShared>) -> Option<usize> {
        let key = shared.place.load(Ordering::Relaxed).checked_sub(1)? as usize;
        self.entries.get(key).is_some_and(|entry| Arc::ptr_eq(entry.connection.shared(), shared)).then_some(key)
    }

    fn touch(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !std::mem::replace(&mut entry.is_touched, true) {
            self.touched.push(key);
        }
    }

    fn keys(&self) -> Vec<usize> {
        self.entries.iter().map(|(key, _)| key).collect()
    }

    /// Resets connections that nobody will accept.
    pub(super) fn abandon(&mut self, environment: &mut Environment, now: Instant, orphans: Vec<usize>, out: &mut Out) {
        for key in orphans {
            self.visit(key, environment, now, out, |connection, cx| connection.abort(cx, Failure::Aborted));
        }
    }

    /// The places of connections in a listener's queue.
    pub(super) fn keys_of(&self, accepted: impl Iterator<Item = Arc<TcpShared>>) -> Vec<usize> {
        accepted.filter_map(|shared| self.key_of(&shared)).collect()
    }
}
