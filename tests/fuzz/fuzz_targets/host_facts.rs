//! What the host tells of itself: the kernel's netlink messages, resolv.conf, hosts.
#![no_main]

use hopline::resolver::{Hosts, ResolverConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 3 {
        #[cfg(target_os = "linux")]
        0 => hopline::device::fuzzing::netlink(bytes),
        1 => {
            let text = String::from_utf8_lossy(bytes);
            let config = ResolverConfig::parse(&text);
            let _ = config.candidates(text.lines().next().unwrap_or_default());
        }
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let hosts = Hosts::parse(&text);
            text.split_whitespace().for_each(|word| drop(hosts.lookup(word).to_vec()));
        }
    }
});
