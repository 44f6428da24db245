//! What a connection is handed with each call: the segment, and its surroundings.

use crate::config::TcpConfig;
use crate::layer::Outbox;
use crate::network;
use crate::network::topology::Topology;
use crate::packet::{Packet, Pool};
use crate::random::SecretRandom;
use crate::time::Instant;
use crate::transport::challenge::ChallengeBudget;
use crate::transport::fast_open::CookieCache;
use crate::transport::near_peers::NearPeers;
use crate::wire::{SequenceNumber, TcpFlags, TcpHeader};
use std::convert::Infallible;
use std::net::SocketAddr;

/// A segment that arrived: parsed, its checksum verified.
#[derive(Debug)]
pub struct Segment {
    /// Who sent it.
    pub source: SocketAddr,
    /// To which of our ends.
    pub destination: SocketAddr,
    /// Its header.
    pub header: TcpHeader,
    /// What follows the header. Longer than one segment where segments were merged: `offload.segmentation` then has the size of each.
    pub payload: Packet,
    /// DSCP and ECN, as they arrived.
    pub traffic_class: u8,
    /// When the device had it.
    pub arrived: Instant,
}

impl Segment {
    /// SEG.LEN: bytes of payload, and one each for SYN and FIN (RFC 9293 §3.4).
    pub(super) fn length(&self) -> u32 {
        self.header.segment_length(self.payload.len() as u32)
    }

    /// The number behind the segment's last one.
    pub(super) fn end(&self) -> SequenceNumber {
        self.header.sequence + self.length()
    }

    pub(super) fn has(&self, flags: TcpFlags) -> bool {
        self.header.flags.contains(flags)
    }

    /// How many segments the peer sent this as.
    pub(super) fn segments(&self) -> usize {
        match self.payload.offload.segmentation {
            Some(cut) if cut.size > 0 => self.payload.len().div_ceil(cut.size.into()),
            _ => 1,
        }
    }

    /// Bytes of payload in each of them but the last.
    pub(super) fn segment_size(&self) -> usize {
        let size = self.payload.offload.segmentation.map(|cut| usize::from(cut.size)).filter(|&size| size > 0);
        size.unwrap_or(usize::MAX).min(self.payload.len())
    }

    /// Drops the first `count` numbers, which have been received before: the SYN first, then bytes.
    pub(super) fn trim_front(&mut self, count: u32) {
        let mut count = count;
        self.header.sequence += count;
        if count > 0 && self.has(TcpFlags::SYN) {
            self.header.flags = self.header.flags & !TcpFlags::SYN;
            count -= 1;
        }
        self.payload.advance(count as usize);
    }

    /// Keeps what lies before `end`; a FIN behind it goes. Says whether anything went.
    pub(super) fn trim_back(&mut self, end: SequenceNumber) -> bool {
        if self.end().before_or_equal(end) {
            return false;
        }
        let keep = end.offset_from(self.header.sequence).max(0) as usize;
        self.header.flags = self.header.flags & !TcpFlags::FIN;
        self.payload.truncate(keep);
        true
    }
}

/// A connection's surroundings during one call.
pub struct Context<'a> {
    /// The present.
    pub now: Instant,
    /// Bounds and defaults.
    pub config: &'a TcpConfig,
    /// Where buffers come from.
    pub pool: &'a Pool,
    /// Addresses, routes, the link's MTU.
    pub topology: &'a Topology,
    /// Secret randomness.
    pub random: &'a mut SecretRandom,
    /// The stack's budget of challenge ACKs (RFC 5961 §7).
    pub challenge_acks: &'a mut ChallengeBudget,
    /// What is known of servers' Fast Open cookies.
    pub fast_open: &'a mut CookieCache,
    /// Whose round trips are short.
    pub near_peers: &'a mut NearPeers,
    /// The last number given to a packet.
    pub packet_number: &'a mut u64,
    /// Bytes that a buffer may grow to on a near path: this connection's share of [`TcpConfig::near_buffers`].
    pub near_share: usize,
    /// The path MTU to this connection's peer, in bytes of IP packet.
    pub path_mtu: u16,
    /// Where packets, wakes and events go.
    pub out: &'a mut Outbox<Infallible, network::Message>,
}

impl Context<'_> {
    /// Whether the slots in use, of all sockets and of what is on its way, take more memory than they should: then windows do not grow, and what is out of
    /// order is not kept.
    pub(super) fn is_under_pressure(&self) -> bool {
        self.pool.bytes_in_use() > self.config.memory_bytes
    }

    /// A timestamp clock that starts at `offset`: milliseconds (RFC 7323 §5.4 wants 1 ms to 1 s).
    pub(super) fn timestamp(&self, offset: u32) -> u32 {
        (self.now.as_millis() as u32).wrapping_add(offset)
    }

    /// A number for a packet.
    pub(super) fn next_packet_number(&mut self) -> u64 {
        *self.packet_number = self.packet_number.wrapping_add(1);
        *self.packet_number
    }
}
