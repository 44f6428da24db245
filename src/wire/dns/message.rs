//! Whole messages (RFC 1035 §4.1).
//!
//! Owns: the four sections, queries and responses as they are commonly built. What to leave out of a message that is too long
//! is in `packer`.

use super::decoder::{Decoder, PROTOCOL};
use super::edns::Edns;
use super::encoder::Encoder;
use super::header::{Header, ResponseCode};
use super::name::Name;
use super::packer::Packer;
use super::record::{Record, RecordClass, RecordType};
use super::record_data::RecordData;
use crate::wire::error::{Malformed, Reason};

/// A DNS message.
///
/// ```
/// use hopline::wire::dns::{Edns, Message, Question, Record, RecordData, RecordType, ResponseCode};
/// let question = Question::new("www.lab.test".parse()?, RecordType::A);
/// let query = Message::query(0x1234, question, Some(Edns::default()));
///
/// let asked = Message::parse(&query.encode())?;
/// let mut response = asked.response(ResponseCode::NO_ERROR);
/// let name = asked.questions[0].name.clone();
/// response.answers.push(Record::new(name, 60, RecordData::A([192, 0, 2, 80].into())));
/// let bytes = response.encode_within(asked.udp_payload_size());
/// assert_eq!(Message::parse(&bytes)?, response);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Identifier and flags.
    pub header: Header,
    /// What is asked: one question, in all messages that exist in practice.
    pub questions: Vec<Question>,
    /// Records that answer it.
    pub answers: Vec<Record>,
    /// Records that point to an authority; in negative answers the zone's SOA.
    pub authorities: Vec<Record>,
    /// Records that help, and EDNS.
    pub additionals: Vec<Record>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// About which name; its case is kept both ways.
    pub name: Name,
    /// About what.
    pub kind: RecordType,
    /// Nearly always [`RecordClass::INTERNET`].
    pub class: RecordClass,
}

impl Question {
    /// An Internet question.
    pub const fn new(name: Name, kind: RecordType) -> Self {
        Self { name, kind, class: RecordClass::INTERNET }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: decoder.take_name("question name")?,
            kind: RecordType(decoder.reader.take_u16("question type")?),
            class: RecordClass(decoder.reader.take_u16("question class")?),
        })
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.put_name(&self.name);
        encoder.put_u16(self.kind.0);
        encoder.put_u16(self.class.0);
    }
}

impl Message {
    /// Longest message in bytes: what the length in front of a message over TCP can say (RFC 1035 §4.2.2).
    pub const MAXIMUM_LENGTH: usize = 65_535;

    /// A query that asks for recursion.
    pub fn query(identifier: u16, question: Question, edns: Option<Edns>) -> Self {
        let header = Header { identifier, recursion_desired: true, ..Header::default() };
        let additionals = edns.map(Edns::into_record).into_iter().collect();
        Self { header, questions: vec![question], additionals, ..Self::default() }
    }

    /// A response to this query, still without records: identifier, opcode, "recursion desired" and the questions are
    /// taken over; EDNS is answered with EDNS (RFC 6891 §6.1.1).
    #[must_use]
    pub fn response(&self, code: ResponseCode) -> Self {
        let mut response = Self::failure(&self.header, code);
        response.questions.clone_from(&self.questions);
        if self.edns().is_some() {
            let extended_response_code = (code.0 >> 4) as u8;
            response.additionals.push(Edns { extended_response_code, ..Edns::default() }.into_record());
        }
        response
    }

    /// A response without questions, to a query of which only the header can be read.
    pub fn failure(query: &Header, code: ResponseCode) -> Self {
        let Header { identifier, opcode, recursion_desired, checking_disabled, .. } = *query;
        let header = Header {
            identifier,
            opcode,
            recursion_desired,
            checking_disabled,
            is_response: true,
            response_code: ResponseCode(code.0 & 0x0f),
            ..Header::default()
        };
        Self { header, ..Self::default() }
    }

    /// Reads a message. Bytes behind its last record are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let (header, counts) = Header::decode(&mut decoder)?;
        let [questions, answers, authorities, additionals] = counts;
        // The counts are only claims: nothing is allocated by them.
        let message = Self {
            header,
            questions: (0..questions).map(|_| Question::decode(&mut decoder)).collect::<Result<_, _>>()?,
            answers: take_records(&mut decoder, answers)?,
            authorities: take_records(&mut decoder, authorities)?,
            additionals: take_records(&mut decoder, additionals)?,
        };
        message.check_edns()?;
        Ok(message)
    }

    /// At most one OPT record, of the root (RFC 6891 §6.1.1, §6.1.2).
    fn check_edns(&self) -> Result<(), Malformed> {
        let mut found = self.additionals.iter().filter(|record| record.kind() == RecordType::OPT);
        let first_is_right = found.next().is_none_or(|record| record.name.is_root());
        if first_is_right && found.next().is_none() { Ok(()) } else { Err(Malformed::new(PROTOCOL, "OPT record", Reason::Invalid)) }
    }

    /// What the message says in its OPT record, if it has one.
    pub fn edns(&self) -> Option<Edns> {
        self.additionals.iter().find_map(Edns::from_record)
    }

    /// The largest UDP payload that may answer this query, in bytes: 512 or what EDNS says.
    pub fn udp_payload_size(&self) -> usize {
        let size = self.edns().map_or(Edns::MINIMUM_UDP_PAYLOAD_SIZE, |edns| edns.effective_udp_payload_size());
        usize::from(size)
    }

    /// The response code with the bits that EDNS adds.
    pub fn response_code(&self) -> ResponseCode {
        let extended = self.edns().map_or(0, |edns| edns.extended_response_code);
        ResponseCode((u16::from(extended) << 4) | (self.header.response_code.0 & 0x0f))
    }

    /// How long a negative answer may be kept, in seconds: the lesser of the SOA's own time to live and its minimum (RFC
    /// 2308 §5). `None` without an SOA: such an answer should not be kept.
    pub fn negative_lifetime_seconds(&self) -> Option<u32> {
        self.authorities.iter().find_map(|record| match &record.data {
            RecordData::Soa(authority) => Some(record.lifetime_seconds().min(authority.minimum)),
            _ => None,
        })
    }

    /// The message in bytes, at most [`MAXIMUM_LENGTH`](Self::MAXIMUM_LENGTH) of them.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_within(Self::MAXIMUM_LENGTH)
    }

    /// The message in at most `limit` bytes, which should be 512 or more.
    ///
    /// From the first record that does not fit on, all but EDNS is left out (RFC 6891 §7); the message is marked as
    /// truncated unless only additional records are missing (RFC 2181 §9).
    pub fn encode_within(&self, limit: usize) -> Vec<u8> {
        Packer::pack(self, limit.min(Self::MAXIMUM_LENGTH))
    }
}

fn take_records(decoder: &mut Decoder<'_>, count: u16) -> Result<Vec<Record>, Malformed> {
    (0..count).map(|_| Record::decode(decoder)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::name::strategies::any_name;
    use super::super::record_data::strategies::any_data;
    use super::*;
    use crate::wire::dns::{EdnsOption, StartOfAuthority};
    use crate::wire::testing::{bytes, config, mutate, mutations};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn address(host: &str, last: u8) -> Record {
        Record::new(name(host), 60, RecordData::A([192, 0, 2, last].into()))
    }

    /// What a server sent for `dig www.lab.test`: an alias, its address, an authority and EDNS.
    const RESPONSE: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x02\0\x01\0\x01\
        \x03www\x03lab\x04test\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x06\x03web\xc0\x10\
        \xc0\x2a\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x50\
        \xc0\x10\0\x02\0\x01\0\0\x0e\x10\0\x05\x02ns\xc0\x10\
        \0\0\x29\x04\xd0\0\0\0\0\0\0";

    fn response() -> Message {
        Message {
            header: Header {
                identifier: 0x1234,
                is_response: true,
                recursion_desired: true,
                recursion_available: true,
                ..Header::default()
            },
            questions: vec![Question::new(name("www.lab.test"), RecordType::A)],
            answers: vec![Record::new(name("www.lab.test"), 60, RecordData::Cname(name("web.lab.test"))), address("web.lab.test", 0x50)],
            authorities: vec![Record::new(name("lab.test"), 3600, RecordData::Ns(name("ns.lab.test")))],
            additionals: vec![Edns::default().into_record()],
        }
    }

    #[test]
    fn a_known_response_reads_and_writes() {
        assert_eq!(Message::parse(RESPONSE), Ok(response()));
        assert_eq!(response().encode(), RESPONSE);
    }

    #[test]
    fn queries_keep_the_case_of_letters() {
        let question = Question::new(name("wWw.LaB.tEst"), RecordType::AAAA);
        let query = Message::query(7, question.clone(), Some(Edns::default()));
        let parsed = Message::parse(&query.encode()).unwrap();
        assert!(parsed.questions[0].name.eq_exact_case(&question.name));
        assert!(parsed.header.recursion_desired && !parsed.header.is_response);
        assert_eq!(parsed.udp_payload_size(), 1232);
        let response = Message::parse(&parsed.response(ResponseCode::NO_ERROR).encode()).unwrap();
        assert!(response.questions[0].name.eq_exact_case(&question.name));
        assert!(response.header.is_response && response.header.recursion_desired);
    }

    #[test]
    fn edns_is_answered_with_edns_and_extends_the_code() {
        let question = Question::new(name("lab.test"), RecordType::A);
        let plain = Message::query(1, question.clone(), None);
        assert_eq!((plain.edns(), plain.udp_payload_size()), (None, 512));
        assert_eq!(plain.response(ResponseCode::REFUSED).edns(), None);
        let extended = Message::query(1, question, Some(Edns::default()));
        let response = extended.response(ResponseCode::BAD_VERSION);
        let parsed = Message::parse(&response.encode()).unwrap();
        assert_eq!(parsed.response_code(), ResponseCode::BAD_VERSION);
        assert_eq!(parsed.header.response_code, ResponseCode::NO_ERROR);
    }

    #[test]
    fn only_one_opt_record_and_only_of_the_root() {
        let refused = Err(Malformed::new("DNS", "OPT record", Reason::Invalid));
        let mut twice = response();
        twice.additionals.push(Edns::default().into_record());
        assert_eq!(Message::parse(&twice.encode()), refused);
        let mut named = response();
        named.additionals[0].name = name("test");
        assert_eq!(Message::parse(&named.encode()), refused);
    }

    #[test]
    fn what_does_not_fit_is_left_out_but_for_edns() {
        let mut large = response();
        large.answers.extend((0..60).map(|last| address("web.lab.test", last)));
        let bytes = large.encode_within(512);
        assert!(bytes.len() <= 512 && bytes.len() > 512 - 16 - 11);
        let parsed = Message::parse(&bytes).unwrap();
        assert!(parsed.header.is_truncated && parsed.edns().is_some());
        assert_eq!(parsed.answers, large.answers[..parsed.answers.len()]);
        assert!(parsed.authorities.is_empty());
    }

    #[test]
    fn missing_additional_records_are_no_truncation() {
        let mut large = response();
        large.additionals.splice(0..0, (0..60).map(|last| address("ns.lab.test", last)));
        let parsed = Message::parse(&large.encode_within(512)).unwrap();
        assert!(!parsed.header.is_truncated && parsed.edns().is_some());
        assert!(parsed.additionals.len() > 10 && parsed.additionals.len() < 61);
        assert_eq!(parsed.authorities, large.authorities);
    }

    #[test]
    fn no_message_outgrows_its_limit() {
        let raw = RecordData::Other { kind: RecordType(65280), raw: vec![0; 70_000] };
        let options = vec![EdnsOption { code: 1, data: vec![0; 70_000] }];
        let message = Message {
            answers: vec![Record::new(Name::root(), 0, raw)],
            additionals: vec![Edns { options, ..Edns::default() }.into_record()],
            ..Message::default()
        };
        let parsed = Message::parse(&message.encode()).unwrap();
        assert!(parsed.header.is_truncated && parsed.answers.is_empty() && parsed.additionals.is_empty());
    }

    #[test]
    fn negative_answers_live_as_long_as_the_soa_says() {
        let mut negative = response();
        assert_eq!(negative.negative_lifetime_seconds(), None);
        let authority = StartOfAuthority { minimum: 300, ..StartOfAuthority::default() };
        let soa = |ttl| Record::new(name("lab.test"), ttl, RecordData::Soa(Box::new(authority.clone())));
        negative.authorities = vec![soa(3600)];
        assert_eq!(negative.negative_lifetime_seconds(), Some(300));
        negative.authorities = vec![soa(60)];
        assert_eq!(negative.negative_lifetime_seconds(), Some(60));
    }

    #[test]
    fn errors_name_the_field() {
        let error = |bytes: &[u8]| Message::parse(bytes).unwrap_err();
        let truncated = |field| Malformed::new("DNS", field, Reason::Truncated);
        assert_eq!(error(&RESPONSE[..20]), truncated("question name"));
        assert_eq!(error(&RESPONSE[..27]), truncated("question type"));
        assert_eq!(error(&RESPONSE[..43]), truncated("record data"));
        let with = |at: usize, byte: u8| {
            let mut bytes = RESPONSE.to_vec();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(error(&with(41, 5)), truncated("CNAME name"));
        assert_eq!(error(&with(59, 3)), truncated("A address"));
        assert_eq!(error(&with(59, 5)), Malformed::new("DNS", "record data length", Reason::TooLarge));
        assert_eq!(error(&with(7, 9)), truncated("record name"));
    }

    #[test]
    fn addresses_of_other_classes_are_not_ours_to_read() {
        let mut chaos = address("lab.test", 1);
        chaos.class = RecordClass::CHAOS;
        let message = Message { answers: vec![chaos], ..Message::default() };
        let parsed = Message::parse(&message.encode()).unwrap();
        let raw = RecordData::Other { kind: RecordType::A, raw: vec![192, 0, 2, 1] };
        assert_eq!(parsed.answers[0].data, raw);
    }

    fn any_records() -> impl Strategy<Value = Vec<Record>> {
        let record = (any_name(), any::<u32>(), any_data()).prop_map(|(name, ttl, data)| Record::new(name, ttl, data));
        vec(record, 0..4)
    }

    fn any_edns() -> impl Strategy<Value = Edns> {
        let option = (any::<u16>(), vec(any::<u8>(), 0..10)).prop_map(|(code, data)| EdnsOption { code, data });
        (any::<(u16, u8, u8, bool)>(), vec(option, 0..3)).prop_map(
            |((udp_payload_size, extended_response_code, version, dnssec_ok), options)| Edns {
                udp_payload_size,
                extended_response_code,
                version,
                dnssec_ok,
                options,
            },
        )
    }

    prop_compose! {
        fn any_message()(
            header in any::<[u8; 12]>(),
            questions in vec((any_name(), any::<u16>(), any::<u16>()), 0..3),
            (answers, authorities, mut additionals) in (any_records(), any_records(), any_records()),
            edns in prop::option::of(any_edns()),
        ) -> Message {
            additionals.extend(edns.map(Edns::into_record));
            let questions = questions.into_iter()
                .map(|(name, kind, class)| Question { name, kind: RecordType(kind), class: RecordClass(class) })
                .collect();
            Message { header: Header::parse(&header).unwrap(), questions, answers, authorities, additionals }
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(message in any_message()) {
            prop_assert_eq!(Message::parse(&message.encode()), Ok(message));
        }

        #[test]
        fn cut_messages_are_refused(message in any_message(), at: Index) {
            let bytes = message.encode();
            prop_assert!(Message::parse(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_limit_is_kept_and_leaves_a_message(message in any_message(), limit in 12..600_usize) {
            let bytes = message.encode_within(limit);
            prop_assert!(bytes.len() <= limit);
            let parsed = Message::parse(&bytes).unwrap();
            prop_assert!(message.answers.starts_with(&parsed.answers));
        }

        #[test]
        fn no_input_panics(data in bytes(100), message in any_message(), mutations in mutations()) {
            let mut headed = RESPONSE[..12].to_vec();
            headed.extend(&data);
            for data in [data, headed, mutate(RESPONSE.to_vec(), &mutations), mutate(message.encode(), &mutations)] {
                if let Ok(message) = Message::parse(&data) {
                    let _ = (message.edns(), message.response_code(), message.negative_lifetime_seconds());
                    let all = [&message.answers, &message.authorities, &message.additionals];
                    all.into_iter().flatten().for_each(|record| assert!(!record.to_string().is_empty()));
                    prop_assert_eq!(Message::parse(&message.encode()), Ok(message));
                }
            }
        }
    }
}
