//! The user timeout option (RFC 5482): what the two ends tell each other of how long they will wait, and what we make of it.
//!
//! Owns the option's meaning. Refuses to measure: who waits how long is the retransmission and the persist timer's business.

use super::Connection;
use crate::time::Duration;

/// The granularity bit: the value is in minutes (RFC 5482 §3.3).
const MINUTES: u16 = 0x8000;
const LARGEST: u16 = 0x7fff;

/// What is advertised where a program wants the option but no timeout of its own (RFC 9293 §3.9.1.1: five minutes).
const DEFAULT: Duration = Duration::from_secs(300);

/// What the peer said, and whether we have yet to say it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Advice {
    peers: Option<u16>,
    is_due: bool,
}

impl Connection {
    /// The option that the next segment carries, if it is to carry one.
    pub(super) fn user_timeout_option(&self) -> Option<u16> {
        self.advice.is_due.then(|| encode(self.advertised_user_timeout()))
    }

    fn advertised_user_timeout(&self) -> Duration {
        self.wished_user_timeout.unwrap_or(DEFAULT)
    }

    /// A segment has carried it. "A host SHOULD include the option in the SYN, and in the first segment after it" (RFC 5482 §3), and where it changes.
    pub(super) fn user_timeout_sent(&mut self) {
        self.advice.is_due = false;
    }

    /// The program's wishes are new, or the handshake is complete: the peer is told (again).
    pub(super) fn advertise_user_timeout(&mut self) {
        self.advice.is_due = self.options.advertise_user_timeout;
    }

    /// The peer advises a timeout (RFC 5482 §3.1).
    pub(super) fn take_user_timeout(&mut self, option: Option<u16>, limits: (Duration, Duration)) {
        if option.is_some() && self.options.advertise_user_timeout {
            self.advice.peers = option;
            self.adapt_user_timeout(limits);
        }
    }

    /// `USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))`, unless the program wants a certain timeout ("CHANGEABLE" is false). The lower
    /// limit "MUST be larger than the current retransmission timeout".
    pub(super) fn adapt_user_timeout(&mut self, limits: (Duration, Duration)) {
        let is_changeable = self.options.advertise_user_timeout && self.wished_user_timeout.is_none();
        if let Some(peers) = self.advice.peers.filter(|_| is_changeable) {
            let least = limits.0.max(self.round_trip.timeout().saturating_mul(2));
            let both = self.advertised_user_timeout().max(decode(peers));
            std::sync::Arc::make_mut(&mut self.options).user_timeout = Some(both.max(least).min(limits.1.max(least)));
        }
    }
}

/// Seconds up to nine hours, then minutes.
fn encode(timeout: Duration) -> u16 {
    let seconds = timeout.as_secs().max(1);
    match u16::try_from(seconds) {
        Ok(seconds @ ..=LARGEST) => seconds,
        _ => MINUTES | u16::try_from(seconds / 60).unwrap_or(LARGEST).min(LARGEST),
    }
}

fn decode(option: u16) -> Duration {
    let unit = if option & MINUTES == 0 { 1 } else { 60 };
    Duration::from_secs(u64::from(option & LARGEST) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_minutes_of_rfc_5482_section_3_3() {
        for (seconds, option) in [(0, 1), (1, 1), (32_767, 32_767), (32_768, MINUTES | 546), (u64::MAX, u16::MAX)] {
            assert_eq!(encode(Duration::from_secs(seconds)), option);
        }
        assert_eq!((decode(90), decode(MINUTES | 2)), (Duration::from_secs(90), Duration::from_secs(120)));
    }
}
