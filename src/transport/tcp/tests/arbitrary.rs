//! Whatever arrives, in whatever state, whatever the program does meanwhile: no panic, legal transitions ([`Connection::enter`] asserts them), and what RFC 9293
//! promises of both sequence spaces, checked against a plain model of both streams.

use super::trace::*;
use super::*;
use crate::network::{DeliveryError, ErrorReport};
use crate::transport::shared::{CongestionControl, Keepalive};
use crate::wire::{Protocol, SackBlock, TcpOptions, Timestamps};
use proptest::prelude::*;

/// Small enough that every bound is reached.
fn config() -> TcpConfig {
    TcpConfig { receive_buffer: 20_000, send_buffer: 60_000, out_of_order_bytes: 30_000, sack_ranges: 8, ..TcpConfig::default() }
}

/// Numbers near what is expected, and anything.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..30, 2 => 0_u32..70_000, 1 => any::<u32>(), 1 => (0_u32..70_000).prop_map(|below| 0_u32.wrapping_sub(below))]
}

prop_compose! {
    fn segment()(
        (seq, acknowledges, ack, flags, window) in (number(), prop::bool::weighted(0.9), number(), flags(), any::<u16>()),
        payload in prop_oneof![Just(0_usize), 1_usize..40, 1_000_usize..3_000],
        merged in any::<bool>(),
        blocks in prop::collection::vec((number(), number()), 0..3),
        stamp in prop::option::of((number(), number())),
        syn in prop::bool::weighted(0.1),
    ) -> Seg {
        let block = |(left, right): (u32, u32)| SackBlock {
            left: SequenceNumber(ISS.wrapping_add(left)),
            right: SequenceNumber(ISS.wrapping_add(right)),
        };
        Seg {
            seq,
            ack: acknowledges.then_some(ack),
            flags,
            traffic_class: ack as u8,
            window,
            urgent: window,
            // A SYN has the number before its data.
            payload: bytes(seq.wrapping_add(flags.contains(TcpFlags::SYN).into()), payload),
            segment_size: merged.then_some(536),
            options: TcpOptions {
                sack: blocks.into_iter().map(block).collect(),
                timestamps: stamp.map(|(value, echo_reply)| Timestamps { value, echo_reply }),
                maximum_segment_size: syn.then_some(ack as u16),
                window_scale: syn.then_some(seq as u8),
                ..TcpOptions::default()
            },
        }
    }
}

fn flags() -> impl Strategy<Value = TcpFlags> {
    prop_oneof![
        8 => Just(TcpFlags::NONE),
        2 => Just(TcpFlags::FIN),
        1 => Just(TcpFlags::SYN),
        1 => Just(TcpFlags::RST),
        1 => (0_u16..0x200).prop_map(TcpFlags),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Receive(Vec<Seg>),
    Write { bytes: usize, is_urgent: bool },
    Read(usize),
    CloseWrite,
    CloseRead,
    Close,
    Release,
    Abort,
    Options(u8),
    Wait(u64),
    PathMtu(u16),
    Reported { code: u8, seq: u32, mtu: u16 },
    DeviceTakes(bool),
}

impl std::fmt::Debug for Seg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}+{} ack {:?} win {} {:?}", self.flags, self.seq, self.payload.len(), self.ack, self.window, self.options)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::collection::vec(segment(), 1..4).prop_map(Step::Receive),
        8 => (prop_oneof![1_usize..10, 1_usize..30_000], prop::bool::weighted(0.1)).prop_map(|(bytes, is_urgent)| Step::Write { bytes, is_urgent }),
        6 => (1_usize..9_000).prop_map(Step::Read),
        2 => Just(Step::CloseWrite),
        1 => Just(Step::CloseRead),
        1 => Just(Step::Close),
        2 => Just(Step::Release),
        1 => Just(Step::Abort),
        3 => any::<u8>().prop_map(Step::Options),
        8 => prop_oneof![0_u64..50, 0_u64..100_000].prop_map(Step::Wait),
        2 => any::<u16>().prop_map(Step::PathMtu),
        2 => (any::<u8>(), number(), any::<u16>()).prop_map(|(code, seq, mtu)| Step::Reported { code, seq, mtu }),
        2 => any::<bool>().prop_map(Step::DeviceTakes),
    ]
}

/// What both streams have to be.
struct Model {
    trace: Trace,
    clock: u64,
    /// Bytes that the program wrote, and read.
    written: usize,
    read: usize,
    /// Whether the program has said that it will write no more.
    is_closed: bool,
    /// The right edge of the window, and the last acknowledgement, once both ends know each other's numbers: until then a peer may choose any.
    edge: Option<SequenceNumber>,
    acknowledged: Option<SequenceNumber>,
}

impl Model {
    fn new(state: State, options: TcpOptions) -> Model {
        let trace = Trace::in_state_with(config(), state, options);
        let is_closed = trace.connection.shared().state.lock().write_closed;
        Model { trace, clock: 0, written: 0, read: 0, is_closed, edge: None, acknowledged: None }
    }

    fn take(&mut self, step: Step) {
        let trace = &mut self.trace;
        match step {
            Step::Receive(segments) => trace.receive_batch(segments),
            Step::Write { bytes, is_urgent } => self.write(bytes, is_urgent),
            Step::Read(count) => self.read(count),
            Step::CloseWrite => self.end(Trace::close_write),
            Step::CloseRead => {
                trace.connection.shared().state.lock().read_closed = true;
                trace.mark(Mark::CloseRead);
            }
            Step::Close => self.end(|trace| trace.connection.close(&mut trace.host.context())),
            Step::Release => self.end(Trace::release),
            Step::Abort => self.end(|trace| trace.connection.abort(&mut trace.host.context(), Failure::Aborted)),
            Step::Options(choice) => trace.set_options(|options| change(options, choice)),
            Step::Wait(millis) => self.wait(millis),
            Step::PathMtu(mtu) => {
                trace.host.path_mtu = mtu.max(200);
                trace.connection.path_mtu_changed(&mut trace.host.context(), mtu.max(200));
            }
            Step::Reported { code, seq, mtu } => report(trace, code, seq, mtu.max(200)),
            Step::DeviceTakes(takes) => {
                trace.device_is_stuck = !takes;
                trace.in_device.clear();
                trace.take_marks();
                trace.connection.device_room(&mut trace.host.context());
            }
        }
        self.look();
        self.check();
    }

    fn end(&mut self, end: impl FnOnce(&mut Trace)) {
        self.is_closed = true;
        end(&mut self.trace);
    }

    /// The program writes what fits.
    fn write(&mut self, wanted: usize, is_urgent: bool) {
        let shared = self.trace.connection.shared().clone();
        let count = {
            let mut state = shared.state.lock();
            let may_write = !state.write_closed && state.phase == Phase::Connected && state.failure.is_none();
            let count = if may_write { wanted.min(state.send_room()) } else { 0 };
            let part = bytes(self.written as u32, count);
            state.to_send.extend(part.chunks(60_000).map(|part| self.trace.host.pool.copy_from(0, part)));
            state.unacknowledged += count;
            if is_urgent && count > 0 {
                state.urgent_to_send = Some(state.to_send.iter().map(|slice| slice.len()).sum());
            }
            count
        };
        self.written += count;
        self.trace.mark(Mark::Send);
    }

    /// Nothing but what the peer's numbers stand for, in order.
    fn read(&mut self, count: usize) {
        let got = self.trace.read(count);
        let start = self.trace.connection.receive.initial.distance_from(SequenceNumber(IRS)).wrapping_add(1);
        assert_eq!(got, bytes(start.wrapping_add(self.read as u32), got.len()), "byte {} of the peer's", self.read);
        self.read += got.len();
    }

    /// Timer by timer, so that what is sent is looked at in order.
    fn wait(&mut self, millis: u64) {
        self.clock += millis;
        while let Some(deadline) = self.trace.deadline().filter(|&deadline| deadline < self.clock) {
            self.trace.at(deadline + 1);
            self.look();
            self.check();
        }
        self.trace.at(self.clock);
    }

    /// What was sent: only bytes that were written, each in its place; FIN behind the last one and after the program has closed; acknowledgements and
    /// windows that never go back.
    fn look(&mut self) {
        for sent in self.trace.host.sent() {
            if !sent.header.flags.intersects(TcpFlags::RST | TcpFlags::SYN) {
                self.look_at_data(&sent);
                self.look_at_window(&sent.header);
            }
            if self.trace.device_is_stuck {
                self.trace.in_device.push(sent);
            }
        }
    }

    fn look_at_data(&self, sent: &Sent) {
        let start = sent.header.sequence.offset_from(SequenceNumber(ISS + 1));
        if !sent.payload.is_empty() {
            let end = usize::try_from(start).unwrap() + sent.payload.len();
            assert!(end <= self.written, "{end} of {} bytes", self.written);
            assert_eq!(sent.payload, bytes(start as u32, sent.payload.len()), "from byte {start} on");
        }
        if sent.header.flags.contains(TcpFlags::FIN) {
            assert!(self.is_closed, "FIN, and the program has not closed");
            assert_eq!(start as usize + sent.payload.len(), self.written, "FIN behind the last byte");
        }
        if sent.header.flags.contains(TcpFlags::URG) {
            assert!(start as usize + usize::from(sent.header.urgent_pointer) <= self.written, "urgent data that was never written");
        }
    }

    fn look_at_window(&mut self, header: &TcpHeader) {
        let shift = self.trace.connection.receive.shift;
        let edge = header.acknowledgement + (u32::from(header.window) << shift);
        let (last_edge, last) = (self.edge.replace(edge).unwrap_or(edge), self.acknowledged.replace(header.acknowledgement));
        assert!(edge.after_or_equal(last_edge), "the window's edge went back from {last_edge} to {edge}");
        assert!(header.acknowledgement.after_or_equal(last.unwrap_or(header.acknowledgement)), "an acknowledgement taken back");
    }

    fn check(&self) {
        self.check_numbers();
        self.check_streams();
        self.check_memory();
        self.check_wakes();
    }

    /// SND.UNA =< SND.NXT, RCV.NXT =< RCV.NXT + RCV.WND, and what is in flight lies between.
    fn check_numbers(&self) {
        let Connection { send, receive, .. } = &self.trace.connection;
        let state = self.trace.state();
        assert!(send.unacknowledged.before_or_equal(send.next), "SND.UNA =< SND.NXT");
        assert!(send.next.before_or_equal(send.queue.end() + 1) || state.is_over(), "SND.NXT lies behind what there is to send");
        assert!(send.scoreboard.in_flight() <= send.flight_size() || state.is_over());
        if state.is_synchronized() {
            assert!(receive.next.before_or_equal(receive.edge + u32::from(receive.finished)), "RCV.NXT lies behind the window");
        }
    }

    /// Nothing is lost inside: what the peer has acknowledged of is with the program or on its way, what the program wrote is acknowledged or kept.
    fn check_streams(&self) {
        let connection = &self.trace.connection;
        let Connection { send, receive, .. } = connection;
        let state = connection.shared().state.lock();
        assert_eq!(state.unread, state.received.iter().map(|slice| slice.len()).sum::<usize>());
        if connection.state().is_synchronized() && !state.read_closed && !connection.is_released {
            let taken = receive.next.distance_from(receive.initial + 1) as usize - usize::from(receive.finished);
            assert_eq!(taken, self.read + state.unread + receive.pending_bytes, "bytes of the peer's");
        }
        if connection.state().is_synchronized() && !connection.state().is_over() {
            let waiting: usize = state.to_send.iter().map(|slice| slice.len()).sum();
            let kept = send.queue.end().distance_from(SequenceNumber(ISS + 1)) as usize;
            assert!(kept + waiting == self.written || state.write_closed, "{kept} + {waiting} of {} bytes", self.written);
        }
        assert!(state.urgent <= usize::from(u16::MAX) + (config().receive_buffer).max(state.unread) + 65_536);
    }

    /// The bounds of the configuration hold.
    fn check_memory(&self) {
        let connection = &self.trace.connection;
        let receive = &connection.receive;
        let grown = if receive.buffer > config().receive_buffer { 2 * receive.buffer } else { 0 };
        let (pinned, limit) = (receive.reassembly.pinned(), config().out_of_order_bytes.max(grown));
        assert!(pinned <= limit, "{pinned} bytes out of order, of {limit}");
        let state = connection.shared().state.lock();
        let held = state.unread + receive.pending_bytes + receive.window() as usize;
        // The window of a SYN is not scaled, and may be larger than a unit short of the buffer.
        let limit = receive.buffer.max(2 << receive.shift) + (1 << receive.shift);
        assert!(held <= limit || !connection.state().is_synchronized(), "{held} bytes held or offered, of {limit}");
        assert!(state.unacknowledged <= config().send_buffer);
    }

    /// Nobody waits for ever, and what is over has no timer.
    fn check_wakes(&self) {
        let connection = &self.trace.connection;
        let send = &connection.send;
        if connection.is_closed() {
            assert_eq!(connection.deadline(), None);
            assert!(send.scoreboard.is_empty() && connection.receive.reassembly.is_empty());
        }
        let is_waiting = send.has_unsent() && connection.state().may_send();
        let will_wake = connection.deadline().is_some() || connection.is_blocked();
        assert!(!is_waiting || will_wake, "unsent data, and nothing to wake for");
        assert!(send.scoreboard.is_empty() || connection.deadline().is_some(), "something in flight, and no timer");
    }
}

/// What a program may set while the connection lives.
fn change(options: &mut SocketOptions, choice: u8) {
    let time = Duration::from_millis(u64::from(choice) * 50);
    options.no_delay = choice & 1 != 0;
    options.quick_ack = choice & 2 != 0;
    options.user_timeout = (choice & 12 == 12).then_some(time);
    options.linger = (choice & 48 == 48).then_some(time);
    options.keepalive = (choice & 3 == 3).then_some(Keepalive { idle: time, interval: time, count: 3 });
    options.traffic_class = choice;
    options.congestion_control = if choice & 4 == 0 { CongestionControl::Cubic } else { CongestionControl::NewReno };
}

/// An ICMP error about a segment of this number.
fn report(trace: &mut Trace, code: u8, seq: u32, mtu: u16) {
    let error = match code % 4 {
        0 => DeliveryError::PacketTooBig { mtu },
        1 => DeliveryError::TimeExceeded { code: 0 },
        2 => DeliveryError::ParameterProblem { pointer: code },
        _ => DeliveryError::Unreachable { code: code >> 4 },
    };
    let (local, remote) = (trace.connection.local(), trace.connection.remote());
    let mut quoted = smallvec::SmallVec::new();
    quoted.extend_from_slice(&local.port().to_be_bytes());
    quoted.extend_from_slice(&remote.port().to_be_bytes());
    quoted.extend_from_slice(&ISS.wrapping_add(seq).to_be_bytes());
    let report =
        ErrorReport { error, reporter: remote.ip(), source: local.ip(), destination: remote.ip(), protocol: Protocol::TCP, quoted };
    trace.connection.error_reported(&mut trace.host.context(), &report);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_arrives_breaks_anything(
        state in 2..State::ALL.len(),
        options in prop_oneof![Just(plain()), Just(with_sack()), Just(with_timestamps(3))],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(State::ALL[state], options);
        steps.into_iter().for_each(|step| model.take(step));
    }
}
