//! The command line of hopline-ping.

use crate::common::NetworkOptions;
use clap::{Parser, ValueEnum};
use std::time::Duration;

/// Sends ICMP echo requests to a host, over a TCP/IP stack of its own.
///
/// Exit code: 0 if a reply came, 1 if none did, 2 for other errors.
#[derive(Parser, Clone, Debug)]
#[command(name = "hopline-ping", version, disable_version_flag = true)]
pub(crate) struct PingOptions {
    /// The host: a name or an address
    pub(crate) host: String,
    /// Stop after this many requests
    #[arg(short = 'c', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Seconds between requests
    #[arg(short = 'i', value_name = "SECONDS", value_parser = seconds)]
    pub(crate) interval: Option<Duration>,
    /// Seconds to wait for a reply to the last request
    #[arg(short = 'W', value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Seconds until the end, whatever has come
    #[arg(short = 'w', value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Option<Duration>,
    /// Bytes of data in each request
    #[arg(short = 's', value_name = "BYTES", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=65_507))]
    pub(crate) size: u16,
    /// Time to live
    #[arg(short = 't', value_name = "TTL", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) ttl: Option<u8>,
    /// The interface, as --interface
    #[arg(short = 'I', value_name = "INTERFACE", conflicts_with_all = ["interface", "lab", "tap", "tun"])]
    pub(crate) from: Option<String>,
    /// Whether requests may be fragmented: do (never), want (here, not on the way), dont (anywhere)
    #[arg(short = 'M', value_name = "HINT")]
    pub(crate) path_mtu: Option<PathMtuHint>,
    /// Numbers only: no names for addresses
    #[arg(short = 'n')]
    pub(crate) numeric: bool,
    /// Only the first line and the summary
    #[arg(short = 'q')]
    pub(crate) quiet: bool,
    /// The time of day before each line
    #[arg(short = 'D')]
    pub(crate) timestamps: bool,
    /// Say so when the reply to the last request has not come before the next is sent
    #[arg(short = 'O')]
    pub(crate) outstanding: bool,
    /// As fast as replies come back, or a hundred times a second
    #[arg(short = 'f')]
    pub(crate) flood: bool,
    /// IPv4 only
    #[arg(short = '4')]
    pub(crate) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', conflicts_with = "ipv4")]
    pub(crate) ipv6: bool,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

/// iputils' words for fragmentation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PathMtuHint {
    Do,
    Want,
    Dont,
}

/// A number of seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}
