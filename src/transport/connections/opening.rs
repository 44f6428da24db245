//! How a connection comes to be: on a program's wish, or in the name of a listener.

use super::{Connections, Entry};
use crate::layer::DropReason;
use crate::link::Cast;
use crate::packet::Packet;
use crate::time::Instant;
use crate::transport::demux::Ends;
use crate::transport::environment::{Environment, Out};
use crate::transport::listeners::Admission;
use crate::transport::segment;
use crate::transport::shared::{self, Failure, Phase, Readiness, TcpShared};
use crate::transport::syn_cookies::Remembered;
use crate::transport::tcp::{Connection, FastOpenGrant, Segment, State, answer_with_cookie};
use crate::wire::{SequenceNumber, TcpFlags, TcpHeader};
use std::net::SocketAddr;
use std::sync::Arc;

impl Connections {
    /// Active open; a failure is told through the shared state.
    pub(super) fn open(&mut self, environment: &mut Environment, now: Instant, shared: &Arc<TcpShared>, out: &mut Out) {
        if shared.state.lock().phase != Phase::New {
            return;
        }
        match self.choose_ends(environment, shared) {
            Ok(ends) => self.connect(environment, now, shared, ends, out),
            Err(failure) => refuse(shared, failure, out),
        }
    }

    fn connect(&mut self, environment: &mut Environment, now: Instant, shared: &Arc<TcpShared>, ends: Ends, out: &mut Out) {
        let Ends { local, remote } = ends;
        let predecessor = self.key_between(&ends);
        let least = predecessor.and_then(|key| self.entries.get(key)).and_then(Entry::connection).map(Connection::successor_sequence);
        if let Some(key) = predecessor {
            self.end(key, environment, now, out);
        }
        {
            let mut state = shared.state.lock();
            state.local = local;
            state.lease.port = local.port();
        }
        let sequence = self.initial_sequence(now, ends, least);
        let connection = Connection::connect(&mut environment.context(now, remote.ip(), out), shared.clone(), local, remote, sequence);
        self.insert(connection, None, now);
    }

    fn choose_ends(&mut self, environment: &mut Environment, shared: &TcpShared) -> Result<Ends, Failure> {
        environment.may_open()?;
        if self.entries.len() >= environment.tcp.connections {
            return Err(Failure::ResourceLimit);
        }
        let (mut local, remote, leased) = {
            let state = shared.state.lock();
            (state.local, state.remote, state.lease.port)
        };
        let route = environment.topology.resolve(remote.ip()).filter(|route| route.cast == Cast::Unicast);
        let route = route.ok_or(Failure::NetworkUnreachable)?;
        if local.ip().is_unspecified() {
            local.set_ip(route.source);
        }
        if !environment.topology.is_local(local.ip()) {
            return Err(Failure::AddressNotAvailable);
        }
        if leased != 0 {
            local.set_port(leased);
        }
        self.choose_port(environment, local, remote)
    }

    fn choose_port(&self, environment: &mut Environment, mut local: SocketAddr, remote: SocketAddr) -> Result<Ends, Failure> {
        if local.port() != 0 {
            return if self.may_connect(local, remote) { Ok(Ends { local, remote }) } else { Err(Failure::AddressInUse) };
        }
        let Environment { ephemeral, random, .. } = environment;
        let is_free = |port| {
            let local = SocketAddr::new(local.ip(), port);
            self.listeners.find(local).is_none() && self.key_between(&Ends { local, remote }).is_none()
        };
        let port = ephemeral.choose(random, local.ip(), remote, is_free).ok_or(Failure::AddressInUse)?;
        local.set_port(port);
        Ok(Ends { local, remote })
    }

    /// A port that a program insists on may take over a connection in TIME-WAIT (RFC 9293 §3.10.1 leaves it open; RFC 1122 §4.2.2.13 says
    /// with which sequence numbers).
    fn may_connect(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let occupant = self.key_between(&Ends { local, remote }).and_then(|key| self.entries.get(key));
        let is_over = |state| matches!(state, State::TimeWait | State::Closed);
        self.listeners.find(local).is_none() && occupant.is_none_or(|entry| is_over(entry.state()))
    }

    /// A segment for no connection: a listener's, or nobody's (RFC 9293 §3.10.7.2). `least`: what the initial sequence number has to be at least, because
    /// an older connection had these ends.
    pub(super) fn arrived_for_listener(
        &mut self,
        environment: &mut Environment,
        now: Instant,
        segment: Segment,
        least: Option<SequenceNumber>,
        out: &mut Out,
    ) {
        let Some(listener) = self.listeners.find(segment.destination) else {
            return self.refuse(environment, now, segment, out);
        };
        if segment::is_reset(&segment) {
            return out.drop_packet(DropReason::NoSocket, segment.payload);
        }
        if !segment::is_plain_syn(&segment) {
            return self.acknowledged_for_listener(environment, now, listener, segment, out);
        }
        match self.admit(environment, listener) {
            // A cookie cannot keep to the least number.
            Ok(Admission::Cookie) if least.is_none() => self.send_cookie(environment, now, listener, &segment, out),
            Ok(Admission::Cookie) if !self.listeners.may_begin(listener, &environment.tcp) => {
                out.drop_packet(DropReason::ListenerFull, segment.payload);
            }
            Ok(_) => self.accept(environment, now, listener, &segment, least, out),
            Err(reason) => out.drop_packet(reason, segment.payload),
        }
    }

    fn send_cookie(&mut self, environment: &mut Environment, now: Instant, listener: usize, syn: &Segment, out: &mut Out) {
        let Some(options) = self.listeners.options(listener) else { return };
        let ends = Ends { local: syn.destination, remote: syn.source };
        let cookie = self.syn_cookies.make(now, ends, &syn.header);
        self.listeners.sends_cookie(listener, now);
        answer_with_cookie(&mut environment.context(now, ends.remote.ip(), out), syn, cookie, &options);
    }

    /// An acknowledgement for a listener brings a cookie back, or is nobody's. While nobody could accept the connection it is dropped: the peer
    /// believes that it is connected, and will say so again.
    fn acknowledged_for_listener(&mut self, environment: &mut Environment, now: Instant, listener: usize, segment: Segment, out: &mut Out) {
        let is_acknowledgement = segment.header.flags.contains(TcpFlags::ACK) && !segment.header.flags.contains(TcpFlags::SYN);
        if !is_acknowledgement || !self.listeners.expects_cookie(listener, now) {
            return self.refuse(environment, now, segment, out);
        }
        if let Err(reason) = self.admit(environment, listener) {
            return out.drop_packet(reason, segment.payload);
        }
        let ends = Ends { local: segment.destination, remote: segment.source };
        match self.syn_cookies.check(now, ends, &segment.header) {
            Some(remembered) => self.revive(environment, now, listener, remembered, segment, out),
            None => {
                out.counters().transport.syn_cookies_failed.increment();
                self.refuse(environment, now, segment, out);
            }
        }
    }

    /// Makes the connection that a cookie stood for, and gives it the segment that brought the cookie back.
    fn revive(
        &mut self,
        environment: &mut Environment,
        now: Instant,
        listener: usize,
        remembered: Remembered,
        segment: Segment,
        out: &mut Out,
    ) {
        let Some(shared) = self.listeners.child(listener, segment.destination, segment.source) else { return };
        let ecn = if remembered.ecn { TcpFlags::ECE | TcpFlags::CWR } else { TcpFlags::NONE };
        let header =
            TcpHeader { sequence: segment.header.sequence - 1, flags: TcpFlags::SYN | ecn, options: remembered.options, ..segment.header };
        let syn = Segment { header, payload: Packet::default(), ..segment };
        let cookie = segment.header.acknowledgement - 1;
        let mut cx = environment.context(now, segment.source.ip(), out);
        let connection = Connection::revive(&mut cx, shared, &syn, cookie);
        let key = self.insert(connection, Some(listener), now);
        self.arrived_for(key, environment, now, segment, out);
        if self.entries.get(key).is_some_and(|entry| entry.state() == State::SynReceived) {
            self.abandon(environment, now, vec![key], out);
        }
    }

    fn admit(&self, environment: &Environment, listener: usize) -> Result<Admission, DropReason> {
        if environment.refusing.is_some() {
            return Err(DropReason::ShuttingDown);
        }
        if self.entries.len() >= environment.tcp.connections {
            return Err(DropReason::TooManyConnections);
        }
        self.listeners.admit(listener, &environment.tcp).ok_or(DropReason::ListenerFull)
    }

    /// Passive open.
    fn accept(
        &mut self,
        environment: &mut Environment,
        now: Instant,
        listener: usize,
        segment: &Segment,
        least: Option<SequenceNumber>,
        out: &mut Out,
    ) {
        let Some(shared) = self.listeners.child(listener, segment.destination, segment.source) else { return };
        let ends = Ends { local: segment.destination, remote: segment.source };
        let sequence = self.initial_sequence(now, ends, least);
        let grant = self.judge_fast_open(environment, now, listener, segment, out);
        let mut cx = environment.context(now, ends.remote.ip(), out);
        let connection = Connection::accept_fast(&mut cx, shared, segment, sequence, grant);
        let key = self.insert(connection, Some(listener), now);
        self.listeners.began(listener, key);
        self.promote(key, environment, now, out);
    }

    /// Fast Open, server side (RFC 7413 §4.2.2, steps 1 to 3).
    fn judge_fast_open(&mut self, environment: &Environment, now: Instant, listener: usize, syn: &Segment, out: &mut Out) -> FastOpenGrant {
        let Some(cookie) = syn.header.options.fast_open else { return FastOpenGrant::default() };
        let Some(has_room) = self.listeners.may_hand_over_early(listener, now) else { return FastOpenGrant::default() };
        let judgement = environment.fast_open_server.judge(now, syn.destination.ip(), syn.source.ip(), cookie);
        if judgement.is_valid && !has_room {
            out.counters().transport.fast_opens_declined.increment();
        }
        FastOpenGrant { takes_data: judgement.is_valid && has_room && !syn.payload.is_empty(), cookie: judgement.renewed }
    }

    fn initial_sequence(&self, now: Instant, ends: Ends, least: Option<SequenceNumber>) -> SequenceNumber {
        let sequence = self.initial_sequence.next(now, ends.local, ends.remote);
        least.map_or(sequence, |least| sequence.latest(least))
    }
}

fn refuse(shared: &Arc<TcpShared>, failure: Failure, out: &mut Out) {
    let lease = {
        let mut state = shared.state.lock();
        state.phase = Phase::Closed;
        state.failure = Some(failure);
        std::mem::take(&mut state.lease)
    };
    drop(lease);
    shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::STATE | Readiness::READABLE | Readiness::WRITABLE);
}
