//! Two programs on one connection: each follows its script, reads whatever comes, and compares every byte.

use crate::path::Path;
use hopline::simulation::World;
use hopline::socket::{TcpListener, TcpStream};
use hopline::time::Instant;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::OnceLock;
use std::time::Duration;

/// Bytes after which the pattern repeats: no power of two, so that no buffer is a multiple of it.
const PERIOD: usize = 1_000_003;
/// Longer than all tries of a handshake take.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(600);
/// Bytes written, or read, at once.
const CHUNK: usize = 128 << 10;

/// What a program does, in this order; then it says that it has no more to send. It reads all the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Writes this many bytes.
    Send(usize),
    /// Waits until this many bytes have come in all.
    Await(usize),
    /// Does nothing for so long.
    Rest(Duration),
}

/// A program at one end of the connection.
pub(crate) struct End {
    pub(crate) stream: TcpStream,
    steps: VecDeque<Step>,
    /// Where in the pattern its own stream begins, and the peer's.
    offsets: [usize; 2],
    pub(crate) written: usize,
    pub(crate) read: usize,
    /// When it had what it awaited, for each of its waits.
    pub(crate) had: Vec<Instant>,
    resting_until: Option<Instant>,
    is_closed: bool,
    is_finished: bool,
    last_progress: Instant,
    /// The longest time without a byte read while it waited for one.
    pub(crate) longest_silence: Duration,
}

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 1_u32;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        });
        let mut pattern: Vec<u8> = bytes.take(PERIOD).collect();
        pattern.extend_from_within(..CHUNK);
        pattern
    })
}

fn piece(position: usize, length: usize) -> &'static [u8] {
    let start = position % PERIOD;
    &pattern()[start..start + length]
}

impl End {
    pub(crate) fn new(stream: TcpStream, steps: &[Step], is_first: bool, now: Instant) -> End {
        let offsets = if is_first { [0, PERIOD / 2] } else { [PERIOD / 2, 0] };
        End {
            stream,
            steps: steps.iter().copied().collect(),
            offsets,
            written: 0,
            read: 0,
            had: Vec::new(),
            resting_until: None,
            is_closed: false,
            is_finished: false,
            last_progress: now,
            longest_silence: Duration::ZERO,
        }
    }

    /// Does all it can do now.
    pub(crate) fn turn(&mut self, now: Instant) -> Result<(), String> {
        self.read(now)?;
        self.write(now).map_err(|error| format!("write: {error}"))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_closed && self.is_finished
    }

    fn write(&mut self, now: Instant) -> std::io::Result<()> {
        loop {
            match self.steps.front_mut() {
                Some(Step::Send(0)) => {}
                Some(Step::Send(left)) => {
                    let length = CHUNK.min(*left);
                    match self.stream.write(piece(self.offsets[0] + self.written, length)) {
                        Ok(count) => {
                            *left -= count;
                            self.written += count;
                            continue;
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                Some(Step::Await(total)) if self.read < *total => return Ok(()),
                Some(Step::Await(_)) => self.had.push(now),
                Some(Step::Rest(duration)) => {
                    let until = *self.resting_until.get_or_insert(now + *duration);
                    if now < until {
                        return Ok(());
                    }
                    self.resting_until = None;
                }
                None => return self.close(),
            }
            self.steps.pop_front();
        }
    }

    fn close(&mut self) -> std::io::Result<()> {
        if std::mem::replace(&mut self.is_closed, true) { Ok(()) } else { self.stream.shutdown(Shutdown::Write) }
    }

    fn read(&mut self, now: Instant) -> Result<(), String> {
        let mut buffer = [0; CHUNK];
        while !self.is_finished {
            match self.stream.read(&mut buffer) {
                Ok(count) => self.take(&buffer[..count], now)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("read: {error}")),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        if bytes != piece(self.offsets[1] + self.read, bytes.len()) {
            return Err(format!("a wrong byte in the {} behind byte {}", bytes.len(), self.read));
        }
        self.read += bytes.len();
        self.is_finished = bytes.is_empty();
        self.longest_silence = self.longest_silence.max(now.since(self.last_progress));
        self.last_progress = now;
        Ok(())
    }
}

/// A world with a connection in it.
pub(crate) struct Exchange {
    pub(crate) world: World,
    pub(crate) ends: [End; 2],
    what: String,
    _listener: TcpListener,
}

impl Exchange {
    /// Opens a connection over `path`. `what` goes into messages of failure.
    pub(crate) fn open(path: &Path, seed: u64, scripts: [&[Step]; 2], what: &str) -> Exchange {
        let what = format!("{what}, {path}, seed {seed}");
        let (mut world, hosts) = path.world(seed);
        let listener = world[hosts[1]].listen("192.0.2.2:80").unwrap();
        let client = world[hosts[0]].connect("192.0.2.2:80").unwrap();
        let mut first = End::new(client, scripts[0], true, world.now());
        // What the client has to say completes the handshake if its last acknowledgement is lost. It cannot fail yet in a way that it does not later.
        let server = accept(&mut world, &listener, |now| drop(first.turn(now))).unwrap_or_else(|| panic!("{what}: no connection\n{world}"));
        let second = End::new(server, scripts[1], false, world.now());
        let ends = [first, second];
        Exchange { world, ends, what, _listener: listener }
    }

    /// Goes on until `condition` holds. Panics if it does not within `limit`, or if an end fails.
    pub(crate) fn run_until(&mut self, limit: Duration, mut condition: impl FnMut(&[End; 2], Instant) -> bool) {
        let end = self.world.now() + limit;
        loop {
            let now = self.world.now();
            self.turn_ends(now);
            self.world.settle();
            if condition(&self.ends, now) {
                return;
            }
            let resting = self.ends.iter().filter_map(|end| end.resting_until).min();
            let next = [self.world.next_event(), resting].into_iter().flatten().min();
            match next.filter(|&next| next <= end) {
                None => self.fail("it stalls"),
                Some(next) if Some(next) == self.world.next_event() => drop(self.world.step()),
                Some(next) => self.world.run_for(next.since(now)),
            }
        }
    }

    /// Until both ends have read all, and the connection is closed in both directions.
    pub(crate) fn finish(&mut self, limit: Duration) {
        self.run_until(limit, |ends, _| ends.iter().all(End::is_done));
    }

    fn turn_ends(&mut self, now: Instant) {
        for index in 0..2 {
            if let Err(error) = self.ends[index].turn(now) {
                self.fail(&format!("end {index}: {error}"));
            }
        }
    }

    fn fail(&self, why: &str) -> ! {
        let mut text = format!("{}: {why}\n", self.what);
        for (index, end) in self.ends.iter().enumerate() {
            text += &format!("end {index}: {} written, {} read, {:?} to do, {:?}\n", end.written, end.read, end.steps.front(), end.stream);
        }
        panic!("{text}{}", self.world);
    }
}

/// The connection that comes, if it comes. `meanwhile` is what the other end does.
pub(crate) fn accept(world: &mut World, listener: &TcpListener, mut meanwhile: impl FnMut(Instant)) -> Option<TcpStream> {
    let end = world.now() + LONGEST_HANDSHAKE;
    while world.now() < end {
        meanwhile(world.now());
        world.settle();
        if let Ok((stream, _)) = listener.accept() {
            return Some(stream);
        }
        world.next_event()?;
        world.step();
    }
    None
}
