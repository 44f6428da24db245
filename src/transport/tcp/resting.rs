//! An idle connection, as it is kept: what its next segment will need, and nothing of what only a busy one has.
//!
//! Owns which part of a connection outlives its rest. Refuses to decide when it rests: the table of connections does.
//!
//! A connection rests in ESTABLISHED, with nothing to send, to acknowledge, to read or to wait for but the next keepalive probe. What is rare (a search
//! for the path MTU, a handshake by Fast Open, a user timeout that the peer asked for) keeps it awake. What its history has left, if it has any (losses,
//! reordering, a congestion window that was reduced), is kept whole. Two things are lost: the rounds of HyStart++, which are over with nothing in flight, and
//! the figures that a program may ask for, which are gathered again when it does.

use super::buffer_tuning::Tuning;
use super::congestion::{self, Controller};
use super::ecn::Ecn;
use super::exchange::News;
use super::options::Agreement;
use super::pacing::Pacing;
use super::path::PathState;
use super::receive_side::ReceiveSide;
use super::retransmission::Recovery;
use super::round_trip::RoundTripAtRest;
use super::send_side::SendSide;
use super::timers::{Timer, Timers};
use super::user_timeout::Advice;
use super::{Connection, RoundTrip, State};
use crate::config::TcpConfig;
use crate::time::Instant;
use crate::transport::shared::{SocketOptions, TcpShared};
use crate::wire::SequenceNumber;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection at rest.
pub struct Resting {
    shared: Arc<TcpShared>,
    local: SocketAddr,
    remote: SocketAddr,
    options: Arc<SocketOptions>,
    agreement: Agreement,
    send: SendAtRest,
    receive: ReceiveAtRest,
    round_trip: RoundTripAtRest,
    /// If it remembers anything.
    recovery: Option<Box<Recovery>>,
    congestion: CongestionAtRest,
    ecn: Ecn,
    /// When the next keepalive probe is due.
    keepalive_at: Option<Instant>,
    last_heard: Instant,
    last_challenge: Option<Instant>,
    timestamp_offset: u32,
    keepalive_probes: u32,
    path_mtu: u16,
    path_verified: u16,
    advice: Advice,
    is_active: bool,
}

/// Nothing is in flight or unsent: SND.UNA, SND.NXT and the end of the queue are one.
struct SendAtRest {
    initial: SequenceNumber,
    next: SequenceNumber,
    window: u32,
    window_sequence: SequenceNumber,
    window_acknowledgement: SequenceNumber,
    largest_window: u32,
    segment_size: u32,
    last_sent: Instant,
    largest_flight: usize,
    acknowledged_bytes: u64,
    rate: super::delivery_rate::RateAtRest,
}

/// Nothing is unread, out of order, or to be acknowledged.
struct ReceiveAtRest {
    initial: SequenceNumber,
    next: SequenceNumber,
    edge: SequenceNumber,
    acknowledged: SequenceNumber,
    segment_size: u32,
    largest_segment: u32,
    last_size: u32,
    quick: u32,
    buffer: usize,
    tuning: Tuning,
    received_bytes: u64,
    recent: Option<(u32, Instant)>,
    last_data: Option<Instant>,
    shift: u8,
    is_under_pressure: bool,
}

/// Congestion control that has never met congestion is a few figures.
enum CongestionAtRest {
    Untried(congestion::AtRest),
    Tried(Box<dyn Controller>),
}

impl Connection {
    /// The connection at rest, or, if something keeps it awake, as it was. Gives back what its queues still hold for what they once carried.
    pub fn rest(self: Box<Connection>) -> Result<Resting, Box<Connection>> {
        if self.may_rest() && self.empty_queues() { Ok(Resting::of(*self)) } else { Err(self) }
    }

    fn may_rest(&self) -> bool {
        let is_ordinary = self.state == State::Established && !self.is_released && self.fast_open.is_none() && self.path.is_settled();
        let has_own_timeout = self.wished_user_timeout == self.options.user_timeout;
        let waits = self.blocked.is_some() || self.held_since.is_some() || !self.timers.is_idle_but_for(Timer::Keepalive);
        let is_quiet = self.news.is_empty() && self.send.is_at_rest() && self.receive.is_at_rest();
        is_ordinary && has_own_timeout && !waits && is_quiet && self.round_trip.is_measured()
    }

    /// Whether there is nothing in what it shares with the program either.
    fn empty_queues(&self) -> bool {
        let mut state = self.shared.state.lock();
        let is_empty = state.to_send.is_empty() && state.received.is_empty() && state.unacknowledged == 0;
        if !is_empty || state.write_closed || state.urgent_to_send.is_some() {
            return false;
        }
        let old = (std::mem::take(&mut state.to_send), std::mem::take(&mut state.received), state.info.take());
        // Memory is given back with the lock released.
        drop(state);
        drop(old);
        true
    }
}

impl Resting {
    fn of(connection: Connection) -> Resting {
        let Connection { shared, local, remote, options, agreement, send, receive, round_trip, recovery, congestion, ecn, .. } = connection;
        let Connection {
            timers, last_heard, last_challenge, timestamp_offset, keepalive_probes, path_mtu, path, advice, is_active, ..
        } = connection;
        Resting {
            send: SendAtRest::of(&send),
            receive: ReceiveAtRest::of(&receive),
            round_trip: round_trip.at_rest(),
            recovery: (!recovery.is_as_new()).then(|| Box::new(recovery)),
            congestion: congestion.at_rest().map_or_else(|| CongestionAtRest::Tried(congestion), CongestionAtRest::Untried),
            keepalive_at: timers.get(Timer::Keepalive),
            path_verified: path.verified(),
            shared,
            local,
            remote,
            options,
            agreement,
            ecn,
            last_heard,
            last_challenge,
            timestamp_offset,
            keepalive_probes,
            path_mtu,
            advice,
            is_active,
        }
    }

    /// The connection, as it was when it came to rest.
    pub fn wake(self, config: &TcpConfig) -> Connection {
        let Resting { shared, local, remote, options, agreement, send, receive, round_trip, recovery, congestion, ecn, .. } = self;
        let Resting { keepalive_at, last_heard, last_challenge, timestamp_offset, keepalive_probes, path_mtu, .. } = self;
        let Resting { path_verified, advice, is_active, .. } = self;
        let settings = congestion::Settings::of(config, send.segment_size as usize);
        let mut timers = Timers::default();
        if let Some(at) = keepalive_at {
            timers.set(Timer::Keepalive, at);
        }
        Connection {
            state: State::Established,
            is_released: false,
            round_trip: RoundTrip::resumed(config, round_trip),
            recovery: recovery.map_or_else(|| Recovery::resumed(send.last_sent, send.next), |recovery| *recovery),
            congestion: match congestion {
                CongestionAtRest::Untried(figures) => congestion::resumed(options.congestion_control, &settings, figures),
                CongestionAtRest::Tried(controller) => controller,
            },
            send: send.wake(),
            receive: receive.wake(),
            timers,
            news: News::default(),
            blocked: None,
            path: PathState::settled(path_verified),
            fast_open: None,
            held_since: None,
            wished_user_timeout: options.user_timeout,
            shared,
            local,
            remote,
            is_active,
            options,
            agreement,
            ecn,
            timestamp_offset,
            path_mtu,
            last_heard,
            keepalive_probes,
            advice,
            last_challenge,
            // Nothing was sent for so long that all the credit is there.
            pacing: Pacing::default(),
            is_pacing: config.pacing,
        }
    }

    /// When it has to wake by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.keepalive_at
    }

    /// What it shares with the program.
    pub fn shared(&self) -> &Arc<TcpShared> {
        &self.shared
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl SendSide {
    fn is_at_rest(&self) -> bool {
        let is_acknowledged = self.unacknowledged == self.next && self.queue.end() == self.next && self.scoreboard.is_empty();
        let is_behind = self.small_segment_end.before_or_equal(self.next) && self.window_limited_at.before_or_equal(self.next);
        is_acknowledged && is_behind && self.urgent.is_none() && !self.finish && !self.finish_sent
    }
}

impl SendAtRest {
    fn of(send: &SendSide) -> SendAtRest {
        SendAtRest {
            initial: send.initial,
            next: send.next,
            window: send.window,
            window_sequence: send.window_sequence,
            window_acknowledgement: send.window_acknowledgement,
            largest_window: send.largest_window,
            segment_size: send.segment_size as u32,
            last_sent: send.last_sent,
            largest_flight: send.largest_flight,
            acknowledged_bytes: send.acknowledged_bytes,
            rate: send.scoreboard.rate.at_rest(),
        }
    }

    fn wake(self) -> SendSide {
        let mut send = SendSide::new(self.next - 1, self.last_sent);
        send.initial = self.initial;
        (send.unacknowledged, send.next, send.small_segment_end, send.window_limited_at) = (self.next, self.next, self.next, self.next);
        (send.window, send.largest_window) = (self.window, self.largest_window);
        (send.window_sequence, send.window_acknowledgement) = (self.window_sequence, self.window_acknowledgement);
        send.segment_size = self.segment_size as usize;
        send.largest_flight = self.largest_flight;
        send.acknowledged_bytes = self.acknowledged_bytes;
        send.scoreboard.rate = self.rate.wake();
        send
    }
}

impl ReceiveSide {
    fn is_at_rest(&self) -> bool {
        let is_handed_over = self.pending.is_empty() && self.reassembly.is_empty() && self.urgent.is_none();
        let owes = self.due != super::receive_side::Due::Not || self.duplicates > 0 || self.duplicate.is_some();
        is_handed_over && !owes && self.finish_at.is_none() && !self.finished
    }
}

impl ReceiveAtRest {
    fn of(receive: &ReceiveSide) -> ReceiveAtRest {
        ReceiveAtRest {
            initial: receive.initial,
            next: receive.next,
            edge: receive.edge,
            acknowledged: receive.acknowledged,
            segment_size: receive.segment_size as u32,
            largest_segment: receive.largest_segment as u32,
            last_size: receive.last_size as u32,
            quick: receive.quick,
            buffer: receive.buffer,
            tuning: receive.tuning,
            received_bytes: receive.received_bytes,
            recent: receive.recent,
            last_data: receive.last_data,
            shift: receive.shift,
            is_under_pressure: receive.is_under_pressure,
        }
    }

    fn wake(self) -> ReceiveSide {
        let mut receive = ReceiveSide::new(self.buffer, self.segment_size as usize, Instant::ZERO);
        (receive.initial, receive.next, receive.edge, receive.acknowledged) = (self.initial, self.next, self.edge, self.acknowledged);
        (receive.largest_segment, receive.last_size) = (self.largest_segment as usize, self.last_size as usize);
        receive.tuning = self.tuning;
        (receive.quick, receive.recent, receive.last_data) = (self.quick, self.recent, self.last_data);
        (receive.received_bytes, receive.shift, receive.is_under_pressure) = (self.received_bytes, self.shift, self.is_under_pressure);
        receive
    }
}
