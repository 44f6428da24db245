//! Handshakes without state (RFC 4987 §3.6): the SYN-ACK that answers a SYN and is forgotten, and the connection that its acknowledgement makes.
//!
//! Owns how both look on the wire. Refuses to make or check cookies: it is given the initial number, and the SYN as it was remembered.

use super::emit::{Route, emit, start_packet};
use super::options::Agreement;
use super::receive_side::ReceiveSide;
use super::{Connection, Context, Segment, State, initial_sequence};
use crate::transport::shared::{SocketOptions, TcpShared};
use crate::transport::syn_cookies::timestamp_with_options;
use crate::wire::{SequenceNumber, TcpFlags, TcpHeader, TcpOptions, Timestamps};
use std::sync::Arc;

impl Agreement {
    /// What can be agreed on by an answer that is forgotten: what does not fit into a timestamp needs none. The window's shift is the stack's, not the
    /// listener's, which may change its buffers before the acknowledgement comes.
    fn without_state(cx: &Context<'_>, syn: &Segment) -> Agreement {
        let mut agreement = Agreement::offer(cx.config, syn.source.ip(), 0);
        let peer = &syn.header.options;
        let peer = if peer.timestamps.is_some() { *peer } else { TcpOptions { window_scale: None, sack_permitted: false, ..*peer } };
        agreement.conclude(&peer);
        agreement
    }
}

/// Answers `syn` with a SYN-ACK whose initial number is a cookie, and keeps nothing. It is not sent again: a peer that misses it sends its SYN again.
pub fn answer_with_cookie(cx: &mut Context<'_>, syn: &Segment, cookie: SequenceNumber, options: &SocketOptions) {
    let (local, remote) = (syn.destination, syn.source);
    let agreement = Agreement::without_state(cx, syn);
    let clock = cx.timestamp(initial_sequence::timestamp_offset(cx.random, local.ip(), remote.ip()));
    // Without timestamps there is no place to remember it in.
    let ecn = agreement.timestamps && super::ecn::is_granted(syn.header.flags, options.ecn);
    let timestamps = Timestamps {
        value: timestamp_with_options(clock, &syn.header.options, ecn),
        echo_reply: syn.header.options.timestamps.map_or(0, |timestamps| timestamps.value),
    };
    let header = TcpHeader {
        source_port: local.port(),
        destination_port: remote.port(),
        sequence: cookie,
        acknowledgement: syn.header.sequence + 1,
        flags: TcpFlags::SYN_ACK | if ecn { TcpFlags::ECE } else { TcpFlags::NONE },
        window: ReceiveSide::new(options.receive_buffer, 1, cx.now).advertise_unscaled(),
        urgent_pointer: 0,
        options: agreement.syn_options(cx.topology, remote.ip(), timestamps),
    };
    let route =
        Route { local, remote, time_to_live: options.time_to_live, traffic_class: super::ecn::without_field(options.traffic_class) };
    cx.out.counters().transport.syn_cookies_sent.increment();
    emit(cx, &route, &header, start_packet(cx, &header), None);
}

impl Connection {
    /// The connection whose SYN-ACK was a cookie: as if `syn`, which is what we know again of the peer's SYN, had been answered with the number `cookie`
    /// just now. It is in SYN-RECEIVED, with nothing to send again: the segment that acknowledged the cookie is to be given to it next.
    pub fn revive(cx: &mut Context<'_>, shared: Arc<TcpShared>, syn: &Segment, cookie: SequenceNumber) -> Connection {
        let mut connection = Connection::new(cx, shared, syn.destination, syn.source, cookie, false);
        cx.out.counters().transport.passive_opens.increment();
        cx.out.counters().transport.syn_cookies_accepted.increment();
        connection.agreement = Agreement::without_state(cx, syn);
        connection.take_peers_syn(syn);
        connection.receive.advertise_unscaled();
        connection.enter(cx, State::SynReceived);
        connection.send.next = cookie + 1;
        connection
    }
}
