//! ICMP errors and keepalive: RFC 1122 §4.2.3.9, RFC 5461, RFC 5927, RFC 9293 §3.8.4.

use super::trace::*;
use super::*;
use crate::network::{DeliveryError, ErrorReport};
use crate::transport::shared::Keepalive;
use crate::wire::Protocol;

fn report(trace: &Trace, error: DeliveryError, sequence: u32) -> ErrorReport {
    let mut quoted = smallvec::SmallVec::new();
    quoted.extend_from_slice(&trace.connection.local().port().to_be_bytes());
    quoted.extend_from_slice(&trace.connection.remote().port().to_be_bytes());
    quoted.extend_from_slice(&(ISS + sequence).to_be_bytes());
    ErrorReport {
        error,
        reporter: trace.connection.remote().ip(),
        source: trace.connection.local().ip(),
        destination: trace.connection.remote().ip(),
        protocol: Protocol::TCP,
        quoted,
    }
}

fn tell(trace: &mut Trace, error: DeliveryError, sequence: u32) {
    let report = report(trace, error, sequence);
    trace.connection.error_reported(&mut trace.host.context(), &report);
}

#[test]
fn an_unreachable_peer_fails_the_open() {
    let cases = [
        (DeliveryError::Unreachable { code: 1 }, Failure::HostUnreachable),
        (DeliveryError::Unreachable { code: 0 }, Failure::NetworkUnreachable),
        (DeliveryError::Unreachable { code: 3 }, Failure::Refused),
        (DeliveryError::Unreachable { code: 13 }, Failure::Prohibited),
        (DeliveryError::NoRoute, Failure::NetworkUnreachable),
    ];
    for (error, failure) in cases {
        let mut trace = Trace::syn_sent_with(TcpConfig::default());
        tell(&mut trace, error, 0);
        assert_eq!((trace.failure(), trace.state()), (Some(failure), State::Closed));
    }
}

#[test]
fn a_forged_report_changes_nothing() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    tell(&mut trace, DeliveryError::Unreachable { code: 3 }, 1);
    assert_eq!((trace.failure(), trace.state()), (None, State::SynSent));
}

#[test]
fn an_established_connection_only_remembers() {
    let mut trace = Trace::established_with(TcpConfig { data_retries: 1, ..TcpConfig::default() }, plain());
    trace.write(10);
    tell(&mut trace, DeliveryError::Unreachable { code: 3 }, 500);
    assert_eq!(trace.connection.shared().state.lock().soft_failure, None);
    tell(&mut trace, DeliveryError::Unreachable { code: 1 }, 1);
    assert_eq!((trace.state(), trace.failure()), (State::Established, None));
    assert_eq!(trace.connection.shared().state.lock().soft_failure, Some(Failure::HostUnreachable));
    trace.at(5_000);
    assert_eq!(trace.failure(), Some(Failure::HostUnreachable), "told when it times out");
}

#[test]
fn too_big_lowers_the_segment_size_if_the_number_is_in_flight() {
    let mut trace = Trace::established();
    trace.write(2_000);
    trace.sent();
    trace.host.path_mtu = 640;
    tell(&mut trace, DeliveryError::PacketTooBig { mtu: 640 }, 9_999);
    assert!(trace.sent().is_empty());
    tell(&mut trace, DeliveryError::PacketTooBig { mtu: 640 }, 1);
    assert_eq!(trace.sent(), ["[P.] 1..2001/600 ack 1"]);
}

#[test]
fn keepalive_probes_an_idle_peer_and_gives_up_on_a_silent_one() {
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 3 };
    let mut trace = Trace::established();
    trace.set_options(|options| options.keepalive = Some(keepalive));
    trace.at(10_000);
    assert_eq!(trace.sent(), ["[.] 0 ack 1"], "SEG.SEQ = SND.NXT - 1");
    trace.receive(Seg::default());
    trace.at(19_999);
    assert!(trace.sent().is_empty());
    trace.at(24_000);
    assert_eq!(trace.sent().len(), 3);
    trace.at(25_999);
    assert_eq!(trace.state(), State::Established);
    trace.at(26_000);
    assert_eq!(trace.failure(), Some(Failure::TimedOut));
}

#[test]
fn keepalive_is_off_unless_asked_for_and_can_be_switched_off() {
    let mut trace = Trace::established();
    assert_eq!(trace.deadline(), None);
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 3 };
    trace.set_options(|options| options.keepalive = Some(keepalive));
    assert_eq!(trace.deadline(), Some(10_000));
    trace.set_options(|options| options.keepalive = None);
    assert_eq!(trace.deadline(), None);
}

#[test]
fn a_keepalive_probe_of_the_peers_is_answered() {
    let mut trace = Trace::established();
    trace.receive(data(0, 0));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
    trace.receive(data(0, 1));
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
}
