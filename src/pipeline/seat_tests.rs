//! Who leads, what it reads, what it owes to the receive thread: each case by itself, and all of them at once, in lockstep, so that what is left lying is found.

use super::super::device_side::Writability;
use super::super::handoff::Attendant;
use super::super::inbox::inbox;
use super::super::receive_thread::{Entries, ReceiveThread};
use super::super::testing::{FakeHost, FakeStack, Fault, await_that};
use super::*;
use crate::device::LinkChange;
use crate::pipeline::Status;
use std::sync::atomic::AtomicU64;
use std::thread;

const SOON: Option<Duration> = Some(Duration::from_millis(1));

fn frames(numbers: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    numbers.map(|number| (number, b"frame".to_vec())).collect()
}

/// The `number`th reading of an exchange of small messages.
fn small(number: u32) -> Reading {
    Reading { frames: 1, bytes: 60, bytes_sent: 60, stock: Stock::Empty, at: Instant::ZERO + number * Duration::from_micros(10) }
}

fn take(stack: &FakeStack) -> Leader<'_> {
    stack.seat.take().expect("the seat is free")
}

/// Starts the receive thread of `stack`; to be stopped by [`stop`].
fn start_host(stack: &FakeStack) -> (Arc<AtomicBool>, thread::JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut host = ReceiveThread {
        reception: stack.reception.clone(),
        wait: Some(Box::new(FakeHost(stack.device.clone()))),
        seat: stack.seat.clone(),
        grace: None,
        entries: Entries { link: stack.link.clone(), network: inbox(0, 0).0, transport: inbox(0, 0).0 },
        writability: Arc::new(Writability::default()),
        stop: stop.clone(),
        health: stack.health.clone(),
    };
    (stop, thread::spawn(move || host.run()))
}

fn stop(stack: &FakeStack, (stop, thread): (Arc<AtomicBool>, thread::JoinHandle<()>)) {
    stop.store(true, Ordering::SeqCst);
    Waker::wake(&*stack.device);
    thread.thread().unpark();
    thread.join().unwrap();
}

#[test]
fn a_frame_wakes_the_leader_alone_which_receives_it() {
    let stack = FakeStack::new(64);
    thread::scope(|scope| {
        let leader = scope.spawn(|| take(&stack).wait(None));
        stack.device.await_guest();
        stack.device.arrive(b"frame");
        assert_eq!(leader.join().unwrap(), Next::Look);
    });
    assert_eq!((stack.received(), stack.receptions()), (frames(1..=1), 1));
    assert!(!stack.device.host_is_told() && !stack.device.take_host_call(), "nobody else is told");
    stack.device.arrive(b"frame");
    assert!(stack.device.host_is_told(), "who has left is not waited for");
}

#[test]
fn more_than_a_little_is_left_to_the_receive_thread_and_so_is_what_follows() {
    let stack = FakeStack::new(64);
    let count = FRAMES as u64;
    (0..count).for_each(|_| stack.device.arrive(b"frame"));
    let leader = take(&stack);
    assert_eq!((leader.wait(None), stack.received()), (Next::StandUp, frames(1..=count)));
    assert!(stack.device.take_host_call(), "there may be more, of which nobody is told again");
    drop(leader);
    assert!(stack.seat.take().is_none(), "a flood");
    let host = start_host(&stack);
    stack.device.arrive(b"frame");
    await_that(|| !stack.inbox.is_empty());
    stop(&stack, host);
    assert_eq!(stack.received(), frames(count + 1..=count + 1));
}

#[test]
fn bulk_is_the_receive_threads() {
    let stack = FakeStack::new(64);
    stack.device.arrive(&[0; MUCH]);
    assert_eq!(take(&stack).wait(None), Next::Look);
    assert!(stack.seat.take().is_none());
}

#[test]
fn so_is_what_acknowledges_bulk() {
    let stack = FakeStack::new(64);
    for (sent, leads) in [(MUCH - 100, true), (MUCH, false)] {
        stack.counters.device.bytes_sent.add(sent as u64);
        stack.device.arrive(&[0; 60]);
        assert_eq!(take(&stack).wait(None), Next::Look);
        assert_eq!(stack.seat.take().is_some(), leads, "{sent} bytes were sent since the last reading");
    }
}

/// What of so many readings leaders may have, if the receive thread reads after each `run` of theirs.
fn led(run: u32, readings: u32) -> u32 {
    let seat = FakeStack::new(1).seat;
    let mut led = 0;
    let mut number = 0;
    let mut note = |reader| {
        number += 1;
        seat.note(&small(number), reader);
    };
    for _ in 0..readings {
        for _ in 0..run {
            if seat.take().is_some() {
                led += 1;
                note(Reader::Leader);
            }
        }
        note(Reader::ReceiveThread);
    }
    led
}

#[test]
fn leading_goes_on_while_it_is_worth_it_and_is_tried_ever_more_rarely_where_it_is_not() {
    assert_eq!(led(WORTH_IT, 1_000), WORTH_IT * 1_000);
    let [_, most] = DETOURS;
    let attempts = 6_400 / most;
    assert!((attempts..attempts * FORGIVEN).contains(&led(1, 6_400)));
}

#[test]
fn a_leader_that_was_away_for_a_while_is_forgiven() {
    let seat = FakeStack::new(1).seat;
    (0..100).for_each(|number| seat.note(&small(number), Reader::Leader));
    for number in 100..100 + FORGIVEN {
        seat.note(&small(number), Reader::ReceiveThread);
        assert!(seat.take().is_some() && seat.let_leader_go_first().is_none(), "it may come back, but nobody waits for it");
    }
    seat.note(&small(200), Reader::ReceiveThread);
    assert!(seat.take().is_none(), "it has left for longer");
}

/// The thread that would lead sleeps where others do, and has to be woken before it can sit down.
#[test]
fn the_receive_thread_may_be_faster_a_few_times_after_a_detour() {
    let seat = FakeStack::new(1).seat;
    let [first, _] = DETOURS;
    let mut read = (0..).map(|number| seat.note(&small(number), Reader::ReceiveThread));
    (0..=first).for_each(|_| read.next().unwrap_or_default());
    for _ in 0..FORGIVEN / 4 {
        assert!(seat.take().is_some());
        read.next();
    }
    assert!(seat.take().is_some());
    read.next();
    assert!(seat.take().is_none());
}

#[test]
fn what_the_receive_thread_finds_read_already_is_no_reading_of_its_own() {
    let stack = FakeStack::new(1);
    for number in 0..100 {
        drop(take(&stack));
        stack.seat.note(&small(number), Reader::Leader);
        stack.seat.note(&Reading { frames: 0, bytes: 0, bytes_sent: 0, ..small(number) }, Reader::ReceiveThread);
    }
    assert!(stack.seat.is_used.load(Ordering::Relaxed));
    stack.seat.note(&small(100), Reader::ReceiveThread);
    assert!(!stack.seat.is_used.load(Ordering::Relaxed));
}

#[test]
fn frames_are_left_for_a_while_to_a_leader_that_is_at_work() {
    let seat = FakeStack::new(1).seat;
    assert_eq!(seat.let_leader_go_first(), None, "nobody is expected");
    seat.note(&small(1), Reader::Leader);
    assert_eq!(seat.let_leader_go_first(), Some(GRACE[0]), "it is at work");
    seat.note(&small(2), Reader::ReceiveThread);
    assert_eq!(seat.let_leader_go_first(), None, "and is not expected any more");
}

#[test]
fn who_reads_once_more_after_the_course_has_changed_is_not_waited_for() {
    let stack = FakeStack::new(64);
    let leader = take(&stack);
    stack.seat.note(&small(1), Reader::ReceiveThread);
    stack.device.arrive(b"frame");
    assert_eq!(leader.wait(None), Next::Look);
    assert_eq!(stack.seat.let_leader_go_first(), None);
}

#[test]
fn a_leader_that_meets_bulk_has_the_receive_thread_wait_no_longer() {
    let stack = FakeStack::new(64);
    lead(&stack);
    assert!(stack.seat.let_leader_go_first().is_some());
    stack.device.arrive(&[0; MUCH]);
    assert_eq!(take(&stack).wait(None), Next::Look);
    assert!(stack.device.take_host_call());
}

/// Lets a leader receive a frame.
fn lead(stack: &FakeStack) {
    stack.device.arrive(b"frame");
    assert_eq!(take(stack).wait(None), Next::Look);
}

#[test]
fn who_is_let_go_first_puts_the_end_of_that_off() {
    let stack = FakeStack::new(64);
    lead(&stack);
    assert!(stack.device.take_put_off().is_empty(), "nobody lets it");
    assert_eq!(stack.seat.let_leader_go_first(), Some(GRACE[0]));
    lead(&stack);
    assert_eq!(stack.device.take_put_off(), GRACE[..1]);
    stack.seat.end_grace();
    lead(&stack);
    assert!(stack.device.take_put_off().is_empty(), "nobody lets it any more");
}

#[test]
fn the_end_is_put_off_once_half_the_time_is_over_and_by_more_for_those_who_read_often_while_nobody_else_would_lead() {
    let (grace, is_wanted) = (Grace::default(), AtomicBool::new(false));
    let start = Instant::ZERO;
    let [short, long] = GRACE;
    let renew = |after| grace.renew(start + after, &is_wanted);
    assert_eq!(renew(Duration::ZERO), Some(short));
    assert_eq!(renew(short / 4), None);
    assert_eq!(renew(short / 2), Some(short));
    assert_eq!(renew(short), None, "often: half of the longer time is not over");
    assert_eq!(renew(short / 2 + long / 2), Some(long));
    is_wanted.store(true, Ordering::Relaxed);
    assert_eq!(renew(2 * long), Some(short));
    assert_eq!(renew(3 * long), Some(long), "nobody was there since");
    grace.end();
    assert_eq!(grace.renew(start + 3 * long, &is_wanted), Some(short), "a new one");
}

#[test]
fn what_was_a_flood_is_led_again_when_it_is_over() {
    let stack = FakeStack::new(1);
    let flood = |number| Reading { frames: 32, stock: Stock::Unknown, ..small(number) };
    (0..1_000).for_each(|number| stack.seat.note(&flood(number), Reader::ReceiveThread));
    let [_, most] = DETOURS;
    for number in 0..most {
        assert!(stack.seat.take().is_none());
        stack.seat.note(&small(1_000 + number), Reader::ReceiveThread);
    }
    drop(take(&stack));
}

/// A frame or two at once, again and again, can be bulk: it is the bytes in a time that count.
#[test]
fn bulk_in_small_readings_is_the_receive_threads_until_it_is_over() {
    let stack = FakeStack::new(1);
    let frame = |number| Reading { bytes: 1514, ..small(number) };
    for number in 1..=100 {
        stack.seat.note(&frame(number), Reader::ReceiveThread);
    }
    for number in 101..=1_000 {
        assert!(stack.seat.take().is_none(), "reading {number}");
        stack.seat.note(&frame(number), Reader::ReceiveThread);
    }
    let [_, most] = DETOURS;
    for number in 0..most {
        assert!(stack.seat.take().is_none(), "{number} readings of the detour");
        assert_eq!(stack.seat.is_far_off(), number < most / 2);
        stack.seat.note(&Reading { at: small(100 * (number + 1_000)).at, ..frame(0) }, Reader::ReceiveThread);
    }
    drop(take(&stack));
}

#[test]
fn what_is_much_is_counted_over_a_time() {
    let mut flow = Flow::default();
    let start = Instant::ZERO + Duration::from_secs(1);
    let mut note = |after, bytes| flow.note(&Reading { bytes, bytes_sent: 0, at: start + after, ..small(0) });
    assert!(!note(Duration::ZERO, MUCH - 1));
    assert!(note(MUCH_IN / 2, 1), "at once, when it is");
    assert!(note(MUCH_IN, 0), "and still, after that time");
    assert!(!note(2 * MUCH_IN, MUCH - 1), "a time with nothing is over");
    assert!(!note(3 * MUCH_IN, 0), "one byte less");
    assert!(note(4 * MUCH_IN, MUCH));
    assert!(!note(6 * MUCH_IN, 0), "in twice the time");
}

#[test]
fn bulk_is_known_to_be_sent_while_most_of_it_is_and_for_a_device_to_be_done_with_it() {
    let seat = FakeStack::new(1).seat;
    let after = |millis| Instant::ZERO + Duration::from_millis(millis);
    for (millis, bytes, bytes_sent, is_out) in [
        (10, MUCH, MUCH, false),
        (11, 1, MUCH, false),
        (12, 0, MUCH, true),
        (13, 60, 60, true),
        (14, 0, 0, true),
        (20, 0, MUCH, true),
        (21, 0, 0, true),
        (22, MUCH, MUCH, true),
        (30, 0, 0, true),
        (31, 0, 0, false),
        (32, MUCH, MUCH, false),
        (33, 0, 0, false),
    ] {
        seat.note(&Reading { bytes, bytes_sent, at: after(millis), ..small(0) }, Reader::ReceiveThread);
        assert_eq!(seat.is_bulk_out(), is_out, "after {millis} ms");
    }
}

#[test]
fn a_leader_that_finds_somebody_reading_leaves_it_to_the_receive_thread() {
    let stack = FakeStack::new(64);
    stack.device.arrive(b"frame");
    let reading = stack.reception.lock();
    assert_eq!(take(&stack).wait(None), Next::StandUp);
    drop(reading);
    assert!(stack.device.take_host_call() && stack.received().is_empty());
}

#[test]
fn without_credit_a_leader_does_not_read() {
    let stack = FakeStack::new(2);
    (0..3).for_each(|_| stack.device.arrive(b"frame"));
    assert_eq!(take(&stack).wait(None), Next::StandUp);
    assert!(stack.device.take_host_call());
    stack.seat.detour.store(0, Ordering::SeqCst);
    assert_eq!(take(&stack).wait(None), Next::StandUp);
    assert!(stack.device.take_host_call(), "the frame stays, and the receive thread waits for credit");
    assert_eq!(stack.counters.device.credit_stalls.get(), 1);
    assert_eq!(stack.received(), frames(1..=2), "which gives the credit back");
    assert!(stack.device.take_host_call(), "and that calls the receive thread");
    assert_eq!((take(&stack).wait(None), stack.received()), (Next::Look, frames(3..=3)));
}

#[test]
fn two_do_not_lead() {
    let stack = FakeStack::new(1);
    let leader = take(&stack);
    assert!(stack.seat.take().is_none());
    drop(leader);
    drop(take(&stack));
    assert!(Seat::default().take().is_none(), "nothing to sit on");
}

#[test]
fn a_call_ends_the_wait_or_the_next_one() {
    let stack = FakeStack::new(1);
    let leader = take(&stack);
    stack.seat.call();
    assert_eq!(leader.wait(None), Next::Look, "called between the last look and the wait");
    thread::scope(|scope| {
        scope.spawn(|| {
            stack.device.await_guest();
            stack.seat.changed(0, Readiness::READABLE);
        });
        assert_eq!(leader.wait(None), Next::Look, "called while it waited");
    });
    assert_eq!(stack.receptions(), 0);
}

#[test]
fn a_wait_ends_in_time_and_owes_nothing() {
    let stack = FakeStack::new(1);
    assert_eq!(take(&stack).wait(SOON), Next::Look);
    assert!(!stack.device.take_host_call());
    stack.device.arrive(b"frame");
    assert!(stack.device.host_is_told());
}

#[test]
fn an_error_is_the_receive_threads_to_judge() {
    let stack = FakeStack::new(64);
    stack.device.set_fault(Fault::Error);
    stack.device.arrive(b"frame");
    assert_eq!(take(&stack).wait(None), Next::StandUp);
    assert!(stack.device.take_host_call() && stack.reception.lock().left_error.is_some());
    let host = start_host(&stack);
    await_that(|| stack.health.status() == Status::NetworkGone);
    assert!(stack.reception.lock().left_error.is_none());
    stop(&stack, host);
}

/// It is told once: reading it clears it, as that of an interface which goes down.
#[test]
fn an_error_that_a_leader_met_is_not_forgotten() {
    let stack = FakeStack::new(64);
    stack.device.set_fault(Fault::Down);
    stack.device.arrive(b"frame");
    assert_eq!(take(&stack).wait(None), Next::StandUp);
    stack.device.set_fault(Fault::None);
    let host = start_host(&stack);
    await_that(|| stack.inbox.has_state());
    assert!(matches!(stack.inbox.take_state()[..], [link::Message::LinkState(false)]));
    stop(&stack, host);
}

#[test]
fn a_device_that_dies_has_its_leader_leave() {
    let stack = FakeStack::new(64);
    let host = start_host(&stack);
    thread::scope(|scope| {
        let leader = scope.spawn(|| take(&stack).wait(None));
        stack.device.await_guest();
        stack.device.report(LinkChange::Gone);
        assert_eq!(leader.join().unwrap(), Next::StandUp);
    });
    await_that(|| stack.health.status() == Status::NetworkGone);
    assert!(stack.seat.take().is_none());
    stop(&stack, host);
}

#[test]
fn the_end_of_a_stack_has_its_leader_leave_and_drops_the_device() {
    let stack = FakeStack::new(64);
    thread::scope(|scope| {
        let leader = scope.spawn(|| take(&stack).wait(None));
        stack.device.await_guest();
        stack.seat.close();
        assert_eq!(leader.join().unwrap(), Next::StandUp);
    });
    assert_eq!((Arc::strong_count(&stack.reception), stack.seat.take().is_none()), (1, true));
}

/// Threads come to sit down while the seat is closed: none of them stays.
#[test]
fn nobody_stays_in_a_seat_that_is_being_closed() {
    for _ in 0..2_000 {
        let stack = FakeStack::new(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(leader) = stack.seat.take() {
                    leader.wait(None);
                }
            });
            stack.seat.close();
        });
    }
}

/// A single frame, of which the leader alone is told, and which it may not read.
#[test]
fn what_a_leader_may_not_read_the_receive_thread_does() {
    let stack = FakeStack::new(64);
    let host = start_host(&stack);
    for number in 1..=100 {
        let reading = stack.reception.lock();
        thread::scope(|scope| {
            let leader = scope.spawn(|| stack.seat.take().map(|leader| leader.wait(None)));
            await_that(|| leader.is_finished() || stack.device.guest_waits());
            stack.device.arrive(b"frame");
        });
        drop(reading);
        await_that(|| !stack.inbox.is_empty());
        assert_eq!(stack.received_one(), Some(number));
    }
    stop(&stack, host);
}

#[test]
fn a_panic_while_reading_fails_the_stack_and_leaves_the_seat_free() {
    let stack = FakeStack::new(64);
    stack.device.set_fault(Fault::Panic);
    stack.device.arrive(b"frame");
    assert_eq!(take(&stack).wait(None), Next::StandUp, "the program's thread goes on");
    assert!(stack.has_failed());
    drop(take(&stack));
    assert!(stack.trouble.outcome().unwrap_err().to_string().contains("as told"));
}

/// In place of the layers: what comes wakes so many sockets, the leader's among them or not.
struct Wakes {
    seat: Arc<Seat>,
    count: usize,
    calls: bool,
}

impl Attendant for Wakes {
    fn attend(&self) {
        combining::add_woken(self.count);
        if self.calls {
            self.seat.call();
        }
    }
}

#[test]
fn who_receives_for_others_alone_stands_up() {
    for (count, calls, next) in [(0, false, Next::Look), (1, true, Next::Look), (2, true, Next::Look), (1, false, Next::StandUp)] {
        let stack = FakeStack::new(64);
        stack.link.set_attendant(Arc::new(Wakes { seat: stack.seat.clone(), count, calls }));
        stack.device.arrive(b"frame");
        let leader = take(&stack);
        assert_eq!(leader.wait(None), next, "{count} woken, itself: {calls}");
        if calls {
            assert_eq!(leader.wait(None), Next::Look, "its own run's call costs no wake-up, but is heard");
        }
    }
}

/// No frame comes before the last one was received, and programs' threads come and go: what nobody is told of stays for ever. Meanwhile others hold the
/// reception, so that leaders find it taken.
#[test]
fn no_frame_is_left_lying_in_lockstep() {
    const ROUNDS: u64 = 2_000;
    let stack = FakeStack::new(64);
    let host = start_host(&stack);
    let (done, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    match stack.seat.take() {
                        Some(leader) if turns.fetch_add(1, Ordering::SeqCst) % 3 > 0 => drop(leader.wait(Some(Duration::from_secs(1)))),
                        _ => thread::yield_now(),
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                drop(stack.reception.lock());
                thread::yield_now();
            }
        });
        // The first one comes to a leader, so that there is one at all however slowly these threads run.
        stack.device.await_guest();
        stack.device.arrive(b"frame");
        await_that(|| !stack.inbox.is_empty());
        assert_eq!((stack.received_one(), stack.device.guest_wakes()), (Some(1), 1));
        let mut next = 2;
        while next <= ROUNDS {
            let count = next % (FRAMES as u64 + 2) + 1;
            (0..count).for_each(|_| stack.device.arrive(b"frame"));
            for number in next..next + count {
                await_that(|| !stack.inbox.is_empty());
                assert_eq!(stack.received_one(), Some(number));
            }
            next += count;
        }
        done.store(true, Ordering::SeqCst);
        stack.seat.call();
    });
    stop(&stack, host);
}
