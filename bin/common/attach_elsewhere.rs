//! Systems whose devices are not supported yet: the lab works everywhere.

use super::StartFailure;
use super::options::NetworkOptions;
use hopline::device::Device;
use hopline::resolver::ResolverConfig;
use hopline::socket::StackBuilder;
use std::net::IpAddr;

/// The host's name servers.
pub(super) fn name_servers() -> (Vec<IpAddr>, Vec<String>) {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    (ResolverConfig::parse(&text).servers.iter().map(|server| server.ip()).collect(), Vec::new())
}

/// Always fails.
pub(super) fn attach(
    _program: &str,
    _builder: StackBuilder,
    _options: &NetworkOptions,
    _hint: Option<IpAddr>,
) -> Result<(StackBuilder, Box<dyn Device>), StartFailure> {
    Err(StartFailure("raw devices are supported on Linux alone so far: use --lab".to_owned()))
}
