use super::*;
use crate::packet::Account;
use crate::time::Duration;

fn open(options: LinkOptions) -> (OpenDevice, OpenDevice) {
    let (a, b) = pair(options);
    (Box::new(a).open().unwrap(), Box::new(b).open().unwrap())
}

fn frames(pool: &Pool, lengths: &[usize]) -> VecDeque<Packet> {
    lengths.iter().map(|&length| Packet::from_bytes(pool, &vec![7; length])).collect()
}

fn receive(device: &mut OpenDevice, limit: usize, want_writable: bool) -> (Vec<usize>, Received) {
    let mut batch = Vec::new();
    let received = device.receiver.receive(&Pool::default(), limit, want_writable, &mut batch).unwrap();
    (batch.iter().map(Packet::len).collect(), received)
}

#[test]
fn frames_cross_in_both_directions() {
    let pool = Pool::default();
    let (mut a, mut b) = open(LinkOptions::default());
    let mut outgoing = frames(&pool, &[60, 61]);
    assert_eq!(a.sender.send(&mut outgoing).unwrap(), Sent { frames: 2, bytes: 121, refused: 0 });
    b.sender.send(&mut frames(&pool, &[62])).unwrap();
    assert_eq!((receive(&mut b, 9, false).0, receive(&mut a, 9, false).0), (vec![60, 61], vec![62]));
}

#[test]
fn a_full_link_takes_no_more_and_tells_when_it_does_again() {
    let pool = Pool::default();
    let (mut a, mut b) = open(LinkOptions { capacity_packets: 4, ..LinkOptions::default() });
    let mut outgoing = frames(&pool, &[60; 6]);
    assert_eq!((a.sender.send(&mut outgoing).unwrap().frames, outgoing.len()), (4, 2));
    assert_eq!(receive(&mut b, 1, false).0.len(), 1);
    a.waker.wake();
    assert_eq!(receive(&mut a, 9, true).1, Received { woken: true, ..Received::default() });
    assert_eq!(receive(&mut b, 1, false).0.len(), 1);
    assert_eq!(receive(&mut a, 9, true).1, Received { writable: true, ..Received::default() });
    assert_eq!((a.sender.send(&mut outgoing).unwrap().frames, outgoing.len()), (2, 0));
    assert_eq!(receive(&mut b, 9, false).0.len(), 4, "nothing is lost");
}

/// Who gets room back calls whoever waits at the device.
struct Caller(End);

impl Account for Caller {
    fn give_back(&self, _bytes: usize) {
        let Caller(end) = self;
        assert!(end.cable.state.try_lock().is_some(), "the cable's lock is free");
        end.cable.hosts.notify(end.index);
    }
}

#[test]
fn room_is_given_back_without_the_cables_lock() {
    let (a, _b) = pair(LinkOptions::default());
    let account = Arc::new(Caller(a.end.clone()));
    let mut a = Box::new(a).open().unwrap();
    let mut outgoing = frames(&Pool::default(), &[60, 1515]);
    outgoing.iter_mut().for_each(|packet| packet.guard = Some(Guard::new(account.clone(), 1)));
    assert_eq!(a.sender.send(&mut outgoing).unwrap(), Sent { frames: 1, bytes: 60, refused: 1 });
    assert_eq!(Arc::strong_count(&account), 1, "all is given back");
}

#[test]
fn frames_longer_than_the_mtu_are_refused() {
    let pool = Pool::default();
    let (mut a, _b) = open(LinkOptions::default());
    assert_eq!(a.sender.send(&mut frames(&pool, &[1515, 1514])).unwrap(), Sent { frames: 1, bytes: 1514, refused: 1 });
    let (mut a, _b) = open(LinkOptions { medium: LinkMedium::Ip, ..LinkOptions::default() });
    assert_eq!(a.sender.send(&mut frames(&pool, &[1501, 1500])).unwrap(), Sent { frames: 1, bytes: 1500, refused: 1 });
}

#[test]
fn a_wait_ends_by_the_waker_also_when_it_came_first() {
    let (mut a, _b) = open(LinkOptions::default());
    a.waker.wake();
    assert_eq!(receive(&mut a, 0, false), (vec![], Received { woken: true, ..Received::default() }));
    let waker = a.waker.clone();
    let waiting = std::thread::spawn(move || receive(&mut a, 9, false).1.woken);
    waker.wake();
    assert!(waiting.join().unwrap());
}

#[test]
fn a_wait_ends_when_a_delayed_frame_arrives() {
    let pool = Pool::default();
    let a_to_b = Impairments { delay: Duration::from_millis(5), ..Impairments::default() };
    let (mut a, mut b) = open(LinkOptions { a_to_b, ..LinkOptions::default() });
    let start = std::time::Instant::now();
    a.sender.send(&mut frames(&pool, &[60])).unwrap();
    assert_eq!(receive(&mut b, 9, false).0, [60]);
    assert!(start.elapsed() >= Duration::from_millis(5));
}

#[test]
fn what_is_sent_to_nobody_vanishes() {
    let pool = Pool::default();
    let (mut a, b) = open(LinkOptions { capacity_packets: 1, ..LinkOptions::default() });
    drop(b);
    assert_eq!(a.sender.send(&mut frames(&pool, &[60; 9])).unwrap().frames, 9);
}

#[test]
fn a_direction_that_corrupts_has_no_offload() {
    let a_to_b = Impairments { corruption: 0.1, ..Impairments::default() };
    let (a, b) = pair(LinkOptions { a_to_b, ..LinkOptions::default() });
    assert_eq!((a.properties().offload, b.properties().offload), (offload_of(false), offload_of(true)));
}

#[test]
fn a_monitor_sees_and_changes_the_link() {
    let pool = Pool::default();
    let (a, _b) = pair(LinkOptions::default());
    let monitor = a.monitor();
    let mut a = Box::new(a).open().unwrap();
    monitor.change(|impairments| impairments.loss = 1.0);
    a.sender.send(&mut frames(&pool, &[60])).unwrap();
    assert_eq!((monitor.counters().pushed, monitor.counters().lost), (1, 1));
}
