//! What TCP offers to programs, and asks of IP (RFC 9293 §3.9).

use crate::peer::*;
use hopline::simulation::HostOptions;
use hopline::wire::{Icmpv4Message, UnreachableCode};
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

/// "There MUST be a mechanism for reporting soft TCP error conditions to the application."
#[test]
fn must_47_soft_errors_are_reported() {
    let (mut trace, mut stream) = Trace::established(plain());
    assert!(stream.soft_error().unwrap().is_none());
    write(&mut stream, 0, 10);
    trace.sent();
    trace.icmp(Icmpv4Message::DestinationUnreachable { code: UnreachableCode::from(1), next_hop_mtu: 0 }, 1);
    assert_eq!(stream.soft_error().unwrap().expect("an error").kind(), ErrorKind::HostUnreachable);
    assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock, "the connection lives");
    // Excessive retransmission: the figures tell, before it is given up.
    trace.at(10_000);
    stream.info().unwrap();
    trace.sent();
    assert!(stream.info().unwrap().retransmitted >= 3);
    // And it is what the program hears if the connection then dies.
    stream.set_user_timeout(Some(Duration::from_secs(20))).unwrap();
    trace.at(60_000);
    assert_eq!(read_error(&mut stream), ErrorKind::HostUnreachable);
}

/// Everything that the host sends in the life of a connection, after `change` was applied to its stream.
fn sent_with(host: impl FnOnce(&mut HostOptions), change: impl FnOnce(&hopline::socket::TcpStream)) -> Vec<Sent> {
    let mut trace = Trace::with(host);
    let mut stream = trace.open_to(plain());
    change(&stream);
    trace.host.settle();
    let mut all = Vec::new();
    let mut look = |trace: &mut Trace| {
        trace.sent();
        all.extend(trace.last.clone());
    };
    stream.write_all(&pattern(0, 3_000)).unwrap();
    look(&mut trace);
    trace.at(1_000);
    look(&mut trace);
    trace.send(ack(3_001));
    trace.send(data(1, 100));
    stream.shutdown(Shutdown::Write).unwrap();
    look(&mut trace);
    drop(stream);
    look(&mut trace);
    assert!(all.len() >= 6);
    all
}

/// "The application layer MUST be able to specify the Differentiated Services field for segments that are sent on a connection", also while it
/// lasts (SHLD-21), and it is passed on unchanged (SHLD-22).
#[test]
fn must_48_the_program_sets_diffserv() {
    for class in [0xb8, 0x28] {
        let sent = sent_with(|_| (), |stream| stream.set_traffic_class(class).unwrap());
        // The two lowest bits are ECN's.
        assert!(sent.iter().all(|sent| sent.ip.traffic_class & 0xfc == class), "{sent:?}");
    }
    let mut trace = Trace::new();
    let options = hopline::socket::ConnectOptions {
        options: Some(hopline::socket::SocketOptions { traffic_class: 0x48, ..hopline::config::TcpConfig::default().socket_options() }),
        ..Default::default()
    };
    let _stream = trace.host.connect_with((PEER, SERVER_PORT), &options).unwrap();
    trace.sent();
    assert_eq!(trace.last[0].ip.traffic_class & 0xfc, 0x48, "from the SYN on");
}

/// "The TTL value used to send TCP segments MUST be configurable."
#[test]
fn must_49_the_time_to_live_is_configurable() {
    for ttl in [1, 64, 255] {
        let sent = sent_with(|_| (), |stream| stream.set_ttl(ttl).unwrap());
        assert!(sent.iter().all(|sent| u32::from(sent.ip.time_to_live) == ttl));
    }
    let mut trace = Trace::new();
    let listener = trace.listen();
    listener.set_ttl(9).unwrap();
    trace.send(syn(plain()));
    trace.sent();
    assert_eq!(trace.last[0].ip.time_to_live, 9, "of what a listener accepts, from the SYN-ACK on");
}

/// "MUST ignore options that it does not understand": those of IP. Record route, timestamp, router alert, an unknown one, and source routes
/// (see the head of this program).
#[test]
fn must_50_ip_options_are_ignored() {
    let options: [&[u8]; 6] = [
        &[1, 1, 1, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0],
        &[30, 4, 9, 9],
        &[0x83, 7, 8, 192, 0, 2, 77, 0],
    ];
    for ip_options in options {
        let mut trace = Trace::new();
        let listener = trace.listen();
        trace.send(Seg { ip_options: ip_options.to_vec(), ..syn(plain()) });
        assert_eq!(trace.sent(), ["[S.] 0 ack 1"], "{ip_options:?}");
        assert!(trace.last[0].ip.options.is_empty() && trace.last[0].ip.destination == PEER, "answered directly");
        trace.send(Seg { ip_options: ip_options.to_vec(), ..Seg::default() });
        let (mut stream, _) = listener.accept().unwrap();
        trace.send(Seg { ip_options: ip_options.to_vec(), ..data(1, 10) });
        assert_eq!(read_all(&mut stream), pattern(1, 10), "{ip_options:?}");
    }
}
