//! The networks of these tests: a kernel host, a Hopline host, and what lies between them.

use crate::common::{Namespace, Need, handoff, veth};
use hopline::config::Config;
use hopline::device::linux::packet_socket::PacketSocket;
use hopline::device::linux::tun_tap::TunTap;
use hopline::layer::DropReason;
use hopline::socket::{Stack, TcpListener, TcpStream};
use hopline::wire::MacAddress;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The kernel's address.
pub(crate) const KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Hopline's address on the same link.
pub(crate) const HOPLINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Hopline's address behind two routers.
pub(crate) const FAR_HOPLINE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Hopline's own station, beside the interface's.
const OWN_MAC: MacAddress = MacAddress([0x02, 0, 0x5e, 0, 0x53, 1]);
/// What a test without further needs cannot do without.
pub(crate) const NAMESPACES: &[Need] = &[Need::Namespaces, Need::Program("ethtool")];
/// Longest wait of a call that must succeed: far more than any takes, less than for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for a datagram: one that is lost is lost.
const DATAGRAM_PATIENCE: Duration = Duration::from_secs(10);

/// How Hopline reaches the kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// A packet socket with virtio-net headers: super-frames both ways.
    Veth,
    /// A packet socket with offload off on both ends of the cable.
    VethPlain,
    /// A TAP device with virtio-net headers.
    Tap,
    /// A TAP device without.
    TapPlain,
    /// A TUN device with virtio-net headers.
    Tun,
}

impl Medium {
    pub(crate) const ALL: [Medium; 5] = [Medium::Veth, Medium::VethPlain, Medium::Tap, Medium::TapPlain, Medium::Tun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Medium::Veth => "veth",
            Medium::VethPlain => "veth_without_offload",
            Medium::Tap => "tap",
            Medium::TapPlain => "tap_without_offload",
            Medium::Tun => "tun",
        }
    }
}

/// A kernel host and a Hopline host that reach each other. The stack ends before its namespaces do.
pub(crate) struct Network {
    pub(crate) stack: Stack,
    /// Hopline's address.
    pub(crate) address: Ipv4Addr,
    /// Where the kernel host lives.
    pub(crate) kernel: Namespace,
    /// Where Hopline's interface is, if not in `kernel`, and what lies between.
    pub(crate) others: Vec<Namespace>,
}

impl Network {
    /// Two hosts on one link.
    #[track_caller]
    pub(crate) fn new(medium: Medium) -> Network {
        match medium {
            Medium::Veth | Medium::VethPlain => Network::on_veth(medium == Medium::Veth, Config::default()),
            Medium::Tap => Network::on_tun_tap("tap0", TunTap::tap, true),
            Medium::TapPlain => Network::on_tun_tap("tap0", TunTap::tap, false),
            Medium::Tun => Network::on_tun_tap("tun0", TunTap::tun, true),
        }
    }

    /// A veth pair `k0`, in the kernel's namespace, to `h0`, in Hopline's.
    #[track_caller]
    pub(crate) fn on_veth(offload: bool, config: Config) -> Network {
        let (kernel, own) = (Namespace::new("interop"), Namespace::new("interop"));
        veth((&kernel, "k0", Some("192.0.2.1/24")), (&own, "h0", None));
        kernel.set_offload("k0", offload);
        own.set_offload("h0", offload);
        let stack = start_on_veth(&own, offload, "192.0.2.2/24", None, config);
        Network { stack, address: HOPLINE, kernel, others: vec![own] }
    }

    #[track_caller]
    fn on_tun_tap(name: &str, open: impl FnOnce(&str) -> std::io::Result<TunTap> + Send, offload: bool) -> Network {
        let kernel = Namespace::new("interop");
        if !offload {
            // One that lasts: there is no header in front of frames then.
            kernel.run(&format!("ip tuntap add dev {name} mode tap"));
        }
        let device = kernel.inside(|| open(name)?.offload(offload)).expect("the device is made");
        kernel.run(&format!("ip address add 192.0.2.1/24 dev {name}; ip link set {name} up"));
        let builder = Stack::builder().device(device).address("192.0.2.2/24".parse().unwrap()).handoff(handoff::current());
        let stack = kernel.inside(|| builder.start()).expect("the stack starts");
        Network { stack, address: HOPLINE, kernel, others: Vec::new() }
    }

    /// The kernel host, two routers with `middle_mtu` between them, and Hopline: three links. Segments are cut on the kernel's side and never
    /// merged on the way, so that what the routers lose are packets, not bursts.
    #[track_caller]
    pub(crate) fn routed(middle_mtu: usize, offload: bool) -> Network {
        let names = ["kernel", "near", "far", "own"].map(|_| Namespace::new("interop"));
        let [kernel, near, far, own] = names;
        veth((&kernel, "k0", Some("192.0.2.1/24")), (&near, "r0", Some("192.0.2.254/24")));
        veth((&near, "r1", Some("198.51.100.1/24")), (&far, "r1", Some("198.51.100.2/24")));
        veth((&far, "r2", Some("203.0.113.254/24")), (&own, "h0", None));
        for (namespace, interface) in [(&kernel, "k0"), (&near, "r0"), (&near, "r1"), (&far, "r1"), (&far, "r2"), (&own, "h0")] {
            namespace.set_offload(interface, offload);
        }
        kernel.run("ip route add default via 192.0.2.254");
        near.run("sysctl -qw net.ipv4.ip_forward=1; ip route add 203.0.113.0/24 via 198.51.100.2");
        far.run("sysctl -qw net.ipv4.ip_forward=1; ip route add 192.0.2.0/24 via 198.51.100.1");
        for router in [&near, &far] {
            router.run(&format!("ip link set r1 mtu {middle_mtu}"));
        }
        let stack = start_on_veth(&own, offload, "203.0.113.2/24", Some(Ipv4Addr::new(203, 0, 113, 254)), Config::default());
        Network { stack, address: FAR_HOPLINE, kernel, others: vec![near, far, own] }
    }

    /// Where Hopline's interface is.
    pub(crate) fn own(&self) -> &Namespace {
        self.others.last().unwrap_or(&self.kernel)
    }

    /// A connection from the kernel to a Hopline listener: the kernel's end, Hopline's end.
    #[track_caller]
    pub(crate) fn kernel_connects(&self) -> (std::net::TcpStream, TcpStream) {
        let listener = self.stack.listen((self.address, 0)).expect("Hopline listens");
        let target = SocketAddr::new(self.address.into(), listener.local_addr().unwrap().port());
        let theirs = self.kernel_stream(target).expect("the kernel connects");
        (theirs, patient(accept(&listener)))
    }

    /// A connection from Hopline to a kernel listener: the kernel's end, Hopline's end.
    #[track_caller]
    pub(crate) fn hopline_connects(&self) -> (std::net::TcpStream, TcpStream) {
        let listener = self.kernel_listener();
        let ours = self.stack.connect(listener.local_addr().unwrap()).expect("Hopline connects");
        let (theirs, _) = listener.accept().expect("the kernel accepts");
        (kernel_patient(theirs), patient(ours))
    }

    /// A kernel socket that connects to `target`, with CUBIC.
    pub(crate) fn kernel_stream(&self, target: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        let socket = self.kernel_socket();
        socket.connect_timeout(&target.into(), PATIENCE)?;
        Ok(kernel_patient(socket.into()))
    }

    /// A kernel socket that listens on any port of the kernel's address; what it accepts uses CUBIC.
    #[track_caller]
    pub(crate) fn kernel_listener(&self) -> std::net::TcpListener {
        let socket = self.kernel_socket();
        socket.bind(&SocketAddr::new(KERNEL.into(), 0).into()).expect("the kernel binds");
        socket.listen(256).expect("the kernel listens");
        socket.into()
    }

    /// A TCP socket inside the kernel's namespace. CUBIC is chosen for the socket: what the machine uses otherwise is not ours to change.
    #[track_caller]
    pub(crate) fn kernel_socket(&self) -> socket2::Socket {
        let open = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = self.kernel.inside(open).expect("the kernel has sockets");
        socket.set_tcp_congestion(b"cubic").expect("the kernel has CUBIC");
        socket
    }

    /// A kernel UDP socket on any port of the kernel's address.
    #[track_caller]
    pub(crate) fn kernel_datagrams(&self) -> std::net::UdpSocket {
        let socket = self.kernel.inside(|| std::net::UdpSocket::bind((KERNEL, 0))).expect("the kernel binds");
        socket.set_read_timeout(Some(DATAGRAM_PATIENCE)).unwrap();
        socket
    }

    /// A Hopline UDP socket on any port.
    #[track_caller]
    pub(crate) fn hopline_datagrams(&self) -> hopline::socket::UdpSocket {
        let socket = self.stack.bind_udp((self.address, 0)).expect("Hopline binds");
        socket.set_read_timeout(Some(DATAGRAM_PATIENCE)).unwrap();
        socket
    }

    /// Nothing was lost inside the stack, or on the way from the kernel's buffer to it. What a kernel that was kept waiting sends a second time (its
    /// connection may be gone by then), and multicast for others, are dropped rightly.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        let counters = self.stack.counters();
        // The kernel sends from several processors: an acknowledgement that a later segment overtakes has an old timestamp (RFC 7323 §5.3 R1).
        // What is sent again too early, on a busy machine, may find its connection gone: a reset answers it.
        let late = [DropReason::OutOfWindow, DropReason::OldTimestamp, DropReason::LateReset, DropReason::NoSocket];
        let rightly = [DropReason::NotForUs, DropReason::UnknownProtocol];
        let lost: Vec<_> = counters.all_dropped().filter(|(reason, _)| !late.contains(reason) && !rightly.contains(reason)).collect();
        let device = (counters.device.kernel_drops.get(), counters.device.truncated.get(), counters.pipeline.inbox_overflows.get());
        assert!(lost.is_empty() && device == (0, 0, 0), "lost {lost:?}\n{counters}");
    }
}

/// A stack with its own address on its own MAC, on the interface `h0` of `namespace`.
#[track_caller]
pub(crate) fn start_on_veth(namespace: &Namespace, offload: bool, address: &str, gateway: Option<Ipv4Addr>, config: Config) -> Stack {
    let start = || {
        let device = PacketSocket::open("h0")?.offload(offload).mac(OWN_MAC)?;
        let builder = Stack::builder().device(device).address(address.parse().unwrap()).config(config);
        let builder = builder.handoff(handoff::current());
        match gateway {
            Some(gateway) => builder.gateway(IpAddr::V4(gateway)).start(),
            None => builder.start(),
        }
    };
    namespace.inside(start).expect("the stack starts")
}

/// Runs a test that a single lost frame fails, again if the machine lost frames meanwhile: all veth pairs share one queue for each processor
/// (`net.core.netdev_max_backlog`), and other tests, or other work on the machine, may have filled it.
pub(crate) fn on_a_lossless_wire(body: impl Fn()) {
    for _ in 0..4 {
        let before = frames_lost_by_the_machine();
        let Err(panic) = catch_unwind(AssertUnwindSafe(&body)) else { return };
        if frames_lost_by_the_machine() == before {
            resume_unwind(panic);
        }
        eprintln!("the machine lost frames between the ends of a veth pair: once more");
    }
    body();
}

/// The second column of `/proc/net/softnet_stat`, a line for each processor.
fn frames_lost_by_the_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").expect("softnet_stat is readable");
    let numbers = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    numbers.map(|number| u64::from_str_radix(number, 16).expect("hexadecimal")).sum()
}

/// The next connection, within the time that everything has.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let poller = hopline::socket::Poller::new().unwrap();
    poller.register(listener, 0, hopline::socket::Interest::READABLE).unwrap();
    assert_eq!(poller.wait(&mut Vec::new(), Some(PATIENCE)).unwrap(), 1, "nobody connected");
    listener.accept().expect("Hopline accepts").0
}

/// Sets timeouts, so that a stall is a failure.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same for the kernel's.
pub(crate) fn kernel_patient(stream: std::net::TcpStream) -> std::net::TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}
