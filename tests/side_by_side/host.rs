//! What stands at an end of the cable: the kernel, or Hopline beside it on the same interface.

use crate::cable::{Cable, INTERFACE};
use hopline::device::linux::packet_socket::PacketSocket;
use hopline::socket::{Interest, Poller, Stack};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// The addresses of both ends.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
const PORT: u16 = 5_001;

/// Whose TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kernel,
    Hopline,
}

/// A connection's end, whoever's.
pub(crate) trait Stream: Read + Write + Send {}
impl Stream for std::net::TcpStream {}
impl Stream for hopline::socket::TcpStream {}

/// An end of the cable with something on it.
pub(crate) enum Host {
    Kernel(socket2::Socket),
    Hopline(Stack),
}

impl Host {
    fn new(cable: &Cable, end: usize, kind: Kind) -> Host {
        let namespace = &cable.namespaces[end];
        let address = ADDRESSES[end];
        match kind {
            Kind::Kernel => {
                namespace.run(&format!("ip address add {address}/24 dev {INTERFACE}"));
                let open = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                let socket = namespace.inside(open).expect("the kernel has sockets");
                socket.set_tcp_congestion(b"cubic").expect("the kernel has CUBIC");
                Host::Kernel(socket)
            }
            Kind::Hopline => {
                let start = || {
                    let device = PacketSocket::open(INTERFACE)?.offload(false);
                    Stack::builder().device(device).address(format!("{address}/24").parse().unwrap()).start()
                };
                Host::Hopline(namespace.inside(start).expect("the stack starts"))
            }
        }
    }
}

/// Two hosts with a connection between them.
pub(crate) struct Pair {
    /// The sender's end, then the receiver's.
    pub(crate) streams: [Box<dyn Stream>; 2],
    _stacks: [Option<Stack>; 2],
}

impl Pair {
    /// The first of `kinds` is at the cable's first end, listens, and is the one that sends.
    pub(crate) fn new(cable: &Cable, kinds: [Kind; 2]) -> Pair {
        let hosts = [0, 1].map(|end: usize| Host::new(cable, end, kinds[end]));
        let address = SocketAddr::from((ADDRESSES[0], PORT));
        let stacks = [0, 1].map(|end: usize| if let Host::Hopline(stack) = &hosts[end] { Some(stack.clone()) } else { None });
        let [sender, receiver] = hosts;
        let streams = match sender {
            Host::Kernel(listener) => {
                listener.bind(&address.into()).expect("the kernel binds");
                listener.listen(1).expect("the kernel listens");
                let connected = connect(receiver, address);
                let (accepted, _) = listener.accept().expect("the kernel accepts");
                [patient(accepted.into()), connected]
            }
            Host::Hopline(stack) => {
                let listener = stack.listen(address).expect("Hopline listens");
                let connected = connect(receiver, address);
                [accept(&listener), connected]
            }
        };
        Pair { streams, _stacks: stacks }
    }
}

fn connect(host: Host, address: SocketAddr) -> Box<dyn Stream> {
    match host {
        Host::Kernel(socket) => {
            socket.connect_timeout(&address.into(), PATIENCE).expect("the kernel connects");
            patient(socket.into())
        }
        Host::Hopline(stack) => patient_too(stack.connect(address).expect("Hopline connects")),
    }
}

fn accept(listener: &hopline::socket::TcpListener) -> Box<dyn Stream> {
    let poller = Poller::new().unwrap();
    poller.register(listener, 0, Interest::READABLE).unwrap();
    assert_eq!(poller.wait(&mut Vec::new(), Some(PATIENCE)).unwrap(), 1, "nobody connected");
    patient_too(listener.accept().expect("Hopline accepts").0)
}

fn patient(stream: std::net::TcpStream) -> Box<dyn Stream> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

fn patient_too(stream: hopline::socket::TcpStream) -> Box<dyn Stream> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}
