//! Three small layers in a row, and many threads that bring them messages: order under load, nothing left lying in lockstep, nothing lost without being
//! counted, panics, timers. The windows in which threads can come between are wider here than in life.

use super::*;
use crate::counters::Counters;
use crate::device::Stock;
use crate::layer::{DropReason, Layer, Outbox};
use crate::packet::Packet;
use crate::pipeline::clock::RealClock;
use crate::pipeline::health::{Health, Status};
use crate::pipeline::inbox::{Entry, Inbox, inbox};
use crate::pipeline::layer_loop::{Desk, EntryPort, Pace, Port, Reins};
use crate::pipeline::messages::Share;
use crate::pipeline::reception::Reading;
use crate::pipeline::seat::Reader;
use crate::time::{Duration, Instant};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time;

/// Nothing here takes this long, and what is left lying lies for ever.
const PATIENCE: time::Duration = time::Duration::from_secs(20);
const LAYERS: usize = 3;

/// What travels: from the first layer up to the last and out there, or the other way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Up {
        from: u32,
        number: u64,
    },
    Down {
        from: u32,
        number: u64,
    },
    /// Arms a timer so many microseconds from now; when it is due, a message leaves upwards.
    Timer {
        micros: u64,
    },
    Panic,
}

impl Message for Test {
    fn share(&self) -> Share {
        Share::Own
    }

    fn into_packet(self) -> Option<Packet> {
        Some(Packet::default())
    }
}

/// Passes on what comes.
#[derive(Default)]
struct PassOn {
    timer: Option<Instant>,
}

impl Layer for PassOn {
    type Message = Test;
    type Up = Test;
    type Down = Test;

    fn handle(&mut self, now: Instant, message: Test, out: &mut Outbox<Test, Test>) {
        match message {
            Test::Up { .. } => out.up.push_back(message),
            Test::Down { .. } => out.down.push_back(message),
            Test::Timer { micros } => self.timer = Some(now + Duration::from_micros(micros)),
            Test::Panic => panic!("as told"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timer
    }

    fn run_timers(&mut self, _now: Instant, out: &mut Outbox<Test, Test>) {
        self.timer = None;
        out.up.push_back(Test::Up { from: 0, number: 0 });
    }
}

impl Stage for PassOn {}

/// Where messages leave: counts them, and those that came before an earlier one of the same sender.
#[derive(Default)]
struct Sink {
    arrived: AtomicU64,
    reordered: AtomicU64,
}

struct SinkPort {
    sink: Arc<Sink>,
    next: Vec<u64>,
}

impl Port<Test> for SinkPort {
    fn carry(&mut self, messages: &mut VecDeque<Test>, _refuse: &mut dyn FnMut(DropReason, Packet)) {
        for message in messages.drain(..) {
            if let Test::Up { from, number } | Test::Down { from, number } = message {
                let next = &mut self.next[from as usize];
                self.sink.reordered.fetch_add(u64::from(number < *next), Ordering::Relaxed);
                *next = number + 1;
                self.sink.arrived.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Holds threads up at some places, by turns: so long that another thread gets through the code around it, also where processors are busy.
#[derive(Clone)]
struct Wide {
    at: &'static [Window],
    passed: Arc<AtomicU32>,
}

impl Windows for Wide {
    fn pass(&self, window: Window) {
        if !self.at.contains(&window) {
            return;
        }
        let passed = self.passed.fetch_add(1, Ordering::Relaxed);
        if passed % 4 == 1 {
            thread::yield_now();
        }
        if passed.is_multiple_of(4) {
            let until = time::Instant::now() + time::Duration::from_micros(2);
            while time::Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
}

type Stations = Vec<Arc<Station<PassOn, (), Wide>>>;

/// Three layers with their threads.
struct Line {
    works: Arc<Works>,
    seat: Arc<Seat>,
    entries: Vec<Entry<Test>>,
    counters: Arc<Counters>,
    health: Arc<Health>,
    up: Arc<Sink>,
    down: Arc<Sink>,
    reins: Vec<Arc<Reins>>,
    threads: Vec<thread::JoinHandle<bool>>,
}

impl Line {
    fn start(places: usize, at: &'static [Window]) -> Line {
        let (mut line, stations) = Line::build(places, at);
        line.threads = stations.into_iter().map(|station| line.spawn(station)).collect();
        line
    }

    /// Without their threads.
    fn build(places: usize, at: &'static [Window]) -> (Line, Stations) {
        let (entries, inboxes): (Vec<_>, Vec<_>) = (0..LAYERS).map(|_| inbox(0, places)).unzip();
        let line = Line {
            works: Arc::default(),
            seat: Arc::default(),
            entries,
            counters: Arc::default(),
            health: Arc::default(),
            up: Arc::default(),
            down: Arc::default(),
            reins: (0..LAYERS).map(|_| Arc::default()).collect(),
            threads: Vec::new(),
        };
        let (transport, _) = inbox(0, 0);
        let trouble = Trouble::new(line.health.clone(), transport);
        let windows = Wide { at, passed: Arc::default() };
        let stations: Vec<_> = inboxes
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| {
                let (entry, looper) = (line.entries[index].clone(), line.looper(index, inbox));
                Station::new("test", entry, looper, trouble.clone(), &line.works, windows.clone())
            })
            .collect();
        for (index, station) in stations.iter().enumerate() {
            let neighbour =
                |index: Option<usize>| index.and_then(|index| stations.get(index)).map(|desk| desk.clone() as Arc<dyn Desk<Test>>);
            station.connect(neighbour(index.checked_add(1)), neighbour(index.checked_sub(1)));
        }
        line.works.leave_bulk_out(line.seat.clone());
        line.works.open(stations.iter().map(|station| station.clone() as Arc<dyn Visit>).collect());
        (line, stations)
    }

    fn spawn(&self, station: Arc<Station<PassOn, (), Wide>>) -> thread::JoinHandle<bool> {
        let works = self.works.clone();
        thread::spawn(move || {
            set_quota(64);
            station.serve(&works).is_some_and(|(_, sound)| sound)
        })
    }

    fn looper(&self, index: usize, inbox: Inbox<Test>) -> LayerLoop<PassOn, ()> {
        LayerLoop {
            layer: PassOn::default(),
            inbox,
            laid: VecDeque::new(),
            extra: (),
            out: Outbox::new(self.counters.clone()),
            up: self.port(index.checked_add(1), &self.up),
            down: self.port(index.checked_sub(1), &self.down),
            pace: Pace { clock: RealClock::start(), batch_messages: 64, wakeups: |counters| &counters.pipeline.link_wakeups },
            reins: self.reins[index].clone(),
        }
    }

    fn port(&self, next: Option<usize>, sink: &Arc<Sink>) -> Box<dyn Port<Test>> {
        match next.and_then(|next| self.entries.get(next)) {
            Some(entry) => Box::new(EntryPort::new(entry.clone(), self.counters.clone())),
            None => Box::new(SinkPort { sink: sink.clone(), next: vec![0; 64] }),
        }
    }

    /// Sends into the lowest or the topmost layer; false if that took no more.
    fn send(&self, message: Test) -> bool {
        let index = if matches!(message, Test::Down { .. }) { LAYERS - 1 } else { 0 };
        self.entries[index].send(message).is_ok()
    }

    /// At the `hour`th hour bulk begins to be sent, or ends.
    fn turn_tide(&self, hour: u32, is_out: bool) {
        let note = |bytes_sent, after| {
            let at = Instant::ZERO + hour * Duration::from_millis(20) + after;
            self.seat.note(&Reading { frames: 1, bytes: 60, bytes_sent, stock: Stock::Empty, at }, Reader::ReceiveThread);
        };
        note(if is_out { 1 << 20 } else { 60 }, Duration::ZERO);
        note(0, Duration::from_millis(1));
        assert_eq!(self.seat.is_bulk_out(), is_out);
    }

    fn arrived(&self) -> u64 {
        self.up.arrived.load(Ordering::SeqCst) + self.down.arrived.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> u64 {
        self.counters.dropped(DropReason::InboxFull).get()
    }

    #[track_caller]
    fn wait_for(&self, count: u64) {
        let deadline = time::Instant::now() + PATIENCE;
        while self.arrived() + self.dropped() < count {
            assert!(
                time::Instant::now() < deadline,
                "{} of {count} arrived, {} were dropped: the rest lies somewhere",
                self.arrived(),
                self.dropped()
            );
            thread::yield_now();
        }
        rest();
    }

    /// Ends the threads, which do not take long for it.
    fn stop(&mut self) -> Vec<bool> {
        let deadline = time::Instant::now() + PATIENCE;
        for (reins, entry) in self.reins.iter().zip(&self.entries) {
            reins.stop(deadline);
            entry.summon();
        }
        let sound = self.threads.drain(..).map(|thread| thread.join().unwrap()).collect();
        assert!(thread::panicking() || time::Instant::now() < deadline, "a layer's thread slept over being told to end");
        sound
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop();
        self.works.clear();
    }
}

/// Whether bulk begins to be sent, and ends, time and again.
#[derive(Copy, Clone, PartialEq)]
enum Tides {
    None,
    Come,
}

impl Tides {
    fn come(self, line: &Line, number: u64) {
        const EACH: u64 = 32;
        if self == Tides::Come && number.is_multiple_of(EACH) {
            let hour = number / EACH;
            line.turn_tide(hour as u32, hour.is_multiple_of(2));
        }
    }
}

/// Many senders at both ends, none of which waits for anything. Places are few, so that some of it is dropped, and counted.
fn under_load(places: usize, at: &'static [Window], tides: Tides) {
    const SENDERS: u32 = 4;
    const EACH: u64 = 20_000;
    let line = Line::start(places, at);
    let sent: u64 = thread::scope(|scope| {
        let send = |from| {
            let line = &line;
            move || {
                let message = |number| if from % 2 == 0 { Test::Up { from, number } } else { Test::Down { from, number } };
                // Some rest each time, so that they go on running the layers; the others soon leave that to the layers' threads.
                let send = |number| {
                    if from < 2 {
                        rest();
                    }
                    if from == 0 {
                        tides.come(line, number);
                    }
                    line.send(message(number))
                };
                (0..EACH).filter(|&number| send(number)).count() as u64
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|from| scope.spawn(send(from))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    line.wait_for(sent);
    let reordered = [&line.up, &line.down].map(|sink| sink.reordered.load(Ordering::SeqCst));
    assert_eq!((reordered, line.arrived() + line.dropped()), ([0, 0], sent));
}

#[test]
fn order_is_kept_under_load() {
    under_load(100_000, &[], Tides::None);
    under_load(100_000, &[Window::Running, Window::Released], Tides::None);
    under_load(100_000, &[Window::Pushed, Window::Released], Tides::Come);
}

#[test]
fn what_finds_no_place_is_counted() {
    under_load(16, &[Window::Pushed], Tides::None);
}

/// Nobody sends again before everything has arrived: what is left lying is not found by what comes later.
fn lockstep(rounds: u64, at: &'static [Window], tides: Tides) {
    const SENDERS: u32 = 2;
    let line = Line::start(64, at);
    let round = AtomicU64::new(0);
    thread::scope(|scope| {
        for from in 0..SENDERS {
            let (line, round) = (&line, &round);
            scope.spawn(move || {
                for number in 0..rounds {
                    let deadline = time::Instant::now() + PATIENCE;
                    while round.load(Ordering::SeqCst) < number {
                        // The other one has given up.
                        assert!(time::Instant::now() < deadline);
                        std::hint::spin_loop();
                    }
                    if from == 0 {
                        tides.come(line, number);
                    }
                    assert!(line.send(if from % 2 == 0 { Test::Up { from, number } } else { Test::Down { from, number } }));
                    line.wait_for((number + 1) * u64::from(SENDERS));
                    round.store(number + 1, Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn nothing_is_left_lying_in_lockstep() {
    lockstep(20_000, &[], Tides::None);
    lockstep(10_000, &[], Tides::Come);
}

#[test]
fn nothing_is_left_lying_where_the_lock_is_found_taken() {
    lockstep(20_000, &[Window::Running], Tides::None);
    lockstep(10_000, &[Window::Pushed, Window::Released], Tides::None);
    lockstep(10_000, &[Window::Pushed, Window::Running], Tides::Come);
}

/// A timer armed by somebody else's run, which the layer's thread may be about to sleep without.
#[test]
fn a_timer_armed_by_another_thread_is_run_in_time() {
    for at in [&[][..], &[Window::Sleeping], &[Window::Released]] {
        let line = Line::start(8, at);
        for round in 0..2_000 {
            assert!(line.send(Test::Timer { micros: round % 7 }));
            line.wait_for(round + 1);
        }
    }
}

#[test]
fn more_than_a_quota_is_left_to_the_layers_thread() {
    let line = Line::start(1_000, &[]);
    for number in 0..500 {
        line.entries[0].push(Test::Up { from: 0, number }).unwrap();
    }
    line.entries[0].ring();
    line.wait_for(500);
    assert_eq!(line.up.reordered.load(Ordering::SeqCst), 0);
}

#[test]
fn who_never_rests_leaves_it_to_the_layers_thread_and_who_rests_runs_it() {
    // Nobody but this thread runs anything.
    let (line, _stations) = Line::build(64, &[]);
    let runs = PROGRAM_RUNS as u64;
    for number in 0..2 * runs {
        assert!(line.send(Test::Up { from: 0, number }));
        assert_eq!(line.arrived(), (number + 1).min(runs));
    }
    rest();
    assert!(line.send(Test::Up { from: 0, number: 2 * runs }));
    assert_eq!(line.arrived(), 2 * runs + 1);
}

#[test]
fn while_bulk_is_sent_each_layer_is_left_to_its_own_thread() {
    // Nobody but this thread runs anything.
    let (line, _stations) = Line::build(64, &[]);
    rest();
    line.turn_tide(1, true);
    assert!(line.send(Test::Down { from: 0, number: 0 }));
    assert_eq!(line.arrived(), 0);
    line.turn_tide(2, false);
    assert!(line.send(Test::Down { from: 0, number: 1 }));
    assert_eq!((line.arrived(), line.down.reordered.load(Ordering::SeqCst)), (2, 0));
}

#[test]
fn who_comes_for_a_timer_does_not_wait_for_who_is_there() {
    let (_line, stations) = Line::build(64, &[]);
    let bench = stations[0].bench.lock();
    assert!(stations[0].come_in(Sleep::Over).is_none());
    drop(bench);
    assert!([Sleep::None, Sleep::Woken, Sleep::Over].into_iter().all(|slept| stations[0].come_in(slept).is_some()));
}

#[test]
fn who_receives_learns_for_how_many_sockets() {
    rest();
    assert_eq!((as_receiver(64, || add_woken(4)), as_receiver(64, || add_woken(1))), (4, 1));
    assert_eq!((QUOTA.get(), RUNS_LEFT.get()), (PROGRAM_QUOTA, Some(PROGRAM_RUNS)), "the thread's own are as before");
}

#[test]
fn who_found_many_sockets_ready_runs_for_each() {
    let (line, _stations) = Line::build(64, &[]);
    rest();
    found_ready(4);
    got_socket();
    rest();
    let runs = (5 * RUNS_FOR_SOCKET) as u64;
    for number in 0..runs + 1 {
        assert!(line.send(Test::Up { from: 0, number }));
        assert_eq!(line.arrived(), (number + 1).min(runs));
    }
}

#[test]
fn who_only_gets_sockets_does_not_save_up_runs_without_end() {
    rest();
    (0..2 * MOST_SAVED).for_each(|_| got_socket());
    assert_eq!(RUNS_LEFT.get(), Some(MOST_SAVED));
    found_ready(MOST_SAVED);
    got_socket();
    assert_eq!(RUNS_LEFT.get(), Some(MOST_SAVED * RUNS_FOR_SOCKET));
    found_ready(1);
    assert_eq!(RUNS_LEFT.get(), Some(PROGRAM_RUNS));
}

#[test]
fn the_layers_thread_takes_what_is_left_to_it() {
    let line = Line::start(64, &[]);
    let count = 2 * PROGRAM_RUNS as u64;
    for round in 1..=1_000 {
        assert!((0..count).all(|number| line.send(Test::Up { from: 0, number })));
        line.wait_for(round * count);
    }
}

#[test]
fn a_panic_ends_at_the_run_and_the_stack_has_failed() {
    let mut line = Line::start(8, &[]);
    assert!(line.send(Test::Panic), "the sender's thread goes on");
    let deadline = time::Instant::now() + PATIENCE;
    // The layer's own thread may have been about to sleep, and take it.
    while line.health.status() != Status::Failed {
        assert!(time::Instant::now() < deadline, "the stack still runs");
        thread::yield_now();
    }
    while line.entries[0].send(Test::Up { from: 0, number: 0 }).is_ok() {
        assert!(time::Instant::now() < deadline, "the layer's inbox is still open");
        thread::yield_now();
    }
    assert_eq!(line.stop(), [false, true, true]);
    assert_eq!(line.arrived(), 0);
}

#[test]
fn nobody_wakes_without_a_reason() {
    let line = Line::start(8, &[]);
    for number in 0..1_000 {
        assert!(line.send(Test::Up { from: 0, number }));
        line.wait_for(number + 1);
    }
    // No message woke a thread, since each was brought to its end by its sender; unless that came while the thread was still at its first look.
    assert!(line.counters.pipeline.link_wakeups.get() <= LAYERS as u64);
}
