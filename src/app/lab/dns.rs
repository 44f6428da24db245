//! The lab's name server: one zone, answered from memory.
//!
//! Owns the zone and what is said to a query. Refuses recursion and to know sockets.

use crate::wire::dns::{CharacterString, Header, Message, Name, Question, Record, RecordData, RecordType, ResponseCode, StartOfAuthority};
use std::net::Ipv4Addr;

/// Seconds that the lab's records may be kept.
const LIFETIME: u32 = 60;
/// Aliases followed for one answer: two of the zone's are a loop.
const MOST_ALIASES: usize = 8;

/// A zone in memory.
pub(super) struct Zone {
    apex: Name,
    records: Vec<Record>,
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Send(Message),
    /// Say nothing: names for trying timeouts.
    Silence,
}

impl Zone {
    /// `lab.test`: everything at `server`, and a few names that go wrong on purpose.
    pub(super) fn lab(server: Ipv4Addr, nobody: Ipv4Addr) -> Zone {
        let mut records = vec![
            record("lab.test", RecordData::A(server)),
            record("lab.test", RecordData::Ns(name("ns.lab.test"))),
            record("lab.test", RecordData::Soa(Box::new(authority()))),
            record("ns.lab.test", RecordData::A(server)),
            record("www.lab.test", RecordData::A(server)),
            record("alias.lab.test", RecordData::Cname(name("www.lab.test"))),
            record("loop.lab.test", RecordData::Cname(name("pool.lab.test"))),
            record("pool.lab.test", RecordData::Cname(name("loop.lab.test"))),
            record("wrong.lab.test", RecordData::A(server)),
            record("dead.lab.test", RecordData::A(nobody)),
            record("text.lab.test", RecordData::Txt(text("a piece of text"))),
        ];
        // More than fits into a datagram: the answer has to come over TCP.
        records.extend((0..16).map(|index| record("big.lab.test", RecordData::Txt(text(&format!("{index:02} {}", "x".repeat(200)))))));
        records.extend((0..120).map(|_| record("many.lab.test", RecordData::A(server))));
        let reverse = Name::for_reverse_lookup(server.into());
        records.push(Record::new(reverse, LIFETIME, RecordData::Ptr(name("lab.test"))));
        Zone { apex: name("lab.test"), records }
    }

    /// What to say to `query`; `None` for what is no query.
    pub(super) fn answer(&self, query: &[u8]) -> Option<Reply> {
        let header = Header::parse(query).ok().filter(|header| !header.is_response)?;
        let Ok(asked) = Message::parse(query) else {
            return Some(Reply::Send(Message::failure(&header, ResponseCode::FORMAT_ERROR)));
        };
        let reply = match asked.questions.as_slice() {
            [question] if question.name == name("silent.lab.test") => Reply::Silence,
            [question] if question.name == name("broken.lab.test") => Reply::Send(asked.response(ResponseCode::SERVER_FAILURE)),
            [question] => Reply::Send(self.look_up(&asked, question)),
            _ => Reply::Send(asked.response(ResponseCode::FORMAT_ERROR)),
        };
        Some(reply)
    }

    fn look_up(&self, asked: &Message, question: &Question) -> Message {
        let mut found = Vec::new();
        let mut wanted = question.name.clone();
        for _ in 0..MOST_ALIASES {
            let here = |record: &&Record| record.name == wanted;
            found.extend(self.records.iter().filter(here).filter(|record| record.kind() == question.kind).cloned());
            let alias = self.records.iter().filter(here).find(|record| record.kind() == RecordType::CNAME);
            let Some(Record { data: RecordData::Cname(target), .. }) = alias.filter(|_| question.kind != RecordType::CNAME) else { break };
            found.extend(alias.cloned());
            wanted = target.clone();
        }
        self.respond(asked, &wanted, found)
    }

    fn respond(&self, asked: &Message, wanted: &Name, found: Vec<Record>) -> Message {
        let exists = self.records.iter().any(|record| record.name == *wanted);
        let is_ours = wanted.is_within(&self.apex) || exists;
        let code = match (is_ours, exists) {
            (false, _) => ResponseCode::NAME_ERROR,
            (true, true) => ResponseCode::NO_ERROR,
            (true, false) => ResponseCode::NAME_ERROR,
        };
        let mut response = asked.response(code);
        response.header.is_authoritative = true;
        response.header.recursion_available = true;
        if !found.iter().any(|record| record.kind() != RecordType::CNAME) {
            response.authorities.push(Record::new(self.apex.clone(), LIFETIME, RecordData::Soa(Box::new(authority()))));
        }
        response.answers = found;
        response
    }
}

fn record(owner: &str, data: RecordData) -> Record {
    Record::new(name(owner), LIFETIME, data)
}

/// The zone's names are constants of this file.
fn name(text: &str) -> Name {
    text.parse().unwrap_or_default()
}

fn text(text: &str) -> Vec<CharacterString> {
    CharacterString::new(text.as_bytes()).into_iter().collect()
}

fn authority() -> StartOfAuthority {
    StartOfAuthority {
        primary: name("ns.lab.test"),
        mailbox: name("hostmaster.lab.test"),
        serial: 1,
        refresh: 3_600,
        retry: 600,
        expire: 86_400,
        minimum: LIFETIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str, kind: RecordType) -> Message {
        let zone = Zone::lab([192, 0, 2, 1].into(), [192, 0, 2, 99].into());
        let query = Message::query(7, Question::new(name(text), kind), None);
        match zone.answer(&query.encode()) {
            Some(Reply::Send(message)) => message,
            other => panic!("no answer: {other:?}"),
        }
    }

    #[test]
    fn names_aliases_and_loops() {
        assert_eq!(ask("LAB.test", RecordType::A).answers.len(), 1);
        let kinds: Vec<_> = ask("alias.lab.test", RecordType::A).answers.iter().map(Record::kind).collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
        assert!(ask("loop.lab.test", RecordType::A).answers.iter().all(|record| record.kind() == RecordType::CNAME));
        assert_eq!(ask("1.2.0.192.in-addr.arpa", RecordType::PTR).answers.len(), 1);
    }

    #[test]
    fn what_is_not_there_is_said_with_an_soa() {
        let absent = ask("nowhere.lab.test", RecordType::A);
        assert_eq!((absent.response_code(), absent.negative_lifetime_seconds()), (ResponseCode::NAME_ERROR, Some(LIFETIME)));
        let empty = ask("lab.test", RecordType::AAAA);
        assert_eq!((empty.response_code(), empty.negative_lifetime_seconds()), (ResponseCode::NO_ERROR, Some(LIFETIME)));
        assert_eq!(ask("example.com", RecordType::A).response_code(), ResponseCode::NAME_ERROR);
    }

    #[test]
    fn big_answers_do_not_fit_into_a_datagram_and_nonsense_gets_none() {
        assert!(Message::parse(&ask("many.lab.test", RecordType::A).encode_within(1232)).unwrap().header.is_truncated);
        assert!(Message::parse(&ask("big.lab.test", RecordType::TXT).encode_within(1232)).unwrap().header.is_truncated);
        let zone = Zone::lab([192, 0, 2, 1].into(), [192, 0, 2, 99].into());
        assert_eq!(zone.answer(b"x"), None);
        assert_eq!(zone.answer(&ask("lab.test", RecordType::A).encode()), None, "answers are not answered");
    }
}
