//! RFC 6937, by section: proportional rate reduction, how much is sent for each acknowledgement of fast recovery.
//!
//! Segments have 1000 bytes; NewReno makes ssthresh half of the flight. Not as written, but as RFC 9937 revises it: RecoverFS does not count what limited transmit added,
//! PRR-CRB or PRR-SSRB is chosen by each acknowledgement (SND.UNA advanced, and no further loss was found: PRR-SSRB), and the first retransmission goes whatever the account
//! says. §5's measurements and Appendix A are arguments, not rules.

use crate::peer::*;
use hopline::socket::TcpStream;
use std::io::Write;

/// Twenty segments are in flight since the time 80, the first of which is numbered `first`; more waits.
#[track_caller]
fn twenty_in_flight() -> (Trace, TcpStream, u32) {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 200_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(80);
    (1..=10).for_each(|segment| trace.send(ack(segment * 1_000 + 1)));
    trace.at(115);
    assert_eq!(trace.sent().len(), 20);
    trace.at(120);
    (trace, stream, 10_001)
}

/// The peer reports `first..last` of the segments behind `una`, which are counted from it. Gives what is sent for it, again and new.
fn report(trace: &mut Trace, una: u32, first: u32, last: u32) -> (usize, usize) {
    trace.send(trace.sack(una, &[(una + first * 1_000, una + last * 1_000)]));
    split(trace, una + last * 1_000)
}

/// What was sent since the last look: below this number, and from it on.
fn split(trace: &mut Trace, number: u32) -> (usize, usize) {
    trace.sent();
    let iss = trace.iss.unwrap();
    let again = trace.last.iter().filter(|sent| sent.tcp.sequence.before(iss + number)).count();
    (again, trace.last.len() - again)
}

/// §3: "sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out" while pipe is above ssthresh; §3.1's first figure: the zeroth of twenty is lost, and the reduction
/// is spread over the round trip.
#[test]
fn section_3_proportional_rate_reduction() {
    let (mut trace, stream, una) = twenty_in_flight();
    assert_eq!((report(&mut trace, una, 1, 2), report(&mut trace, una, 1, 3)), ((0, 1), (0, 1)), "N N: limited transmit");
    assert_eq!(report(&mut trace, una, 1, 4), (1, 0), "R");
    assert_eq!(trace.info(&stream).slow_start_threshold, 10_000);
    // prr_out is never more than its share of prr_delivered, and less only by what does not fill a segment.
    let mut out = 1;
    let mut sent = Vec::new();
    for last in 5..=20_usize {
        let share = ((last - 3) * 10).div_ceil(20);
        let (again, new) = report(&mut trace, una, 1, last as u32);
        out += new;
        sent.push(new);
        assert!(again == 0 && (out == share || out + 1 == share), "{out} of {share} at the {last}th");
    }
    assert_eq!(sent, [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1]);
}

/// §3: "any data transmission or retransmission: prr_out += (data sent)"; in the end "sndcnt will be computed such that prr_out approaches ssthresh", and cwnd is ssthresh.
#[test]
fn section_3_the_window_in_the_end() {
    let (mut trace, stream, una) = twenty_in_flight();
    for last in 2..=20 {
        report(&mut trace, una, 1, last);
    }
    trace.at(160);
    let highest = trace.info(&stream).in_flight as u32 + una;
    trace.send(ack(highest));
    let info = trace.info(&stream);
    assert_eq!((info.congestion_window, info.slow_start_threshold), (10_000, 10_000));
}

/// §3, the reduction bound, PRR-CRB: "limit = prr_delivered - prr_out": §3.1's second figure, the first fifteen of twenty are lost: each acknowledgement that finds more losses, or
/// tells nothing cumulatively, lets as much go as it says was delivered.
#[test]
fn section_3_conservative_reduction_bound() {
    let (mut trace, _stream, una) = twenty_in_flight();
    assert_eq!((report(&mut trace, una, 15, 16), report(&mut trace, una, 15, 17)), ((0, 1), (0, 1)), "N N");
    let sent: Vec<(usize, usize)> = (18..=20).map(|last| report(&mut trace, una, 15, last)).collect();
    assert_eq!(sent, [(1, 0), (1, 0), (1, 0)], "R R R");
}

/// §3, PRR-SSRB: "limit = MAX(prr_delivered - prr_out, DeliveredData) + MSS", while pipe is below ssthresh: a segment more for each acknowledgement that advances.
#[test]
fn section_3_slow_start_reduction_bound() {
    let (mut trace, _stream, una) = twenty_in_flight();
    for last in 16..=20 {
        report(&mut trace, una, 15, last);
    }
    trace.at(160);
    let mut number = una;
    let mut sent = Vec::new();
    for _ in 0..3 {
        number += 1_000;
        trace.send(trace.sack(number, &[(una + 15_000, una + 20_000)]));
        sent.push(split(&mut trace, una + 15_000).0);
    }
    assert_eq!(sent, [2, 2, 2], "2R 2R 2R");
}

/// §3: "sndcnt = MIN(ssthresh - pipe, limit)": the bound never lets pipe exceed ssthresh.
#[test]
fn section_3_the_bound_ends_at_the_threshold() {
    let (mut trace, stream, una) = twenty_in_flight();
    for last in 8..=20 {
        report(&mut trace, una, 7, last);
    }
    trace.at(160);
    for segment in 1..=6 {
        trace.send(trace.sack(una + segment * 1_000, &[(una + 7_000, una + 20_000)]));
        trace.sent();
        let info = trace.info(&stream);
        // In flight but for what the peer reported: at most pipe.
        assert!(info.in_flight - 13_000 <= info.slow_start_threshold, "{} beyond {}", info.in_flight - 13_000, info.slow_start_threshold);
    }
}

/// §4: "The missed opportunities to send due to stalls are treated like banked voluntary window reductions": what a program did not write in time goes when it does.
#[test]
fn section_4_a_stall_of_the_program_is_banked() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 10_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(80);
    for last in 2..=8 {
        report(&mut trace, 1, 1, last);
    }
    stream.write_all(&pattern(10_000, 20_000)).unwrap();
    let late = trace.sent().len();
    let (again, new) = report(&mut trace, 1, 1, 9);
    assert_eq!(
        (again, late, late + new),
        (0, 2, 3),
        "five eighths (ssthresh, RecoverFS) of what was delivered, less the one that went again and what does not fill a segment"
    );
}

/// §3, DeliveredData without SACK: a duplicate acknowledgement stands for a segment (RFC 9937 §6.2), so that the same trace holds for peers without it.
#[test]
fn section_3_duplicates_stand_for_segments() {
    let (mut trace, mut stream) = Trace::far_away(plain());
    stream.write_all(&pattern(0, 100_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(80);
    let sent: Vec<usize> = (0..9)
        .map(|_| {
            trace.send(ack(1));
            trace.sent().len()
        })
        .collect();
    assert_eq!(sent[..3], [1, 1, 1], "N N R");
    assert_eq!(sent[3..].iter().sum::<usize>(), 2, "one for two: {sent:?}");
}
