//! HTTP/1.1 for any program: an [`ureq::Agent`] whose connections run on a Hopline stack.
//!
//! Owns the connector, the transport and the resolver that ureq asks for, and the [`HttpObserver`] that sees each step. Refuses everything that ureq
//! does: redirects, chunks, compression, cookies, pools. TLS is [`super::tls`]'s.
//!
//! The transport interface of ureq may change in any minor release, so the manifest pins one.

mod tap;
mod transport;

use super::tls::TlsClient;
use crate::socket::{ConnectOptions, Stack, TcpStream};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use transport::HoplineTransport;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};

/// What HTTP needs of a stack: names and connections.
pub trait Dialer: Send + Sync + 'static {
    /// The addresses of a host; the port is the one that will be connected to.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>>;
    /// A connection to `remote`; `TimedOut` if `timeout` passes first.
    fn connect(&self, remote: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream>;
}

impl Dialer for Stack {
    fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
        Stack::resolve(self, host)
    }

    fn connect(&self, remote: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
        self.connect_with(remote, &ConnectOptions { timeout, ..ConnectOptions::default() })
    }
}

/// Sees each step of an agent. Called in the thread that makes the request.
pub trait HttpObserver: Send + Sync + 'static {
    /// One step.
    fn observe(&self, step: HttpStep<'_>);
}

/// The steps of a request, in the order in which they happen. A connection that is reused has no steps but the last two.
#[derive(Debug)]
pub enum HttpStep<'a> {
    /// A name is about to be looked up.
    Resolving(&'a str),
    /// These are its addresses.
    Resolved(&'a [IpAddr]),
    /// A connection is about to be opened.
    Connecting(SocketAddr),
    /// It could not be.
    ConnectFailed(SocketAddr, &'a io::Error),
    /// It is open.
    Connected(&'a TcpStream),
    /// The TLS handshake begins, with the server of this name.
    TlsStarted(&'a str),
    /// It is done: version, cipher suite, protocol.
    TlsDone(&'a str),
    /// A request header was sent: its lines, with the empty one.
    RequestHeader(&'a [u8]),
    /// A response header came: its lines, with the empty one.
    ResponseHeader(&'a [u8]),
}

/// How an agent is made.
pub struct HttpOptions {
    /// Timeouts, redirects, headers: ureq's own configuration.
    pub config: ureq::config::Config,
    /// TLS for `https`.
    pub tls: TlsClient,
    /// Who sees each step.
    pub observer: Option<Arc<dyn HttpObserver>>,
}

impl HttpOptions {
    /// ureq's defaults over this TLS client.
    pub fn new(tls: TlsClient) -> HttpOptions {
        HttpOptions { config: ureq::config::Config::default(), tls, observer: None }
    }
}

/// An HTTP client whose connections `dialer` (a stack) opens. Proxies are not supported.
pub fn agent(dialer: impl Dialer, options: HttpOptions) -> ureq::Agent {
    let HttpOptions { config, tls, observer } = options;
    let way = Arc::new(Way { dialer: Box::new(dialer), tls, observer });
    ureq::Agent::with_parts(config, HoplineConnector(way.clone()), HoplineResolver(way))
}

/// How a connection was cut, if that is what `error` says: reset, aborted, or ended without TLS's close_notify. ureq would take these for the end of a body
/// without a length, so they reach it as [`io::ErrorKind::Other`].
pub fn interruption(error: &io::Error) -> Option<io::ErrorKind> {
    error.get_ref()?.downcast_ref::<transport::Interruption>().map(|cut| cut.0.kind())
}

/// What the parts that ureq holds have in common.
struct Way {
    dialer: Box<dyn Dialer>,
    tls: TlsClient,
    observer: Option<Arc<dyn HttpObserver>>,
}

impl Way {
    fn tell(&self, step: HttpStep<'_>) {
        if let Some(observer) = &self.observer {
            observer.observe(step);
        }
    }
}

struct HoplineResolver(Arc<Way>);

impl Resolver for HoplineResolver {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = target(uri)?;
        self.0.tell(HttpStep::Resolving(host));
        let addresses = self.0.dialer.resolve(host, port)?;
        self.0.tell(HttpStep::Resolved(&addresses));
        let mut all = self.empty();
        addresses.iter().take(MOST_ADDRESSES).for_each(|&address| all.push(SocketAddr::new(address, port)));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(all) }
    }
}

/// As many as ureq's list of addresses holds.
const MOST_ADDRESSES: usize = 16;

/// Host, without the brackets of an IPv6 literal, and port.
fn target(uri: &Uri) -> Result<(&str, u16), ureq::Error> {
    let authority = uri.authority().ok_or_else(|| ureq::Error::BadUri(format!("no host in {uri}")))?;
    let default = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => 443,
        Some(scheme) if *scheme == Scheme::HTTP => 80,
        _ => return Err(ureq::Error::BadUri(format!("unknown scheme in {uri}"))),
    };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((bare, authority.port_u16().unwrap_or(default)))
}

struct HoplineConnector(Arc<Way>);

impl Connector<()> for HoplineConnector {
    type Out = HoplineTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<HoplineTransport>, ureq::Error> {
        let (host, _) = target(details.uri)?;
        let until = transport::Until::new(details.timeout);
        let stream = self.connect_to_any(details, &until)?;
        let mut made = HoplineTransport::new(stream, details.config, self.0.observer.clone())?;
        (details.register_shutdown)(made.shutdown_handle())?;
        if details.needs_tls() {
            self.0.tell(HttpStep::TlsStarted(host));
            let agreed = made.start_tls(&self.0.tls, host, until)?;
            self.0.tell(HttpStep::TlsDone(&agreed));
        }
        Ok(Some(made))
    }
}

impl HoplineConnector {
    /// Tries the addresses in turn, so that one that is down does not hide the others (RFC 8305 §5, without the race). The time that is
    /// left is shared evenly among those not tried yet.
    fn connect_to_any(&self, details: &ConnectionDetails, until: &transport::Until) -> Result<TcpStream, ureq::Error> {
        let mut failure = ureq::Error::HostNotFound;
        let mut waiting = details.addrs.iter().count() as u32;
        for &remote in details.addrs.iter() {
            self.0.tell(HttpStep::Connecting(remote));
            let share = until.left()?.map(|left| left / waiting.max(1));
            waiting = waiting.saturating_sub(1);
            match self.0.dialer.connect(remote, share) {
                Ok(stream) => {
                    self.0.tell(HttpStep::Connected(&stream));
                    return Ok(stream);
                }
                Err(error) => {
                    self.0.tell(HttpStep::ConnectFailed(remote, &error));
                    failure = until.explain(error);
                }
            }
        }
        Err(failure)
    }
}

impl fmt::Debug for HoplineResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoplineResolver")
    }
}

impl fmt::Debug for HoplineConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoplineConnector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_of_uris() {
        let of = |text: &str| target(&text.parse().unwrap()).map(|(host, port)| (host.to_owned(), port)).ok();
        assert_eq!(of("http://lab.test/"), Some(("lab.test".into(), 80)));
        assert_eq!(of("https://lab.test/"), Some(("lab.test".into(), 443)));
        assert_eq!(of("https://[2001:db8::1]:8443/"), Some(("2001:db8::1".into(), 8443)));
        assert_eq!(of("ftp://lab.test/"), None);
        assert_eq!(of("/path"), None);
    }
}
