//! Errors that ICMP, or our own lower layers, report about our segments (RFC 1122 §4.2.3.9, RFC 5461, RFC 5927).

use super::{Connection, Context};
use crate::network::{DeliveryError, ErrorReport};
use crate::transport::shared::Failure;
use crate::wire::TcpHeader;

impl Connection {
    /// Takes a report about a segment of this connection. One whose quoted number is not in flight is forged, or too late (RFC 5927 §4.1). While our SYN
    /// waits, unreachable means failure (RFC 5461 §4.1, as everybody does); later it is remembered, and told if the connection then times out: an established
    /// connection is not lost to a message anybody can send (RFC 5927 §5.2).
    pub fn error_reported(&mut self, cx: &mut Context<'_>, report: &ErrorReport) {
        let Ok((_, _, sequence)) = TcpHeader::parse_quoted(&report.quoted) else { return };
        let in_flight = self.send.flight_size() as u32;
        if !sequence.is_within(self.send.unacknowledged, in_flight) {
            return;
        }
        if let DeliveryError::PacketTooBig { mtu } = report.error {
            return self.packet_too_big(cx, mtu, sequence, report.reporter == report.source);
        }
        let Some(failure) = failure_of(report.error) else { return };
        let is_hard = self.state.is_opening() && self.is_active && is_final(report.error);
        if is_hard {
            return self.fail(cx, failure);
        }
        self.news.failed_softly(failure);
        self.end_batch(cx);
    }
}

/// Whether an error ends a connection that is being opened: all that say "unreachable"; time exceeded may be a routing loop that heals.
fn is_final(error: DeliveryError) -> bool {
    matches!(error, DeliveryError::Unreachable { .. } | DeliveryError::NoRoute)
}

/// What an error means to the program, as Linux maps it; `None` where it means nothing.
fn failure_of(error: DeliveryError) -> Option<Failure> {
    match error {
        DeliveryError::Unreachable { code } => Some(match code {
            2 | 3 => Failure::Refused,
            0 | 6 | 9 | 11 => Failure::NetworkUnreachable,
            10 | 13.. => Failure::Prohibited,
            _ => Failure::HostUnreachable,
        }),
        DeliveryError::NoRoute => Some(Failure::NetworkUnreachable),
        DeliveryError::TimeExceeded { .. } => Some(Failure::HostUnreachable),
        DeliveryError::PacketTooBig { .. } | DeliveryError::ParameterProblem { .. } => None,
    }
}
