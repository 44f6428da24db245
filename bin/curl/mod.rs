//! The curl program: one URL after the other, over one agent, so that connections are used again.

mod failure;
mod options;
mod output;
mod report;
mod request;
mod write_out;

pub(crate) use options::CurlOptions;

use crate::common::{INTERRUPTED, Session, say, tell};
use failure::{Code, Failure, Stage, explain};
use hopline::app::http::{self, Dialer, HttpOptions};
use hopline::app::tls::{self, Roots, TlsClient, TlsOptions, Versions};
use hopline::socket::{ConnectOptions, Stack, TcpStream};
use output::{CopyError, Sink, Target, copy, progress_bar};
use report::Report;
use request::{Payload, SendError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::{AutoHeaderValue, Config, RedirectAuthHeaders};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, ResponseExt};
use write_out::Summary;

/// How long curl waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest response header taken.
const LONGEST_HEADER: usize = 256 << 10;
const BUFFER: usize = 256 << 10;
/// Status codes that may be others in a while (curl's `--retry`).
const TRANSIENT: [u16; 6] = [408, 429, 500, 502, 503, 504];
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Runs to the end and returns the exit code: that of the last transfer.
pub(crate) fn run(options: &CurlOptions, session: Session) -> i32 {
    let closer = session.closer();
    session.interrupt().set_ending(move || {
        closer.close(Duration::from_secs(1));
        INTERRUPTED
    });
    let code = match Curl::new(options, &session) {
        Ok(curl) => options.urls.iter().enumerate().fold(0, |_, (index, url)| curl.transfer_with_retries(index, url)),
        Err(failure) => complain(options, &failure),
    };
    session.close(code)
}

/// The first URL's address, where it is known without asking anybody: a literal, or what `--resolve` says.
pub(crate) fn target_of(options: &CurlOptions) -> Option<IpAddr> {
    let uri = request::parse_url(options.urls.first()?, options).ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let resolved = || options.resolve.iter().filter_map(|entry| parse_entry(entry)).find(|(own, ..)| own.eq_ignore_ascii_case(&host));
    host.parse().ok().or_else(|| resolved()?.2.first().copied())
}

/// Prints an error unless it is to be silent; the exit code.
fn complain(options: &CurlOptions, failure: &Failure) -> i32 {
    if options.shows_errors() {
        tell(format_args!("{failure}"));
    }
    failure.exit_code()
}

struct Curl<'a> {
    options: &'a CurlOptions,
    session: &'a Session,
    agent: Agent,
    report: Arc<Report>,
    payload: Payload,
}

impl<'a> Curl<'a> {
    fn new(options: &'a CurlOptions, session: &'a Session) -> Result<Curl<'a>, Failure> {
        if options.proxy.is_some() {
            return Err(Failure::new(Code::Usage, "Proxies (-x) are not supported"));
        }
        let report = Arc::new(Report::new(options.verbose));
        session.notes().iter().for_each(|note| report.note(format_args!("{note}")));
        let dialer = CurlDialer::new(options, session.stack())?;
        let tls = TlsClient::new(tls_options(options, session)?).map_err(|error| Failure::new(Code::Tls, error))?;
        let agent = http::agent(dialer, HttpOptions { config: config(options), tls, observer: Some(report.clone()) });
        Ok(Curl { options, session, agent, report, payload: Payload::of(options)? })
    }

    /// Tries again what may pass, with pauses that double (curl's `--retry`).
    fn transfer_with_retries(&self, index: usize, url: &str) -> i32 {
        let mut pause = Duration::from_secs(1);
        let mut tries_left = self.options.retry;
        loop {
            let (summary, result) = self.transfer(index, url);
            let may_pass = summary.exit_code == Code::Timeout as i32 || TRANSIENT.contains(&summary.status);
            if may_pass && tries_left > 0 {
                tries_left -= 1;
                self.report.note(format_args!("Trying again in {} s, {tries_left} retries left after that", pause.as_secs()));
                std::thread::sleep(pause);
                pause = (2 * pause).min(LONGEST_PAUSE);
                continue;
            }
            return self.conclude(&summary, result);
        }
    }

    fn conclude(&self, summary: &Summary, result: Result<(), Failure>) -> i32 {
        if self.session.interrupt().has_come() {
            return INTERRUPTED;
        }
        let code = result.map_or_else(|failure| complain(self.options, &failure), |()| 0);
        if let Some(format) = &self.options.write_out {
            say(format_args!("{}", write_out::expand(format, summary)));
        }
        code
    }

    fn transfer(&self, index: usize, url: &str) -> (Summary, Result<(), Failure>) {
        self.report.restart();
        let mut summary = Summary { url: url.to_owned(), ..Summary::default() };
        let result = self.try_transfer(index, url, &mut summary);
        summary.progress = self.report.progress();
        summary.total = summary.progress.elapsed();
        if let Err(failure) = &result {
            summary.exit_code = failure.exit_code();
            summary.error = failure.text.clone();
        }
        (summary, result)
    }

    fn try_transfer(&self, index: usize, url: &str, summary: &mut Summary) -> Result<(), Failure> {
        let uri = request::parse_url(url, self.options)?;
        summary.url = uri.to_string();
        let target = Target::of(self.options, index, &uri)?;
        let offset = target.offset(self.options)?;
        let sent = request::send(&self.agent, self.options, &uri, &self.payload, offset);
        let response = sent.map_err(|error| self.explain_send(error, &uri))?;
        describe(summary, &response, &target);
        self.receive(response, &target, offset, summary)
    }

    fn explain_send(&self, error: SendError, uri: &Uri) -> Failure {
        match error {
            SendError::Own(failure) => failure,
            SendError::Theirs(error) => self.explain(error, uri),
        }
    }

    fn explain(&self, error: ureq::Error, uri: &Uri) -> Failure {
        let progress = self.report.progress();
        let host = if progress.target.is_empty() { uri.host().unwrap_or_default().to_owned() } else { progress.target };
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let target = if progress.stage == Stage::Resolve { host } else { format!("{host} port {port}") };
        explain(error, progress.stage, &target)
    }

    fn receive(&self, response: Response<Body>, target: &Target, offset: Option<u64>, summary: &mut Summary) -> Result<(), Failure> {
        let status = response.status().as_u16();
        if self.options.fail && status >= 400 {
            return Err(Failure::new(Code::Http, format!("The requested URL returned error: {status}")));
        }
        let resumed = offset.filter(|offset| *offset > 0);
        if let Some(offset) = resumed {
            match check_range(&response, offset)? {
                Resumption::Continue => {}
                Resumption::Complete => return Ok(()),
            }
        }
        let mut sink = target.open(resumed.is_some())?;
        self.write_headers(&mut sink)?;
        self.receive_body(response, target, &mut sink, summary)
    }

    fn write_headers(&self, sink: &mut Sink) -> Result<(), Failure> {
        if !self.options.include && !self.options.head {
            return Ok(());
        }
        self.report.progress().headers.iter().try_for_each(|header| sink.write(header))
    }

    fn receive_body(&self, response: Response<Body>, target: &Target, sink: &mut Sink, summary: &mut Summary) -> Result<(), Failure> {
        let uri = response.get_uri().clone();
        let bar = progress_bar(self.options, target, response.body().content_length());
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let result = copy(&mut body, sink, &bar, &mut summary.downloaded);
        bar.finish_and_clear();
        match result {
            Ok(()) => Ok(()),
            Err(CopyError::Write(failure)) => Err(failure),
            Err(CopyError::Read(error)) => Err(self.explain(error.into(), &uri)),
        }
    }
}

fn describe(summary: &mut Summary, response: &Response<Body>, target: &Target) {
    let field = |name: &str| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    summary.status = response.status().as_u16();
    summary.url = response.get_uri().to_string();
    summary.content_type = field("content-type").unwrap_or_default();
    summary.redirect_url = field("location").unwrap_or_default();
    summary.redirects = response.get_redirect_history().map_or(0, |history| history.len().saturating_sub(1));
    if let Target::File(path) = target {
        summary.file = path.display().to_string();
    }
}

/// What the server made of the wish to go on at an offset.
enum Resumption {
    Continue,
    /// There is nothing behind the offset.
    Complete,
}

fn check_range(response: &Response<Body>, offset: u64) -> Result<Resumption, Failure> {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match response.status().as_u16() {
        206 if range.starts_with(&format!("bytes {offset}-")) => Ok(Resumption::Continue),
        416 if range == format!("bytes */{offset}") => Ok(Resumption::Complete),
        _ => Err(Failure::new(Code::Range, "HTTP server does not seem to support byte ranges. Cannot resume.")),
    }
}

fn config(options: &CurlOptions) -> Config {
    let limited = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let redirects = u32::try_from(options.max_redirs).unwrap_or(u32::MAX);
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(if options.location { redirects } else { 0 })
        .max_redirects_will_error(options.location)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .save_redirect_history(true)
        .allow_non_standard_methods(true)
        .user_agent(header_value(options, "user-agent", options.user_agent.as_deref().unwrap_or(USER_AGENT)))
        .accept(header_value(options, "accept", "*/*"))
        .accept_encoding(if options.compressed { AutoHeaderValue::Default } else { AutoHeaderValue::None })
        .timeout_global(limited(options.max_time))
        .timeout_connect(Some(limited(options.connect_timeout).unwrap_or(CONNECT_TIMEOUT)))
        .max_response_header_size(LONGEST_HEADER)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .build()
}

const USER_AGENT: &str = concat!("hopline-curl/", env!("CARGO_PKG_VERSION"));

/// A header field that is sent unless `-H "Name:"` takes it away.
fn header_value(options: &CurlOptions, name: &str, value: &str) -> AutoHeaderValue {
    if request::is_removed(options, name) { AutoHeaderValue::None } else { AutoHeaderValue::Provided(Arc::new(value.to_owned())) }
}

fn tls_options(options: &CurlOptions, session: &Session) -> Result<TlsOptions, Failure> {
    let mut tls = session.tls_options();
    if let Some(path) = &options.cacert {
        tls.roots = Roots::None;
        tls.extra_roots = tls::certificates_from_pem(&read(path)?).map_err(|error| unusable(path, &error))?;
    }
    if let (Some(certificate), Some(key)) = (&options.cert, &options.key) {
        let chain = tls::certificates_from_pem(&read(certificate)?).map_err(|error| unusable(certificate, &error))?;
        let key = tls::private_key_from_pem(&read(key)?).map_err(|error| unusable(key, &error))?;
        tls.client_certificate = Some((chain, key));
    }
    tls.alpn = vec![b"http/1.1".to_vec()];
    tls.insecure = options.insecure;
    tls.versions = if options.tls_1_3 { Versions::Only13 } else { Versions::Both };
    tls.key_log = tls::key_log_from_environment();
    Ok(tls)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::CaFile, format!("error setting certificate file {}: {error}", path.display()))
}

/// The stack, with `--resolve` in front and one family of addresses alone with `-4` or `-6`.
struct CurlDialer {
    stack: Stack,
    known: Vec<(String, u16, Vec<IpAddr>)>,
    ipv4: bool,
    ipv6: bool,
}

impl CurlDialer {
    fn new(options: &CurlOptions, stack: &Stack) -> Result<CurlDialer, Failure> {
        let parse =
            |entry: &String| parse_entry(entry).ok_or_else(|| Failure::new(Code::Usage, format!("{entry:?} is not HOST:PORT:ADDRESS")));
        let known = options.resolve.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(CurlDialer { stack: stack.clone(), known, ipv4: options.ipv4, ipv6: options.ipv6 })
    }

    fn wants(&self, address: &IpAddr) -> bool {
        (!self.ipv4 || address.is_ipv4()) && (!self.ipv6 || address.is_ipv6())
    }
}

impl Dialer for CurlDialer {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let known = self.known.iter().rev().find(|(own, at, _)| (own == "*" || own.eq_ignore_ascii_case(host)) && *at == port);
        let mut addresses = known.map_or_else(|| self.stack.resolve(host), |(_, _, addresses)| Ok(addresses.clone()))?;
        addresses.retain(|address| self.wants(address));
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("could not resolve host {host}: no address of this family")));
        }
        Ok(addresses)
    }

    fn connect(&self, remote: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
        self.stack.connect_with(remote, &ConnectOptions { timeout, ..ConnectOptions::default() })
    }
}

/// `HOST:PORT:ADDRESS[,ADDRESS]`, IPv6 addresses in brackets or not.
fn parse_entry(entry: &str) -> Option<(String, u16, Vec<IpAddr>)> {
    let (host, rest) = entry.trim_start_matches('+').split_once(':')?;
    let (port, addresses) = rest.split_once(':')?;
    let parse = |text: &str| text.trim_matches(['[', ']']).parse().ok();
    Some((host.to_owned(), port.parse().ok()?, addresses.split(',').map(parse).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_entries() {
        let (host, port, addresses) = parse_entry("lab.test:443:192.0.2.1,[2001:db8::1]").unwrap();
        assert_eq!((host.as_str(), port, addresses.len()), ("lab.test", 443, 2));
        assert!(parse_entry("lab.test:443").is_none() && parse_entry("lab.test:x:192.0.2.1").is_none());
    }
}
