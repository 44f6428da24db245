//! How names are looked up: servers, search list, timeouts; read from `resolv.conf`.
//!
//! Owns [`ResolverConfig`] and the parser of `resolv.conf(5)`. Refuses to decide which file to read: the caller knows the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port that DNS servers listen on (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;

/// How names are looked up. [`ResolverConfig::default`] has no servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Whom to ask, in order.
    pub servers: Vec<SocketAddr>,
    /// Domains to try for names with fewer than `ndots` dots. At most [`ResolverConfig::MAXIMUM_SEARCH_DOMAINS`].
    pub search: Vec<String>,
    /// Dots that make a name absolute enough to be tried as it is before the search list.
    pub ndots: u32,
    /// How long one server may take to answer one question; later rounds wait twice as long each.
    pub timeout: Duration,
    /// Rounds over all servers.
    pub attempts: u32,
    /// Whether each lookup starts with the next server instead of the first one.
    pub rotate: bool,
    /// Names and aliases to follow from the one asked for.
    pub maximum_aliases: u32,
    /// Longest time that a positive answer is kept, whatever its TTL says.
    pub maximum_time_to_live: Duration,
    /// Longest time that "there is no such name" is kept (RFC 2308 §5: one to three hours have been found to work well).
    pub maximum_negative_time_to_live: Duration,
    /// Answers remembered.
    pub cache_entries: usize,
    /// Whether to mix upper and lower case in questions, which a forger has to guess.
    pub mix_case: bool,
}

impl Default for ResolverConfig {
    fn default() -> ResolverConfig {
        ResolverConfig {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            maximum_aliases: 16,
            maximum_time_to_live: Duration::from_secs(86_400),
            maximum_negative_time_to_live: Duration::from_secs(3 * 3_600),
            cache_entries: 1_024,
            mix_case: true,
        }
    }
}

impl ResolverConfig {
    /// Servers that are taken from a file; the C library takes three.
    pub const MAXIMUM_SERVERS: usize = 8;
    /// Domains that are taken from a file; the C library took six for decades.
    pub const MAXIMUM_SEARCH_DOMAINS: usize = 6;

    /// The default for these servers, at port 53.
    pub fn for_servers(servers: &[IpAddr]) -> ResolverConfig {
        let servers = servers.iter().map(|&address| SocketAddr::new(address, DNS_PORT)).collect();
        ResolverConfig { servers, ..ResolverConfig::default() }
    }

    /// Reads a `resolv.conf`. Lines that it does not understand are skipped, as the C library does; out-of-range options are capped.
    pub fn parse(text: &str) -> ResolverConfig {
        let mut config = ResolverConfig::default();
        text.lines().for_each(|line| config.take_line(line));
        config
    }

    fn take_line(&mut self, line: &str) {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => words.next().into_iter().for_each(|word| self.take_server(word)),
            // The last "search" or "domain" line wins (resolv.conf(5)).
            Some("search" | "domain") => self.search = words.take(Self::MAXIMUM_SEARCH_DOMAINS).map(normalise).collect(),
            Some("options") => words.for_each(|word| self.take_option(word)),
            _ => {}
        }
    }

    fn take_server(&mut self, word: &str) {
        // A scoped IPv6 address (fe80::1%eth0) means nothing to a stack of our own.
        let Ok(address) = word.parse::<IpAddr>() else { return };
        // The unspecified address means "this host" there.
        let address = if address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address };
        if self.servers.len() < Self::MAXIMUM_SERVERS {
            self.servers.push(SocketAddr::new(address, DNS_PORT));
        }
    }

    fn take_option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u32>().ok();
        match (name, number) {
            ("ndots", Some(dots)) => self.ndots = dots.min(15),
            ("timeout", Some(seconds)) => self.timeout = Duration::from_secs(seconds.clamp(1, 30).into()),
            ("attempts", Some(attempts)) => self.attempts = attempts.clamp(1, 5),
            ("rotate", _) => self.rotate = true,
            _ => {}
        }
    }

    /// The names to try for what a program asked for, in order: absolute names as they are; short ones with the search list first.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().filter(|domain| !domain.is_empty()).map(|domain| format!("{name}.{domain}"));
        let as_it_is = std::iter::once(name.to_owned());
        let dots = name.bytes().filter(|&byte| byte == b'.').count();
        if dots >= self.ndots as usize { as_it_is.chain(searched).collect() } else { searched.chain(as_it_is).collect() }
    }
}

fn normalise(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file_is_understood() {
        let text = "# comment\nnameserver 192.0.2.53 # first\nnameserver 2001:db8::53\nnameserver fe80::1%eth0\n\
                    search Example.COM. corp.example\noptions ndots:2 timeout:3 attempts:4 rotate edns0\nsortlist x\n";
        let config = ResolverConfig::parse(text);
        assert_eq!(config.servers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse::<SocketAddr>().unwrap()]);
        assert_eq!(config.search, ["example.com", "corp.example"]);
        assert_eq!((config.ndots, config.timeout, config.attempts, config.rotate), (2, Duration::from_secs(3), 4, true));
    }

    #[test]
    fn wild_values_are_capped_and_nonsense_is_skipped() {
        let config = ResolverConfig::parse("nameserver\nnameserver x\noptions ndots:99 timeout:0 attempts:0 ndots:x\nfoo\n");
        assert!(config.servers.is_empty());
        assert_eq!((config.ndots, config.timeout, config.attempts), (15, Duration::from_secs(1), 1));
        let many = "nameserver 192.0.2.1\n".repeat(50);
        assert_eq!(ResolverConfig::parse(&many).servers.len(), ResolverConfig::MAXIMUM_SERVERS);
    }

    #[test]
    fn the_search_list_comes_first_for_short_names_only() {
        let config = ResolverConfig { search: vec!["a.test".into(), "b.test".into()], ..ResolverConfig::default() };
        assert_eq!(config.candidates("www"), ["www.a.test", "www.b.test", "www"]);
        assert_eq!(config.candidates("www.x"), ["www.x", "www.x.a.test", "www.x.b.test"]);
        assert_eq!(config.candidates("www."), ["www"]);
    }
}
