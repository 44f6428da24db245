//! A trace of every packet that enters the path, for a look at one run: `HOPLINE_TRACE=FILE`, with one test on one thread.

use hopline::packet::Packet;
use hopline::simulation::World;
use hopline::wire::{Ipv4Header, SequenceNumber, TcpHeader};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

/// The first number of each direction of each connection, by its ports.
type Origins = HashMap<(u16, u16), SequenceNumber>;

/// Has `world` write its packets into the file that the environment names, if it does.
pub(crate) fn attach(world: &mut World) {
    let Some(path) = std::env::var_os("HOPLINE_TRACE") else { return };
    let mut file = BufWriter::new(File::options().create(true).append(true).open(path).expect("a file for the trace"));
    let mut origins = Origins::new();
    writeln!(file, "--- a new world").expect("room for the trace");
    world.set_tap(move |now, _, packet| {
        let line = describe(packet, &mut origins).unwrap_or_else(|| format!("{} bytes", packet.len()));
        writeln!(file, "{:>12.6} {line}", now.as_nanos() as f64 / 1e9).expect("room for the trace");
    });
}

/// Ports, flags, numbers relative to the first ones, window and selective acknowledgements.
fn describe(packet: &Packet, origins: &mut Origins) -> Option<String> {
    let bytes = packet.to_vec();
    let payload = Ipv4Header::parse(&bytes).ok()?.payload(&bytes);
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
