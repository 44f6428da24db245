//! One lookup as a state machine: whom to ask what, and what to make of the answers.
//!
//! Owns retries, the choice of servers, the checks that an answer belongs to the question, alias chains, the change to TCP. Refuses to send,
//! to wait, to read a clock, to remember anything after it is done. Read RFC 1035 §7, RFC 5452 §9 (what a forger must guess), RFC 7766 §5.
//!
//! A driver calls [`Query::start`], does what the [`Step`] says, and reports back by [`Query::received`], [`Query::failed`] or
//! [`Query::timed_out`] until the step is [`Step::Done`].

use super::config::ResolverConfig;
use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::dns::{Edns, Message, Name, Opcode, Question, Record, RecordClass, RecordData, RecordType, ResponseCode};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Records that answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name at the end of the chain of aliases.
    pub canonical_name: Name,
    /// Its records of the type asked for; at least one.
    pub records: Vec<Record>,
    /// Seconds that the whole may be kept: the least time to live along the chain.
    pub lifetime_seconds: u32,
}

/// Why a lookup gave no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// The name does not exist (RFC 2308 §2.1).
    NoSuchName {
        /// Seconds that this may be kept, if it may.
        lifetime_seconds: Option<u32>,
    },
    /// The name exists, without records of this type (RFC 2308 §2.2).
    NoData {
        /// Seconds that this may be kept, if it may.
        lifetime_seconds: Option<u32>,
    },
    /// Every server refused or failed; the last one's code.
    ServerFailed(ResponseCode),
    /// Servers could not be reached or sent nonsense.
    Unreachable,
    /// No server answered in time.
    TimedOut,
    /// The chain of aliases is too long, or a loop.
    TooManyAliases,
    /// There is nobody to ask.
    NoServers,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::NoSuchName { .. } => f.write_str("no such name"),
            LookupError::NoData { .. } => f.write_str("the name has no address of a usable kind"),
            LookupError::ServerFailed(code) => write!(f, "the DNS servers failed ({code})"),
            LookupError::Unreachable => f.write_str("the DNS servers could not be reached"),
            LookupError::TimedOut => f.write_str("no DNS server answered"),
            LookupError::TooManyAliases => f.write_str("too many aliases (a CNAME loop?)"),
            LookupError::NoServers => f.write_str("no DNS server is known"),
        }
    }
}

impl std::error::Error for LookupError {}

/// How a message travels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One UDP datagram, from a socket of its own, so that its port is random too (RFC 5452 §9.2).
    Datagram,
    /// TCP, with the length in front (RFC 1035 §4.2.2).
    Stream,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// To whom.
    pub server: SocketAddr,
    /// How.
    pub carrier: Carrier,
    /// The message, without the length that TCP wants.
    pub message: Vec<u8>,
    /// When to give up waiting and call [`Query::timed_out`].
    pub deadline: Instant,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this; earlier requests are void.
    Send(Request),
    /// Go on waiting: that was no answer to our question.
    Wait,
    /// The lookup is over.
    Done(Result<Answer, LookupError>),
}

/// One lookup.
pub struct Query {
    config: Arc<ResolverConfig>,
    random: SecretRandom,
    name: Name,
    kind: RecordType,
    turn: Turn,
    pending: Option<Pending>,
    aliases: u32,
    lifetime_seconds: u32,
    plain_dns: bool,
    failure: LookupError,
    ignored: u64,
}

/// Whose turn it is.
#[derive(Copy, Clone, Debug)]
struct Turn {
    first: usize,
    asked: usize,
}

/// The request under way.
#[derive(Debug)]
struct Pending {
    server: SocketAddr,
    carrier: Carrier,
    identifier: u16,
    question: Question,
}

impl Query {
    /// A lookup of `kind` records of `name`. `first_server` rotates the list of servers.
    pub fn new(config: Arc<ResolverConfig>, random: SecretRandom, name: Name, kind: RecordType, first_server: usize) -> Query {
        Query {
            config,
            random,
            name,
            kind,
            turn: Turn { first: first_server, asked: 0 },
            pending: None,
            aliases: 0,
            lifetime_seconds: u32::MAX,
            plain_dns: false,
            failure: LookupError::NoServers,
            ignored: 0,
        }
    }

    /// The first step.
    pub fn start(&mut self, now: Instant) -> Step {
        self.ask(now, Carrier::Datagram)
    }

    /// A message came from `from`.
    pub fn received(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Step {
        match self.judge(from, bytes) {
            Verdict::Ignore => self.ignore(),
            Verdict::AskOverStream => self.ask(now, Carrier::Stream),
            Verdict::AskPlainly => self.ask_plainly(now),
            Verdict::NextServer(failure) => self.next_server(now, failure),
            Verdict::Believe(message) => self.take_answer(now, &message),
        }
    }

    /// The server cannot be reached: refused, unreachable, or the stream broke.
    pub fn failed(&mut self, now: Instant) -> Step {
        self.next_server(now, LookupError::Unreachable)
    }

    /// The request's deadline has come.
    pub fn timed_out(&mut self, now: Instant) -> Step {
        self.next_server(now, LookupError::TimedOut)
    }

    /// Messages that were no answers to our questions: stray, late, or forged.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn ignore(&mut self) -> Step {
        self.ignored += 1;
        Step::Wait
    }

    /// The server whose turn it is; `None` after the last round.
    fn server(&self) -> Option<SocketAddr> {
        let count = self.config.servers.len();
        let limit = count.saturating_mul(self.config.attempts as usize);
        let index = self.turn.first.wrapping_add(self.turn.asked).checked_rem(count)?;
        if self.turn.asked < limit { self.config.servers.get(index).copied() } else { None }
    }

    /// Each round over the servers waits twice as long as the one before.
    fn deadline(&self, now: Instant) -> Instant {
        let round = self.turn.asked.checked_div(self.config.servers.len()).unwrap_or(0).min(16) as u32;
        now + self.config.timeout.saturating_mul(1 << round)
    }

    fn next_server(&mut self, now: Instant, failure: LookupError) -> Step {
        self.failure = failure;
        self.turn.asked += 1;
        self.ask(now, Carrier::Datagram)
    }

    fn ask_plainly(&mut self, now: Instant) -> Step {
        self.plain_dns = true;
        self.ask(now, Carrier::Datagram)
    }

    fn ask(&mut self, now: Instant, carrier: Carrier) -> Step {
        let Some(server) = self.server() else {
            self.pending = None;
            return Step::Done(Err(self.failure.clone()));
        };
        let question = Question::new(self.cased_name(carrier), self.kind);
        let identifier = self.random.next_u16();
        let edns = (!self.plain_dns).then(Edns::default);
        let message = Message::query(identifier, question.clone(), edns).encode();
        self.pending = Some(Pending { server, carrier, identifier, question });
        Step::Send(Request { server, carrier, message, deadline: self.deadline(now) })
    }

    /// Random upper and lower case is a few bits more for a forger to guess ("0x20"). Over TCP nobody can answer blindly.
    fn cased_name(&mut self, carrier: Carrier) -> Name {
        if self.config.mix_case && carrier == Carrier::Datagram {
            self.name.with_case(|| self.random.next_u16() & 1 == 1)
        } else {
            self.name.clone()
        }
    }

    /// RFC 5452 §9.1: server, identifier and question must be those of the request.
    fn judge(&self, from: SocketAddr, bytes: &[u8]) -> Verdict {
        let Some(pending) = self.pending.as_ref().filter(|pending| pending.server == from) else { return Verdict::Ignore };
        let Ok(message) = Message::parse(bytes) else { return pending.unreadable() };
        if !pending.is_answered_by(&message) {
            return Verdict::Ignore;
        }
        match message.response_code() {
            _ if message.header.is_truncated && pending.carrier == Carrier::Datagram => Verdict::AskOverStream,
            ResponseCode::NO_ERROR | ResponseCode::NAME_ERROR => pending.believe(message),
            // A server that does not know EDNS says so (RFC 6891 §7).
            ResponseCode::FORMAT_ERROR | ResponseCode::NOT_IMPLEMENTED if !self.plain_dns => Verdict::AskPlainly,
            code => Verdict::NextServer(LookupError::ServerFailed(code)),
        }
    }

    fn take_answer(&mut self, now: Instant, message: &Message) -> Step {
        let aliases_before = self.aliases;
        if self.follow_aliases(message).is_err() {
            return Step::Done(Err(LookupError::TooManyAliases));
        }
        let records = self.records_in(message);
        if !records.is_empty() {
            return Step::Done(Ok(self.answer(records)));
        }
        let lifetime_seconds = message.negative_lifetime_seconds().map(|seconds| seconds.min(self.lifetime_seconds));
        if message.response_code() == ResponseCode::NAME_ERROR {
            return Step::Done(Err(LookupError::NoSuchName { lifetime_seconds }));
        }
        if self.aliases > aliases_before && lifetime_seconds.is_none() {
            return self.ask(now, Carrier::Datagram);
        }
        if is_referral(message) {
            return self.next_server(now, LookupError::ServerFailed(ResponseCode::NO_ERROR));
        }
        Step::Done(Err(LookupError::NoData { lifetime_seconds }))
    }

    /// Goes from the name asked for to the end of the chain that the message holds (RFC 1034 §3.6.2).
    fn follow_aliases(&mut self, message: &Message) -> Result<(), TooLong> {
        if matches!(self.kind, RecordType::CNAME | RecordType::ANY) {
            return Ok(());
        }
        while let Some((target, lifetime_seconds)) = alias_of(message, &self.name) {
            self.aliases += 1;
            self.lifetime_seconds = self.lifetime_seconds.min(lifetime_seconds);
            if self.aliases > self.config.maximum_aliases {
                return Err(TooLong);
            }
            self.name = target.clone();
        }
        Ok(())
    }

    fn records_in(&self, message: &Message) -> Vec<Record> {
        let is_wanted = |record: &&Record| record.kind() == self.kind || self.kind == RecordType::ANY;
        internet_records(message, &self.name).filter(is_wanted).cloned().collect()
    }

    fn answer(&self, records: Vec<Record>) -> Answer {
        let least = records.iter().map(Record::lifetime_seconds).min().unwrap_or(0);
        Answer { canonical_name: self.name.clone(), records, lifetime_seconds: least.min(self.lifetime_seconds) }
    }
}

/// What to make of a message.
enum Verdict {
    Ignore,
    AskOverStream,
    AskPlainly,
    NextServer(LookupError),
    Believe(Box<Message>),
}

struct TooLong;

impl Pending {
    fn is_answered_by(&self, message: &Message) -> bool {
        let header = &message.header;
        let is_ours = header.is_response && header.opcode == Opcode::QUERY && header.identifier == self.identifier;
        match message.questions.as_slice() {
            [question] => is_ours && *question == self.question,
            // Some servers refuse without repeating the question.
            [] => is_ours && !matches!(message.response_code(), ResponseCode::NO_ERROR | ResponseCode::NAME_ERROR),
            _ => false,
        }
    }

    /// An answer that repeats our question in another case is forged, or from a server that does not keep case: TCP tells.
    fn believe(&self, message: Message) -> Verdict {
        let keeps_case = message.questions.iter().all(|question| question.name.eq_exact_case(&self.question.name));
        if keeps_case || self.carrier == Carrier::Stream { Verdict::Believe(Box::new(message)) } else { Verdict::AskOverStream }
    }

    /// Over UDP anybody may have sent it; over TCP the server did.
    fn unreadable(&self) -> Verdict {
        match self.carrier {
            Carrier::Datagram => Verdict::Ignore,
            Carrier::Stream => Verdict::NextServer(LookupError::Unreachable),
        }
    }
}

fn internet_records<'a>(message: &'a Message, name: &'a Name) -> impl Iterator<Item = &'a Record> {
    message.answers.iter().filter(move |record| record.class == RecordClass::INTERNET && record.name == *name)
}

fn alias_of<'a>(message: &'a Message, name: &'a Name) -> Option<(&'a Name, u32)> {
    internet_records(message, name).find_map(|record| match &record.data {
        RecordData::Cname(target) => Some((target, record.lifetime_seconds())),
        _ => None,
    })
}

/// "Ask them, I do not look further": of no use to a stub (RFC 2308 §2.2, the last of its forms).
fn is_referral(message: &Message) -> bool {
    let has = |kind| message.authorities.iter().any(|record| record.kind() == kind);
    !message.header.is_authoritative && has(RecordType::NS) && !has(RecordType::SOA)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
