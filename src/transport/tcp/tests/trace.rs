//! One connection and a peer that is a list of segments.

use super::*;
use crate::transport::shared::Readiness;
use crate::wire::{TcpOptions, Timestamps};

/// Our and the peer's initial numbers. Traces show numbers relative to them.
pub(super) const ISS: u32 = 1_000;
pub(super) const IRS: u32 = u32::MAX - 20_000;

/// A segment of the peer's, numbers relative; the default is an acknowledgement of our SYN.
#[derive(Clone)]
pub(super) struct Seg {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
    pub(super) urgent: u16,
    pub(super) options: TcpOptions,
    pub(super) payload: Vec<u8>,
    pub(super) segment_size: Option<usize>,
    pub(super) traffic_class: u8,
}

impl Default for Seg {
    fn default() -> Seg {
        Seg {
            seq: 1,
            ack: Some(1),
            flags: TcpFlags::NONE,
            window: 60_000,
            urgent: 0,
            options: TcpOptions::default(),
            payload: vec![],
            segment_size: None,
            traffic_class: 0,
        }
    }
}

/// `length` bytes that tell their place.
pub(super) fn bytes(from: u32, length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| from.wrapping_add(at)).map(|at| at.wrapping_mul(13).wrapping_add(at / 256) as u8).collect()
}

/// Data of the peer's that begins at `seq`.
pub(super) fn data(seq: u32, length: usize) -> Seg {
    Seg { seq, payload: bytes(seq, length), ..Seg::default() }
}

/// An acknowledgement of ours.
pub(super) fn ack(number: u32) -> Seg {
    Seg { ack: Some(number), ..Seg::default() }
}

/// The options of a peer that knows the segment size only.
pub(super) fn plain() -> TcpOptions {
    TcpOptions { maximum_segment_size: Some(1_000), ..TcpOptions::default() }
}

/// The options of a peer that knows SACK as well.
pub(super) fn with_sack() -> TcpOptions {
    TcpOptions { sack_permitted: true, ..plain() }
}

/// The options of a peer with timestamps.
pub(super) fn with_timestamps(value: u32) -> TcpOptions {
    TcpOptions { timestamps: Some(Timestamps { value, echo_reply: 0 }), ..plain() }
}

pub(super) struct Trace {
    pub(super) host: Host,
    pub(super) connection: Connection,
    /// Packets that the device has not taken, if it is to keep them.
    pub(super) in_device: Vec<Sent>,
    pub(super) device_is_stuck: bool,
    pub(super) last: Vec<TcpHeader>,
    start: Instant,
}

fn near() -> SocketAddr {
    "192.0.2.1:50000".parse().unwrap()
}

fn far() -> SocketAddr {
    "192.0.2.2:80".parse().unwrap()
}

impl Trace {
    /// A SYN has been sent, and taken from the outbox.
    pub(super) fn syn_sent_with(config: TcpConfig) -> Trace {
        let mut trace = Trace::opening_with(config);
        assert_eq!(trace.sent(), ["[S] 0"]);
        trace
    }

    /// A SYN has been sent.
    pub(super) fn opening_with(config: TcpConfig) -> Trace {
        let mut host = Host::new(config);
        let shared = host.shared();
        let connection = Connection::connect(&mut host.context(), shared, near(), far(), SequenceNumber(ISS));
        let start = host.now;
        Trace { host, connection, in_device: vec![], device_is_stuck: false, last: vec![], start }
    }

    /// A SYN came to a listener, and the SYN-ACK has been sent and taken.
    pub(super) fn syn_received_with(config: TcpConfig, options: TcpOptions) -> Trace {
        let mut trace = Trace::answering_with(config, options, TcpFlags::SYN);
        assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
        trace
    }

    /// A SYN with these flags came to a listener, and the SYN-ACK has been sent.
    pub(super) fn answering_with(config: TcpConfig, options: TcpOptions, flags: TcpFlags) -> Trace {
        let mut host = Host::new(config);
        let shared = host.shared();
        let start = host.now;
        let syn = Seg { seq: 0, ack: None, flags, options, ..Seg::default() };
        let syn = to_segment(&host, &syn);
        let connection = Connection::accept(&mut host.context(), shared, &syn, SequenceNumber(ISS));
        Trace { host, connection, in_device: vec![], device_is_stuck: false, last: vec![], start }
    }

    /// An active connection whose handshake is complete, with these options in the peer's SYN-ACK.
    pub(super) fn established_with(config: TcpConfig, options: TcpOptions) -> Trace {
        let mut trace = Trace::syn_sent_with(config);
        trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, options, ..Seg::default() });
        assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
        assert_eq!(trace.connection.state(), State::Established);
        trace
    }

    pub(super) fn established() -> Trace {
        Trace::established_with(TcpConfig::default(), plain())
    }

    /// The same, where acknowledgements wait a millisecond for answers.
    pub(super) fn answered_soon() -> Trace {
        let mut trace = Trace::established();
        trace.host.config.answer_time = Duration::from_millis(1);
        trace.wakes();
        trace
    }

    /// A connection in any state but CLOSED and LISTEN.
    pub(super) fn in_state(state: State, options: TcpOptions) -> Trace {
        Trace::in_state_with(TcpConfig::default(), state, options)
    }

    pub(super) fn in_state_with(config: TcpConfig, state: State, options: TcpOptions) -> Trace {
        let stamped = |seg: Seg| Seg { options: TcpOptions { timestamps: options.timestamps, ..TcpOptions::default() }, ..seg };
        let fin = |ack| stamped(Seg { flags: TcpFlags::FIN, ack: Some(ack), ..Seg::default() });
        let mut trace = match state {
            State::SynSent => Trace::syn_sent_with(config),
            State::SynReceived => Trace::syn_received_with(config, options),
            _ => Trace::established_with(config, options),
        };
        let (closes, peer): (bool, Vec<Seg>) = match state {
            State::FinWait1 => (true, vec![]),
            State::FinWait2 => (true, vec![stamped(ack(2))]),
            State::CloseWait => (false, vec![fin(1)]),
            State::Closing => (true, vec![fin(1)]),
            State::TimeWait => (true, vec![fin(2)]),
            State::LastAck => {
                trace.receive(fin(1));
                (true, vec![])
            }
            _ => (false, vec![]),
        };
        if closes {
            trace.close_write();
        }
        peer.into_iter().for_each(|seg| trace.receive(seg));
        trace.sent();
        assert_eq!(trace.connection.state(), state);
        trace
    }

    pub(super) fn state(&self) -> State {
        self.connection.state()
    }

    /// Moves time to so many milliseconds after the start, running every timer on the way.
    pub(super) fn at(&mut self, millis: u64) {
        let target = self.start + Duration::from_millis(millis);
        while let Some(deadline) = self.connection.deadline().filter(|&deadline| deadline <= target) {
            self.host.now = self.host.now.max(deadline);
            self.connection.run_timers(&mut self.host.context());
        }
        self.host.now = target;
    }

    /// Milliseconds from the start to the next deadline.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.connection.deadline().map(|deadline| deadline.since(self.start).as_millis() as u64)
    }

    /// One segment, as a batch of its own.
    pub(super) fn receive(&mut self, seg: Seg) {
        self.receive_batch([seg]);
    }

    pub(super) fn receive_batch(&mut self, segs: impl IntoIterator<Item = Seg>) {
        for seg in segs {
            let segment = to_segment(&self.host, &seg);
            self.connection.segment_arrives(&mut self.host.context(), segment);
        }
        self.connection.end_batch(&mut self.host.context());
    }

    /// What was sent since the last look: flags, numbers, acknowledgement; `/size` on super-segments, `win` where the window is closed.
    #[track_caller]
    pub(super) fn sent(&mut self) -> Vec<String> {
        let sent = self.host.sent();
        self.last = sent.iter().map(|sent| sent.header).collect();
        let lines = sent.iter().map(show).collect();
        if self.device_is_stuck {
            self.in_device.extend(sent);
        } else {
            drop(sent);
        }
        lines
    }

    pub(super) fn last_header(&self) -> TcpHeader {
        *self.last.last().expect("nothing was sent")
    }

    /// The program writes.
    pub(super) fn write(&mut self, length: usize) {
        let slices: Vec<_> = vec![0x55; length].chunks(60_000).map(|part| self.host.pool.copy_from(0, part)).collect();
        {
            let mut state = self.connection.shared().state.lock();
            state.unacknowledged += length;
            state.to_send.extend(slices);
        }
        self.mark(Mark::Send);
    }

    /// The program reads up to `count` bytes.
    pub(super) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut read = vec![];
        let is_marked = {
            let mut state = self.connection.shared().state.lock();
            while read.len() < count
                && let Some(slice) = state.received.front_mut()
            {
                read.extend_from_slice(&slice.split_to(count - read.len()));
                if slice.is_empty() {
                    state.received.pop_front();
                }
            }
            state.unread -= read.len();
            state.consumed_unannounced += read.len();
            state.consumed_unannounced >= state.window_mark_at
        };
        if is_marked {
            self.mark(Mark::Window);
        }
        read
    }

    pub(super) fn close_write(&mut self) {
        self.connection.shared().state.lock().write_closed = true;
        self.mark(Mark::CloseWrite);
    }

    pub(super) fn release(&mut self) {
        self.connection.shared().state.lock().write_closed = true;
        self.mark(Mark::Released);
    }

    pub(super) fn mark(&mut self, mark: Mark) {
        self.connection.shared().mark(mark);
        self.take_marks();
    }

    pub(super) fn take_marks(&mut self) {
        let marks = self.connection.shared().marks.take();
        self.connection.marked(&mut self.host.context(), marks);
        self.connection.end_batch(&mut self.host.context());
    }

    pub(super) fn set_options(&mut self, change: impl FnOnce(&mut SocketOptions)) {
        change(std::sync::Arc::make_mut(&mut self.connection.shared().state.lock().options));
        self.mark(Mark::Options);
    }

    pub(super) fn phase(&self) -> Phase {
        self.connection.shared().state.lock().phase
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.connection.shared().state.lock().failure
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.connection.shared().state.lock().readiness()
    }

    /// Wakes since the last look.
    pub(super) fn wakes(&mut self) -> usize {
        let wakes = std::mem::take(&mut self.host.out.wakes);
        wakes.iter().for_each(|wake| {
            wake.notify();
        });
        wakes.len()
    }

    pub(super) fn dropped(&self, reason: crate::layer::DropReason) -> u64 {
        self.host.counters.dropped(reason).get()
    }
}

fn to_segment(host: &Host, seg: &Seg) -> Segment {
    let header = TcpHeader {
        source_port: far().port(),
        destination_port: near().port(),
        sequence: SequenceNumber(IRS) + seg.seq,
        acknowledgement: SequenceNumber(seg.ack.map_or(0, |ack| ISS.wrapping_add(ack))),
        flags: seg.flags | if seg.ack.is_some() { TcpFlags::ACK } else { TcpFlags::NONE },
        window: seg.window,
        urgent_pointer: seg.urgent,
        options: seg.options,
    };
    let segment = segment_of(&host.pool, header, &seg.payload, seg.segment_size, far(), near(), host.now);
    Segment { traffic_class: seg.traffic_class, ..segment }
}

fn show(sent: &Sent) -> String {
    let start = sent.header.sequence.0.wrapping_sub(ISS).cast_signed();
    let mut line = format!("{} {start}", sent.header.flags);
    if !sent.payload.is_empty() {
        line += &format!("..{}", i64::from(start) + sent.payload.len() as i64);
    }
    if let Some(size) = sent.segment_size {
        line += &format!("/{size}");
    }
    if sent.header.flags.contains(TcpFlags::ACK) {
        line += &format!(" ack {}", sent.header.acknowledgement.0.wrapping_sub(IRS));
    }
    if sent.traffic_class & 3 == 2 {
        line += " ect0";
    }
    for block in &sent.header.options.sack {
        line += &format!(" sack {}..{}", block.left.0.wrapping_sub(IRS), block.right.0.wrapping_sub(IRS));
    }
    line
}
