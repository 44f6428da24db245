//! A small HTTP/1.1 server: one connection at a time, over any byte stream.
//!
//! Owns reading requests (with httparse), their bodies, keep-alive, and writing responses. Refuses to know what is served: `site` does. Headers and bodies
//! are bounded; nothing a client sends makes it panic.

mod site;

pub(super) use site::Site;
pub use site::{body_hash, deterministic_bytes};

use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::io::{self, Read, Write};

/// Longest request header.
const LONGEST_HEADER: usize = 64 << 10;
/// Most header fields.
const MOST_FIELDS: usize = 100;
/// Bytes of a body that are in memory at once.
const PIECE: usize = 64 << 10;

/// A request without its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// The header as it came, for `/headers`.
    pub(super) header: Vec<u8>,
    fields: Vec<(String, String)>,
    is_http_1_0: bool,
}

/// How the end of a body is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// What became of a request's body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) length: u64,
    pub(super) hash: u64,
}

/// A response.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

/// What a response carries.
pub(super) enum Body {
    Bytes(Vec<u8>),
    /// Deterministic bytes from an offset.
    Pattern {
        start: u64,
        length: u64,
    },
    /// Pieces, sent chunked.
    Chunks(Vec<Vec<u8>>),
    /// Promises `promised` bytes, sends fewer, and ends the connection.
    Cut {
        promised: u64,
        sent: u64,
    },
    /// Has no length, and ends as TLS must not.
    Torn(&'static str),
    /// Ends the connection without a word.
    Nothing,
}

/// Serves requests until the client ends, asks to end, or is not understood.
pub(super) fn serve<S: Read + Write>(stream: S, site: &Site) -> io::Result<()> {
    let mut connection = Connection { stream, unread: Vec::new() };
    while let Some(request) = connection.read_request()? {
        let Some(request) = request.ok() else {
            return connection.write_response("GET", &Response::text(400, "This is not HTTP.\n"), false).map(drop);
        };
        let received = connection.read_body(&request)?;
        let response = site.respond(&request, received);
        let keep_alive = request.wants_keep_alive();
        if !connection.write_response(&request.method, &response, keep_alive)? || !keep_alive {
            break;
        }
    }
    Ok(())
}

struct NotHttp;

struct Connection<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// The next request; `None` if the client ended between two.
    fn read_request(&mut self) -> io::Result<Option<Result<Request, NotHttp>>> {
        loop {
            if let Some((request, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Ok(Some(request));
            }
            if self.unread.len() > LONGEST_HEADER {
                return Ok(Some(Err(NotHttp)));
            }
            if self.fill()? == 0 {
                return if self.unread.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        let count = self.stream.read(&mut piece)?;
        self.unread.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn read_body(&mut self, request: &Request) -> io::Result<Received> {
        if request.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.stream.flush()?;
        }
        let mut tally = Tally::default();
        match request.framing()? {
            Framing::Length(length) => self.take(length, &mut tally)?,
            Framing::Chunked => self.take_chunks(&mut tally)?,
        }
        Ok(tally.finish())
    }

    /// Takes `length` bytes of a body.
    fn take(&mut self, mut length: u64, tally: &mut Tally) -> io::Result<()> {
        while length > 0 {
            if self.unread.is_empty() && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = self.unread.len().min(PIECE).min(usize::try_from(length).unwrap_or(usize::MAX));
            tally.add(self.unread.get(..count).unwrap_or_default());
            self.unread.drain(..count);
            length -= count as u64;
        }
        Ok(())
    }

    /// Chunks up to the last one; trailers are thrown away (RFC 9112 §7.1).
    fn take_chunks(&mut self, tally: &mut Tally) -> io::Result<()> {
        loop {
            match httparse::parse_chunk_size(&self.unread) {
                Ok(httparse::Status::Complete((start, 0))) => {
                    self.unread.drain(..start);
                    return self.skip_trailers();
                }
                Ok(httparse::Status::Complete((start, size))) => {
                    self.unread.drain(..start);
                    self.take(size, tally)?;
                    self.take(2, &mut Tally::default())?;
                }
                Ok(httparse::Status::Partial) if self.unread.len() < 1024 => match self.fill()? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => continue,
                },
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk without a size")),
            }
        }
    }

    fn skip_trailers(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|window| window == b"\r\n") {
                self.unread.drain(..end + 2);
                if end == 0 {
                    return Ok(());
                }
            } else if self.unread.len() > LONGEST_HEADER || self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether the connection may go on afterwards.
    fn write_response(&mut self, method: &str, response: &Response, keep_alive: bool) -> io::Result<bool> {
        if matches!(response.body, Body::Nothing) {
            return Ok(false);
        }
        let header = response.header(keep_alive);
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            self.stream.write_all(header.as_bytes())?;
            self.stream.flush()?;
            return Ok(true);
        }
        let is_whole = self.write_body(header.into_bytes(), &response.body)?;
        self.stream.flush()?;
        Ok(is_whole)
    }

    fn write_body(&mut self, mut header: Vec<u8>, body: &Body) -> io::Result<bool> {
        match body {
            Body::Bytes(bytes) => {
                header.extend_from_slice(bytes);
                self.stream.write_all(&header)?;
            }
            Body::Pattern { start, length } => {
                self.stream.write_all(&header)?;
                self.write_pattern(*start, *length)?;
            }
            Body::Chunks(pieces) => {
                self.stream.write_all(&header)?;
                for piece in pieces {
                    self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    self.stream.write_all(&[piece, b"\r\n".as_slice()].concat())?;
                }
                self.stream.write_all(b"0\r\n\r\n")?;
            }
            Body::Cut { sent, .. } => {
                self.stream.write_all(&header)?;
                self.write_pattern(0, *sent)?;
            }
            Body::Torn(text) => {
                self.stream.write_all(&[header.as_slice(), text.as_bytes()].concat())?;
                self.stream.flush()?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Body::Nothing => {}
        }
        Ok(!matches!(body, Body::Cut { .. } | Body::Nothing))
    }

    fn write_pattern(&mut self, mut start: u64, mut length: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        while length > 0 {
            let count = PIECE.min(usize::try_from(length).unwrap_or(PIECE));
            let part = piece.get_mut(..count).unwrap_or_default();
            deterministic_bytes(start, part);
            self.stream.write_all(part)?;
            start += count as u64;
            length -= count as u64;
        }
        Ok(())
    }
}

/// A request at the front of `bytes`, and how long it is; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Option<(Result<Request, NotHttp>, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(length)) => {
            let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
            let header = bytes.get(..length).unwrap_or_default().to_vec();
            let (method, path, is_http_1_0) = (text(request.method), text(request.path), request.version == Some(0));
            let fields = request.headers.iter().map(|field| (field.name.to_ascii_lowercase(), lossy(field.value))).collect();
            Some((Ok(Request { method, path, header, fields, is_http_1_0 }), length))
        }
        Err(_) => Some((Err(NotHttp), bytes.len())),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

impl Request {
    /// The value of a field, by its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn wants_keep_alive(&self) -> bool {
        let asks_for = |word: &str| self.field("connection").is_some_and(|value| value.to_ascii_lowercase().contains(word));
        if self.is_http_1_0 { asks_for("keep-alive") } else { !asks_for("close") }
    }

    /// RFC 9112 §6.3.
    fn framing(&self) -> io::Result<Framing> {
        if self.field("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked")) {
            return Ok(Framing::Chunked);
        }
        let length = self.field("content-length").unwrap_or("0").parse();
        length.map(Framing::Length).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a body without a length"))
    }
}

impl Response {
    pub(super) fn text(status: u16, text: impl Into<String>) -> Response {
        let fields = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Response { status, fields, body: Body::Bytes(text.into().into_bytes()) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    fn header(&self, keep_alive: bool) -> String {
        let mut header = format!("HTTP/1.1 {} {}\r\nServer: hopline-lab\r\n", self.status, reason(self.status));
        for (name, value) in &self.fields {
            header.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            _ if matches!(self.status, 204 | 304) => {}
            Body::Bytes(bytes) => header.push_str(&format!("Content-Length: {}\r\n", bytes.len())),
            Body::Pattern { length, .. } => header.push_str(&format!("Content-Length: {length}\r\n")),
            Body::Cut { promised, .. } => header.push_str(&format!("Content-Length: {promised}\r\n")),
            Body::Chunks(_) => header.push_str("Transfer-Encoding: chunked\r\n"),
            Body::Torn(_) | Body::Nothing => {}
        }
        let keep_alive = keep_alive && !matches!(self.body, Body::Torn(_));
        header.push_str(if keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
        header
    }
}

/// Reason phrases of RFC 9110 §15 that the site uses; the others are for a client to know.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Something Else",
    }
}

/// Counts and hashes a body while it passes.
#[derive(Default)]
struct Tally {
    length: u64,
    hasher: SipHasher24,
}

impl Tally {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hasher.write(bytes);
    }

    fn finish(self) -> Received {
        Received { length: self.length, hash: self.hasher.finish() }
    }
}

#[cfg(test)]
mod tests;
