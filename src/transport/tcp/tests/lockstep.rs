//! Two connections, a wire with loss, reordering and duplication between them, and a plain model of what must arrive.

use super::*;
use crate::random::PublicRandom;
use std::collections::BTreeMap;

/// One end and its program.
struct End {
    host: Host,
    connection: Connection,
    to_write: Vec<u8>,
    written: usize,
    closes: bool,
    read: Vec<u8>,
    /// Bytes that the program reads at a time, and how often.
    appetite: usize,
    reads_every: Duration,
    next_read: Instant,
    /// The program looks at the socket only after a wake, or, to read on, after a pause.
    is_awake: bool,
    has_more: bool,
}

/// What happens to segments on the wire.
#[derive(Copy, Clone)]
struct Wire {
    seed: u64,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    duplication: f64,
    /// Whether super-segments arrive whole.
    whole: bool,
    /// How long the device keeps a packet before it gives the room back.
    device: Duration,
}

const CLEAN: Wire = Wire {
    seed: 1,
    delay: Duration::from_millis(5),
    jitter: Duration::ZERO,
    loss: 0.0,
    duplication: 0.0,
    whole: false,
    device: Duration::ZERO,
};

/// A segment on the wire.
struct Flight {
    to: usize,
    header: TcpHeader,
    payload: Vec<u8>,
    segment_size: Option<usize>,
    source: SocketAddr,
    destination: SocketAddr,
}

struct Pair {
    ends: [End; 2],
    wire: Wire,
    random: PublicRandom,
    /// By time of arrival and a running number.
    flying: BTreeMap<(Instant, u64), Flight>,
    /// What the devices have not taken, by the time when they will have.
    in_device: BTreeMap<(Instant, u64), Sent>,
    count: u64,
    now: Instant,
}

fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + salt) as u8).collect()
}

impl End {
    fn drive(&mut self, now: Instant) {
        self.host.now = now;
        self.host.out.set_now(now);
        let was_awake = std::mem::take(&mut self.is_awake);
        if was_awake {
            self.write();
            self.has_more |= self.connection.shared().state.lock().unread > 0;
        }
        if self.has_more && now >= self.next_read {
            self.read();
            self.next_read = now + self.reads_every;
        }
        let marks = self.connection.shared().marks.take();
        let mut cx = self.host.context();
        if self.connection.waits_for_device_room() {
            self.connection.device_room(&mut cx);
        }
        self.connection.marked(&mut cx, marks);
        self.connection.run_timers(&mut cx);
        self.is_awake |= self.host.wake();
    }

    /// Writes what there is room for, in odd pieces, then closes.
    fn write(&mut self) {
        let shared = self.connection.shared().clone();
        let mut state = shared.state.lock();
        if state.phase != Phase::Connected {
            return;
        }
        let room = state.send_room().min(self.to_write.len() - self.written);
        let mut left = room;
        while left > 0 {
            let piece = left.min(1 + self.written % 7_001);
            state.to_send.push_back(self.host.pool.copy_from(0, &self.to_write[self.written..self.written + piece]));
            self.written += piece;
            left -= piece;
        }
        state.unacknowledged += room;
        let closes_now = self.closes && self.written == self.to_write.len() && !state.write_closed;
        state.write_closed |= closes_now;
        drop(state);
        if room > 0 {
            shared.mark(Mark::Send);
        }
        if closes_now {
            shared.mark(Mark::CloseWrite);
        }
    }

    fn read(&mut self) {
        let shared = self.connection.shared().clone();
        let mut state = shared.state.lock();
        let mut left = self.appetite;
        while left > 0
            && let Some(slice) = state.received.front_mut()
        {
            let part = slice.split_to(left);
            left -= part.len();
            if slice.is_empty() {
                state.received.pop_front();
            }
            self.read.extend_from_slice(&part);
        }
        let count = self.appetite - left;
        state.unread -= count;
        state.consumed_unannounced += count;
        let marks = state.consumed_unannounced >= state.window_mark_at;
        self.has_more = state.unread > 0;
        assert_eq!(state.unread, state.received.iter().map(|slice| slice.len()).sum::<usize>());
        drop(state);
        if marks {
            shared.mark(Mark::Window);
        }
    }

    fn is_at_end(&self) -> bool {
        let state = self.connection.shared().state.lock();
        state.receive_finished && state.unread == 0
    }

    fn next_event(&self) -> Instant {
        let reading = if self.has_more { self.next_read } else { Instant::FAR_FUTURE };
        self.connection.deadline().unwrap_or(Instant::FAR_FUTURE).min(reading)
    }
}

impl Pair {
    fn open(wire: Wire, configs: [TcpConfig; 2]) -> Pair {
        let [mut client, mut server] = configs.map(Host::new);
        let (near, far) = ("192.0.2.1:50000".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        let shared = client.shared();
        let connection = Connection::connect(&mut client.context(), shared, near, far, SequenceNumber(u32::MAX - 70_000));
        let syn = client.sent().remove(0);
        let shared = server.shared();
        let segment = segment_of(&server.pool, syn.header, &[], None, near, far, server.now);
        let accepted = Connection::accept(&mut server.context(), shared, &segment, SequenceNumber(u32::MAX - 90_000));
        let now = client.now;
        let end = |host, connection, salt| End {
            host,
            connection,
            to_write: pattern(0, salt),
            written: 0,
            closes: true,
            read: vec![],
            appetite: usize::MAX,
            reads_every: Duration::ZERO,
            next_read: now,
            is_awake: true,
            has_more: false,
        };
        let ends = [end(client, connection, 1), end(server, accepted, 2)];
        Pair { ends, wire, random: PublicRandom::from_seed(wire.seed), flying: BTreeMap::new(), in_device: BTreeMap::new(), count: 0, now }
    }

    /// Runs until both programs have read everything, or until `limit`.
    #[track_caller]
    fn run(&mut self, limit: Duration) {
        let deadline = self.now + limit;
        for _ in 0..4_000_000 {
            self.settle();
            if self.ends.iter().all(End::is_at_end) {
                return;
            }
            let first = |at: Option<&(Instant, u64)>| at.map_or(Instant::FAR_FUTURE, |&(at, _)| at);
            let (arrival, taken) = (first(self.flying.keys().next()), first(self.in_device.keys().next()));
            let next = self.ends.iter().map(End::next_event).min().unwrap_or(Instant::FAR_FUTURE).min(arrival).min(taken);
            assert!(next < deadline, "stuck at {:?} until {next:?} (seed {}): {}", self.now, self.wire.seed, self.describe());
            self.now = self.now.max(next);
            self.deliver();
        }
        panic!("no end (seed {}): {}", self.wire.seed, self.describe());
    }

    /// Drives both ends until neither has anything to say at this time.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut quiet = true;
            while self.in_device.first_entry().is_some_and(|entry| entry.key().0 <= self.now) {
                self.in_device.pop_first();
            }
            for index in 0..2 {
                self.ends[index].drive(self.now);
                quiet &= !self.ends[index].is_awake;
                for sent in self.ends[index].host.sent() {
                    quiet = false;
                    self.fly(1 - index, &sent);
                    self.count += 1;
                    self.in_device.insert((self.now + self.wire.device, self.count), sent);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the two never stop talking at {:?}", self.now);
    }

    fn fly(&mut self, to: usize, sent: &Sent) {
        let pieces = if self.wire.whole { vec![(sent.header, sent.payload.clone())] } else { sent.cut() };
        let size = sent.segment_size.filter(|_| self.wire.whole);
        for (header, payload) in pieces {
            let copies = 1 + usize::from(self.random.chance(self.wire.duplication));
            for _ in 0..copies {
                if self.random.chance(self.wire.loss) {
                    continue;
                }
                let jitter = self.random.below(self.wire.jitter.as_nanos() as u32);
                let at = self.now + self.wire.delay + Duration::from_nanos(jitter.into());
                self.count += 1;
                let (source, destination) = (sent.source, sent.destination);
                let flight = Flight { to, header, payload: payload.clone(), segment_size: size, source, destination };
                self.flying.insert((at, self.count), flight);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let Flight { to, header, payload, segment_size, source, destination } = entry.remove();
            let end = &mut self.ends[to];
            end.host.now = self.now;
            let segment = segment_of(&end.host.pool, header, &payload, segment_size, source, destination, self.now);
            end.connection.segment_arrives(&mut end.host.context(), segment);
        }
    }

    fn describe(&self) -> String {
        let one = |end: &End| {
            let state = end.connection.shared().state.lock();
            format!(
                "{} written {} read {} failure {:?} info {:?}",
                end.connection.state().name(),
                end.written,
                end.read.len(),
                state.failure,
                state.info
            )
        };
        self.ends.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[track_caller]
    fn transfer(&mut self, bytes: [usize; 2], limit: Duration) -> Duration {
        let start = self.now;
        for (index, end) in self.ends.iter_mut().enumerate() {
            end.to_write = pattern(bytes[index], index);
        }
        self.run(limit);
        for index in 0..2 {
            assert!(self.ends[index].read == pattern(bytes[1 - index], 1 - index), "bytes differ (seed {})", self.wire.seed);
        }
        self.now - start
    }
}

fn default_pair(wire: Wire) -> Pair {
    Pair::open(wire, [TcpConfig::default(), TcpConfig::default()])
}

#[test]
fn a_clean_path_transfers_both_ways_and_closes() {
    let mut pair = default_pair(CLEAN);
    let time = pair.transfer([3_000_000, 1_000_000], Duration::from_secs(10));
    assert!(time < Duration::from_millis(400), "{time:?}");
    for end in &pair.ends {
        assert_eq!(end.host.counters.transport.segments_retransmitted.get(), 0);
    }
}

#[test]
fn super_segments_may_arrive_whole() {
    let mut pair = default_pair(Wire { whole: true, ..CLEAN });
    pair.transfer([3_000_000, 3_000_000], Duration::from_secs(10));
    assert!(pair.ends[0].host.counters.transport.segments_sent.get() < 400);
}

#[test]
fn loss_reordering_and_duplication_change_no_byte() {
    for seed in 0..30 {
        let loss = [0.01, 0.05, 0.15][seed as usize % 3];
        let wire = Wire { seed, loss, duplication: 0.03, jitter: Duration::from_millis(seed % 4), ..CLEAN };
        default_pair(wire).transfer([300_000, 200_000], Duration::from_secs(600));
    }
}

#[test]
fn without_options_it_works_as_well() {
    for seed in 0..20 {
        let plain = TcpConfig { timestamps: false, window_scaling: false, ..TcpConfig::default() };
        let wire = Wire { seed, loss: 0.03, jitter: Duration::from_millis(seed % 3), ..CLEAN };
        let mut pair = Pair::open(wire, [plain, TcpConfig::default()]);
        pair.transfer([200_000, 200_000], Duration::from_secs(600));
    }
}

#[test]
fn slow_readers_close_the_window_and_open_it_again() {
    for (buffer, appetite) in [(100, 7), (3_000, 1_000), (20_000, 5_000), (200_000, 150_000)] {
        let config = TcpConfig { receive_buffer: buffer, ..TcpConfig::default() };
        let mut pair = Pair::open(Wire { loss: 0.01, ..CLEAN }, [TcpConfig::default(), config]);
        pair.ends[1].appetite = appetite;
        pair.ends[1].reads_every = Duration::from_millis(50);
        pair.transfer([20 * appetite + 20_000.min(60 * appetite), 10], Duration::from_secs(3_600));
    }
}

/// A wire, two ends, what their programs read at a time and how often (in microseconds), and how much they write.
struct World {
    wire: Wire,
    configs: [TcpConfig; 2],
    appetites: [(usize, u64); 2],
    bytes: [usize; 2],
}

/// Everything at random: buffers, options, paths, appetites, slow devices.
fn random_world(seed: u64) -> World {
    let mut random = PublicRandom::from_seed(seed ^ 0x5eed);
    let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u32) as usize];
    let wire = Wire {
        seed,
        delay: Duration::from_micros(pick(&[0, 20, 1_000, 20_000, 150_000])),
        jitter: Duration::from_micros(pick(&[0, 0, 100, 5_000, 30_000])),
        loss: pick(&[0, 0, 1, 5, 20]) as f64 / 100.0,
        duplication: pick(&[0, 0, 5]) as f64 / 100.0,
        whole: pick(&[0, 1]) == 1,
        device: Duration::from_micros(pick(&[0, 0, 50, 3_000])),
    };
    let configs = [(); 2].map(|()| {
        let in_stack_bytes = pick(&[1, 3_000, 128 << 10]) as usize;
        TcpConfig {
            receive_buffer: pick(&[1, 50, 700, 3_000, 9_000, 66_000, 1 << 20]) as usize,
            send_buffer: pick(&[1, 900, 5_000, 70_000, 1 << 20]) as usize,
            out_of_order_bytes: pick(&[0, 4_096, 100_000, 8 << 20]) as usize,
            in_stack_bytes,
            in_stack_bytes_when_fast: in_stack_bytes,
            timestamps: pick(&[0, 1]) == 1,
            window_scaling: pick(&[0, 1]) == 1,
            sack_ranges: pick(&[2, 50, 8_192]) as usize,
            ..TcpConfig::default()
        }
    });
    let appetites = [(); 2].map(|()| (pick(&[1, 100, 5_000, 1 << 30]) as usize, pick(&[0, 0, 1_000, 20_000])));
    let bytes = [0, 1].map(|index: usize| {
        let narrowest = configs[1 - index].receive_buffer.min(configs[index].send_buffer).min(appetites[1 - index].0);
        let rounds = pick(&[0, 3, 40]) as usize;
        (rounds * narrowest).min(400_000)
    });
    World { wire, configs, appetites, bytes }
}

fn run_random_world(seed: u64) {
    let World { wire, configs, appetites, bytes } = random_world(seed);
    let mut pair = Pair::open(wire, configs);
    for (end, (appetite, every)) in pair.ends.iter_mut().zip(appetites) {
        end.appetite = appetite;
        end.reads_every = Duration::from_micros(every);
        std::sync::Arc::make_mut(&mut end.connection.shared().state.lock().options).no_delay = seed.is_multiple_of(2);
        end.connection.shared().mark(Mark::Options);
    }
    pair.transfer(bytes, Duration::from_secs(20_000));
}

#[test]
fn random_worlds_lose_no_byte_and_never_stand_still() {
    (0..400).for_each(run_random_world);
}

#[test]
fn losses_cost_time_in_proportion() {
    for (delay, loss, whole, most_seconds) in [(100, 0.01, false, 3), (5_000, 0.03, false, 25), (100, 0.1, false, 60), (100, 0.1, true, 60)]
    {
        let wire = Wire { seed: 7, loss, whole, delay: Duration::from_micros(delay), ..CLEAN };
        let time = default_pair(wire).transfer([4_000_000, 0], Duration::from_secs(3_000));
        assert!(time < Duration::from_secs(most_seconds), "{time:?} with {loss} loss");
    }
}
