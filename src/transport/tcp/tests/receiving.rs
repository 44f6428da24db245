//! Acknowledging and windows: RFC 5681 §4.2, RFC 9293 §3.8.6, RFC 2018, RFC 2883; and what the program sees.

use super::trace::*;
use super::*;
use crate::layer::DropReason;
use crate::transport::shared::Readiness;

/// An established connection that has used up its quick acknowledgements.
fn settled() -> Trace {
    let mut trace = Trace::established();
    trace.connection.receive.owe_for(16, 1_000, trace.host.now);
    trace.connection.receive.due = Due::Not;
    trace
}

#[test]
fn the_first_segments_are_acknowledged_at_once() {
    let mut trace = Trace::established();
    for number in 0..16 {
        trace.receive(data(1 + number * 10, 10));
        assert_eq!(trace.sent().len(), 1);
    }
    trace.receive(data(161, 10));
    assert!(trace.sent().is_empty());
}

#[test]
fn the_first_small_ones_are_acknowledged_by_the_answer_or_soon() {
    let mut trace = Trace::answered_soon();
    trace.receive(data(1, 10));
    assert_eq!((trace.sent().len(), trace.deadline()), (0, Some(1)));
    trace.at(1);
    assert_eq!((trace.sent(), trace.deadline()), (vec!["[.] 1 ack 11".to_owned()], None));
    trace.receive(data(11, 10));
    trace.write(5);
    assert_eq!((trace.sent(), trace.last_header().acknowledgement), (vec!["[P.] 1..6 ack 21".to_owned()], SequenceNumber(IRS) + 21));
}

#[test]
fn among_the_first_full_ones_do_not_wait_for_an_answer() {
    let mut trace = Trace::answered_soon();
    trace.receive(data(1, 1_460));
    assert_eq!(trace.sent(), ["[.] 1 ack 1461"]);
}

#[test]
fn a_delayed_acknowledgement_is_sent_after_its_delay() {
    let mut trace = settled();
    trace.receive(data(1, 10));
    assert!(trace.sent().is_empty());
    assert_eq!(trace.deadline(), Some(40));
    trace.at(40);
    assert_eq!((trace.sent(), trace.deadline()), (vec!["[.] 1 ack 11".to_owned()], None));
}

#[test]
fn every_second_full_segment_is_acknowledged() {
    let mut trace = settled();
    trace.receive(data(1, 1_000));
    assert!(trace.sent().is_empty());
    trace.receive(data(1_001, 1_000));
    assert_eq!(trace.sent(), ["[.] 1 ack 2001"]);
}

#[test]
fn a_batch_is_acknowledged_once_and_a_merged_segment_counts_as_several() {
    let mut trace = settled();
    trace.receive_batch((0..8).map(|number| data(1 + number * 1_000, 1_000)));
    assert_eq!(trace.sent(), ["[.] 1 ack 8001"]);
    trace.receive(Seg { segment_size: Some(1_000), ..data(8_001, 30_000) });
    assert_eq!(trace.sent(), ["[.] 1 ack 38001"]);
}

#[test]
fn data_takes_the_acknowledgement_along() {
    let mut trace = settled();
    trace.receive(data(1, 10));
    trace.write(5);
    assert_eq!((trace.sent(), trace.deadline()), (vec!["[P.] 1..6 ack 11".to_owned()], Some(200)));
}

#[test]
fn a_dialogue_ends_quick_acknowledgements() {
    let mut trace = Trace::established();
    trace.receive(data(1, 10));
    trace.write(5);
    trace.sent();
    trace.receive(Seg { ack: Some(6), ..data(11, 10) });
    assert!(trace.sent().is_empty());
}

#[test]
fn quick_ack_is_an_option() {
    let mut trace = settled();
    trace.receive(data(1, 10));
    trace.set_options(|options| options.quick_ack = true);
    assert_eq!(trace.sent(), ["[.] 1 ack 11"]);
    trace.receive(data(11, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 21"]);
}

#[test]
fn out_of_order_data_is_acknowledged_at_once_and_kept() {
    let mut trace = settled();
    trace.receive(data(11, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
    trace.receive(data(1, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 21"]);
    assert_eq!(trace.read(99), bytes(1, 20));
}

#[test]
fn without_sack_the_peer_gets_a_duplicate_for_each_segment() {
    let mut trace = settled();
    trace.receive_batch([data(1_001, 1_000), data(2_001, 1_000), data(3_001, 1_000)]);
    assert_eq!(trace.sent(), ["[.] 1 ack 1"; 3]);
}

#[test]
fn sack_reports_the_latest_block_first_then_duplicates() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_sack());
    trace.receive(data(11, 10));
    trace.receive(data(31, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 1 sack 11..21", "[.] 1 ack 1 sack 31..41 11..21".replace(" 11..", " sack 11..").as_str()]);
    trace.receive(data(11, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 1 sack 11..21 sack 11..21 sack 31..41"], "RFC 2883 §4: what came twice, then the blocks");
    trace.receive(data(1, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 21 sack 31..41"]);
    trace.receive(data(1, 10));
    assert_eq!(trace.sent(), ["[.] 1 ack 21 sack 1..11 sack 31..41"]);
    assert_eq!(trace.host.counters.transport.duplicate_segments.get(), 2);
}

#[test]
fn data_segments_leave_room_for_sack_blocks() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_sack());
    trace.receive(data(11, 10));
    trace.sent();
    trace.write(2_000);
    assert_eq!(trace.sent(), ["[P.] 1..2001/988 ack 1 sack 11..21"], "8 bytes for the block, 2 for the option, padded");
}

#[test]
fn out_of_order_memory_is_bounded() {
    let config = TcpConfig { out_of_order_bytes: 4 * 2_048, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, with_sack());
    for number in 0..6 {
        trace.receive(data(2_001 + number * 2_000, 1_000));
    }
    assert_eq!((trace.dropped(DropReason::OutOfOrderFull), trace.connection.receive.reassembly.pinned()), (2, 4 * 2_048));
    trace.receive(data(1, 2_000));
    assert_eq!(trace.read(9_999).len(), 3_000);
}

#[test]
fn the_window_never_shrinks() {
    let config = TcpConfig { receive_buffer: 10_000, receive_buffer_maximum: 10_000, window_scaling: false, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    let mut edge = 0;
    let mut at = 1;
    for (length, read) in [(1_000, 0), (3_000, 500), (10, 2_000), (1_500, 0), (600, 4_000), (5_000, 0), (3_000, 9_000), (77, 0)] {
        trace.receive(data(at, length));
        at += length as u32;
        trace.read(read);
        trace.set_options(|options| options.receive_buffer = 10_000 - at as usize % 3_000);
        trace.sent();
        let header = trace.last_header();
        let now = header.acknowledgement.0.wrapping_sub(IRS) + u32::from(header.window);
        assert!(now >= edge, "{now} after {edge}");
        edge = now;
    }
}

#[test]
fn reading_opens_the_window_by_a_worthwhile_step() {
    let config = TcpConfig { receive_buffer: 10_000, receive_buffer_maximum: 10_000, window_scaling: false, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    trace.receive(data(1, 10_000));
    trace.sent();
    assert_eq!(trace.last_header().window, 0);
    trace.read(1_000);
    assert!(trace.sent().is_empty(), "RFC 9293 §3.8.6.2.2");
    trace.read(2_000);
    assert_eq!(trace.sent(), ["[.] 1 ack 10001"]);
    assert_eq!(trace.last_header().window, 3_000);
}

#[test]
fn one_byte_segments_do_not_pin_a_slot_each() {
    let mut trace = settled();
    for number in 0..2_000 {
        trace.receive(data(1 + number, 1));
    }
    let slices = trace.connection.shared().state.lock().received.len();
    assert!(slices <= 3, "{slices} slices for 2000 bytes");
    assert_eq!(trace.read(9_999), bytes(1, 2_000));
}

#[test]
fn small_data_in_a_large_slot_is_copied_down() {
    let mut trace = settled();
    let header = TcpHeader {
        sequence: SequenceNumber(IRS) + 1,
        acknowledgement: SequenceNumber(ISS) + 1,
        flags: TcpFlags::ACK,
        window: 1_000,
        ..TcpHeader::default()
    };
    let mut large = trace.host.pool.buffer(0, 60_000);
    large.truncate(100);
    let payload = Packet::new(large.freeze());
    let (source, destination, arrived) = (trace.connection.remote(), trace.connection.local(), trace.host.now);
    trace
        .connection
        .segment_arrives(&mut trace.host.context(), Segment { source, destination, header, payload, traffic_class: 0, arrived });
    trace.connection.end_batch(&mut trace.host.context());
    assert_eq!(trace.connection.shared().state.lock().received[0].slot_bytes(), 2_048);
}

#[test]
fn the_reader_is_woken_once_for_a_batch() {
    let mut trace = Trace::established();
    trace.wakes();
    trace.receive_batch([data(1, 10), data(11, 10)]);
    assert_eq!((trace.wakes(), trace.readiness()), (1, Readiness::READABLE | Readiness::WRITABLE));
    trace.receive(data(31, 10));
    assert_eq!(trace.wakes(), 0, "nothing new to read");
}

#[test]
fn urgent_data_is_delivered_in_line() {
    let mut trace = Trace::established();
    trace.receive(Seg { flags: TcpFlags::URG | TcpFlags::PSH, ..data(1, 10) });
    trace.receive(data(11, 10));
    assert_eq!(trace.read(99), bytes(1, 20));
}

#[test]
fn while_memory_is_used_up_nothing_out_of_order_is_kept_and_the_window_falls() {
    let mut trace =
        Trace::established_with(TcpConfig { receive_buffer: 60_000, window_scaling: false, ..TcpConfig::default() }, with_sack());
    trace.receive(data(2_001, 1_000));
    assert_eq!(trace.sent(), ["[.] 1 ack 1 sack 2001..3001"]);
    trace.host.config.memory_bytes = 0;
    trace.receive(data(4_001, 1_000));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"], "RFC 2018 §8: the peer has it still");
    assert_eq!(trace.host.counters.transport.out_of_order_pruned.get(), 1);
    for at in 0..60_u32 {
        trace.receive(data(1 + at * 1_000, 1_000));
        trace.read(1_000);
    }
    trace.sent();
    let window = trace.last_header().window;
    assert!((1_000..=6_000).contains(&window), "{window}");
    trace.host.config.memory_bytes = 1 << 30;
    trace.receive(data(60_001, 1_000));
    trace.sent();
    assert!(trace.last_header().window > 50_000);
}
