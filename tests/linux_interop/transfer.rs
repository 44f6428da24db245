//! Bytes that are known at every position, moved through streams of either kind.

use crate::common::read;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::OnceLock;

/// Bytes of a large transfer: enough to wrap every ring; less in a debug build, whose checks are slow.
pub(crate) const LARGE: u64 = if cfg!(debug_assertions) { 32 << 20 } else { 256 << 20 };

/// The pattern's length is no multiple of any segment, buffer or window, so that a moved piece never looks right.
const PERIOD: usize = (1 << 20) + 7;

/// A stream of either kind.
pub(crate) trait Stream: Read + Write + Send {
    /// Ends the direction from here to there.
    fn finish(&mut self);
}

impl Stream for std::net::TcpStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the kernel's stream half-closes");
    }
}

impl Stream for hopline::socket::TcpStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("Hopline's stream half-closes");
    }
}

/// Pseudo-random bytes, the same in each run.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| bytes(PERIOD, 0x9e37_79b9_7f4a_7c15))
}

/// `count` pseudo-random bytes (xorshift64).
pub(crate) fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The pattern from `position` on, as far as it lies together.
fn piece(position: u64, at_most: u64) -> &'static [u8] {
    let rest = &pattern()[(position % PERIOD as u64) as usize..];
    &rest[..rest.len().min(at_most.try_into().unwrap_or(usize::MAX))]
}

/// Writes `count` bytes of the pattern and ends the direction.
#[track_caller]
pub(crate) fn send(stream: &mut impl Stream, count: u64) {
    let mut position = 0;
    while position < count {
        let piece = piece(position, (count - position).min(128 << 10));
        stream.write_all(piece).unwrap_or_else(|error| panic!("writing after {position} bytes: {error:?}"));
        position += piece.len() as u64;
    }
    stream.finish();
}

/// Reads to the end of the stream: exactly `count` bytes of the pattern.
#[track_caller]
pub(crate) fn receive(stream: &mut impl Read, count: u64) {
    let mut position = receive_part(stream, count);
    let mut rest = [0; 1];
    position += read(stream, &mut rest).unwrap_or_else(|error| panic!("reading the end after {position} bytes: {error:?}")) as u64;
    assert_eq!(position, count, "more bytes than were sent");
}

/// Reads `count` bytes of the pattern from its start on.
#[track_caller]
pub(crate) fn receive_part(stream: &mut impl Read, count: u64) -> u64 {
    let mut buffer = vec![0; 256 << 10];
    let mut position = 0;
    while position < count {
        let room = buffer.len().min((count - position) as usize);
        let got = read(stream, &mut buffer[..room]).unwrap_or_else(|error| panic!("reading after {position} of {count} bytes: {error:?}"));
        assert!(got > 0, "the stream ended after {position} of {count} bytes");
        check(&buffer[..got], position);
        position += got as u64;
    }
    position
}

#[track_caller]
fn check(mut got: &[u8], mut position: u64) {
    while !got.is_empty() {
        let expected = piece(position, got.len() as u64);
        let (here, rest) = got.split_at(expected.len());
        if here != expected {
            let wrong = here.iter().zip(expected).position(|(one, other)| one != other);
            panic!("a wrong byte at {}", position + wrong.unwrap_or(0) as u64);
        }
        (got, position) = (rest, position + expected.len() as u64);
    }
}

/// One stream's end to the other's: `there` bytes from `one`, then `back` bytes from `other`, each to the end of its direction.
#[track_caller]
pub(crate) fn there_and_back(one: &mut impl Stream, other: &mut impl Stream, there: u64, back: u64) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send(one, there);
            receive(one, back);
        });
        receive(other, there);
        send(other, back);
    });
}

/// Both directions at once.
#[track_caller]
pub(crate) fn both_at_once(one: (&mut impl Stream, &mut impl Stream), other: (&mut impl Stream, &mut impl Stream), count: u64) {
    std::thread::scope(|scope| {
        scope.spawn(|| send(one.0, count));
        scope.spawn(|| receive(one.1, count));
        scope.spawn(|| send(other.0, count));
        receive(other.1, count);
    });
}
