//! Closing: RFC 9293 §3.6 and its figures, RFC 1122 §4.2.2.13, RFC 1337, RFC 6191, orphans.

use super::trace::*;
use super::*;
use crate::wire::TcpOptions;

fn fin(seq: u32, acknowledged: u32) -> Seg {
    Seg { seq, ack: Some(acknowledged), flags: TcpFlags::FIN, ..Seg::default() }
}

#[test]
fn the_table_of_legal_transitions() {
    use State::*;
    let legal = [
        (Closed, vec![Listen, SynSent, SynReceived]),
        (Listen, vec![Closed, SynSent, SynReceived]),
        (SynSent, vec![Closed, SynReceived, Established]),
        (SynReceived, vec![Closed, Established, FinWait1, CloseWait]),
        (Established, vec![Closed, FinWait1, CloseWait]),
        (FinWait1, vec![Closed, FinWait2, Closing, TimeWait]),
        (FinWait2, vec![Closed, TimeWait]),
        (CloseWait, vec![Closed, LastAck]),
        (Closing, vec![Closed, TimeWait]),
        (LastAck, vec![Closed]),
        (TimeWait, vec![Closed]),
    ];
    assert_eq!(legal.len(), State::ALL.len());
    for (from, to) in legal {
        for next in State::ALL {
            assert_eq!(from.may_become(next), to.contains(&next), "{} -> {}", from.name(), next.name());
        }
    }
}

#[test]
fn every_state_can_be_built() {
    for state in State::ALL.into_iter().skip(2) {
        Trace::in_state(state, plain());
        Trace::in_state(state, with_timestamps(7));
    }
}

#[test]
fn figure_12_the_side_that_closes_first() {
    let mut trace = Trace::established();
    trace.close_write();
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 1 ack 1".to_owned()], State::FinWait1));
    trace.receive(ack(2));
    assert_eq!(trace.state(), State::FinWait2);
    trace.receive(fin(1, 2));
    assert_eq!((trace.sent(), trace.state(), trace.phase()), (vec!["[.] 2 ack 2".to_owned()], State::TimeWait, Phase::Closed));
    trace.at(59_999);
    assert_eq!(trace.state(), State::TimeWait);
    trace.at(60_000);
    assert_eq!((trace.state(), trace.failure(), trace.sent().len()), (State::Closed, None, 0));
}

#[test]
fn figure_12_the_other_side() {
    let mut trace = Trace::established();
    trace.receive(fin(1, 1));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 1 ack 2".to_owned()], State::CloseWait));
    assert!(trace.connection.shared().state.lock().receive_finished);
    trace.write(5);
    assert_eq!(trace.sent(), ["[P.] 1..6 ack 2"]);
    trace.close_write();
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 6 ack 2".to_owned()], State::LastAck));
    trace.receive(Seg { seq: 2, ack: Some(7), ..Seg::default() });
    assert_eq!((trace.state(), trace.phase(), trace.failure()), (State::Closed, Phase::Closed, None));
}

#[test]
fn a_program_that_closes_at_once_acknowledges_with_its_own_fin() {
    let mut trace = Trace::answered_soon();
    trace.receive(fin(1, 1));
    assert_eq!((trace.sent().len(), trace.deadline(), trace.wakes()), (0, Some(1), 1));
    trace.release();
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 1 ack 2".to_owned()], State::LastAck));
    trace.receive(Seg { seq: 2, ack: Some(2), ..Seg::default() });
    assert_eq!(trace.state(), State::Closed);
}

#[test]
fn a_fin_is_acknowledged_in_time_without_the_program() {
    let mut trace = Trace::answered_soon();
    trace.receive(fin(1, 1));
    trace.at(1);
    assert_eq!((trace.sent(), trace.deadline()), (vec!["[.] 1 ack 2".to_owned()], None));
    trace.receive(fin(1, 1));
    assert_eq!(trace.sent(), ["[.] 1 ack 2"], "who sends it again has waited");
}

#[test]
fn who_has_closed_acknowledges_a_fin_at_once() {
    let mut trace = Trace::answered_soon();
    trace.close_write();
    trace.sent();
    trace.receive(fin(1, 2));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 2 ack 2".to_owned()], State::TimeWait));
}

#[test]
fn figure_13_simultaneous_close() {
    let mut trace = Trace::established();
    trace.close_write();
    trace.sent();
    trace.receive(fin(1, 1));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 2 ack 2".to_owned()], State::Closing));
    trace.receive(Seg { seq: 2, ack: Some(2), ..Seg::default() });
    assert_eq!(trace.state(), State::TimeWait);
}

#[test]
fn a_fin_that_acknowledges_ours_leads_straight_to_time_wait() {
    let mut trace = Trace::in_state(State::FinWait1, plain());
    trace.receive(fin(1, 2));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 2 ack 2".to_owned()], State::TimeWait));
}

#[test]
fn half_closed_we_still_receive() {
    let mut trace = Trace::in_state(State::FinWait2, plain());
    trace.receive(Seg { ack: Some(2), ..data(1, 3_000) });
    assert_eq!(trace.sent(), ["[.] 2 ack 3001"]);
    assert_eq!(trace.read(9_999).len(), 3_000);
    trace.receive(fin(3_001, 2));
    assert_eq!(trace.state(), State::TimeWait);
}

#[test]
fn a_lost_fin_is_sent_again_alone_or_with_its_data() {
    let mut trace = Trace::established();
    trace.write(10);
    trace.close_write();
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1", "[F.] 11 ack 1"]);
    trace.at(200);
    assert_eq!(trace.sent(), ["[FP.] 1..11 ack 1"]);
    trace.receive(ack(11));
    trace.at(600);
    assert_eq!(trace.sent(), ["[F.] 11 ack 1"]);
    assert_eq!(trace.state(), State::FinWait1);
    trace.receive(ack(12));
    assert_eq!((trace.state(), trace.deadline()), (State::FinWait2, None));
}

#[test]
fn a_fin_out_of_order_waits_for_its_data() {
    let mut trace = Trace::established();
    trace.receive(fin(11, 1));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 1 ack 1".to_owned()], State::Established));
    trace.receive(data(1, 10));
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 1 ack 12".to_owned()], State::CloseWait));
}

#[test]
fn nothing_behind_the_fin_is_taken() {
    let mut trace = Trace::established();
    trace.receive(fin(11, 1));
    trace.receive(data(11, 50));
    trace.receive(data(1, 30));
    assert_eq!((trace.read(999), trace.state()), (bytes(1, 10), State::CloseWait));
}

#[test]
fn a_retransmitted_fin_is_acknowledged_and_restarts_2_msl() {
    let mut trace = Trace::in_state(State::TimeWait, plain());
    trace.at(50_000);
    trace.receive(fin(1, 2));
    assert_eq!((trace.sent(), trace.deadline()), (vec!["[.] 2 ack 2".to_owned()], Some(110_000)));
}

#[test]
fn rst_does_not_end_time_wait_and_syn_is_challenged() {
    let mut trace = Trace::in_state(State::TimeWait, plain());
    trace.receive(Seg { seq: 2, flags: TcpFlags::RST, ack: None, ..Seg::default() });
    assert_eq!((trace.state(), trace.sent().len()), (State::TimeWait, 0));
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, ack: None, ..Seg::default() });
    assert_eq!((trace.state(), trace.sent()), (State::TimeWait, vec!["[.] 2 ack 2".to_owned()]));
}

#[test]
fn time_wait_is_reused_by_later_numbers_or_timestamps() {
    let reused = |options: TcpOptions, seq: u32, syn_options: TcpOptions| {
        let trace = Trace::in_state(State::TimeWait, options);
        let header = TcpHeader { sequence: SequenceNumber(IRS) + seq, flags: TcpFlags::SYN, options: syn_options, ..TcpHeader::default() };
        let syn = segment_of(&trace.host.pool, header, &[], None, trace.connection.remote(), trace.connection.local(), trace.host.now);
        trace.connection.may_be_reused_by(&syn, trace.host.now)
    };
    assert!(reused(plain(), 3, plain()) && !reused(plain(), 1, plain()));
    assert!(reused(with_timestamps(70), 1, with_timestamps(71)), "a later timestamp is enough");
    assert!(!reused(with_timestamps(70), 9, with_timestamps(69)), "an earlier one is not mended by the number");
    assert!(reused(with_timestamps(70), 9, with_timestamps(70)) && !reused(with_timestamps(70), 1, with_timestamps(70)));
    assert!(reused(with_timestamps(70), 9, plain()), "without timestamps the number decides");
}

#[test]
fn the_successors_number_lies_behind_all_that_was_sent() {
    let trace = Trace::in_state(State::TimeWait, plain());
    assert!(trace.connection.successor_sequence().after(trace.connection.send.next + 65_000));
}

#[test]
fn releasing_with_unread_data_resets() {
    let mut trace = Trace::established();
    trace.receive(data(1, 10));
    trace.sent();
    trace.release();
    assert_eq!((trace.sent(), trace.state()), (vec!["[R.] 1 ack 11".to_owned()], State::Closed));
}

#[test]
fn data_after_the_release_resets() {
    let mut trace = Trace::established();
    trace.release();
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 1 ack 1".to_owned()], State::FinWait1));
    trace.receive(ack(2));
    trace.receive(data(1, 1));
    assert_eq!((trace.sent(), trace.state()), (vec!["[R.] 2 ack 1".to_owned()], State::Closed));
}

#[test]
fn a_released_connection_still_sends_what_was_written() {
    let mut trace = Trace::established();
    trace.write(30_000);
    trace.release();
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"]);
    trace.receive(ack(10_001));
    trace.receive(ack(20_001));
    trace.receive(ack(30_001));
    assert_eq!(trace.sent(), ["[FP.] 10001..30001/1000 ack 1"]);
    trace.receive(ack(30_002));
    assert_eq!(trace.state(), State::FinWait2);
}

#[test]
fn linger_zero_resets_and_linger_ends_in_a_reset() {
    let mut trace = Trace::established();
    trace.set_options(|options| options.linger = Some(Duration::ZERO));
    trace.write(10);
    trace.release();
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1", "[R.] 11 ack 1"]);
    let mut trace = Trace::established();
    trace.set_options(|options| options.linger = Some(Duration::from_secs(1)));
    trace.write(10);
    trace.release();
    trace.sent();
    trace.at(999);
    assert_eq!(trace.state(), State::FinWait1);
    trace.at(1_000);
    assert!(trace.sent().iter().any(|line| line.starts_with("[R.]")));
    assert!(trace.connection.is_closed());
}

#[test]
fn linger_does_not_reset_what_was_acknowledged() {
    let mut trace = Trace::established();
    trace.set_options(|options| options.linger = Some(Duration::from_secs(1)));
    trace.write(10);
    trace.release();
    trace.receive(ack(12));
    trace.sent();
    trace.at(2_000);
    assert_eq!((trace.sent().len(), trace.state()), (0, State::FinWait2));
}

#[test]
fn an_orphan_leaves_fin_wait_2_after_its_time_a_half_closed_one_does_not() {
    let mut trace = Trace::in_state(State::FinWait2, plain());
    trace.at(1_000_000);
    assert_eq!(trace.state(), State::FinWait2);
    trace.release();
    trace.at(1_059_999);
    assert_eq!(trace.state(), State::FinWait2);
    trace.at(1_060_000);
    assert_eq!(trace.state(), State::Closed);
}

#[test]
fn abort_resets_and_fail_is_silent() {
    for state in State::ALL.into_iter().skip(2) {
        let mut trace = Trace::in_state(state, plain());
        trace.connection.abort(&mut trace.host.context(), Failure::Aborted);
        let resets = !matches!(state, State::SynSent | State::TimeWait);
        assert_eq!(trace.sent().len(), usize::from(resets), "{}", state.name());
        assert_eq!(trace.failure(), Some(Failure::Aborted).filter(|_| state != State::TimeWait));
        let mut trace = Trace::in_state(state, plain());
        trace.connection.fail(&mut trace.host.context(), Failure::NetworkDown);
        assert!(trace.sent().is_empty() && trace.connection.is_closed() && trace.deadline().is_none());
    }
}

#[test]
fn what_was_received_before_a_failure_can_still_be_read() {
    let mut trace = Trace::established();
    let segment_then_reset = [data(1, 10), Seg { seq: 11, flags: TcpFlags::RST, ..Seg::default() }];
    trace.receive_batch(segment_then_reset);
    assert_eq!((trace.failure(), trace.read(99)), (Some(Failure::Reset), bytes(1, 10)));
}

#[test]
fn a_program_that_reads_no_more_has_its_data_acknowledged_and_thrown_away() {
    let mut trace = Trace::established();
    trace.connection.shared().state.lock().read_closed = true;
    trace.mark(Mark::CloseRead);
    trace.receive(data(1, 2_000));
    assert_eq!((trace.sent(), trace.read(9_999).len()), (vec!["[.] 1 ack 2001".to_owned()], 0));
}

#[test]
fn close_all_is_seen_by_the_program() {
    let mut trace = Trace::established();
    trace.connection.close(&mut trace.host.context());
    assert_eq!(trace.sent(), ["[F.] 1 ack 1"]);
    assert!(trace.connection.shared().state.lock().write_closed);
}
