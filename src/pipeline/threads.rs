//! Starting and stopping the threads of a stack.
//!
//! Owns the join handles. Shutdown goes from the top down, so that each layer's last packets still find the layer below: connections are closed, what
//! is left is reset, then transport, network, link and receive thread end in this order, and only then is the transport layer dropped with the
//! ports that it held (so that the host does not answer for us what the peer still sends).

use super::clock::RealClock;
use super::credits::Credits;
use super::device_side::{DeviceSide, Writability};
use super::handoff::{Entry, Inbox, inbox};
use super::health::{Health, Status};
use super::layer_loop::{EntryPort, Extra, LayerLoop, Nowhere, Pace, Port, Reins};
use super::marks::{DirtyList, DirtyReader};
use super::messages::{Message, Stage};
use super::receive_thread::{Entries, ReceiveThread};
use crate::config::{Config, PipelineConfig};
use crate::counters::{Counter, Counters};
use crate::device::{OpenDevice, Waker};
use crate::layer::{Observer, Outbox};
use crate::link::Link;
use crate::network::Network;
use crate::network::topology::Topology;
use crate::packet::Pool;
use crate::random::SecretRandom;
use crate::transport::shared::{DeviceRoom, Failure};
use crate::transport::{self, Transport};
use crate::{link, network};
use parking_lot::Mutex;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    pub(crate) inboxes: Inboxes,
}

/// The running threads of one stack.
pub(crate) struct Pipeline {
    entries: Entries,
    reins: [Arc<Reins>; 3],
    stop_receiving: Arc<AtomicBool>,
    waker: Arc<dyn Waker>,
    trouble: Arc<Trouble>,
    threads: Mutex<Threads>,
}

/// What the four threads run.
struct Loops {
    link: LayerLoop<Link, ()>,
    network: LayerLoop<Network, ()>,
    transport: LayerLoop<Transport, DirtyReader>,
    receive: ReceiveThread,
}

/// What all layer loops have alike.
struct Tools {
    clock: RealClock,
    batch_messages: usize,
    counters: Arc<Counters>,
    observer: Option<Arc<dyn Observer>>,
}

impl Tools {
    fn outbox<U, D>(&self) -> Outbox<U, D> {
        let mut out = Outbox::new(self.counters.clone());
        out.set_observer(self.observer.clone());
        out
    }

    fn port<M: Message + 'static>(&self, entry: &Entry<M>) -> Box<dyn Port<M>> {
        Box::new(EntryPort { entry: entry.clone(), counters: self.counters.clone() })
    }

    fn pace(&self, wakeups: fn(&Counters) -> &Counter) -> Pace {
        Pace { clock: self.clock, batch_messages: self.batch_messages, wakeups }
    }
}

#[derive(Default)]
struct Threads {
    transport: Option<JoinHandle<Option<Transport>>>,
    network: Option<JoinHandle<()>>,
    link: Option<JoinHandle<()>>,
    receive: Option<JoinHandle<()>>,
}

/// Where a thread's panic goes.
struct Trouble {
    health: Arc<Health>,
    transport: Entry<transport::Message>,
    panics: Mutex<Vec<String>>,
}

impl Pipeline {
    /// Starts the four threads.
    pub(crate) fn start(plan: Plan) -> io::Result<Pipeline> {
        let pipeline = Pipeline {
            entries: plan.inboxes.entries.clone(),
            reins: Default::default(),
            stop_receiving: Arc::default(),
            waker: plan.device.waker.clone(),
            trouble: Arc::new(Trouble {
                health: plan.health.clone(),
                transport: plan.inboxes.entries.transport.clone(),
                panics: Mutex::default(),
            }),
            threads: Mutex::default(),
        };
        pipeline.announce(&plan.topology);
        let marks = plan.marks.clone();
        let loops = pipeline.assemble(plan);
        pipeline.spawn(loops, marks)?;
        Ok(pipeline)
    }

    fn assemble(&self, plan: Plan) -> Loops {
        let Plan { device, config, topology, pool, mut random, marks, device_room, counters, observer, clock, health, inboxes } = plan;
        let OpenDevice { receiver, sender, waker } = device;
        let Inboxes { entries, link, network, transport } = inboxes;
        let tools = Tools { clock, batch_messages: config.pipeline.batch_messages.max(1), counters: counters.clone(), observer };
        let writability = Arc::new(Writability::default());
        let own_limit = config.pipeline.own_packets + config.pipeline.fragment_packets;
        let device_side = DeviceSide::new(sender, waker.clone(), writability.clone(), counters.clone(), own_limit);
        let link_layer = Link::new(config.link.clone(), topology.medium, topology.mtu, pool.clone(), random.split());
        let network_layer = Network::new(config.network.clone(), topology.clone(), pool.clone(), random.split());
        let transport_layer = Transport::new(&config, topology, pool.clone(), random.split(), marks.clone(), device_room);
        Loops {
            link: LayerLoop {
                layer: link_layer,
                inbox: link,
                extra: (),
                out: tools.outbox(),
                up: tools.port(&entries.network),
                down: Box::new(device_side),
                pace: tools.pace(|counters| &counters.pipeline.link_wakeups),
                reins: self.link_reins().clone(),
            },
            network: LayerLoop {
                layer: network_layer,
                inbox: network,
                extra: (),
                out: tools.outbox(),
                up: tools.port(&entries.transport),
                down: tools.port(&entries.link),
                pace: tools.pace(|counters| &counters.pipeline.network_wakeups),
                reins: self.network_reins().clone(),
            },
            transport: LayerLoop {
                layer: transport_layer,
                inbox: transport,
                extra: DirtyReader::new(marks),
                out: tools.outbox(),
                up: Box::new(Nowhere),
                down: tools.port(&entries.network),
                pace: tools.pace(|counters| &counters.pipeline.transport_wakeups),
                reins: self.transport_reins().clone(),
            },
            receive: ReceiveThread {
                receiver,
                pool,
                credits: Credits::new(config.pipeline.credit_packets, config.pipeline.credit_bytes, waker),
                entries,
                writability,
                stop: self.stop_receiving.clone(),
                clock,
                counters,
                health,
                batch_frames: config.pipeline.receive_batch_frames.max(1),
            },
        }
    }

    fn spawn(&self, loops: Loops, marks: Arc<DirtyList>) -> io::Result<()> {
        let Loops { mut link, mut network, transport, mut receive } = loops;
        let mut threads = self.threads.lock();
        let trouble = || self.trouble.clone();
        let in_transport = trouble();
        threads.transport = Some(named("hopline-transport", move || drive_transport(transport, &marks, &in_transport))?);
        let in_network = trouble();
        threads.network = Some(named("hopline-net", move || {
            drive("hopline-net", &mut network, &in_network);
        })?);
        let in_link = trouble();
        threads.link = Some(named("hopline-link", move || {
            drive("hopline-link", &mut link, &in_link);
        })?);
        let in_receive = trouble();
        threads.receive = Some(named("hopline-rx", move || {
            guarded("hopline-rx", &in_receive, || receive.run());
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
        self.trouble.health.worsen(Status::Closing);
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
        self.entries.transport.kick();
        let transport = threads.transport.take().map(JoinHandle::join);
        self.network_reins().stop(deadline());
        self.entries.network.kick();
        let network = threads.network.take().map(JoinHandle::join);
        self.link_reins().stop(deadline());
        self.entries.link.kick();
        let link = threads.link.take().map(JoinHandle::join);
        self.stop_receiving.store(true, Ordering::SeqCst);
        self.waker.wake();
        let receive = threads.receive.take().map(|thread| {
            thread.thread().unpark();
            thread.join()
        });
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
            || [&self.network, &self.link, &self.receive].iter().any(|thread| is(thread.as_ref().map(|thread| thread.thread().id())))
    }
}

impl Trouble {
    /// Notes a panic: the stack has failed, and every socket is to know it.
    fn report(&self, thread: &str, panic: Box<dyn Any + Send>) {
        self.panics.lock().push(format!("the thread {thread} panicked: {}", panic_text(&*panic)));
        self.health.worsen(Status::Failed);
        self.transport.post(transport::Message::FailAll(Failure::StackFailed));
    }

    fn outcome(&self) -> io::Result<()> {
        let panics = std::mem::take(&mut *self.panics.lock());
        if panics.is_empty() { Ok(()) } else { Err(io::Error::other(panics.join("; "))) }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "for a reason that is no text",
    }
}

fn named<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Runs `body`; a panic ends it, and the stack with it. True if there was none.
fn guarded(thread: &str, trouble: &Trouble, body: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => true,
        Err(panic) => {
            trouble.report(thread, panic);
            false
        }
    }
}

fn drive<L: Stage, X: Extra<L::Message>>(thread: &str, looper: &mut LayerLoop<L, X>, trouble: &Trouble) -> bool
where
    L::Message: Message,
{
    guarded(thread, trouble, || looper.run())
}

/// Drives the transport layer; however it ends, no socket is left waiting. Gives the layer back, for the ports that it holds, unless it panicked.
fn drive_transport(mut looper: LayerLoop<Transport, DirtyReader>, marks: &DirtyList, trouble: &Trouble) -> Option<Transport> {
    let reins = looper.reins.clone();
    let sound = drive("hopline-transport", &mut looper, trouble);
    let failure = if sound { Failure::Aborted } else { Failure::StackFailed };
    let told = guarded("hopline-transport", trouble, || looper.last_message(transport::Message::FailAll(failure)));
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
    use crate::pipeline::handoff::Refusal;
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
