//! What a layer is: a state machine that is handed one message or one deadline at a time and puts messages into an outbox.
//!
//! Owns the [`Layer`] trait, the [`Outbox`] with its three ports (up, down, observe), and the list of reasons for which a packet can be
//! dropped. Refuses to know who drives a layer: the threads of the pipeline and the lockstep simulation do it alike. A layer never blocks, spawns,
//! locks (but a socket's own mutex), reads a clock, or touches a file descriptor.

use crate::counters::{Counter, Counters};
use crate::packet::Packet;
use crate::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// One layer of the pipeline.
pub trait Layer {
    /// What the layer's one inbox carries: from above, from below, from the stack itself.
    type Message: Send;
    /// The message type of the layer above.
    type Up: Send;
    /// The message type of the layer below.
    type Down: Send;

    /// Takes one message.
    fn handle(&mut self, now: Instant, message: Self::Message, out: &mut Outbox<Self::Up, Self::Down>);

    /// Called once after each batch of messages, before the outbox is carried away: the place for what is done once for many packets
    /// (acknowledgements, wake-ups, transmission of what became possible).
    fn end_batch(&mut self, _now: Instant, _out: &mut Outbox<Self::Up, Self::Down>) {}

    /// When the layer next wants [`Layer::run_timers`]; `None` while no timer is armed.
    fn deadline(&self) -> Option<Instant>;

    /// Until when a driver may sleep, if nothing comes meanwhile: no earlier than the deadline, and later where a timer need not be exact. What is due at the
    /// deadline is run by whoever comes by then.
    fn sleeps_until(&self) -> Option<Instant> {
        self.deadline()
    }

    /// Runs every timer that is due at `now`.
    fn run_timers(&mut self, now: Instant, out: &mut Outbox<Self::Up, Self::Down>);

    /// What follows the messages of a turn, whoever drives the layer: the timers that are due, then the batch's end. Not to be overridden.
    fn end_turn(&mut self, now: Instant, out: &mut Outbox<Self::Up, Self::Down>) {
        if self.is_due(now) {
            self.run_timers(now, out);
        }
        self.end_batch(now, out);
    }

    /// Whether a timer is due at `now`. Not to be overridden.
    fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

/// Somebody to wake: a program's thread that waits on a socket. Opaque to the layers; called by their driver, after every lock is released.
pub trait Notify: Send + Sync {
    /// Looks at what has changed since the last call and wakes whoever waits for it. Says whether anybody does.
    fn notify(&self) -> bool;
}

/// Somebody who listens to what happens inside: captures, logs. Layers know nothing of who listens. Must not block.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn observe(&self, now: Instant, event: &Event<'_>);
}

/// What observers are told.
#[derive(Debug)]
pub enum Event<'a> {
    /// A packet was dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// The packet, as far as it still had its bytes.
        packet: &'a Packet,
    },
    /// A TCP segment was sent again.
    Retransmitted {
        /// The number of the packet that carries it this time.
        number: u64,
        /// What made it necessary, in a few words.
        cause: &'static str,
    },
    /// Something happened that a log reader wants to know.
    Log {
        /// The component that speaks: `"arp"`, `"ip"`, `"tcp"`, …
        component: &'static str,
        /// How important it is.
        level: Level,
        /// One line of text.
        text: std::fmt::Arguments<'a>,
    },
}

/// The importance of a log line.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Somebody has to do something.
    Warning,
    /// Rare and worth knowing.
    Info,
    /// Each change of state.
    Debug,
    /// Each packet.
    Trace,
}

/// Messages that leave a layer, collected while it works and carried away afterwards by its driver.
pub struct Outbox<Up, Down> {
    /// To the layer above, in order.
    pub up: VecDeque<Up>,
    /// To the layer below, in order.
    pub down: VecDeque<Down>,
    /// Whom to wake after everything is unlocked.
    pub wakes: Vec<Arc<dyn Notify>>,
    counters: Arc<Counters>,
    observer: Option<Arc<dyn Observer>>,
    now: Instant,
}

impl<Up, Down> Outbox<Up, Down> {
    /// An empty outbox that counts in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Outbox { up: VecDeque::new(), down: VecDeque::new(), wakes: Vec::new(), counters, observer: None, now: Instant::ZERO }
    }

    /// Tells `observer` what happens from here on.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn Observer>>) {
        self.observer = observer;
    }

    /// Sets the time that events carry; the driver does this once for a batch.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// The time of the last batch, or of the present one.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// The stack's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Drops `packet`, counts why, and tells whoever listens.
    pub fn drop_packet(&mut self, reason: DropReason, packet: Packet) {
        self.counters.dropped(reason).increment();
        self.observe(|| Event::Dropped { reason, packet: &packet });
    }

    /// Tells whoever listens; the event is not even built when nobody does.
    pub fn observe<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = &self.observer {
            observer.observe(self.now, &event());
        }
    }

    /// Logs one line for whoever listens. Call it as `out.log("arp", Level::Debug, format_args!("…"))`.
    pub fn log(&self, component: &'static str, level: Level, text: std::fmt::Arguments<'_>) {
        if let Some(observer) = &self.observer {
            observer.observe(self.now, &Event::Log { component, level, text });
        }
    }

    /// Whether anybody listens.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Whether there is nothing to carry away.
    pub fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && self.wakes.is_empty()
    }
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a packet was dropped. Each reason has a counter: [`Counters::dropped`].
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// Every reason, in order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// A few words for people.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// Headers that do not parse.
    Malformed => "malformed header",
    /// A checksum is wrong.
    BadChecksum => "bad checksum",
    /// The frame is for another station.
    NotForUs => "not addressed to this host",
    /// An EtherType or IP protocol nobody here speaks.
    UnknownProtocol => "unknown protocol",
    /// No route to the destination.
    NoRoute => "no route",
    /// The next hop did not answer ARP or NDP.
    NeighbourUnreachable => "neighbour did not answer",
    /// Too many bytes wait for one neighbour's address.
    NeighbourQueueFull => "too much waits for one neighbour",
    /// The neighbour cache is full of entries in use.
    NeighbourCacheFull => "neighbour cache full",
    /// The device's backlog for the stack's own packets is full.
    DeviceBacklogFull => "device backlog full",
    /// The packet, or its segment size, exceeds the MTU and may not be fragmented.
    TooBig => "exceeds the MTU",
    /// A fragment overlaps another one differently (RFC 5722 applied to IPv4).
    FragmentOverlap => "overlapping fragment",
    /// The memory bound of reassembly is reached.
    ReassemblyFull => "reassembly memory full",
    /// A datagram's last fragment did not come in time.
    ReassemblyTimeout => "reassembly timed out",
    /// TTL or hop limit reached zero.
    TimeToLiveExpired => "time to live expired",
    /// A source address that may not be a source.
    BadSource => "impossible source address",
    /// An ICMP message beyond the rate limit.
    RateLimited => "rate limit",
    /// Nobody listens on the port.
    NoSocket => "no socket",
    /// A datagram socket's receive buffer is full.
    ReceiveBufferFull => "receive buffer full",
    /// The SYN queue or the accept queue of a listener is full.
    ListenerFull => "listener queue full",
    /// A TCP segment outside the window.
    OutOfWindow => "outside the window",
    /// A TCP segment that RFC 5961 or RFC 5927 does not believe.
    Suspicious => "failed a blind-attack check",
    /// A reset for a connection in TIME-WAIT, which it does not end (RFC 1337 §3): the peer's end is gone already, and something came there late.
    LateReset => "reset in TIME-WAIT",
    /// PAWS: an old timestamp (RFC 7323 §5).
    OldTimestamp => "old timestamp (PAWS)",
    /// The memory bound for out-of-order data is reached.
    OutOfOrderFull => "out-of-order memory full",
    /// No TCP connection may be added.
    TooManyConnections => "connection table full",
    /// The inbox of a layer had no room for the stack's own packet.
    InboxFull => "inbox full",
    /// The program may not send this: broadcast without having asked for it.
    NotPermitted => "not permitted",
    /// The stack is shutting down.
    ShuttingDown => "shutting down",
    /// The device refused the frame.
    DeviceError => "device error",
    /// The interface is down.
    LinkDown => "link down",
}

impl Counters {
    /// The counter of packets dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        self.drops.at(reason as usize)
    }
}
