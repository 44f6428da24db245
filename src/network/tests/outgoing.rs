//! What goes out: routes, headers, fragments, errors of ours.

use super::*;

#[test]
fn a_packet_gets_its_header_and_next_hop() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(FAR, b"payload");
    rig.send(0, Outgoing { time_to_live: 5, traffic_class: 0x2e, fragmentation: Fragmentation::Forbidden, ..packet });
    let (next_hop, header, payload) = rig.sent().remove(0);
    assert_eq!((next_hop, payload.as_slice()), (GATEWAY.into(), &b"payload"[..]));
    assert_eq!((header.source, header.destination, header.protocol), (US, FAR, Protocol::UDP));
    assert_eq!((header.time_to_live, header.traffic_class, header.dont_fragment, header.identification), (5, 0x2e, true, 0));
    let packet = rig.outgoing(PEER, b"x");
    rig.send(0, packet);
    assert_eq!(rig.sent()[0].0, IpAddr::from(PEER));
}

#[test]
fn a_packet_without_a_route_is_reported() {
    let mut rig = Rig::with(NetworkConfig::default(), Topology { routes: vec![], ..topology(AddressMode::Own) });
    let packet = rig.outgoing(FAR, b"to nowhere");
    rig.send(0, packet);
    let (errors, _) = rig.reported();
    assert_eq!((errors[0].error, &errors[0].quoted[..]), (DeliveryError::NoRoute, &b"to nowhere"[..]));
    assert_eq!(rig.dropped(DropReason::NoRoute), 1);
}

#[test]
fn what_is_for_ourselves_never_reaches_the_link() {
    let mut rig = Rig::new();
    for destination in [US, Ipv4Addr::LOCALHOST] {
        let packet = rig.outgoing(destination, b"hello me");
        rig.send(0, packet);
        let delivery = rig.delivered().remove(0);
        assert_eq!((delivery.destination, delivery.packet.to_vec().as_slice()), (destination.into(), &b"hello me"[..]));
    }
    assert!(rig.is_silent());
}
