//! Finds the headers in what a connection carries, for observers.

use super::{HttpObserver, HttpStep};
use std::sync::Arc;

/// Watches both directions of one connection.
pub(super) struct Tap {
    observer: Option<Arc<dyn HttpObserver>>,
    phase: Phase,
    header: Vec<u8>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The next byte sent belongs to a request's header.
    Request,
    /// The request's header is sent; its body may follow.
    RequestBody,
    /// A part of a response's header has come.
    Response,
    /// The response's header has come; its body may follow.
    ResponseBody,
}

/// Longer headers are not shown.
const LONGEST_HEADER: usize = 256 << 10;

impl Tap {
    pub(super) fn new(observer: Option<Arc<dyn HttpObserver>>) -> Tap {
        Tap { observer, phase: Phase::Request, header: Vec::new() }
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Some(observer) = &self.observer else { return };
        if self.phase == Phase::ResponseBody {
            self.phase = Phase::Request;
        }
        if self.phase == Phase::Request && collect(&mut self.header, bytes) {
            let end = header_end(&self.header).unwrap_or(self.header.len());
            observer.observe(HttpStep::RequestHeader(self.header.get(..end).unwrap_or_default()));
            self.header.clear();
            self.phase = Phase::RequestBody;
        }
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        let Some(observer) = &self.observer else { return };
        if self.phase == Phase::ResponseBody || bytes.is_empty() {
            return;
        }
        self.phase = Phase::Response;
        collect(&mut self.header, bytes);
        while let (Phase::Response, Some(end)) = (self.phase, header_end(&self.header)) {
            let header: Vec<u8> = self.header.drain(..end).collect();
            observer.observe(HttpStep::ResponseHeader(&header));
            self.phase = if is_interim(&header) { Phase::Response } else { Phase::ResponseBody };
        }
        if self.phase == Phase::ResponseBody {
            self.header.clear();
        }
    }
}

/// Appends within the bound; whether the header is complete.
fn collect(header: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let room = LONGEST_HEADER.saturating_sub(header.len()).min(bytes.len());
    header.extend_from_slice(bytes.get(..room).unwrap_or_default());
    header_end(header).is_some() || header.len() >= LONGEST_HEADER
}

fn header_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

/// `100 Continue` and its like: the response proper is still to come (RFC 9110 §15.2).
fn is_interim(header: &[u8]) -> bool {
    header.get(9..10) == Some(b"1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl HttpObserver for Log {
        fn observe(&self, step: HttpStep<'_>) {
            let (mark, bytes) = match step {
                HttpStep::RequestHeader(bytes) => ('>', bytes),
                HttpStep::ResponseHeader(bytes) => ('<', bytes),
                _ => return,
            };
            self.0.lock().push(format!("{mark}{}", String::from_utf8_lossy(bytes).trim_end()));
        }
    }

    #[test]
    fn headers_are_found_across_pieces_interim_responses_and_exchanges() {
        let log = Arc::new(Log::default());
        let mut tap = Tap::new(Some(log.clone()));
        tap.sent(b"PUT / HTTP/1.1\r\nA: b");
        tap.sent(b"\r\n\r\n");
        tap.received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2");
        tap.sent(b"body\r\n\r\n");
        tap.received(b"00 OK\r\n\r\nbody\r\n\r\n");
        tap.received(b"more\r\n\r\n");
        tap.sent(b"GET /2 HTTP/1.1\r\n\r\n");
        tap.received(b"HTTP/1.1 204 No Content\r\n\r\n");
        let expected =
            [">PUT / HTTP/1.1\r\nA: b", "<HTTP/1.1 100 Continue", "<HTTP/1.1 200 OK", ">GET /2 HTTP/1.1", "<HTTP/1.1 204 No Content"];
        assert_eq!(*log.0.lock(), expected);
    }
}
