//! A trace of every packet that enters an emulated path, for a look at one run: `HOPLINE_TRACE=FILE`, with one test on one thread.

use hopline::time::Instant;
use hopline::wire::{Ipv4Header, SequenceNumber, TcpHeader};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

/// The first number of each direction of each connection, by its ports.
type Origins = HashMap<(u16, u16), SequenceNumber>;

/// Writes a line for each packet into the file that the environment names.
pub(crate) struct Trace {
    file: BufWriter<File>,
    origins: Origins,
}

impl Trace {
    /// If the environment wants one.
    pub(crate) fn wanted() -> Option<Trace> {
        let path = std::env::var_os("HOPLINE_TRACE")?;
        let mut file = BufWriter::new(File::options().create(true).append(true).open(path).expect("a file for the trace"));
        writeln!(file, "--- a new path").expect("room for the trace");
        Some(Trace { file, origins: Origins::new() })
    }

    /// A packet, beginning with its IP header; `what` stands before it.
    pub(crate) fn note(&mut self, now: Instant, what: &str, packet: &[u8]) {
        let line = describe(packet, &mut self.origins).unwrap_or_else(|| format!("{} bytes", packet.len()));
        writeln!(self.file, "{:>12.6} {what}{line}", now.as_nanos() as f64 / 1e9).expect("room for the trace");
    }
}

/// Ports, flags, numbers relative to the first ones, window and selective acknowledgements.
fn describe(packet: &[u8], origins: &mut Origins) -> Option<String> {
    let payload = Ipv4Header::parse(packet).ok()?.payload(packet);
    let (header, length) = TcpHeader::parse(payload).ok()?;
    let ports = (header.source_port, header.destination_port);
    let own = *origins.entry(ports).or_insert(header.sequence);
    let peer = origins.get(&(ports.1, ports.0)).copied().unwrap_or_default();
    let (start, data) = (header.sequence.distance_from(own), payload.len() - length);
    let sack: Vec<String> = header
        .options
        .sack
        .iter()
        .map(|block| format!("{}..{}", block.left.distance_from(peer), block.right.distance_from(peer)))
        .collect();
    Some(format!(
        "{:>5} > {:<5} {:<8} {start}..{} ack {} win {} {}",
        ports.0,
        ports.1,
        header.flags.to_string(),
        start as usize + data,
        header.acknowledgement.distance_from(peer),
        header.window,
        if sack.is_empty() { String::new() } else { format!("sack {}", sack.join(" ")) },
    ))
}
