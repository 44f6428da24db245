//! Urgent data (RFC 9293 §3.8.5): in line, with its end told.

use crate::peer::*;
use hopline::socket::{Interest, Poller};
use hopline::wire::TcpFlags;
use std::io::Read;
use std::time::Duration;

fn urgent(seq: u32, length: usize, pointer: u16) -> Seg {
    Seg { flags: TcpFlags::URG, urgent: pointer, ..data(seq, length) }
}

/// "TCP implementations MUST still include support for the urgent mechanism": both ways, and no byte leaves the stream.
#[test]
fn must_30_urgent_data_is_supported() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(urgent(1, 10, 5));
    assert_eq!(stream.urgent().unwrap(), 5);
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    assert_eq!(stream.urgent().unwrap(), 0);
    trace.sent();
    assert_eq!(stream.write_urgent(b"stop").unwrap(), 4);
    assert_eq!(trace.sent(), ["[P.U] 1..5 ack 11 urg 4"]);
    trace.send(Seg { seq: 11, ..ack(5) });
    write(&mut stream, 0, 3);
    assert_eq!(trace.sent(), ["[P.] 5..8 ack 11"], "that was that");
}

/// "A TCP implementation MUST support a sequence of urgent data of any length": beyond what a pointer reaches, and beyond a window.
#[test]
fn must_31_urgent_data_of_any_length() {
    let (mut trace, mut stream) = Trace::established(plain());
    let length = 100_000;
    assert_eq!(stream.write_urgent(&pattern(0, length)).unwrap(), length);
    let mut next = 1;
    while next <= length {
        trace.sent();
        assert!(!trace.last.is_empty());
        for sent in &trace.last {
            let start = sent.tcp.sequence.offset_from(trace.iss.unwrap()) as usize;
            let left = length + 1 - start;
            assert!(sent.tcp.flags.contains(TcpFlags::URG) && usize::from(sent.tcp.urgent_pointer) == left.min(65_535), "{sent:?}");
            next = start + sent.payload.len();
        }
        trace.send(ack(next as u32));
    }
    // The other way: the pointer moves on in front of the data.
    let mut seq = 1;
    for _ in 0..100 {
        trace.send(Seg { ack: Some(next as u32), ..urgent(seq, 1_000, 60_000) });
        seq += 1_000;
        assert_eq!(stream.urgent().unwrap(), 60_000);
        stream.read_exact(&mut [0; 1_000]).unwrap();
        assert_eq!(stream.urgent().unwrap(), 59_000);
    }
}

/// "MUST inform the application layer asynchronously whenever it receives an urgent pointer and there was previously no pending urgent data, or
/// whenever the urgent pointer advances in the data stream."
#[test]
fn must_32_the_program_is_told_of_urgent_data() {
    let (mut trace, mut stream) = Trace::established(plain());
    let poller = Poller::new().unwrap();
    poller.register(&stream, 7, Interest::URGENT).unwrap();
    let mut events = Vec::new();
    let mut is_told = || poller.wait(&mut events, Some(Duration::ZERO)).unwrap() == 1 && events[0].urgent && !events[0].readable;
    trace.send(data(1, 10));
    assert!(!is_told(), "ordinary data");
    // Not even the data itself has to be there.
    trace.send(Seg { seq: 11, flags: TcpFlags::URG, urgent: 20, ..Seg::default() });
    assert!(is_told());
    trace.send(data(11, 20));
    read_all(&mut stream);
    assert!(!is_told(), "all of it is read");
    trace.send(urgent(31, 10, 10));
    assert!(is_told(), "the pointer advances");
    trace.send(urgent(41, 10, 5));
    read_all(&mut stream);
    trace.send(Seg { seq: 41, ..urgent(41, 10, 5) });
    assert!(!is_told(), "an old pointer");
}

/// "MUST provide a way for the application to learn how much urgent data remains to be read."
#[test]
fn must_33_the_program_learns_how_much_is_left() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(data(1, 100));
    trace.send(urgent(101, 100, 50));
    assert_eq!(stream.urgent().unwrap(), 150, "behind what is unread");
    stream.read_exact(&mut [0; 120]).unwrap();
    assert_eq!(stream.urgent().unwrap(), 30);
    // A pointer behind a gap counts at once; the data comes when it comes.
    trace.send(urgent(301, 100, 100));
    assert_eq!(stream.urgent().unwrap(), 280);
    trace.send(data(201, 100));
    stream.read_exact(&mut [0; 279]).unwrap();
    assert_eq!(stream.urgent().unwrap(), 1);
    trace.send(fin(401, 1));
    assert_eq!(read_all(&mut stream), pattern(400, 1));
    assert_eq!(stream.urgent().unwrap(), 0);
}

/// "The urgent pointer MUST point to the sequence number of the octet following the urgent data."
#[test]
fn must_62_the_pointer_points_behind_the_data() {
    let (mut trace, mut stream) = Trace::established(plain());
    stream.set_nodelay(true).unwrap();
    write(&mut stream, 0, 100);
    assert_eq!(trace.sent(), ["[P.] 1..101 ack 1"]);
    stream.write_urgent(b"!").unwrap();
    assert_eq!(trace.sent(), ["[P.U] 101..102 ack 1 urg 1"], "1 + 100 is the octet, 102 - 101 follows it");
    // What is sent again says the same of the same place.
    trace.at(5_000);
    let lines = trace.sent();
    assert!(
        lines.contains(&"[P.U] 1..101 ack 1 urg 101".to_owned())
            || lines.contains(&"[.U] 1..102 ack 1 urg 101".to_owned())
            || lines.iter().any(|line| line.contains(" 1..") && line.ends_with(" urg 101")),
        "{lines:?}"
    );
    // Received: one octet of urgent data has a pointer of 1.
    trace.send(urgent(1, 1, 1));
    assert_eq!(stream.urgent().unwrap(), 1);
}

/// The number that a FIN takes is no octet of the stream; and §3.10.7.4, sixth, once it has come: "Ignore the URG."
#[test]
fn urgent_data_that_ends_with_the_stream_and_a_pointer_behind_it() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(Seg { flags: TcpFlags::URG | TcpFlags::FIN, ..urgent(1, 10, 10) });
    assert_eq!(stream.urgent().unwrap(), 10);
    trace.send(Seg { seq: 12, flags: TcpFlags::URG, urgent: 20, ..Seg::default() });
    assert_eq!(stream.urgent().unwrap(), 10);
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    assert_eq!(stream.urgent().unwrap(), 0);
}
