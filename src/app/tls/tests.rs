use super::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// One direction of an in-memory connection.
#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    ended: bool,
}

/// One end of an in-memory connection: a read that finds nothing is `WouldBlock`.
#[derive(Clone, Debug)]
struct Pipe {
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
}

fn pipe() -> (Pipe, Pipe) {
    let (left, right) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
    (Pipe { incoming: Rc::clone(&left), outgoing: Rc::clone(&right) }, Pipe { incoming: right, outgoing: left })
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.bytes.is_empty() && !incoming.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        incoming.bytes.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.borrow_mut().bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HalfClose for Pipe {
    fn half_close(&self) -> io::Result<()> {
        self.outgoing.borrow_mut().ended = true;
        Ok(())
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["lab.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    Identity { certificate: made.cert.der().clone(), key }
}

type Client = StreamOwned<ClientConnection, Pipe>;
type Server = StreamOwned<ServerConnection, Pipe>;

/// Takes turns until both sides are through; the first failure of either.
fn shake(client: &TlsClient, server: &Arc<ServerConfig>, name: &str) -> io::Result<(Client, Server)> {
    let (left, right) = pipe();
    let mut client = client.start(name, left)?;
    let mut server = StreamOwned::new(ServerConnection::new(server.clone()).map_err(failed)?, right);
    for _ in 0..10 {
        let results = [complete_handshake(&mut client), complete_handshake(&mut server)];
        for result in results {
            result.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
        }
        if !client.conn.is_handshaking() && !server.conn.is_handshaking() {
            return Ok((client, server));
        }
    }
    panic!("the handshake does not end");
}

fn client(identity: &Identity, options: TlsOptions) -> TlsClient {
    TlsClient::new(TlsOptions { roots: Roots::None, extra_roots: vec![identity.certificate.clone()], ..options }).unwrap()
}

fn server(identity: &Identity) -> Arc<ServerConfig> {
    server_config(vec![identity.certificate.clone()], identity.key.clone_key(), &[b"http/1.1"]).unwrap()
}

#[test]
fn bytes_and_an_orderly_end_cross() {
    let identity = identity();
    let options = TlsOptions { alpn: vec![b"http/1.1".to_vec()], ..TlsOptions::default() };
    let (mut client, mut server) = shake(&client(&identity, options), &server(&identity), "lab.test").unwrap();
    assert!(description(&client.conn).starts_with("TLSv1.3, TLS13_"));
    assert!(description(&client.conn).ends_with(", ALPN http/1.1"));
    server.write_all(b"hello").unwrap();
    close(&mut server).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn a_cut_stream_is_not_an_orderly_end() {
    let identity = identity();
    let (mut client, mut server) = shake(&client(&identity, TlsOptions::default()), &server(&identity), "lab.test").unwrap();
    server.write_all(b"hel").unwrap();
    server.sock.half_close().unwrap();
    let error = client.read_to_end(&mut vec![]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_second_connection_resumes_the_session_of_the_first() {
    let identity = identity();
    for versions in [Versions::Only12, Versions::Only13] {
        let client = client(&identity, TlsOptions { versions, ..TlsOptions::default() });
        let server = server(&identity);
        let (mut first, mut first_server) = shake(&client, &server, "lab.test").unwrap();
        first_server.write_all(b"x").unwrap();
        first.read_exact(&mut [0]).unwrap();
        let (second, _) = shake(&client, &server, "lab.test").unwrap();
        assert!(!description(&first.conn).contains("resumed"), "{versions:?}");
        assert!(description(&second.conn).ends_with(", resumed"), "{versions:?}");
    }
}

#[test]
fn strangers_and_wrong_names_are_refused_unless_told_otherwise() {
    let (known, stranger) = (identity(), identity());
    let refused = |name: &str, who: &Identity| shake(&client(&known, TlsOptions::default()), &server(who), name).unwrap_err();
    let error = refused("lab.test", &stranger);
    assert!(certificate_problem(&error).is_some() && is_tls_error(&error), "{error}");
    assert!(certificate_problem(&refused("other.test", &known)).is_some());
    let insecure = client(&known, TlsOptions { insecure: true, ..TlsOptions::default() });
    assert!(shake(&insecure, &server(&stranger), "other.test").is_ok());
    assert!(certificate_problem(&io::Error::from(io::ErrorKind::UnexpectedEof)).is_none());
}

#[test]
fn versions_that_do_not_meet_fail_as_tls_and_not_as_a_certificate() {
    let identity = identity();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(Versions::Only12.list()).unwrap();
    let old = builder.with_no_client_auth().with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key()).unwrap();
    let new = client(&identity, TlsOptions { versions: Versions::Only13, ..TlsOptions::default() });
    let error = shake(&new, &Arc::new(old), "lab.test").unwrap_err();
    assert!(is_tls_error(&error) && certificate_problem(&error).is_none(), "{error}");
}

#[test]
fn names_that_no_certificate_could_have_are_invalid_input() {
    let client = client(&identity(), TlsOptions::default());
    assert_eq!(client.start("not a name", pipe().0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn pem_text_is_read_and_nonsense_is_not() {
    let made = rcgen::generate_simple_self_signed(vec!["lab.test".to_owned()]).unwrap();
    assert_eq!(certificates_from_pem(made.cert.pem().as_bytes()).unwrap(), [made.cert.der().clone()]);
    assert!(private_key_from_pem(made.signing_key.serialize_pem().as_bytes()).is_ok());
    assert!(certificates_from_pem(b"nothing").is_err() && private_key_from_pem(b"nothing").is_err());
}
