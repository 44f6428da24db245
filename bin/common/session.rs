//! The stack that the network options describe.

use super::attach::{attach, name_servers};
use super::log::{LogObserver, LogSpec};
use super::options::{NetworkOptions, Switch};
use super::{Interrupt, StartFailure, tell};
use hopline::app::lab::{DeviceWrap, Lab, LabOptions};
use hopline::app::tls::TlsOptions;
use hopline::config::Config;
use hopline::device::Device;
use hopline::device::capture::{Capture, Recorder};
use hopline::device::virtual_link::{Impairments, LinkOptions};
use hopline::layer::Observer;
use hopline::resolver::{Answer, Hosts, Resolver, ResolverConfig};
use hopline::socket::{Stack, StackBuilder};
use hopline::wire::dns::RecordType;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A running stack, and what belongs to it.
pub(crate) struct Session {
    stack: Stack,
    resolver: Arc<Resolver>,
    lab: Option<Lab>,
    recorder: Option<Recorder>,
    interrupt: Interrupt,
    notes: Vec<String>,
}

/// Ends a stack in order: for the program's end and for its interruption.
#[derive(Clone)]
pub(crate) struct Closer {
    stack: Stack,
    recorder: Option<Recorder>,
}

impl Closer {
    /// Closes every connection, waits for that at most `grace`, and completes the capture. What goes wrong is told on standard error.
    pub(crate) fn close(&self, grace: Duration) {
        let recorded = || self.recorder.as_ref().map_or(Ok(()), Recorder::finish);
        if let Err(error) = self.stack.shutdown(grace).and_then(|()| recorded()) {
            tell(format_args!("the stack did not end in order: {error}"));
        }
    }
}

impl Session {
    /// Starts what the options describe. `program` is for warnings; `hint` is where the program will go, as far as that is known without asking
    /// anybody: it chooses the interface where the options do not.
    pub(crate) fn open(program: &str, options: &NetworkOptions, hint: Option<IpAddr>) -> Result<Session, StartFailure> {
        let interrupt = Interrupt::install();
        let observers = observers(options)?;
        if options.lab {
            return Session::open_lab(options, observers, interrupt);
        }
        let (config, notes) = resolver_config(&options.dns)?;
        let resolver = Arc::new(Resolver::new(config, Hosts::of_system())?);
        let builder = observers.into_iter().fold(Stack::builder(), StackBuilder::observer).resolver(resolver.clone());
        let builder = builder.config(stack_config(options));
        let builder = resolver.config().servers.iter().fold(builder, |builder, server| builder.dns(server.ip()));
        let builder = options.mtu.into_iter().fold(builder, |builder, mtu| builder.mtu(mtu.into()));
        let (builder, device) = attach(program, builder, options, hint)?;
        let (builder, recorder) = record(builder, device, options)?;
        let stack = builder.start().map_err(|error| StartFailure(format!("cannot start the stack: {error}")))?;
        Ok(Session { stack, resolver, lab: None, recorder, interrupt, notes })
    }

    fn open_lab(options: &NetworkOptions, observers: Vec<Arc<dyn Observer>>, interrupt: Interrupt) -> Result<Session, StartFailure> {
        let made = Arc::new(OnceLock::new());
        let mut lab = lab_options(options, observers)?;
        lab.wrap = options.capture.clone().map(|path| wrap_in_capture(path, made.clone()));
        let lab = Lab::start(lab).map_err(|error| StartFailure(format!("cannot start the lab: {error}")))?;
        let (stack, resolver, recorder) = (lab.stack().clone(), lab.resolver().clone(), made.get().cloned());
        Ok(Session { stack, resolver, lab: Some(lab), recorder, interrupt, notes: Vec::new() })
    }

    /// What ends the stack.
    pub(crate) fn closer(&self) -> Closer {
        Closer { stack: self.stack.clone(), recorder: self.recorder.clone() }
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// What a user may want to know about how the stack was made.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The lab's authority in the lab, the system's roots elsewhere.
    pub(crate) fn tls_options(&self) -> TlsOptions {
        self.lab.as_ref().map_or_else(TlsOptions::default, Lab::tls_options)
    }

    /// Records by name and type.
    pub(crate) fn lookup(&self, name: &str, kind: RecordType) -> io::Result<Answer> {
        self.resolver.lookup(&self.stack, name, kind)
    }

    /// Ends the stack. If a signal has come, its ending does that, and ends the program.
    pub(crate) fn close(self, code: i32) -> i32 {
        while self.interrupt.has_come() {
            std::thread::park();
        }
        let grace = Config::default().pipeline.shutdown_grace;
        self.closer().close(grace);
        if let Some(Err(error)) = self.lab.map(|lab| lab.shutdown(grace)) {
            tell(format_args!("the lab did not end in order: {error}"));
        }
        code
    }
}

fn observers(options: &NetworkOptions) -> Result<Vec<Arc<dyn Observer>>, StartFailure> {
    let Some(text) = &options.log else { return Ok(Vec::new()) };
    let spec = LogSpec::parse(text).map_err(|error| StartFailure(format!("--log: {error}")))?;
    Ok(vec![Arc::new(LogObserver::to_standard_error(spec))])
}

fn lab_options(options: &NetworkOptions, observers: Vec<Arc<dyn Observer>>) -> Result<LabOptions, StartFailure> {
    let wanted = &options.impairments;
    let delay = Duration::try_from_secs_f64(wanted.lab_delay / 1e3).map_err(|error| StartFailure(format!("--lab-delay: {error}")))?;
    let impairments = Impairments {
        loss: wanted.lab_loss / 100.0,
        delay,
        rate_bits_per_second: wanted.lab_rate.map(|megabits| (megabits.max(0.001) * 1e6) as u64),
        ..Impairments::default()
    };
    let mut link = LinkOptions { seed: wanted.lab_seed, offload: options.offload == Switch::On, ..LinkOptions::default() };
    link.mtu = options.mtu.map_or(link.mtu, usize::from);
    Ok(LabOptions { impairments, link, config: stack_config(options), observers, ..LabOptions::default() })
}

fn stack_config(options: &NetworkOptions) -> Config {
    let mut config = Config::default();
    config.pipeline.handoff = options.handoff.into();
    config.pipeline.programs_receive = options.programs_receive == Switch::On;
    config
}

/// Writes what passes through the lab's device to a file, whose recorder goes to `made`.
fn wrap_in_capture(path: PathBuf, made: Arc<OnceLock<Recorder>>) -> DeviceWrap {
    Box::new(move |device| {
        let capture = capture(device, &path)?;
        let recorder = made.get_or_init(|| capture.recorder()).clone();
        Ok((Box::new(capture), Arc::new(recorder)))
    })
}

fn capture(device: Box<dyn Device>, path: &Path) -> io::Result<Capture> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("--capture {}: {error}", path.display()));
    Capture::new(device, File::create(path).map_err(named)?).map_err(named)
}

/// Gives the builder its device, within a capture if one is wanted.
fn record(
    builder: StackBuilder,
    device: Box<dyn Device>,
    options: &NetworkOptions,
) -> Result<(StackBuilder, Option<Recorder>), StartFailure> {
    let Some(path) = &options.capture else { return Ok((builder.boxed_device(device), None)) };
    let capture = capture(device, path)?;
    let recorder = capture.recorder();
    Ok((builder.observer(Arc::new(recorder.clone())).device(capture), Some(recorder)))
}

/// The servers given, else the host's. Those on the host's loopback are asked through the host's own sockets.
fn resolver_config(given: &[IpAddr]) -> Result<(ResolverConfig, Vec<String>), StartFailure> {
    if !given.is_empty() {
        return Ok((ResolverConfig::for_servers(given), Vec::new()));
    }
    let own = std::fs::read_to_string("/etc/resolv.conf").map(|text| ResolverConfig::parse(&text)).unwrap_or_default();
    let (addresses, notes) = name_servers();
    let servers = ResolverConfig::for_servers(&addresses).servers;
    Ok((ResolverConfig { servers, ..own }, notes))
}
