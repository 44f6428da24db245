//! The server: every service on one thread, by one poller.

use super::connection::{Connection, Progress, Service};
use super::datagrams::{self, Datagrams};
use hopline::socket::{Event, Interest, Pollable, Poller, Stack, TcpListener};
use slab::Slab;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;

/// Bytes that a read or write moves at most.
const SCRATCH: usize = 64 << 10;
/// Room for datagrams that wait to be counted.
const DATAGRAM_BUFFER: usize = 8 << 20;
/// Connections taken at once before the others get their turn.
const ACCEPTS: usize = 64;

/// What is registered under a token.
enum Source {
    Listener(TcpListener, Service),
    Connection(Connection, Interest),
    Datagrams(Datagrams, Interest),
}

struct Server {
    poller: Poller,
    sources: Slab<Source>,
    scratch: Vec<u8>,
}

/// Serves until the stack ends.
pub(crate) fn run(stack: &Stack) -> io::Result<()> {
    let mut server = Server { poller: Poller::new()?, sources: Slab::new(), scratch: vec![0; SCRATCH] };
    for (port, service) in [(7, Service::Echo), (8, Service::Echo), (9, Service::Discard), (19, Service::Generate)] {
        server.listen(stack, port, service)?;
    }
    use datagrams::Service::{Burst, Count, Echo};
    for (port, service) in [(7, Echo), (9, Count(0)), (19, Burst(None))] {
        server.bind(stack, port, service)?;
    }
    let mut events = Vec::new();
    loop {
        server.poller.wait(&mut events, None)?;
        for event in &events {
            server.serve(event)?;
        }
    }
}

impl Server {
    fn listen(&mut self, stack: &Stack, port: u16, service: Service) -> io::Result<()> {
        let listener = stack.listen((Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        listener.set_nodelay(true)?;
        self.register(&listener, Interest::READABLE)?;
        self.sources.insert(Source::Listener(listener, service));
        Ok(())
    }

    fn bind(&mut self, stack: &Stack, port: u16, service: datagrams::Service) -> io::Result<()> {
        let socket = stack.bind_udp((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(DATAGRAM_BUFFER)?;
        self.register(&socket, Interest::READABLE)?;
        self.sources.insert(Source::Datagrams(Datagrams::new(socket, service), Interest::READABLE));
        Ok(())
    }

    /// Registers `handle` under the token of the next source to be inserted.
    fn register(&self, handle: &impl Pollable, interest: Interest) -> io::Result<()> {
        self.poller.register(handle, self.sources.vacant_key() as u64, interest)
    }

    fn serve(&mut self, event: &Event) -> io::Result<()> {
        let Server { poller, sources, scratch } = self;
        match sources.get_mut(event.token as usize) {
            Some(Source::Listener(..)) => self.accept(event.token as usize),
            Some(Source::Datagrams(datagrams, interest)) => {
                let next = datagrams.serve(scratch);
                change_interest(poller, event.token, interest, next)
            }
            Some(Source::Connection(connection, interest)) => match connection.serve(scratch) {
                Progress::Waiting(next) => change_interest(poller, event.token, interest, next),
                Progress::Over => self.close(event.token),
            },
            None => Ok(()),
        }
    }

    fn accept(&mut self, key: usize) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            let Some(Source::Listener(listener, service)) = self.sources.get(key) else { break };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let connection = Connection::new(stream, *service);
            let interest = connection.interest();
            self.register(&connection.stream, interest)?;
            self.sources.insert(Source::Connection(connection, interest));
        }
        Ok(())
    }

    fn close(&mut self, token: u64) -> io::Result<()> {
        self.poller.deregister(token)?;
        self.sources.remove(token as usize);
        Ok(())
    }
}

fn change_interest(poller: &Poller, token: u64, interest: &mut Interest, next: Interest) -> io::Result<()> {
    if std::mem::replace(interest, next) == next { Ok(()) } else { poller.modify(token, next) }
}
