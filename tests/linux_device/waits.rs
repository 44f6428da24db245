//! Two threads that wait for one device: whom the kernel wakes for a frame.

use crate::common::{Namespace, Need, trial, veth};
use crate::toy::{OURS, PEERS};
use hopline::device::linux::packet_socket::PacketSocket;
use hopline::device::linux::tun_tap::TunTap;
use hopline::device::{Device, FrameReceiver, GuestWait, OpenDevice, Stock, Waits, Waker, Wanted};
use hopline::packet::{Packet, Pool};
use hopline::wire::MacAddress;
use libtest_mimic::Trial;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

const OWN_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for whoever is to wait, or would be woken for nothing.
const MOMENT: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;
/// How often a guest that comes too late gets twice the time.
const ATTEMPTS: u32 = 6;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces];
    vec![
        trial("a_frame_wakes_the_guest_that_waits_and_else_the_host_of_a_packet_socket", needs, packet_socket),
        trial("a_frame_wakes_the_guest_that_waits_and_else_the_host_of_a_tap", needs, tap),
    ]
}

fn packet_socket() {
    let (ours, peer) = (Namespace::new("dev"), Namespace::new("dev"));
    for namespace in [&ours, &peer] {
        namespace.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    }
    veth((&ours, "vA", None), (&peer, "vB", Some("192.0.2.2/24")));
    let device = ours.inside(|| PacketSocket::open("vA").and_then(|socket| socket.mac(OWN_MAC))).unwrap();
    check(device, &peer, "vB");
}

fn tap() {
    let peer = Namespace::new("dev");
    peer.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let device = peer.inside(|| TunTap::tap("vB")).unwrap().mac(OWN_MAC);
    peer.run("ip addr add 192.0.2.2/24 dev vB");
    check(device, &peer, "vB");
}

/// The device's parts, and what wakes its host.
struct Parts {
    receiver: Box<dyn FrameReceiver>,
    guest: Arc<dyn GuestWait>,
    waker: Arc<dyn Waker>,
    pool: Pool,
    /// Says whether the host was woken for frames; it goes on waiting after the answer.
    woken: Receiver<bool>,
    go_on: Sender<()>,
    host: thread::JoinHandle<()>,
}

impl Parts {
    fn new(device: impl Device + 'static) -> Parts {
        let OpenDevice { mut receiver, sender: _, waker } = Box::new(device).open().unwrap();
        let Waits { mut host, guest } = receiver.part().expect("two can wait");
        assert!(receiver.part().is_none(), "once");
        let ((tell, woken), (go_on, answer)) = (channel(), channel());
        let host = thread::spawn(move || {
            loop {
                let (received, has_frames) = host.wait(Wanted { frames: true, ..Wanted::default() }).unwrap();
                if (received.woken || has_frames) && (tell.send(has_frames).is_err() || answer.recv().is_err()) {
                    return;
                }
            }
        });
        Parts { receiver, guest, waker, pool: Pool::default(), woken, go_on, host }
    }

    fn read(&mut self) -> (usize, Stock) {
        let mut batch: Vec<Packet> = Vec::new();
        let stock = self.receiver.read(&self.pool, 8, &mut batch).unwrap();
        (batch.len(), stock)
    }

    /// The host is woken for frames, which are read.
    #[track_caller]
    fn expect_host(&mut self) {
        assert_eq!(self.woken.recv_timeout(PATIENCE), Ok(true));
        assert_eq!(self.read(), (1, Stock::Empty));
        self.go_on.send(()).unwrap();
    }

    /// A frame comes when the guest has had `time_to_begin` its wait: false if that was not enough, and the host was woken too.
    #[track_caller]
    fn guest_alone_is_woken(&mut self, send: impl Fn(), time_to_begin: Duration) -> bool {
        let guest = self.guest.clone();
        let waiting = thread::spawn(move || guest.wait(Some(PATIENCE)).unwrap());
        thread::sleep(time_to_begin);
        send();
        assert!(waiting.join().unwrap(), "the guest is woken");
        assert_eq!(self.read(), (1, Stock::Empty));
        match self.woken.recv_timeout(MOMENT) {
            Err(RecvTimeoutError::Timeout) => true,
            Ok(true) => {
                self.go_on.send(()).unwrap();
                false
            }
            other => panic!("the host was woken for something else: {other:?}"),
        }
    }

    fn end(self) {
        drop((self.woken, self.go_on));
        self.waker.wake();
        self.host.join().unwrap();
    }
}

fn check(device: impl Device + 'static, peer: &Namespace, interface: &str) {
    let mut parts = Parts::new(device);
    peer.run(&format!("ip neigh replace {OURS} lladdr {OWN_MAC} dev {interface}"));
    let socket = peer.inside(|| UdpSocket::bind((PEERS, 4_000))).unwrap();
    let send = || assert_eq!(socket.send_to(b"frame", (OURS, 4_000)).unwrap(), 5);
    for _ in 0..ROUNDS {
        send();
        parts.expect_host();
        assert!(!parts.guest.wait(Some(Duration::from_millis(1))).unwrap(), "what the host has read is gone");
        assert!((0..ATTEMPTS).any(|attempt| parts.guest_alone_is_woken(send, MOMENT * (1 << attempt))), "the host is not");
    }
    (0..8).for_each(|_| send());
    assert_eq!(parts.woken.recv_timeout(PATIENCE), Ok(true));
    // The kernel may take its time to carry all of them across.
    thread::sleep(MOMENT);
    assert!(parts.guest.wait(None).unwrap(), "what came while nobody read shows at once");
    assert_eq!(parts.read(), (8, Stock::Unknown));
    assert_eq!(parts.read(), (0, Stock::Empty));
    parts.go_on.send(()).unwrap();
    for _ in 0..ROUNDS {
        parts.guest.wake();
        assert!(!parts.guest.wait(None).unwrap(), "a call ends the next wait");
    }
    parts.waker.wake();
    assert_eq!(parts.woken.recv_timeout(PATIENCE), Ok(false), "the waker is the host's");
    parts.go_on.send(()).unwrap();
    parts.end();
}
