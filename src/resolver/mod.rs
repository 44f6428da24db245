//! Names to addresses: a DNS stub resolver.
//!
//! Owns the order in which a name is looked up: as an address literal, in the hosts file, in the cache, by asking servers, through the search
//! list. Refuses to be a recursive resolver: it asks servers that are. Read [`query`] first (the pure machine), then this driver, which blocks the
//! calling thread.
//!
//! Today's stack speaks IPv4, so hosts are looked up by A records alone.

pub mod cache;
pub mod carriers;
pub mod config;
pub mod hosts;
pub mod query;
mod stack;

pub use carriers::{Carriers, HostCarriers};
pub use config::ResolverConfig;
pub use hosts::Hosts;
pub use query::{Answer, LookupError};
pub use stack::Resolver;

use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::dns::{Name, RecordData, RecordType};
use cache::{Bounds, Cache, Outcome};
use parking_lot::Mutex;
use query::{Carrier, Query, Request, Step};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Looks names up and remembers what it found. Cheap to share by `Arc`; callers block, each on its own lookup.
pub struct Names {
    config: Arc<ResolverConfig>,
    hosts: Hosts,
    cache: Mutex<Cache>,
    random: Mutex<SecretRandom>,
    turn: AtomicUsize,
    started: std::time::Instant,
}

/// A name that could not be looked up: what an [`io::Error`] of this module carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    /// The name, as the program gave it.
    pub name: String,
    /// Why.
    pub cause: LookupError,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not resolve host {}: {}", self.name, self.cause)
    }
}

impl std::error::Error for ResolveError {}

impl From<ResolveError> for io::Error {
    fn from(error: ResolveError) -> io::Error {
        let kind = match error.cause {
            LookupError::NoSuchName { .. } | LookupError::NoData { .. } => io::ErrorKind::NotFound,
            LookupError::TimedOut => io::ErrorKind::TimedOut,
            LookupError::Unreachable => io::ErrorKind::HostUnreachable,
            LookupError::TooManyAliases => io::ErrorKind::InvalidData,
            LookupError::ServerFailed(_) | LookupError::NoServers => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl Names {
    /// Names are looked up as `config` says, `hosts` first; `random` makes identifiers and ports that nobody can guess.
    pub fn new(config: ResolverConfig, hosts: Hosts, random: SecretRandom) -> Names {
        let bounds =
            Bounds { entries: config.cache_entries, positive: config.maximum_time_to_live, negative: config.maximum_negative_time_to_live };
        Names {
            config: Arc::new(config),
            hosts,
            cache: Mutex::new(Cache::new(bounds)),
            random: Mutex::new(random),
            turn: AtomicUsize::new(0),
            started: std::time::Instant::now(),
        }
    }

    /// How names are looked up.
    pub fn config(&self) -> &ResolverConfig {
        &self.config
    }

    /// The addresses of a host, by name or literal. Never empty.
    ///
    /// Errors: `InvalidInput` for what cannot be a host's name, `NotFound` if there is no such host, and those of [`ResolveError`] if nobody
    /// could say.
    pub fn lookup_host(&self, carriers: &dyn Carriers, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        check_host_name(host)?;
        let known = self.hosts.lookup(host);
        if !known.is_empty() {
            return Ok(known.to_vec());
        }
        let answer = self.search(carriers, host, RecordType::A)?;
        Ok(answer.records.iter().filter_map(|record| address_in(&record.data)).collect())
    }

    /// The records of one type that a name has, without the search list and the hosts file.
    pub fn lookup(&self, carriers: &dyn Carriers, name: &str, kind: RecordType) -> io::Result<Answer> {
        let parsed = name.parse().map_err(|error| invalid_name(name, error))?;
        self.resolve(carriers, &parsed, kind).map_err(|cause| ResolveError { name: name.to_owned(), cause }.into())
    }

    /// Tries the search list's candidates until one exists. The first candidate's failure is told if none does, for it is what was meant.
    fn search(&self, carriers: &dyn Carriers, host: &str, kind: RecordType) -> io::Result<Answer> {
        let mut failure = None;
        for candidate in self.config.candidates(host) {
            let Ok(name) = candidate.parse::<Name>() else { continue };
            match self.resolve(carriers, &name, kind) {
                Ok(answer) => return Ok(answer),
                Err(cause @ (LookupError::NoSuchName { .. } | LookupError::NoData { .. })) => failure = failure.or(Some(cause)),
                Err(cause) => return Err(ResolveError { name: host.to_owned(), cause }.into()),
            }
        }
        let cause = failure.unwrap_or(LookupError::NoSuchName { lifetime_seconds: None });
        Err(ResolveError { name: host.to_owned(), cause }.into())
    }

    fn resolve(&self, carriers: &dyn Carriers, name: &Name, kind: RecordType) -> Outcome {
        let known = self.cache.lock().get(self.now(), name, kind);
        known.unwrap_or_else(|| {
            let outcome = self.ask(carriers, name, kind);
            self.cache.lock().put(self.now(), name.clone(), kind, &outcome);
            outcome
        })
    }

    fn ask(&self, carriers: &dyn Carriers, name: &Name, kind: RecordType) -> Outcome {
        let first = if self.config.rotate { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let random = self.random.lock().split();
        let mut query = Query::new(self.config.clone(), random, name.clone(), kind, first);
        let mut step = query.start(self.now());
        loop {
            step = match step {
                Step::Done(outcome) => return outcome,
                Step::Send(request) => self.carry(carriers, &mut query, &request),
                Step::Wait => query.failed(self.now()),
            }
        }
    }

    /// Does what a request says and reports what came of it, until the query wants something else.
    fn carry(&self, carriers: &dyn Carriers, query: &mut Query, request: &Request) -> Step {
        let mut step = Step::Wait;
        let timeout = request.deadline.since(self.now());
        let result = match request.carrier {
            Carrier::Datagram => carriers.datagram(request, timeout, &mut |from, bytes| {
                step = query.received(self.now(), from, bytes);
                step == Step::Wait
            }),
            Carrier::Stream => carriers.stream(request, timeout).map(|bytes| step = query.received(self.now(), request.server, &bytes)),
        };
        match result {
            Ok(()) => step,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => query.timed_out(self.now()),
            Err(_) => query.failed(self.now()),
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Letters, digits and hyphens (RFC 1123 §2.1), and underscores, which people use all the same.
fn check_host_name(host: &str) -> io::Result<()> {
    host.parse::<Name>().map_err(|error| invalid_name(host, error))?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host == "." || !host.bytes().all(is_allowed) {
        return Err(invalid_name(host, "a host name has letters, digits, hyphens and dots only"));
    }
    Ok(())
}

fn invalid_name(name: &str, why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a host name: {why}"))
}

fn address_in(data: &RecordData) -> Option<IpAddr> {
    match data {
        RecordData::A(address) => Some(IpAddr::V4(*address)),
        RecordData::Aaaa(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// How long a lookup may take at most, with every server silent.
pub fn longest_lookup(config: &ResolverConfig) -> Duration {
    let rounds = (0..config.attempts.min(16)).map(|round| config.timeout.saturating_mul(1 << round));
    rounds.sum::<Duration>().saturating_mul(config.servers.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dns::{Message, Record, ResponseCode, StartOfAuthority};
    use std::net::SocketAddr;

    /// A server in memory: knows `www.corp.test`, is silent about `silent.test`, wants TCP for `long.test`.
    #[derive(Default)]
    struct Server {
        asked: Mutex<Vec<(Carrier, String)>>,
    }

    impl Server {
        fn answer(&self, request: &Request) -> Message {
            let asked = Message::parse(&request.message).unwrap();
            let name = asked.questions[0].name.clone();
            let text = name.to_string().to_ascii_lowercase();
            self.asked.lock().push((request.carrier, text.clone()));
            let is_long = text == "long.test.";
            let code = if is_long || text == "www.corp.test." { ResponseCode::NO_ERROR } else { ResponseCode::NAME_ERROR };
            let mut answer = asked.response(code);
            answer.header.is_truncated = is_long && request.carrier == Carrier::Datagram;
            if code == ResponseCode::NO_ERROR {
                answer.answers.push(Record::new(name, 60, RecordData::A([192, 0, 2, 80].into())));
            } else {
                let authority = StartOfAuthority { minimum: 60, ..StartOfAuthority::default() };
                answer.authorities.push(Record::new(Name::root(), 60, RecordData::Soa(Box::new(authority))));
            }
            answer
        }
    }

    impl Carriers for Server {
        fn datagram(&self, request: &Request, _: Duration, take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) -> io::Result<()> {
            let answer = self.answer(request);
            if answer.questions[0].name == "silent.test".parse().unwrap() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            assert!(take("192.0.2.99:53".parse().unwrap(), &answer.encode()), "somebody else's answer is not enough");
            assert!(!take(request.server, &answer.encode()));
            Ok(())
        }

        fn stream(&self, request: &Request, _: Duration) -> io::Result<Vec<u8>> {
            Ok(self.answer(request).encode())
        }
    }

    fn names(search: &[&str]) -> Names {
        let config = ResolverConfig {
            servers: vec!["192.0.2.53:53".parse().unwrap()],
            search: search.iter().map(|domain| domain.to_string()).collect(),
            ..ResolverConfig::default()
        };
        Names::new(config, Hosts::parse("192.0.2.7 printer"), SecretRandom::from_seed(1))
    }

    #[test]
    fn literals_and_hosts_ask_nobody() {
        let (server, names) = (Server::default(), names(&[]));
        assert_eq!(names.lookup_host(&server, "192.0.2.1").unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(names.lookup_host(&server, "2001:db8::1").unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(names.lookup_host(&server, "Printer.").unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(server.asked.lock().is_empty());
    }

    #[test]
    fn the_search_list_is_tried_and_answers_are_remembered() {
        let (server, names) = (Server::default(), names(&["lan.test", "corp.test"]));
        for _ in 0..2 {
            assert_eq!(names.lookup_host(&server, "www").unwrap(), ["192.0.2.80".parse::<IpAddr>().unwrap()]);
        }
        let asked: Vec<_> = server.asked.lock().iter().map(|(_, name)| name.clone()).collect();
        assert_eq!(asked, ["www.lan.test.", "www.corp.test."]);
    }

    #[test]
    fn a_trailing_dot_means_this_name_and_no_other() {
        let (server, names) = (Server::default(), names(&["corp.test"]));
        let error = names.lookup_host(&server, "www.").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "could not resolve host www.: no such name");
    }

    #[test]
    fn truncated_answers_come_over_tcp_and_silence_times_out() {
        let (server, names) = (Server::default(), names(&[]));
        assert!(names.lookup_host(&server, "long.test").is_ok());
        assert_eq!(server.asked.lock().last().unwrap().0, Carrier::Stream);
        assert_eq!(names.lookup_host(&server, "silent.test").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_cannot_be_a_name_is_invalid_input() {
        let (server, names) = (Server::default(), names(&[]));
        let too_long = "a".repeat(64);
        for text in ["", ".", "a..b", "with space", "bücher.test", "a/b", too_long.as_str()] {
            assert_eq!(names.lookup_host(&server, text).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{text:?}");
        }
    }

    #[test]
    fn the_longest_lookup_is_the_sum_of_all_rounds() {
        let config = ResolverConfig::for_servers(&["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()]);
        assert_eq!(longest_lookup(&config), Duration::from_secs(2 * (5 + 10)));
    }
}
