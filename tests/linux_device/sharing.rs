//! Sharing the host's address: guards keep the kernel silent, filters keep its traffic out, routes and firewalls are read as they are.

use crate::common::{Namespace, Need, trial, veth, wait_until};
use crate::toy::{OURS, PEERS, Toy, ToyTcp};
use hopline::device::linux::packet_socket::PacketSocket;
use hopline::device::port_guard::SharedPorts;
use hopline::device::shared_address::SharedAddress;
use hopline::device::{LinkChange, Medium, host};
use hopline::network::topology::Via;
use hopline::packet::Packet;
use hopline::transport::ports::{PortLease, PortProvider};
use hopline::wire::{MacAddress, Protocol};
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces];
    let nft = &[Need::Namespaces, Need::Program("nft")];
    vec![
        trial("a_guarded_connection_meets_no_reset", needs, guarded_connection),
        trial("without_a_guard_the_kernel_resets", needs, unguarded_connection),
        trial("a_guarded_udp_port_is_silent", needs, guarded_datagrams),
        trial("the_filter_leaves_the_hosts_traffic_to_the_host", needs, filter_leaves_the_host_alone),
        trial("leases_do_not_collide_and_leave_nothing_behind", needs, leases),
        trial("one_place_can_have_more_connections_than_the_block_has_ports", needs, block_grows),
        trial("a_listeners_port_is_guarded_and_given_back", needs, listener),
        trial("a_lost_address_is_reported", needs, lost_address),
        trial("routes_are_the_hosts", needs, routes),
        trial("rejecting_firewalls_are_found_and_others_are_not", nft, firewalls),
        trial("rejecting_iptables_rules_are_found", &[Need::Namespaces, Need::Program("iptables")], iptables),
        trial("a_missing_privilege_is_explained", &[Need::Namespaces, Need::Program("setpriv")], missing_privilege),
    ]
}

struct Shared {
    ours: Namespace,
    peer: Namespace,
    toy: Toy,
    ports: Arc<SharedPorts>,
}

/// The kernel has 192.0.2.1, and so have we.
fn shared() -> Shared {
    let (ours, peer) = (Namespace::new("dev"), Namespace::new("dev"));
    veth((&ours, "vA", Some("192.0.2.1/24")), (&peer, "vB", Some("192.0.2.2/24")));
    let mac = peer.inside(|| host::interface("vB")).unwrap().mac.unwrap();
    let SharedAddress { device, ports, topology, interface } = ours.inside(|| SharedAddress::towards(PEERS.into(), true)).unwrap();
    assert_eq!((interface.as_str(), topology.addresses[0].to_string().as_str()), ("vA", "192.0.2.1/24"));
    let toy = ours.inside(|| Toy::new(device, mac));
    Shared { ours, peer, toy, ports }
}

fn lease(shared: &Shared, protocol: Protocol, remote: Option<SocketAddr>) -> PortLease {
    let ports = shared.ports.clone();
    shared.ours.inside(|| ports.lease(protocol, 0, remote)).unwrap()
}

/// A counter of the namespace's kernel.
fn kernel_counter(namespace: &Namespace, group: &str, name: &str) -> u64 {
    let text = namespace.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{group}:")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.split(' ').zip(values.split(' ')).find(|(key, _)| *key == name).unwrap().1.parse().unwrap()
}

fn guarded_connection() {
    let mut shared = shared();
    let listener = shared.peer.inside(|| TcpListener::bind((PEERS, 7))).unwrap();
    let lease = lease(&shared, Protocol::TCP, Some((PEERS, 7).into()));
    let mut tcp = ToyTcp::connect(&mut shared.toy, lease.port, 7);
    let (mut kernel, _) = listener.accept().unwrap();
    tcp.write(&mut shared.toy, &[5; 20_000]);
    let mut got = vec![0; 20_000];
    kernel.read_exact(&mut got).unwrap();
    kernel.write_all(&got).unwrap();
    assert_eq!(tcp.read(&mut shared.toy, 20_000).0, got);
    assert_eq!(kernel_counter(&shared.ours, "Tcp", "OutRsts"), 0);
}

fn unguarded_connection() {
    let (ours, peer) = (Namespace::new("dev"), Namespace::new("dev"));
    veth((&ours, "vA", Some("192.0.2.1/24")), (&peer, "vB", Some("192.0.2.2/24")));
    let mac = peer.inside(|| host::interface("vB")).unwrap().mac.unwrap();
    let mut toy = ours.inside(|| Toy::new(PacketSocket::open("vA").unwrap(), mac));
    let _listener = peer.inside(|| TcpListener::bind((PEERS, 7))).unwrap();
    ToyTcp::connect(&mut toy, 40_000, 7);
    wait_until("the kernel's reset", || kernel_counter(&ours, "Tcp", "OutRsts") > 0);
}

fn guarded_datagrams() {
    let mut shared = shared();
    let lease = lease(&shared, Protocol::UDP, None);
    let socket = shared.peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.send_to(b"hello", (OURS, lease.port)).unwrap();
    shared.toy.next(|toy, packet| toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::UDP));
    socket.send_to(b"closed", (OURS, 9)).unwrap();
    wait_until("the kernel's answer for a port that is not ours", || kernel_counter(&shared.ours, "Icmp", "OutDestUnreachs") > 0);
    assert_eq!(kernel_counter(&shared.ours, "Icmp", "OutDestUnreachs"), 1);
}

fn filter_leaves_the_host_alone() {
    let mut shared = shared();
    let listener = shared.peer.inside(|| TcpListener::bind((PEERS, 7))).unwrap();
    let mut client = shared.ours.inside(|| TcpStream::connect((PEERS, 7))).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&[1; 100_000]).unwrap();
    server.write_all(b"answer").unwrap();
    let mut got = [0; 6];
    client.read_exact(&mut got).unwrap();
    let socket = shared.peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.send_to(b"not ours", (OURS, 9)).unwrap();
    shared.ours.run("ping -c 1 -W 5 192.0.2.2");
    let packets = shared.toy.drain(Duration::from_millis(100));
    let protocol = |packet: &Packet| shared.toy.ip(packet).map(|(ip, _)| ip.protocol);
    let seen: Vec<_> = packets.iter().filter_map(protocol).collect();
    assert_eq!(seen, [Protocol::ICMP], "the echo reply, and nothing of the host's connection");
}

fn leases() {
    let shared = shared();
    let block = shared.ports.ports();
    assert_eq!(block.tcp, block.udp);
    let remotes: Vec<SocketAddr> = (1..4).map(|port| (PEERS, port).into()).collect();
    let all: Vec<_> = (0..30).map(|index| (remotes[index % 3], lease(&shared, Protocol::TCP, Some(remotes[index % 3])))).collect();
    let tuples: BTreeSet<_> = all.iter().map(|(remote, lease)| (*remote, lease.port)).collect();
    assert_eq!(tuples.len(), 30);
    assert!(all.iter().all(|(_, lease)| block.tcp.contains(&lease.port) && lease.guard.is_some()));
    let datagrams: BTreeSet<_> = (0..100).map(|_| lease(&shared, Protocol::UDP, None)).map(|lease| lease.port).collect();
    assert!(datagrams.is_subset(&block.udp), "a lease that was dropped is lent again");
    let (port, remote) = (all[0].1.port, all[0].0);
    let ports = shared.ports.clone();
    let again = shared.ours.inside(|| ports.lease(Protocol::TCP, port, Some(remote)));
    drop(ports);
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(shared.ours.inside(|| TcpListener::bind((OURS, port))).is_err(), "nobody else can have the port");
    assert!(shared.ours.run("ss -Hltn").lines().count() >= block.tcp.len());
    let Shared { ours, toy, ports, .. } = shared;
    drop((all, toy, ports));
    wait_until_there_are_no_sockets(&ours, "");
}

/// A program that another test starts has copies of our descriptors until it runs.
#[track_caller]
fn wait_until_there_are_no_sockets(namespace: &Namespace, which: &str) {
    wait_until("the end of all sockets", || namespace.run(&format!("ss -Hltun {which}")).is_empty());
}

fn block_grows() {
    let shared = shared();
    let block = shared.ports.ports().tcp.len();
    let leases: Vec<_> = (0..block + 10).map(|_| lease(&shared, Protocol::TCP, Some((PEERS, 7).into()))).collect();
    let ports: BTreeSet<_> = leases.iter().map(|lease| lease.port).collect();
    assert_eq!(ports.len(), block + 10);
    assert!(shared.ports.ports().tcp.is_superset(&ports), "the filter knows them");
}

fn listener() {
    let mut shared = shared();
    let ports = shared.ports.clone();
    let lease = shared.ours.inside(|| ports.lease_listener(80)).unwrap();
    assert_eq!(lease.port, 80);
    assert!(shared.ours.inside(|| ports.lease_listener(80)).is_err());
    let client = shared.peer.inside(|| std::thread::spawn(|| TcpStream::connect_timeout(&(OURS, 80).into(), Duration::from_secs(1))));
    shared.toy.next_segment(80);
    drop(lease);
    assert!(!shared.ports.ports().tcp.contains(&80));
    wait_until_there_are_no_sockets(&shared.ours, "sport = :80");
    drop(client.join());
    drop(shared.ours.inside(|| ports.lease_listener(0)).unwrap());
}

fn lost_address() {
    let mut shared = shared();
    shared.ours.run("ip address add 192.0.2.77/24 dev vA && ip address del 192.0.2.77/24 dev vA");
    shared.ours.run("ip address del 192.0.2.1/24 dev vA");
    while shared.toy.changes.is_empty() {
        shared.toy.receive();
    }
    assert_eq!(shared.toy.changes, [LinkChange::AddressLost]);
}

fn routes() {
    let namespace = Namespace::new("dev");
    namespace.run(
        "ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up mtu 1400 && ip address add 192.0.2.1/24 dev d0",
    );
    let route = |to: &str| namespace.inside(|| host::route_to(to.parse().unwrap()));
    assert_eq!(route("203.0.113.1").unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    assert!(namespace.inside(|| SharedAddress::on_default_route(true)).is_err());
    namespace.run("ip route add default via 192.0.2.254");
    namespace.run("ip route add 203.0.113.0/24 via 192.0.2.253 mtu 1300");
    let far = route("203.0.113.1").unwrap();
    assert_eq!((far.interface.as_str(), far.source.to_string().as_str()), ("d0", "192.0.2.1"));
    assert_eq!((far.gateway, far.prefix_length, far.mtu), (Some(IpAddr::from([192, 0, 2, 253])), 24, 1300));
    assert_eq!(route("192.0.2.9").unwrap().gateway, None);
    assert_eq!(namespace.inside(|| host::default_gateway("d0")).unwrap(), Some(IpAddr::from([192, 0, 2, 254])));
    assert!(route("192.0.2.1").unwrap_err().to_string().contains("this host itself"));
    let shared = namespace.inside(|| SharedAddress::on_interface("d0", false)).unwrap();
    let next_hop = |to: &str| shared.topology.resolve(to.parse().unwrap()).unwrap().next_hop.to_string();
    assert_eq!((next_hop("203.0.113.1"), next_hop("198.51.100.1")), ("192.0.2.253".into(), "192.0.2.254".into()));
    assert!(shared.topology.routes.iter().any(|route| route.via == Via::OnLink));
    assert!(matches!(shared.topology.medium, Medium::Ethernet(mac) if mac != MacAddress::ZERO));
    namespace.run("ip address flush dev d0");
    let error = namespace.inside(|| SharedAddress::on_interface("d0", false)).err().unwrap().to_string();
    assert!(error.contains("d0"), "{error}");
}

fn firewalls() {
    let namespace = Namespace::new("dev");
    let found = || namespace.inside(host::shared_address_warning);
    assert_eq!(found(), None);
    namespace.run("nft add table inet t");
    namespace.run("nft add chain inet t input '{ type filter hook input priority 0; }'");
    namespace.run("nft add rule inet t input tcp dport 1000-2000 drop");
    namespace.run("nft add chain inet t forward '{ type filter hook forward priority 0; }'");
    namespace.run("nft add rule inet t forward reject");
    assert_eq!(found(), None, "drop is harmless, and forwarding is not our way");
    namespace.run("nft add chain inet t zone && nft add rule inet t input jump zone");
    assert_eq!(found(), None);
    namespace.run("nft add rule inet t zone reject with icmpx type admin-prohibited");
    let line = found().unwrap();
    assert!(line.contains("table t") && line.contains("chain zone") && !line.contains('\n'), "{line}");
}

/// As far as iptables writes to nftables, which it has by default for years.
fn iptables() {
    let namespace = Namespace::new("dev");
    if !namespace.run("iptables -V").contains("nf_tables") {
        return;
    }
    namespace.run("iptables -N zone && iptables -A INPUT -p tcp -j zone && iptables -A zone -p tcp --dport 99 -j REJECT");
    let line = namespace.inside(host::shared_address_warning).unwrap();
    assert!(line.contains("chain zone"), "{line}");
}

fn missing_privilege() {
    let namespace = Namespace::new("dev");
    namespace.run("ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up");
    let error = namespace.inside(|| {
        std::process::Command::new("setpriv")
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", "--"])
            .arg(std::env::current_exe().unwrap())
            .env("HOPLINE_OPEN_INTERFACE", "d0")
            .output()
    });
    let text = String::from_utf8_lossy(&error.unwrap().stdout).into_owned();
    assert!(text.contains("CAP_NET_RAW") && text.lines().count() == 1, "{text}");
}

/// What `missing_privilege` runs in a process without the privilege.
pub(crate) fn open_interface_if_asked() -> bool {
    let Some(name) = std::env::var("HOPLINE_OPEN_INTERFACE").ok() else { return false };
    println!("{}", PacketSocket::open(&name).map_or_else(|error| error.to_string(), |_| "opened".to_owned()));
    true
}
