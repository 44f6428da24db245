//! One TCP connection of the server: moves bytes until the stream would block.

use hopline::socket::{Interest, TcpStream};
use std::io::{self, ErrorKind, Read, Write};

/// Reads or writes of one connection before the others get their turn: with many, what all of them move in between shall still be in the processor's cache.
const ROUNDS: usize = 4;

/// What a port does with a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends back what comes, and closes after the peer.
    Echo,
    /// Reads and forgets.
    Discard,
    /// Sends without end.
    Generate,
}

/// A connection and what it owes its peer.
pub(crate) struct Connection {
    pub stream: TcpStream,
    service: Service,
    /// Read, not yet written back.
    unsent: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for this.
    Waiting(Interest),
    /// It can be dropped.
    Over,
}

/// What one read or write says of the next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There may be more to do.
    More,
    /// There is nothing more: a stream gives all that it has, if there is room for it.
    Drained,
    /// The peer has ended.
    Over,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, service: Service) -> Connection {
        Connection { stream, service, unsent: Vec::new() }
    }

    /// What the connection waits for.
    pub(crate) fn interest(&self) -> Interest {
        let writes = self.service == Service::Generate || !self.unsent.is_empty();
        if writes { Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Moves bytes through `scratch`, whose content is also what is generated.
    pub(crate) fn serve(&mut self, scratch: &mut [u8]) -> Progress {
        for _ in 0..ROUNDS {
            match self.step(scratch) {
                Ok(Step::More) => {}
                Ok(Step::Drained) => break,
                Ok(Step::Over) => return Progress::Over,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Progress::Over,
            }
        }
        Progress::Waiting(self.interest())
    }

    /// One read or write.
    fn step(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        match self.service {
            Service::Generate => self.stream.write(scratch).map(|_| Step::More),
            Service::Discard => self.stream.read(scratch).map(|count| after_read(count, scratch)),
            Service::Echo if self.unsent.is_empty() => self.echo(scratch),
            Service::Echo => {
                let count = self.stream.write(&self.unsent)?;
                self.unsent.drain(..count);
                Ok(Step::More)
            }
        }
    }

    fn echo(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        let count = self.stream.read(scratch)?;
        let bytes = &scratch[..count];
        let written = match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            result => result?,
        };
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(after_read(count, scratch))
    }
}

fn after_read(count: usize, room: &[u8]) -> Step {
    match count {
        0 => Step::Over,
        _ if count < room.len() => Step::Drained,
        _ => Step::More,
    }
}
