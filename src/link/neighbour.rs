//! The neighbour cache: which station has which address, and the packets that wait to learn it.
//!
//! Owns the entries, their states and timers, and the pending packets. Refuses to know the protocol that asks (ARP now, NDP later): it says whom
//! to ask and is told what was learned. Read RFC 4861 §7.3 first, whose states are applied to ARP, then RFC 1122 §2.3.2.
//!
//! ```text
//!              first packet               answer to our question
//!   (nothing) --------------> INCOMPLETE ----------------------> REACHABLE
//!                                 |  \                             |  ^
//!     requests without an answer  |   \ heard of it otherwise      |  | answer
//!                                 v    \              30 s passed, |  |
//!                              FAILED   `-----> STALE <------------'  |
//!                        (forgotten after 3 s)    |  used             |
//!                                                 v                   |
//!                                               DELAY -- 5 s --> PROBE --> forgotten, the next packet asks everybody
//! ```
//!
//! What nobody uses has no timer: REACHABLE becomes STALE, and FAILED is forgotten, when somebody looks. What one holder of the wire can
//! do is bounded: entries that are not resolved have half of the cache, and an entry that a stranger's question made never displaces one that we use.

use crate::config::LinkConfig;
use crate::layer::{DropReason, Outbox};
use crate::network;
use crate::packet::{Packet, SMALL_SLOT};
use crate::random::SecretRandom;
use crate::time::{Duration, Instant};
use crate::wire::MacAddress;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// The order of use is kept to this precision, so that a busy entry is not moved for every packet.
const USE_PRECISION: Duration = Duration::from_secs(1);

type Out = Outbox<network::Message, Packet>;

/// What is to be done with a packet for a neighbour.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Send it to this station.
    Send(MacAddress, Packet),
    /// It waits; ask.
    Ask(Question),
    /// It waits; the question was asked.
    Wait,
    /// The neighbour did not answer a moment ago.
    Failed(Packet),
}

/// Ask for a neighbour's address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Whose address.
    pub(super) target: IpAddr,
    /// Which of our addresses asks.
    pub(super) source: IpAddr,
    /// The station that had it, if it is only asked whether it is still there; else everybody.
    pub(super) station: Option<MacAddress>,
}

/// What a timer led to.
#[derive(Debug)]
pub(super) enum Due {
    /// Ask (again).
    Ask(Question),
    /// It did not answer; these packets waited for it.
    Failed(IpAddr, VecDeque<Packet>),
    /// It did not answer, and nothing waits: forgotten.
    Forgotten(IpAddr),
}

/// How an address was learned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The neighbour answered us: both ways work.
    Answer,
    /// The neighbour asked us: it exists, and will want an answer.
    AskedUs,
    /// Anything else that names the neighbour.
    Hearsay,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Incomplete { requests: u32 },
    Reachable { station: MacAddress, confirmed: Instant, until: Instant },
    Stale { station: MacAddress },
    Delay { station: MacAddress },
    Probe { station: MacAddress, requests: u32 },
    Failed { until: Instant },
}

impl State {
    fn station(self) -> Option<MacAddress> {
        match self {
            State::Reachable { station, .. } | State::Stale { station } | State::Delay { station } | State::Probe { station, .. } => {
                Some(station)
            }
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }
}

struct Entry {
    state: State,
    timer: Option<Instant>,
    /// When we last sent there, to [`USE_PRECISION`]; `None` for what only strangers' questions made.
    used: Option<Instant>,
    /// Which of our addresses asks.
    source: IpAddr,
    pending: VecDeque<Packet>,
    pending_bytes: usize,
}

/// The cache.
pub(super) struct NeighbourCache {
    limits: LinkConfig,
    random: SecretRandom,
    entries: BTreeMap<IpAddr, Entry>,
    timers: BTreeSet<(Instant, IpAddr)>,
    /// Entries with a station, least recently used first.
    resolved: BTreeSet<(Option<Instant>, IpAddr)>,
    /// Entries without one, least recently used first.
    unresolved: BTreeSet<(Option<Instant>, IpAddr)>,
    pending_bytes: usize,
}

impl NeighbourCache {
    pub(super) fn new(limits: LinkConfig, random: SecretRandom) -> NeighbourCache {
        NeighbourCache {
            limits,
            random,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            resolved: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            pending_bytes: 0,
        }
    }

    /// The station of a neighbour that answered lately, if its use by `source` is noted already: the usual case.
    pub(super) fn in_use(&self, now: Instant, target: IpAddr, source: IpAddr) -> Option<MacAddress> {
        let entry = self.entries.get(&target)?;
        let is_noted = entry.source == source && entry.used.is_some_and(|used| now - used < USE_PRECISION);
        match entry.state {
            State::Reachable { station, until, .. } if is_noted && now < until => Some(station),
            _ => None,
        }
    }

    /// Finds the station for a packet to `target`, or keeps the packet until it is known. `source` is who asks.
    pub(super) fn look_up(&mut self, now: Instant, target: IpAddr, source: IpAddr, packet: Packet, out: &mut Out) -> Lookup {
        self.touch(now, target);
        // Who made our acquaintance by asking was entered before we knew from which of our addresses we would ask back.
        if let Some(entry) = self.entries.get_mut(&target) {
            entry.source = source;
        }
        match self.entries.get(&target).map(|entry| entry.state) {
            Some(State::Reachable { station, until, .. }) if now < until => Lookup::Send(station, packet),
            Some(State::Reachable { station, .. } | State::Stale { station }) => {
                self.enter(target, State::Delay { station }, Some(now + self.limits.neighbour_delay_time));
                Lookup::Send(station, packet)
            }
            Some(State::Delay { station } | State::Probe { station, .. }) => Lookup::Send(station, packet),
            Some(State::Incomplete { .. }) => {
                self.keep(target, packet, out);
                Lookup::Wait
            }
            Some(State::Failed { until }) if now < until => Lookup::Failed(packet),
            Some(State::Failed { .. }) | None => Lookup::Ask(self.start(now, target, source, packet, out)),
        }
    }

    /// Notes that `target` is at `station`; gives the packets that waited for it.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        target: IpAddr,
        station: MacAddress,
        evidence: Evidence,
        out: &mut Out,
    ) -> VecDeque<Packet> {
        let Some(entry) = self.entries.get(&target) else {
            if evidence == Evidence::AskedUs {
                self.make_acquaintance(target, station, out);
            }
            return VecDeque::new();
        };
        if let Some(state) = self.after_learning(now, entry.state, station, evidence) {
            self.enter(target, state, None);
        }
        self.release(target)
    }

    /// The next state, if what was learned changes it. RFC 4861 §7.2.5; a change of station is taken as RFC 826 says, but believed only
    /// until it is used, when the new station is asked; and not at all right after the old one answered (Linux: `locktime`).
    fn after_learning(&mut self, now: Instant, state: State, station: MacAddress, evidence: Evidence) -> Option<State> {
        let is_expected = matches!(state, State::Incomplete { .. } | State::Delay { .. } | State::Probe { .. });
        if evidence == Evidence::Answer && is_expected {
            return Some(State::Reachable { station, confirmed: now, until: now + self.reachable_time() });
        }
        if state.station() == Some(station) {
            return None;
        }
        match state {
            State::Reachable { confirmed, .. } if now - confirmed < self.limits.neighbour_retransmit_time => None,
            _ => Some(State::Stale { station }),
        }
    }

    /// Somebody above has reason to think that `target` is gone: it is asked, as if its time were over (RFC 9293 §3.8.3, RFC 1122 §3.3.1.4). Not right
    /// after it answered.
    pub(super) fn doubt(&mut self, now: Instant, target: IpAddr) {
        let station = match self.entries.get(&target).map(|entry| entry.state) {
            Some(State::Reachable { station, confirmed, .. }) if now - confirmed >= self.limits.neighbour_retransmit_time => station,
            Some(State::Stale { station } | State::Delay { station }) => station,
            _ => return,
        };
        self.enter(target, State::Delay { station }, Some(now));
    }

    /// RFC 4861 §6.3.2: between half and one and a half of the base, so that neighbours do not ask each other in step.
    fn reachable_time(&mut self) -> Duration {
        let base = self.limits.neighbour_reachable_time;
        let spread = u32::try_from(base.as_millis()).unwrap_or(u32::MAX);
        base / 2 + Duration::from_millis(self.random.below(spread).into())
    }

    /// Runs one timer that is due; call until it gives nothing.
    pub(super) fn run_timer(&mut self, now: Instant) -> Option<Due> {
        let &(at, target) = self.timers.first()?;
        if at > now {
            return None;
        }
        match self.entries.get(&target).map(|entry| entry.state) {
            Some(State::Incomplete { requests }) if requests < self.limits.neighbour_requests => {
                Some(self.ask(now, target, State::Incomplete { requests: requests + 1 }))
            }
            Some(State::Incomplete { .. }) => Some(self.fail(now, target)),
            Some(State::Delay { station }) => Some(self.ask(now, target, State::Probe { station, requests: 1 })),
            Some(State::Probe { station, requests }) if requests < self.limits.neighbour_requests => {
                Some(self.ask(now, target, State::Probe { station, requests: requests + 1 }))
            }
            _ => {
                self.remove(target);
                self.timers.remove(&(at, target));
                Some(Due::Forgotten(target))
            }
        }
    }

    /// When the next timer is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Forgets everything; gives the packets that waited.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Packet> + use<> {
        let entries = std::mem::take(&mut self.entries);
        self.timers.clear();
        self.resolved.clear();
        self.unresolved.clear();
        self.pending_bytes = 0;
        entries.into_values().flat_map(|entry| entry.pending)
    }

    /// INCOMPLETE with its first packet and its first question.
    fn start(&mut self, now: Instant, target: IpAddr, source: IpAddr, packet: Packet, out: &mut Out) -> Question {
        self.remove(target);
        self.make_room_for_unresolved(out);
        self.insert(target, State::Incomplete { requests: 1 }, Some(now), source);
        self.enter(target, State::Incomplete { requests: 1 }, Some(now + self.limits.neighbour_retransmit_time));
        self.keep(target, packet, out);
        Question { target, source, station: None }
    }

    fn ask(&mut self, now: Instant, target: IpAddr, state: State) -> Due {
        self.enter(target, state, Some(now + self.limits.neighbour_retransmit_time));
        let source = self.entries.get(&target).map_or(target, |entry| entry.source);
        Due::Ask(Question { target, source, station: state.station() })
    }

    fn fail(&mut self, now: Instant, target: IpAddr) -> Due {
        self.enter(target, State::Failed { until: now + self.limits.neighbour_failed_time }, None);
        Due::Failed(target, self.release(target))
    }

    /// The one place where an entry changes its state.
    fn enter(&mut self, target: IpAddr, state: State, timer: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&target) else { return };
        if let Some(at) = entry.timer.take() {
            self.timers.remove(&(at, target));
        }
        let (was_resolved, is_resolved) = (entry.state.station().is_some(), state.station().is_some());
        entry.state = state;
        entry.timer = timer;
        let key = (entry.used, target);
        if let Some(at) = timer {
            self.timers.insert((at, target));
        }
        if was_resolved != is_resolved {
            self.by_use(was_resolved).remove(&key);
            self.by_use(is_resolved).insert(key);
        }
    }

    fn by_use(&mut self, is_resolved: bool) -> &mut BTreeSet<(Option<Instant>, IpAddr)> {
        if is_resolved { &mut self.resolved } else { &mut self.unresolved }
    }

    fn touch(&mut self, now: Instant, target: IpAddr) {
        let Some(entry) = self.entries.get_mut(&target) else { return };
        if entry.used.is_some_and(|used| now - used < USE_PRECISION) {
            return;
        }
        let former = entry.used.replace(now);
        let is_resolved = entry.state.station().is_some();
        let order = self.by_use(is_resolved);
        order.remove(&(former, target));
        order.insert((Some(now), target));
    }

    fn insert(&mut self, target: IpAddr, state: State, used: Option<Instant>, source: IpAddr) {
        let entry = Entry { state, timer: None, used, source, pending: VecDeque::new(), pending_bytes: 0 };
        self.entries.insert(target, entry);
        self.by_use(state.station().is_some()).insert((used, target));
    }

    fn remove(&mut self, target: IpAddr) -> VecDeque<Packet> {
        let Some(entry) = self.entries.remove(&target) else { return VecDeque::new() };
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, target));
        }
        self.by_use(entry.state.station().is_some()).remove(&(entry.used, target));
        self.pending_bytes = self.pending_bytes.saturating_sub(entry.pending_bytes);
        entry.pending
    }

    /// Who asks us will want an answer: worth an entry, unless every entry is one that we use.
    fn make_acquaintance(&mut self, target: IpAddr, station: MacAddress, out: &mut Out) {
        if self.entries.len() >= self.limits.neighbour_entries {
            match self.resolved.first() {
                Some(&(None, stranger)) => self.evict(stranger, out),
                _ => return,
            }
        }
        self.insert(target, State::Stale { station }, None, target);
    }

    /// Makes room for a question of ours: unresolved entries displace each other before they displace resolved ones.
    fn make_room_for_unresolved(&mut self, out: &mut Out) {
        let most = (self.limits.neighbour_entries / 2).max(1);
        let victim = if self.unresolved.len() >= most {
            self.unresolved.first()
        } else if self.entries.len() >= self.limits.neighbour_entries {
            self.resolved.first().or(self.unresolved.first())
        } else {
            None
        };
        if let Some(&(_, victim)) = victim {
            self.evict(victim, out);
        }
    }

    fn evict(&mut self, target: IpAddr, out: &mut Out) {
        for packet in self.remove(target) {
            out.drop_packet(DropReason::NeighbourCacheFull, packet);
        }
        out.counters().link.neighbours_evicted.increment();
    }

    /// Queues a packet; what is too much drops the oldest of the same neighbour, or the packet itself.
    fn keep(&mut self, target: IpAddr, packet: Packet, out: &mut Out) {
        let Some(entry) = self.entries.get_mut(&target) else { return };
        let size = weight(&packet);
        let (per_neighbour, in_all) = (self.limits.pending_bytes_per_neighbour, self.limits.pending_bytes);
        while entry.pending_bytes + size > per_neighbour || self.pending_bytes + size > in_all {
            let Some(oldest) = entry.pending.pop_front() else {
                return out.drop_packet(DropReason::NeighbourQueueFull, packet);
            };
            entry.pending_bytes = entry.pending_bytes.saturating_sub(weight(&oldest));
            self.pending_bytes = self.pending_bytes.saturating_sub(weight(&oldest));
            out.drop_packet(DropReason::NeighbourQueueFull, oldest);
        }
        entry.pending_bytes += size;
        self.pending_bytes += size;
        entry.pending.push_back(packet);
    }

    fn release(&mut self, target: IpAddr) -> VecDeque<Packet> {
        let Some(entry) = self.entries.get_mut(&target) else { return VecDeque::new() };
        self.pending_bytes = self.pending_bytes.saturating_sub(std::mem::take(&mut entry.pending_bytes));
        std::mem::take(&mut entry.pending)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        assert_eq!(self.entries.len(), self.resolved.len() + self.unresolved.len());
        assert_eq!(self.timers.len(), self.entries.values().filter(|entry| entry.timer.is_some()).count());
        let pending = |entry: &Entry| entry.pending.iter().map(weight).sum::<usize>();
        assert_eq!(self.pending_bytes, self.entries.values().map(pending).sum::<usize>());
        (self.entries.len(), self.pending_bytes)
    }
}

/// What a waiting packet is counted as.
fn weight(packet: &Packet) -> usize {
    packet.len() + SMALL_SLOT
}
