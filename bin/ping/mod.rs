//! The ping program: requests at intervals, replies as they come.

mod options;
mod statistics;

pub(crate) use options::PingOptions;

use crate::common::{INTERRUPTED, Session, say, tell};
use hopline::network::{DeliveryError, Fragmentation};
use hopline::socket::{EchoError, EchoReply, IcmpEvent, IcmpSocket};
use hopline::wire::dns::{Name, RecordData, RecordType};
use options::PathMtuHint;
use parking_lot::Mutex;
use statistics::{Reply, Statistics, milliseconds};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What ping calls an error of its own.
const TROUBLE: i32 = 2;
/// Bytes in front of the data: IPv4 and ICMP header.
const HEADERS: usize = 28;
const ICMP_HEADER: usize = 8;
/// iputils' wait for the last reply, without any to judge by.
const LAST_REPLY: Duration = Duration::from_secs(10);
/// A flood's requests without replies.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);

/// Runs to the end and returns the exit code.
pub(crate) fn run(options: &PingOptions, session: Session) -> i32 {
    let code = match Ping::new(options, &session) {
        Ok(mut ping) => ping.run_and_summarise(),
        Err(error) => {
            tell(format_args!("hopline-ping: {error}"));
            TROUBLE
        }
    };
    session.close(code)
}

struct Ping<'a> {
    options: &'a PingOptions,
    session: &'a Session,
    socket: IcmpSocket,
    destination: IpAddr,
    by_name: bool,
    statistics: Arc<Mutex<Statistics>>,
    data: Vec<u8>,
    buffer: Vec<u8>,
    names: HashMap<IpAddr, Option<String>>,
}

impl<'a> Ping<'a> {
    fn new(options: &'a PingOptions, session: &'a Session) -> io::Result<Ping<'a>> {
        let destination = resolve(options, session)?;
        let socket = session.stack().bind_icmp(Ipv4Addr::UNSPECIFIED.into())?;
        configure(&socket, options)?;
        let statistics = Arc::new(Mutex::new(Statistics::new(&options.host)));
        let ping = Ping {
            options,
            session,
            socket,
            destination,
            by_name: options.host.parse::<IpAddr>().is_err(),
            statistics,
            data: (0..options.size).map(|index| index as u8).collect(),
            buffer: vec![0; 65_535],
            names: HashMap::new(),
        };
        ping.arrange_for_interrupts();
        Ok(ping)
    }

    /// The first signal prints the summary and ends the stack.
    fn arrange_for_interrupts(&self) {
        let (closer, statistics) = (self.session.closer(), self.statistics.clone());
        let (count, deadline) = (self.options.count, self.options.deadline);
        self.session.interrupt().set_ending(move || {
            let statistics = statistics.lock();
            say(format_args!("{statistics}"));
            closer.close(Duration::from_secs(1));
            if statistics.sent() == 0 { INTERRUPTED } else { statistics.exit_code(count, deadline) }
        });
    }

    fn run_and_summarise(&mut self) -> i32 {
        let size = self.options.size as usize;
        say(format_args!("PING {} ({}) {size}({}) bytes of data.\n", self.options.host, self.destination, size + HEADERS));
        let result = self.run();
        if self.session.interrupt().has_come() {
            return TROUBLE;
        }
        let statistics = self.statistics.lock();
        if let Err(error) = result {
            tell(format_args!("hopline-ping: {error}"));
            return TROUBLE;
        }
        say(format_args!("{statistics}"));
        statistics.exit_code(self.options.count, self.options.deadline)
    }

    fn run(&mut self) -> io::Result<()> {
        let end = self.options.deadline.map(|deadline| Instant::now() + deadline);
        let mut next = Instant::now();
        while end.is_none_or(|end| Instant::now() < end) {
            if self.may_send() && Instant::now() >= next {
                next = Instant::now() + self.interval();
                self.send()?;
            }
            let until = if self.may_send() { next } else { self.last_call(next) };
            if self.is_done() || (!self.may_send() && Instant::now() >= until) {
                break;
            }
            let heard = self.receive_until(end.map_or(until, |end| until.min(end)))?;
            if heard && self.follows_replies() {
                next = Instant::now();
            }
        }
        Ok(())
    }

    fn interval(&self) -> Duration {
        let default = if self.follows_replies() { FLOOD_INTERVAL } else { Duration::from_secs(1) };
        self.options.interval.filter(|interval| !interval.is_zero()).unwrap_or(default)
    }

    /// As iputils has it, no interval is a flood's: the next request follows the reply, or goes after 10 ms without one.
    fn follows_replies(&self) -> bool {
        self.options.flood || self.options.interval.is_some_and(|interval| interval.is_zero())
    }

    /// A deadline makes `-c` count replies instead of requests.
    fn may_send(&self) -> bool {
        let statistics = self.statistics.lock();
        match (self.options.count, self.options.deadline) {
            (Some(count), Some(_)) => statistics.received() < count,
            (Some(count), None) => statistics.sent() < count,
            (None, _) => true,
        }
    }

    fn is_done(&self) -> bool {
        let statistics = self.statistics.lock();
        match (self.options.count, self.options.deadline) {
            (Some(count), Some(_)) => statistics.received() >= count,
            (Some(count), None) => statistics.sent() >= count && statistics.settled() >= count,
            (None, _) => false,
        }
    }

    /// Until when to wait for the replies to the last requests: twice the longest round trip, if one is known.
    fn last_call(&self, next: Instant) -> Instant {
        let sent = next.checked_sub(self.interval()).unwrap_or(next);
        let known = self.statistics.lock().longest_round_trip();
        let usual = known.map_or(LAST_REPLY, |longest| (2 * longest).max(self.interval()));
        sent + self.options.timeout.unwrap_or(usual)
    }

    fn send(&mut self) -> io::Result<()> {
        if self.options.outstanding && !self.statistics.lock().last_is_answered() {
            let last = self.statistics.lock().sent() as u16;
            self.line(format_args!("no answer yet for icmp_seq={last}"));
        }
        // The statistics stay locked, so that the reply cannot be looked up before the request is noted.
        let mut statistics = self.statistics.lock();
        let number = statistics.next_number();
        let sent = match self.socket.send_echo(self.destination, number as u16, &self.data) {
            Ok(sent) => sent,
            Err(error) => return self.local_error(statistics, error),
        };
        statistics.request_sent(sent);
        drop(statistics);
        if self.options.flood && !self.options.quiet {
            say(format_args!("."));
        }
        Ok(())
    }

    fn local_error(&self, mut statistics: parking_lot::MutexGuard<'_, Statistics>, error: io::Error) -> io::Result<()> {
        statistics.request_sent(self.socket.now());
        note_local_error(&mut statistics, error)
    }

    /// Waits for one message; whether one came in time.
    fn receive_until(&mut self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.socket.set_read_timeout(Some(left))?;
        match self.socket.receive(&mut self.buffer) {
            Ok(IcmpEvent::Reply(reply)) => self.show_reply(&reply),
            Ok(IcmpEvent::Error(error)) => self.show_error(&error),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // What the stack found wrong with a request after it had been taken.
            Err(error) => note_local_error(&mut self.statistics.lock(), error)?,
        }
        Ok(true)
    }

    fn show_reply(&mut self, reply: &EchoReply) {
        let what = self.statistics.lock().reply_received(reply.sequence, reply.arrived);
        if self.options.quiet {
            return;
        }
        if self.options.flood {
            return say(format_args!("\x08 \x08"));
        }
        let (time, mark) = match what {
            Reply::First(time) => (Some(time), ""),
            Reply::Duplicate(time) => (time, " (DUP!)"),
        };
        let time = time.map(|time| format!(" time={} ms", milliseconds(time))).unwrap_or_default();
        let (bytes, who) = (reply.length + ICMP_HEADER, self.name_of(reply.source));
        self.line(format_args!("{bytes} bytes from {who}: icmp_seq={} ttl={}{time}{mark}", reply.sequence, reply.time_to_live));
    }

    fn show_error(&mut self, error: &EchoError) {
        self.statistics.lock().error_received();
        if self.options.quiet || self.options.flood {
            return;
        }
        let who = self.name_of(error.reporter);
        let sequence = error.sequence.unwrap_or_default();
        self.line(format_args!("From {who} icmp_seq={sequence} {}", describe(&error.error)));
    }

    /// `lab.test (192.0.2.1)`, or the address alone where names were not asked for.
    fn name_of(&mut self, address: IpAddr) -> String {
        if self.options.numeric || !self.by_name {
            return address.to_string();
        }
        let session = self.session;
        let name = self.names.entry(address).or_insert_with(|| reverse_lookup(session, address));
        name.as_ref().map_or_else(|| address.to_string(), |name| format!("{name} ({address})"))
    }

    fn line(&self, text: std::fmt::Arguments<'_>) {
        if self.options.timestamps {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            say(format_args!("[{}.{:06}] {text}\n", now.as_secs(), now.subsec_micros()));
        } else {
            say(format_args!("{text}\n"));
        }
    }
}

/// An error about one request alone: too long, no room, nobody there. What is wrong with the stack ends the program.
fn note_local_error(statistics: &mut Statistics, error: io::Error) -> io::Result<()> {
    let is_fatal = [io::ErrorKind::NetworkDown, io::ErrorKind::NotConnected, io::ErrorKind::ConnectionAborted, io::ErrorKind::Other];
    if is_fatal.contains(&error.kind()) {
        return Err(error);
    }
    statistics.error_received();
    tell(format_args!("hopline-ping: local error: {error}"));
    Ok(())
}

fn resolve(options: &PingOptions, session: &Session) -> io::Result<IpAddr> {
    let addresses = session.stack().resolve(&options.host)?;
    let family = |address: &&IpAddr| (!options.ipv4 || address.is_ipv4()) && (!options.ipv6 || address.is_ipv6());
    let found = addresses.iter().find(family).copied();
    found.ok_or_else(|| io::Error::other(format!("{} has no address of this family", options.host)))
}

fn configure(socket: &IcmpSocket, options: &PingOptions) -> io::Result<()> {
    if let Some(ttl) = options.ttl {
        socket.set_ttl(ttl.into())?;
    }
    let fragmentation = match options.path_mtu {
        Some(PathMtuHint::Do) => Fragmentation::Forbidden,
        Some(PathMtuHint::Want) => Fragmentation::LocalOnly,
        Some(PathMtuHint::Dont) | None => Fragmentation::Allowed,
    };
    socket.set_fragmentation(fragmentation)
}

fn reverse_lookup(session: &Session, address: IpAddr) -> Option<String> {
    let name = Name::for_reverse_lookup(address).to_string();
    let answer = session.lookup(&name, RecordType::PTR).ok()?;
    answer.records.iter().find_map(|record| match &record.data {
        RecordData::Ptr(name) => Some(name.to_string().trim_end_matches('.').to_owned()),
        _ => None,
    })
}

/// iputils' words.
fn describe(error: &DeliveryError) -> String {
    match error {
        DeliveryError::Unreachable { code } => match code {
            0 => "Destination Net Unreachable".to_owned(),
            1 => "Destination Host Unreachable".to_owned(),
            2 => "Destination Protocol Unreachable".to_owned(),
            3 => "Destination Port Unreachable".to_owned(),
            5 => "Source Route Failed".to_owned(),
            6 => "Destination Net Unknown".to_owned(),
            7 => "Destination Host Unknown".to_owned(),
            9 => "Destination Net Prohibited".to_owned(),
            10 => "Destination Host Prohibited".to_owned(),
            13 => "Packet filtered".to_owned(),
            code => format!("Dest Unreachable, Bad Code: {code}"),
        },
        DeliveryError::PacketTooBig { mtu } => format!("Frag needed and DF set (mtu = {mtu})"),
        DeliveryError::TimeExceeded { code: 0 } => "Time to live exceeded".to_owned(),
        DeliveryError::TimeExceeded { .. } => "Frag reassembly time exceeded".to_owned(),
        DeliveryError::ParameterProblem { pointer } => format!("Parameter problem: pointer = {pointer}"),
        DeliveryError::NoRoute => "Network is unreachable".to_owned(),
    }
}
