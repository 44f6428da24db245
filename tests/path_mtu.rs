//! Paths that lose large packets without a word (RFC 4821), under virtual time: bare IP packets, so that sizes are those of IP.

use hopline::config::{Config, PathMtuProbing};
use hopline::counters::Counters;
use hopline::device::Medium;
use hopline::device::virtual_link::Impairments;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::TcpStream;
use std::io::{Read, Write};
use std::time::Duration;

const RAISE: Duration = Duration::from_secs(30);

struct Transfer {
    world: World,
    sender: HostId,
    from: TcpStream,
    to: TcpStream,
    sent: usize,
    received: usize,
}

fn link(largest_packet: Option<usize>) -> Impairments {
    Impairments {
        largest_packet,
        delay: Duration::from_millis(10),
        rate_bits_per_second: Some(20_000_000),
        queue_bytes: 2 << 20,
        ..Impairments::default()
    }
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

impl Transfer {
    /// A connection over a path that carries packets of so many bytes.
    fn over(largest: Option<usize>, probing: PathMtuProbing) -> Transfer {
        let mut config = Config::default();
        config.tcp.path_mtu_probing = probing;
        config.tcp.path_mtu_raise_time = RAISE;
        let mut world = World::new(11);
        let host = |address: &str| HostOptions { medium: Medium::Ip, config: config.clone(), ..HostOptions::new(address) };
        let (sender, receiver) = (world.host(host("192.0.2.1/24")), world.host(host("192.0.2.2/24")));
        world.join(&[sender, receiver], &link(largest));
        let listener = world[receiver].listen("192.0.2.2:80").unwrap();
        let from = world[sender].connect("192.0.2.2:80").unwrap();
        let mut to = None;
        assert!(world.run_until(Duration::from_secs(5), || {
            to = listener.accept().ok();
            to.is_some()
        }));
        Transfer { world, sender, from, to: to.unwrap().0, sent: 0, received: 0 }
    }

    /// So many bytes cross, each the right one, within `limit`.
    #[track_caller]
    fn run(&mut self, bytes: usize, limit: Duration) {
        let (end, mut buffer) = (self.sent + bytes, vec![0; 64 << 10]);
        let Transfer { world, from, to, sent, received, .. } = self;
        let is_done = world.run_until(limit, || {
            while *sent < end {
                let chunk: Vec<u8> = (*sent..end.min(*sent + 16_384)).map(byte).collect();
                let Ok(written) = from.write(&chunk) else { break };
                *sent += written;
            }
            while let Ok(count @ 1..) = to.read(&mut buffer) {
                assert!(buffer[..count].iter().enumerate().all(|(at, &found)| found == byte(*received + at)), "a wrong byte");
                *received += count;
            }
            *received == end
        });
        assert!(is_done, "{} of {end} bytes arrived\n{}", self.received, self.world);
    }

    /// The size of the IP packets that are sent.
    fn packet(&mut self) -> usize {
        self.from.info().unwrap();
        self.world.settle();
        self.from.info().unwrap().maximum_segment_size + 12 + 40
    }

    fn counters(&self) -> &Counters {
        self.world[self.sender].counters()
    }
}

#[test]
fn a_black_hole_is_found_and_the_size_that_fits_it() {
    for hole in [1_492, 1_400, 1_300, 1_000, 600] {
        let mut transfer = Transfer::over(Some(hole), PathMtuProbing::BlackHole);
        transfer.run(2 << 20, Duration::from_secs(20));
        let size = transfer.packet();
        assert!((hole - 16..=hole).contains(&size), "packets of {size} bytes through a hole of {hole}");
        assert!(transfer.counters().transport.black_holes.get() > 0);
    }
}

#[test]
fn without_probing_a_black_hole_is_the_end() {
    let mut transfer = Transfer::over(Some(1_400), PathMtuProbing::Off);
    transfer.from.write_all(&[0; 100_000]).unwrap();
    transfer.world.run_for(Duration::from_secs(60));
    assert!(transfer.to.read(&mut [0; 9]).is_err());
}

#[test]
fn the_size_rises_again_when_the_path_does() {
    let mut transfer = Transfer::over(Some(1_400), PathMtuProbing::BlackHole);
    transfer.run(2 << 20, Duration::from_secs(20));
    assert!(transfer.packet() <= 1_400);
    let sender = transfer.sender;
    transfer.world.impair(sender, |link| link.largest_packet = None);
    transfer.run(1 << 20, Duration::from_secs(20));
    assert!(transfer.packet() <= 1_400, "not at once");
    transfer.world.run_for(RAISE);
    transfer.run(1 << 20, Duration::from_secs(20));
    assert_eq!(transfer.packet(), 1_500);
    transfer.world.impair(sender, |link| link.largest_packet = Some(1_300));
    transfer.run(2 << 20, Duration::from_secs(30));
    assert!((1_284..=1_300).contains(&transfer.packet()), "and falls when it narrows");
}

/// RFC 4821 §7.6.2.
#[test]
fn a_lost_probe_is_no_sign_of_congestion() {
    let mut transfer = Transfer::over(Some(1_400), PathMtuProbing::Always);
    transfer.run(1 << 20, Duration::from_secs(20));
    let size = transfer.packet();
    assert!((1_384..=1_400).contains(&size), "packets of {size} bytes");
    let transport = &transfer.counters().transport;
    assert!(transport.path_probes_lost.get() >= 2 && transport.path_probes_arrived.get() >= 1);
    assert_eq!((transport.fast_retransmits.get(), transport.retransmission_timeouts.get()), (0, 0));
    assert_eq!(transfer.from.info().unwrap().slow_start_threshold, usize::MAX, "{}", transfer.world);
}

#[test]
fn a_path_that_carries_everything_is_not_probed() {
    let mut transfer = Transfer::over(None, PathMtuProbing::BlackHole);
    transfer.run(1 << 20, Duration::from_secs(20));
    assert_eq!((transfer.packet(), transfer.counters().transport.path_probes_sent.get()), (1_500, 0));
    let mut transfer = Transfer::over(None, PathMtuProbing::Always);
    transfer.run(1 << 20, Duration::from_secs(20));
    assert_eq!((transfer.packet(), transfer.counters().transport.path_probes_sent.get()), (1_500, 1), "the largest first");
}

#[test]
fn random_loss_does_not_shrink_the_size_for_good() {
    let mut transfer = Transfer::over(None, PathMtuProbing::Always);
    let sender = transfer.sender;
    transfer.world.impair(sender, |link| link.loss = 0.02);
    transfer.run(4 << 20, Duration::from_secs(300));
    transfer.world.run_for(RAISE);
    transfer.run(4 << 20, Duration::from_secs(300));
    assert_eq!(transfer.packet(), 1_500);
}
