//! What a program can name as the other end: addresses, or a host's name and a port.

use super::Stack;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Finds the addresses of a host's name; a stack asks it for every name that is no address literal.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, best first. Blocks.
    fn resolve(&self, stack: &Stack, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Something that stands for socket addresses: `std::net::ToSocketAddrs`, but resolved by the stack.
pub trait ToTarget {
    /// The addresses, best first; never empty.
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>>;
}

impl ToTarget for SocketAddr {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![*self])
    }
}

impl ToTarget for SocketAddrV4 {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(*self).into()])
    }
}

impl ToTarget for SocketAddrV6 {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(*self).into()])
    }
}

impl ToTarget for (IpAddr, u16) {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(*self).into()])
    }
}

impl ToTarget for (Ipv4Addr, u16) {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(*self).into()])
    }
}

impl ToTarget for (Ipv6Addr, u16) {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(*self).into()])
    }
}

impl ToTarget for (&str, u16) {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = *self;
        let addresses = stack.resolve(host)?;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }
}

impl ToTarget for (String, u16) {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        (self.0.as_str(), self.1).targets(stack)
    }
}

impl ToTarget for str {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address]);
        }
        split_host_and_port(self)?.targets(stack)
    }
}

impl ToTarget for String {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        self.as_str().targets(stack)
    }
}

impl ToTarget for [SocketAddr] {
    fn targets(&self, _stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        if self.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no addresses were given"));
        }
        Ok(self.to_vec())
    }
}

impl ToTarget for Vec<SocketAddr> {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        self.as_slice().targets(stack)
    }
}

impl<T: ToTarget + ?Sized> ToTarget for &T {
    fn targets(&self, stack: &Stack) -> io::Result<Vec<SocketAddr>> {
        (**self).targets(stack)
    }
}

/// One socket address, for calls that cannot resolve names: what `std::net::ToSocketAddrs` takes, but of texts address literals only.
pub trait ToAddress {
    /// The address; `InvalidInput` for a text that is none.
    fn address(&self) -> io::Result<SocketAddr>;
}

macro_rules! to_address {
    ($($kind:ty),*) => {
        $(impl ToAddress for $kind {
            fn address(&self) -> io::Result<SocketAddr> {
                Ok((*self).into())
            }
        })*
    };
}

to_address!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16));

impl ToAddress for str {
    fn address(&self) -> io::Result<SocketAddr> {
        let wrong = || format!("{self:?} is not an address and a port, such as 192.0.2.1:53 (names: ask Stack::resolve)");
        self.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, wrong()))
    }
}

impl ToAddress for String {
    fn address(&self) -> io::Result<SocketAddr> {
        self.as_str().address()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn address(&self) -> io::Result<SocketAddr> {
        (**self).address()
    }
}

fn split_host_and_port(text: &str) -> io::Result<(&str, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not a host and a port, such as example.com:443")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_split_at_the_last_colon() {
        assert_eq!(split_host_and_port("example.com:443").unwrap(), ("example.com", 443));
        for wrong in ["example.com", ":80", "example.com:", "example.com:http", "example.com:65536"] {
            assert_eq!(split_host_and_port(wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }
    #[test]
    fn addresses_come_in_the_forms_that_std_takes() {
        let expected: SocketAddr = "192.0.2.1:53".parse().unwrap();
        let forms: [&dyn ToAddress; 5] =
            [&expected, &&expected, &"192.0.2.1:53", &(Ipv4Addr::new(192, 0, 2, 1), 53), &([192, 0, 2, 1], 53)];
        assert!(forms.iter().all(|form| form.address().unwrap() == expected));
        assert_eq!("example.com:53".address().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
