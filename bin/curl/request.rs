//! From the command line to requests.

use super::failure::{Code, Failure};
use super::options::CurlOptions;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use ureq::http::{HeaderName, HeaderValue, Method, Request, Uri};
use ureq::{Agent, Body, SendBody};

/// What a request carries. Kept apart from the request, so that a retry can send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Nothing,
    Form(Vec<u8>),
    File(PathBuf),
    StandardInput,
}

impl Payload {
    pub(crate) fn of(options: &CurlOptions) -> Result<Payload, Failure> {
        match &options.upload_file {
            Some(path) if path.as_os_str() == "-" => return Ok(Payload::StandardInput),
            Some(path) => return Ok(Payload::File(path.clone())),
            None => {}
        }
        if options.get || (options.data.is_empty() && options.data_binary.is_empty()) {
            return Ok(Payload::Nothing);
        }
        form(options).map(Payload::Form)
    }

    /// The body, and its length if it is known beforehand.
    fn open(&self) -> Result<(SendBody<'static>, Option<u64>), Failure> {
        match self {
            Payload::Nothing => Ok((SendBody::none(), None)),
            Payload::Form(bytes) => Ok((SendBody::from_owned_reader(Cursor::new(bytes.clone())), Some(bytes.len() as u64))),
            Payload::File(path) => {
                let file = File::open(path).map_err(|error| unreadable(path, &error))?;
                let length = file.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
                Ok((SendBody::from_owned_reader(file), length))
            }
            Payload::StandardInput => Ok((SendBody::from_owned_reader(io::stdin()), None)),
        }
    }
}

/// All `-d` and `--data-binary`, joined by `&`. (Their order among each other is lost on us.)
fn form(options: &CurlOptions) -> Result<Vec<u8>, Failure> {
    let mut parts = Vec::new();
    for text in &options.data {
        let mut part = read_data(text)?;
        if text.starts_with('@') {
            part.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        }
        parts.push(part);
    }
    for text in &options.data_binary {
        parts.push(read_data(text)?);
    }
    Ok(parts.join(&b'&'))
}

fn read_data(text: &str) -> Result<Vec<u8>, Failure> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.as_bytes().to_vec()) };
    let mut bytes = Vec::new();
    let result = if path == "-" { io::stdin().read_to_end(&mut bytes).map(drop) } else { std::fs::read(path).map(|read| bytes = read) };
    result.map(|()| bytes).map_err(|error| unreadable(Path::new(path), &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::ReadLocal, format!("Failed to open {}: {error}", path.display()))
}

/// A URL as curl reads it: without a scheme it is http, a fragment is not sent.
pub(crate) fn parse_url(text: &str, options: &CurlOptions) -> Result<Uri, Failure> {
    let bare = text.split('#').next().unwrap_or_default();
    let with_scheme = if bare.contains("://") { bare.to_owned() } else { format!("http://{bare}") };
    let (with_query, name) = (add_query(with_scheme, options)?, upload_name(options));
    let whole = if with_query.ends_with('/') { with_query + &name } else { with_query };
    let uri: Uri = whole.parse().map_err(|error| Failure::new(Code::Url, format!("URL rejected: {error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(Failure::new(Code::UnsupportedProtocol, format!("Protocol \"{other}\" not supported"))),
        None => return Err(Failure::new(Code::Url, "URL rejected: no scheme")),
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(Failure::new(Code::Url, "URL rejected: No host part in the URL"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().ends_with(':') || bad_port(authority.as_str())) {
        return Err(Failure::new(Code::Url, "URL rejected: Port number was not a decimal number between 0 and 65535"));
    }
    Ok(uri)
}

/// What stands behind the last colon outside brackets has to be a port.
fn bad_port(authority: &str) -> bool {
    let behind_brackets = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let behind_user = behind_brackets.rsplit_once('@').map_or(behind_brackets, |(_, rest)| rest);
    behind_user.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err())
}

/// `-G` puts the data of `-d` behind the path.
fn add_query(url: String, options: &CurlOptions) -> Result<String, Failure> {
    if !options.get {
        return Ok(url);
    }
    let query = String::from_utf8_lossy(&form(options)?).into_owned();
    let joint = if url.contains('?') { '&' } else { '?' };
    Ok(if query.is_empty() { url } else { format!("{url}{joint}{query}") })
}

/// `-T FILE http://host/` uploads to `http://host/FILE`.
fn upload_name(options: &CurlOptions) -> String {
    let name = options.upload_file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name.filter(|name| *name != "-").unwrap_or_default().to_owned()
}

/// Sends one request and returns the response's header; the body is still to be read.
pub(crate) fn send(
    agent: &Agent,
    options: &CurlOptions,
    uri: &Uri,
    payload: &Payload,
    offset: Option<u64>,
) -> Result<ureq::http::Response<Body>, SendError> {
    let (body, length) = payload.open()?;
    let mut request = Request::builder().method(method(options, payload)?).uri(uri.clone()).body(())?;
    set_headers(&mut request, options, payload, length, offset)?;
    let has_body = *payload != Payload::Nothing;
    let usually_has_none = !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if has_body && usually_has_none {
        return send_unusually(agent, &request, body);
    }
    Ok(agent.run(request.map(|()| body))?)
}

/// `-X GET -d …`: ureq wants to be told that this is meant.
fn send_unusually(agent: &Agent, request: &Request<()>, body: SendBody<'static>) -> Result<ureq::http::Response<Body>, SendError> {
    let uri = request.uri();
    let builder = match *request.method() {
        Method::GET => agent.get(uri),
        Method::DELETE => agent.delete(uri),
        Method::OPTIONS => agent.options(uri),
        _ => return Err(Failure::new(Code::Usage, format!("A {} request with a body is not supported", request.method())).into()),
    };
    let fill = |builder: ureq::RequestBuilder<_>, (name, value)| builder.header(name, value);
    Ok(request.headers().iter().fold(builder, fill).force_send_body().send(body)?)
}

/// Why a request could not be sent or was not answered.
pub(crate) enum SendError {
    Own(Failure),
    Theirs(ureq::Error),
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> SendError {
        SendError::Own(failure)
    }
}

impl From<ureq::Error> for SendError {
    fn from(error: ureq::Error) -> SendError {
        SendError::Theirs(error)
    }
}

impl From<ureq::http::Error> for SendError {
    fn from(error: ureq::http::Error) -> SendError {
        SendError::Theirs(error.into())
    }
}

fn method(options: &CurlOptions, payload: &Payload) -> Result<Method, Failure> {
    if let Some(name) = &options.request {
        return name.parse().map_err(|_| Failure::new(Code::Usage, format!("{name:?} is not a method")));
    }
    Ok(match payload {
        Payload::Nothing if options.head => Method::HEAD,
        Payload::Nothing => Method::GET,
        Payload::Form(_) => Method::POST,
        Payload::File(_) | Payload::StandardInput => Method::PUT,
    })
}

fn set_headers(
    request: &mut Request<()>,
    options: &CurlOptions,
    payload: &Payload,
    length: Option<u64>,
    offset: Option<u64>,
) -> Result<(), Failure> {
    let mut set = |name: &str, value: &str| insert(request, name, value);
    if let Payload::Form(_) = payload {
        set("content-type", "application/x-www-form-urlencoded")?;
    }
    if let Some(length) = length {
        set("content-length", &length.to_string())?;
    }
    if let Some(offset) = offset.filter(|offset| *offset > 0) {
        set("range", &format!("bytes={offset}-"))?;
    }
    if let Some(user) = &options.user {
        set("authorization", &format!("Basic {}", base64(user.as_bytes())))?;
    }
    for (name, value) in [("referer", &options.referer), ("cookie", &options.cookie)] {
        if let Some(value) = value {
            set(name, value)?;
        }
    }
    for (name, value) in options.header.iter().filter_map(|field| split_field(field)) {
        set(name, value)?;
    }
    Ok(())
}

fn insert(request: &mut Request<()>, name: &str, value: &str) -> Result<(), Failure> {
    let rejected = || Failure::new(Code::Usage, format!("{name}: {value} is not a header field"));
    let name: HeaderName = name.parse().map_err(|_| rejected())?;
    let value = HeaderValue::from_str(value).map_err(|_| rejected())?;
    request.headers_mut().insert(name, value);
    Ok(())
}

/// `Name: value`, or `Name;` for a field without a value. `Name:` takes a field away: see [`is_removed`].
fn split_field(field: &str) -> Option<(&str, &str)> {
    match field.split_once(':') {
        Some((name, value)) => Some((name.trim(), value.trim())).filter(|(_, value)| !value.is_empty()),
        None => field.strip_suffix(';').map(|name| (name.trim(), "")),
    }
}

/// Whether `-H "Name:"` takes away a field that is sent by itself.
pub(crate) fn is_removed(options: &CurlOptions, name: &str) -> bool {
    let removes =
        |field: &String| field.split_once(':').is_some_and(|(own, value)| own.trim().eq_ignore_ascii_case(name) && value.trim().is_empty());
    options.header.iter().any(removes)
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * index)) as usize & 63] as char;
            text.push(if index <= group.len() { symbol } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &[&str]) -> CurlOptions {
        CurlOptions::parse_from(["hopline-curl", "http://lab.test/"].iter().chain(arguments))
    }

    #[test]
    fn urls_as_curl_reads_them() {
        let read = |text| parse_url(text, &options(&[])).map(|uri| uri.to_string()).map_err(|failure| failure.code);
        assert_eq!(read("lab.test"), Ok("http://lab.test/".into()));
        assert_eq!(read("https://lab.test/a#b"), Ok("https://lab.test/a".into()));
        assert_eq!(read("ftp://lab.test/"), Err(Code::UnsupportedProtocol));
        for text in ["http://", "http://lab test/", "http://lab.test:99999/", "http://lab.test:/", "http://[::1/"] {
            assert_eq!(read(text), Err(Code::Url), "{text}");
        }
    }

    #[test]
    fn uploads_and_queries_extend_the_url() {
        let uri = parse_url("http://lab.test/", &options(&["-T", "/tmp/file.bin"])).unwrap();
        assert_eq!(uri.path(), "/file.bin");
        let uri = parse_url("http://lab.test/?x=1", &options(&["-G", "-d", "a=b", "-d", "c=d"])).unwrap();
        assert_eq!(uri.query(), Some("x=1&a=b&c=d"));
    }

    #[test]
    fn fields_are_added_and_removed() {
        let options = options(&["-H", "X-A: b", "-H", "Accept:", "-H", "Empty;", "-u", "lab:test"]);
        let mut request = Request::builder().uri("http://lab.test/").body(()).unwrap();
        set_headers(&mut request, &options, &Payload::Nothing, None, Some(5)).unwrap();
        let value = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!([value("x-a"), value("accept"), value("empty")], [Some("b".into()), None, Some(String::new())]);
        assert_eq!([value("authorization"), value("range")], [Some("Basic bGFiOnRlc3Q=".into()), Some("bytes=5-".into())]);
        assert!(is_removed(&options, "accept") && !is_removed(&options, "x-a"));
    }

    #[test]
    fn base64_of_rfc_4648() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        cases.iter().for_each(|(plain, coded)| assert_eq!(base64(plain.as_bytes()), *coded));
    }
}
