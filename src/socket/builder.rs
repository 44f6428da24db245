//! What a stack is made of, until it is started.

use super::backend::{Backend, BackendParts, Waiting};
use super::log::{Observers, SlogObserver};
use super::stack::{Inner, Stack};
use super::target::Resolve;
use crate::config::Config;
use crate::counters::Counters;
use crate::device::{Device, DeviceProperties};
use crate::layer::Observer;
use crate::network::topology::{AddressMode, Cidr, Route, Topology, Via};
use crate::packet::Pool;
use crate::pipeline::marks::DirtyList;
use crate::pipeline::{Handoff, Inboxes, Pipeline, Plan, RealClock};
use crate::random::SecretRandom;
use crate::resolver::Resolver;
use crate::transport::ports::{OwnPorts, PortProvider};
use crate::transport::shared::DeviceRoom;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Builds a [`Stack`]. Needs a device and an address; everything else has a default.
#[derive(Default)]
pub struct StackBuilder {
    device: Option<Box<dyn Device>>,
    addresses: Vec<Cidr>,
    routes: Vec<Route>,
    name_servers: Vec<IpAddr>,
    mtu: Option<usize>,
    mode: AddressMode,
    handoff: Option<Handoff>,
    config: Config,
    ports: Option<Arc<dyn PortProvider>>,
    resolve: Option<Arc<dyn Resolve>>,
    observers: Vec<Arc<dyn Observer>>,
    seed: Option<u64>,
    shares_address: bool,
}

impl StackBuilder {
    /// Where frames come from and go to.
    pub fn device(self, device: impl Device + 'static) -> StackBuilder {
        self.boxed_device(Box::new(device))
    }

    /// As [`StackBuilder::device`].
    pub fn boxed_device(mut self, device: Box<dyn Device>) -> StackBuilder {
        self.device = Some(device);
        self
    }

    /// One of our addresses with its prefix length: `"192.0.2.7/24".parse()?`. May be given several times; the first of a family is preferred.
    pub fn address(mut self, address: Cidr) -> StackBuilder {
        self.addresses.push(address);
        self
    }

    /// The default gateway of its family.
    pub fn gateway(self, gateway: IpAddr) -> StackBuilder {
        let everywhere = match gateway {
            IpAddr::V4(_) => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix_length: 0 },
            IpAddr::V6(_) => Cidr { address: Ipv6Addr::UNSPECIFIED.into(), prefix_length: 0 },
        };
        self.route(Route { destination: everywhere, via: Via::Gateway(gateway), metric: 0, source: None })
    }

    /// A route. May be given several times.
    pub fn route(mut self, route: Route) -> StackBuilder {
        self.routes.push(route);
        self
    }

    /// A name server. May be given several times.
    pub fn dns(mut self, server: IpAddr) -> StackBuilder {
        self.name_servers.push(server);
        self
    }

    /// Bytes of the largest IP packet, where it is less than the device's.
    pub fn mtu(mut self, mtu: usize) -> StackBuilder {
        self.mtu = Some(mtu);
        self
    }

    /// Whose addresses these are. Shared ones need [`StackBuilder::ports`] that are guarded.
    pub fn mode(mut self, mode: AddressMode) -> StackBuilder {
        self.mode = mode;
        self
    }

    /// Uses the host's own address, gateway and name servers, with nothing to configure: on the interface of its default route. Needs the
    /// privilege to receive raw frames. What was given otherwise (name servers) stays.
    pub fn shared_address(mut self) -> StackBuilder {
        self.shares_address = true;
        self
    }

    /// As [`StackBuilder::shared_address`], with an interface or destination that was chosen before.
    pub fn shared_address_of(mut self, shared: crate::device::shared_address::SharedAddress) -> StackBuilder {
        let crate::device::shared_address::SharedAddress { device, ports, topology, interface: _ } = shared;
        (self.addresses, self.routes, self.mtu, self.mode) = (topology.addresses, topology.routes, Some(topology.mtu), topology.mode);
        self.device(device).ports(ports)
    }

    /// How messages get from one layer to the next, whatever the configuration says.
    pub fn handoff(mut self, handoff: Handoff) -> StackBuilder {
        self.handoff = Some(handoff);
        self
    }

    /// Bounds and defaults.
    pub fn config(mut self, config: Config) -> StackBuilder {
        self.config = config;
        self
    }

    /// Who hands out ports.
    pub fn ports(mut self, ports: Arc<dyn PortProvider>) -> StackBuilder {
        self.ports = Some(ports);
        self
    }

    /// Who finds the addresses of names; by default [`Resolver`], which asks the name servers and knows the host's own names.
    pub fn resolver(mut self, resolve: Arc<dyn Resolve>) -> StackBuilder {
        self.resolve = Some(resolve);
        self
    }

    /// Somebody who is told what happens inside. May be given several times.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> StackBuilder {
        self.observers.push(observer);
        self
    }

    /// Logs what happens inside, with the component as the key `layer`.
    pub fn logger(self, logger: slog::Logger) -> StackBuilder {
        self.observer(Arc::new(SlogObserver::new(logger)))
    }

    /// Makes initial sequence numbers, ports and identifiers repeatable. For tests: whoever knows the seed can guess them.
    pub fn seed(mut self, seed: u64) -> StackBuilder {
        self.seed = Some(seed);
        self
    }

    /// Opens the device and starts the threads.
    ///
    /// Errors: `InvalidInput` if there is no device or no address, or an MTU no stack can work with; else what the device or the operating
    /// system says.
    pub fn start(self) -> io::Result<Stack> {
        self.with_shared_address()?.start_parts()
    }

    /// Asks the host for its address, if that is to be shared.
    fn with_shared_address(mut self) -> io::Result<StackBuilder> {
        use crate::device::host::{self, HostResolver};
        if !self.shares_address {
            return Ok(self);
        }
        if self.name_servers.is_empty() {
            // Without a file that names them, there are none; a program that resolves names will say so.
            let servers = host::resolvers().unwrap_or_default().into_iter();
            self.name_servers =
                servers.filter_map(|server| if let HostResolver::Reachable(address) = server { Some(address) } else { None }).collect();
        }
        Ok(self.shared_address_of(crate::device::shared_address::SharedAddress::on_default_route(true)?))
    }

    fn start_parts(mut self) -> io::Result<Stack> {
        let device = self.device.take().ok_or_else(|| invalid("a stack needs a device"))?;
        let properties = device.properties();
        let topology = Arc::new(self.topology(&properties)?);
        let random = self.seed.map_or_else(SecretRandom::from_os, |seed| Ok(SecretRandom::from_seed(seed)))?;
        let config = Arc::new(self.effective_config());
        let inboxes = Inboxes::new(&config.pipeline);
        let marks = DirtyList::new(inboxes.entries.transport.clone());
        let device_room = Arc::new(DeviceRoom::new(config.pipeline.device_room_packets.max(1), marks.clone()));
        let (clock, counters) = (RealClock::start(), Arc::new(Counters::default()));
        let backend = Backend::new(BackendParts {
            marks: marks.clone(),
            device_room: device_room.clone(),
            pool: Pool::default(),
            ports: self.ports.unwrap_or_else(|| Arc::new(OwnPorts)),
            config: config.clone(),
            clock: Arc::new(clock),
            topology: topology.clone(),
            waiting: Waiting::Allowed,
            health: Arc::default(),
            seat: Arc::default(),
        });
        let resolve = match self.resolve {
            Some(resolve) => resolve,
            None => Arc::new(Resolver::for_servers(&self.name_servers)?),
        };
        let pipeline = Pipeline::start(Plan {
            device: device.open()?,
            offload: properties.offload,
            config,
            topology,
            pool: backend.pool.clone(),
            random,
            marks,
            device_room,
            counters: counters.clone(),
            observer: Observers::join(self.observers),
            clock,
            health: backend.health().clone(),
            seat: backend.seat().clone(),
            inboxes,
        })?;
        let name_servers = self.name_servers;
        Ok(Stack::from_inner(Inner { backend, pipeline, counters, properties, name_servers, resolve }))
    }

    fn topology(&mut self, properties: &DeviceProperties) -> io::Result<Topology> {
        if self.addresses.is_empty() {
            return Err(invalid("a stack needs an address, such as 192.0.2.7/24"));
        }
        let mtu = self.mtu.unwrap_or(properties.mtu).min(properties.mtu);
        // RFC 791 §3.2: every host must be able to forward 68 bytes without further fragmentation.
        if mtu < 68 {
            return Err(invalid("the MTU is less than the 68 bytes that IPv4 needs"));
        }
        Ok(Topology {
            addresses: std::mem::take(&mut self.addresses),
            routes: std::mem::take(&mut self.routes),
            mtu,
            medium: properties.medium,
            offload: properties.offload,
            mode: self.mode,
        })
    }

    /// What was chosen outside the configuration; an address that is the host's as well is the host's to answer ARP for and to announce.
    fn effective_config(&self) -> Config {
        let mut config = self.config.clone();
        config.pipeline.handoff = self.handoff.unwrap_or(config.pipeline.handoff);
        if self.mode == AddressMode::Shared {
            config.link.answer = false;
            config.link.announce = false;
        }
        config
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
