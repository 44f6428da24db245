//! A network inside the process: a virtual link to a second stack that serves DNS, echo, discard, HTTP and HTTPS under `lab.test`.
//!
//! Owns the two stacks, the link between them, the servers' threads, and a certificate authority that is made at start and that nobody else trusts.
//! Needs no root and no network, and runs on every platform. Refuses to be reached from outside the process.
//!
//! ```
//! use hopline::app::lab::{Lab, LabOptions};
//! use std::io::{Read, Write};
//! let lab = Lab::start(LabOptions::default())?;
//! let mut stream = lab.stack().connect("lab.test:7")?;
//! stream.write_all(b"hello")?;
//! let mut echo = [0; 5];
//! stream.read_exact(&mut echo)?;
//! assert_eq!(&echo, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

mod certificates;
mod dns;
#[cfg(fuzzing)]
pub mod fuzzing;
mod services;
mod web;

pub use web::{body_hash, deterministic_bytes};

use super::tls::{CertificateDer, Roots, TlsOptions};
use crate::config::Config;
use crate::device::Device;
use crate::device::virtual_link::{self, Impairments, LinkMonitor, LinkOptions};
use crate::layer::Observer;
use crate::network::topology::Cidr;
use crate::resolver::{Hosts, Resolver, ResolverConfig};
use crate::socket::{Stack, StackBuilder};
use certificates::Certificates;
use dns::Zone;
use services::{Crowd, Shared};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The server's address: every name of the lab leads there.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The program's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where `dead.lab.test` leads: nobody has this address.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
/// What the server's certificate is for. `wrong.lab.test` is not among them.
const CERTIFIED: [&str; 4] = ["lab.test", "www.lab.test", "alias.lab.test", "192.0.2.1"];
/// The network's prefix.
const PREFIX_LENGTH: u8 = 24;
/// How long a question waits in the lab for its answer, the first time: the server is near.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is asked: where a tenth of all packets is lost, one lookup in several hundred fails by that.
const LOOKUP_ATTEMPTS: u32 = 4;

/// Puts something around a device, a capture, and gives an observer for what happens inside.
pub type DeviceWrap = Box<dyn FnOnce(Box<dyn Device>) -> io::Result<(Box<dyn Device>, Arc<dyn Observer>)> + Send>;

/// What the lab is like. The default is a perfect link of 1500 bytes without offload.
#[derive(Default)]
pub struct LabOptions {
    /// What the link does to packets, each way.
    pub impairments: Impairments,
    /// The link itself: MTU, offload, seed. Its impairments are replaced by the ones above.
    pub link: LinkOptions,
    /// Bounds and defaults of both stacks.
    pub config: Config,
    /// What to put around the program's end of the link.
    pub wrap: Option<DeviceWrap>,
    /// Who is told what happens in the program's stack.
    pub observers: Vec<Arc<dyn Observer>>,
}

/// A running lab. Dropping it ends both stacks.
pub struct Lab {
    client: Stack,
    resolver: Arc<Resolver>,
    server: Stack,
    shared: Arc<Shared>,
    monitor: LinkMonitor,
    threads: Vec<JoinHandle<()>>,
}

impl Lab {
    /// Starts both stacks and the servers.
    pub fn start(options: LabOptions) -> io::Result<Lab> {
        let LabOptions { impairments, link, config, wrap, mut observers } = options;
        let (near, far) = virtual_link::pair(LinkOptions { a_to_b: impairments.clone(), b_to_a: impairments, ..link });
        let monitor = near.monitor();
        let certificates = Certificates::make(&CERTIFIED)?;
        let shared = Arc::new(Shared { site: Default::default(), zone: Zone::lab(SERVER, NOBODY), certificates, crowd: Crowd::default() });
        let server = at(SERVER).config(config.clone()).device(far).start()?;
        let threads = services::start(&server, &shared)?;
        let near: Box<dyn Device> = match wrap {
            Some(wrap) => {
                let (wrapped, observer) = wrap(Box::new(near))?;
                observers.push(observer);
                wrapped
            }
            None => Box::new(near),
        };
        let builder = observers.into_iter().fold(at(CLIENT), StackBuilder::observer);
        let servers = ResolverConfig::for_servers(&[SERVER.into()]);
        let questions = ResolverConfig { timeout: LOOKUP_TIMEOUT, attempts: LOOKUP_ATTEMPTS, ..servers };
        let resolver = Arc::new(Resolver::new(questions, Hosts::default())?);
        let client = builder.config(config).boxed_device(near).dns(SERVER.into()).resolver(resolver.clone()).start()?;
        Ok(Lab { client, resolver, server, shared, monitor, threads })
    }

    /// The program's stack.
    pub fn stack(&self) -> &Stack {
        &self.client
    }

    /// Its resolver.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// The servers' stack.
    pub fn server(&self) -> &Stack {
        &self.server
    }

    /// Looks at the link, from the program's end, and changes it.
    pub fn link(&self) -> &LinkMonitor {
        &self.monitor
    }

    /// The authority that vouches for the lab's server.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.shared.certificates.authority
    }

    /// The same as PEM text.
    pub fn authority_pem(&self) -> &str {
        &self.shared.certificates.authority_pem
    }

    /// TLS options that trust the lab's authority and nobody else.
    pub fn tls_options(&self) -> TlsOptions {
        TlsOptions { roots: Roots::None, extra_roots: vec![self.authority().clone()], ..TlsOptions::default() }
    }

    /// Ends both stacks, the program's first, each with this grace, and joins every thread.
    pub fn shutdown(mut self, grace: Duration) -> io::Result<()> {
        self.end(grace)
    }

    fn end(&mut self, grace: Duration) -> io::Result<()> {
        let client = self.client.shutdown(grace);
        self.shared.site.patience.call_off();
        let server = self.server.shutdown(grace);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a server of the lab panicked"))?;
        }
        self.shared.crowd.wait_empty();
        client.and(server)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.end(Config::default().pipeline.shutdown_grace);
    }
}

fn at(address: Ipv4Addr) -> StackBuilder {
    Stack::builder().address(Cidr { address: address.into(), prefix_length: PREFIX_LENGTH })
}

#[cfg(test)]
mod tests;
