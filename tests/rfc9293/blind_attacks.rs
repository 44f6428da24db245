//! RFC 5961, by section: what a blind attacker gets.

use crate::peer::*;
use hopline::wire::TcpFlags;
use std::io::ErrorKind;

/// §3.2: a RST at RCV.NXT resets; one elsewhere in the window gets a challenge ACK; one outside is dropped silently.
#[test]
fn section_3_2_resets() {
    let (mut trace, mut stream) = Trace::established(plain());
    for seq in [2, 1_000, 60_000] {
        // §7: not too many at once.
        trace.at(trace.now() + 1_000);
        trace.send(rst(seq));
        assert_eq!(trace.sent(), ["[.] 1 ack 1"], "in the window, at {seq}");
    }
    for seq in [0, 0x4000_0000, 0x8000_0000] {
        trace.send(rst(seq));
        assert_eq!(trace.sent(), [""; 0], "outside, at {seq}");
    }
    assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock);
    trace.send(rst(1));
    assert_eq!((trace.sent(), read_error(&mut stream)), (vec![], ErrorKind::ConnectionReset));
}

/// §3.2 in SYN-SENT: "the RST is acceptable if the ACK field acknowledges the SYN", and only then.
#[test]
fn section_3_2_resets_in_syn_sent() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.send(Seg { ack: None, ..rst(0) });
    trace.send(Seg { ack: Some(2), ..rst(0) });
    trace.send(Seg { ack: Some(0), ..rst(0) });
    assert_eq!((trace.sent(), read_error(&mut stream)), (vec![], ErrorKind::WouldBlock));
    trace.send(Seg { ack: Some(1), ..rst(0) });
    assert_eq!((trace.sent(), read_error(&mut stream)), (vec![], ErrorKind::ConnectionRefused));
}

/// §4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK to the remote peer", and drop the segment: in every
/// synchronized state.
#[test]
fn section_4_2_syns_are_challenged() {
    let (mut trace, stream) = Trace::established(plain());
    let challenged = |trace: &mut Trace, number: u32| {
        for seq in [number, number + 500, 0x7000_0000] {
            trace.at(trace.now() + 1_000);
            trace.sent();
            trace.send(Seg { seq, ack: None, flags: TcpFlags::SYN, ..Seg::default() });
            let lines = trace.sent();
            assert!(
                lines.len() == 1 && lines[0].starts_with("[.] ") && lines[0].ends_with(&format!("ack {number}")),
                "at {seq}: {lines:?}"
            );
        }
    };
    challenged(&mut trace, 1);
    trace.send(fin(1, 1));
    trace.sent();
    challenged(&mut trace, 2);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    trace.sent();
    challenged(&mut trace, 2);
    // A peer that has really begun anew answers the challenge with a RST where we expect it, and that is the end (§4.2).
    trace.send(Seg { ack: None, ..rst(2) });
    assert_eq!(trace.host.connections(), 0);
}

/// §5.2: an acknowledgement is acceptable from SND.UNA - MAX.SND.WND to SND.NXT; "all incoming segments whose ACK value doesn't satisfy the above
/// condition MUST be discarded and an ACK sent back".
#[test]
fn section_5_2_acknowledgements_out_of_range() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 1_000);
    trace.sent();
    for number in [1_002, 0x7000_0000, 1_u32.wrapping_sub(60_001), 0x9000_0000] {
        trace.at(trace.now() + 1_000);
        trace.sent();
        trace.send(Seg { ack: Some(number), ..data(1, 10) });
        assert_eq!(trace.sent(), ["[.] 1001 ack 1"], "{number}");
        assert!(read_all(&mut stream).is_empty(), "the data goes with it");
    }
    trace.send(Seg { ack: Some(1_u32.wrapping_sub(60_000)), ..data(1, 10) });
    assert_eq!(read_all(&mut stream), pattern(1, 10), "old, but possible");
}

/// §7: challenge ACKs are limited; the limit is not a number that an attacker could count for others (CVE-2016-5696): here the connection stays
/// silent beyond it, and alive.
#[test]
fn section_7_challenges_are_limited() {
    let mut trace = Trace::with(|options| options.config.tcp.challenge_acks_per_second = 10);
    let mut stream = trace.open_to(plain());
    for _ in 0..1_000 {
        trace.send(rst(500));
    }
    let challenges = trace.sent().len();
    assert!((1..=20).contains(&challenges), "{challenges} challenges in no time, of ten in a second");
    trace.send(data(1, 10));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
}
