//! Starting and stopping the threads of a stack.
//!
//! Owns the join handles. Shutdown goes from the top down, so that each layer's last packets still find the layer below: connections are closed, what
//! is left is reset, then transport, network, link and receive thread end in this order, and only then is the transport layer dropped with the
//! ports that it held (so that the host does not answer for us what the peer still sends).

use super::clock::RealClock;
use super::combining::{self, Narrow, Station, Works};
use super::credits::Credits;
use super::device_side::{DeviceSide, Writability};
use super::handoff::Handoff;
use super::health::{Health, Status};
use super::inbox::{Entry, Inbox, inbox};
use super::layer_loop::{EntryPort, LayerLoop, Nowhere, Pace, Port, Reins};
use super::marks::{DirtyList, DirtyReader};
use super::messages::{Message, Stage};
use super::receive_thread::{Entries, ReceiveThread};
use super::reception::Reception;
use super::seat::{Chair, Grace, Seat};
use super::trouble::{Trouble, guarded};
use crate::config::{Config, PipelineConfig};
use crate::counters::{Counter, Counters};
use crate::device::{DeviceOffload, HostWait, OpenDevice, Waits, Waker};
use crate::layer::{Layer, Observer, Outbox};
use crate::link::Link;
use crate::network::Network;
use crate::network::topology::Topology;
use crate::packet::Pool;
use crate::random::SecretRandom;
use crate::transport::shared::{DeviceRoom, Failure};
use crate::transport::{self, Transport};
use crate::{link, network};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The names of the threads.
const TRANSPORT: &str = "hopline-transport";
const NETWORK: &str = "hopline-net";
const LINK: &str = "hopline-link";
const RECEIVE: &str = "hopline-rx";
/// How long shutdown waits for resets to be sent.
const RESET_TIME: Duration = Duration::from_millis(500);
/// How long a layer may take for what is in its inbox when it is told to stop.
const DRAIN_TIME: Duration = Duration::from_millis(200);

/// The inboxes of the three layers.
pub(crate) struct Inboxes {
    pub(crate) entries: Entries,
    link: Inbox<link::Message>,
    network: Inbox<network::Message>,
    transport: Inbox<transport::Message>,
}

impl Inboxes {
    /// Inboxes as large as what may be inside.
    pub(crate) fn new(config: &PipelineConfig) -> Inboxes {
        let lent = config.credit_packets.max(1) + config.device_room_packets;
        let (link_entry, link) = inbox(lent, config.own_packets + config.fragment_packets);
        let (network_entry, network) = inbox(lent, config.own_packets);
        // What a program sends to our own address turns round in the network layer, and comes up with its room.
        let (transport_entry, transport) = inbox(lent, config.own_packets);
        Inboxes { entries: Entries { link: link_entry, network: network_entry, transport: transport_entry }, link, network, transport }
    }
}

/// What a pipeline is started with.
pub(crate) struct Plan {
    pub(crate) device: OpenDevice,
    pub(crate) offload: DeviceOffload,
    pub(crate) config: Arc<Config>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) pool: Pool,
    pub(crate) random: SecretRandom,
    pub(crate) marks: Arc<DirtyList>,
    pub(crate) device_room: Arc<DeviceRoom>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) clock: RealClock,
    pub(crate) health: Arc<Health>,
    /// Where programs' threads receive, if they are to.
    pub(crate) seat: Arc<Seat>,
    pub(crate) inboxes: Inboxes,
}

/// The running threads of one stack.
pub(crate) struct Pipeline {
    entries: Entries,
    reins: [Arc<Reins>; 3],
    stop_receiving: Arc<AtomicBool>,
    waker: Arc<dyn Waker>,
    trouble: Arc<Trouble>,
    works: Arc<Works>,
    threads: Mutex<Threads>,
}

/// What the four threads run.
struct Loops {
    link: LayerLoop<Link, ()>,
    network: LayerLoop<Network, ()>,
    transport: LayerLoop<Transport, DirtyReader>,
    receive: ReceiveThread,
    /// Messages that a thread which receives handles at once.
    quota: usize,
}

/// The layers, the one at the device first.
type Layers = (LayerLoop<Link, ()>, LayerLoop<Network, ()>, LayerLoop<Transport, DirtyReader>);

/// What all layer loops have alike.
struct Tools {
    clock: RealClock,
    batch_messages: usize,
    counters: Arc<Counters>,
    observer: Option<Arc<dyn Observer>>,
}

/// Where a layer's messages go, up and down.
type Ports<L> = (Box<dyn Port<<L as Layer>::Up>>, Box<dyn Port<<L as Layer>::Down>>);

impl Tools {
    fn outbox<U, D>(&self) -> Outbox<U, D> {
        let mut out = Outbox::new(self.counters.clone());
        out.set_observer(self.observer.clone());
        out
    }

    fn port<M: Message + 'static>(&self, entry: &Entry<M>) -> Box<dyn Port<M>> {
        Box::new(EntryPort::new(entry.clone(), self.counters.clone()))
    }

    /// `layer` with what comes to it, from its inbox and beside it, with its ports up and down, and with the counter of its thread's wake-ups.
    fn looper<L: Stage, X>(
        &self,
        layer: L,
        (inbox, extra): (Inbox<L::Message>, X),
        (up, down): Ports<L>,
        wakeups: fn(&Counters) -> &Counter,
        reins: &Arc<Reins>,
    ) -> LayerLoop<L, X> {
        let pace = Pace { clock: self.clock, batch_messages: self.batch_messages, wakeups };
        LayerLoop { layer, inbox, laid: VecDeque::new(), extra, out: self.outbox(), up, down, pace, reins: reins.clone() }
    }
}

#[derive(Default)]
struct Threads {
    transport: Option<JoinHandle<Option<Transport>>>,
    /// Whether the layer was sound at its end.
    network: Option<JoinHandle<bool>>,
    link: Option<JoinHandle<bool>>,
    receive: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts the four threads.
    pub(crate) fn start(plan: Plan) -> io::Result<Pipeline> {
        let pipeline = Pipeline {
            entries: plan.inboxes.entries.clone(),
            reins: Default::default(),
            stop_receiving: Arc::default(),
            waker: plan.device.waker.clone(),
            trouble: Trouble::new(plan.health.clone(), plan.inboxes.entries.transport.clone()),
            works: Arc::default(),
            threads: Mutex::default(),
        };
        pipeline.announce(&plan.topology);
        let marks = plan.marks.clone();
        let handoff = plan.config.pipeline.handoff;
        let loops = pipeline.assemble(plan);
        pipeline.spawn(handoff, loops, marks)?;
        Ok(pipeline)
    }

    fn assemble(&self, plan: Plan) -> Loops {
        let Plan {
            device,
            offload,
            config,
            topology,
            pool,
            mut random,
            marks,
            device_room,
            counters,
            observer,
            clock,
            health,
            seat,
            inboxes,
        } = plan;
        let OpenDevice { receiver, sender, waker } = device;
        if !offload.tcp_segmentation_ipv4 {
            self.works.leave_bulk_out(seat.clone());
        }
        let Inboxes { entries, link, network, transport } = inboxes;
        let tools = Tools { clock, batch_messages: config.pipeline.batch_messages.max(1), counters: counters.clone(), observer };
        let writability = Arc::new(Writability::default());
        let own_limit = config.pipeline.own_packets + config.pipeline.fragment_packets;
        let device_side = DeviceSide::new(sender, waker.clone(), writability.clone(), counters.clone(), own_limit);
        let link_layer = Link::new(config.link.clone(), topology.medium, topology.mtu, pool.clone(), random.split());
        let network_layer = Network::new(config.network.clone(), topology.clone(), pool.clone(), random.split());
        let transport_layer = Transport::new(&config, topology, pool.clone(), random.split(), marks.clone(), device_room);
        let credits = Credits::new(config.pipeline.credit_packets, config.pipeline.credit_bytes, waker.clone());
        let batch_frames = config.pipeline.receive_batch_frames.max(1);
        let reception = Reception::new(receiver, pool, credits, entries.link.clone(), clock, counters, batch_frames);
        let reception = Arc::new(Mutex::new(reception));
        let quota = batch_frames.max(tools.batch_messages);
        let programs_receive = config.pipeline.handoff == Handoff::Combining && config.pipeline.programs_receive;
        let host = if programs_receive { self.furnish(&seat, &reception, waker, quota) } else { None };
        Loops {
            link: tools.looper(
                link_layer,
                (link, ()),
                (tools.port(&entries.network), Box::new(device_side)),
                |counters| &counters.pipeline.link_wakeups,
                self.link_reins(),
            ),
            network: tools.looper(
                network_layer,
                (network, ()),
                (tools.port(&entries.transport), tools.port(&entries.link)),
                |counters| &counters.pipeline.network_wakeups,
                self.network_reins(),
            ),
            transport: tools.looper(
                transport_layer,
                (transport, DirtyReader::new(marks)),
                (Box::new(Nowhere), tools.port(&entries.network)),
                |counters| &counters.pipeline.transport_wakeups,
                self.transport_reins(),
            ),
            receive: ReceiveThread {
                reception,
                wait: host,
                seat,
                grace: None,
                entries,
                writability,
                stop: self.stop_receiving.clone(),
                health,
            },
            quota,
        }
    }

    /// Lets programs receive, where the device can wait apart from reading: what the receive thread waits with then.
    fn furnish(&self, seat: &Seat, reception: &Arc<Mutex<Reception>>, waker: Arc<dyn Waker>, quota: usize) -> Option<Box<dyn HostWait>> {
        let mut parts = reception.lock();
        let Waits { host, guest } = parts.receiver.part()?;
        let chair = Chair {
            grace: Grace::default(),
            reception: reception.clone(),
            link: self.entries.link.clone(),
            waker,
            quota,
            counters: parts.counters.clone(),
            trouble: self.trouble.clone(),
        };
        seat.furnish(guest, chair);
        Some(host)
    }

    fn spawn(&self, handoff: Handoff, loops: Loops, marks: Arc<DirtyList>) -> io::Result<()> {
        let Loops { link, network, transport, mut receive, quota } = loops;
        let mut threads = self.threads.lock();
        match handoff {
            Handoff::Queue => self.spawn_loops(&mut threads, (link, network, transport), marks)?,
            Handoff::Combining => {
                self.spawn_stations(&mut threads, quota, (link, network, transport), &mut receive.reception.lock().link, marks)?;
            }
        }
        let trouble = self.trouble.clone();
        threads.receive = Some(named(RECEIVE, move || {
            combining::set_quota(quota);
            guarded(RECEIVE, &trouble, || receive.run());
            receive.seat.close();
        })?);
        Ok(())
    }

    /// Each thread owns its layer.
    fn spawn_loops(&self, threads: &mut Threads, layers: Layers, marks: Arc<DirtyList>) -> io::Result<()> {
        let (mut link, mut network, mut transport) = layers;
        let trouble = || self.trouble.clone();
        let in_transport = trouble();
        threads.transport = Some(named(TRANSPORT, move || {
            let sound = guarded(TRANSPORT, &in_transport, || transport.run());
            end_transport(transport, sound, &marks, &in_transport)
        })?);
        let in_network = trouble();
        threads.network = Some(named(NETWORK, move || guarded(NETWORK, &in_network, || network.run()))?);
        let in_link = trouble();
        threads.link = Some(named(LINK, move || guarded(LINK, &in_link, || link.run()))?);
        Ok(())
    }

    /// The layers stand where every thread reaches them.
    fn spawn_stations(
        &self,
        threads: &mut Threads,
        quota: usize,
        layers: Layers,
        frames: &mut EntryPort<link::Message>,
        marks: Arc<DirtyList>,
    ) -> io::Result<()> {
        let (link, network, transport) = layers;
        let (works, trouble) = (&self.works, &self.trouble);
        let link = Station::new(LINK, self.entries.link.clone(), link, trouble.clone(), works, Narrow);
        let network = Station::new(NETWORK, self.entries.network.clone(), network, trouble.clone(), works, Narrow);
        let transport = Station::new(TRANSPORT, self.entries.transport.clone(), transport, trouble.clone(), works, Narrow);
        frames.connect(link.clone());
        link.connect(Some(network.clone()), None);
        network.connect(Some(transport.clone()), Some(link.clone()));
        transport.connect(None, Some(network.clone()));
        works.open(vec![link.clone(), network.clone(), transport.clone()]);
        let (of_transport, in_transport) = (works.clone(), trouble.clone());
        threads.transport = Some(named(TRANSPORT, move || {
            combining::set_quota(quota);
            let (looper, sound) = transport.serve(&of_transport)?;
            end_transport(looper, sound, &marks, &in_transport)
        })?);
        let of_network = works.clone();
        threads.network = Some(named(NETWORK, move || {
            combining::set_quota(quota);
            network.serve(&of_network).is_some_and(|(_, sound)| sound)
        })?);
        let of_link = works.clone();
        threads.link = Some(named(LINK, move || {
            combining::set_quota(quota);
            link.serve(&of_link).is_some_and(|(_, sound)| sound)
        })?);
        Ok(())
    }

    /// The link layer learns our addresses; later changes reach it through the network layer.
    fn announce(&self, topology: &Topology) {
        let addresses = topology.addresses.iter().map(|own| own.address).collect();
        self.entries.link.post(link::Message::Addresses(addresses));
    }

    /// Replaces addresses and routes.
    pub(crate) fn set_topology(&self, topology: Arc<Topology>) {
        self.entries.network.post(network::Message::Topology(topology));
    }

    fn link_reins(&self) -> &Arc<Reins> {
        let [link, _, _] = &self.reins;
        link
    }

    fn network_reins(&self) -> &Arc<Reins> {
        let [_, network, _] = &self.reins;
        network
    }

    fn transport_reins(&self) -> &Arc<Reins> {
        let [_, _, transport] = &self.reins;
        transport
    }

    /// Closes every connection, resets what is left after `grace`, ends and joins the threads. A second call waits for the first and finds nothing to do.
    /// The error is a thread's panic.
    pub(crate) fn shutdown(&self, grace: Duration) -> io::Result<()> {
        let mut threads = self.threads.lock();
        self.trouble.health().worsen(Status::Closing);
        if threads.is_current() {
            return Err(io::Error::other("a stack cannot be shut down by one of its own threads"));
        }
        if threads.transport.is_some() {
            self.close_connections(grace);
        }
        self.stop_all(&mut threads);
        self.trouble.outcome()
    }

    /// Ends the grace that a shutdown in another thread is waiting for.
    pub(crate) fn hurry(&self) {
        self.transport_reins().hurry(true);
    }

    fn close_connections(&self, grace: Duration) {
        let reins = self.transport_reins();
        reins.ask_for_quiet();
        self.entries.transport.post(transport::Message::CloseAll);
        let quiet = reins.wait_quiet(grace);
        reins.hurry(false);
        if !quiet {
            self.entries.transport.post(transport::Message::AbortAll);
            reins.wait_quiet(RESET_TIME);
        }
    }

    fn stop_all(&self, threads: &mut Threads) {
        let deadline = || Instant::now() + DRAIN_TIME;
        self.transport_reins().stop(deadline());
        self.entries.transport.summon();
        let transport = threads.transport.take().map(JoinHandle::join);
        self.network_reins().stop(deadline());
        self.entries.network.summon();
        let network = threads.network.take().map(JoinHandle::join);
        self.link_reins().stop(deadline());
        self.entries.link.summon();
        let link = threads.link.take().map(JoinHandle::join);
        self.stop_receiving.store(true, Ordering::SeqCst);
        self.waker.wake();
        let receive = threads.receive.take().map(|thread| {
            thread.thread().unpark();
            thread.join()
        });
        self.works.clear();
        // The transport layer, and with it the ports it held, goes last.
        drop((receive, link, network, transport));
    }
}

impl Drop for Pipeline {
    /// Ends threads that nobody shut down: those of a start that failed half-way.
    fn drop(&mut self) {
        let mut threads = std::mem::take(&mut *self.threads.lock());
        if !threads.is_current() {
            self.stop_all(&mut threads);
        }
    }
}

impl Threads {
    fn is_current(&self) -> bool {
        let current = std::thread::current().id();
        let is = |id: Option<std::thread::ThreadId>| id == Some(current);
        is(self.transport.as_ref().map(|thread| thread.thread().id()))
            || is(self.receive.as_ref().map(|thread| thread.thread().id()))
            || [&self.network, &self.link].iter().any(|thread| is(thread.as_ref().map(|thread| thread.thread().id())))
    }
}

fn named<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// However the transport layer ends, no socket is left waiting. Gives the layer back, for the ports that it holds, unless it panicked.
fn end_transport(mut looper: LayerLoop<Transport, DirtyReader>, sound: bool, marks: &DirtyList, trouble: &Trouble) -> Option<Transport> {
    let reins = looper.reins.clone();
    let failure = if sound { Failure::Aborted } else { Failure::StackFailed };
    let told = guarded(TRANSPORT, trouble, || looper.last_message(transport::Message::FailAll(failure)));
    marks.close(failure);
    looper.extra.fail_rest(failure);
    reins.report_quiet();
    (sound && told).then_some(looper.layer)
}

impl Stage for Link {}

impl Stage for Network {}

impl Stage for Transport {
    fn is_quiet(&self) -> bool {
        Transport::is_quiet(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Cast;
    use crate::network::Delivery;
    use crate::packet::{Account, Guard, Packet};
    use crate::pipeline::inbox::Refusal;
    use crate::wire::Protocol;
    use std::net::{IpAddr, Ipv4Addr};

    struct Lender;

    impl Account for Lender {
        fn give_back(&self, _bytes: usize) {}
    }

    fn lent() -> transport::Message {
        let ourselves = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let mut packet = Packet::default();
        packet.guard = Some(Guard::new(Arc::new(Lender), 0));
        transport::Message::Received(Delivery {
            source: ourselves,
            destination: ourselves,
            protocol: Protocol::UDP,
            time_to_live: 64,
            traffic_class: 0,
            cast: Cast::Unicast,
            packet,
        })
    }

    #[test]
    fn what_the_device_and_ourselves_lend_fits_the_topmost_inbox() {
        let config = PipelineConfig { credit_packets: 2, device_room_packets: 3, ..PipelineConfig::default() };
        let inboxes = Inboxes::new(&config);
        assert!((0..5).all(|_| inboxes.entries.transport.send(lent()).is_ok()));
        assert!(inboxes.entries.transport.send(lent()).is_err_and(|refused| refused.cause == Refusal::Overflow));
    }
}
