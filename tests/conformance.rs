//! The same programs on `std::net` over loopback and on Hopline over a virtual link: results and error kinds must be the same.

use hopline::device::virtual_link::{LinkOptions, pair};
use hopline::socket as hop;
use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

/// What happened, line by line.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn note<T: Debug>(&mut self, what: &str, result: io::Result<T>) {
        self.0.push(match result {
            Ok(value) => format!("{what}: {value:?}"),
            Err(error) => format!("{what}: {:?}", error.kind()),
        });
    }
}

/// Where a socket is.
#[derive(Copy, Clone)]
enum Side {
    Client,
    Server,
}

/// A place where programs run: a client's sockets and a server's.
trait World {
    type Stream: Stream;
    type Listener: Listener;
    type Udp: Udp;
    fn server(&self) -> IpAddr;
    fn listen(&self, port: u16) -> io::Result<Self::Listener>;
    fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    fn connect(&self, port: u16) -> io::Result<Self::Stream>;
    fn connect_timeout(&self, port: u16, timeout: Duration) -> io::Result<Self::Stream>;
    fn udp(&self, side: Side) -> Self::Udp;

    /// The client's end and the server's.
    fn connection(&self) -> (Self::Stream, Self::Stream) {
        let listener = self.listen(0).unwrap();
        let stream = self.connect(listener.local_addr().unwrap().port()).unwrap();
        (stream, self.accept(&listener).unwrap().0)
    }
}

/// Declares a trait, and implements it for the type of `std::net` and for ours by their methods of the same names.
macro_rules! same_methods {
    ($name:ident: $($bound:path),* ; $theirs:ty, $ours:ty ; $(fn $method:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        trait $name: $($bound +)* Sized {
            $(fn $method(&self $(, $argument: $type)*) -> $result;)*
        }
        impl $name for $theirs {
            $(fn $method(&self $(, $argument: $type)*) -> $result { <$theirs>::$method(self $(, $argument)*) })*
        }
        impl $name for $ours {
            $(fn $method(&self $(, $argument: $type)*) -> $result { <$ours>::$method(self $(, $argument)*) })*
        }
    };
}

same_methods! {
    Stream: Read, Write, Send;
    std::net::TcpStream, hop::TcpStream;
    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    fn try_clone(&self) -> io::Result<Self>;
    fn set_nonblocking(&self, on: bool) -> io::Result<()>;
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn read_timeout(&self) -> io::Result<Option<Duration>>;
    fn write_timeout(&self) -> io::Result<Option<Duration>>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_nodelay(&self, on: bool) -> io::Result<()>;
    fn ttl(&self) -> io::Result<u32>;
    fn set_ttl(&self, ttl: u32) -> io::Result<()>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

same_methods! {
    Listener: Send;
    std::net::TcpListener, hop::TcpListener;
    fn set_nonblocking(&self, on: bool) -> io::Result<()>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

same_methods! {
    Udp: Send;
    std::net::UdpSocket, hop::UdpSocket;
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    fn send(&self, buffer: &[u8]) -> io::Result<usize>;
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_nonblocking(&self, on: bool) -> io::Result<()>;
    fn set_broadcast(&self, on: bool) -> io::Result<()>;
    fn broadcast(&self) -> io::Result<bool>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
    fn send_to(&self, buffer: &[u8], to: SocketAddr) -> io::Result<usize>;
    fn connect(&self, to: SocketAddr) -> io::Result<()>;
}

/// `std::net` over loopback.
struct Theirs;

impl World for Theirs {
    type Stream = std::net::TcpStream;
    type Listener = std::net::TcpListener;
    type Udp = std::net::UdpSocket;

    fn server(&self) -> IpAddr {
        [127, 0, 0, 1].into()
    }
    fn listen(&self, port: u16) -> io::Result<std::net::TcpListener> {
        std::net::TcpListener::bind((self.server(), port))
    }
    fn accept(&self, listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        listener.accept()
    }
    fn connect(&self, port: u16) -> io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect((self.server(), port))
    }
    fn connect_timeout(&self, port: u16, timeout: Duration) -> io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect_timeout(&(self.server(), port).into(), timeout)
    }
    fn udp(&self, _side: Side) -> std::net::UdpSocket {
        std::net::UdpSocket::bind((self.server(), 0)).unwrap()
    }
}

/// Two stacks.
struct Ours {
    client: hop::Stack,
    server: hop::Stack,
}

impl Ours {
    fn new(handoff: hop::Handoff) -> Ours {
        let (left, right) = pair(LinkOptions::default());
        let build = |device, address: &str| {
            let builder = hop::Stack::builder().device(device).address(address.parse().unwrap());
            builder.handoff(handoff).seed(1).start().unwrap()
        };
        Ours { client: build(left, "192.0.2.1/24"), server: build(right, "192.0.2.2/24") }
    }
}

impl World for Ours {
    type Stream = hop::TcpStream;
    type Listener = hop::TcpListener;
    type Udp = hop::UdpSocket;

    fn server(&self) -> IpAddr {
        [192, 0, 2, 2].into()
    }
    fn listen(&self, port: u16) -> io::Result<hop::TcpListener> {
        self.server.listen((World::server(self), port))
    }
    fn accept(&self, listener: &hop::TcpListener) -> io::Result<(hop::TcpStream, SocketAddr)> {
        listener.accept()
    }
    fn connect(&self, port: u16) -> io::Result<hop::TcpStream> {
        self.client.connect((World::server(self), port))
    }
    fn connect_timeout(&self, port: u16, timeout: Duration) -> io::Result<hop::TcpStream> {
        self.client.connect_timeout((World::server(self), port), timeout)
    }
    fn udp(&self, side: Side) -> hop::UdpSocket {
        match side {
            Side::Client => self.client.bind_udp("192.0.2.1:0").unwrap(),
            Side::Server => self.server.bind_udp("192.0.2.2:0").unwrap(),
        }
    }
}

/// A port on which nobody listens.
fn closed_port<W: World>(world: &W) -> u16 {
    let port = world.listen(0).unwrap().local_addr().unwrap().port();
    // A dropped listener is gone once the next call has been served.
    drop(world.udp(Side::Server));
    port
}

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

fn reads_and_writes<W: World>(world: &W, log: &mut Transcript) {
    let (mut ours, mut theirs) = world.connection();
    log.note("write", ours.write(b"hello world"));
    log.note("write nothing", ours.write(b""));
    let mut buffer = [0; 5];
    log.note("read exactly", theirs.read_exact(&mut buffer).map(|()| buffer));
    log.note("peek", theirs.peek(&mut buffer).map(|count| buffer[..count].to_vec()));
    let (mut first, mut second) = ([0; 2], [0; 9]);
    log.note("read vectored", theirs.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]));
    log.note("got", Ok((first, second)));
    log.note("write vectored", ours.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")]));
    log.note("flush", ours.flush());
    drop(ours);
    let mut rest = Vec::new();
    log.note("read to the end", theirs.read_to_end(&mut rest).map(|_| rest));
    log.note("read at the end", theirs.read(&mut buffer));
}

fn half_close<W: World>(world: &W, log: &mut Transcript) {
    let (mut ours, mut theirs) = world.connection();
    log.note("shut writing down", ours.shutdown(Shutdown::Write));
    log.note("again", ours.shutdown(Shutdown::Write));
    log.note("write", ours.write(b"x"));
    log.note("peer reads", theirs.read(&mut [0; 1]));
    log.note("peer writes", theirs.write_all(b"answer"));
    let mut answer = [0; 6];
    log.note("read", ours.read_exact(&mut answer).map(|()| answer));
    log.note("shut reading down", ours.shutdown(Shutdown::Read));
    log.note("read", ours.read(&mut answer));
}

fn reset<W: World>(world: &W, log: &mut Transcript) {
    let (mut ours, theirs) = world.connection();
    ours.write_all(b"unread").unwrap();
    log.note("wait for it", theirs.peek(&mut [0; 1]));
    drop(theirs);
    log.note("read", ours.read(&mut [0; 1]));
    log.note("read again", ours.read(&mut [0; 1]));
    log.note("write", ours.write(b"x"));
    log.note("peer", ours.peer_addr().map(drop));
    log.note("shutdown", ours.shutdown(Shutdown::Both));
    log.note("error", ours.take_error());
}

fn reset_seen_by_take_error<W: World>(world: &W, log: &mut Transcript) {
    let (mut ours, theirs) = world.connection();
    ours.write_all(b"unread").unwrap();
    log.note("wait for it", theirs.peek(&mut [0; 1]));
    drop(theirs);
    let error = loop {
        if let Some(error) = ours.take_error().unwrap() {
            break error;
        }
        std::thread::yield_now();
    };
    log.note("error", Err::<(), _>(error));
    log.note("error again", ours.take_error());
    log.note("read", ours.read(&mut [0; 1]));
}

fn timeouts<W: World>(world: &W, log: &mut Transcript) {
    let (mut ours, _theirs) = world.connection();
    log.note("zero", ours.set_read_timeout(Some(Duration::ZERO)));
    log.note("zero", ours.set_write_timeout(Some(Duration::ZERO)));
    log.note("timeout", ours.read_timeout());
    log.note("set", ours.set_read_timeout(SHORT));
    log.note("timeout", ours.read_timeout());
    log.note("read", ours.read(&mut [0; 1]));
    log.note("peek", ours.peek(&mut [0; 1]));
    log.note("clone reads", ours.try_clone().and_then(|mut clone| clone.read(&mut [0; 1])));
    log.note("set", ours.set_read_timeout(None));
    log.note("non-blocking", ours.set_nonblocking(true));
    log.note("read", ours.read(&mut [0; 1]));
    log.note("set", ours.set_nonblocking(false));
    log.note("set", ours.set_write_timeout(SHORT));
    log.note("timeout", ours.write_timeout());
    let block = vec![0; 1 << 20];
    let full = (0..1_000).map(|_| ours.write(&block)).find_map(Result::err).unwrap();
    log.note("write until full", Err::<(), _>(full));
}

fn options<W: World>(world: &W, log: &mut Transcript) {
    let (ours, theirs) = world.connection();
    log.note("no delay", ours.nodelay());
    log.note("set", ours.set_nodelay(true));
    log.note("no delay", ours.nodelay());
    log.note("ttl", ours.ttl());
    log.note("set", ours.set_ttl(9));
    log.note("ttl", ours.ttl());
    log.note("set 0", ours.set_ttl(0));
    log.note("set 256", ours.set_ttl(256));
    log.note("error", ours.take_error());
    log.note(
        "ends meet",
        Ok((ours.peer_addr().unwrap() == theirs.local_addr().unwrap(), ours.local_addr().unwrap() == theirs.peer_addr().unwrap())),
    );
}

fn connecting<W: World>(world: &W, log: &mut Transcript) {
    log.note("nobody listens", world.connect(closed_port(world)).map(drop));
    log.note("nobody listens, in time", world.connect_timeout(closed_port(world), Duration::from_secs(5)).map(drop));
    log.note("no time", world.connect_timeout(closed_port(world), Duration::ZERO).map(drop));
}

fn listening<W: World>(world: &W, log: &mut Transcript) {
    let listener = world.listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    log.note("second listener", world.listen(port).map(drop));
    log.note("non-blocking", listener.set_nonblocking(true));
    log.note("accept", world.accept(&listener).map(drop));
    log.note("blocking", listener.set_nonblocking(false));
    let stream = world.connect(port).unwrap();
    log.note("accept", world.accept(&listener).map(|(_, peer)| peer == stream.local_addr().unwrap()));
    log.note("error", listener.take_error());
}

fn datagrams<W: World>(world: &W, log: &mut Transcript) {
    let (client, server) = (world.udp(Side::Client), world.udp(Side::Server));
    let (there, here) = (server.local_addr().unwrap(), client.local_addr().unwrap());
    let mut buffer = [0; 4];
    log.note("send", client.send_to(b"longer than that", there));
    log.note("send nothing", client.send_to(b"", there));
    log.note("peek", server.peek_from(&mut buffer).map(|(count, from)| (count, from == here)));
    log.note("receive", server.recv_from(&mut buffer).map(|(count, from)| (count, from == here, buffer)));
    log.note("receive nothing", server.recv_from(&mut buffer).map(|(count, from)| (count, from == here)));
    log.note("unconnected peer", client.peer_addr());
    log.note("connect", client.connect(there));
    log.note("connected peer", client.peer_addr().map(|peer| peer == there));
    log.note("send", client.send(b"1234"));
    log.note("receive", server.recv(&mut buffer));
    log.note("answer", server.send_to(b"ab", here));
    log.note("peek", client.peek(&mut buffer));
    log.note("receive", client.recv(&mut buffer));
    log.note("set", client.set_read_timeout(SHORT));
    log.note("receive", client.recv(&mut buffer));
    log.note("zero", client.set_read_timeout(Some(Duration::ZERO)));
    log.note("set", client.set_read_timeout(None));
    log.note("non-blocking", client.set_nonblocking(true));
    log.note("receive", client.recv(&mut buffer));
}

fn datagram_errors<W: World>(world: &W, log: &mut Transcript) {
    let (client, server) = (world.udp(Side::Client), world.udp(Side::Server));
    let there = server.local_addr().unwrap();
    drop(server);
    client.connect(there).unwrap();
    log.note("send", client.send(b"x"));
    log.note("receive", client.recv(&mut [0; 1]));
    log.note("error", client.take_error());
    let other = world.udp(Side::Client);
    log.note("broadcast", other.broadcast());
    log.note("send", other.send_to(b"x", "255.255.255.255:9".parse().unwrap()));
    log.note("port 0", other.send_to(b"x", SocketAddr::new(there.ip(), 0)));
    log.note("set", other.set_broadcast(true));
    log.note("broadcast", other.broadcast());
}

/// Runs one program in both worlds.
macro_rules! same {
    ($($program:ident)*) => {
        /// Each program leaves the same transcript in both worlds.
        mod same {
            use super::*;
            $(
                #[test]
                fn $program() {
                    let mut theirs = Transcript::default();
                    super::$program(&Theirs, &mut theirs);
                    for handoff in hop::Handoff::ALL {
                        let mut ours = Transcript::default();
                        super::$program(&Ours::new(handoff), &mut ours);
                        assert_eq!(ours.0, theirs.0, "{}", handoff.name());
                    }
                }
            )*
        }
    };
}

same! { reads_and_writes half_close reset reset_seen_by_take_error timeouts options connecting listening datagrams datagram_errors }
