//! The loop over small layers of its own.

use super::*;
use crate::pipeline::inbox::{Inbox, inbox};
use crate::pipeline::messages::Share;
use crate::time::Duration;

/// What the test layer takes.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Lent(u32),
    Own(u32),
    Panic,
}

impl Message for Test {
    fn share(&self) -> Share {
        if matches!(self, Test::Own(_)) { Share::Own } else { Share::Lent }
    }

    fn into_packet(self) -> Option<Packet> {
        Some(Packet::default())
    }
}

/// Passes numbers up and, doubled, down; asks for a timer after each batch if told to.
#[derive(Default)]
struct Doubler {
    deadline: Option<Instant>,
    timers: u32,
    batches: u32,
}

impl crate::layer::Layer for Doubler {
    type Message = Test;
    type Up = Test;
    type Down = Test;

    fn handle(&mut self, _now: Instant, message: Test, out: &mut Outbox<Test, Test>) {
        match message {
            Test::Lent(number) | Test::Own(number) => {
                out.up.push_back(Test::Lent(number));
                out.down.push_back(Test::Own(2 * number));
            }
            Test::Panic => panic!("as told"),
        }
    }

    fn end_batch(&mut self, _now: Instant, _out: &mut Outbox<Test, Test>) {
        self.batches += 1;
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn run_timers(&mut self, _now: Instant, _out: &mut Outbox<Test, Test>) {
        self.timers += 1;
        self.deadline = None;
    }
}

impl Stage for Doubler {}

struct Bench {
    looper: LayerLoop<Doubler, ()>,
    entry: Entry<Test>,
    up: Inbox<Test>,
    down: Inbox<Test>,
    counters: Arc<Counters>,
}

/// A loop whose neighbours have places for `up` lent and `down` own messages.
fn bench(up: usize, down: usize) -> Bench {
    let counters = Arc::new(Counters::default());
    let (entry, own_inbox) = inbox(1_000, 1_000);
    let (up_entry, up) = inbox(up, 0);
    let (down_entry, down) = inbox(0, down);
    let port = |entry| Box::new(EntryPort::new(entry, counters.clone()));
    let looper = LayerLoop {
        layer: Doubler::default(),
        inbox: own_inbox,
        laid: VecDeque::new(),
        extra: (),
        out: Outbox::new(counters.clone()),
        up: port(up_entry),
        down: port(down_entry),
        pace: Pace { clock: RealClock::start(), batch_messages: 8, wakeups: |counters| &counters.pipeline.link_wakeups },
        reins: Arc::default(),
    };
    Bench { looper, entry, up, down, counters }
}

fn drain(inbox: &Inbox<Test>) -> Vec<Test> {
    std::iter::from_fn(|| match inbox.look() {
        Arrival::Message(message) => Some(message),
        Arrival::Kick | Arrival::Nothing => None,
    })
    .collect()
}

#[test]
fn messages_keep_their_order_and_come_in_bounded_batches() {
    let mut bench = bench(100, 100);
    for number in 0..20 {
        bench.entry.send(Test::Lent(number)).unwrap();
    }
    bench.looper.step();
    assert_eq!(drain(&bench.up), (0..8).map(Test::Lent).collect::<Vec<_>>());
    bench.looper.step();
    bench.looper.step();
    assert_eq!(drain(&bench.up), (8..20).map(Test::Lent).collect::<Vec<_>>());
    assert_eq!(drain(&bench.down), (0..20).map(|number| Test::Own(2 * number)).collect::<Vec<_>>());
    assert_eq!((bench.looper.layer.batches, bench.counters.pipeline.messages.get()), (3, 20));
}

#[test]
fn what_finds_no_room_is_dropped_and_only_the_counted_is_an_overflow() {
    let mut bench = bench(3, 2);
    for number in 0..5 {
        bench.entry.send(Test::Lent(number)).unwrap();
    }
    bench.looper.step();
    assert_eq!(drain(&bench.up).len(), 3);
    assert_eq!(drain(&bench.down).len(), 2);
    assert_eq!(bench.counters.pipeline.inbox_overflows.get(), 2);
    assert_eq!(bench.counters.dropped(DropReason::InboxFull).get(), 2 + 3);
}

#[test]
fn nothing_wakes_a_sleeping_loop_but_its_deadline() {
    let mut bench = bench(1, 1);
    let deadline = bench.looper.pace.clock.now() + Duration::from_millis(30);
    bench.looper.layer.deadline = Some(deadline);
    while bench.looper.layer.timers == 0 {
        bench.looper.step();
    }
    assert!(bench.looper.pace.clock.now() >= deadline);
    assert_eq!((bench.looper.layer.timers, bench.counters.pipeline.link_wakeups.get()), (1, 1));
}

#[test]
fn a_loop_that_is_stopped_does_what_it_has() {
    let mut bench = bench(100, 100);
    for number in 0..50 {
        bench.entry.send(Test::Lent(number)).unwrap();
    }
    bench.looper.reins.stop(std::time::Instant::now() + Duration::from_secs(5));
    bench.looper.run();
    assert_eq!(drain(&bench.up).len(), 50);
}

#[test]
fn a_panic_leaves_the_loop_and_the_layer_can_still_be_spoken_to() {
    let mut bench = bench(9, 9);
    bench.entry.send(Test::Panic).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.looper.run()));
    assert!(caught.is_err());
    bench.looper.last_message(Test::Lent(1));
    assert_eq!(bench.looper.out.up, [Test::Lent(1)]);
}

#[test]
fn whoever_is_in_a_hurry_ends_the_wait_for_quiet() {
    let reins = Reins::default();
    assert!(!reins.wait_quiet(Duration::ZERO));
    reins.hurry(true);
    assert!(!reins.wait_quiet(Duration::MAX));
    reins.report_quiet();
    assert!(reins.wait_quiet(Duration::MAX));
}
