//! UDP, ICMP echo and raw sockets: who gets what arrives, and how what they send leaves.
//!
//! Owns the table of datagram sockets and the order in which they send. Refuses to wait: a socket whose buffer is full loses the datagram,
//! counted; one that finds no room on the way to the device keeps its datagrams and its turn. Read `incoming` and `outgoing` for the bytes.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub(super) use incoming::refuse;

use super::demux::{KeyedHash, KeyedMap, PortTable};
use super::environment::{Environment, Out};
use super::ports::PortLease;
use super::shared::{self, Datagram, DatagramKind, DatagramShared, Failure, Mark, MarkSet, Readiness};
use crate::link::Cast;
use crate::wire::Protocol;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Every datagram socket that is open.
pub(super) struct Datagrams {
    sockets: Slab<Entry>,
    /// By local port.
    udp: PortTable,
    /// By identifier.
    echo: PortTable,
    /// By protocol.
    raw: KeyedMap<Protocol, SmallVec<[usize; 1]>>,
    /// Sockets that have something to send, in the order of their turns; each at most once.
    turns: VecDeque<usize>,
    /// Datagrams that are about to become one packet; empty between two packets, kept for its memory.
    run: Vec<Datagram>,
}

struct Entry {
    shared: Arc<DatagramShared>,
    local: SocketAddr,
    has_turn: bool,
    released: bool,
}

impl Datagrams {
    pub(super) fn new(hash: KeyedHash) -> Datagrams {
        Datagrams {
            sockets: Slab::new(),
            udp: PortTable::new(hash.clone()),
            echo: PortTable::new(hash.clone()),
            raw: HashMap::with_hasher(hash),
            turns: VecDeque::new(),
            run: Vec::new(),
        }
    }

    /// Does what the program wants of `shared`. Marks of a socket that is not, or no longer, in the table do nothing.
    pub(super) fn marked(&mut self, environment: &mut Environment, shared: &Arc<DatagramShared>, marks: MarkSet, out: &mut Out) {
        if marks.has(Mark::Open) && self.key_of(shared).is_none() {
            self.open(environment, shared, out);
        }
        let Some(key) = self.key_of(shared) else { return };
        self.give_turn(key);
        if marks.has(Mark::Released) {
            self.release(key);
        }
    }

    /// Tells every socket that it failed, and closes it.
    pub(super) fn fail_all(&mut self, failure: Failure, out: &mut Out) {
        let keys: Vec<usize> = self.sockets.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(entry) = self.sockets.get(key) else { continue };
            tell_failure(&entry.shared, failure, out);
            self.unlist(key);
            self.remove(key);
        }
        self.turns.clear();
    }

    /// Tells the sockets bound to an address that is no longer ours.
    pub(super) fn addresses_changed(&self, environment: &Environment, out: &mut Out) {
        for (_, entry) in &self.sockets {
            if !may_bind(environment, entry.local) {
                tell_failure(&entry.shared, Failure::AddressNotAvailable, out);
            }
        }
    }

    /// Whether every datagram that a program has sent is on its way.
    pub(super) fn is_drained(&self) -> bool {
        self.turns.is_empty()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sockets.len()
    }

    fn open(&mut self, environment: &mut Environment, shared: &Arc<DatagramShared>, out: &mut Out) {
        match self.bind(environment, shared) {
            Ok((key, local)) => {
                shared.place.store(place_of(key), Ordering::Relaxed);
                let mut state = shared.state.lock();
                state.local = local;
                state.bound = true;
            }
            Err(failure) => {
                let lease = note_failure(shared, failure);
                drop(lease);
            }
        }
        shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::STATE | Readiness::WRITABLE);
    }

    fn bind(&mut self, environment: &mut Environment, shared: &Arc<DatagramShared>) -> Result<(usize, SocketAddr), Failure> {
        environment.may_open()?;
        if self.sockets.len() >= environment.datagram.sockets {
            return Err(Failure::ResourceLimit);
        }
        let (mut local, leased) = {
            let state = shared.state.lock();
            (state.local, state.lease.port)
        };
        if !may_bind(environment, local) {
            return Err(Failure::AddressNotAvailable);
        }
        if leased != 0 {
            local.set_port(leased);
        }
        let key = self.sockets.vacant_key();
        let local = self.enter(environment, shared.kind, local, key)?;
        self.sockets.insert(Entry { shared: shared.clone(), local, has_turn: false, released: false });
        Ok((key, local))
    }

    /// Enters the socket into the table of its kind, under a port (identifier) of our choice if it has none.
    fn enter(
        &mut self,
        environment: &mut Environment,
        kind: DatagramKind,
        mut local: SocketAddr,
        key: usize,
    ) -> Result<SocketAddr, Failure> {
        let ports = match kind {
            DatagramKind::Udp => &mut self.udp,
            DatagramKind::IcmpEcho => &mut self.echo,
            DatagramKind::Raw(protocol) => {
                self.raw.entry(protocol).or_default().push(key);
                return Ok(local);
            }
        };
        if local.port() == 0 {
            let Environment { ephemeral, random, .. } = environment;
            let chosen = ephemeral.choose_any(random, |port| ports.is_port_free(port));
            local.set_port(chosen.ok_or(Failure::AddressInUse)?);
        }
        if ports.insert(local, key) { Ok(local) } else { Err(Failure::AddressInUse) }
    }

    /// The last handle is gone. The socket stays until what it has to send is on its way.
    fn release(&mut self, key: usize) {
        self.unlist(key);
        if let Some(entry) = self.sockets.get_mut(key) {
            entry.released = true;
        }
    }

    /// Takes the socket out of the tables by which packets find it.
    fn unlist(&mut self, key: usize) {
        let Some(entry) = self.sockets.get(key).filter(|entry| !entry.released) else { return };
        match entry.shared.kind {
            DatagramKind::Udp => self.udp.remove(entry.local),
            DatagramKind::IcmpEcho => self.echo.remove(entry.local),
            DatagramKind::Raw(protocol) => {
                if let Some(keys) = self.raw.get_mut(&protocol) {
                    keys.retain(|&mut other| other != key);
                }
                self.raw.retain(|_, keys| !keys.is_empty());
            }
        }
    }

    fn remove(&mut self, key: usize) {
        let Some(entry) = self.sockets.try_remove(key) else { return };
        entry.shared.place.store(0, Ordering::Relaxed);
        let (lease, unsent, unread) = {
            let mut state = entry.shared.state.lock();
            state.bound = false;
            let unread = if entry.released { std::mem::take(&mut state.received) } else { VecDeque::new() };
            (std::mem::take(&mut state.lease), std::mem::take(&mut state.to_send), unread)
        };
        drop((lease, unsent, unread));
    }

    fn give_turn(&mut self, key: usize) {
        let Some(entry) = self.sockets.get_mut(key) else { return };
        if !std::mem::replace(&mut entry.has_turn, true) {
            self.turns.push_back(key);
        }
    }

    fn key_of(&self, shared: &Arc<DatagramShared>) -> Option<usize> {
        let key = shared.place.load(Ordering::Relaxed).checked_sub(1)? as usize;
        self.sockets.get(key).is_some_and(|entry| Arc::ptr_eq(&entry.shared, shared)).then_some(key)
    }
}

/// What [`DatagramShared::place`] holds for `key`; tables are bounded far below 2³².
pub(super) fn place_of(key: usize) -> u32 {
    u32::try_from(key).unwrap_or(u32::MAX - 1).saturating_add(1)
}

/// A socket may be bound to any address, to ours, and to groups and broadcast addresses.
fn may_bind(environment: &Environment, local: SocketAddr) -> bool {
    let address = local.ip();
    let topology = &environment.topology;
    address.is_unspecified() || topology.is_local(address) || topology.cast_of(address) != Cast::Unicast
}

/// Notes the failure; the lease is for the caller to drop, with the lock released.
fn note_failure(shared: &DatagramShared, failure: Failure) -> PortLease {
    let mut state = shared.state.lock();
    state.failure = Some(failure);
    std::mem::take(&mut state.lease)
}

fn tell_failure(shared: &Arc<DatagramShared>, failure: Failure, out: &mut Out) {
    shared.state.lock().failure = Some(failure);
    shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::STATE);
}
