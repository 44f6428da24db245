//! Any sequence of events: nothing panics, leaks or loops.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Frame(Vec<u8>),
    Arp { broadcast: bool, operation: u16, sender: u8, hardware: u8, target: u8 },
    Send { host: u8, cast: u8, length: usize },
    Up(bool),
    Addresses(u8),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Frame),
        (any::<bool>(), 0..4_u16, 0..12_u8, 0..9_u8, 0..12_u8).prop_map(|(broadcast, operation, sender, hardware, target)| Step::Arp {
            broadcast,
            operation,
            sender,
            hardware,
            target
        }),
        (0..12_u8, 0..3_u8, 0..1_600_usize).prop_map(|(host, cast, length)| Step::Send { host, cast, length }),
        any::<bool>().prop_map(Step::Up),
        (0..4_u8).prop_map(Step::Addresses),
        (0..20_000_u64).prop_map(Step::Wait),
    ]
}

/// A small neighbourhood: 0 is the unspecified address, 7 is ours.
fn near(number: u8) -> Ipv4Addr {
    if number == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(192, 0, 2, number) }
}

fn take(rig: &mut Rig, now: u64, step: Step) {
    match step {
        Step::Frame(bytes) => {
            rig.frame(now, &bytes);
            rig.frame(now, &ethernet(US, PEER, EtherType::VLAN, &bytes));
            rig.frame(now, &ethernet(US, PEER, EtherType::ARP, &bytes));
        }
        Step::Arp { broadcast, operation, sender, hardware, target } => {
            let arp = ArpPacket {
                operation: operation.into(),
                sender_hardware: MacAddress([2, 0, 0, 0, 0, hardware]),
                sender_protocol: near(sender),
                target_hardware: US,
                target_protocol: near(target),
            };
            rig.arp(now, if broadcast { MacAddress::BROADCAST } else { US }, arp);
        }
        Step::Send { host, cast, length } => {
            let cast = [Cast::Unicast, Cast::Multicast, Cast::Broadcast][usize::from(cast)];
            let packet = Packet::from_bytes(&rig.pool, &vec![0x45; length]);
            rig.handle(now, Message::Send(Outgoing { next_hop: near(host).into(), cast, packet }));
        }
        Step::Up(is_up) => rig.handle(now, Message::LinkState(is_up)),
        Step::Addresses(count) => rig.handle(now, Message::Addresses((7..7 + count).map(|number| near(number).into()).collect())),
        Step::Wait(_) => {}
    }
}

proptest! {
    #![proptest_config(crate::wire::testing::config())]

    #[test]
    fn no_sequence_of_events_panics_leaks_or_loops(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut rig = Rig::with(LinkConfig { neighbour_entries: 6, pending_bytes: 20_000, ..LinkConfig::default() });
        let mut now = 0;
        for step in steps {
            if let Step::Wait(millis) = step {
                now += millis;
                rig.run_to(now);
            }
            take(&mut rig, now, step);
            let (entries, bytes) = rig.link.neighbours.size();
            prop_assert!(entries <= 6 && bytes <= 20_000);
            rig.out.up.clear();
            rig.out.down.clear();
        }
        rig.run_to(now + 100_000);
        prop_assert_eq!(rig.link.deadline(), None, "an idle link sleeps");
    }
}
