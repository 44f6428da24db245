//! A whole stack with a listener, a connection, a datagram socket, an echo socket and a raw one: frames that nearly make sense, and programs that use them.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use hopline::device::DeviceOffload;
use hopline::packet::Packet;
use hopline::simulation::{Host, HostOptions};
use hopline::wire::checksum::{checksum, pseudo_header};
use hopline::wire::{EtherType, EthernetHeader, Ipv4Header, MacAddress, Protocol};
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const STATION: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

#[derive(Arbitrary, Debug)]
enum Step {
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// An Ethernet frame with our addresses.
    Ethernet {
        ethertype: u16,
        body: Vec<u8>,
    },
    /// An IPv4 packet with right lengths and header checksum; the transport checksum too, if it is to be.
    Ipv4 {
        protocol: u8,
        fragment: Option<(u8, bool, u8)>,
        to: u8,
        completes: bool,
        body: Vec<u8>,
    },
    Advance(u16),
    Write(u16),
    Read,
    Accept,
    CloseStream,
}

fn ethernet(ethertype: EtherType, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    EthernetHeader { destination: STATION, source: MacAddress([2, 0, 0, 0, 0, 2]), ethertype }.emit(&mut frame);
    frame.extend_from_slice(body);
    frame
}

fn ipv4(protocol: u8, fragment: Option<(u8, bool, u8)>, to: u8, completes: bool, body: &[u8]) -> Vec<u8> {
    let protocol = Protocol([1, 6, 17, 2, protocol][usize::from(protocol % 5)]);
    let destination = match to % 8 {
        0 => Ipv4Addr::BROADCAST,
        1 => Ipv4Addr::new(224, 0, 0, 1),
        2 => Ipv4Addr::new(192, 0, 2, 255),
        _ => OWN,
    };
    let (identification, more_fragments, offset) = fragment.unwrap_or_default();
    let mut body = body.to_vec();
    let field = match protocol {
        Protocol::TCP => 16,
        Protocol::UDP => 6,
        _ => 2,
    };
    if completes && body.len() >= field + 2 {
        body[field..field + 2].fill(0);
        let sum = match protocol {
            Protocol::TCP | Protocol::UDP => {
                let mut sum = pseudo_header(PEER.into(), destination.into(), protocol, body.len() as u32);
                sum.add_bytes(&body);
                sum.finish()
            }
            _ => checksum(&body),
        };
        body[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let header = Ipv4Header {
        total_length: (20 + body.len()) as u16,
        identification: u16::from(identification % 4),
        more_fragments,
        fragment_offset: u16::from(offset) * 8,
        protocol,
        source: PEER,
        destination,
        ..Ipv4Header::default()
    };
    let mut packet = vec![0; 20];
    header.emit(&mut packet);
    packet.extend_from_slice(&body);
    packet
}

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut options = HostOptions::new("192.0.2.1/24");
    if u.arbitrary()? {
        options.offload = DeviceOffload { checksum: true, tcp_segmentation_ipv4: true, ..DeviceOffload::default() };
    }
    options.medium = hopline::device::Medium::Ethernet(STATION);
    let mut host = Host::new(options);
    let listener = host.listen("192.0.2.1:80").expect("a listener");
    let datagrams = host.bind_udp("192.0.2.1:53").expect("a datagram socket");
    let icmp = host.icmp().expect("an echo socket");
    let raw = host.raw(Protocol::IGMP).expect("a raw socket");
    let mut streams = vec![host.connect("192.0.2.2:80").expect("a connection")];
    for step in u.arbitrary_iter::<Step>()?.take(200) {
        match step? {
            Step::Raw(bytes) => host.inject_bytes(&bytes),
            Step::Ethernet { ethertype, body } => {
                let known = [0x0800, 0x0806, 0x8100, 0x86dd, ethertype][usize::from(ethertype % 5)];
                host.inject_bytes(&ethernet(EtherType(known), &body));
            }
            Step::Ipv4 { protocol, fragment, to, completes, body } => {
                host.inject_bytes(&ethernet(EtherType::IPV4, &ipv4(protocol, fragment, to, completes, &body)));
            }
            Step::Advance(millis) => host.advance_by(Duration::from_millis(millis.into())),
            Step::Write(count) => streams.iter_mut().for_each(|stream| drop(stream.write(&vec![1; count.into()]))),
            Step::Read => {
                let mut buffer = [0; 4_096];
                streams.iter_mut().for_each(|stream| drop(stream.read(&mut buffer)));
                let _ = (datagrams.recv_from(&mut buffer), icmp.receive(&mut buffer), raw.recv_from(&mut buffer));
            }
            Step::Accept => streams.extend(listener.accept().map(|(stream, _)| stream)),
            Step::CloseStream => drop(streams.pop()),
        }
        host.settle();
        // Whatever it says, it says in whole frames that others can read.
        host.take_sent().iter().for_each(|sent| check(&sent.packet));
    }
    Ok(())
}

fn check(packet: &Packet) {
    let bytes = packet.to_vec();
    let header = EthernetHeader::parse(&bytes).expect("a frame");
    if header.ethertype == EtherType::IPV4 {
        Ipv4Header::parse(&bytes[14..]).expect("an IPv4 packet");
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
