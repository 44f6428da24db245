//! The hosts file: names that need no server.
//!
//! Owns the parser of `hosts(5)` and the table it makes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Addresses by name. Names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// The host's own names: `/etc/hosts`, or its namesake in Windows' system folder. None where there is no such file.
    pub fn of_system() -> Hosts {
        let text = system_file().and_then(|path| std::fs::read_to_string(path).ok());
        text.map(|text| Hosts::parse(&text)).unwrap_or_default()
    }

    /// Reads a hosts file. Lines that do not start with an address are skipped.
    pub fn parse(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        text.lines().for_each(|line| hosts.take_line(line));
        hosts
    }

    fn take_line(&mut self, line: &str) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { return };
        words.for_each(|name| self.add(name, address));
    }

    /// Adds one address for `name`.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.addresses.entry(key(name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    /// The addresses of `name`; empty if the file does not have it.
    pub fn lookup(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(&key(name)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(not(windows))]
fn system_file() -> Option<PathBuf> {
    Some(PathBuf::from("/etc/hosts"))
}

#[cfg(windows)]
fn system_file() -> Option<PathBuf> {
    std::env::var_os("SystemRoot").map(|folder| PathBuf::from(folder).join(r"System32\drivers\etc\hosts"))
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_any_case() {
        let hosts = Hosts::parse("127.0.0.1 localhost\n::1 localhost\n192.0.2.7\tWWW.example  www # web\nnonsense here\n\n");
        assert_eq!(hosts.lookup("LOCALHOST"), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(hosts.lookup("www"), hosts.lookup("www.EXAMPLE."));
        assert!(hosts.lookup("web").is_empty() && hosts.lookup("here").is_empty());
    }
}
