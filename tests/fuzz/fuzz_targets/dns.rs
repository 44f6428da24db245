//! DNS messages: whatever parses is written again, within any limit, and the whole copy says the same.
#![no_main]

use hopline::wire::dns::{Header, Message, Name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Header::parse(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(name) = text.parse::<Name>()
    {
        assert_eq!(name.to_string().parse::<Name>(), Ok(name));
    }
    hopline::app::lab::fuzzing::answer_dns(data);
    let Ok(message) = Message::parse(data) else { return };
    let _ = (message.edns(), message.response_code(), message.negative_lifetime_seconds(), message.udp_payload_size());
    let bytes = message.encode();
    assert!(bytes.len() <= Message::MAXIMUM_LENGTH);
    let again = Message::parse(&bytes).expect("what we write, we can read");
    if !again.header.is_truncated {
        assert_eq!(again, message);
    }
    let short = message.encode_within(512);
    assert!(short.len() <= 512 || message.questions.len() > 1);
    Message::parse(&short).expect("what is cut can be read");
});
