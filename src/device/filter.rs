//! Packet filters: which frames a raw device takes at all.
//!
//! Owns a few instructions of classic BPF (bpf(4); linux/filter.h), which packet sockets, `/dev/bpf` and Npcap have in common, and the filters made of them.
//! Refuses generality: every test either decides at once or falls through to the next, so that there are no jumps to compute.

use crate::device::Medium;
use crate::wire::{EtherType, MacAddress, Protocol};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Bytes of an accepted frame to keep: all.
const ACCEPT: u32 = 0x0004_0000;
const DROP: u32 = 0;
/// A program's limit (`BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: usize = 4_096;
/// The kernel's word on whether there was a tag (`SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`).
const TAG_PRESENT: u32 = (-0x1000_i32 + 48) as u32;

// Instruction codes: class, size or operation, mode or source.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_INDEXED: u16 = 0x48;
/// X = 4 × (byte & 15): the length of an IPv4 header.
const LOAD_INDEX_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// An instruction, laid out as every kernel has it (`sock_filter`, `bpf_insn`).
#[repr(C)]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if the test holds.
    pub if_true: u8,
    /// Instructions to skip if it does not.
    pub if_false: u8,
    /// Offset, value or verdict.
    pub operand: u32,
}

/// Where a filter finds a frame's 802.1Q tag.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TagPlace {
    /// Beside the frame: the Linux kernel takes it out before filters run.
    Beside,
    /// In the frame, behind the addresses.
    InFrame,
}

/// A filter program.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Instruction>);

/// The destination ports whose packets are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// TCP ports.
    pub tcp: BTreeSet<u16>,
    /// UDP ports.
    pub udp: BTreeSet<u16>,
}

impl Filter {
    /// Drops everything: what port guards have, and a packet socket before it is configured.
    pub fn drop_all() -> Filter {
        Filter(vec![instruction(RETURN, DROP)])
    }

    /// Takes everything.
    pub fn accept_all() -> Filter {
        Filter(vec![instruction(RETURN, ACCEPT)])
    }

    /// The same without frames that `mac` sent: for a device that also hears what its own host sends.
    pub fn without_frames_from(&self, mac: MacAddress) -> Filter {
        let [a, b, c, d, e, f] = mac.octets();
        let mut filter = Filter::default();
        filter.load(LOAD_WORD, 6);
        filter.0.push(jump(IF_EQUAL, u32::from_be_bytes([a, b, c, d]), 0, 3));
        filter.load(LOAD_HALF, 10);
        filter.0.extend([jump(IF_EQUAL, u16::from_be_bytes([e, f]).into(), 0, 1), instruction(RETURN, DROP)]);
        filter.0.extend_from_slice(&self.0);
        filter
    }

    /// Frames for one station, and for groups: an own MAC address on an interface that carries the host's traffic as well.
    pub fn for_station(mac: MacAddress) -> Filter {
        let [a, b, c, d, e, f] = mac.octets();
        let mut filter = Filter::default();
        filter.load(LOAD_BYTE, 0).accept_if_any_bit(1);
        filter.load(LOAD_HALF, 0).require_equal(u16::from_be_bytes([a, b]).into());
        filter.load(LOAD_WORD, 2).require_equal(u32::from_be_bytes([c, d, e, f]));
        filter.end(ACCEPT);
        filter
    }

    /// What belongs to a stack that shares `address` with the host: ARP, and of IPv4 to that address: ICMP, non-first fragments (they have no
    /// ports), and TCP and UDP to the given ports. `None` if there are too many separate ports for a program.
    pub fn for_shared_address(tags: TagPlace, medium: Medium, address: Ipv4Addr, ports: &PortSet) -> Option<Filter> {
        let mut filter = Filter::default();
        let ip = filter.link_header(tags, medium);
        filter.load(LOAD_WORD, ip + 16).require_equal(address.to_bits());
        filter.load(LOAD_BYTE, ip + 9).accept_if_equal(Protocol::ICMP.0.into());
        filter.load(LOAD_HALF, ip + 6).accept_if_any_bit(0x1fff);
        filter.load(LOAD_INDEX_HEADER_LENGTH, ip);
        filter.ports(ip, Protocol::TCP, &ports.tcp).ports(ip, Protocol::UDP, &ports.udp);
        filter.end(DROP);
        (filter.0.len() <= MOST_INSTRUCTIONS).then_some(filter)
    }

    /// The program, for the kernel.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Accepts ARP, drops whatever is not untagged IPv4; returns where the IPv4 header begins.
    fn link_header(&mut self, tags: TagPlace, medium: Medium) -> u32 {
        match medium {
            Medium::Ethernet(_) => {
                if tags == TagPlace::Beside {
                    self.load(LOAD_BYTE, TAG_PRESENT).require_equal(0);
                }
                self.load(LOAD_HALF, 12).accept_if_equal(EtherType::ARP.0.into()).require_equal(EtherType::IPV4.0.into());
                14
            }
            Medium::Ip => {
                self.load(LOAD_BYTE, 0).load(AND, 0xf0).require_equal(0x40);
                0
            }
        }
    }

    /// Decides for packets of one protocol; others pass by.
    fn ports(&mut self, ip: u32, protocol: Protocol, ports: &BTreeSet<u16>) -> &mut Filter {
        let mut section = Filter::default();
        section.load(LOAD_HALF_INDEXED, ip + 2);
        ranges(ports).for_each(|(first, last)| section.accept_between(first, last));
        section.end(DROP);
        self.load(LOAD_BYTE, ip + 9);
        self.0.push(jump(IF_EQUAL, protocol.0.into(), 1, 0));
        self.0.push(instruction(JUMP, section.0.len() as u32));
        self.0.append(&mut section.0);
        self
    }

    fn load(&mut self, code: u16, operand: u32) -> &mut Filter {
        self.0.push(instruction(code, operand));
        self
    }

    fn require_equal(&mut self, value: u32) -> &mut Filter {
        self.0.extend([jump(IF_EQUAL, value, 1, 0), instruction(RETURN, DROP)]);
        self
    }

    fn accept_if_equal(&mut self, value: u32) -> &mut Filter {
        self.0.extend([jump(IF_EQUAL, value, 0, 1), instruction(RETURN, ACCEPT)]);
        self
    }

    fn accept_if_any_bit(&mut self, bits: u32) -> &mut Filter {
        self.0.extend([jump(IF_ANY_BIT, bits, 0, 1), instruction(RETURN, ACCEPT)]);
        self
    }

    fn accept_between(&mut self, first: u16, last: u16) {
        let accept = instruction(RETURN, ACCEPT);
        self.0.extend([jump(IF_GREATER_OR_EQUAL, first.into(), 0, 2), jump(IF_GREATER, last.into(), 1, 0), accept]);
    }

    fn end(&mut self, verdict: u32) {
        self.0.push(instruction(RETURN, verdict));
    }
}

/// The set as runs of consecutive ports.
pub(super) fn ranges(ports: &BTreeSet<u16>) -> impl Iterator<Item = (u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges.into_iter()
}

fn instruction(code: u16, operand: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, operand }
}

fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const ETHERNET: Medium = Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 1]));

    /// Runs a program as the kernel would; a load beyond the frame drops it.
    fn accepts(filter: &Filter, frame: &[u8]) -> bool {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
        loop {
            let step = filter.0[at];
            at += 1;
            let place = if step.code == LOAD_HALF_INDEXED { step.operand.wrapping_add(x) } else { step.operand } as usize;
            let bytes =
                |count: usize| frame.get(place..place + count).map(|bytes| bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)));
            let test = |holds: bool| usize::from(if holds { step.if_true } else { step.if_false });
            let loaded = match step.code {
                LOAD_BYTE if step.operand == TAG_PRESENT => Some(0),
                LOAD_BYTE | LOAD_INDEX_HEADER_LENGTH => bytes(1),
                LOAD_HALF | LOAD_HALF_INDEXED => bytes(2),
                LOAD_WORD => bytes(4),
                _ => Some(0),
            };
            let Some(loaded) = loaded else { return false };
            match step.code {
                LOAD_BYTE | LOAD_HALF | LOAD_HALF_INDEXED | LOAD_WORD => a = loaded,
                LOAD_INDEX_HEADER_LENGTH => x = (loaded & 15) * 4,
                AND => a &= step.operand,
                JUMP => at += step.operand as usize,
                IF_EQUAL => at += test(a == step.operand),
                IF_GREATER => at += test(a > step.operand),
                IF_GREATER_OR_EQUAL => at += test(a >= step.operand),
                IF_ANY_BIT => at += test(a & step.operand != 0),
                RETURN => return step.operand != 0,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn packet(protocol: Protocol, destination: Ipv4Addr, port: u16, fragment: u16, options: usize) -> Vec<u8> {
        let mut bytes = vec![0; 20 + options + 8];
        bytes[0] = 0x40 | (5 + options / 4) as u8;
        bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
        bytes[9] = protocol.0;
        bytes[16..20].copy_from_slice(&destination.octets());
        bytes[22 + options..24 + options].copy_from_slice(&port.to_be_bytes());
        bytes
    }

    fn frame(ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
        [&[2; 12], &ethertype.0.to_be_bytes()[..], packet].concat()
    }

    fn ports() -> PortSet {
        PortSet { tcp: (40_000..40_064).chain([80, 65_535]).collect(), udp: (40_000..40_064).chain([53]).collect() }
    }

    #[test]
    fn a_shared_address_takes_its_own_alone() {
        let filter = Filter::for_shared_address(TagPlace::Beside, ETHERNET, ADDRESS, &ports()).unwrap();
        let sees = |packet: &[u8]| accepts(&filter, &frame(EtherType::IPV4, packet));
        for (protocol, port, expected) in [
            (Protocol::TCP, 40_000, true),
            (Protocol::TCP, 40_063, true),
            (Protocol::TCP, 40_064, false),
            (Protocol::TCP, 39_999, false),
            (Protocol::TCP, 80, true),
            (Protocol::TCP, 65_535, true),
            (Protocol::TCP, 53, false),
            (Protocol::UDP, 53, true),
            (Protocol::UDP, 80, false),
            (Protocol::UDP, 40_001, true),
            (Protocol::IGMP, 80, false),
            (Protocol::ICMP, 1, true),
        ] {
            for options in [0, 4, 40] {
                assert_eq!(
                    sees(&packet(protocol, ADDRESS, port, 0x4000, options)),
                    expected,
                    "{protocol:?} {port}, {options} bytes of options"
                );
            }
        }
        assert!(!sees(&packet(Protocol::TCP, Ipv4Addr::new(192, 0, 2, 8), 80, 0, 0)), "somebody else's address");
        assert!(sees(&packet(Protocol::UDP, ADDRESS, 9, 0x0001, 0)), "a later fragment has no ports");
        assert!(!sees(&packet(Protocol::UDP, ADDRESS, 9, 0x2000, 0)), "a first fragment has");
        assert!(accepts(&filter, &frame(EtherType::ARP, &[])));
        assert!(!accepts(&filter, &frame(EtherType::IPV6, &packet(Protocol::TCP, ADDRESS, 80, 0, 0))));
    }

    #[test]
    fn bare_packets_have_no_link_header() {
        let filter = Filter::for_shared_address(TagPlace::Beside, Medium::Ip, ADDRESS, &ports()).unwrap();
        let mut bytes = packet(Protocol::TCP, ADDRESS, 80, 0, 8);
        assert!(accepts(&filter, &bytes));
        bytes[0] = 0x65;
        assert!(!accepts(&filter, &bytes));
    }

    #[test]
    fn a_station_takes_its_frames_and_groups() {
        let filter = Filter::for_station(MacAddress([2, 3, 4, 5, 6, 7]));
        assert!(accepts(&Filter::accept_all(), &[]) && !accepts(&Filter::drop_all(), &[2, 3, 4, 5, 6, 7]));
        assert!(accepts(&filter, &[2, 3, 4, 5, 6, 7, 0, 0]));
        assert!(accepts(&filter, &[0xff; 14]));
        assert!(accepts(&filter, &[0x33, 0x33, 0, 0, 0, 1]));
        assert!(!accepts(&filter, &[2, 3, 4, 5, 6, 8, 0, 0]));
        assert!(!accepts(&filter, &[4, 3, 4, 5, 6, 7, 0, 0]));
    }

    #[test]
    fn what_a_station_sent_itself_is_left_out() {
        let own = MacAddress([2, 3, 4, 5, 6, 7]);
        let from = |source: [u8; 6]| [&[2, 3, 4, 5, 6, 7], &source[..], &[8, 0]].concat();
        for filter in [Filter::accept_all(), Filter::for_station(own)].map(|filter| filter.without_frames_from(own)) {
            assert!(!accepts(&filter, &from(own.octets())));
            for other in [[2, 3, 4, 5, 6, 8], [2, 3, 4, 6, 6, 7], [0; 6]] {
                assert!(accepts(&filter, &from(other)), "{other:?}");
            }
        }
        assert!(!accepts(&Filter::drop_all().without_frames_from(own), &from([0; 6])));
    }

    #[test]
    fn too_many_scattered_ports_are_refused() {
        let scattered = PortSet { tcp: (0..4_000).map(|port| port * 2).collect(), udp: BTreeSet::new() };
        assert!(Filter::for_shared_address(TagPlace::Beside, ETHERNET, ADDRESS, &scattered).is_none());
        let whole = PortSet { tcp: (1..=65_535).collect(), udp: BTreeSet::new() };
        assert!(Filter::for_shared_address(TagPlace::Beside, ETHERNET, ADDRESS, &whole).is_some());
    }

    #[test]
    fn a_tag_hides_a_packet_from_a_filter_that_finds_it_in_the_frame() {
        let filter = Filter::for_shared_address(TagPlace::InFrame, ETHERNET, ADDRESS, &ports()).unwrap();
        let packet = packet(Protocol::TCP, ADDRESS, 80, 0, 0);
        assert!(accepts(&filter, &frame(EtherType::IPV4, &packet)));
        assert!(!accepts(&filter, &frame(EtherType::VLAN, &frame(EtherType::IPV4, &packet)[10..])));
    }

    proptest! {
        #[test]
        fn ports_decide_as_the_set_says(set: BTreeSet<u16>, port: u16) {
            let expected = set.contains(&port);
            let filter = Filter::for_shared_address(TagPlace::Beside, Medium::Ip, ADDRESS, &PortSet { tcp: set, udp: BTreeSet::new() }).unwrap();
            prop_assert_eq!(accepts(&filter, &packet(Protocol::TCP, ADDRESS, port, 0, 0)), expected);
        }

        #[test]
        fn no_frame_leaves_the_program(frame in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = accepts(&Filter::for_shared_address(TagPlace::Beside, ETHERNET, ADDRESS, &ports()).unwrap(), &frame);
        }
    }
}
