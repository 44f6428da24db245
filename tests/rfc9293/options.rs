//! TCP options and the maximum segment size (RFC 9293 §3.1, §3.2, §3.7.1).

use crate::peer::*;
use hopline::wire::{SackBlock, SackBlocks, TcpFlags, TcpOptions, Timestamps};
use std::io::Write;

/// End of option list, no-operation and maximum segment size: "the following options MUST be supported".
#[test]
fn must_4_the_mandatory_options() {
    let mut trace = Trace::new();
    let listener = trace.listen();
    // NOP, NOP, MSS 700, EOL; what is behind the end is not looked at.
    trace.send(Seg { raw_options: Some(vec![1, 1, 2, 4, 0x02, 0xbc, 0, 3]), ..syn(plain()) });
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.send(Seg::default());
    let (mut stream, _) = listener.accept().unwrap();
    write(&mut stream, 0, 1_500);
    assert_eq!(trace.sent(), ["[.] 1..701 ack 1", "[.] 701..1401 ack 1", "[P.] 1401..1501 ack 1"]);
}

/// "MUST be able to receive a TCP Option in any segment."
#[test]
fn must_5_options_in_any_segment() {
    let nops = || Some(vec![1; 8]);
    let mut trace = Trace::new();
    let listener = trace.listen();
    trace.send(Seg { raw_options: nops(), ..syn(plain()) });
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.send(Seg { raw_options: nops(), ..Seg::default() });
    let (mut stream, _) = listener.accept().unwrap();
    trace.send(Seg { raw_options: nops(), ..data(1, 10) });
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    trace.sent();
    trace.send(Seg { raw_options: nops(), ..fin(11, 1) });
    assert_eq!(trace.sent(), ["[.] 1 ack 12"]);
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(Seg { raw_options: nops(), ..rst(1) });
    assert_eq!(read_error(&mut stream), std::io::ErrorKind::ConnectionReset);
}

/// "MUST ignore without error any TCP Option it does not implement."
#[test]
fn must_6_unknown_options_are_ignored() {
    let mut trace = Trace::new();
    let listener = trace.listen();
    // An experiment's option and one that nobody has defined, around the one that counts.
    trace.send(Seg { raw_options: Some(vec![253, 6, 1, 2, 3, 4, 2, 4, 0x02, 0xbc, 200, 2]), ..syn(plain()) });
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.send(Seg { raw_options: Some(vec![99, 4, 0, 0]), ..Seg::default() });
    let (mut stream, _) = listener.accept().unwrap();
    trace.send(Seg { raw_options: Some(vec![254, 3, 9, 1]), ..data(1, 10) });
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    assert_eq!(stream.info().unwrap().maximum_segment_size, 700);
}

/// "MUST be prepared to handle an illegal option length (e.g., zero)": the segment is dropped and counted, the connection lives.
#[test]
fn must_7_illegal_option_lengths() {
    let (mut trace, mut stream) = Trace::established(plain());
    for raw in [vec![2, 0, 0, 0], vec![2, 1, 0, 0], vec![2, 40, 5, 0xb4], vec![8, 3, 0, 0], vec![1, 1, 1, 99], vec![5, 9, 0, 0, 0, 0, 0, 0]]
    {
        trace.send(Seg { raw_options: Some(raw), ..data(1, 10) });
        assert_eq!(trace.sent(), [""; 0]);
    }
    assert_eq!(trace.host.counters().dropped(hopline::layer::DropReason::Malformed).get(), 6);
    trace.send(data(1, 10));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
}

/// "TCP endpoints MUST implement both sending and receiving the MSS Option."
#[test]
fn must_14_the_segment_size_is_sent_and_received() {
    let mut trace = Trace::new();
    trace.connect();
    assert_eq!(trace.header().options.maximum_segment_size, Some(1_460));
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(syn(plain()));
    trace.sent();
    assert_eq!(trace.header().options.maximum_segment_size, Some(1_460));
    let (mut trace, mut stream) = Trace::established(TcpOptions { maximum_segment_size: Some(600), ..plain() });
    write(&mut stream, 0, 1_200);
    assert_eq!(trace.sent(), ["[.] 1..601 ack 1", "[P.] 601..1201 ack 1"]);
}

/// "If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536."
#[test]
fn must_15_the_default_is_536() {
    let (mut trace, mut stream) = Trace::established(TcpOptions::default());
    write(&mut stream, 0, 1_072);
    assert_eq!(trace.sent(), ["[.] 1..537 ack 1", "[P.] 537..1073 ack 1"]);
}

/// "The smaller of the send MSS and the largest transmission size permitted by the IP layer", less the options.
#[test]
fn must_16_the_effective_segment_size() {
    let largest = |peer: u16, mtu: usize, options: TcpOptions| {
        let mut trace = Trace::with(|host| host.mtu = mtu);
        let mut stream = trace.open_to(TcpOptions { maximum_segment_size: Some(peer), ..options });
        write(&mut stream, 0, 3_000);
        trace.sent();
        trace.last.iter().map(|sent| sent.payload.len()).max().unwrap()
    };
    assert_eq!(largest(1_000, 1_500, plain()), 1_000);
    assert_eq!(largest(9_000, 1_500, plain()), 1_460);
    assert_eq!(largest(9_000, 576, plain()), 536);
    // "... - IPoptionsize - TCPhdrsize": timestamps take twelve bytes of each segment.
    assert_eq!(largest(1_000, 1_500, with_timestamps(1)), 988);
}

/// "Receivers MUST be prepared to process options even if they do not begin on a word boundary."
#[test]
fn must_64_options_at_odd_places() {
    let mut trace = Trace::new();
    let _listener = trace.listen();
    // MSS 800 from the second byte on, window scale and timestamps behind it without padding.
    let raw = vec![1, 2, 4, 3, 32, 3, 3, 5, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0];
    trace.send(Seg { raw_options: Some(raw), ..syn(plain()) });
    trace.sent();
    let options = trace.header().options;
    assert_eq!(options.timestamps.map(|stamps| stamps.echo_reply), Some(9));
    assert!(options.window_scale.is_some());
}

/// The maximum segment size "MUST NOT be sent in other segments" than SYNs.
#[test]
fn must_not_65_the_segment_size_is_sent_without_syn() {
    for sent in whole_life() {
        assert_eq!(sent.tcp.options.maximum_segment_size.is_some(), sent.tcp.flags.contains(TcpFlags::SYN), "{sent:?}");
    }
}

/// "MMS_R is the maximum size for a transport-layer message that can be received": the option says MMS_R - 20.
#[test]
fn must_67_the_segment_size_is_what_ip_can_receive() {
    for mtu in [576, 1_500, 9_000, 65_535] {
        let mut trace = Trace::with(|options| options.mtu = mtu);
        trace.connect();
        assert_eq!(trace.header().options.maximum_segment_size, Some(mtu as u16 - 40));
    }
}

/// "All TCP Options except End of Option List Option and No-Operation MUST have length fields."
#[test]
fn must_68_every_option_has_a_length() {
    for sent in whole_life() {
        let mut rest = &sent.options[..];
        while let Some((&kind, behind)) = rest.split_first() {
            if kind <= 1 {
                rest = behind;
                continue;
            }
            let length = usize::from(behind[0]);
            assert!(length >= 2 && length <= rest.len(), "{:?}", sent.options);
            rest = &rest[length..];
        }
    }
}

/// "The content of the header beyond the End of Option List Option MUST be header padding of zeros."
#[test]
fn must_69_padding_is_zero() {
    for sent in whole_life() {
        assert!(sent.options.len().is_multiple_of(4));
        let mut rest = &sent.options[..];
        while let Some((&kind, behind)) = rest.split_first() {
            match kind {
                0 => {
                    assert!(behind.iter().all(|&byte| byte == 0), "{:?}", sent.options);
                    break;
                }
                1 => rest = behind,
                _ => rest = &rest[usize::from(behind[0])..],
            }
        }
    }
}

/// Segments of every kind: SYN, SYN-ACK, data, acknowledgements with SACK blocks, FIN, RST; with and without timestamps.
fn whole_life() -> Vec<Sent> {
    let mut all = Vec::new();
    for options in [plain(), with_sack(), TcpOptions { sack_permitted: true, ..with_timestamps(1) }] {
        let mut trace = Trace::new();
        let mut stream = trace.connect();
        all.extend(trace.last.clone());
        trace.send(syn_ack(options));
        let mut look = |trace: &mut Trace| {
            trace.sent();
            all.extend(trace.last.clone());
        };
        look(&mut trace);
        let stamped = |seg: Seg| {
            let timestamps = options.timestamps.map(|_| Timestamps { value: 2, echo_reply: 0 });
            Seg { options: TcpOptions { timestamps, ..seg.options }, ..seg }
        };
        stream.write_all(&pattern(0, 2_500)).unwrap();
        look(&mut trace);
        for seq in [1_001, 3_001, 5_001, 7_001, 9_001] {
            trace.send(stamped(data(seq, 500)));
            look(&mut trace);
        }
        trace.send(stamped(Seg {
            options: TcpOptions { sack: SackBlocks::from_iter([SackBlock { left: IRS, right: IRS }]), ..TcpOptions::default() },
            ..ack(2_501)
        }));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        look(&mut trace);
        drop(stream);
        look(&mut trace);
        trace.send(stamped(data(1, 100)));
        look(&mut trace);
        let listener = trace.listen();
        (trace.iss, trace.host_port, trace.peer_port) = (None, SERVER_PORT, PEER_PORT);
        trace.send(syn(options));
        look(&mut trace);
        drop(listener);
        look(&mut trace);
    }
    assert!(all.iter().any(|sent| sent.tcp.flags.contains(TcpFlags::RST)) && all.iter().any(|sent| !sent.tcp.options.sack.is_empty()));
    all
}
