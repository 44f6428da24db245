//! Frames in and out: addresses, tags, sizes, media.

use super::*;
use crate::packet::{Segmentation, SegmentationKind};
use crate::wire::VlanTag;

#[test]
fn frames_for_others_and_our_own_are_dropped() {
    let mut rig = Rig::new();
    rig.frame(0, &ethernet(OTHER, PEER, EtherType::IPV4, &ip_packet(1, 40)));
    rig.frame(0, &ethernet(MacAddress::BROADCAST, US, EtherType::IPV4, &ip_packet(1, 40)));
    assert_eq!((rig.dropped(DropReason::NotForUs), rig.out.up.len()), (2, 0));
}

#[test]
fn groups_have_addresses_of_their_own() {
    let mut rig = Rig::new();
    let mut send = |next_hop: [u8; 4], cast| {
        let packet = Packet::from_bytes(&rig.pool, &ip_packet(1, 40));
        rig.link.handle(at(0), Message::Send(Outgoing { next_hop: next_hop.into(), cast, packet }), &mut rig.out);
    };
    send([192, 0, 2, 255], Cast::Broadcast);
    send([239, 129, 2, 3], Cast::Multicast);
    let destinations: Vec<_> = rig.sent().iter().map(|frame| frame[..6].to_vec()).collect();
    assert_eq!(destinations, [vec![0xff; 6], vec![1, 0, 0x5e, 1, 2, 3]]);
}

#[test]
fn frames_to_us_and_to_groups_go_up_without_their_header() {
    let mut rig = Rig::new();
    let group = MacAddress([1, 0, 0x5e, 0, 0, 1]);
    for destination in [US, MacAddress::BROADCAST, group] {
        rig.frame(0, &ethernet(destination, PEER, EtherType::IPV4, &ip_packet(5, 40)));
    }
    let casts: Vec<_> = rig.out.up.drain(..).map(received).collect();
    let expected = [Cast::Unicast, Cast::Broadcast, Cast::Multicast].map(|cast| (cast, ip_packet(5, 40)));
    assert_eq!(casts, expected);
    rig.frame(0, &ethernet(US, PEER, EtherType(0x88cc), &[0; 50]));
    rig.frame(0, &ethernet(US, PEER, EtherType(50), &[0; 50]));
    assert_eq!(rig.dropped(DropReason::UnknownProtocol), 2);
    rig.frame(0, &[1, 2, 3]);
    rig.frame(0, &[]);
    assert_eq!(rig.dropped(DropReason::Malformed), 2);
}

fn received(message: network::Message) -> (Cast, Vec<u8>) {
    match message {
        network::Message::Received { cast, packet } => (cast, packet.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn tagged(tags: &[u16]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, &identifier) in tags.iter().enumerate() {
        let ethertype = if index + 1 < tags.len() { EtherType::VLAN } else { EtherType::IPV4 };
        let mut tag = [0; 4];
        VlanTag { priority: 3, identifier, ethertype, ..VlanTag::default() }.emit(&mut tag);
        payload.extend_from_slice(&tag);
    }
    payload.extend_from_slice(&ip_packet(1, 40));
    ethernet(US, PEER, if tags.is_empty() { EtherType::IPV4 } else { EtherType::VLAN }, &payload)
}

#[test]
fn only_frames_of_our_vlan_are_taken() {
    let taken = |vlan, tags: &[u16]| {
        let mut rig = Rig::with(LinkConfig { vlan, ..quiet() });
        rig.frame(0, &tagged(tags));
        rig.out.up.pop_front().map(received) == Some((Cast::Unicast, ip_packet(1, 40)))
    };
    assert_eq!([&[][..], &[0], &[0, 0], &[5], &[0, 5], &[5, 6]].map(|tags| taken(None, tags)), [true, true, true, false, false, false]);
    assert_eq!([&[][..], &[0], &[5], &[0, 5], &[6], &[5, 5]].map(|tags| taken(Some(5), tags)), [false, false, true, true, false, false]);
}

#[test]
fn frames_of_ours_carry_the_tag() {
    let mut rig = Rig::with(LinkConfig { vlan: Some(5), ..quiet() });
    rig.send(0, PEER_ADDRESS, 1);
    let frame = rig.sent().remove(0);
    assert_eq!(EthernetHeader::parse(&frame).unwrap().ethertype, EtherType::VLAN);
    let tag = VlanTag::parse(&frame[14..]).unwrap();
    assert_eq!((tag.identifier, tag.ethertype), (5, EtherType::ARP));
    assert!(ArpPacket::parse(&frame[18..]).is_ok());
}

#[test]
fn what_exceeds_the_mtu_goes_back_up() {
    let mut rig = Rig::new();
    rig.send_packet(0, PEER_ADDRESS, ip_packet(1, 1_501));
    assert!(matches!(rig.out.up.pop_front(), Some(network::Message::TooBig { packet }) if packet.len() == 1_501));
    let mut super_segment = |size| {
        let mut bytes = ip_packet(1, 40_000);
        bytes[32] = 0x50;
        let mut packet = Packet::from_bytes(&rig.pool, &bytes);
        packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size });
        rig.link.handle(at(0), Message::Send(Outgoing { next_hop: PEER_ADDRESS.into(), cast: Cast::Broadcast, packet }), &mut rig.out);
        (rig.out.up.drain(..).count(), rig.out.down.drain(..).count())
    };
    assert_eq!((super_segment(1_460), super_segment(1_461)), ((0, 1), (1, 0)));
}

#[test]
fn a_medium_without_stations_passes_packets_through() {
    let mut rig = Rig::over(LinkConfig::default(), Medium::Ip);
    rig.frame(0, &ip_packet(1, 40));
    assert_eq!(rig.out.up.pop_front().map(received), Some((Cast::Unicast, ip_packet(1, 40))));
    rig.send(0, PEER_ADDRESS, 2);
    assert_eq!((rig.sent(), rig.link.deadline()), (vec![ip_packet(2, 40)], None));
}

#[test]
fn the_fragments_of_a_datagram_go_out_in_order() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    let fragments = [1, 2, 3].map(|number| Packet::from_bytes(&rig.pool, &ip_packet(number, 1_500)));
    rig.handle(1, Message::SendFragments { next_hop: PEER_ADDRESS.into(), cast: Cast::Unicast, fragments: fragments.into() });
    assert_eq!(rig.sent(), [1, 2, 3].map(|number| ethernet(PEER, US, EtherType::IPV4, &ip_packet(number, 1_500))));
}
