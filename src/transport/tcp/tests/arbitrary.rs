//! Whatever arrives, in whatever state: no panic, legal transitions ([`Connection::enter`] asserts them), sane numbers.

use super::trace::*;
use super::*;
use crate::wire::{SackBlock, TcpOptions, Timestamps};
use proptest::prelude::*;

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
            window,
            payload: bytes(seq, payload),
            segment_size: merged.then_some(536),
            traffic_class: ack as u8,
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
    Write(usize),
    Read(usize),
    CloseWrite,
    Release,
    Wait(u64),
    PathMtu(u16),
    DeviceTakes(bool),
}

impl std::fmt::Debug for Seg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}+{} ack {:?} win {} {:?}", self.flags, self.seq, self.payload.len(), self.ack, self.window, self.options)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(segment(), 1..4).prop_map(Step::Receive),
        4 => prop_oneof![1_usize..10, 1_usize..30_000].prop_map(Step::Write),
        3 => (1_usize..9_000).prop_map(Step::Read),
        1 => Just(Step::CloseWrite),
        1 => Just(Step::Release),
        4 => prop_oneof![0_u64..50, 0_u64..100_000].prop_map(Step::Wait),
        1 => any::<u16>().prop_map(Step::PathMtu),
        1 => any::<bool>().prop_map(Step::DeviceTakes),
    ]
}

fn take(trace: &mut Trace, step: Step, clock: &mut u64) {
    match step {
        Step::Receive(segments) => trace.receive_batch(segments),
        Step::Write(length) if !trace.connection.shared().state.lock().write_closed => trace.write(length),
        Step::Write(_) => {}
        Step::Read(count) => {
            trace.read(count);
        }
        Step::CloseWrite => trace.close_write(),
        Step::Release => trace.release(),
        Step::Wait(millis) => {
            *clock += millis;
            trace.at(*clock);
        }
        Step::PathMtu(mtu) => {
            trace.host.path_mtu = mtu.max(200);
            trace.connection.path_mtu_changed(&mut trace.host.context(), mtu.max(200));
        }
        Step::DeviceTakes(takes) => {
            trace.device_is_stuck = !takes;
            trace.in_device.clear();
            trace.take_marks();
            trace.connection.device_room(&mut trace.host.context());
        }
    }
}

fn check(trace: &Trace, edge: &mut Option<SequenceNumber>) {
    let connection = &trace.connection;
    let (send, receive) = (&connection.send, &connection.receive);
    assert!(send.unacknowledged.before_or_equal(send.next), "SND.UNA =< SND.NXT");
    assert!(send.scoreboard.in_flight() <= send.flight_size() || connection.state().is_over());
    if connection.state().is_synchronized() {
        let before = edge.replace(receive.edge).unwrap_or(receive.edge);
        assert!(receive.edge.after_or_equal(before), "the window's edge went back");
        assert!(receive.next.before_or_equal(receive.edge));
    }
    if connection.is_closed() {
        assert_eq!(connection.deadline(), None);
    }
    let state = connection.shared().state.lock();
    assert_eq!(state.unread, state.received.iter().map(|slice| slice.len()).sum::<usize>());
    let is_waiting = send.has_unsent() && connection.state().may_send();
    let will_wake = connection.deadline().is_some() || connection.is_blocked();
    assert!(!is_waiting || will_wake, "unsent data, and nothing to wake for");
    assert!(send.scoreboard.is_empty() || connection.deadline().is_some(), "something in flight, and no timer");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_arrives_breaks_anything(
        state in 2..State::ALL.len(),
        options in prop_oneof![Just(plain()), Just(with_sack()), Just(with_timestamps(3))],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut trace = Trace::in_state(State::ALL[state], options);
        let mut clock = 0;
        // Known from the moment that both ends know each other's numbers: until then a peer may choose any.
        let mut edge = None;
        for step in steps {
            take(&mut trace, step, &mut clock);
            trace.sent();
            check(&trace, &mut edge);
        }
    }
}
