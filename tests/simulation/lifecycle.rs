//! Connections that lead hard lives: seeded programs open, write, half-close, reset, drop and stop, over a bad link, on stacks whose layers come late.
//!
//! Whatever a program was told to be written, and was not reset afterwards, is read in its order, and the end of the stream exactly behind it; who is told a failure
//! is told it for a reason; nobody waits for ever, and nothing is left. `HOPLINE_SEEDS=20000` tries so many lives, `HOPLINE_SEEDS=4711..4712` one.

use super::pattern;
use hopline::config::{Config, SynCookies, TcpConfig};
use hopline::device::virtual_link::Impairments;
use hopline::device::{DeviceOffload, Medium};
use hopline::layer::DropReason;
use hopline::random::PublicRandom;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::{ConnectOptions, Keepalive, ListenOptions, TcpListener, TcpStream};
use hopline::time::Instant;
use hopline::transport::Message;
use hopline::transport::shared::Failure;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Lives that every run of the tests tries.
const FEW: u64 = 1_000;
const ADDRESSES: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
/// Listeners listen there; the connection with this index comes from so much above.
const PORT: u16 = 1_000;
/// Nobody has a reason to live longer.
const OLD: Duration = Duration::from_secs(3_600);
/// A program that cannot write all that it wants gives up after this time: its peer may do the same.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn whatever_programs_do_what_was_written_is_read_and_nothing_is_left() {
    for seed in seeds() {
        Life::new(seed).run();
    }
}

fn seeds() -> Range<u64> {
    let text = std::env::var("HOPLINE_SEEDS").unwrap_or(FEW.to_string());
    let number = |text: &str| text.parse().expect("HOPLINE_SEEDS is a number of seeds, or a range of them");
    text.split_once("..").map_or_else(|| 0..number(&text), |(first, end)| number(first)..number(end))
}

/// What the program at one end does next.
#[derive(Clone, Debug)]
enum Action {
    /// Writes so much; waits for room, for a while.
    Write(usize),
    /// Writes as much of that as there is room for.
    WriteSome(usize),
    WriteUrgent(usize),
    /// Reads, if there is something.
    Read(usize),
    Peek(usize),
    ShutDown(Shutdown),
    Linger(Duration),
    UserTimeout(Duration),
    NoDelay,
    QuickAck,
    CongestionControl,
    SendBuffer(usize),
    ReceiveBuffer(usize),
    Figures,
    /// A second handle comes and goes.
    Clone,
    /// The handle goes.
    Drop,
    /// Half-closes, reads to the end, and then drops the handle.
    Finish,
}

/// One end of a connection, and the program that has it.
#[derive(Debug, Default)]
struct End {
    stream: Option<TcpStream>,
    plan: VecDeque<(Duration, Action)>,
    /// When the next action is due.
    next_at: Instant,
    /// When the present one is given up.
    patient_until: Option<Instant>,
    /// What stands in the stream that it writes, and in the one that it reads.
    salts: [u8; 2],
    taken: usize,
    read: usize,
    has_finished_writing: bool,
    has_finished_reading: bool,
    /// It ended, or its program lets it go. Not so the server's end of a connection that nobody accepted.
    is_over: bool,
    saw_end: bool,
    failure: Option<ErrorKind>,
    /// It is hard to its peer: by linger, by a timeout, because its stack stops.
    is_hard: bool,
    /// Its stack was told to close or to fail everything.
    is_stopped: bool,
}

/// A connection that one of the hosts opens.
struct Conversation {
    from: usize,
    opens_at: Option<Instant>,
    first_data: usize,
    /// A segment that came late brought its cookie once more, and the server another connection.
    is_haunted: bool,
    /// The client's, the server's.
    ends: [End; 2],
}

/// Who accepts.
struct Server {
    listener: Option<TcpListener>,
    accepts_at: Instant,
    every: Duration,
    closes_at: Instant,
}

/// How a host is stopped.
#[derive(Copy, Clone, Debug)]
enum Stop {
    Close,
    Abort,
    Fail,
}

struct Life {
    seed: u64,
    world: World,
    hosts: [HostId; 2],
    servers: [Server; 2],
    conversations: Vec<Conversation>,
    stops: VecDeque<(Instant, usize, Stop)>,
}

fn millis(random: &mut PublicRandom, below: u32) -> Duration {
    Duration::from_micros(u64::from(random.below(below * 1_000)))
}

/// One of these.
fn pick<T: Clone>(random: &mut PublicRandom, choice: &[T]) -> T {
    choice[random.below(choice.len() as u32) as usize].clone()
}

/// A length: often short, sometimes long.
fn length(random: &mut PublicRandom) -> usize {
    let most = pick(random, &[1, 10, 100, 1_460, 3_000, 10_000, 60_000]);
    1 + random.below(most) as usize
}

fn options(random: &mut PublicRandom, address: [u8; 4]) -> HostOptions {
    let buffers = [4_096, 16 << 10, 64 << 10, 1 << 20];
    let (receive_buffer, send_buffer) = (pick(random, &buffers), pick(random, &buffers));
    let tcp = TcpConfig {
        receive_buffer,
        receive_buffer_maximum: receive_buffer * (1 + random.below(2) as usize),
        send_buffer,
        send_buffer_maximum: send_buffer * (1 + random.below(2) as usize),
        syn_queue: pick(random, &[1, 2, 1_024]),
        syn_cookies: pick(random, &[SynCookies::Off, SynCookies::WhenFull, SynCookies::WhenFull, SynCookies::Always]),
        rest_after: pick(random, &[Duration::from_millis(10), Duration::from_secs(1)]),
        loss_probes: random.chance(0.9),
        timestamps: random.chance(0.8),
        ..TcpConfig::default()
    };
    let all = DeviceOffload { checksum: true, tcp_segmentation_ipv4: true, tcp_segmentation_ipv6: true, udp_segmentation: true };
    HostOptions {
        medium: Medium::Ip,
        mtu: pick(random, &[576, 1_500, 1_500]),
        offload: pick(random, &[DeviceOffload::default(), all]),
        lag: Duration::from_millis(pick(random, &[0, 3, 100, 300])),
        config: Config { tcp, ..Config::default() },
        ..HostOptions::new(&format!("{}/24", Ipv4Addr::from(address)))
    }
}

fn link(random: &mut PublicRandom) -> Impairments {
    let often = |random: &mut PublicRandom| pick(random, &[0.0, 0.0, 0.02, 0.1]);
    Impairments {
        loss: often(random),
        duplication: often(random),
        reordering: often(random),
        reordering_delay: millis(random, 30),
        delay: millis(random, 40),
        jitter: pick(random, &[Duration::ZERO, Duration::from_millis(3)]),
        ..Impairments::default()
    }
}

fn plan(random: &mut PublicRandom) -> VecDeque<(Duration, Action)> {
    let steps = random.below(10);
    let mut plan: VecDeque<_> = (0..steps).map(|_| (pause(random), action(random))).collect();
    // Last words, with which the end may come at once.
    let words = if random.chance(0.5) { random.below(3) } else { 0 };
    plan.extend((0..words).map(|_| (pause(random), Action::WriteSome(length(random)))));
    let end = pick(random, &[Action::Finish, Action::Finish, Action::Drop]);
    plan.push_back((if words > 0 { Duration::ZERO } else { pause(random) }, end));
    plan
}

/// Often none, so that one batch has several wishes.
fn pause(random: &mut PublicRandom) -> Duration {
    let most = pick(random, &[0, 0, 3, 50, 1_000]);
    millis(random, most)
}

fn action(random: &mut PublicRandom) -> Action {
    match random.below(40) {
        0..12 => Action::Write(length(random)),
        12..20 => Action::WriteSome(length(random)),
        20..28 => Action::Read(length(random)),
        28 => Action::WriteUrgent(length(random)),
        29 => Action::Peek(length(random)),
        30 => Action::ShutDown(pick(random, &[Shutdown::Write, Shutdown::Write, Shutdown::Read, Shutdown::Both])),
        31 | 38 => Action::Linger(pick(random, &[Duration::ZERO, Duration::from_millis(50), Duration::from_secs(5)])),
        32 => Action::UserTimeout(Duration::from_millis(pick(random, &[300, 5_000]))),
        33 => pick(random, &[Action::NoDelay, Action::QuickAck]),
        34 => Action::CongestionControl,
        35 => Action::SendBuffer(length(random)),
        36 => Action::ReceiveBuffer(length(random)),
        37 => Action::Figures,
        _ => Action::Clone,
    }
}

impl End {
    fn new(random: &mut PublicRandom, salts: [u8; 2]) -> End {
        End { plan: plan(random), salts, ..End::default() }
    }

    /// The peer may be reset without a word that arrives: who waits for it asks.
    fn begin(&mut self, now: Instant, stream: TcpStream) {
        let probes = Keepalive { idle: Duration::from_secs(20), interval: Duration::from_secs(5), count: 9 };
        stream.set_keepalive(Some(probes)).expect("an option");
        self.stream = Some(stream);
        self.wait(now);
    }

    /// Until the next action of the plan.
    fn wait(&mut self, now: Instant) {
        self.patient_until = None;
        self.next_at = self.plan.front().map_or(Instant::ZERO, |(pause, _)| now + *pause);
    }

    /// Whether it would do something by itself: when.
    fn next_event(&self, now: Instant) -> Option<Instant> {
        let later = [Some(self.next_at), self.patient_until].into_iter().flatten().filter(|&at| at > now).min();
        later.filter(|_| self.stream.is_some())
    }

    fn act(&mut self, now: Instant) {
        while let Some((_, action)) = self.plan.front().filter(|_| self.stream.is_some() && self.next_at <= now) {
            let action = action.clone();
            if !self.perform(now, action) {
                return;
            }
            self.plan.pop_front();
            self.wait(now);
        }
    }

    /// Performs one action; false if it goes on.
    fn perform(&mut self, now: Instant, action: Action) -> bool {
        match action {
            Action::Write(length) => return self.write(now, length),
            Action::Finish => return self.finish(),
            Action::Drop => self.drop_handle(),
            Action::WriteSome(length) => self.write_some(length, |stream, bytes| stream.write(bytes)),
            Action::WriteUrgent(length) => self.write_some(length, |stream, bytes| stream.write_urgent(bytes)),
            Action::Read(length) => self.read(length),
            Action::Peek(length) => self.peek(length),
            Action::ShutDown(how) => self.shut_down(how),
            Action::Clone => drop(self.with(TcpStream::try_clone)),
            other => self.set(&other),
        }
        true
    }

    /// Calls the stream, and notes how it failed.
    fn with<T>(&mut self, call: impl FnOnce(&TcpStream) -> io::Result<T>) -> Option<T> {
        match call(self.stream.as_ref()?) {
            Ok(value) => Some(value),
            Err(error) => {
                let kind = error.kind();
                // A socket that is not connected, or writes no more, is no failure of the connection's.
                if !matches!(kind, ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::BrokenPipe) {
                    self.failure = self.failure.or(Some(kind));
                }
                None
            }
        }
    }

    fn set(&mut self, action: &Action) {
        self.is_hard |= matches!(action, Action::Linger(_) | Action::UserTimeout(_));
        self.with(|stream| match *action {
            Action::Linger(time) => stream.set_linger(Some(time)),
            Action::UserTimeout(time) => stream.set_user_timeout(Some(time)),
            Action::NoDelay => stream.set_nodelay(true),
            Action::QuickAck => stream.set_quickack(true),
            Action::CongestionControl => stream.set_congestion_control("newreno"),
            Action::SendBuffer(bytes) => stream.set_send_buffer_size(bytes),
            Action::ReceiveBuffer(bytes) => stream.set_recv_buffer_size(bytes),
            _ => stream.info().map(|_| ()),
        });
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        (self.taken..self.taken + length).map(|position| pattern(self.salts[0], position)).collect()
    }

    fn write_some(&mut self, length: usize, write: impl FnOnce(&mut &TcpStream, &[u8]) -> io::Result<usize>) {
        let bytes = self.bytes(length);
        self.taken += self.with(|mut stream| write(&mut stream, &bytes)).unwrap_or(0);
    }

    /// Goes on until all is written, or it lasts too long.
    fn write(&mut self, now: Instant, length: usize) -> bool {
        let before = self.taken;
        self.write_some(length, |stream, bytes| stream.write(bytes));
        let left = length - (self.taken - before);
        let until = *self.patient_until.get_or_insert(now + PATIENCE);
        if left == 0 || self.failure.is_some() || self.has_finished_writing || now >= until {
            return true;
        }
        if let Some((_, Action::Write(length))) = self.plan.front_mut() {
            *length = left;
        }
        false
    }

    fn read(&mut self, room: usize) {
        let mut buffer = vec![0; room];
        if let Some(count) = self.with(|mut stream| stream.read(&mut buffer)) {
            self.check(&buffer[..count]);
            self.read += count;
            self.saw_end |= count == 0 && !self.has_finished_reading && self.failure.is_none();
            self.is_over |= count == 0;
        }
        self.is_over |= self.failure.is_some();
    }

    fn peek(&mut self, room: usize) {
        let mut buffer = vec![0; room];
        if let Some(count) = self.with(|stream| stream.peek(&mut buffer)) {
            self.check(&buffer[..count]);
        }
    }

    fn check(&self, bytes: &[u8]) {
        for (position, &byte) in (self.read..).zip(bytes) {
            assert_eq!(byte, pattern(self.salts[1], position), "byte {position} is another one");
        }
    }

    fn shut_down(&mut self, how: Shutdown) {
        if self.with(|stream| stream.shutdown(how)).is_some() {
            self.has_finished_writing |= how != Shutdown::Read;
            self.has_finished_reading |= how != Shutdown::Write;
        }
    }

    fn finish(&mut self) -> bool {
        if !self.has_finished_writing {
            self.shut_down(Shutdown::Write);
        }
        for _ in 0..100 {
            let before = self.read;
            self.read(2_000);
            if self.read == before {
                break;
            }
        }
        if self.is_over {
            self.drop_handle();
        }
        self.is_over
    }

    /// Whether there is one, if it failed.
    fn has_reason_to_fail(&self, peer: &End, has_forgotten_handshakes: bool) -> bool {
        // It is reset if there was nobody, or nobody any more, who could read what it wrote.
        let has_unread = !peer.is_over || peer.read < self.taken;
        let is_reset = peer.is_hard || has_unread || has_forgotten_handshakes;
        match self.failure {
            None => true,
            Some(ErrorKind::ConnectionReset) => is_reset,
            Some(ErrorKind::ConnectionRefused) => !peer.is_over,
            Some(ErrorKind::TimedOut) => self.is_hard || is_reset,
            Some(ErrorKind::ConnectionAborted | ErrorKind::NetworkDown) => self.is_stopped,
            Some(_) => false,
        }
    }

    fn drop_handle(&mut self) {
        self.stream = None;
        self.has_finished_writing = true;
        self.is_over = true;
    }
}

impl Conversation {
    fn new(random: &mut PublicRandom, index: u8) -> Conversation {
        let salts = [2 * index, 2 * index + 1];
        Conversation {
            from: random.below(2) as usize,
            opens_at: Some(Instant::ZERO + millis(random, 1_000)),
            first_data: if random.chance(0.1) { length(random).min(4_000) } else { 0 },
            is_haunted: false,
            ends: [End::new(random, salts), End::new(random, [salts[1], salts[0]])],
        }
    }
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut random = PublicRandom::from_seed(seed ^ 0x6c69_7665);
        let mut world = World::new(seed);
        let hosts = ADDRESSES.map(|address| world.host(options(&mut random, address)));
        world.join_each(&hosts.map(|host| (host, link(&mut random))));
        let servers = hosts.map(|host| {
            let backlog = Some(pick(&mut random, &[1, 2, 100]));
            let listener = world[host].listen_with(([0, 0, 0, 0], PORT), &ListenOptions { backlog, ..ListenOptions::default() });
            let patience = pick(&mut random, &[0, 0, 100, 3_000, 20_000]);
            Server {
                listener: Some(listener.expect("a listener")),
                accepts_at: Instant::ZERO + millis(&mut random, patience),
                every: millis(&mut random, 200),
                closes_at: Instant::ZERO + Duration::from_secs(2) + millis(&mut random, 10_000),
            }
        });
        let count = 1 + random.below(6) as u8;
        let conversations = (0..count).map(|index| Conversation::new(&mut random, index)).collect();
        Life { seed, world, hosts, servers, conversations, stops: stops(&mut random) }
    }

    fn run(mut self) {
        loop {
            if self.act() | self.world.settle() {
                continue;
            }
            let next = [self.world.next_event(), self.next_action()].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next < Instant::ZERO + OLD) else { break };
            if self.world.next_event() == Some(next) {
                self.world.step();
            } else {
                self.world.run_for(next.since(self.world.now()));
            }
        }
        self.look_back();
    }

    /// Everybody does what is due; whether that was anything that was planned.
    fn act(&mut self) -> bool {
        let now = self.world.now();
        let planned = self.stop(now) | self.open(now) | self.accept(now);
        for conversation in &mut self.conversations {
            conversation.ends.iter_mut().for_each(|end| end.act(now));
        }
        planned
    }

    fn next_action(&self) -> Option<Instant> {
        let now = self.world.now();
        let ends = self.conversations.iter().flat_map(|conversation| &conversation.ends).filter_map(|end| end.next_event(now));
        let opens = self.conversations.iter().filter_map(|conversation| conversation.opens_at);
        let open = self.servers.iter().filter(|server| server.listener.is_some());
        let servers = open.flat_map(|server| [server.accepts_at, server.closes_at]);
        ends.chain(opens).chain(servers).chain(self.stops.iter().map(|(at, ..)| *at)).filter(|&at| at > now).min()
    }

    fn stop(&mut self, now: Instant) -> bool {
        let Some(&(_, index, how)) = self.stops.front().filter(|(at, ..)| *at <= now) else { return false };
        self.stops.pop_front();
        self.world[self.hosts[index]].tell_transport(match how {
            Stop::Close => Message::CloseAll,
            Stop::Abort => Message::AbortAll,
            Stop::Fail => Message::FailAll(Failure::NetworkDown),
        });
        for conversation in &mut self.conversations {
            let end = &mut conversation.ends[index ^ conversation.from];
            end.is_stopped = true;
            end.is_hard |= !matches!(how, Stop::Close);
        }
        true
    }

    fn open(&mut self, now: Instant) -> bool {
        let mut opened = false;
        for (index, conversation) in self.conversations.iter_mut().enumerate() {
            if conversation.opens_at.is_none_or(|at| at > now) {
                continue;
            }
            (conversation.opens_at, opened) = (None, true);
            let client = &mut conversation.ends[0];
            let first_data = client.bytes(conversation.first_data);
            client.taken = first_data.len();
            let local = Some(SocketAddr::new([0, 0, 0, 0].into(), PORT + 1 + index as u16));
            let options = ConnectOptions { local, first_data, ..ConnectOptions::default() };
            let host = &mut self.world[self.hosts[conversation.from]];
            let stream = host.connect_with((ADDRESSES[1 - conversation.from], PORT), &options);
            client.begin(now, stream.expect("a stream that is about to be connected"));
        }
        opened
    }

    fn accept(&mut self, now: Instant) -> bool {
        let mut accepted = false;
        for (host, server) in self.servers.iter_mut().enumerate() {
            let Some(listener) = server.listener.as_ref().filter(|_| server.accepts_at <= now || server.closes_at <= now) else { continue };
            if server.closes_at <= now {
                server.listener = None;
                accepted = true;
            } else if let Ok((stream, remote)) = listener.accept() {
                let index = usize::from(remote.port() - PORT - 1);
                let conversation = &mut self.conversations[index];
                assert_eq!(conversation.from, 1 - host, "connection {index} is accepted by the wrong host");
                if conversation.ends[1].stream.is_some() || conversation.ends[1].is_over {
                    conversation.is_haunted = true;
                    continue;
                }
                conversation.ends[1].begin(now, stream);
                server.accepts_at = now + server.every;
                accepted = true;
            }
        }
        accepted
    }

    fn look_back(mut self) {
        for conversation in 0..self.conversations.len() {
            for end in 0..2 {
                self.look_back_at(conversation, end);
            }
        }
        self.conversations.clear();
        for host in self.hosts {
            self.look_back_at_host(host);
        }
    }

    fn look_back_at(&self, conversation: usize, index: usize) {
        let Conversation { from, is_haunted, ends, .. } = &self.conversations[conversation];
        let (end, peer) = (&ends[index], &ends[1 - index]);
        let who = format!("{} of connection {conversation}", ["the client", "the server"][index]);
        assert!(end.stream.is_none(), "{who} waits for ever");
        let server = &self.world[self.hosts[1 - from]].counters().transport;
        if *is_haunted {
            return assert!(server.syn_cookies_accepted.get() > 1, "{who} was accepted twice");
        }
        assert!(end.read <= peer.taken, "{who} read more than was written");
        if end.saw_end {
            assert!(peer.is_over && peer.has_finished_writing || peer.is_stopped, "{who} saw an end that nobody set");
            assert_eq!(end.read, peer.taken, "{who} saw the end before all that was written");
        }
        // Without state for a handshake, what overtakes its last segment is nobody's.
        assert!(end.has_reason_to_fail(peer, server.syn_cookies_failed.get() > 0), "{who} failed without a reason");
    }

    fn look_back_at_host(&self, host: HostId) {
        let (counters, path) = (self.world[host].counters(), self.world.link_counters(host)[0]);
        assert_eq!(self.world[host].connections(), 0, "connections are left");
        assert_eq!(self.world[host].next_event(), None, "a timer is left");
        assert_eq!(self.world[host].bytes_in_use(), 0, "bytes are left");
        assert_eq!(self.world[host].packets_under_way(), 0, "packets are under way for ever");
        assert_eq!(path.pushed, counters.device.frames_sent.get(), "frames sent");
        assert_eq!(path.pushed + path.duplicated, path.lost + path.queue_full + path.delivered, "frames on the link");
        let other = self.world[self.hosts[usize::from(host == self.hosts[0])]].counters();
        assert_eq!(path.delivered, other.device.frames_received.get(), "frames received");
        assert_eq!(path.delivered, other.network.packets_received.get(), "packets received");
        for reason in [DropReason::Malformed, DropReason::BadChecksum, DropReason::TooBig, DropReason::NoRoute, DropReason::InboxFull] {
            assert_eq!(counters.dropped(reason).get(), 0, "{}", reason.text());
        }
    }
}

/// What to look at when something was wrong.
impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Life { seed, world, conversations, .. } = self;
            for (index, Conversation { from, ends, .. }) in conversations.iter().enumerate() {
                eprintln!("connection {index} from host {from}:\n  {:?}\n  {:?}", ends[0], ends[1]);
            }
            eprintln!("{world}seed {seed}");
        }
    }
}

/// One in four has a host that stops: at once, or after a time of grace.
fn stops(random: &mut PublicRandom) -> VecDeque<(Instant, usize, Stop)> {
    let (host, at) = (random.below(2) as usize, Instant::ZERO + millis(random, 3_000));
    let grace = millis(random, 3_000);
    match random.below(12) {
        0 => [(at, host, Stop::Close)].into(),
        1 => [(at, host, Stop::Close), (at + grace, host, Stop::Abort)].into(),
        2 => [(at, host, pick(random, &[Stop::Abort, Stop::Fail]))].into(),
        _ => VecDeque::new(),
    }
}
