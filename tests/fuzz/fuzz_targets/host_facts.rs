//! What the host tells of itself, on any system: netlink messages, routing-socket messages, `/dev/bpf` records, resolv.conf, hosts.
#![no_main]

use hopline::device::bsd::records::{RecordLayout, RecordReader};
use hopline::device::bsd::routing_message::{MessageLayout, messages, parse_news, parse_route};
use hopline::resolver::{Hosts, ResolverConfig};
use libfuzzer_sys::fuzz_target;

fn records(layout: RecordLayout, bytes: &[u8]) {
    let mut reader = RecordReader::new(layout, bytes.len());
    let mut before = 0;
    while let Some(record) = reader.next(bytes) {
        assert!(record.bytes.start >= before && record.bytes.end <= bytes.len(), "frames in order, within the buffer");
        before = record.bytes.end;
    }
    assert!(reader.is_empty());
}

fn routing(layout: MessageLayout, bytes: &[u8]) {
    for message in messages(bytes) {
        if let Some(route) = parse_route(layout, message) {
            let _ = (route.is_usable(), route.is_local());
        }
        let _ = parse_news(layout, message);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 7 {
        #[cfg(target_os = "linux")]
        0 => hopline::device::fuzzing::netlink(bytes),
        1 => {
            let text = String::from_utf8_lossy(bytes);
            let config = ResolverConfig::parse(&text);
            let _ = config.candidates(text.lines().next().unwrap_or_default());
        }
        2 => records(RecordLayout::MACOS, bytes),
        3 => records(RecordLayout::FREEBSD, bytes),
        4 => routing(MessageLayout::MACOS, bytes),
        5 => routing(MessageLayout::FREEBSD, bytes),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let hosts = Hosts::parse(&text);
            text.split_whitespace().for_each(|word| drop(hosts.lookup(word).to_vec()));
        }
    }
});
