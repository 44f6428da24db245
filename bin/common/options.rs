//! The network options that all programs have.

use clap::{Args, ValueEnum};
use hopline::network::topology::Cidr;
use hopline::socket::Handoff;
use hopline::wire::MacAddress;
use std::net::IpAddr;
use std::path::PathBuf;

/// Which network to use, and how. Without any of these: the address of this host, on the interface that its route names.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkOptions {
    /// A network inside the process, with servers under lab.test: needs no root and no network
    #[arg(long, conflicts_with_all = ["interface", "tap", "tun"])]
    pub(crate) lab: bool,
    /// The interface to use
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// A TAP interface to attach to, or to make
    #[arg(long, value_name = "NAME", requires = "address", conflicts_with_all = ["interface", "tun"])]
    pub(crate) tap: Option<String>,
    /// A TUN interface to attach to, or to make
    #[arg(long, value_name = "NAME", requires = "address", conflicts_with = "interface")]
    pub(crate) tun: Option<String>,
    /// An address of our own, such as 192.0.2.7/24; without it the interface's address is shared with the host
    #[arg(long, value_name = "CIDR")]
    pub(crate) address: Option<Cidr>,
    /// The router for everything outside the address's network
    #[arg(long, value_name = "IP", requires = "address")]
    pub(crate) gateway: Option<IpAddr>,
    /// A DNS server to ask instead of the host's; may be given several times
    #[arg(long = "dns", value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,
    /// The station address to use with --address; without it a local one is made up
    #[arg(long, value_name = "MAC", requires = "address")]
    pub(crate) mac: Option<MacAddress>,
    /// The largest IP packet in bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..))]
    pub(crate) mtu: Option<u16>,
    /// Whether the device may cut segments and fill in checksums for us
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(crate) offload: Switch,
    /// Write every frame to this file, for Wireshark
    #[arg(long, value_name = "FILE.pcapng")]
    pub(crate) capture: Option<PathBuf>,
    /// What to log to standard error: a level (warning, info, debug, trace) for all layers, or tcp=debug,arp=trace
    #[arg(long, value_name = "SPEC")]
    pub(crate) log: Option<String>,
    /// How packets pass from layer to layer
    #[arg(long, value_name = "MODE", default_value = "combining")]
    pub(crate) handoff: HandoffMode,
    /// Whether a thread that waits receives frames itself (by combining): for comparisons
    #[arg(long, value_name = "on|off", default_value = "on", hide = true)]
    pub(crate) programs_receive: Switch,
    #[command(flatten)]
    pub(crate) impairments: LabImpairments,
}

/// What the lab's link does to packets.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Lab")]
pub(crate) struct LabImpairments {
    /// Percentage of packets that the lab's link loses
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, requires = "lab")]
    pub(crate) lab_loss: f64,
    /// Milliseconds that each packet takes over the lab's link, each way
    #[arg(long, value_name = "MS", default_value_t = 0.0, requires = "lab")]
    pub(crate) lab_delay: f64,
    /// Megabits per second of the lab's link
    #[arg(long, value_name = "MBIT", requires = "lab")]
    pub(crate) lab_rate: Option<f64>,
    /// Makes the lab's losses repeatable
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "lab")]
    pub(crate) lab_seed: u64,
}

fn percent(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| (0.0..=100.0).contains(value)).ok_or_else(|| "not a percentage between 0 and 100".into())
}

/// On or off.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    #[default]
    On,
    Off,
}

/// How packets pass from layer to layer.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandoffMode {
    /// Over bounded channels, a thread for each layer.
    Queue,
    /// Whoever brings a packet runs the next layer at once, if nobody else does.
    #[default]
    Combining,
}

impl From<HandoffMode> for Handoff {
    fn from(mode: HandoffMode) -> Handoff {
        match mode {
            HandoffMode::Queue => Handoff::Queue,
            HandoffMode::Combining => Handoff::Combining,
        }
    }
}
