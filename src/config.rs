//! Every bound and every default, in one documented struct for each layer; units are in the names.
//!
//! Reaching a bound never blocks a layer: what exceeds it is dropped and counted ([`crate::layer::DropReason`]), or, where the limit is on a program,
//! the program waits on its own socket.

use crate::pipeline::Handoff;
use crate::transport::shared::{CongestionControl, Ecn, SocketOptions};
use std::time::Duration;

/// All of a stack's configuration. `Config::default()` suits programs of any size.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Threads and queues.
    pub pipeline: PipelineConfig,
    /// Neighbour cache.
    pub link: LinkConfig,
    /// IP and ICMP.
    pub network: NetworkConfig,
    /// TCP connections and listeners.
    pub tcp: TcpConfig,
    /// Datagram sockets.
    pub datagram: DatagramConfig,
}

/// Threads and queues.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// How a message gets from one layer to the next.
    pub handoff: Handoff,
    /// Whether a program's thread that waits receives frames itself, in the receive thread's place (by [`Handoff::Combining`], on devices at which two threads can
    /// wait: packet sockets, TUN and TAP, the virtual link): a round trip then wakes one thread and not two.
    pub programs_receive: bool,
    /// Packets from the device that may be inside the stack, before their payload has reached a socket.
    pub credit_packets: usize,
    /// Bytes of such packets.
    pub credit_bytes: usize,
    /// Packets from programs that may be on their way to the device.
    pub device_room_packets: usize,
    /// Places in each inbox for what the stack itself makes: acknowledgements, echo replies, ARP, ICMP errors.
    pub own_packets: usize,
    /// Further places in the link layer's inbox, and before the device: one datagram can become 45 fragments on its way down.
    pub fragment_packets: usize,
    /// Messages that a layer takes before it flushes what it made of them.
    pub batch_messages: usize,
    /// Frames that the receive thread reads at once.
    pub receive_batch_frames: usize,
    /// How long shutdown waits for connections to close before it resets them.
    pub shutdown_grace: Duration,
}

impl Default for PipelineConfig {
    fn default() -> PipelineConfig {
        PipelineConfig {
            handoff: Handoff::default(),
            programs_receive: true,
            credit_packets: 2_048,
            credit_bytes: 8 << 20,
            device_room_packets: 1_024,
            own_packets: 512,
            fragment_packets: 2_048,
            batch_messages: 64,
            receive_batch_frames: 32,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

/// Neighbour cache (RFC 826, RFC 1122 §2.3.2, states as in RFC 4861 §7.3).
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Neighbours remembered; beyond it the least recently used one goes.
    pub neighbour_entries: usize,
    /// Bytes that may wait for one neighbour's address: a cold 64 KB ping is 45 frames. Beyond it the oldest packet goes (RFC 1122 §2.3.2.2
    /// wants the latest kept). A packet counts with its bytes and a small slot for its headers.
    pub pending_bytes_per_neighbour: usize,
    /// The same for all neighbours together.
    pub pending_bytes: usize,
    /// How long an address that was confirmed is believed without question.
    pub neighbour_reachable_time: Duration,
    /// How long a neighbour whose time is over may be used before it is asked whether it is still there (RFC 4861 §10,
    /// `DELAY_FIRST_PROBE_TIME`).
    pub neighbour_delay_time: Duration,
    /// Time between requests for one address.
    pub neighbour_retransmit_time: Duration,
    /// Requests without answer before the neighbour is reported unreachable.
    pub neighbour_requests: u32,
    /// How long a failed neighbour stays failed: packets to it are reported unreachable at once.
    pub neighbour_failed_time: Duration,
    /// Whether to announce our addresses when they are set (gratuitous ARP, RFC 5227 §2.3).
    pub announce: bool,
    /// Whether to answer ARP requests for our addresses; no in shared-address mode, where the host answers.
    pub answer: bool,
    /// The VLAN we live in: frames are sent with this tag, and only frames with it are taken. `None`: frames without a tag, or with a tag
    /// that names a priority alone.
    pub vlan: Option<u16>,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            neighbour_entries: 1_024,
            pending_bytes_per_neighbour: 256 << 10,
            pending_bytes: 4 << 20,
            neighbour_reachable_time: Duration::from_secs(30),
            neighbour_delay_time: Duration::from_secs(5),
            neighbour_retransmit_time: Duration::from_secs(1),
            neighbour_requests: 3,
            neighbour_failed_time: Duration::from_secs(3),
            announce: true,
            answer: true,
            vlan: None,
        }
    }
}

/// IP and ICMP.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Bytes that incomplete datagrams may hold in all.
    pub reassembly_bytes: usize,
    /// Incomplete datagrams at once.
    pub reassembly_datagrams: usize,
    /// How long the fragments of a datagram are kept (RFC 1122 §3.3.2: 60 to 120 s; Linux: 30 s).
    pub reassembly_timeout: Duration,
    /// ICMP errors sent per second (RFC 1812 §4.3.2.8), with a burst of as many.
    pub icmp_errors_per_second: u32,
    /// Destinations whose path MTU is remembered.
    pub path_mtu_entries: usize,
    /// How long a learned path MTU is believed (RFC 1191 §6.3).
    pub path_mtu_timeout: Duration,
    /// The lowest path MTU that is believed: smaller reports are an attack (Linux: 552).
    pub path_mtu_minimum: u16,
    /// Whether to follow ICMP redirects (RFC 1122 §3.2.2.2: a host must). Whoever can forge one can forge ARP as well.
    pub accept_redirects: bool,
    /// Destinations remembered to have been redirected.
    pub redirect_entries: usize,
    /// How long a redirect is followed (Linux: 300 s).
    pub redirect_timeout: Duration,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            reassembly_bytes: 4 << 20,
            reassembly_datagrams: 256,
            reassembly_timeout: Duration::from_secs(30),
            icmp_errors_per_second: 100,
            path_mtu_entries: 1_024,
            path_mtu_timeout: Duration::from_secs(600),
            path_mtu_minimum: 552,
            accept_redirects: true,
            redirect_entries: 256,
            redirect_timeout: Duration::from_secs(300),
        }
    }
}

/// TCP.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Connections in all, TIME-WAIT included.
    pub connections: usize,
    /// Bytes that may wait unread on one connection, at first.
    pub receive_buffer: usize,
    /// What that may grow to as the path asks for, unless the program sets a size: twice a bandwidth-delay product of 32 MB. The window scale has room
    /// for it.
    pub receive_buffer_maximum: usize,
    /// Bytes that may wait unacknowledged on one connection, at first.
    pub send_buffer: usize,
    /// What that may grow to as the congestion window does, unless the program sets a size.
    pub send_buffer_maximum: usize,
    /// What either buffer may grow to on a near path, one with a round trip below a millisecond: what is enough for any such path, and still fits a
    /// processor's cache. A receive buffer starts with an eighth of it there.
    pub near_buffer: usize,
    /// What the buffers of all near paths, of one direction, may grow to together: a busy connection (one that had something to do within `rest_after`) may
    /// have an equal share, if that is less than `near_buffer`. What is larger already stays so.
    pub near_buffers: usize,
    /// Peers of near paths that are remembered, so that a connection whose handshake was slow knows that its path is near; the oldest is forgotten first.
    pub near_peers: usize,
    /// Bytes of slots in use, by all sockets and by packets on their way, beyond which buffers do not grow, windows shrink as they are used, and data out of
    /// order is not kept (counted as pruned).
    pub memory_bytes: usize,
    /// Out-of-order bytes kept for one connection, as the slots that they pin; more, if its receive buffer has grown: twice that.
    pub out_of_order_bytes: usize,
    /// Pieces into which a peer's selective acknowledgements may cut what one connection has in flight. Half of them can be holes: enough for a window of
    /// 90 MB that lost every other segment. They take memory only while there are holes.
    pub sack_ranges: usize,
    /// Bytes of one connection on their way to the device: two super-segments, so that the device never waits.
    pub in_stack_bytes: usize,
    /// The same for a fast connection, which may have as much there as it sends in a millisecond, but no more than this.
    pub in_stack_bytes_when_fast: usize,
    /// Listeners in all; a program that wants one more is told `OutOfMemory`.
    pub listeners: usize,
    /// Half-open connections of one listener. What comes beyond them gets a cookie, or is dropped, as `syn_cookies` says.
    pub syn_queue: usize,
    /// Whether SYNs are answered without remembering them (RFC 4987 §3.6).
    pub syn_cookies: SynCookies,
    /// Connections of one listener that wait for accept, unless the listener says otherwise.
    pub accept_queue: usize,
    /// First retransmission timeout (RFC 6298 §2.1).
    pub initial_retransmission_timeout: Duration,
    /// Lowest retransmission timeout (RFC 6298 §2.4 says 1 s; everybody uses 200 ms).
    pub minimum_retransmission_timeout: Duration,
    /// Highest retransmission timeout (RFC 6298 §2.5).
    pub maximum_retransmission_timeout: Duration,
    /// SYNs sent again in vain before the connection fails; each waits twice as long. Seven make three minutes (RFC 9293 §3.8.3, MUST-23).
    pub syn_retries: u32,
    /// Retransmissions in vain before the connection fails (R2, RFC 9293 §3.8.3).
    pub data_retries: u32,
    /// Longest delay of an acknowledgement (RFC 9293 §3.8.6.3: below 0.5 s).
    pub delayed_acknowledgement: Duration,
    /// How long the acknowledgement of a FIN, or of a small segment at the start of a connection, may wait for the program's answer to take it along (RFC 9293
    /// §3.8.6.3 would allow half a second). Zero: not at all.
    pub answer_time: Duration,
    /// Maximum segment lifetime; TIME-WAIT lasts twice as long (Linux: 60 s in all).
    pub maximum_segment_lifetime: Duration,
    /// How long an orphan stays in FIN-WAIT-2.
    pub fin_wait_2_timeout: Duration,
    /// Connections without a handle that still have something to send or to hear.
    pub orphans: usize,
    /// Servers whose Fast Open cookies, or refusals, a client remembers (RFC 7413 §4.1.3).
    pub fast_open_cookies: usize,
    /// How long a server's key for Fast Open cookies lasts; a cookie is good for up to twice as long.
    pub fast_open_key_lifetime: Duration,
    /// How long a client leaves a server alone that refused Fast Open (RFC 7413 §4.1.3.1).
    pub fast_open_refusal_time: Duration,
    /// How the size of segments is found where ICMP does not tell it (RFC 4821).
    pub path_mtu_probing: PathMtuProbing,
    /// Retransmission timeouts in a row, with large segments in flight, that are taken for a path which loses large packets (RFC 4821 §7.7).
    pub black_hole_timeouts: u8,
    /// The IP packet, in bytes, that nearly every path carries: where the search for the path MTU starts, and where it falls back to first.
    pub path_mtu_base: u16,
    /// The smallest IP packet, in bytes, that the search falls back to.
    pub path_mtu_floor: u16,
    /// How long a lowered segment size stays before a larger one is tried again (RFC 1191 §6.3: at least 10 minutes).
    pub path_mtu_raise_time: Duration,
    /// How long a peer may keep its window closed while there is data for it; then the connection is reset. `None`: as long as it answers probes, as RFC 9293
    /// §3.8.6.1 demands (MUST-37).
    pub zero_window_timeout: Option<Duration>,
    /// The same for connections without a handle, which nobody watches.
    pub orphan_zero_window_timeout: Duration,
    /// The shortest and the longest user timeout that a peer's advice may lead to (RFC 5482 §3.1).
    pub user_timeout_limits: (Duration, Duration),
    /// How long a connection must have had nothing to do before it is kept as its next segment will need it, and the memory that only a busy one needs is
    /// given back: not before each pause of a dialogue. It is looked at no later than twice this time after it was last busy.
    pub rest_after: Duration,
    /// Challenge ACKs per second (RFC 5961 §7), for all connections: about so many, for an exact number can be counted from outside (CVE-2016-5696).
    pub challenge_acks_per_second: u32,
    /// Least time between two challenge ACKs of one connection.
    pub challenge_ack_interval: Duration,
    /// Whether to offer timestamps (RFC 7323 §3).
    pub timestamps: bool,
    /// Whether to offer window scaling (RFC 7323 §2).
    pub window_scaling: bool,
    /// Whether to probe for the loss of the last segments, two round trips after them (TLP, RFC 8985 §7).
    pub loss_probes: bool,
    /// Segments in the first window (RFC 6928).
    pub initial_window_segments: u32,
    /// How long a congestion window that is not used is believed; then it is halved (RFC 7661 §4.4.3 and §5: at most five minutes).
    pub congestion_window_validity: Duration,
    /// First and last ephemeral port (RFC 6056 §3.2).
    pub ephemeral_ports: (u16, u16),
    /// Whether what the window admits is spread over the round trip, where that is a millisecond or more.
    pub pacing: bool,
    /// Congestion control.
    pub congestion_control: CongestionControl,
    /// Explicit congestion notification.
    pub ecn: Ecn,
}

/// When the segment size is searched for by sending larger segments and looking what becomes of them (RFC 4821).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum PathMtuProbing {
    /// Never: what ICMP says counts, and a path that loses large packets without a word is a dead one.
    Off,
    /// Where it was lowered: because large segments vanish, or, a good while later, because ICMP said so.
    #[default]
    BlackHole,
    /// Always, from `path_mtu_base` on.
    Always,
}

/// When SYNs are answered with cookies instead of being remembered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum SynCookies {
    /// Never: SYNs are dropped while the SYN queue is full.
    Off,
    /// While the listener's SYN queue is full. Options that do not fit into a timestamp are then not agreed on, and a peer without timestamps
    /// gets neither window scaling nor SACK. A peer whose handshake came to its end while the accept queue was full is heard again when it sends
    /// data; without state nobody reminds it.
    #[default]
    WhenFull,
    /// Always: no state at all for a handshake that is not complete.
    Always,
}

impl Default for TcpConfig {
    fn default() -> TcpConfig {
        TcpConfig {
            connections: 1 << 20,
            receive_buffer: 1 << 20,
            receive_buffer_maximum: 63 << 20,
            send_buffer: 1 << 20,
            send_buffer_maximum: 64 << 20,
            near_buffer: 4 << 20,
            near_buffers: 32 << 20,
            near_peers: 64,
            memory_bytes: 1 << 30,
            out_of_order_bytes: 8 << 20,
            sack_ranges: 65_536,
            in_stack_bytes: 128 << 10,
            in_stack_bytes_when_fast: 1 << 20,
            listeners: 65_536,
            syn_queue: 1_024,
            syn_cookies: SynCookies::WhenFull,
            accept_queue: 1_024,
            initial_retransmission_timeout: Duration::from_secs(1),
            minimum_retransmission_timeout: Duration::from_millis(200),
            maximum_retransmission_timeout: Duration::from_secs(60),
            syn_retries: 7,
            data_retries: 15,
            delayed_acknowledgement: Duration::from_millis(40),
            answer_time: Duration::from_millis(1),
            maximum_segment_lifetime: Duration::from_secs(30),
            fin_wait_2_timeout: Duration::from_secs(60),
            orphans: 16_384,
            fast_open_cookies: 1_024,
            fast_open_key_lifetime: Duration::from_secs(12 * 3_600),
            fast_open_refusal_time: Duration::from_secs(3_600),
            path_mtu_probing: PathMtuProbing::BlackHole,
            black_hole_timeouts: 2,
            path_mtu_base: 1_280,
            path_mtu_floor: 576,
            path_mtu_raise_time: Duration::from_secs(600),
            zero_window_timeout: None,
            orphan_zero_window_timeout: Duration::from_secs(60),
            user_timeout_limits: (Duration::from_secs(100), Duration::from_secs(3_600)),
            rest_after: Duration::from_secs(1),
            challenge_acks_per_second: 1_000,
            challenge_ack_interval: Duration::from_millis(500),
            timestamps: true,
            window_scaling: true,
            loss_probes: true,
            initial_window_segments: 10,
            congestion_window_validity: Duration::from_secs(300),
            ephemeral_ports: (32_768, 60_999),
            pacing: true,
            congestion_control: CongestionControl::Cubic,
            ecn: Ecn::WhenAsked,
        }
    }
}

impl TcpConfig {
    /// What a new TCP socket starts with.
    pub fn socket_options(&self) -> SocketOptions {
        SocketOptions {
            no_delay: false,
            quick_ack: false,
            keepalive: None,
            user_timeout: None,
            advertise_user_timeout: false,
            fast_open: false,
            linger: None,
            time_to_live: 64,
            traffic_class: 0,
            receive_buffer: self.receive_buffer,
            send_buffer: self.send_buffer,
            tunes_receive_buffer: self.receive_buffer_maximum > self.receive_buffer,
            tunes_send_buffer: self.send_buffer_maximum > self.send_buffer,
            broadcast: false,
            congestion_control: self.congestion_control,
            ecn: self.ecn,
        }
    }
}

/// Datagram sockets.
#[derive(Clone, Debug)]
pub struct DatagramConfig {
    /// Sockets in all.
    pub sockets: usize,
    /// Bytes that may wait unread on one socket, counted as the slots they pin.
    pub receive_buffer: usize,
    /// Bytes that one socket may have on their way to the device.
    pub send_buffer: usize,
    /// ICMP error reports kept for one ICMP or raw socket.
    pub error_reports: usize,
    /// Turns of up to 16 packets that datagram sockets have in one batch of the transport layer, so that connections have theirs.
    pub turns_in_a_batch: usize,
}

impl Default for DatagramConfig {
    fn default() -> DatagramConfig {
        DatagramConfig { sockets: 65_536, receive_buffer: 4 << 20, send_buffer: 512 << 10, error_reports: 64, turns_in_a_batch: 8 }
    }
}

impl DatagramConfig {
    /// What a new datagram socket starts with.
    pub fn socket_options(&self) -> SocketOptions {
        SocketOptions { receive_buffer: self.receive_buffer, send_buffer: self.send_buffer, ..TcpConfig::default().socket_options() }
    }
}
