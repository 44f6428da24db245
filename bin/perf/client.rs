//! The load: some flows in one or both directions for some seconds.

use super::report::{Direction, Flow, Report};
use hopline::socket::{Stack, TcpStream, UdpSocket};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const DISCARD_PORT: u16 = 9;
const GENERATE_PORT: u16 = 19;
/// Bytes of a read or write unless asked otherwise.
const STREAM_LENGTH: usize = 128 << 10;
/// Bytes of a datagram unless asked otherwise: what fits into an Ethernet frame.
const DATAGRAM_LENGTH: usize = 1_472;
/// Datagrams that a server is asked for at once.
const BURST: u32 = 1_000;
/// How long to wait for an answer, or for the next datagram of a burst.
const PATIENCE: Duration = Duration::from_millis(500);

/// What load to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The server: `hopline-perf serve`, or whatever offers the same ports.
    pub(crate) host: String,
    /// Seconds to run.
    #[arg(short = 't', long, default_value_t = 10.0)]
    time: f64,
    /// Flows at once, in each direction.
    #[arg(short = 'P', long, default_value_t = 1)]
    parallel: usize,
    /// The server sends.
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Both send.
    #[arg(long, conflicts_with = "reverse")]
    bidir: bool,
    /// Bytes of each write, or of each datagram.
    #[arg(short = 'l', long)]
    length: Option<usize>,
    /// UDP instead of TCP.
    #[arg(short = 'u', long)]
    udp: bool,
    /// Print the report as JSON.
    #[arg(short = 'J', long)]
    json: bool,
}

impl Options {
    fn directions(&self) -> &'static [Direction] {
        match (self.bidir, self.reverse) {
            (true, _) => &[Direction::Sent, Direction::Received],
            (false, true) => &[Direction::Received],
            (false, false) => &[Direction::Sent],
        }
    }

    fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.time).unwrap_or(Duration::MAX)
    }
}

/// Runs every flow on a thread of its own and prints what they moved.
pub(crate) fn run(stack: &Stack, options: &Options) -> io::Result<()> {
    let kinds = options.directions().iter().flat_map(|&direction| std::iter::repeat_n(direction, options.parallel));
    let flows = std::thread::scope(|scope| {
        let threads: Vec<_> = kinds.map(|direction| scope.spawn(move || run_flow(stack, options, direction))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<io::Result<Vec<_>>>()
    })?;
    let report = Report { flows };
    if options.json {
        println!("{}", report.json())
    } else {
        print!("{report}")
    }
    Ok(())
}

fn run_flow(stack: &Stack, options: &Options, direction: Direction) -> io::Result<Flow> {
    let connect = |port| stack.connect((options.host.as_str(), port));
    match (options.udp, direction) {
        (false, Direction::Sent) => send_stream(connect(DISCARD_PORT)?, options),
        (false, Direction::Received) => receive_stream(connect(GENERATE_PORT)?, options),
        (true, Direction::Sent) => send_datagrams(&datagram_socket(stack, &options.host, DISCARD_PORT)?, options),
        (true, Direction::Received) => receive_datagrams(&datagram_socket(stack, &options.host, GENERATE_PORT)?, options),
    }
}

fn send_stream(mut stream: TcpStream, options: &Options) -> io::Result<Flow> {
    let bytes = vec![0; options.length.unwrap_or(STREAM_LENGTH)];
    let mut flow = Flow::new(Direction::Sent);
    let start = Instant::now();
    while start.elapsed() < options.duration() {
        flow.bytes += stream.write(&bytes)? as u64;
    }
    flow.stream = Some(stream.info()?);
    // The peer closes once it has read everything: only then has it arrived.
    stream.shutdown(std::net::Shutdown::Write)?;
    while stream.read(&mut [0; 1])? > 0 {}
    flow.time = start.elapsed();
    Ok(flow)
}

fn receive_stream(mut stream: TcpStream, options: &Options) -> io::Result<Flow> {
    let mut bytes = vec![0; options.length.unwrap_or(STREAM_LENGTH)];
    let mut flow = Flow::new(Direction::Received);
    let start = Instant::now();
    while start.elapsed() < options.duration() {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        flow.bytes += count as u64;
    }
    flow.time = start.elapsed();
    Ok(flow)
}

fn datagram_socket(stack: &Stack, host: &str, port: u16) -> io::Result<UdpSocket> {
    let address = stack.resolve(host)?.into_iter().next().ok_or(ErrorKind::NotFound)?;
    let socket = stack.bind_udp((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SocketAddr::new(address, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Floods the counting service, then asks how many datagrams arrived.
fn send_datagrams(socket: &UdpSocket, options: &Options) -> io::Result<Flow> {
    let bytes = vec![0; options.length.unwrap_or(DATAGRAM_LENGTH)];
    let mut flow = Flow::new(Direction::Sent);
    ask_count(socket)?;
    let start = Instant::now();
    while start.elapsed() < options.duration() {
        socket.send(&bytes)?;
        flow.datagrams_sent += 1;
    }
    flow.time = start.elapsed();
    flow.datagrams_delivered = ask_count(socket)?;
    flow.bytes = flow.datagrams_delivered * bytes.len() as u64;
    Ok(flow)
}

fn ask_count(socket: &UdpSocket) -> io::Result<u64> {
    let mut answer = [0; 8];
    for _ in 0..5 {
        socket.send(b"?")?;
        match socket.recv(&mut answer) {
            Ok(8) => return Ok(u64::from_be_bytes(answer)),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "the server's counting service does not answer"))
}

/// Asks for one burst after the other.
fn receive_datagrams(socket: &UdpSocket, options: &Options) -> io::Result<Flow> {
    let size = u16::try_from(options.length.unwrap_or(DATAGRAM_LENGTH)).unwrap_or(u16::MAX);
    let mut flow = Flow::new(Direction::Received);
    let start = Instant::now();
    while start.elapsed() < options.duration() {
        flow.datagrams_sent += u64::from(BURST);
        flow.datagrams_delivered += receive_burst(socket, size)?;
    }
    flow.time = start.elapsed();
    flow.bytes = flow.datagrams_delivered * u64::from(size);
    Ok(flow)
}

fn receive_burst(socket: &UdpSocket, size: u16) -> io::Result<u64> {
    let mut request = b"!".to_vec();
    request.extend(BURST.to_be_bytes());
    request.extend(size.to_be_bytes());
    socket.send(&request)?;
    let mut bytes = vec![0; usize::from(size)];
    for received in 0..u64::from(BURST) {
        match socket.recv(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(received),
            result => result?,
        };
    }
    Ok(u64::from(BURST))
}
