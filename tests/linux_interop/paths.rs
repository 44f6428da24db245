//! Paths that are worse than a cable: routers, loss, a smaller MTU in the middle, a host that forwards.

use crate::common::{Namespace, Need, trial, veth};
use crate::datagrams::echo_every_size;
use crate::host::{HOPLINE, Network, on_a_lossless_wire, start_on_veth};
use crate::transfer::{LARGE, there_and_back};
use hopline::config::Config;
use libtest_mimic::Trial;

/// Bytes over a path that loses packets: each loss costs round trips, some a retransmission timeout.
const OVER_LOSS: u64 = 2 << 20;
/// Every twentieth packet is lost, at random.
const LOSE: &str = "numgen random mod 100 < 5 drop";

pub(crate) fn trials() -> Vec<Trial> {
    let nft = &[Need::Namespaces, Need::Program("nft")];
    let namespaces = &[Need::Namespaces];
    vec![
        trial("five_percent_loss_both_ways", nft, || loss(false)),
        trial("five_percent_loss_of_super_segments_both_ways", nft, || loss(true)),
        trial("a_routed_path_carries_large_transfers", namespaces, routed),
        trial("a_smaller_mtu_in_the_middle_is_found_by_segments", namespaces, || smaller_mtu(false)),
        trial("a_smaller_mtu_in_the_middle_is_found_by_super_segments", namespaces, || smaller_mtu(true)),
        trial("a_black_hole_in_the_middle_is_found_by_segments", nft, || black_hole(false)),
        trial("a_black_hole_in_the_middle_is_found_by_super_segments", nft, || black_hole(true)),
        trial("datagrams_pass_a_smaller_mtu_in_the_middle", namespaces, || on_a_lossless_wire(datagrams_over_smaller_mtu)),
        trial("a_forwarding_host_leaves_an_own_address_alone", namespaces, || on_a_lossless_wire(forwarding_host)),
    ]
}

fn loss(offload: bool) {
    let network = Network::routed(1_500, offload);
    network.others[0].run(&format!(
        "nft 'add table ip lossy; add chain ip lossy f {{ type filter hook forward priority 0; }}; add rule ip lossy f {LOSE}'"
    ));
    let (mut theirs, mut ours) = network.kernel_connects();
    there_and_back(&mut theirs, &mut ours, OVER_LOSS, OVER_LOSS);
    let (mut theirs, mut ours) = network.hopline_connects();
    there_and_back(&mut ours, &mut theirs, OVER_LOSS, OVER_LOSS);
    network.assert_nothing_lost();
}

fn routed() {
    let network = Network::routed(1_500, true);
    let (mut theirs, mut ours) = network.hopline_connects();
    there_and_back(&mut ours, &mut theirs, LARGE / 2, LARGE / 2);
    network.assert_nothing_lost();
}

fn smaller_mtu(offload: bool) {
    let network = Network::routed(1_280, offload);
    let (mut theirs, mut ours) = network.kernel_connects();
    there_and_back(&mut theirs, &mut ours, 4 << 20, 4 << 20);
    let learned = network.stack.counters().network.path_mtu_updates.get();
    assert_eq!(learned, 1, "Hopline did not learn the path MTU once:\n{}", network.stack.counters());
    let (mut theirs, mut ours) = network.hopline_connects();
    there_and_back(&mut ours, &mut theirs, 4 << 20, 4 << 20);
    network.assert_nothing_lost();
}

/// The router that cannot forward large packets says so, and a firewall on it keeps that to itself (RFC 4821 §1).
fn black_hole(offload: bool) {
    let network = Network::routed(1_280, offload);
    network.others[1].run(
        "nft 'add table ip hole; add chain ip hole o { type filter hook output priority 0; }; add rule ip hole o icmp type destination-unreachable drop'",
    );
    let (mut theirs, mut ours) = network.hopline_connects();
    there_and_back(&mut ours, &mut theirs, 1 << 20, 1 << 20);
    let counters = network.stack.counters();
    let found = (counters.network.path_mtu_updates.get(), counters.transport.black_holes.get());
    assert!(found.0 == 0 && found.1 >= 1, "{found:?}\n{counters}");
    let size = ours.info().unwrap().maximum_segment_size;
    assert!((1_200..=1_228).contains(&size), "segments of {size} bytes\n{counters}");
    network.assert_nothing_lost();
}

fn datagrams_over_smaller_mtu() {
    let network = Network::routed(1_280, true);
    // Else its datagrams may not be cut on the way, and the first too large one is lost for good: UDP does not send again.
    network.kernel.run("sysctl -qw net.ipv4.ip_no_pmtu_disc=1");
    echo_every_size(&network);
}

/// The host of the interface has an address of its own there and forwards; ours, on our own MAC, is none of its business.
fn forwarding_host() {
    let (kernel, own) = (Namespace::new("interop"), Namespace::new("interop"));
    veth((&kernel, "k0", Some("192.0.2.1/24")), (&own, "h0", Some("192.0.2.3/24")));
    own.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=1");
    let stack = start_on_veth(&own, true, "192.0.2.2/24", None, Config::default());
    let network = Network { stack, address: HOPLINE, kernel, others: vec![own] };
    for connect in [Network::kernel_connects, Network::hopline_connects] {
        let (mut theirs, mut ours) = connect(&network);
        there_and_back(&mut theirs, &mut ours, LARGE / 4, LARGE / 4);
    }
    network.kernel.run("ping -n -q -c 3 -i 0.05 -W 5 192.0.2.2; ping -n -q -c 1 -W 5 192.0.2.3");
    let numbers = network.own().run("cat /proc/net/snmp");
    for (group, name, expected) in
        [("Ip", "ForwDatagrams", 0), ("Tcp", "OutRsts", 0), ("Icmp", "OutRedirects", 0), ("Icmp", "OutDestUnreachs", 0)]
    {
        assert_eq!(snmp(&numbers, group, name), expected, "the host's {group} {name}");
    }
    network.assert_nothing_lost();
}

/// A number of `/proc/net/snmp`.
pub(crate) fn snmp(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|candidate| candidate == name).unwrap_or_else(|| panic!("no {group} {name}"));
    numbers.split(' ').nth(place).unwrap().parse().unwrap()
}
