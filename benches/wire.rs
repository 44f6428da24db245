//! What reading and writing one header costs, and how fast the checksum runs.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use hopline::wire::checksum::checksum;
use hopline::wire::dns::{Edns, Message, Question, Record, RecordData, RecordType, ResponseCode};
use hopline::wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, Icmpv4Message, Ipv4Header, MacAddress, Malformed, Protocol, SackBlock, TcpFlags,
    TcpHeader, TcpOptions, Timestamps, UdpHeader, VlanTag,
};

/// Both directions of one header: `emit` into a buffer, and `parse` of what it wrote.
fn bench_header<T>(
    criterion: &mut Criterion,
    name: &str,
    length: usize,
    emit: impl Fn(&mut [u8]),
    parse: impl Fn(&[u8]) -> Result<T, Malformed>,
) {
    let mut bytes = vec![0; length];
    criterion.bench_function(&format!("emit/{name}"), |bencher| bencher.iter(|| emit(black_box(&mut bytes))));
    assert!(parse(&bytes).is_ok(), "{name}: what is measured must be the good case");
    criterion.bench_function(&format!("parse/{name}"), |bencher| bencher.iter(|| parse(black_box(&bytes)).is_ok()));
}

fn link_headers(criterion: &mut Criterion) {
    let [source, destination] = [1, 2].map(|last| MacAddress([2, 0, 0x5e, 0x10, 0, last]));
    let ethernet = EthernetHeader { destination, source, ethertype: EtherType::IPV4 };
    bench_header(criterion, "ethernet", EthernetHeader::LENGTH, |out| black_box(&ethernet).emit(out), EthernetHeader::parse);

    let tag = VlanTag { priority: 3, drop_eligible: false, identifier: 100, ethertype: EtherType::IPV4 };
    bench_header(criterion, "vlan", VlanTag::LENGTH, |out| black_box(&tag).emit(out), VlanTag::parse);

    let arp = ArpPacket {
        operation: ArpOperation::Request,
        sender_hardware: source,
        sender_protocol: [192, 0, 2, 1].into(),
        target_hardware: MacAddress::ZERO,
        target_protocol: [192, 0, 2, 2].into(),
    };
    bench_header(criterion, "arp", ArpPacket::LENGTH, |out| black_box(&arp).emit(out), ArpPacket::parse);
}

fn network_headers(criterion: &mut Criterion) {
    let ipv4 = Ipv4Header {
        total_length: 20,
        identification: 7,
        dont_fragment: true,
        protocol: Protocol::TCP,
        source: [192, 0, 2, 1].into(),
        destination: [192, 0, 2, 2].into(),
        ..Ipv4Header::default()
    };
    bench_header(criterion, "ipv4", Ipv4Header::MINIMUM_LENGTH, |out| black_box(&ipv4).emit(out), Ipv4Header::parse);

    let echo = Icmpv4Message::EchoRequest { identifier: 1, sequence: 2 };
    bench_header(criterion, "icmpv4", Icmpv4Message::HEADER_LENGTH, |out| black_box(&echo).emit(out), Icmpv4Message::parse);
}

fn transport_headers(criterion: &mut Criterion) {
    let udp = UdpHeader { source_port: 1, destination_port: 2, length: 8, checksum: 0 };
    bench_header(criterion, "udp", UdpHeader::LENGTH, |out| black_box(&udp).emit(out), UdpHeader::parse);

    let plain = TcpHeader { source_port: 1, destination_port: 2, flags: TcpFlags::ACK, window: 500, ..TcpHeader::default() };
    let timestamps = Some(Timestamps { value: 1, echo_reply: 2 });
    let block = |left: u32| SackBlock { left: left.into(), right: (left + 1460).into() };
    let with = |options| TcpHeader { options, ..plain };
    let data = with(TcpOptions { timestamps, ..TcpOptions::default() });
    let sack = with(TcpOptions { timestamps, sack: [1, 3000, 6000].map(block).into_iter().collect(), ..TcpOptions::default() });
    let syn = with(TcpOptions {
        maximum_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps,
        ..TcpOptions::default()
    });
    for (name, header) in [("tcp", plain), ("tcp_timestamps", data), ("tcp_sack", sack), ("tcp_syn", syn)] {
        bench_header(criterion, name, header.header_length(), |out| black_box(&header).emit(out), TcpHeader::parse);
    }
}

fn dns_messages(criterion: &mut Criterion) {
    let name = || "www.lab.test".parse().expect("a name");
    let query = Message::query(1, Question::new(name(), RecordType::A), Some(Edns::default()));
    let mut response = query.response(ResponseCode::NO_ERROR);
    response.answers.push(Record::new(name(), 60, RecordData::A([192, 0, 2, 80].into())));
    for (name, message) in [("dns_query", query), ("dns_response", response)] {
        let bytes = message.encode();
        criterion.bench_function(&format!("emit/{name}"), |bencher| bencher.iter(|| black_box(&message).encode()));
        criterion.bench_function(&format!("parse/{name}"), |bencher| bencher.iter(|| Message::parse(black_box(&bytes))));
    }
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for length in [20, 1460, 65_536] {
        let bytes = vec![0x5a; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::from_parameter(length), &bytes, |bencher, bytes| {
            bencher.iter(|| checksum(black_box(bytes)));
        });
    }
    group.finish();
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut criterion = criterion.configure_from_args();
    link_headers(&mut criterion);
    network_headers(&mut criterion);
    transport_headers(&mut criterion);
    dns_messages(&mut criterion);
    checksums(&mut criterion);
    criterion.final_summary();
}
