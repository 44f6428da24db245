//! Data in SYNs (RFC 7413): what a connection sends and takes before its handshake is complete.
//!
//! Owns the option and the data of the SYN on either side, and what a client learns from the answer. Refuses to make cookies and to remember them:
//! both are the stack's ([`crate::transport::fast_open`]).

use super::{Connection, Context, Segment, State};
use crate::time::Instant;
use crate::transport::fast_open::Known;
use crate::wire::{FastOpenCookie, TcpOptions};

/// Larger SYNs may meet trouble on the way, whatever segments the server takes (RFC 7413 §4.1.3).
const LARGEST_SYN_DATA: usize = 1_460;

/// What the handshake has to do with Fast Open; rare, and gone after it.
#[derive(Debug, Default)]
pub(super) struct FastOpen {
    /// The option of the first SYN, or SYN-ACK; a second one goes without (RFC 7413 §4.2.1).
    option: Option<FastOpenCookie>,
    /// Segment size that the server announced when it gave the cookie.
    segment_size: u16,
    /// Server: data came with the SYN, was taken, and may be answered before the handshake is complete.
    is_early: bool,
}

/// What a listener grants to a SYN with a Fast Open option.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FastOpenGrant {
    /// The data of the SYN is taken.
    pub takes_data: bool,
    /// The cookie that the client is given.
    pub cookie: Option<FastOpenCookie>,
}

impl Connection {
    /// Client: looks what is known of the server. With a cookie, data goes with the SYN; else the SYN asks for one.
    pub(super) fn prepare_fast_open(&mut self, cx: &Context<'_>) {
        if !self.options.fast_open {
            return;
        }
        let (option, segment_size) = match cx.fast_open.get(cx.now, self.local.ip(), self.remote) {
            Some(Known::Cookie(cookie, segment_size)) => (cookie, segment_size),
            None => (FastOpenCookie::REQUEST, 0),
            Some(Known::Refused(_)) => return,
        };
        self.fast_open = Some(Box::new(FastOpen { option: Some(option), segment_size, is_early: false }));
    }

    /// Server: what the listener granted.
    pub(super) fn take_fast_open(&mut self, cx: &mut Context<'_>, syn: &Segment, grant: FastOpenGrant) {
        let takes_data = grant.takes_data && syn.payload.len() <= self.receive.buffer.min(usize::from(u16::MAX));
        if !takes_data && grant.cookie.is_none() {
            return;
        }
        self.fast_open = Some(Box::new(FastOpen { option: grant.cookie, segment_size: 0, is_early: takes_data }));
        if takes_data {
            cx.out.counters().transport.fast_opens_passive.increment();
            let mut data = Segment { payload: syn.payload.share(), ..*syn };
            data.trim_front(1);
            self.take_in_order(cx, &mut data);
            self.news.connected_early();
        }
    }

    /// Whether the program has the connection already, although the handshake is not complete.
    pub fn is_early(&self) -> bool {
        self.state == State::SynReceived && self.fast_open.as_ref().is_some_and(|fast_open| fast_open.is_early)
    }

    /// The option for the SYN that is sent now, and how many bytes of data may go with it. Only the first SYN has either.
    pub(super) fn fast_open_of_syn(&mut self, options: &TcpOptions) -> (Option<FastOpenCookie>, usize) {
        let is_first = self.send.next == self.send.initial;
        let Some(fast_open) = self.fast_open.as_ref().filter(|_| is_first) else { return (None, 0) };
        let Some(cookie) = fast_open.option else { return (None, 0) };
        if self.state != State::SynSent || cookie.is_request() {
            return (Some(cookie), 0);
        }
        let options = TcpOptions { fast_open: Some(cookie), ..*options };
        let by_server = usize::from(fast_open.segment_size).min(LARGEST_SYN_DATA);
        let by_path = super::options::segment_size(by_server, self.path_mtu, self.remote.ip());
        let room = by_path.saturating_sub(options.length());
        (Some(cookie), room.min(self.send.queue.end().distance_from(self.send.initial + 1) as usize))
    }

    /// The data that goes with the SYN is in flight.
    pub(super) fn note_syn_data(&mut self, cx: &Context<'_>, bytes: usize) {
        if bytes > 0 {
            let start = self.send.initial + 1;
            self.send.scoreboard.sent(start, start + bytes as u32, cx.now, 1);
            self.send.next = start + bytes as u32;
            cx.out.counters().transport.fast_opens_active.increment();
        }
    }

    /// Client: the SYN-ACK is here. What it does not acknowledge of the SYN's data goes again at once, and is no sign of congestion (RFC 7413
    /// §4.2.2).
    pub(super) fn conclude_fast_open(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        let Some(fast_open) = self.fast_open.take() else { return };
        let is_refused = self.send.unacknowledged.before(self.send.next);
        if is_refused {
            cx.out.counters().transport.fast_opens_refused.increment();
            self.send.scoreboard.all_is_lost();
            self.recovery.force_one();
        }
        self.learn_fast_open(cx, segment, &fast_open, is_refused);
    }

    /// RFC 7413 §4.1.3: the newest cookie is kept; a server that gives none for the asking, or does not take data with its cookie, is left alone for a while.
    fn learn_fast_open(&mut self, cx: &mut Context<'_>, segment: &Segment, fast_open: &FastOpen, is_refused: bool) {
        let given = segment.header.options.fast_open.filter(|cookie| !cookie.is_request());
        let known = match (given, fast_open.option) {
            (Some(cookie), _) => Known::Cookie(cookie, u16::try_from(self.agreement.peer_segment_size).unwrap_or(u16::MAX)),
            (None, Some(asked)) if asked.is_request() || is_refused => Known::Refused(refused_until(cx)),
            _ => return,
        };
        self.remember_fast_open(cx, known);
    }

    fn remember_fast_open(&self, cx: &mut Context<'_>, known: Known) {
        if cx.fast_open.set(self.local.ip(), self.remote, known) {
            cx.out.counters().transport.fast_open_cookies_evicted.increment();
        }
    }

    /// Client: nobody answers the SYN. Perhaps something on the way dislikes it (RFC 7413 §4.1.3.1).
    pub(super) fn give_fast_open_up(&mut self, cx: &mut Context<'_>) {
        if self.state == State::SynSent && self.fast_open.is_some() {
            self.remember_fast_open(cx, Known::Refused(refused_until(cx)));
        }
    }
}

fn refused_until(cx: &Context<'_>) -> Instant {
    cx.now + cx.config.fast_open_refusal_time
}
