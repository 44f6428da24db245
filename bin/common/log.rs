//! What the layers tell, as log lines on standard error.

use hopline::layer::{Event, Level, Observer};
use hopline::socket::SlogObserver;
use hopline::time::Instant;
use slog::{Drain, Logger, o};
use std::collections::HashMap;
use std::io::{self, IsTerminal};

/// Lines that may wait for a slow terminal; beyond it they are dropped, and slog-async says how many.
const LINES_WAITING: usize = 16_384;

/// Which layers may speak how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSpec {
    everybody: Option<Level>,
    components: HashMap<String, Option<Level>>,
}

impl LogSpec {
    /// Reads `debug`, `tcp=debug,arp=trace`, `info,tcp=off`.
    pub(crate) fn parse(text: &str) -> Result<LogSpec, String> {
        let mut spec = LogSpec { everybody: None, components: HashMap::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((component, level)) => {
                    spec.components.insert(component.to_owned(), parse_level(level)?);
                }
                None => spec.everybody = parse_level(part)?,
            }
        }
        Ok(spec)
    }

    fn lets_pass(&self, component: &str, level: Level) -> bool {
        let limit = self.components.get(component).copied().unwrap_or(self.everybody);
        limit.is_some_and(|limit| level <= limit)
    }
}

fn parse_level(text: &str) -> Result<Option<Level>, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(None),
        "warning" | "warn" => Ok(Some(Level::Warning)),
        "info" => Ok(Some(Level::Info)),
        "debug" => Ok(Some(Level::Debug)),
        "trace" => Ok(Some(Level::Trace)),
        _ => Err(format!("{text:?} is not a log level: use warning, info, debug, trace or off")),
    }
}

/// Lets pass what the spec allows, to standard error, by slog-async, so that no layer waits for a terminal.
pub(crate) struct LogObserver {
    spec: LogSpec,
    inner: SlogObserver,
}

impl LogObserver {
    /// Coloured if standard error is a terminal. Dropping the observer writes what is left.
    pub(crate) fn to_standard_error(spec: LogSpec) -> LogObserver {
        let builder = slog_term::TermDecorator::new().stderr();
        let decorator = if io::stderr().is_terminal() { builder.force_color().build() } else { builder.force_plain().build() };
        let drain = slog_term::FullFormat::new(decorator).build().fuse();
        let drain = slog_async::Async::new(drain).chan_size(LINES_WAITING).build().fuse();
        LogObserver { spec, inner: SlogObserver::new(Logger::root(drain, o!())) }
    }
}

impl Observer for LogObserver {
    fn observe(&self, now: Instant, event: &Event<'_>) {
        let passes = match event {
            Event::Log { component, level, .. } => self.spec.lets_pass(component, *level),
            Event::Dropped { .. } => self.spec.lets_pass("drop", Level::Debug),
            Event::Retransmitted { .. } => self.spec.lets_pass("tcp", Level::Debug),
        };
        if passes {
            self.inner.observe(now, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_say_who_may_speak() {
        let spec = LogSpec::parse("info,tcp=trace,arp=off").unwrap();
        assert!(spec.lets_pass("ip", Level::Info) && !spec.lets_pass("ip", Level::Debug));
        assert!(spec.lets_pass("tcp", Level::Trace) && !spec.lets_pass("arp", Level::Warning));
        assert!(!LogSpec::parse("tcp=debug").unwrap().lets_pass("ip", Level::Warning));
        assert!(LogSpec::parse("loud").is_err() && LogSpec::parse("tcp=loud").is_err());
    }
}
