//! Whole stacks in lockstep under a virtual clock: no threads, no real time, no operating system.
//!
//! Owns the clock, the hosts and the links between them. Refuses to wait: somebody turns the clock, and a call on a handle that would wait says
//! `WouldBlock`. Hosts consist of the very layers that the threads of a real stack drive, turned in the same order, late if that is wished
//! ([`HostOptions::lag`]), and hand out the same handles. Everything follows from the world's seed and from the order of calls: the same program gives the same
//! run, packet for packet.
//!
//! Read [`World`] first, then [`Host`], which also works alone: inject packets, take what it sent.
//!
//! ```
//! use hopline::device::virtual_link::Impairments;
//! use hopline::simulation::{HostOptions, World};
//! use std::io::{Read, Write};
//! use std::time::Duration;
//!
//! let mut world = World::new(42);
//! let client = world.host(HostOptions::new("192.0.2.1/24"));
//! let server = world.host(HostOptions::new("192.0.2.2/24"));
//! world.join(&[client, server], &Impairments { delay: Duration::from_millis(10), loss: 0.05, ..Impairments::default() });
//!
//! let listener = world[server].listen("192.0.2.2:80")?;
//! let mut request = world[client].connect("192.0.2.2:80")?;
//! let mut accepted = None;
//! world.run_until(Duration::from_secs(60), || {
//!     accepted = listener.accept().ok();
//!     accepted.is_some()
//! });
//! let (mut response, _) = accepted.expect("a connection");
//!
//! request.write_all(b"hello")?;
//! let mut greeting = [0; 5];
//! assert!(world.run_until(Duration::from_secs(60), || response.read(&mut greeting).is_ok()));
//! assert_eq!(&greeting, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

mod clock;
mod driven;
mod host;
#[cfg(test)]
mod tests;

pub use clock::VirtualClock;
pub use host::{Host, HostOptions, SentPacket};

use crate::device::virtual_link::{Impairments, Path, PathCounters};
use crate::device::{DeviceOffload, Medium};
use crate::packet::{Packet, Pool};
use crate::random::PublicRandom;
use crate::time::{Clock, Duration, Instant};
use crate::wire::MacAddress;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// Events without the clock moving on after which the world is said to be stuck.
const EVENTS_AT_ONE_INSTANT: u32 = 1_000_000;

/// Names a host of a world.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostId(usize);

/// Looks at every packet that enters a link: when, from whom, which.
pub type Tap = Box<dyn FnMut(Instant, HostId, &Packet)>;

/// Hosts, links, and one clock.
pub struct World {
    clock: Arc<VirtualClock>,
    random: PublicRandom,
    hosts: Vec<Host>,
    cables: Vec<Cable>,
    pool: Pool,
    tap: Option<Tap>,
    events_now: u32,
}

/// What joins hosts: everything that one of them sends reaches all the others.
struct Cable {
    members: Vec<(HostId, Path)>,
}

impl World {
    /// An empty world at time zero. Everything random in it follows from `seed`.
    pub fn new(seed: u64) -> World {
        World {
            clock: Arc::new(VirtualClock::default()),
            random: PublicRandom::from_seed(seed),
            hosts: Vec::new(),
            cables: Vec::new(),
            pool: Pool::default(),
            tap: None,
            events_now: 0,
        }
    }

    /// Adds a host. On Ethernet it gets the station address `02:00:00:00:00:01` and so on, unless the options name one.
    pub fn host(&mut self, mut options: HostOptions) -> HostId {
        let id = HostId(self.hosts.len());
        if options.medium == Medium::Ethernet(MacAddress::ZERO) {
            let [.., high, low] = (id.0 + 1).to_be_bytes();
            options.medium = Medium::Ethernet(MacAddress([2, 0, 0, 0, high, low]));
        }
        options.seed ^= self.random.next_u64();
        self.hosts.push(Host::with_clock(options, self.clock.clone()));
        id
    }

    /// Joins hosts by a link that does the same to what each of them sends.
    ///
    /// A link that corrupts packets takes their offload away, so that each carries a checksum.
    pub fn join(&mut self, hosts: &[HostId], impairments: &Impairments) {
        let each: Vec<_> = hosts.iter().map(|&host| (host, impairments.clone())).collect();
        self.join_each(&each);
    }

    /// Joins hosts by a link; what it does to packets depends on who sends them.
    pub fn join_each(&mut self, hosts: &[(HostId, Impairments)]) {
        let members = hosts.iter().map(|(host, impairments)| (*host, self.path_from(*host, impairments))).collect();
        self.cables.push(Cable { members });
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Has `tap` look at every packet that enters a link.
    pub fn set_tap(&mut self, tap: impl FnMut(Instant, HostId, &Packet) + 'static) {
        self.tap = Some(Box::new(tap));
    }

    /// What the links did to the packets that `host` sent, one entry for each link it is joined to.
    pub fn link_counters(&self, host: HostId) -> Vec<PathCounters> {
        let members = self.cables.iter().flat_map(|cable| &cable.members);
        members.filter(|(member, _)| *member == host).map(|(_, path)| path.counters()).collect()
    }

    /// Changes what the links do to packets that `host` sends from now on.
    pub fn impair(&mut self, host: HostId, change: impl Fn(&mut Impairments)) {
        let members = self.cables.iter_mut().flat_map(|cable| &mut cable.members);
        members.filter(|(member, _)| *member == host).for_each(|(_, path)| change(path.impairments_mut()));
    }

    /// Does everything that can be done without the clock moving on; false if there was nothing to do.
    ///
    /// # Panics
    /// If there is no end to it, with a description of the world.
    pub fn settle(&mut self) -> bool {
        let mut worked = false;
        while self.settle_once() {
            worked = true;
            self.count_event();
        }
        worked
    }

    /// Moves on to the next event and does everything that it brings about; false if nothing will ever happen by itself.
    pub fn step(&mut self) -> bool {
        self.settle();
        let Some(next) = self.next_event() else { return false };
        if next > self.now() {
            self.clock.advance_to(next);
            self.events_now = 0;
        }
        self.count_event();
        // What has arrived is taken in one batch with what is due.
        self.deliver();
        self.settle();
        true
    }

    /// Runs until `condition` holds, which is looked at after every event, or until `limit` has passed. Says whether it holds.
    pub fn run_until(&mut self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = self.now() + limit;
        loop {
            self.settle();
            if condition() {
                self.settle();
                return true;
            }
            // What the condition did with its handles may have changed what it looks at.
            if self.settle() {
                continue;
            }
            if self.next_event().is_none_or(|next| next > end) {
                self.clock.advance_to(end);
                return condition();
            }
            self.step();
        }
    }

    /// Runs for as long as this.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, || false);
    }

    /// When the next thing happens by itself.
    pub fn next_event(&self) -> Option<Instant> {
        let deliveries = self.cables.iter().flat_map(|cable| cable.members.iter().filter_map(|(_, path)| path.next_delivery()));
        let timers = self.hosts.iter().filter_map(Host::next_event);
        deliveries.chain(timers).min()
    }

    fn path_from(&mut self, host: HostId, impairments: &Impairments) -> Path {
        let seed = self.random.next_u64();
        if impairments.corruption > 0.0 {
            self[host].set_offload(DeviceOffload::default());
        }
        match self[host].medium() {
            Medium::Ethernet(_) => Path::for_ethernet(impairments.clone(), seed),
            Medium::Ip => Path::new(impairments.clone(), seed),
        }
    }

    /// One round: every host works, every link carries. False if there was nothing to do.
    fn settle_once(&mut self) -> bool {
        let mut worked = false;
        for host in &mut self.hosts {
            worked |= host.settle();
        }
        worked |= self.carry_away();
        worked | self.deliver()
    }

    /// What hosts have sent enters their links.
    fn carry_away(&mut self) -> bool {
        let now = self.now();
        let mut carried = false;
        for cable in &mut self.cables {
            for (id, path) in &mut cable.members {
                let Some(host) = self.hosts.get_mut(id.0) else { continue };
                for sent in host.take_sent() {
                    if let Some(tap) = &mut self.tap {
                        tap(now, *id, &sent.packet);
                    }
                    // What the link loses, it counts.
                    path.push(now, sent.packet, &self.pool).ok();
                    carried = true;
                }
            }
        }
        carried
    }

    /// What has arrived is given to the hosts.
    fn deliver(&mut self) -> bool {
        let now = self.now();
        let mut delivered = false;
        for cable in &mut self.cables {
            let ids: Vec<HostId> = cable.members.iter().map(|(id, _)| *id).collect();
            for (sender, path) in &mut cable.members {
                while let Some(packet) = path.pop(now) {
                    delivered = true;
                    let others = ids.iter().filter(|id| *id != sender);
                    others.filter_map(|id| self.hosts.get_mut(id.0).map(|host| host.inject(packet.share()))).count();
                }
            }
        }
        delivered
    }

    fn count_event(&mut self) {
        self.events_now += 1;
        assert!(self.events_now < EVENTS_AT_ONE_INSTANT, "the world does not come to rest:\n{self}");
    }
}

impl Index<HostId> for World {
    type Output = Host;

    /// # Panics
    /// If the host belongs to another world.
    fn index(&self, host: HostId) -> &Host {
        &self.hosts[host.0]
    }
}

impl IndexMut<HostId> for World {
    fn index_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0]
    }
}

/// The state of everything, for a test that failed.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "time {:?}, next event {:?}", self.now(), self.next_event())?;
        for (index, host) in self.hosts.iter().enumerate() {
            writeln!(f, "--- host {index}\n{host}")?;
        }
        for (id, path) in self.cables.iter().flat_map(|cable| &cable.members) {
            writeln!(f, "--- link from host {}: {} in flight, {:?}", id.0, path.in_flight(), path.counters())?;
        }
        Ok(())
    }
}
