//! Attacks on a whole stack under virtual time: what they cost it, and what they cost others.
//!
//! Alone in its program, since it counts the bytes that all threads allocate.

use hopline::config::{Config, SynCookies};
use hopline::device::Medium;
use hopline::device::virtual_link::Impairments;
use hopline::random::PublicRandom;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::{TcpListener, TcpStream};
use hopline::wire::checksum::pseudo_header;
use hopline::wire::{Checksum, Protocol, SequenceNumber, TcpFlags, TcpHeader, TcpOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test at a time: they count the allocations of the whole program.
static ALONE: Mutex<()> = Mutex::new(());

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ROUND: usize = 20_000;

/// A server, a client that is far away, and nothing else on their wire.
fn world(syn_cookies: SynCookies) -> (World, HostId, HostId) {
    let mut config = Config::default();
    config.tcp.syn_cookies = syn_cookies;
    config.tcp.syn_queue = 256;
    let mut world = World::new(7);
    let bare = |address: &str| HostOptions { medium: Medium::Ip, ..HostOptions::new(address) };
    let client = world.host(bare("192.0.2.1/24"));
    let server = world.host(HostOptions { config, ..bare("192.0.2.2/24").gateway(Ipv4Addr::new(192, 0, 2, 1).into()) });
    world.join(&[client, server], &Impairments { delay: Duration::from_millis(20), ..Impairments::default() });
    (world, client, server)
}

/// An IPv4 packet with a TCP segment from anywhere, as an attacker makes it.
fn forged(source: Ipv4Addr, header: &TcpHeader) -> Vec<u8> {
    let length = header.header_length();
    let mut bytes = vec![0; 20 + length];
    bytes[..20].copy_from_slice(&[0x45, 0, 0, 20 + length as u8, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&SERVER.octets());
    let mut sum = Checksum::new();
    sum.add_bytes(&bytes[..20]);
    bytes[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    header.emit(&mut bytes[20..]);
    let mut sum = pseudo_header(source.into(), IpAddr::V4(SERVER), Protocol::TCP, length as u32);
    sum.add_bytes(&bytes[20..]);
    bytes[36..38].copy_from_slice(&sum.finish().to_be_bytes());
    bytes
}

/// A segment that opens, or completes, a connection that nobody wants.
fn random_segment(random: &mut PublicRandom, flags: TcpFlags) -> Vec<u8> {
    let source = Ipv4Addr::from(0xc612_0000 | random.below(1 << 17));
    let header = TcpHeader {
        source_port: random.below(1 << 16) as u16,
        destination_port: 80,
        sequence: SequenceNumber(random.next_u64() as u32),
        acknowledgement: SequenceNumber(random.next_u64() as u32),
        flags,
        window: 65_535,
        options: TcpOptions { maximum_segment_size: Some(1_460), ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    forged(source, &header)
}

/// So many segments come within two seconds.
fn flood(world: &mut World, server: HostId, random: &mut PublicRandom, count: usize, flags: TcpFlags) {
    for _ in 0..count / 100 {
        for _ in 0..100 {
            let segment = random_segment(random, flags);
            world[server].inject_bytes(&segment);
        }
        world.run_for(Duration::from_secs(2) / (count / 100) as u32);
    }
}

/// The client opens a connection in the midst of a flood, and is answered.
fn is_served(world: &mut World, client: HostId, server: HostId, listener: &TcpListener, random: &mut PublicRandom) -> bool {
    let mut request = world[client].connect((SERVER, 80)).unwrap();
    flood(world, server, random, 2_000, TcpFlags::SYN);
    if request.write_all(b"ping").is_err() {
        return false;
    }
    flood(world, server, random, 2_000, TcpFlags::SYN);
    let Ok((response, _)) = listener.accept() else { return false };
    let answered = answer(world, response, &mut request);
    drop(request);
    flood(world, server, random, 2_000, TcpFlags::SYN);
    answered
}

fn answer(world: &mut World, mut response: TcpStream, request: &mut TcpStream) -> bool {
    let mut bytes = [0; 4];
    let heard = response.read_exact(&mut bytes).is_ok() && response.write_all(b"pong").is_ok();
    drop(response);
    heard && world.run_until(Duration::from_secs(5), || request.read_exact(&mut bytes).is_ok()) && &bytes == b"pong"
}

#[test]
fn a_syn_flood_costs_no_memory_and_no_client() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for mode in [SynCookies::WhenFull, SynCookies::Always] {
        let (mut world, client, server) = world(mode);
        let listener = world[server].listen("0.0.0.0:80").unwrap();
        let mut random = PublicRandom::from_seed(3);
        assert!(is_served(&mut world, client, server, &listener, &mut random));
        flood(&mut world, server, &mut random, ROUND, TcpFlags::SYN);
        world.run_for(Duration::from_secs(1));
        let region = Region::new(ALLOCATOR);
        for round in 0..5 {
            flood(&mut world, server, &mut random, ROUND, TcpFlags::SYN);
            assert!(is_served(&mut world, client, server, &listener, &mut random), "{mode:?}, round {round}\n{world}");
        }
        world.run_for(Duration::from_secs(1));
        let change = region.change();
        let grown = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
        let transport = &world[server].counters().transport;
        println!("{mode:?}: {} cookies sent, {grown} bytes more after {} SYNs", transport.syn_cookies_sent.get(), 5 * (ROUND + 6_000));
        assert!(grown < 64 << 10, "{mode:?}: {grown} bytes");
        let bound = if mode == SynCookies::Always { 0 } else { 256 } + 6;
        assert!(world[server].connections() <= bound, "{mode:?}: {} connections", world[server].connections());
        // The first client came before the queue was full.
        let expected = if mode == SynCookies::Always { 6 } else { 5 };
        assert_eq!(transport.syn_cookies_accepted.get(), expected, "{mode:?}");
    }
}

#[test]
fn without_cookies_the_flood_is_bounded_but_wins() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut world, client, server) = world(SynCookies::Off);
    let listener = world[server].listen("0.0.0.0:80").unwrap();
    let mut random = PublicRandom::from_seed(3);
    flood(&mut world, server, &mut random, ROUND, TcpFlags::SYN);
    assert!(!is_served(&mut world, client, server, &listener, &mut random));
    assert_eq!(world[server].connections(), 256);
}

#[test]
fn guessed_cookies_make_no_connections() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut world, _, server) = world(SynCookies::Always);
    let listener = world[server].listen("0.0.0.0:80").unwrap();
    let mut random = PublicRandom::from_seed(5);
    flood(&mut world, server, &mut random, 100, TcpFlags::SYN);
    flood(&mut world, server, &mut random, ROUND, TcpFlags::ACK);
    let transport = &world[server].counters().transport;
    assert_eq!((transport.syn_cookies_failed.get(), transport.syn_cookies_accepted.get()), (ROUND as u64, 0));
    assert!(world[server].connections() == 0 && listener.accept().is_err());
}
