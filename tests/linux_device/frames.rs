//! Frames both ways through each kind of device, with and without offload; interfaces that go down and away.

use crate::common::{Namespace, Need, assert_capture_is_clean, trial, tshark, veth};
use crate::toy::{PEERS, Toy, ToyTcp};
use hopline::device::capture::Capture;
use hopline::device::linux::packet_socket::PacketSocket;
use hopline::device::linux::tun_tap::{TunTap, TunTapKind};
use hopline::device::{Device, LinkChange, Losses, Medium, host};
use hopline::packet::{ChecksumState, Packet, Segmentation, SegmentationKind};
use hopline::wire::{MacAddress, Protocol};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

pub(crate) const OWN_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces];
    let ethtool = &[Need::Namespaces, Need::Program("ethtool")];
    vec![
        trial("namespaces_are_joined_and_vanish", needs, namespaces_are_joined_and_vanish),
        trial("packet_socket_with_offload", ethtool, || packet_socket(true, true)),
        trial("packet_socket_without_offload", ethtool, || packet_socket(false, false)),
        trial("packet_socket_without_offload_whose_peer_has_it", ethtool, || packet_socket(false, true)),
        trial("packet_socket_with_offload_whose_peer_has_none", ethtool, || packet_socket(true, false)),
        trial("tap_with_offload", needs, || tap(true)),
        trial("tap_without_offload", needs, || tap(false)),
        trial("a_tap_that_was_there_has_no_header_without_offload", needs, tap_that_was_there),
        trial("tun_with_offload", needs, || tun(true)),
        trial("tun_without_offload", needs, || tun(false)),
        trial("an_mtu_that_grows_costs_a_tap_without_offload_one_frame", needs, tap_whose_mtu_grows),
        trial("packet_socket_on_a_tun_carries_bare_packets", needs, packet_socket_on_a_tun),
        trial("datagrams_and_super_datagrams", needs, datagrams),
        trial("the_interface_goes_down_comes_back_and_goes_away", needs, interface_comes_and_goes),
        trial("a_deleted_tap_is_reported_once", needs, deleted_tap),
        trial("a_tap_can_be_handed_over", needs, handed_over_tap),
        trial("what_the_kernel_drops_is_counted", needs, kernel_drops),
        trial("a_capture_is_clean_and_a_planted_error_is_found", &[Need::Namespaces, Need::Program("tshark")], capture),
        trial("a_waker_ends_the_wait_and_a_frame_does_not_wait_for_more", needs, waker),
        trial("tags_beside_the_frame_return_into_it", needs, vlan_tags),
        trial("frames_that_the_interface_refuses_do_not_stop_others", needs, refused_frames),
        trial("an_own_mac_address_hears_its_own_frames_alone", needs, own_mac),
        trial("the_interfaces_mac_address_is_refused_where_it_forwards", needs, forwarding),
    ]
}

fn namespaces_are_joined_and_vanish() {
    let (one, other) = (Namespace::new("dev"), Namespace::new("dev"));
    veth((&one, "vA", Some("192.0.2.1/24")), (&other, "vB", Some("192.0.2.2/24")));
    one.run("ping -c 1 -W 5 192.0.2.2");
    let inside = other.inside(|| TcpListener::bind("192.0.2.2:7").map(|listener| listener.local_addr().unwrap()));
    assert_eq!(inside.unwrap().port(), 7);
    let path = one.path();
    drop((one, other));
    assert!(!path.exists());
}

/// A namespace whose kernel is the peer, and one with the device's end of a veth pair.
fn peers() -> (Namespace, Namespace, MacAddress) {
    let (ours, peer) = (Namespace::new("dev"), Namespace::new("dev"));
    veth((&ours, "vA", None), (&peer, "vB", Some("192.0.2.2/24")));
    peer.run(&format!("ip neigh add 192.0.2.1 lladdr {OWN_MAC} dev vB"));
    let mac = peer.inside(|| host::interface("vB")).unwrap().mac.unwrap();
    (ours, peer, mac)
}

fn open(ours: &Namespace, offload: bool) -> PacketSocket {
    ours.inside(|| PacketSocket::open("vA").and_then(|socket| socket.offload(offload).mac(OWN_MAC))).unwrap()
}

pub(crate) fn toy(ours: &Namespace, device: impl Device + 'static, peer_mac: MacAddress) -> Toy {
    ours.inside(|| Toy::new(device, peer_mac))
}

fn packet_socket(offload: bool, peer_offload: bool) {
    let (ours, peer, mac) = peers();
    peer.set_offload("vB", peer_offload);
    let mut toy = toy(&ours, open(&ours, offload), mac);
    assert_eq!(toy.properties.offload.tcp_segmentation_ipv4, offload);
    let (longest, has_size) = transfer(&mut toy, &peer);
    assert!(has_size || !offload, "a long packet without a segment size");
    if peer_offload {
        assert!(longest > 3_000, "longest packet: {longest} bytes");
    }
}

/// Both ways over a connection with the kernel: bit-exact, and in as few packets as the device offers. Returns the longest payload received, and
/// whether all that were longer than a segment can be cut again (which only a virtio-net header, or our own merging, tells).
fn transfer(toy: &mut Toy, peer: &Namespace) -> (usize, bool) {
    let data: Vec<u8> = (0..60_000_usize).map(|index| (index * 31 % 251) as u8).collect();
    let listener = peer.inside(|| TcpListener::bind((PEERS, 7))).unwrap();
    let mut tcp = ToyTcp::connect(toy, 40_000, 7);
    let (mut kernel, _) = listener.accept().unwrap();
    kernel.set_nodelay(true).unwrap();
    kernel.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for part in data.chunks(30_000) {
        let sent = tcp.write(toy, part);
        let expected = if toy.properties.offload.tcp_segmentation_ipv4 { 1 } else { part.len().div_ceil(1460) as u64 };
        assert_eq!((sent.frames, sent.refused), (expected, 0));
        let mut got = vec![0; part.len()];
        kernel.read_exact(&mut got).unwrap();
        assert!(got == part, "the kernel read something else");
    }
    kernel.write_all(&data).unwrap();
    let (got, longest, has_size) = tcp.read(toy, data.len());
    assert!(got == data, "we read something else");
    (longest, has_size)
}

/// The kernel's side of a TUN or TAP, in the same namespace.
pub(crate) fn configure(namespace: &Namespace, interface: &str) {
    namespace.run(&format!("ip address add 192.0.2.2/24 dev {interface}"));
    if interface.starts_with("tap") {
        namespace.run(&format!("ip neigh add 192.0.2.1 lladdr {OWN_MAC} dev {interface}"));
    }
}

fn tap(offload: bool) {
    let namespace = Namespace::new("dev");
    let device = namespace.inside(|| TunTap::tap("tap0").and_then(|tap| tap.mac(OWN_MAC).offload(offload))).unwrap();
    assert_eq!(device.properties().medium, Medium::Ethernet(OWN_MAC));
    configure(&namespace, "tap0");
    let mac = namespace.inside(|| host::interface("tap0")).unwrap().mac.unwrap();
    let (longest, has_size) = transfer(&mut toy(&namespace, device, mac), &namespace);
    assert!(has_size && (!offload || longest > 3_000), "longest packet: {longest} bytes");
}

/// Without offload an interface that was there before has no virtio-net header in front of frames, and stays.
fn tap_that_was_there() {
    let namespace = Namespace::new("dev");
    namespace.run("ip tuntap add dev tap0 mode tap; ip link set tap0 up");
    let header = || namespace.run("cat /sys/class/net/tap0/tun_flags").trim().trim_start_matches("0x").chars().rev().nth(3) == Some('5');
    let device = namespace.inside(|| TunTap::tap("tap0").and_then(|tap| tap.mac(OWN_MAC).offload(false))).unwrap();
    assert!(!header(), "no header");
    configure(&namespace, "tap0");
    let mac = namespace.inside(|| host::interface("tap0")).unwrap().mac.unwrap();
    let (_, has_size) = transfer(&mut toy(&namespace, device, mac), &namespace);
    assert!(has_size);
    let device = namespace.inside(|| TunTap::tap("tap0").and_then(|tap| tap.offload(false)?.offload(true))).unwrap();
    assert!(header() && device.properties().offload.checksum, "a header");
}

fn tun(offload: bool) {
    let namespace = Namespace::new("dev");
    let device = namespace.inside(|| TunTap::tun("tun0").and_then(|tun| tun.offload(offload))).unwrap();
    assert_eq!(device.properties().medium, Medium::Ip);
    configure(&namespace, "tun0");
    let (longest, has_size) = transfer(&mut toy(&namespace, device, MacAddress::ZERO), &namespace);
    assert!(has_size && (!offload || longest > 3_000), "longest packet: {longest} bytes");
}

/// Without offload frames are read into room for the MTU of the start; the first longer one is cut, and counted.
fn tap_whose_mtu_grows() {
    let namespace = Namespace::new("dev");
    let device = namespace.inside(|| TunTap::tap("tap0").and_then(|tap| tap.mac(OWN_MAC).offload(false))).unwrap();
    configure(&namespace, "tap0");
    let mut toy = toy(&namespace, device, MacAddress::ZERO);
    namespace.run("ip link set tap0 mtu 9000");
    let socket = namespace.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    let payloads: Vec<_> = [(1, 1_400), (2, 8_000), (3, 8_000), (4, 1_400)].map(|(byte, length)| vec![byte; length]).into();
    payloads.iter().for_each(|payload| assert_eq!(socket.send_to(payload, (crate::toy::OURS, 9)).unwrap(), payload.len()));
    for payload in [&payloads[0], &payloads[2], &payloads[3]] {
        let whole = |toy: &Toy, packet: &Packet| {
            let (ip, udp) = toy.ip(packet)?;
            (ip.protocol == Protocol::UDP && udp.len() == usize::from(ip.total_length) - usize::from(ip.header_length)).then_some(udp)
        };
        let udp = toy.next(whole);
        assert_eq!(&udp[8..], payload);
    }
    assert_eq!(toy.receiver.losses(), Losses { kernel_drops: 0, truncated: 1 });
}

/// What the packet socket sends on a TUN comes out of the TUN's descriptor, and the other way round.
fn packet_socket_on_a_tun() {
    let namespace = Namespace::new("dev");
    let tun = namespace.inside(|| TunTap::tun("tun0")).unwrap();
    let socket = namespace.inside(|| PacketSocket::open("tun0")).unwrap();
    assert_eq!(socket.properties().medium, Medium::Ip);
    let (mut near, mut far) = (toy(&namespace, socket, MacAddress::ZERO), toy(&namespace, tun, MacAddress::ZERO));
    for _ in 0..2 {
        let packet = near.datagram(1, 2, b"over a tun");
        near.send(packet);
        let (ip, udp) = far.next(|toy, packet| toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::UDP));
        assert_eq!((ip.destination, &udp[8..]), (PEERS, &b"over a tun"[..]));
        std::mem::swap(&mut near, &mut far);
    }
}

fn deleted_tap() {
    let namespace = Namespace::new("dev");
    let tap = namespace.inside(|| TunTap::tap("tap0")).unwrap();
    let mut toy = toy(&namespace, tap, MacAddress::ZERO);
    namespace.run("ip link del tap0");
    expect_change(&mut toy, LinkChange::Gone);
    toy.waker.wake();
    let received = toy.receive();
    assert!(received.woken && received.link.is_none(), "nothing but the waker is left");
}

/// A descriptor that was opened inside is used outside, where its interface cannot be seen.
fn handed_over_tap() {
    let namespace = Namespace::new("dev");
    let descriptor = namespace.inside(|| TunTap::tap("tap0")).unwrap().into_fd();
    configure(&namespace, "tap0");
    let mac = namespace.inside(|| host::interface("tap0")).unwrap().mac.unwrap();
    let device = TunTap::from_fd(descriptor, TunTapKind::Tap, 1500, true).unwrap().mac(OWN_MAC);
    let mut toy = Toy::new(device, mac);
    transfer(&mut toy, &namespace);
    namespace.run("ip link del tap0");
    expect_change(&mut toy, LinkChange::Gone);
    toy.waker.wake();
    assert!(toy.receive().woken);
}

fn kernel_drops() {
    let (ours, peer, mac) = peers();
    let mut toy = toy(&ours, open(&ours, true), mac);
    assert_eq!(toy.receiver.losses(), Losses::default());
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    (0..1_500).for_each(|_| drop(socket.send_to(&[0; 60_000], (crate::toy::OURS, 9))));
    let frames = toy.drain(Duration::from_millis(300)).len();
    let losses = toy.receiver.losses();
    assert!(frames > 1_000 && losses.kernel_drops > 0, "{frames} frames, {losses:?}");
    assert_eq!(toy.receiver.losses().kernel_drops, 0, "counted once");
}

fn capture() {
    let (ours, peer, mac) = peers();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.pcapng");
    let capture = Capture::new(Box::new(open(&ours, true)), std::fs::File::create(&file).unwrap()).unwrap();
    let recorder = capture.recorder();
    let mut toy = toy(&ours, capture, mac);
    recorder.add_tls_secrets("CLIENT_RANDOM 00 00\n");
    transfer(&mut toy, &peer);
    recorder.finish().unwrap();
    assert_capture_is_clean(&file);
    assert!(tshark(&file, "tcp.len > 20000 && frame.p2p_dir == 0 || frame.packet_flags_direction == 2").lines().count() > 2);
    assert!(tshark(&file, "tcp.len > 3000 && frame.packet_flags_direction == 1").lines().count() > 0);

    let mut wrong = toy.datagram(1, 2, b"planted");
    wrong.offload.checksum = ChecksumState::Unknown;
    toy.send(wrong);
    recorder.finish().unwrap();
    assert_eq!(tshark(&file, "udp.checksum.status == 0").lines().count(), 1, "the check finds a bad checksum");
}

fn datagrams() {
    let (ours, peer, mac) = peers();
    let mut toy = toy(&ours, open(&ours, true), mac);
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let small = toy.datagram(40_000, 53, b"question");
    toy.send(small);
    let mut buffer = [0; 2000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    socket.send_to(b"answer", from).unwrap();
    let (state, transport) = toy.next(|toy, packet| {
        let (_, transport) = toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::UDP)?;
        Some((packet.offload.checksum, transport))
    });
    assert_eq!(&transport[8..], b"answer");
    assert!(matches!(state, ChecksumState::Partial { start: 34, offset: 6 }), "{state:?}");

    let mut large = toy.datagram(40_000, 53, &[7; 3000]);
    large.offload.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 1400 });
    toy.send(large);
    let lengths: Vec<usize> = (0..3).map(|_| socket.recv(&mut buffer).unwrap()).collect();
    assert_eq!(lengths, [1400, 1400, 200]);
}

fn interface_comes_and_goes() {
    let (ours, peer, mac) = peers();
    let mut toy = toy(&ours, open(&ours, true), mac);
    ours.run("ip link set vA down");
    expect_change(&mut toy, LinkChange::Down);
    let packet = toy.datagram(1, 53, b"lost");
    assert_eq!(toy.send(packet).refused, 1, "a frame is refused while it is down");
    ours.run("ip link set vA up");
    expect_change(&mut toy, LinkChange::Up);
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    peer.run(&format!("ip neigh replace 192.0.2.1 lladdr {OWN_MAC} dev vB"));
    socket.send_to(b"still there", (crate::toy::OURS, 9)).unwrap();
    toy.next(|toy, packet| toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::UDP));
    peer.run("ip link set vB down");
    expect_change(&mut toy, LinkChange::Down);
    peer.run("ip link del vB");
    expect_change(&mut toy, LinkChange::Gone);
    toy.waker.wake();
    assert!(toy.receive().woken, "only the waker is left");
}

#[track_caller]
fn expect_change(toy: &mut Toy, change: LinkChange) {
    for _ in 0..100 {
        if let Some(position) = toy.changes.iter().position(|&seen| seen == change) {
            toy.changes.drain(..=position);
            return;
        }
        toy.receive();
    }
    panic!("no news of {change:?}");
}

fn waker() {
    let (ours, peer, mac) = peers();
    let mut toy = toy(&ours, open(&ours, true), mac);
    toy.waker.wake();
    toy.waker.wake();
    assert!(toy.receive().woken);
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.send_to(b"one", (crate::toy::OURS, 9)).unwrap();
    while toy.inbox.is_empty() {
        assert!(!toy.receive().woken, "two wakes are one");
    }
    let mut batch = Vec::new();
    socket.send_to(b"two", (crate::toy::OURS, 9)).unwrap();
    toy.waker.wake();
    let received = toy.receiver.receive(&toy.pool, 0, true, &mut batch).unwrap();
    assert!(received.woken || received.writable);
    assert!(batch.is_empty(), "a limit of zero reads nothing");
}

fn vlan_tags() {
    let (ours, peer, mac) = peers();
    let mut near = toy(&ours, open(&ours, true), mac);
    let mut far = toy(&peer, peer.inside(|| PacketSocket::open("vB")).unwrap(), OWN_MAC);
    let frame = [&OWN_MAC.octets()[..], &mac.octets(), &[0x81, 0, 0x20, 7, 8, 0], b"tagged"].concat();
    let packet = Packet::from_bytes(&far.pool, &frame);
    far.send(packet);
    let received = near.next(|_, packet| packet.to_vec().ends_with(b"tagged").then(|| packet.to_vec()));
    assert_eq!(received, frame);
}

fn refused_frames() {
    let (ours, peer, mac) = peers();
    let mut toy = toy(&ours, open(&ours, true), mac);
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut frames = [&[1; 10][..], &[2; 5000], &[3; 10]].map(|payload| toy.datagram(1, 53, payload)).into();
    let sent = toy.sender.send(&mut frames).unwrap();
    assert_eq!((sent.frames, sent.refused, frames.len()), (2, 1, 0));
    let mut buffer = [0; 100];
    assert_eq!((0..2).map(|_| socket.recv(&mut buffer).map(|_| buffer[0]).unwrap()).collect::<Vec<_>>(), [1, 3]);
}

fn own_mac() {
    let (ours, peer, mac) = peers();
    ours.run("ip address add 192.0.2.3/24 dev vA");
    let mut toy = toy(&ours, open(&ours, true), mac);
    peer.run("ping -c 1 -W 5 192.0.2.3");
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.send_to(b"for us", (crate::toy::OURS, 9)).unwrap();
    let packets = toy.drain(Duration::from_millis(100));
    let protocols: Vec<_> = packets.iter().filter_map(|packet| toy.ip(packet)).map(|(ip, _)| ip.protocol).collect();
    assert_eq!(protocols, [Protocol::UDP], "the host's ping is not ours");
}

fn forwarding() {
    let (ours, _peer, _) = peers();
    let own = ours.inside(|| host::interface("vA")).unwrap().mac.unwrap();
    let open = || ours.inside(|| PacketSocket::open("vA").and_then(|socket| socket.mac(own)));
    ours.run("sysctl -qw net.ipv4.ip_forward=0");
    assert!(open().is_ok());
    ours.run("sysctl -qw net.ipv4.ip_forward=1");
    let error = open().err().unwrap().to_string();
    assert!(error.contains("vA") && error.contains("forward") && !error.contains('\n'), "{error}");
}
