//! RFC 6298 and RFC 2018, by section: the retransmission timer, and SACK at the receiver.

use crate::peer::*;
use hopline::wire::{SackBlock, SackBlocks, TcpOptions};
use std::io::Write;

/// A connection whose round trip takes `millis`, as the handshake has shown.
fn with_round_trip(millis: u64) -> (Trace, hopline::socket::TcpStream) {
    let mut trace = Trace::new();
    let stream = trace.connect();
    trace.at(millis);
    trace.send(syn_ack(plain()));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
    (trace, stream)
}

/// RFC 6298 §2.1: "until a round-trip time measurement has been made … RTO <- 1 second"; §5.5: doubled each time.
#[test]
fn section_2_1_the_first_timeout_is_one_second() {
    let mut trace = Trace::new();
    let _stream = trace.connect();
    trace.at(31_000);
    assert_eq!(trace.sent_with_times(), ["1000 [S] 0", "3000 [S] 0", "7000 [S] 0", "15000 [S] 0", "31000 [S] 0"]);
}

/// §2.2: the first measurement R: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR. §2.3: the next one, with alpha 1/8 and beta 1/4.
#[test]
fn section_2_2_and_2_3_measurements() {
    let (mut trace, mut stream) = with_round_trip(400);
    write(&mut stream, 0, 100);
    assert_eq!(trace.sent_with_times(), ["400 [P.] 1..101 ack 1"]);
    trace.at(400 + 1_199);
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(400 + 1_200);
    assert_eq!(trace.sent_with_times(), ["1600 [P.] 1..101 ack 1"], "400 + 4 * 200");

    let (mut trace, mut stream) = with_round_trip(400);
    write(&mut stream, 0, 100);
    trace.sent();
    trace.at(400 + 600);
    trace.send(ack(101));
    // RTTVAR = 3/4 * 200 + 1/4 * 200 = 200; SRTT = 7/8 * 400 + 1/8 * 600 = 425.
    write(&mut stream, 100, 100);
    assert_eq!(trace.sent_with_times(), ["1000 [P.] 101..201 ack 1"]);
    trace.at(1_000 + 1_225);
    assert_eq!(trace.sent_with_times(), ["2225 [P.] 101..201 ack 1"]);
}

/// §2.4 and §2.5: bounds, ours lower than the RFC's at the bottom (as in Linux, see the README), 60 s at the top.
#[test]
fn section_2_4_and_2_5_bounds() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 100);
    trace.sent();
    let mut times = vec![0];
    while times.len() < 13 {
        trace.at(trace.now() + 100);
        trace.sent();
        times.extend(trace.last.iter().map(|sent| sent.at.as_millis() as u64));
    }
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000, 60_000]);
}

/// §5.1, §5.2, §5.3: the timer runs while something is in flight, and restarts when new data is acknowledged.
#[test]
fn section_5_the_timer() {
    let (mut trace, mut stream) = with_round_trip(100);
    write(&mut stream, 0, 6_000);
    trace.sent();
    trace.at(200);
    trace.send(ack(1_001));
    // Two equal samples: SRTT 100, RTTVAR 37.5, and the floor of 200 ms for what is added to it.
    trace.at(200 + 299);
    assert_eq!(trace.sent(), [""; 0], "restarted at 200 ms");
    trace.at(200 + 300);
    assert_eq!(trace.sent_with_times(), ["500 [.] 1001..2001 ack 1"], "§5.4: the earliest that is not acknowledged");
    trace.send(ack(6_001));
    trace.at(100_000);
    assert_eq!(trace.sent(), [""; 0], "§5.2: nothing in flight, no timer");

    // RFC 7765 §4: with fewer than four segments in flight it counts from the transmission of the earliest one.
    let (mut trace, mut stream) = with_round_trip(100);
    write(&mut stream, 0, 2_000);
    trace.sent();
    trace.at(200);
    trace.send(ack(1_001));
    trace.at(1_000);
    assert_eq!(trace.sent_with_times()[0], "400 [P.] 1001..2001 ack 1");
}

/// §5.7: "If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than 3 seconds, the RTO MUST be
/// re-initialized to 3 seconds when data transmission begins."
#[test]
fn section_5_7_three_seconds_after_a_lost_syn() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.at(1_500);
    assert_eq!(trace.sent_with_times(), ["1000 [S] 0"]);
    trace.send(syn_ack(plain()));
    write(&mut stream, 0, 3_000);
    assert_eq!(trace.sent(), ["[.] 1 ack 1", "[.] 1..1001 ack 1"], "and one segment (RFC 5681 §3.1)");
    trace.at(1_500 + 2_999);
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(1_500 + 3_000);
    assert_eq!(trace.sent_with_times(), ["4500 [.] 1..1001 ack 1"]);
}

/// RFC 2018 §2: "MUST NOT be sent on non-SYN segments", and a SYN-ACK has it if the SYN had.
#[test]
fn rfc_2018_section_2_sack_permitted() {
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(syn(plain()));
    trace.sent();
    assert!(!trace.header().options.sack_permitted);
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    assert!(trace.header().options.sack_permitted);
    trace.send(syn_ack(with_sack()));
    write(&mut stream, 0, 10);
    trace.send(data(2_000, 10));
    trace.sent();
    assert!(trace.last.iter().all(|sent| !sent.tcp.options.sack_permitted));
}

/// RFC 2018 §3 and §4: no blocks for a peer that did not permit them; else "the first SACK block … MUST specify the contiguous block of data
/// containing the segment which triggered this ACK", and the most recently reported ones follow.
#[test]
fn rfc_2018_section_4_blocks() {
    let (mut trace, _stream) = Trace::established(plain());
    trace.send(data(501, 500));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);

    let (mut trace, mut stream) = Trace::established(with_sack());
    let mut expect = |seq: u32, lines: &[&str]| {
        trace.send(data(seq, 500));
        assert_eq!(trace.sent(), lines);
    };
    // The RFC's example in §7, case 3: the 2nd, 4th, 6th and 8th of eight segments are lost; here numbers begin at 1.
    expect(1, &["[.] 1 ack 501"]);
    expect(1_001, &["[.] 1 ack 501 sack 1001..1501"]);
    expect(2_001, &["[.] 1 ack 501 sack 2001..2501 sack 1001..1501"]);
    expect(3_001, &["[.] 1 ack 501 sack 3001..3501 sack 2001..2501 sack 1001..1501"]);
    // The 4th arrives: it joins two blocks, which comes first.
    expect(1_501, &["[.] 1 ack 501 sack 1001..2501 sack 3001..3501"]);
    // The 2nd: all but the last hole.
    expect(501, &["[.] 1 ack 2501 sack 3001..3501"]);
    expect(2_501, &["[.] 1 ack 3501"]);
    assert_eq!(read_all(&mut stream), pattern(1, 3_500));
}

/// RFC 2018 §3: with four blocks at most, three beside timestamps.
#[test]
fn rfc_2018_section_3_as_many_as_fit() {
    for (options, most) in [(with_sack(), 4), (TcpOptions { sack_permitted: true, ..with_timestamps(1) }, 3)] {
        let (mut trace, _stream) = Trace::established(options);
        for index in 0..8 {
            let seg = data(1_001 + index * 1_000, 500);
            trace.send(Seg { options: TcpOptions { timestamps: options.timestamps, ..TcpOptions::default() }, ..seg });
        }
        trace.sent();
        assert_eq!(trace.header().options.sack.as_slice().len(), most);
        assert!(trace.header().header_length() <= 60);
    }
}

/// RFC 2018 §5 and §8: the sender does not send again what is reported, and "MUST NOT discard data" before it is acknowledged: after a timeout
/// everything is sent again, for the peer may have changed its mind.
#[test]
fn rfc_2018_section_8_reports_are_advice() {
    let (mut trace, mut stream) = Trace::established(with_sack());
    stream.write_all(&pattern(0, 5_000)).unwrap();
    assert_eq!(trace.sent().len(), 5);
    let block = SackBlock { left: trace.iss.unwrap() + 1_001, right: trace.iss.unwrap() + 5_001 };
    trace.send(Seg { options: TcpOptions { sack: SackBlocks::from_iter([block]), ..TcpOptions::default() }, ..ack(1) });
    trace.at(100);
    let resent = trace.sent();
    assert!(resent.iter().all(|line| line == "[.] 1..1001 ack 1"), "{resent:?}");
    // The peer acknowledges the first alone: it has dropped what it had reported.
    trace.send(ack(1_001));
    let mut again = Vec::new();
    for acknowledged in [1_001, 2_001, 3_001, 4_001] {
        trace.at(trace.now() + 20_000);
        trace.sent();
        let iss = trace.iss.unwrap();
        again.extend(
            trace
                .last
                .iter()
                .map(|sent| sent.tcp.sequence.offset_from(iss)..(sent.tcp.sequence + sent.payload.len() as u32).offset_from(iss)),
        );
        // In smaller segments, perhaps: so long a silence could be a path that swallows large ones.
        assert!(again.iter().any(|sent| sent.contains(&acknowledged)), "{acknowledged}: {again:?}");
        trace.send(ack(acknowledged as u32 + 1_000));
    }
}
