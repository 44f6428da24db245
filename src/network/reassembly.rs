//! Putting fragments together (RFC 791 §3.2, RFC 1122 §3.3.2, overlaps by RFC 5722).
//!
//! Owns incomplete datagrams: each a large slot that fragments are copied into, and a map of its units of eight bytes. (RFC 815 keeps a list of
//! holes; a map of fixed size cannot be made to grow.) Refuses fragments that no sender makes: empty ones, ones that are not the last and not a multiple of
//! eight, ones that end beyond 65,535 bytes, and TCP headers cut in two (RFC 1858 §3).
//!
//! A fragment that came before is ignored. One that overlaps another in any other way kills its datagram, which stays dead
//! until its time is over, so that late fragments cannot revive it (RFC 5722 §4). When memory is full, the datagram that would expire first goes.

use super::Cast;
use super::receive::broader;
use crate::config::NetworkConfig;
use crate::layer::{DropReason, Outbox};
use crate::packet::{Buffer, HEADROOM, LARGE_SLOT, Packet, Pool, SMALL_SLOT};
use crate::time::{Duration, Instant};
use crate::wire::{Ipv4Header, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;

/// Bytes of the largest packet.
const LARGEST_PACKET: usize = u16::MAX as usize;
/// Bytes of a unit.
const UNIT: usize = Ipv4Header::FRAGMENT_UNIT as usize;
/// Units of the largest datagram.
const UNITS: usize = (LARGEST_PACKET + 1) / UNIT;
/// Units in a word of the map.
const WORD: usize = u64::BITS as usize;
/// Bytes of a TCP header that its first fragment must have: up to the flags (RFC 1858 §3).
const LEAST_OF_TCP: usize = 16;

/// Bits for the ECN codepoints "not capable" and "congestion experienced".
const NOT_CAPABLE: u8 = 1 << 0;
const MARKED: u8 = 1 << 3;

/// What makes fragments belong together (RFC 791 §3.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    identification: u16,
    protocol: Protocol,
}

/// What a fragment led to.
pub(super) enum Outcome {
    /// Others are missing, or it was dropped.
    Waiting,
    /// It was the last one missing.
    Whole(Whole),
}

/// A datagram put together.
pub(super) struct Whole {
    /// The first fragment's header, as if it had never been cut.
    pub(super) header: Ipv4Header,
    /// The broadest of the fragments'.
    pub(super) cast: Cast,
    /// The payload.
    pub(super) packet: Packet,
}

/// What there was of a datagram that expired.
pub(super) struct Part {
    /// The first fragment's header, if it came.
    pub(super) first: Option<Ipv4Header>,
    /// The broadest of the fragments'.
    pub(super) cast: Cast,
    /// Its payload from the start to the first hole.
    pub(super) packet: Packet,
}

/// All incomplete datagrams.
pub(super) struct Reassembly {
    most_bytes: usize,
    most_datagrams: usize,
    timeout: Duration,
    datagrams: BTreeMap<Key, Entry>,
    expiries: BTreeSet<(Instant, Key)>,
    bytes: usize,
}

struct Entry {
    expires: Instant,
    /// `None` once killed.
    datagram: Option<Box<Datagram>>,
}

struct Datagram {
    buffer: Buffer,
    map: UnitMap,
    /// Where the farthest fragment ended.
    farthest: usize,
    /// Bytes of the whole, once the last fragment came.
    length: Option<usize>,
    first: Option<Ipv4Header>,
    cast: Cast,
    /// Which ECN codepoints came, one bit for each.
    codepoints: u8,
}

#[derive(Debug, PartialEq, Eq)]
enum Fit {
    New,
    Duplicate,
    Contradiction,
}

impl Reassembly {
    pub(super) fn new(config: &NetworkConfig) -> Reassembly {
        Reassembly {
            most_bytes: config.reassembly_bytes,
            most_datagrams: config.reassembly_datagrams,
            timeout: config.reassembly_timeout,
            datagrams: BTreeMap::new(),
            expiries: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Takes a fragment, its IP header stripped.
    pub(super) fn add<Up, Down>(
        &mut self,
        now: Instant,
        header: &Ipv4Header,
        cast: Cast,
        packet: Packet,
        pool: &Pool,
        out: &mut Outbox<Up, Down>,
    ) -> Outcome {
        let Some(range) = range_of(header, packet.len()) else {
            out.drop_packet(DropReason::Malformed, packet);
            return Outcome::Waiting;
        };
        let key = Key::of(header);
        if !self.datagrams.contains_key(&key) && !self.start(now, key, pool, out) {
            out.drop_packet(DropReason::ReassemblyFull, packet);
            return Outcome::Waiting;
        }
        let datagram = self.datagrams.get_mut(&key).and_then(|entry| entry.datagram.as_mut());
        match datagram.map_or(Fit::Contradiction, |datagram| datagram.add(header, cast, range, &packet)) {
            Fit::New | Fit::Duplicate => self.finish(key, packet, pool),
            Fit::Contradiction => {
                self.kill(key);
                out.drop_packet(DropReason::FragmentOverlap, packet);
                Outcome::Waiting
            }
        }
    }

    /// When the next datagram expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|&(at, _)| at)
    }

    /// Removes one entry whose time is over; call until it gives `None`. A killed one leaves no part.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Option<Part>> {
        let &(_, key) = self.expiries.first().filter(|&&(at, _)| at <= now)?;
        Some(self.remove(key).map(|datagram| datagram.into_part()))
    }

    fn start<Up, Down>(&mut self, now: Instant, key: Key, pool: &Pool, out: &mut Outbox<Up, Down>) -> bool {
        while self.datagrams.len() >= self.most_datagrams || self.bytes + LARGE_SLOT > self.most_bytes {
            let Some(&(_, oldest)) = self.expiries.first() else { return false };
            if let Some(datagram) = self.remove(oldest) {
                out.drop_packet(DropReason::ReassemblyFull, datagram.into_part().packet);
            }
        }
        let expires = now + self.timeout;
        self.datagrams.insert(key, Entry { expires, datagram: Some(Box::new(Datagram::new(pool))) });
        self.expiries.insert((expires, key));
        self.bytes += LARGE_SLOT;
        true
    }

    fn remove(&mut self, key: Key) -> Option<Box<Datagram>> {
        let entry = self.datagrams.remove(&key)?;
        self.expiries.remove(&(entry.expires, key));
        self.bytes = self.bytes.saturating_sub(if entry.datagram.is_some() { LARGE_SLOT } else { 0 });
        entry.datagram
    }

    /// Its memory goes, the entry stays.
    fn kill(&mut self, key: Key) {
        if let Some(killed) = self.datagrams.get_mut(&key).and_then(|entry| entry.datagram.take()) {
            self.bytes = self.bytes.saturating_sub(LARGE_SLOT);
            drop(killed.into_part());
        }
    }

    fn finish(&mut self, key: Key, last: Packet, pool: &Pool) -> Outcome {
        let is_whole = |entry: &Entry| entry.datagram.as_ref().is_some_and(|datagram| datagram.is_whole());
        if !self.datagrams.get(&key).is_some_and(is_whole) {
            return Outcome::Waiting;
        }
        self.remove(key).and_then(|datagram| datagram.into_whole(last, pool)).map_or(Outcome::Waiting, Outcome::Whole)
    }
}

impl Key {
    fn of(header: &Ipv4Header) -> Key {
        let &Ipv4Header { source, destination, identification, protocol, .. } = header;
        Key { source, destination, identification, protocol }
    }
}

/// Which bytes of the datagram a fragment of `length` bytes is; `None` if no honest sender makes it.
fn range_of(header: &Ipv4Header, length: usize) -> Option<Range<usize>> {
    let start = usize::from(header.fragment_offset);
    let end = start + length;
    let is_cut_wrongly = header.more_fragments && !length.is_multiple_of(UNIT);
    let is_beyond_the_end = usize::from(header.header_length) + end > LARGEST_PACKET;
    let cuts_header = header.protocol == Protocol::TCP && (start == UNIT || (start == 0 && length < LEAST_OF_TCP));
    (length > 0 && !is_cut_wrongly && !is_beyond_the_end && !cuts_header).then_some(start..end)
}

fn codepoint(header: &Ipv4Header) -> u8 {
    1 << (header.traffic_class & 3)
}

impl Datagram {
    fn new(pool: &Pool) -> Datagram {
        Datagram {
            buffer: pool.buffer(LARGE_SLOT - LARGEST_PACKET, LARGEST_PACKET),
            map: UnitMap::default(),
            farthest: 0,
            length: None,
            first: None,
            cast: Cast::Unicast,
            codepoints: 0,
        }
    }

    fn add(&mut self, header: &Ipv4Header, cast: Cast, range: Range<usize>, packet: &Packet) -> Fit {
        let fit = self.fit(header, &range, packet);
        if fit == Fit::New {
            packet.copy_to(self.buffer.bytes_mut().get_mut(range.clone()).unwrap_or_default());
            self.map.mark(&range);
            self.farthest = self.farthest.max(range.end);
            self.first = self.first.or((range.start == 0).then_some(*header));
            self.cast = broader(self.cast, cast);
            self.codepoints |= codepoint(header);
        }
        if fit != Fit::Contradiction {
            // Bytes that are there already may say that they are the last ones.
            self.length = self.length.or((!header.more_fragments).then_some(range.end));
        }
        fit
    }

    fn fit(&mut self, header: &Ipv4Header, range: &Range<usize>, packet: &Packet) -> Fit {
        let ends_elsewhere = match (header.more_fragments, self.length) {
            (false, Some(length)) => length != range.end,
            (false, None) => self.farthest > range.end,
            (true, length) => length.is_some_and(|length| range.end > length),
        };
        // RFC 3168 §5.3: a mark may not be lost, nor be given to a sender that does not know what it means.
        let codepoints = self.codepoints | codepoint(header);
        let is_marked_wrongly = codepoints & (NOT_CAPABLE | MARKED) == NOT_CAPABLE | MARKED;
        match self.map.marked_in(range) {
            _ if ends_elsewhere || is_marked_wrongly => Fit::Contradiction,
            0 => Fit::New,
            marked if marked == units(range).len() && self.holds(range.start, packet) => Fit::Duplicate,
            _ => Fit::Contradiction,
        }
    }

    /// Whether the bytes from `start` on are those of `packet`.
    fn holds(&mut self, start: usize, packet: &Packet) -> bool {
        let mut held = self.buffer.bytes_mut().get(start..).unwrap_or_default();
        packet.slices().iter().all(|slice| {
            let (same, rest) = held.split_at(slice.len().min(held.len()));
            held = rest;
            *same == **slice
        })
    }

    fn is_whole(&self) -> bool {
        self.length.is_some_and(|length| self.map.marked == length.div_ceil(UNIT))
    }

    /// `last` is the fragment that made it whole: the datagram arrived when that did.
    fn into_whole(self: Box<Self>, last: Packet, pool: &Pool) -> Option<Whole> {
        let (mut header, length) = (self.first?, self.length?);
        header.more_fragments = false;
        header.total_length = u16::try_from(usize::from(header.header_length) + length).ok()?;
        if self.codepoints & MARKED != 0 {
            header.traffic_class |= 3;
        }
        let cast = self.cast;
        let mut packet = self.take(length);
        if length + HEADROOM <= SMALL_SLOT {
            packet = Packet::from_bytes(pool, packet.front());
        }
        packet.arrived = last.arrived;
        packet.number = last.number;
        packet.guard = last.guard;
        Some(Whole { header, cast, packet })
    }

    fn into_part(self: Box<Self>) -> Part {
        let length = self.map.first_hole().min(self.farthest);
        Part { first: self.first, cast: self.cast, packet: self.take(length) }
    }

    fn take(self: Box<Self>, length: usize) -> Packet {
        let mut slice = self.buffer.freeze();
        slice.truncate(length);
        Packet::new(slice)
    }
}

/// Which units of a datagram are there.
struct UnitMap {
    words: [u64; UNITS / WORD],
    marked: usize,
}

impl Default for UnitMap {
    fn default() -> UnitMap {
        UnitMap { words: [0; UNITS / WORD], marked: 0 }
    }
}

impl UnitMap {
    fn mark(&mut self, range: &Range<usize>) {
        for unit in units(range) {
            if let Some(word) = self.words.get_mut(unit / WORD) {
                self.marked += usize::from(*word & bit(unit) == 0);
                *word |= bit(unit);
            }
        }
    }

    fn marked_in(&self, range: &Range<usize>) -> usize {
        let is_marked = |&unit: &usize| self.words.get(unit / WORD).is_some_and(|word| word & bit(unit) != 0);
        units(range).filter(is_marked).count()
    }

    /// In bytes.
    fn first_hole(&self) -> usize {
        let full = self.words.iter().take_while(|&&word| word == u64::MAX).count();
        let more = self.words.get(full).map_or(0, |word| word.trailing_ones() as usize);
        (full * WORD + more) * UNIT
    }
}

fn bit(unit: usize) -> u64 {
    1 << (unit % WORD)
}

/// The units that a range of bytes touches. (Ranges begin on a unit, and end on one, or with the datagram.)
fn units(range: &Range<usize>) -> Range<usize> {
    range.start / UNIT..range.end.div_ceil(UNIT)
}
