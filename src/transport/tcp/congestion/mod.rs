//! Congestion control behind one small trait.
//!
//! Owns congestion window and slow-start threshold, in bytes. Refuses to know what was lost or what is sent next: recovery tells it of losses and
//! acknowledgements. Read RFC 5681 first, then `window` (what all algorithms have in common), `hystart` (slow start), `capacity` (what the path was seen
//! to carry), `validation` (a window that is not used), and an algorithm.

mod capacity;
mod cubic;
mod hystart;
mod new_reno;
mod validation;
mod window;

use crate::config::TcpConfig;
use crate::time::{Duration, Instant};
use crate::transport::shared::CongestionControl;
use crate::wire::SequenceNumber;
use cubic::Cubic;
use new_reno::NewReno;
use window::Window;

/// What an acknowledgement says to a controller.
#[derive(Copy, Clone, Debug)]
pub(super) struct Acknowledged {
    /// When it arrived.
    pub(super) now: Instant,
    /// Bytes that left the network with it.
    pub(super) bytes: usize,
    /// Bytes that were in flight before it.
    pub(super) in_flight: usize,
    /// SRTT.
    pub(super) round_trip: Duration,
    /// The round trip that it measured, if it did.
    pub(super) sample: Option<Duration>,
    /// SND.UNA.
    pub(super) number: SequenceNumber,
    /// SND.NXT.
    pub(super) next: SequenceNumber,
    /// The congestion window kept us from sending within the last round.
    pub(super) is_window_limited: bool,
}

/// A timeout, by what came before it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    /// Loss is news.
    First,
    /// A retransmission of fast recovery was lost. The window has had its reduction; RFC 5681 §3.1, equation 4, holds for the threshold all the same.
    InRecovery,
    /// One of a series: the threshold is held (RFC 5681 §3.1).
    Again,
}

/// What every algorithm provides.
pub(super) trait Controller: Send {
    /// Bytes that may be in flight.
    fn window(&self) -> usize;
    /// Below it the window grows exponentially; `usize::MAX` before the first loss.
    fn threshold(&self) -> usize;
    /// Data was acknowledged outside of fast recovery.
    fn on_acknowledged(&mut self, acknowledged: Acknowledged);
    /// Loss was found by acknowledgements; called once for a window (RFC 5681 §3.2, step 2). `in_flight` is FlightSize.
    fn on_loss(&mut self, now: Instant, in_flight: usize);
    /// The recovery that began with [`Controller::on_loss`] is over; `resent` bytes were sent again in it.
    fn on_recovered(&mut self, resent: usize);
    /// The peer echoes a mark of congestion (RFC 3168 §6.1.2); called once for a window.
    fn on_congestion_experienced(&mut self, now: Instant, in_flight: usize);
    /// The retransmission timer expired. `in_flight` is FlightSize.
    fn on_timeout(&mut self, now: Instant, in_flight: usize, which: Timeout);
    /// Data is about to be sent while nothing is in flight (RFC 7661 §4.4.3).
    fn before_sending(&mut self, now: Instant);
    /// The segment size is known, or changed.
    fn set_segment_size(&mut self, bytes: usize);
    /// The SYN was lost: the first window is one segment (RFC 5681 §3.1).
    fn start_with_one_segment(&mut self);
    /// All that it knows, as it is now. Taken before a loss is told: if the loss turns out never to have been one, recovery puts it back in its place
    /// (RFC 4015 §3.4, RFC 9438 §4.9).
    fn snapshot(&self) -> Box<dyn Controller>;
    /// What is worth remembering of it while nothing is in flight, if that is little: it is before the first loss. `None`: all of it.
    fn at_rest(&self) -> Option<AtRest>;
    /// The name people use.
    fn name(&self) -> &'static str;
}

/// What a controller starts with.
#[derive(Copy, Clone, Debug)]
pub(super) struct Settings {
    /// Bytes in a full segment.
    pub(super) segment_size: usize,
    /// Segments in the first window.
    pub(super) initial_segments: u32,
    /// NVP of RFC 7661: how long an unused window is believed.
    pub(super) non_validated_period: Duration,
}

impl Settings {
    /// What `config` says, for segments of `segment_size` bytes.
    pub(super) fn of(config: &TcpConfig, segment_size: usize) -> Settings {
        Settings { segment_size, initial_segments: config.initial_window_segments, non_validated_period: config.congestion_window_validity }
    }
}

/// A window that has only ever grown, in a connection that is idle.
#[derive(Copy, Clone, Debug)]
pub(super) struct AtRest {
    bytes: usize,
    validation: validation::AtRest,
}

/// The controller by choice as it was, but for the rounds of its slow start.
pub(super) fn resumed(which: CongestionControl, settings: &Settings, rested: AtRest) -> Box<dyn Controller> {
    with_window(which, Window::resumed(settings, rested))
}

/// A controller by choice.
pub(super) fn controller(which: CongestionControl, settings: &Settings) -> Box<dyn Controller> {
    with_window(which, Window::new(settings))
}

fn with_window(which: CongestionControl, window: Window) -> Box<dyn Controller> {
    match which {
        CongestionControl::Cubic => Box::new(Cubic::new(window)),
        CongestionControl::NewReno => Box::new(NewReno::new(window)),
    }
}

fn share(bytes: usize, factor: f64) -> usize {
    (bytes as f64 * factor) as usize
}

#[cfg(test)]
impl Settings {
    fn plain(segment_size: usize) -> Settings {
        Settings { segment_size, initial_segments: 10, non_validated_period: Duration::from_secs(300) }
    }
}

#[cfg(test)]
impl Acknowledged {
    /// `bytes` with this round-trip time, at time zero.
    fn sample(bytes: usize, round_trip: Duration) -> Acknowledged {
        Acknowledged {
            now: Instant::ZERO,
            bytes,
            in_flight: 0,
            round_trip,
            sample: Some(round_trip),
            number: SequenceNumber::default(),
            next: SequenceNumber::default(),
            is_window_limited: false,
        }
    }
}
