use super::*;
use crate::time::Duration;
use crate::wire::dns::StartOfAuthority;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn server(index: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, index], 53))
}

fn config(servers: u8) -> ResolverConfig {
    ResolverConfig { servers: (1..=servers).map(server).collect(), timeout: Duration::from_secs(1), ..ResolverConfig::default() }
}

fn query_with(config: ResolverConfig, text: &str) -> Query {
    Query::new(Arc::new(config), SecretRandom::from_seed(7), name(text), RecordType::A, 0)
}

fn query(servers: u8) -> Query {
    query_with(config(servers), "www.some.longer.name.test")
}

#[track_caller]
fn sent(step: Step) -> (Request, Message) {
    let Step::Send(request) = step else { panic!("expected a request, not {step:?}") };
    let message = Message::parse(&request.message).unwrap();
    (request, message)
}

#[track_caller]
fn done(step: Step) -> Result<Answer, LookupError> {
    let Step::Done(outcome) = step else { panic!("expected the end, not {step:?}") };
    outcome
}

fn address(owner: &Name, last: u8) -> Record {
    Record::new(owner.clone(), 60, RecordData::A([203, 0, 113, last].into()))
}

fn alias(from: &str, to: &str) -> Record {
    Record::new(name(from), 30, RecordData::Cname(name(to)))
}

fn soa(minimum: u32) -> Record {
    let authority = StartOfAuthority { minimum, ..StartOfAuthority::default() };
    Record::new(name("test"), 900, RecordData::Soa(Box::new(authority)))
}

fn reply(asked: &Message, code: ResponseCode, answers: Vec<Record>) -> Message {
    Message { answers, ..asked.response(code) }
}

fn found(asked: &Message) -> Message {
    reply(asked, ResponseCode::NO_ERROR, vec![address(&asked.questions[0].name, 1)])
}

#[test]
fn an_answer_to_the_question_ends_the_lookup() {
    let mut query = query(1);
    let (request, asked) = sent(query.start(Instant::ZERO));
    assert_eq!((request.server, request.carrier, request.deadline), (server(1), Carrier::Datagram, Instant::from_secs(1)));
    assert!(asked.header.recursion_desired && asked.edns().is_some());
    let answer = done(query.received(Instant::ZERO, server(1), &found(&asked).encode())).unwrap();
    assert_eq!((answer.records.len(), answer.lifetime_seconds), (1, 60));
}

#[test]
fn wrong_server_identifier_question_or_direction_is_ignored() {
    let mut query = query(2);
    let (_, asked) = sent(query.start(Instant::ZERO));
    let good = found(&asked);
    let mut wrong_identifier = good.clone();
    wrong_identifier.header.identifier ^= 1;
    let mut wrong_type = good.clone();
    wrong_type.questions[0].kind = RecordType::TXT;
    let mut wrong_name = good.clone();
    wrong_name.questions[0].name = name("other.test");
    let mut two_questions = good.clone();
    two_questions.questions.push(good.questions[0].clone());
    for forged in [&wrong_identifier, &wrong_type, &wrong_name, &two_questions, &asked] {
        assert_eq!(query.received(Instant::ZERO, server(1), &forged.encode()), Step::Wait);
    }
    assert_eq!(query.received(Instant::ZERO, server(2), &good.encode()), Step::Wait);
    assert_eq!(query.received(Instant::ZERO, server(1), b"\x00\x01nonsense"), Step::Wait);
    assert_eq!(query.ignored(), 7);
    assert!(done(query.received(Instant::ZERO, server(1), &good.encode())).is_ok());
}

#[test]
fn another_case_in_the_question_leads_to_tcp_where_it_is_believed() {
    let mut query = query(1);
    let (_, asked) = sent(query.start(Instant::ZERO));
    assert_ne!(asked.questions[0].name.to_string(), asked.questions[0].name.to_string().to_lowercase());
    let mut other_case = found(&asked);
    other_case.questions[0].name = asked.questions[0].name.with_case(|| false);
    let (request, asked) = sent(query.received(Instant::ZERO, server(1), &other_case.encode()));
    assert_eq!((request.carrier, request.server), (Carrier::Stream, server(1)));
    let mut upper_case = found(&asked);
    upper_case.questions[0].name = asked.questions[0].name.with_case(|| true);
    assert!(done(query.received(Instant::ZERO, server(1), &upper_case.encode())).is_ok());
}

#[test]
fn truncation_leads_to_tcp() {
    let mut query = query(1);
    let (_, asked) = sent(query.start(Instant::ZERO));
    let mut cut = reply(&asked, ResponseCode::NO_ERROR, vec![]);
    cut.header.is_truncated = true;
    let (request, asked) = sent(query.received(Instant::ZERO, server(1), &cut.encode()));
    assert_eq!(request.carrier, Carrier::Stream);
    assert!(done(query.received(Instant::ZERO, server(1), &found(&asked).encode())).is_ok());
}

#[test]
fn silence_moves_on_to_the_next_server_and_each_round_waits_longer() {
    let mut query = query(2);
    let mut now = Instant::ZERO;
    let mut asked = vec![];
    let mut step = query.start(now);
    let mut identifiers = vec![];
    while let Step::Send(request) = step {
        asked.push((request.server, request.deadline.since(now).as_secs()));
        identifiers.push(Message::parse(&request.message).unwrap().header.identifier);
        now = request.deadline;
        step = query.timed_out(now);
    }
    assert_eq!(asked, [(server(1), 1), (server(2), 1), (server(1), 2), (server(2), 2)]);
    assert_eq!(done(step), Err(LookupError::TimedOut));
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 4, "each request has its own identifier");
}

#[test]
fn an_answer_to_an_earlier_request_is_too_late() {
    let mut query = query(1);
    let (_, first) = sent(query.start(Instant::ZERO));
    let (_, second) = sent(query.timed_out(Instant::from_secs(1)));
    assert_eq!(query.received(Instant::from_secs(1), server(1), &found(&first).encode()), Step::Wait);
    assert!(done(query.received(Instant::from_secs(1), server(1), &found(&second).encode())).is_ok());
}

#[test]
fn servers_that_fail_or_refuse_are_passed_over() {
    let mut query = query(3);
    let (_, asked) = sent(query.start(Instant::ZERO));
    let servfail = reply(&asked, ResponseCode::SERVER_FAILURE, vec![]);
    let (request, asked) = sent(query.received(Instant::ZERO, server(1), &servfail.encode()));
    assert_eq!(request.server, server(2));
    let mut refused = reply(&asked, ResponseCode::REFUSED, vec![]);
    refused.questions.clear();
    let (request, _) = sent(query.received(Instant::ZERO, server(2), &refused.encode()));
    assert_eq!(request.server, server(3));
    let (request, asked) = sent(query.failed(Instant::ZERO));
    assert_eq!(request.server, server(1));
    assert!(done(query.received(Instant::ZERO, server(1), &found(&asked).encode())).is_ok());
}

#[test]
fn a_server_without_edns_is_asked_again_without() {
    let mut query = query(1);
    let (_, asked) = sent(query.start(Instant::ZERO));
    let confused = reply(&asked, ResponseCode::FORMAT_ERROR, vec![]);
    let (request, asked) = sent(query.received(Instant::ZERO, server(1), &confused.encode()));
    assert_eq!((request.server, asked.edns()), (server(1), None));
    let confused = reply(&asked, ResponseCode::FORMAT_ERROR, vec![]);
    sent(query.received(Instant::ZERO, server(1), &confused.encode()));
}

#[test]
fn alias_chains_are_followed_within_and_across_messages() {
    let mut query = query_with(config(1), "a.test");
    let (_, asked) = sent(query.start(Instant::ZERO));
    let chain = reply(&asked, ResponseCode::NO_ERROR, vec![alias("b.test", "c.test"), alias("a.test", "b.test")]);
    let (_, asked) = sent(query.received(Instant::ZERO, server(1), &chain.encode()));
    assert_eq!(asked.questions[0].name, name("c.test"));
    let answer = done(query.received(Instant::ZERO, server(1), &found(&asked).encode())).unwrap();
    assert_eq!((answer.canonical_name, answer.lifetime_seconds), (name("c.test"), 30));
}

#[test]
fn alias_loops_end() {
    let mut query = query_with(config(1), "a.test");
    let (_, asked) = sent(query.start(Instant::ZERO));
    let circle = reply(&asked, ResponseCode::NO_ERROR, vec![alias("a.test", "b.test"), alias("b.test", "a.test")]);
    assert_eq!(done(query.received(Instant::ZERO, server(1), &circle.encode())), Err(LookupError::TooManyAliases));

    let mut query = query_with(ResolverConfig { maximum_aliases: 5, ..config(1) }, "n0.test");
    let mut step = query.start(Instant::ZERO);
    let mut questions = 0;
    while let Step::Send(request) = step {
        questions += 1;
        let asked = Message::parse(&request.message).unwrap();
        let own = asked.questions[0].name.clone();
        let onward = Record::new(own, 30, RecordData::Cname(name(&format!("n{questions}.test"))));
        step = query.received(Instant::ZERO, server(1), &reply(&asked, ResponseCode::NO_ERROR, vec![onward]).encode());
    }
    assert_eq!((questions, done(step)), (6, Err(LookupError::TooManyAliases)));
}

#[test]
fn records_of_other_names_are_not_taken() {
    let mut query = query_with(config(1), "a.test");
    let (_, asked) = sent(query.start(Instant::ZERO));
    let mut poisoned = reply(&asked, ResponseCode::NO_ERROR, vec![address(&name("bank.test"), 66)]);
    poisoned.authorities.push(soa(5));
    assert_eq!(done(query.received(Instant::ZERO, server(1), &poisoned.encode())), Err(LookupError::NoData { lifetime_seconds: Some(5) }));
}

#[test]
fn negative_answers_carry_how_long_they_hold() {
    let ask = |code, minimum: Option<u32>| {
        let mut query = query(1);
        let (_, asked) = sent(query.start(Instant::ZERO));
        let mut negative = reply(&asked, code, vec![]);
        negative.authorities.extend(minimum.map(soa));
        done(query.received(Instant::ZERO, server(1), &negative.encode()))
    };
    assert_eq!(ask(ResponseCode::NAME_ERROR, Some(300)), Err(LookupError::NoSuchName { lifetime_seconds: Some(300) }));
    assert_eq!(ask(ResponseCode::NAME_ERROR, None), Err(LookupError::NoSuchName { lifetime_seconds: None }));
    assert_eq!(ask(ResponseCode::NO_ERROR, Some(5_000)), Err(LookupError::NoData { lifetime_seconds: Some(900) }));
}

#[test]
fn referrals_are_no_answers() {
    let mut query = query(2);
    let (_, asked) = sent(query.start(Instant::ZERO));
    let mut referral = reply(&asked, ResponseCode::NO_ERROR, vec![]);
    referral.authorities.push(Record::new(name("test"), 60, RecordData::Ns(name("ns.test"))));
    let (request, _) = sent(query.received(Instant::ZERO, server(1), &referral.encode()));
    assert_eq!(request.server, server(2));
}

#[test]
fn without_servers_it_ends_at_once_and_rotation_starts_elsewhere() {
    assert_eq!(done(query(0).start(Instant::ZERO)), Err(LookupError::NoServers));
    let mut rotated = Query::new(Arc::new(config(3)), SecretRandom::from_seed(1), name("a.test"), RecordType::A, 5);
    let (request, _) = sent(rotated.start(Instant::ZERO));
    assert_eq!(request.server, server(3));
}
