//! Counters: what a stack did, readable at any time from any thread.
//!
//! Owns plain atomic numbers, grouped by the layer that writes them. Refuses to interpret them. What was dropped, and why, is counted by
//! [`DropReason`]; what the layers did, in the group of each.

use crate::layer::DropReason;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. Written by one layer, read by anybody.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts `count`, for those who alone write this number at the time, as a layer does in its run: without a locked instruction.
    pub(crate) fn add_alone(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counter_group {
    ($(#[$group_doc:meta])* $group:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$group_doc])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $group { $($(#[$doc])* pub $name: Counter,)* }

        impl $group {
            /// Each counter's name and number.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counter_group! {
    /// What the device and its two threads did.
    DeviceCounters {
        /// Frames the device handed over (super-frames count once).
        frames_received,
        /// Bytes of those frames.
        bytes_received,
        /// Frames the device took (super-frames count once).
        frames_sent,
        /// Bytes of those frames.
        bytes_sent,
        /// Frames the kernel dropped before we could read them.
        kernel_drops,
        /// Frames longer than the receive slot.
        truncated,
        /// Batches read from the device.
        receive_batches,
        /// Batches given to the device.
        send_batches,
        /// Times the device would not take more and sending had to wait for it.
        send_stalls,
        /// Times the receive thread stopped reading for want of credit.
        credit_stalls,
    }
}

counter_group! {
    /// What the link layer did.
    LinkCounters {
        /// ARP requests sent.
        arp_requests_sent,
        /// ARP replies sent.
        arp_replies_sent,
        /// ARP packets received.
        arp_received,
        /// Neighbours that did not answer.
        neighbours_failed,
        /// Other stations seen using our address.
        address_conflicts,
        /// Neighbours forgotten because the cache was full.
        neighbours_evicted,
    }
}

counter_group! {
    /// What the network layer did.
    NetworkCounters {
        /// Packets from the link.
        packets_received,
        /// Packets handed to the transport layer.
        packets_delivered,
        /// Packets handed to the link.
        packets_sent,
        /// Fragments received.
        fragments_received,
        /// Datagrams put together.
        datagrams_reassembled,
        /// Datagrams cut to fragments.
        datagrams_fragmented,
        /// Fragments sent.
        fragments_sent,
        /// ICMP echo requests answered.
        echo_requests_answered,
        /// ICMP errors sent.
        icmp_errors_sent,
        /// ICMP errors received.
        icmp_errors_received,
        /// Path MTU reductions learned: for datagrams by destination, for TCP by connection.
        path_mtu_updates,
        /// Path MTUs forgotten because the cache was full.
        path_mtus_evicted,
        /// ICMP redirects followed.
        redirects_followed,
        /// Redirected destinations forgotten because there were too many.
        redirects_evicted,
        /// ICMP redirects that were not to be followed, and source quenches.
        icmp_advice_ignored,
    }
}

counter_group! {
    /// What the transport layer did.
    TransportCounters {
        /// TCP segments received.
        segments_received,
        /// TCP segments sent (a super-segment counts once).
        segments_sent,
        /// TCP segments sent again.
        segments_retransmitted,
        /// Retransmission timeouts.
        retransmission_timeouts,
        /// Windows reduced because the peer echoed a mark of congestion (RFC 3168).
        congestion_echoes,
        /// Fast retransmissions entered.
        fast_retransmits,
        /// Tail loss probes sent (RFC 8985 §7).
        loss_probes,
        /// Recoveries undone because nothing had been lost (RFC 4015, 5682).
        recoveries_undone,
        /// Connections opened by us.
        active_opens,
        /// Connections opened by peers.
        passive_opens,
        /// Connections reset, by us or by peers.
        resets,
        /// RSTs sent.
        resets_sent,
        /// Connections without a handle reset because there were too many of them.
        orphans_aborted,
        /// Challenge ACKs sent (RFC 5961).
        challenge_acks_sent,
        /// Challenge ACKs not sent, because of the limits of the stack or the connection (RFC 5961 §7).
        challenge_acks_withheld,
        /// SYNs answered with a cookie, and forgotten (RFC 4987 §3.6).
        syn_cookies_sent,
        /// Connections made from cookies that came back.
        syn_cookies_accepted,
        /// Acknowledgements that came to a listener which sends cookies, and were none.
        syn_cookies_failed,
        /// SYNs sent with data (RFC 7413).
        fast_opens_active,
        /// Of those, the ones whose data the server did not take.
        fast_opens_refused,
        /// SYNs whose data was taken.
        fast_opens_passive,
        /// Fast Open cookies of servers forgotten because the cache was full.
        fast_open_cookies_evicted,
        /// SYNs with a good cookie whose data was not taken, because too many others were not complete.
        fast_opens_declined,
        /// Peers of near paths forgotten because there were too many.
        near_peers_evicted,
        /// Listeners refused, because there were as many as may be.
        listeners_refused,
        /// Paths found to lose large packets without a word: the segment size was lowered (RFC 4821 §7.7).
        black_holes,
        /// Segments sent to find out whether the path carries larger ones (RFC 4821).
        path_probes_sent,
        /// Those that arrived: the segment size was raised.
        path_probes_arrived,
        /// Those that were lost alone.
        path_probes_lost,
        /// Connections reset because the peer kept its window closed for too long.
        zero_windows_aborted,
        /// SACK blocks not looked at, because they cut what is in flight into too many pieces.
        sack_blocks_ignored,
        /// Times that a connection's data out of order was thrown away, because the stack's memory was used up.
        out_of_order_pruned,
        /// Duplicate segments received.
        duplicate_segments,
        /// UDP datagrams received.
        datagrams_received,
        /// UDP datagrams sent.
        datagrams_sent,
        /// Batches that left datagrams for the next one.
        datagram_batches_cut,
    }
}

counter_group! {
    /// What the pipeline did.
    PipelineCounters {
        /// Wake-ups of the link thread.
        link_wakeups,
        /// Wake-ups of the network thread.
        network_wakeups,
        /// Wake-ups of the transport thread.
        transport_wakeups,
        /// Times that a program's thread took frames off the device in the receive thread's place.
        receptions_by_programs,
        /// Messages that layers took: from their channels, or laid before them.
        messages,
        /// Messages that found their inbox full: must stay zero for packets from the device and from programs.
        inbox_overflows,
    }
}

/// Packets dropped, by reason.
#[derive(Debug)]
pub struct DropCounters([Counter; DropReason::ALL.len()]);

impl DropCounters {
    pub(crate) fn at(&self, index: usize) -> &Counter {
        static NONE: Counter = Counter(AtomicU64::new(0));
        self.0.get(index).unwrap_or(&NONE)
    }
}

impl Default for DropCounters {
    fn default() -> DropCounters {
        DropCounters(std::array::from_fn(|_| Counter::default()))
    }
}

/// All counters of one stack.
#[derive(Debug, Default)]
pub struct Counters {
    /// The device and its threads.
    pub device: DeviceCounters,
    /// The link layer.
    pub link: LinkCounters,
    /// The network layer.
    pub network: NetworkCounters,
    /// The transport layer.
    pub transport: TransportCounters,
    /// The pipeline.
    pub pipeline: PipelineCounters,
    /// Packets dropped; read by [`Counters::dropped`].
    pub drops: DropCounters,
}

impl Counters {
    /// Each reason for which something was dropped, with its number.
    pub fn all_dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.dropped(reason).get())).filter(|&(_, count)| count > 0)
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            ("device", self.device.entries()),
            ("link", self.link.entries()),
            ("network", self.network.entries()),
            ("transport", self.transport.entries()),
            ("pipeline", self.pipeline.entries()),
        ];
        for (group, entries) in groups {
            for (name, count) in entries {
                writeln!(f, "{group:<10} {name:<28} {count}")?;
            }
        }
        for (reason, count) in self.all_dropped() {
            writeln!(f, "{:<10} {:<28} {count}", "dropped", reason.text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_by_reason_and_shown() {
        let counters = Counters::default();
        counters.dropped(DropReason::BadChecksum).increment();
        counters.link.arp_received.add(3);
        assert_eq!(counters.all_dropped().collect::<Vec<_>>(), [(DropReason::BadChecksum, 1)]);
        let text = counters.to_string();
        assert!(text.contains("bad checksum") && text.contains("arp_received"), "{text}");
    }
}
