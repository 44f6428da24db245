//! Every header of `hopline::wire`: whatever parses is written again, and the copy says the same.
#![no_main]

use hopline::wire::{
    ArpPacket, EthernetHeader, Icmpv4Message, Ipv4Header, Ipv4Options, TcpHeader, TcpOptions, UdpHeader, VlanTag, checksum,
};
use libfuzzer_sys::fuzz_target;

fn link(bytes: &[u8]) {
    let mut out = [0; 64];
    if let Ok(header) = EthernetHeader::parse(bytes) {
        header.emit(&mut out);
        assert_eq!(EthernetHeader::parse(&out), Ok(header));
    }
    if let Ok(tag) = VlanTag::parse(bytes) {
        tag.emit(&mut out);
        assert_eq!(VlanTag::parse(&out), Ok(tag));
    }
    if let Ok(packet) = ArpPacket::parse(bytes) {
        packet.emit(&mut out);
        assert_eq!(ArpPacket::parse(&out), Ok(packet));
        assert_eq!(out[..ArpPacket::LENGTH], bytes[..ArpPacket::LENGTH]);
    }
}

fn ipv4(bytes: &[u8]) {
    if let Ok(header) = Ipv4Header::parse_quoted(bytes) {
        header.options.iter().for_each(drop);
        let _ = header.options.validate();
    }
    let Ok(header) = Ipv4Header::parse(bytes) else { return };
    assert_eq!(header.payload(bytes).len(), header.payload_length());
    let mut out = vec![0; usize::from(header.total_length)];
    header.emit(&mut out);
    assert_eq!(Ipv4Header::parse(&out), Ok(header));
}

fn ipv4_options(bytes: &[u8]) {
    let Some(options) = Ipv4Options::from_bytes(bytes) else { return };
    options.iter().for_each(drop);
    assert!(options.len().is_multiple_of(4) && options.len() <= 40);
    if options.validate().is_ok() {
        assert!(options.for_later_fragments().validate().is_ok());
    }
}

fn icmpv4(bytes: &[u8]) {
    let Ok((message, length)) = Icmpv4Message::parse(bytes) else { return };
    assert!(length <= bytes.len());
    let mut out = [0; Icmpv4Message::TIMESTAMP_LENGTH];
    message.emit(&mut out);
    assert_eq!(Icmpv4Message::parse(&out), Ok((message, length)));
}

fn udp(bytes: &[u8]) {
    let Ok(header) = UdpHeader::parse(bytes) else { return };
    assert_eq!(header.payload(bytes).len(), usize::from(header.length) - UdpHeader::LENGTH);
    let mut out = vec![0; usize::from(header.length)];
    header.emit(&mut out);
    assert_eq!(UdpHeader::parse(&out), Ok(header));
}

fn tcp(bytes: &[u8]) {
    let _ = TcpHeader::parse_quoted(bytes);
    let Ok((header, length)) = TcpHeader::parse(bytes) else { return };
    assert!(length <= bytes.len());
    let mut out = [0; TcpHeader::MAXIMUM_LENGTH];
    header.emit(&mut out);
    let (again, emitted) = TcpHeader::parse(&out[..header.header_length()]).expect("what we write, we can read");
    assert_eq!(emitted, header.header_length());
    let TcpOptions { sack, fast_open, user_timeout, .. } = again.options;
    // What does not fit into 40 bytes any more, because of our padding, may be missing.
    assert!(header.options.sack.as_slice().starts_with(sack.as_slice()));
    assert!(fast_open.is_none() || fast_open == header.options.fast_open);
    assert!(user_timeout.is_none() || user_timeout == header.options.user_timeout);
    let without = |options: TcpOptions| TcpOptions { sack: Default::default(), fast_open: None, user_timeout: None, ..options };
    assert_eq!(TcpHeader { options: without(header.options), ..header }, TcpHeader { options: without(again.options), ..again });
}

/// The sum in pieces is the sum of the whole.
fn sums(bytes: &[u8]) {
    let Some((&at, bytes)) = bytes.split_first() else { return };
    let (front, back) = bytes.split_at(usize::from(at).min(bytes.len()));
    let mut sum = checksum::Checksum::default();
    sum.add_bytes(front);
    sum.add_bytes(back);
    assert_eq!(sum.finish(), checksum::checksum(bytes));
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 7 {
        0 => link(bytes),
        1 => ipv4(bytes),
        2 => ipv4_options(bytes),
        3 => icmpv4(bytes),
        4 => udp(bytes),
        5 => tcp(bytes),
        _ => sums(bytes),
    }
});
