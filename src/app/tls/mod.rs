//! TLS 1.2 and 1.3 over any byte stream, by rustls: the one place that knows rustls.
//!
//! Owns how clients and servers are configured ([`TlsOptions`], [`server_config`]), the handshake, the orderly end ([`close`]), and the key log. Refuses
//! to weaken anything unasked: without options, the system's roots are trusted and names are checked. The cryptography is ring, always named
//! explicitly, so that a program that also links another provider works.
//!
//! rustls sends no close_notify by itself: call [`close`]. A stream that ends without the peer's close_notify gives
//! [`std::io::ErrorKind::UnexpectedEof`]: somebody may have cut it (RFC 8446 §6.1).

mod key_log;
mod trust;

pub use rustls::pki_types::{CertificateDer, PrivateKeyDer};
pub use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
pub use trust::{Roots, certificates_from_pem, private_key_from_pem};

use crate::socket::{Stack, TcpStream};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ConnectionCommon, SideData, SupportedProtocolVersion};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What a client wants of TLS.
#[derive(Debug, Default)]
pub struct TlsOptions {
    /// Protocols to offer, the preferred one first: `b"http/1.1"` (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// Whom to trust.
    pub roots: Roots,
    /// More certificates to trust, besides `roots`.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Our certificate, its chain, and its key, for servers that ask for one.
    pub client_certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Accept any certificate for any name. The connection is then open to whoever is in the middle.
    pub insecure: bool,
    /// Which versions of TLS.
    pub versions: Versions,
    /// Where to write the secrets of each session, for Wireshark; the file is made with mode 0600. See [`key_log_from_environment`].
    pub key_log: Option<PathBuf>,
    /// Sessions remembered, to resume; they are shared by all connections of one [`TlsClient`].
    pub sessions: Sessions,
}

/// Versions of TLS.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.3, or 1.2 with a server that has no better.
    #[default]
    Both,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

/// Sessions that a client remembers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sessions(pub usize);

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions(256)
    }
}

/// The file that the environment variable `SSLKEYLOGFILE` names, if it is set and not empty.
pub fn key_log_from_environment() -> Option<PathBuf> {
    std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A client configuration, shared by connections: cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// A client with these options. Fails on a client certificate that does not fit its key, and on a key log that cannot be opened.
    pub fn new(options: TlsOptions) -> io::Result<TlsClient> {
        let provider = provider();
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(options.versions.list()).map_err(failed)?;
        let builder = trust::configure(builder, provider, &options)?;
        let mut config = match options.client_certificate {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = options.alpn;
        config.resumption = Resumption::in_memory_sessions(options.sessions.0);
        if let Some(path) = options.key_log {
            config.key_log = Arc::new(key_log::KeyLogFile::create(&path)?);
        }
        Ok(TlsClient(Arc::new(config)))
    }

    /// Connects to `host:port` over a stack and does the handshake.
    pub fn connect(&self, stack: &Stack, target: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let (host, _) = target.rsplit_once(':').unwrap_or((target, ""));
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.handshake(bare, stack.connect(target)?)
    }

    /// Does the handshake over `socket` with the server that `name` (a DNS name or an address) says.
    pub fn handshake<S: Read + Write>(&self, name: &str, socket: S) -> io::Result<StreamOwned<ClientConnection, S>> {
        let mut stream = self.start(name, socket)?;
        complete_handshake(&mut stream)?;
        Ok(stream)
    }

    /// A stream whose handshake is still to be done: by [`complete_handshake`], or by the first read or write.
    pub fn start<S: Read + Write>(&self, name: &str, socket: S) -> io::Result<StreamOwned<ClientConnection, S>> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned()).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name that a certificate could have: {error}"))
        })?;
        let connection = ClientConnection::new(self.0.clone(), server).map_err(failed)?;
        Ok(StreamOwned::new(connection, socket))
    }
}

/// Connects to `host:port` and does the handshake, trusting the system's roots. All calls remember sessions together, so that later ones can
/// resume; for anything else make a [`TlsClient`].
pub fn connect(stack: &Stack, target: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    static DEFAULT: OnceLock<TlsClient> = OnceLock::new();
    let client = match DEFAULT.get() {
        Some(client) => client,
        None => {
            let made = TlsClient::new(TlsOptions { key_log: key_log_from_environment(), ..TlsOptions::default() })?;
            DEFAULT.get_or_init(|| made)
        }
    };
    client.connect(stack, target)
}

/// Does what is left of a handshake.
pub fn complete_handshake<C, S, T>(stream: &mut StreamOwned<C, S>) -> io::Result<()>
where
    C: DerefMut + Deref<Target = ConnectionCommon<T>>,
    S: Read + Write,
    T: SideData,
{
    while stream.conn.is_handshaking() {
        let (read, written) = stream.conn.complete_io(&mut stream.sock)?;
        if read == 0 && written == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// A server's configuration: its certificate and chain, the key, and the protocols it speaks. Sessions can be resumed.
pub fn server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> io::Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(failed)?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).map_err(failed)?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(failed)?;
    Ok(Arc::new(config))
}

/// Does the server's side of a handshake over `socket`.
pub fn accept<S: Read + Write>(config: &Arc<ServerConfig>, socket: S) -> io::Result<StreamOwned<ServerConnection, S>> {
    let connection = ServerConnection::new(config.clone()).map_err(failed)?;
    let mut stream = StreamOwned::new(connection, socket);
    complete_handshake(&mut stream)?;
    Ok(stream)
}

/// A socket whose sending direction can be ended by itself.
pub trait HalfClose {
    /// Sends no more.
    fn half_close(&self) -> io::Result<()>;
}

impl HalfClose for std::net::TcpStream {
    fn half_close(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl HalfClose for TcpStream {
    fn half_close(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Ends our direction in order: close_notify, flush, half-close. What the peer still sends can be read afterwards.
pub fn close<C, S, T>(stream: &mut StreamOwned<C, S>) -> io::Result<()>
where
    C: DerefMut + Deref<Target = ConnectionCommon<T>>,
    S: Read + Write + HalfClose,
    T: SideData,
{
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    stream.sock.flush()?;
    stream.sock.half_close()
}

/// Whether `error` comes of a certificate that cannot be trusted, and why: a few words for people.
pub fn certificate_problem(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(problem) => Some(problem.to_string()),
        rustls::Error::NoCertificatesPresented => Some("the server has no certificate".to_owned()),
        _ => None,
    }
}

/// Whether `error` is one of TLS and not of the stream under it.
pub fn is_tls_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What was agreed on, for people: `TLSv1.3, TLS13_AES_256_GCM_SHA384, ALPN http/1.1, resumed`.
pub fn description<T: SideData>(connection: &ConnectionCommon<T>) -> String {
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("no version");
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("no cipher suite");
    let protocol = connection.alpn_protocol().map(|name| format!(", ALPN {}", String::from_utf8_lossy(name))).unwrap_or_default();
    let resumed = if connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed) { ", resumed" } else { "" };
    format!("{}, {suite}{protocol}{resumed}", version.replace('_', "."))
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        static ONLY_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Versions::Both => rustls::ALL_VERSIONS,
            Versions::Only12 => &ONLY_12,
            Versions::Only13 => &ONLY_13,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
