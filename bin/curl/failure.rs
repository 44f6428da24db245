//! What can go wrong, with curl's exit codes.

use hopline::app::{http, tls};
use std::fmt;
use std::io;
use ureq::Error;

/// curl's exit codes, as far as we have them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    UnsupportedProtocol = 1,
    Usage = 2,
    Url = 3,
    Resolve = 6,
    Connect = 7,
    Partial = 18,
    Http = 22,
    Write = 23,
    ReadLocal = 26,
    Timeout = 28,
    Range = 33,
    Tls = 35,
    Redirects = 47,
    Empty = 52,
    Send = 55,
    Receive = 56,
    Certificate = 60,
    ContentEncoding = 61,
    Rewind = 65,
    CaFile = 77,
}

/// Why a transfer ended.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl fmt::Display) -> Failure {
        Failure { code, text: text.to_string() }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.code as i32
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hopline-curl: ({}) {}", self.code as i32, self.text)
    }
}

/// How far a request had come.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    #[default]
    Resolve,
    Connect,
    Handshake,
    Request,
    Response,
    Body,
}

/// What an error at this stage is to curl. `target` is the host, for messages.
pub(crate) fn explain(error: Error, stage: Stage, target: &str) -> Failure {
    match error {
        Error::Timeout(timeout) => Failure::new(Code::Timeout, format!("Operation timed out ({timeout})")),
        Error::HostNotFound => Failure::new(Code::Resolve, format!("Could not resolve host: {target}")),
        Error::BadUri(text) => Failure::new(Code::Url, format!("URL rejected: {text}")),
        Error::Http(error) => Failure::new(Code::Url, format!("URL or header rejected: {error}")),
        Error::TooManyRedirects => Failure::new(Code::Redirects, "Maximum number of redirects followed"),
        Error::RedirectFailed => Failure::new(Code::Rewind, "A redirect wants the request's body a second time"),
        Error::Decompress(kind, error) => Failure::new(Code::ContentEncoding, format!("{kind} decompression failed: {error}")),
        Error::Io(error) => explain_io(error, stage, target),
        Error::LargeResponseHeader(..) | Error::Protocol(_) => Failure::new(Code::Receive, format!("Not understood: {error}")),
        other if stage < Stage::Request => Failure::new(Code::Connect, other),
        other => Failure::new(Code::Receive, other),
    }
}

fn explain_io(error: io::Error, stage: Stage, target: &str) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut && stage != Stage::Resolve {
        return Failure::new(Code::Timeout, format!("Connection timed out: {target}"));
    }
    if let Some(problem) = tls::certificate_problem(&error) {
        return Failure::new(
            Code::Certificate,
            format!("certificate problem: {problem} (--cacert FILE trusts another authority, -k any certificate)"),
        );
    }
    let is_end = http::interruption(&error).unwrap_or(error.kind()) == io::ErrorKind::UnexpectedEof;
    match stage {
        Stage::Resolve => Failure::new(Code::Resolve, capitalised(&error.to_string())),
        Stage::Connect => Failure::new(Code::Connect, format!("Failed to connect to {target}: {error}")),
        Stage::Handshake => Failure::new(Code::Tls, format!("TLS handshake with {target}: {error}")),
        Stage::Request if is_end => Failure::new(Code::Empty, "Empty reply from server"),
        Stage::Request if error.kind() == io::ErrorKind::BrokenPipe => Failure::new(Code::Send, format!("Send failure: {error}")),
        Stage::Body if error.kind() == io::ErrorKind::UnexpectedEof => Failure::new(Code::Partial, "The body ended before its time"),
        _ => Failure::new(Code::Receive, format!("Receive failure: {error}")),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_means_different_things_at_different_stages() {
        let code = |stage| explain(Error::Io(io::ErrorKind::UnexpectedEof.into()), stage, "lab.test").exit_code();
        assert_eq!([code(Stage::Handshake), code(Stage::Request), code(Stage::Body)], [35, 52, 18]);
        let refused = explain(Error::Io(io::ErrorKind::ConnectionRefused.into()), Stage::Connect, "lab.test port 81");
        assert!(refused.to_string().starts_with("hopline-curl: (7) Failed to connect to lab.test port 81"));
    }
}
