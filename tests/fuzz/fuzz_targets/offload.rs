//! Offloads: what a virtio-net header says of any frame is acted upon, and cutting is the inverse of merging.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use hopline::device::{DeviceOffload, Medium, merge, segmentation, virtio};
use hopline::packet::{Packet, Pool};
use hopline::wire::checksum::pseudo_header;
use hopline::wire::{
    EtherType, EthernetHeader, Ipv4Header, MacAddress, Protocol, SequenceNumber, TcpFlags, TcpHeader, TcpOptions, Timestamps,
};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;

const STATION: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// A frame from a device that offloads: its header may say anything.
fn from_a_device(mut u: Unstructured<'_>) -> arbitrary::Result<()> {
    let pool = Pool::default();
    let medium = if u.arbitrary()? { Medium::Ip } else { Medium::Ethernet(STATION) };
    let header: [u8; virtio::LENGTH] = u.arbitrary()?;
    let offload = DeviceOffload { checksum: u.arbitrary()?, ..DeviceOffload::default() };
    let mut packet = Packet::from_bytes(&pool, u.take_rest());
    packet.offload = virtio::parse(&header);
    let length = packet.len();
    let again = virtio::parse(&virtio::emit(&packet));
    let is_partial = matches!(packet.offload.checksum, hopline::packet::ChecksumState::Partial { .. });
    assert!(!is_partial || again == packet.offload, "{again:?} {:?}", packet.offload);
    let mut frames = VecDeque::from([packet]);
    segmentation::prepare(&mut frames, &offload, medium, &pool);
    assert!(frames.iter().all(|frame| frame.len() <= length && segmentation::fits(frame, &offload)));
    Ok(())
}

/// One segment of a batch, as a few differences from the one before.
#[derive(Arbitrary, Debug)]
struct Piece {
    other_flow: bool,
    skip: u8,
    length: u8,
    flags: u16,
    window_moves: bool,
    identification: u8,
    is_damaged: bool,
    stamp: u8,
    padding: u8,
}

fn frame(pool: &Pool, piece: &Piece, sequence: &mut SequenceNumber, identification: &mut u16) -> Packet {
    *sequence += u32::from(piece.skip % 4 == 3);
    *identification = identification.wrapping_add(1 + u16::from(piece.identification % 8 == 7));
    let ordinary = piece.flags % 5 != 0;
    let tcp = TcpHeader {
        source_port: 1_000 + u16::from(piece.other_flow),
        destination_port: 80,
        sequence: *sequence,
        flags: if ordinary { TcpFlags::ACK } else { TcpFlags(piece.flags & 0x1ff) },
        window: 500 + u16::from(piece.window_moves),
        options: TcpOptions {
            timestamps: (piece.stamp % 3 == 0).then_some(Timestamps { value: 7, echo_reply: 9 }),
            ..TcpOptions::default()
        },
        ..TcpHeader::default()
    };
    let payload: Vec<u8> = (0..u32::from(piece.length) * 4).map(|at| (sequence.0.wrapping_add(at) % 251) as u8).collect();
    *sequence += payload.len() as u32;
    let (source, destination) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let length = tcp.header_length() + payload.len();
    let ip = Ipv4Header {
        total_length: (20 + length) as u16,
        identification: *identification,
        dont_fragment: piece.stamp % 2 == 0,
        protocol: Protocol::TCP,
        source,
        destination,
        ..Ipv4Header::default()
    };
    let mut bytes = vec![0; 34 + length];
    EthernetHeader { destination: STATION, source: MacAddress([2; 6]), ethertype: EtherType::IPV4 }.emit(&mut bytes);
    ip.emit(&mut bytes[14..]);
    tcp.emit(&mut bytes[34..]);
    bytes[34 + tcp.header_length()..].copy_from_slice(&payload);
    let mut sum = pseudo_header(source.into(), destination.into(), Protocol::TCP, length as u32);
    sum.add_bytes(&bytes[34..]);
    let sum = sum.finish() ^ u16::from(piece.is_damaged);
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(piece.padding % 4), 0);
    Packet::from_bytes(pool, &bytes)
}

fn key(frame: &[u8]) -> (u16, u32, u16) {
    let tcp = &frame[34..];
    let word = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    (word(0), u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), u16::from_be_bytes([frame[18], frame[19]]))
}

/// cut(merge(frames)) = frames, but for the link's padding and the order of different flows.
fn there_and_back(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let pool = Pool::default();
    let medium = Medium::Ethernet(STATION);
    let pieces: Vec<Piece> = u.arbitrary()?;
    let (mut sequences, mut identifications) = ([SequenceNumber(u32::MAX - 700), SequenceNumber(5)], [9, 65_530]);
    let mut batch: Vec<Packet> = pieces
        .iter()
        .take(64)
        .map(|piece| {
            let flow = usize::from(piece.other_flow);
            frame(&pool, piece, &mut sequences[flow], &mut identifications[flow])
        })
        .collect();
    let without_padding = |bytes: Vec<u8>| {
        let length = 14 + usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        bytes[..length].to_vec()
    };
    let mut before: Vec<Vec<u8>> = batch.iter().map(|packet| without_padding(packet.to_vec())).collect();
    merge::merge(&mut batch, 0, medium, &pool);
    let mut after = VecDeque::new();
    for packet in batch {
        segmentation::cut(packet, medium, &pool, &mut after).expect("what was merged can be cut");
    }
    let mut after: Vec<Vec<u8>> = after.iter().map(|packet| without_padding(packet.to_vec())).collect();
    before.sort_by_key(|frame| key(frame));
    after.sort_by_key(|frame| key(frame));
    for (before, after) in before.iter().zip(&after) {
        // With DF set, identifications may repeat; cut pieces count up. Both mean nothing (RFC 6864 §4.1).
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let _ = match u.arbitrary() {
        Ok(false) => from_a_device(u),
        _ => there_and_back(&mut u),
    };
});
