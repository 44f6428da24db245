//! What happens inside, told to loggers.

use crate::layer::{Event, Level, Observer};
use crate::time::Instant;
use slog::Logger;
use std::sync::Arc;

/// Turns events into records of a [`slog::Logger`]: the component is the key `layer`, so that a filter can choose by it.
pub struct SlogObserver {
    logger: Logger,
}

impl SlogObserver {
    /// Logs to `logger`. It must not block: put `slog-async` in front of what can.
    pub fn new(logger: Logger) -> SlogObserver {
        SlogObserver { logger }
    }
}

impl Observer for SlogObserver {
    fn observe(&self, _now: Instant, event: &Event<'_>) {
        match event {
            Event::Log { component, level, text } => self.log(component, *level, text),
            Event::Dropped { reason, packet } => {
                slog::debug!(self.logger, "dropped: {}", reason.text(); "layer" => "drop", "packet" => packet.number, "bytes" => packet.len());
            }
            Event::Retransmitted { number, cause } => {
                slog::debug!(self.logger, "sent again: {}", cause; "layer" => "tcp", "packet" => number);
            }
        }
    }
}

impl SlogObserver {
    fn log(&self, component: &'static str, level: Level, text: &std::fmt::Arguments<'_>) {
        match level {
            Level::Warning => slog::warn!(self.logger, "{}", text; "layer" => component),
            Level::Info => slog::info!(self.logger, "{}", text; "layer" => component),
            Level::Debug => slog::debug!(self.logger, "{}", text; "layer" => component),
            Level::Trace => slog::trace!(self.logger, "{}", text; "layer" => component),
        }
    }
}

/// Several observers as one.
pub(super) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// One for all; none if there are none, so that events are not even built.
    pub(super) fn join(mut observers: Vec<Arc<dyn Observer>>) -> Option<Arc<dyn Observer>> {
        if observers.len() > 1 { Some(Arc::new(Observers(observers))) } else { observers.pop() }
    }
}

impl Observer for Observers {
    fn observe(&self, now: Instant, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.observe(now, event));
    }
}
