//! TCP: the state machine of one connection (RFC 9293).
//!
//! Owns everything of a connection from its SYN to the end of TIME-WAIT: both sequence spaces, retransmission, congestion control, timers, and
//! what it shares with the program. Refuses to know other connections, listeners and the demultiplexer: it is handed segments that are its own. It
//! is pure: time, randomness and the outbox come with each call, as a [`Context`].
//!
//! Read in this order: [`State`], then `segment_arrives` (RFC 9293 §3.10.7), `acknowledgement` (its fifth step), `transmit`, and `exchange`
//! (the one place that takes the program's lock).
//!
//! A driver calls [`Connection::segment_arrives`] and [`Connection::marked`] as often as a batch has it, then [`Connection::end_batch`] once: that
//! is when acknowledgements, data and wakes leave. Every other call does so by itself. After each, [`Connection::deadline`] may have changed.

mod acknowledgement;
mod buffer_tuning;
mod congestion;
mod context;
mod cookie_handshake;
mod delivery_rate;
mod ecn;
mod emit;
mod errors;
mod exchange;
mod fast_open;
mod info;
mod initial_sequence;
mod loss_probe;
mod options;
mod pacing;
mod path;
mod rack;
mod rate_reduction;
mod reassembly;
mod receive_side;
mod resting;
mod retransmission;
mod round_trip;
mod sack_scoreboard;
mod segment_arrives;
mod segment_text;
mod send_queue;
mod send_side;
mod spurious;
mod state;
mod syn_sent;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;
mod user_calls;
mod user_timeout;

pub use context::{Context, Segment};
pub use cookie_handshake::answer_with_cookie;
pub use emit::reset_for;
pub use fast_open::FastOpenGrant;
pub use initial_sequence::InitialSequence;
pub use resting::Resting;
pub use state::State;

use super::shared::{NoRoom, SocketOptions, TcpShared};
use crate::layer::Level;
use crate::time::{Duration, Instant};
use crate::wire::{SequenceNumber, TcpFlags};
use congestion::Controller;
use ecn::Ecn;
use exchange::News;
use fast_open::FastOpen;
use options::Agreement;
use pacing::Pacing;
use path::PathState;
use receive_side::{Due, ReceiveSide};
use retransmission::Recovery;
use round_trip::RoundTrip;
use send_side::SendSide;
use std::net::SocketAddr;
use std::sync::Arc;
use timers::{Timer, Timers};
use user_timeout::Advice;

/// One connection.
pub struct Connection {
    shared: Arc<TcpShared>,
    local: SocketAddr,
    remote: SocketAddr,
    state: State,
    /// Whether we sent the first SYN.
    is_active: bool,
    /// The last handle is gone.
    is_released: bool,
    options: Arc<SocketOptions>,
    agreement: Agreement,
    send: SendSide,
    receive: ReceiveSide,
    round_trip: RoundTrip,
    recovery: Recovery,
    congestion: Box<dyn Controller>,
    ecn: Ecn,
    pacing: Pacing,
    /// Whether anything is ever held back.
    is_pacing: bool,
    timers: Timers,
    news: News,
    /// Where our timestamp clock starts.
    timestamp_offset: u32,
    /// What the transmission of data waits for, besides window and acknowledgements.
    blocked: Option<NoRoom>,
    path_mtu: u16,
    path: PathState,
    /// When the peer was last heard.
    last_heard: Instant,
    /// Keepalive probes since.
    keepalive_probes: u32,
    /// While the handshake has to do with Fast Open.
    fast_open: Option<Box<FastOpen>>,
    /// Since when the persist timer has been running without a break.
    held_since: Option<Instant>,
    /// The user timeout that the program wants; `options` has the one in force.
    wished_user_timeout: Option<Duration>,
    /// The user timeout option, both ways.
    advice: Advice,
    /// When we last sent a challenge ACK.
    last_challenge: Option<Instant>,
}

/// When [`Connection::run_timers`] is wanted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// At once then.
    pub exact: Option<Instant>,
    /// Some milliseconds later will do as well: what waits for it seldom waits so long.
    pub relaxed: Option<Instant>,
}

impl Connection {
    /// Active open (RFC 9293 §3.10.1): SYN-SENT; the SYN is on its way. `shared` gets to know both ends and the phase.
    pub fn connect(cx: &mut Context<'_>, shared: Arc<TcpShared>, local: SocketAddr, remote: SocketAddr, isn: SequenceNumber) -> Connection {
        let mut connection = Connection::new(cx, shared, local, remote, isn, true);
        cx.out.counters().transport.active_opens.increment();
        connection.enter(cx, State::SynSent);
        connection.prepare_fast_open(cx);
        // What the program wrote before it connected may go with the SYN.
        connection.exchange(cx);
        connection.send_syn(cx);
        connection.end_batch(cx);
        connection
    }

    /// Passive open (RFC 9293 §3.10.7.2): SYN-RECEIVED; the SYN-ACK is on its way. The phase stays `Connecting` until the handshake completes.
    pub fn accept(cx: &mut Context<'_>, shared: Arc<TcpShared>, syn: &Segment, isn: SequenceNumber) -> Connection {
        Connection::accept_fast(cx, shared, syn, isn, FastOpenGrant::default())
    }

    /// The same, with what the listener grants to a SYN with a Fast Open option (RFC 7413 §4.2.2): if its data is taken, the program may have the connection at
    /// once, and answer.
    pub fn accept_fast(
        cx: &mut Context<'_>,
        shared: Arc<TcpShared>,
        syn: &Segment,
        isn: SequenceNumber,
        grant: FastOpenGrant,
    ) -> Connection {
        let mut connection = Connection::new(cx, shared, syn.destination, syn.source, isn, false);
        cx.out.counters().transport.passive_opens.increment();
        connection.take_peers_syn(syn);
        connection.take_user_timeout(syn.header.options.user_timeout, cx.config.user_timeout_limits);
        connection.enter(cx, State::SynReceived);
        connection.take_fast_open(cx, syn, grant);
        connection.send_syn(cx);
        connection.end_batch(cx);
        connection
    }

    fn new(
        cx: &mut Context<'_>,
        shared: Arc<TcpShared>,
        local: SocketAddr,
        remote: SocketAddr,
        isn: SequenceNumber,
        is_active: bool,
    ) -> Connection {
        let options = shared.state.lock().options.clone();
        let agreement = Agreement::offer(cx.config, remote.ip(), options.receive_buffer);
        let segment_size = options::segment_size(usize::MAX, cx.path_mtu, remote.ip());
        let mut receive = ReceiveSide::new(options.receive_buffer, segment_size, cx.now);
        receive.shift = agreement.own_shift();
        let settings = congestion::Settings::of(cx.config, segment_size);
        let mut connection = Connection {
            local,
            remote,
            state: State::Closed,
            is_active,
            is_released: false,
            send: SendSide::new(isn, cx.now),
            receive,
            round_trip: RoundTrip::new(cx.config),
            recovery: Recovery::new(cx.now, isn),
            congestion: congestion::controller(options.congestion_control, &settings),
            ecn: Ecn::default(),
            is_pacing: cx.config.pacing,
            pacing: Pacing::default(),
            timers: Timers::default(),
            news: News::opening(),
            timestamp_offset: initial_sequence::timestamp_offset(cx.random, local.ip(), remote.ip()),
            blocked: None,
            path_mtu: cx.path_mtu,
            path: PathState::default(),
            last_heard: cx.now,
            keepalive_probes: 0,
            fast_open: None,
            held_since: None,
            wished_user_timeout: options.user_timeout,
            advice: Advice::default(),
            last_challenge: None,
            agreement,
            options,
            shared,
        };
        connection.begin_path(cx);
        connection.advertise_user_timeout();
        connection
    }

    /// Ends a batch: hands over what was received, takes what was written, sends what became possible, acknowledges once (RFC 9293 §3.10.7.4,
    /// MUST-58, MUST-59), arms timers, wakes. Without anything to do it is cheap, and may be called again.
    pub fn end_batch(&mut self, cx: &mut Context<'_>) {
        self.exchange(cx);
        self.transmit(cx);
        self.acknowledge_if_due(cx);
        self.arm_timers(cx);
        self.tell(cx);
    }

    /// Runs the timers that are due.
    pub fn run_timers(&mut self, cx: &mut Context<'_>) {
        while let Some(timer) = self.timers.take_due(cx.now) {
            match timer {
                Timer::Retransmission => {
                    self.retransmission_timeout(cx);
                    self.path_timed_out(cx);
                }
                Timer::Reordering => self.reordering_timeout(cx),
                Timer::LossProbe => self.loss_probe_timeout(cx),
                Timer::Persist => self.persist_timeout(cx),
                // What waited goes as the batch ends.
                Timer::Pacing => {}
                Timer::DelayedAcknowledgement => self.receive.owe(Due::Now),
                Timer::Keepalive => self.keepalive_timeout(cx),
                Timer::FinWait2 | Timer::TimeWait => self.finish(cx),
                Timer::Linger => self.linger_timeout(cx),
            }
        }
        self.end_batch(cx);
    }

    /// When [`Connection::run_timers`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// The same, by how exact it has to be.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines { exact: self.timers.next_exact(), relaxed: self.timers.get(Timer::DelayedAcknowledgement) }
    }

    /// The device has room again for whoever was refused.
    pub fn device_room(&mut self, cx: &mut Context<'_>) {
        if self.blocked == Some(NoRoom::Device) {
            self.blocked = None;
        }
        self.end_batch(cx);
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the connection is to be removed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether [`Connection::device_room`] is to be called when the device has room again.
    pub fn waits_for_device_room(&self) -> bool {
        self.blocked == Some(NoRoom::Device)
    }

    /// What it shares with the program.
    pub fn shared(&self) -> &Arc<TcpShared> {
        &self.shared
    }

    /// When the peer was last heard.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether a SYN for this connection, which is in TIME-WAIT, may open a new one in its place: its timestamp is later than any of the old connection (RFC 6191
    /// §2), or, without timestamps, its number is behind all of the old connection's (RFC 9293 §3.10.7.4, RFC 1122 §4.2.2.13). The new
    /// connection's initial number has to be at least [`Connection::successor_sequence`].
    pub fn may_be_reused_by(&self, syn: &Segment, _now: Instant) -> bool {
        let is_plain_syn = syn.has(TcpFlags::SYN) && !syn.header.flags.intersects(TcpFlags::ACK | TcpFlags::RST);
        let is_later = match syn.header.options.timestamps {
            Some(timestamps) if self.agreement.timestamps && self.receive.is_timestamp_newer(timestamps.value) => true,
            Some(timestamps) if self.agreement.timestamps && timestamps.value != self.receive.recent_timestamp() => false,
            _ => syn.header.sequence.after(self.receive.next),
        };
        self.state == State::TimeWait && is_plain_syn && is_later
    }

    /// The lowest initial number for a connection that takes this one's place: behind all that could still be under way (RFC 1122 §4.2.2.13).
    pub fn successor_sequence(&self) -> SequenceNumber {
        self.send.next + (self.send.largest_window.max(u16::MAX.into()) + 2)
    }

    /// The one place where the state changes.
    fn enter(&mut self, cx: &mut Context<'_>, next: State) {
        let old = std::mem::replace(&mut self.state, next);
        debug_assert!(old.may_become(next), "{} may not become {}", old.name(), next.name());
        let (local, remote) = (self.local, self.remote);
        cx.out.log("tcp", Level::Debug, format_args!("{local} -> {remote}: {} -> {}", old.name(), next.name()));
        self.news.state_changed(next);
        match next {
            State::Established => self.on_established(cx),
            State::FinWait2 => self.limit_finish_wait(cx),
            State::TimeWait => self.on_time_wait(cx),
            State::Closed => self.forget(),
            _ => {}
        }
    }

    /// Both FINs have passed, and ours is acknowledged: 2 MSL of quiet (RFC 9293 §3.10.7.4, "turn off the other timers").
    fn on_time_wait(&mut self, cx: &mut Context<'_>) {
        self.timers.cancel_all();
        self.timers.set(Timer::TimeWait, cx.now + self.time_wait(cx));
        self.send.clear();
    }

    fn time_wait(&self, cx: &Context<'_>) -> Duration {
        cx.config.maximum_segment_lifetime.saturating_mul(2)
    }

    fn forget(&mut self) {
        self.timers.cancel_all();
        self.send.clear();
        self.receive.reassembly.clear();
        self.receive.due = Due::Not;
        self.receive.duplicates = 0;
        self.blocked = None;
    }

    /// The connection is over without an error.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if self.state != State::Closed {
            self.enter(cx, State::Closed);
        }
    }

    /// Bytes of payload in a full segment: what peer and path carry, less the timestamps that each segment has (RFC 6691 §2).
    fn update_segment_size(&mut self) {
        let size = options::segment_size(self.agreement.peer_segment_size, self.path_mtu, self.remote.ip());
        let options = if self.agreement.timestamps { crate::wire::TcpOptions::TIMESTAMPS_LENGTH } else { 0 };
        self.send.segment_size = size.saturating_sub(options).max(1);
        self.congestion.set_segment_size(self.send.segment_size);
    }
}
