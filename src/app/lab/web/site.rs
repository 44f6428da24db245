//! What the lab's web server serves.

use super::{Body, Received, Request, Response};
use parking_lot::{Condvar, Mutex};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::time::Duration;

/// The pages. Shared by all connections.
#[derive(Default)]
pub(crate) struct Site {
    /// What slow pages wait on, so that the end of the lab ends the wait.
    pub(crate) patience: Patience,
}

/// A wait that can be called off for everybody.
#[derive(Default)]
pub(crate) struct Patience {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Patience {
    pub(crate) fn call_off(&self) {
        *self.over.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, duration: Duration) {
        let mut over = self.over.lock();
        if !*over {
            self.changed.wait_for(&mut over, duration);
        }
    }
}

/// Longest wait of `/slow`.
const SLOWEST: u64 = 60;
/// Most pieces of `/chunked`.
const MOST_CHUNKS: u64 = 10_000;

const PAGE: &str = "<!doctype html>\n<title>Hopline lab</title>\n<h1>It works.</h1>\n\
<p>This page came from a second TCP/IP stack in the same process, over a virtual link:\n\
no root, no network, and every layer from Ethernet to TLS.</p>\n\
<p>There is more: /bytes/N, /chunked/N, /redirect/N, /status/N, /headers, /upload, /slow/SECONDS,\n\
/gzip, /cookie, /private, /cut, /torn, /nothing.</p>\n";

/// "This text was sent compressed.\n", compressed.
const COMPRESSED: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x0b, 0xc9, 0xc8, 0x2c, 0x56, 0x28, 0x49, 0xad, 0x28, 0x51, 0x28, 0x4f,
    0x2c, 0x56, 0x28, 0x4e, 0xcd, 0x2b, 0x51, 0x48, 0xce, 0xcf, 0x2d, 0x28, 0x4a, 0x2d, 0x2e, 0x4e, 0x4d, 0xd1, 0xe3, 0x02, 0x00, 0xd0,
    0xc1, 0x73, 0x76, 0x1f, 0x00, 0x00, 0x00,
];

impl Site {
    pub(super) fn respond(&self, request: &Request, received: Received) -> Response {
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        let mut parts = path.split('/').skip(1);
        let first = parts.next().unwrap_or_default();
        let number = parts.next().map(|text| text.parse::<u64>().ok());
        match (first, number) {
            ("", _) => page(),
            ("bytes", Some(Some(length))) => bytes(request, length),
            ("chunked", None) => chunks(10),
            ("chunked", Some(Some(count))) => chunks(count),
            ("redirect", Some(Some(count))) => redirect(count),
            ("status", Some(Some(status @ 200..=599))) => Response::text(status as u16, format!("status {status}\n")),
            ("headers", _) => Response::text(200, String::from_utf8_lossy(&request.header)),
            ("upload", _) => upload(request, received),
            ("slow", number) => self.slow(number.flatten()),
            ("gzip", _) => compressed(request),
            ("cookie", _) => cookie(request),
            ("private", _) => private(request),
            ("cut", _) => Response { body: Body::Cut { promised: 1000, sent: 100 }, ..Response::text(200, "") },
            ("torn", _) => Response { body: Body::Torn("This is not al"), ..Response::text(200, "") },
            ("nothing", _) => Response { body: Body::Nothing, ..Response::text(200, "") },
            _ => Response::text(404, format!("There is no {path} here.\n")),
        }
    }

    fn slow(&self, seconds: Option<u64>) -> Response {
        let seconds = seconds.unwrap_or(5).min(SLOWEST);
        self.patience.wait(Duration::from_secs(seconds));
        Response::text(200, format!("That took {seconds} s.\n"))
    }
}

fn page() -> Response {
    let fields = vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
    Response { status: 200, fields, body: Body::Bytes(PAGE.into()) }
}

/// Deterministic bytes: the same at each offset, whatever else is asked for.
fn bytes(request: &Request, length: u64) -> Response {
    let fields = vec![("Content-Type", "application/octet-stream".to_owned()), ("Accept-Ranges", "bytes".to_owned())];
    let whole = Response { status: 200, fields, body: Body::Pattern { start: 0, length } };
    match request.field("range").map(|range| parse_range(range, length)) {
        None | Some(Range::NotUnderstood) => whole,
        Some(Range::Part { start, end }) => {
            let part = Response { status: 206, body: Body::Pattern { start, length: end - start }, ..whole };
            part.with("Content-Range", format!("bytes {start}-{}/{length}", end - 1))
        }
        Some(Range::Beyond) => Response::text(416, "").with("Content-Range", format!("bytes */{length}")),
    }
}

enum Range {
    /// From `start` up to but not including `end`.
    Part { start: u64, end: u64 },
    /// Starts behind the end.
    Beyond,
    /// Several ranges, or another unit: the whole is served (RFC 9110 §14.2).
    NotUnderstood,
}

/// RFC 9110 §14.1.2: `bytes=first-last`, `bytes=first-`, `bytes=-suffix`.
fn parse_range(value: &str, length: u64) -> Range {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Range::NotUnderstood };
    let (first, last) = (first.trim(), last.trim());
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        _ => return Range::NotUnderstood,
    };
    if start < end { Range::Part { start, end } } else { Range::Beyond }
}

fn chunks(count: u64) -> Response {
    let pieces = (0..count.min(MOST_CHUNKS)).map(|index| format!("chunk {index}\n").into_bytes()).collect();
    Response { body: Body::Chunks(pieces), ..Response::text(200, "") }
}

fn redirect(count: u64) -> Response {
    let target = if count <= 1 { "/".to_owned() } else { format!("/redirect/{}", count - 1) };
    Response::text(302, format!("Go on at {target}\n")).with("Location", target)
}

fn upload(request: &Request, received: Received) -> Response {
    if !matches!(request.method.as_str(), "PUT" | "POST") {
        return Response::text(405, "PUT or POST something here.\n").with("Allow", "PUT, POST");
    }
    Response::text(200, format!("received {} bytes, hash {:016x}\n", received.length, received.hash))
}

fn compressed(request: &Request) -> Response {
    if !request.field("accept-encoding").is_some_and(|value| value.contains("gzip")) {
        return Response::text(200, "This text was not compressed.\n");
    }
    let response = Response::text(200, "").with("Content-Encoding", "gzip").with("Vary", "Accept-Encoding");
    Response { body: Body::Bytes(COMPRESSED.to_vec()), ..response }
}

fn cookie(request: &Request) -> Response {
    let text = format!("You sent: {}\n", request.field("cookie").unwrap_or("no cookie"));
    Response::text(200, text).with("Set-Cookie", "taste=vanilla; Path=/")
}

/// Wants the user `lab` with the password `test` (RFC 7617).
fn private(request: &Request) -> Response {
    match request.field("authorization") {
        Some("Basic bGFiOnRlc3Q=") => Response::text(200, "Welcome.\n"),
        _ => Response::text(401, "Who are you?\n").with("WWW-Authenticate", "Basic realm=\"lab\""),
    }
}

/// Fills `buffer` with the lab's bytes at `offset`: what `/bytes/N` serves.
pub fn deterministic_bytes(offset: u64, buffer: &mut [u8]) {
    let mut position = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = mixed(position / 8).to_le_bytes();
        let from = (position % 8) as usize;
        let count = (8 - from).min(rest.len());
        let (part, behind) = rest.split_at_mut(count);
        part.copy_from_slice(word.get(from..from + count).unwrap_or_default());
        position += count as u64;
        rest = behind;
    }
}

/// SplitMix64 of an index.
fn mixed(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash that `/upload` reports: SipHash-2-4 without a key.
pub fn body_hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::default();
    hasher.write(bytes);
    hasher.finish()
}
