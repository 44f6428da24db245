//! How large segments may be on this path: what ICMP says of it (RFC 1191 §6.5, believed as RFC 5927 §7.2 advises), and what is found out without ICMP
//! (packetization-layer path MTU discovery, RFC 4821).
//!
//! Owns the search for the largest size that arrives. Refuses to know what the network layer knows of the destination: that is the search's upper bound.
//!
//! - A connection begins with the size that link and peer allow (or, if `path_mtu_probing` says so, with a small one).
//! - Retransmission timeouts in a row while large segments are in flight mean a black hole: the size is lowered until something arrives (§7.7).
//! - From then on the search goes up again: a probe is a larger segment of new data, sent when there is data and room behind it (§7.4). One that arrives
//!   raises the size; one that is lost alone is resent in smaller pieces, and is no sign of congestion (§7.6.2); if others are lost with it, it
//!   proves nothing (§7.6.3). First the largest size is tried, then always the middle (§7.3).

use super::{Connection, Context, RoundTrip, options};
use crate::config::{PathMtuProbing, TcpConfig};
use crate::time::{Duration, Instant};
use crate::wire::SequenceNumber;

/// The search ends when fewer bytes than this are in doubt.
const PRECISION: u16 = 16;
/// A size is too large when so many probes of it were lost alone.
const TRIES: u8 = 2;
/// So many times more timeouts are taken for a black hole when the size is modest.
const MODEST_SIZE_PATIENCE: u8 = 3;
/// Pause between two probes, in round trips (RFC 4821 §7.4), and at least.
const PAUSE_ROUND_TRIPS: u32 = 2;
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// What is known of the path, beside the present size.
#[derive(Debug, Default)]
pub(super) struct PathState {
    /// The largest IP packet that has arrived ("maxsizeacked", RFC 5927 §7.2; "search_low", RFC 4821 §7.1).
    verified: u16,
    /// When this is acknowledged, a segment of the present size has arrived.
    full_end: Option<SequenceNumber>,
    /// Retransmission timeouts in a row.
    timeouts: u8,
    /// A report that waits for a timeout to confirm it: the MTU, and the number that it quotes (RFC 5927 §7.2, "pending error").
    doubted: Option<(u16, SequenceNumber)>,
    /// Rare: only a connection whose size was lowered searches.
    search: Option<Box<Search>>,
}

#[derive(Debug)]
struct Search {
    /// The largest size that is not known to be too large ("search_high").
    high: u16,
    /// Nothing was tried since `high` was set from outside.
    is_fresh: bool,
    /// Probes of the present size that were lost alone.
    lost: u8,
    probe: Option<Probe>,
    not_before: Instant,
}

#[derive(Copy, Clone, Debug)]
struct Probe {
    start: SequenceNumber,
    end: SequenceNumber,
    size: u16,
}

impl PathState {
    /// Nothing is in doubt; packets of `verified` bytes have arrived.
    pub(super) fn settled(verified: u16) -> PathState {
        PathState { verified, ..PathState::default() }
    }

    /// Whether nothing is in doubt, and nothing searched for.
    pub(super) fn is_settled(&self) -> bool {
        self.full_end.is_none() && self.timeouts == 0 && self.doubted.is_none() && self.search.is_none()
    }

    /// The largest IP packet that has arrived.
    pub(super) fn verified(&self) -> u16 {
        self.verified
    }
}

impl Search {
    fn up_to(high: u16, not_before: Instant) -> Box<Search> {
        Box::new(Search { high, is_fresh: true, lost: 0, probe: None, not_before })
    }
}

/// How long a search waits from one probe to the next.
fn pause(round_trip: &RoundTrip) -> Duration {
    round_trip.smoothed().unwrap_or_default().saturating_mul(PAUSE_ROUND_TRIPS).max(LEAST_PAUSE)
}

impl Connection {
    /// The size that a connection begins with: that of the link, or a small one from which the search starts (RFC 4821 §7.2).
    pub(super) fn begin_path(&mut self, cx: &Context<'_>) {
        if cx.config.path_mtu_probing == PathMtuProbing::Always && self.path_mtu > cx.config.path_mtu_base {
            self.path.search = Some(Search::up_to(self.path_mtu, cx.now));
            self.path_mtu = cx.config.path_mtu_base;
        }
    }

    /// The network layer now knows that the path to the peer carries IP packets of `mtu` bytes (RFC 9293 §3.7.5, RFC 1191 §6.5). While a search is on,
    /// more than before only raises its bound.
    pub fn path_mtu_changed(&mut self, cx: &mut Context<'_>, mtu: u16) {
        match &mut self.path.search {
            Some(search) if mtu > self.path_mtu => (search.high, search.is_fresh) = (mtu, true),
            _ => self.set_path_mtu(cx, mtu),
        }
    }

    fn set_path_mtu(&mut self, cx: &mut Context<'_>, mtu: u16) {
        if mtu == self.path_mtu {
            return;
        }
        let before = self.send.segment_size;
        self.path_mtu = mtu;
        self.path.verified = self.path.verified.min(mtu);
        self.path.full_end = None;
        self.update_segment_size();
        if self.send.segment_size < before && self.state.is_synchronized() {
            // What is in flight did not fit. That is no sign of congestion (RFC 1191 §6.5: "not ... caused by congestion").
            self.send.scoreboard.all_is_lost();
            self.recovery.force_one();
        }
        self.end_batch(cx);
    }

    /// ICMP says that the segment with the number `sequence`, which is in flight, was too big. Believed at once if nothing larger has ever arrived, or
    /// if it was our own side (`is_own`) that refused it; else only when the segment times out: who sees acknowledgements of larger ones need not
    /// believe what anybody can send (RFC 5927 §7.2).
    pub(super) fn packet_too_big(&mut self, cx: &mut Context<'_>, mtu: u16, sequence: SequenceNumber, is_own: bool) {
        if mtu >= self.path_mtu {
            if let Some(search) = &mut self.path.search {
                search.high = search.high.min(mtu);
            }
        } else if is_own || mtu >= self.path.verified {
            self.believe(cx, mtu);
        } else {
            self.path.doubted = Some((mtu, sequence));
        }
    }

    /// RFC 1191 §6.3: after a while a larger size is tried again.
    fn believe(&mut self, cx: &mut Context<'_>, mtu: u16) {
        cx.out.counters().network.path_mtu_updates.increment();
        self.path.doubted = None;
        if cx.config.path_mtu_probing != PathMtuProbing::Off {
            self.path.search = Some(Search::up_to(self.largest_size(cx), cx.now + cx.config.path_mtu_raise_time));
        }
        self.set_path_mtu(cx, mtu);
    }

    /// What peer, link and network layer allow.
    fn largest_size(&self, cx: &Context<'_>) -> u16 {
        let by_peer = self.agreement.peer_segment_size.saturating_add(options::header_bytes(self.remote.ip()));
        cx.path_mtu.min(u16::try_from(by_peer).unwrap_or(u16::MAX))
    }

    /// The retransmission timer expired: a doubted report is believed; several in a row with large segments in flight are a black hole (RFC 4821 §7.7).
    pub(super) fn path_timed_out(&mut self, cx: &mut Context<'_>) {
        if !self.state.is_synchronized() || self.state.is_over() {
            return;
        }
        self.path.timeouts = self.path.timeouts.saturating_add(1);
        if let Some((mtu, _)) = self.path.doubted {
            return self.believe(cx, mtu);
        }
        let present = self.path_mtu.min(self.largest_size(cx));
        let is_suspect = cx.config.path_mtu_probing != PathMtuProbing::Off && self.path.timeouts >= self.patience(cx.config, present);
        if let Some(lower) = next_lower(present, cx.config).filter(|&lower| is_suspect && self.exceeds(lower)) {
            cx.out.counters().transport.black_holes.increment();
            let high = self.path.search.as_ref().map_or(self.path_mtu, |search| search.high);
            self.path.search = Some(Search::up_to(high, cx.now));
            self.set_path_mtu(cx, lower);
        }
    }

    /// Timeouts in a row that are taken for a black hole: more where the size is one that nearly every path carries.
    fn patience(&self, config: &TcpConfig, present: u16) -> u8 {
        let is_modest = present <= config.path_mtu_base && self.path.search.is_none();
        config.black_hole_timeouts.saturating_mul(if is_modest { MODEST_SIZE_PATIENCE } else { 1 })
    }

    /// Whether what is in flight may have gone in packets of more than `size` bytes.
    fn exceeds(&self, size: u16) -> bool {
        self.send.flight_size() > usize::from(size).saturating_sub(options::header_bytes(self.remote.ip()))
    }

    /// Something was sent for the first time.
    pub(super) fn note_path_use(&mut self, start: SequenceNumber, end: SequenceNumber) {
        let size = self.send.segment_size as u32;
        if self.path.verified < self.path_mtu && self.path.full_end.is_none() && end.distance_from(start) >= size {
            self.path.full_end = Some(start + size);
        }
    }

    /// Something was sent again. If it was the probe, that proves nothing any more.
    pub(super) fn note_path_reuse(&mut self, cx: &Context<'_>, start: SequenceNumber, end: SequenceNumber) {
        if let Some(search) = &mut self.path.search
            && search.probe.is_some_and(|probe| probe.start.before(end) && start.before(probe.end))
        {
            search.probe = None;
            search.not_before = search.not_before.max(cx.now + pause(&self.round_trip));
        }
    }

    /// SND.UNA moved on: what arrived tells which size does.
    pub(super) fn path_acknowledged(&mut self, cx: &Context<'_>) {
        let acknowledged = self.send.unacknowledged;
        self.path.timeouts = 0;
        self.path.doubted = self.path.doubted.filter(|&(_, sequence)| acknowledged.before_or_equal(sequence));
        if self.path.full_end.is_some_and(|end| acknowledged.after_or_equal(end)) {
            self.path.full_end = None;
            self.path.verified = self.path_mtu;
        }
        if let Some(search) = &mut self.path.search
            && let Some(probe) = search.probe.filter(|probe| acknowledged.after_or_equal(probe.end))
        {
            (search.probe, search.lost, search.is_fresh) = (None, 0, false);
            search.not_before = cx.now + pause(&self.round_trip);
            self.path_mtu = probe.size;
            self.path.verified = probe.size;
            self.path.full_end = None;
            self.update_segment_size();
            cx.out.counters().transport.path_probes_arrived.increment();
        }
    }

    /// Whether all that is known to be lost is the probe: that says something about its size, and nothing about congestion (RFC 4821 §7.6.2).
    pub(super) fn only_probe_is_lost(&mut self, cx: &Context<'_>) -> bool {
        let Some(search) = &mut self.path.search else { return false };
        let Some(probe) = search.probe.filter(|probe| self.send.scoreboard.is_all_that_is_lost(probe.start, probe.end)) else {
            return false;
        };
        cx.out.counters().transport.path_probes_lost.increment();
        search.probe = None;
        search.lost += 1;
        search.not_before = cx.now + pause(&self.round_trip);
        if search.lost >= TRIES {
            (search.lost, search.is_fresh, search.high) = (0, false, search.high.min(probe.size.saturating_sub(1)));
        }
        true
    }

    /// Sends a probe if one is due, and everything is quiet enough for its fate to mean something (RFC 4821 §7.4). Says whether new data is to wait: the
    /// congestion window will have room for the probe as soon as something is acknowledged.
    pub(super) fn send_path_probe(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(size) = self.next_probe_size(cx).filter(|_| self.is_quiet_for_probe()) else { return false };
        // For this one segment the path is as large as the probe says.
        let present = std::mem::replace(&mut self.path_mtu, size);
        let (length, _) = self.payload_limits();
        let has_room = self.has_room_behind(length);
        let waits = has_room && self.congestion_room() < length && self.congestion.window() >= length;
        if has_room && self.congestion_room() >= length {
            self.launch_probe(cx, length, size);
        }
        self.path_mtu = present;
        waits && !self.send.scoreboard.is_empty()
    }

    fn launch_probe(&mut self, cx: &mut Context<'_>, length: usize, size: u16) {
        let start = self.send.next;
        let sent = self.send_first_time(cx, length, false);
        if let Some(search) = self.path.search.as_mut().filter(|_| sent > 0) {
            search.probe = Some(Probe { start, end: start + sent as u32, size });
            cx.out.counters().transport.path_probes_sent.increment();
        }
    }

    fn is_quiet_for_probe(&self) -> bool {
        let is_settled = self.path.timeouts == 0 && self.path.verified >= self.path_mtu;
        is_settled && self.state.may_send() && !self.is_blocked() && self.send.scoreboard.lost() == 0 && self.recovery.is_open()
    }

    /// Enough data and window for the probe and for three segments behind it, whose acknowledgements tell that it is lost.
    fn has_room_behind(&self, length: usize) -> bool {
        let needed = length + 3 * self.send.segment_size;
        self.send.unsent() >= needed && self.send.usable_window() >= needed
    }

    /// The next size to try. When the search is over: none, until it is time to look whether the path has changed (RFC 4821 §7.3, RFC 1191 §6.3).
    fn next_probe_size(&mut self, cx: &Context<'_>) -> Option<u16> {
        let (present, largest) = (self.path_mtu, self.largest_size(cx));
        let search = self.path.search.as_mut().filter(|search| search.probe.is_none() && cx.now >= search.not_before)?;
        let high = search.high.min(largest);
        if high.saturating_sub(present) >= PRECISION || (search.is_fresh && high > present) {
            return Some(if search.is_fresh { high } else { present + (high - present).div_ceil(2) });
        }
        if largest <= present {
            self.path.search = None;
        } else {
            (search.high, search.is_fresh) = (largest, true);
            search.not_before = cx.now + cx.config.path_mtu_raise_time;
        }
        None
    }
}

/// What to try when packets of `size` bytes do not arrive: first what nearly every path carries, then less, down to the bound.
fn next_lower(size: u16, config: &TcpConfig) -> Option<u16> {
    let lower = if size > config.path_mtu_base { config.path_mtu_base } else { (size / 2).max(config.path_mtu_floor) };
    (lower < size).then_some(lower)
}
