//! Every TCP connection: found by both its ends, visited when something concerns it or when its time has come.
//!
//! Owns the table of connections, their timers, and the listeners with what they have not handed over. Refuses to know TCP: what a segment
//! means is [`Connection`]'s business. Read `opening` for how a connection comes to be on our wish, [`listeners`](super::listeners) on a peer's.
//!
//! Nothing here looks at all connections for one packet or one tick; that is left to what concerns them all: shutdown, a change of addresses.

mod entry;
mod index;
mod opening;
mod rest;
#[cfg(test)]
mod tests;

use super::demux::{Ends, KeyedHash};
use super::environment::{Environment, Out};
use super::listeners::Listeners;
use super::segment;
use super::shared::{Failure, Mark, MarkSet, Phase, TcpShared};
use super::syn_cookies::SynCookies;
use super::tcp::{Connection, Context, Deadlines, InitialSequence, Segment, State, reset_for};
use super::timers::{Armed, Timers};
use crate::layer::DropReason;
use crate::network::topology::AddressMode;
use crate::network::{Delivery, ErrorReport};
use crate::time::{Duration, Instant};
use crate::wire::TcpHeader;
use entry::{Entry, Origin};
use index::Index;
use rest::MayRest;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So much later may a timer be that need not be exact, if nobody comes by before: what an acknowledgement is delayed for nearly always comes first, and a
/// thread that slept no longer than until its deadline would be woken for nothing. (Measured: a thousand times a second by short connections.)
const LEEWAY: Duration = Duration::from_millis(4);

/// Every connection and every listener.
pub(super) struct Connections {
    entries: Slab<Entry>,
    index: Index,
    timers: Timers,
    /// Those that need not be exact.
    relaxed_timers: Timers,
    may_rest: MayRest,
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

impl Connections {
    pub(super) fn new(environment: &mut Environment, hash: KeyedHash, listeners: Listeners) -> Connections {
        Connections {
            entries: Slab::new(),
            index: Index::new(hash),
            timers: Timers::default(),
            relaxed_timers: Timers::default(),
            may_rest: MayRest::new(environment.tcp.rest_after),
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
        out.counters().transport.segments_received.add_alone(1);
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
        let Some(connection) = self.awake(key, environment) else { return };
        connection.marked(&mut environment.context(now, connection.remote().ip(), out), marks);
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
            let Some(ends) = self.entries.get(key).and_then(Entry::ends) else { continue };
            let mtu = environment.path_mtu(ends.remote.ip());
            if !environment.topology.is_local(ends.local.ip()) {
                self.visit(key, environment, now, out, |connection, cx| connection.fail(cx, Failure::AddressNotAvailable));
            } else if mtu_changed {
                self.visit(key, environment, now, out, |connection, cx| connection.path_mtu_changed(cx, mtu));
            }
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
        environment.share_near_buffers(self.may_rest.len());
        // The memory is kept for the next batch.
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.relaxed_timers.next(), self.may_rest.deadline()].into_iter().flatten().min()
    }

    pub(super) fn sleeps_until(&self) -> Option<Instant> {
        let relaxed = self.relaxed_timers.next().map(|at| at + LEEWAY);
        [self.timers.next(), relaxed, self.may_rest.deadline()].into_iter().flatten().min()
    }

    pub(super) fn run_timers(&mut self, environment: &mut Environment, now: Instant, out: &mut Out) {
        // All that are due first: a connection that wants another visit at once must not keep the layer here.
        let mut due: SmallVec<[usize; 16]> = SmallVec::new();
        while let Some(key) = self.timers.pop_due(now) {
            self.fire(key, |entry| &mut entry.armed, &mut due);
        }
        while let Some(key) = self.relaxed_timers.pop_due(now) {
            self.fire(key, |entry| &mut entry.relaxed_armed, &mut due);
        }
        for key in due {
            self.visit(key, environment, now, out, |connection, cx| {
                if connection.deadline().is_some_and(|deadline| deadline <= now) {
                    connection.run_timers(cx);
                }
            });
        }
        self.lay_to_rest(now);
    }

    fn fire(&mut self, key: usize, armed: fn(&mut Entry) -> &mut Armed, due: &mut SmallVec<[usize; 16]>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        armed(entry).fired();
        due.push(key);
    }

    /// Whether every connection is in TIME-WAIT.
    pub(super) fn is_quiet(&self) -> bool {
        self.entries.iter().all(|(_, entry)| entry.state() == State::TimeWait)
    }

    /// How many there are, TIME-WAIT included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn arrived_for(&mut self, key: usize, environment: &mut Environment, now: Instant, segment: Segment, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let listener = entry.origin.listener();
        let Some(connection) = entry.wake(&environment.tcp) else { return };
        if connection.state() == State::TimeWait && connection.may_be_reused_by(&segment, now) {
            return self.succeed(key, environment, now, segment, out);
        }
        // As Linux does: a handshake is not completed while nobody could accept it. The peer, or our SYN-ACK's timer, will ask again.
        if listener.is_some_and(|listener| !self.listeners.may_complete(listener)) && !segment::is_reset(&segment) {
            return out.drop_packet(DropReason::ListenerFull, segment.payload);
        }
        connection.segment_arrives(&mut environment.context(now, segment.source.ip(), out), segment);
        self.promote(key, environment, now, out);
        self.touch(key);
    }

    /// A SYN that may open a new connection in the place of one in TIME-WAIT does so if somebody listens, else it is the old one's.
    fn succeed(&mut self, key: usize, environment: &mut Environment, now: Instant, segment: Segment, out: &mut Out) {
        let Some(connection) = self.entries.get_mut(key).and_then(|entry| entry.wake(&environment.tcp)) else { return };
        if self.listeners.find(segment.destination).is_none() {
            connection.segment_arrives(&mut environment.context(now, segment.source.ip(), out), segment);
            return self.touch(key);
        }
        let successor = connection.successor_sequence();
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
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.origin != Origin::Settled) else { return };
        let origin = entry.origin;
        let Some(connection) = entry.wake(&environment.tcp) else { return };
        let (is_synchronized, is_early) = (connection.state().is_synchronized(), connection.is_early());
        match origin {
            Origin::For(listener) if is_synchronized || is_early => {
                // The shared state says "connected" before anybody can accept it.
                connection.end_batch(&mut environment.context(now, connection.remote().ip(), out));
                let shared = connection.shared().clone();
                entry.origin = if is_early { Origin::EarlyFor(listener) } else { Origin::Settled };
                if is_early {
                    self.listeners.is_early(listener as usize, key);
                }
                self.listeners.completed(listener as usize, key, shared, out);
            }
            Origin::EarlyFor(listener) if is_synchronized => {
                entry.origin = Origin::Settled;
                self.listeners.no_longer_early(listener as usize, key, None);
            }
            _ => {}
        }
    }

    /// Resets a connection if its handle's end leaves more orphans than may be.
    fn orphaned(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !std::mem::replace(&mut entry.is_orphan, true) {
            self.orphans += 1;
        }
        if self.orphans > environment.tcp.orphans
            && let Some(connection) = entry.wake(&environment.tcp)
        {
            out.counters().transport.orphans_aborted.increment();
            connection.abort(&mut environment.context(now, connection.remote().ip(), out), Failure::ResourceLimit);
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
        let Some(connection) = self.awake(key, environment) else { return };
        let remote = connection.remote().ip();
        let mut cx = environment.context(now, remote, out);
        act(connection, &mut cx);
        if connection.is_closed() {
            // It leaves the table now, and may have been closed before this visit, by a segment of the same batch, whose end would tell the program.
            connection.end_batch(&mut cx);
        }
        self.settle(key, now);
    }

    /// The connection at `key`, which does not rest from now on.
    fn awake(&mut self, key: usize, environment: &Environment) -> Option<&mut Connection> {
        self.entries.get_mut(key)?.wake(&environment.tcp)
    }

    /// After every visit: removes a connection that is over, else sees to it that it is visited again in time.
    fn settle(&mut self, key: usize, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.state() == State::Closed {
            return self.remove(key);
        }
        let Deadlines { exact, relaxed } = entry.deadlines();
        self.timers.arm(key, &mut entry.armed, exact);
        self.relaxed_timers.arm(key, &mut entry.relaxed_armed, relaxed);
        let waits = entry.connection().is_some_and(Connection::waits_for_device_room);
        if waits && !std::mem::replace(&mut entry.is_waiting, true) {
            self.waiting.push_back(key);
        }
        if entry.state() == State::TimeWait && std::mem::take(&mut entry.is_orphan) {
            self.orphans = self.orphans.saturating_sub(1);
        }
        self.note_visit(key, now);
    }

    /// Removes a connection, whatever its state: one in TIME-WAIT makes room for its successor.
    fn end(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) {
        self.visit(key, environment, now, out, |connection, cx| connection.end_batch(cx));
        self.remove(key);
    }

    fn remove(&mut self, key: usize) {
        let Some(mut entry) = self.entries.try_remove(key) else { return };
        if let Some(ends) = entry.ends() {
            self.index.remove(&ends, key);
        }
        self.timers.disarm(key, &mut entry.armed);
        self.relaxed_timers.disarm(key, &mut entry.relaxed_armed);
        if entry.is_orphan {
            self.orphans = self.orphans.saturating_sub(1);
        }
        match entry.origin {
            Origin::Settled => {}
            Origin::For(listener) => self.listeners.forget(listener as usize, key),
            Origin::EarlyFor(listener) => {
                self.listeners.no_longer_early(listener as usize, key, entry.connection().map(Connection::last_heard));
            }
        }
        let Some(shared) = entry.shared() else { return };
        shared.place.store(0, Ordering::Relaxed);
        let mut state = shared.state.lock();
        debug_assert!(state.phase == Phase::Closed, "whoever waits for a connection is told before it leaves the table");
        let lease = std::mem::take(&mut state.lease);
        drop(state);
        // With the lock released: a guard's end is a system call.
        drop(lease);
    }

    fn insert(&mut self, connection: Connection, listener: Option<usize>, now: Instant) -> usize {
        let ends = Ends { local: connection.local(), remote: connection.remote() };
        let shared = connection.shared().clone();
        let key = self.entries.insert(Entry::new(connection, listener));
        shared.place.store(super::datagram::place_of(key), Ordering::Relaxed);
        let entries = &self.entries;
        self.index.insert(&ends, key, |key| entries.get(key).and_then(Entry::ends));
        self.settle(key, now);
        key
    }

    /// The key of the connection between these ends.
    fn key_between(&self, ends: &Ends) -> Option<usize> {
        self.index.find(ends, |key| self.entries.get(key).and_then(Entry::ends))
    }

    /// The connection between these ends. One that is over, and only waits for the end of the batch, is removed first.
    fn find(&mut self, environment: &mut Environment, now: Instant, ends: Ends, out: &mut Out) -> Option<usize> {
        let key = self.key_between(&ends)?;
        if self.entries.get(key)?.state() == State::Closed {
            self.end(key, environment, now, out);
            return None;
        }
        Some(key)
    }

    fn key_of(&self, shared: &Arc<TcpShared>) -> Option<usize> {
        let key = shared.place.load(Ordering::Relaxed).checked_sub(1)? as usize;
        self.entries.get(key).is_some_and(|entry| entry.shared().is_some_and(|own| Arc::ptr_eq(own, shared))).then_some(key)
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
