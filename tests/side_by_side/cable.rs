//! Two TAP interfaces joined by the link emulator under the real clock: one thread, which sleeps until a frame comes or one is due.

use hopline::device::linux::tun_tap::TunTap;
use hopline::device::virtual_link::{Impairments, Path, PathCounters};
use hopline::packet::{Packet, Pool};
use hopline::time::Instant;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::Namespace;
use crate::common::trace::Trace;

/// The name of the interface in each namespace.
pub(crate) const INTERFACE: &str = "tap0";
/// Bytes that the kernel puts before each frame of a TAP interface: a virtio-net header, all zero without offload.
const HEADER: usize = 10;
/// Where the IP header stands behind that, and behind the Ethernet header.
const IP_HEADER: usize = HEADER + 14;
/// The longest frame: the MTU is the default of 1500.
const LONGEST_FRAME: usize = 2_048;
/// Frames that the kernel keeps for us: more than any window here.
const QUEUE_FRAMES: u32 = 20_000;
/// Whether the cable is to stop is looked at so often.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Two namespaces with an interface each, and the emulator between them.
pub(crate) struct Cable {
    pub(crate) namespaces: [Namespace; 2],
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<[PathCounters; 2]>>,
}

impl Cable {
    /// `impairments` of the way from the first end to the second, and back.
    pub(crate) fn new(impairments: [Impairments; 2], seed: u64) -> Cable {
        let namespaces = [Namespace::new("sidebyside"), Namespace::new("sidebyside")];
        let taps = [0, 1].map(|end: usize| open_tap(&namespaces[end]));
        let [there, back] = impairments;
        let paths = [Path::for_ethernet(there, seed), Path::for_ethernet(back, !seed)];
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = std::thread::Builder::new().name("cable".into()).spawn(move || Emulator::new(taps, paths).run(&stop)).unwrap();
        Cable { namespaces, is_over, thread: Some(thread) }
    }

    /// Stops, and tells what became of the frames from each end.
    pub(crate) fn stop(&mut self) -> Option<[PathCounters; 2]> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().expect("the emulator runs to its end"))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A TAP interface without any offload: whoever sends cuts and completes its frames.
fn open_tap(namespace: &Namespace) -> File {
    let open = || TunTap::tap(INTERFACE)?.offload(false).map(TunTap::into_fd);
    let tap = namespace.inside(open).expect("a TAP interface");
    namespace.run(&format!("ip link set {INTERFACE} txqueuelen {QUEUE_FRAMES}; ip link set {INTERFACE} up"));
    namespace.set_offload(INTERFACE, false);
    tap.into()
}

struct Emulator {
    taps: [File; 2],
    /// By the end that sends.
    paths: [Path; 2],
    pool: Pool,
    trace: Option<Trace>,
    start: std::time::Instant,
}

impl Emulator {
    fn new(taps: [File; 2], paths: [Path; 2]) -> Emulator {
        Emulator { taps, paths, pool: Pool::default(), trace: Trace::wanted(), start: std::time::Instant::now() }
    }

    fn run(mut self, stop: &AtomicBool) -> [PathCounters; 2] {
        precise_timers();
        while !stop.load(Ordering::Relaxed) {
            for end in 0..2 {
                self.take(end);
                self.deliver(end);
            }
            self.sleep();
        }
        [0, 1].map(|end: usize| self.paths[end].counters())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// What an end has sent enters its path.
    fn take(&mut self, end: usize) {
        let mut frame = [0; HEADER + LONGEST_FRAME];
        loop {
            match self.taps[end].read(&mut frame) {
                Ok(length) => {
                    let packet = Packet::from_bytes(&self.pool, &frame[HEADER.min(length)..length]);
                    let now = self.now();
                    let result = self.paths[end].push(now, packet, &self.pool);
                    if let Some(trace) = &mut self.trace {
                        trace.note(now, if result.is_ok() { "     " } else { "lost " }, &frame[IP_HEADER.min(length)..length]);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("read from {INTERFACE}: {error}"),
            }
        }
    }

    /// What has arrived goes to the other end. A frame that it does not take is lost, as on any cable.
    fn deliver(&mut self, end: usize) {
        let now = self.now();
        let mut frame = Vec::with_capacity(HEADER + LONGEST_FRAME);
        while let Some(packet) = self.paths[end].pop(now) {
            frame.clear();
            frame.resize(HEADER, 0);
            frame.extend_from_slice(&packet.to_vec());
            self.taps[1 - end].write_all(&frame).ok();
        }
    }

    fn sleep(&self) {
        let next = self.paths.iter().filter_map(Path::next_delivery).min();
        let longest = next.map_or(LONGEST_SLEEP, |next| next.since(self.now()).min(LONGEST_SLEEP));
        wait_readable(&self.taps, longest);
    }
}

/// Timers of this thread expire when they are due, not 50 µs later.
fn precise_timers() {
    // SAFETY: the call takes and returns numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0, 0, 0) };
}

fn wait_readable(taps: &[File; 2], longest: Duration) {
    let mut entries = [0, 1].map(|end: usize| libc::pollfd { fd: taps[end].as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let timeout = libc::timespec { tv_sec: longest.as_secs() as _, tv_nsec: longest.subsec_nanos() as _ };
    // SAFETY: the entries and the time outlive the call, and there is no signal mask.
    unsafe { libc::ppoll(entries.as_mut_ptr(), 2, &timeout, std::ptr::null()) };
}
