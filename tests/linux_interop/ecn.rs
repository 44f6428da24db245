//! Explicit congestion notification (RFC 3168) with the kernel, whoever asks: a router marks packets, both senders slow down, nothing is lost.

use crate::common::{Need, trial};
use crate::host::{Network, kernel_patient, patient};
use crate::transfer::there_and_back;
use hopline::config::TcpConfig;
use hopline::socket::{ConnectOptions, Ecn, SocketOptions, TcpStream};
use libtest_mimic::Trial;

/// Bytes over the path that marks, each way.
const OVER_MARKS: u64 = 4 << 20;
/// One in fifty of the packets that may be marked.
const MARK: &str = "ip ecn != not-ect numgen random mod 100 < 2 ip ecn set ce";

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces, Need::Program("nft"), Need::Program("nstat")];
    vec![
        trial("congestion_marks_slow_both_down_if_the_kernel_asked", needs, kernel_asks),
        trial("congestion_marks_slow_both_down_if_hopline_asked", needs, hopline_asks),
        trial("the_kernel_does_not_ask_and_nothing_is_marked", needs, nobody_asks),
    ]
}

/// A routed path that marks, and counters that begin at zero.
fn marking() -> Network {
    let network = Network::routed(1_500, false);
    network.others[0].run(&format!(
        "nft 'add table ip marking; add chain ip marking f {{ type filter hook forward priority 0; }}; add rule ip marking f {MARK}'"
    ));
    network
}

fn kernel_asks() {
    let network = marking();
    network.kernel.run("sysctl -qw net.ipv4.tcp_ecn=1");
    let (mut theirs, mut ours) = network.kernel_connects();
    there_and_back(&mut theirs, &mut ours, OVER_MARKS, OVER_MARKS);
    assert_marks_counted(&network, &ours);
}

fn hopline_asks() {
    let network = marking();
    network.kernel.run("sysctl -qw net.ipv4.tcp_ecn=2");
    let listener = network.kernel_listener();
    let wishes = SocketOptions { ecn: Ecn::Request, ..TcpConfig::default().socket_options() };
    let options = ConnectOptions { options: Some(wishes), ..ConnectOptions::default() };
    let mut ours = patient(network.stack.connect_with(listener.local_addr().unwrap(), &options).unwrap());
    let mut theirs = kernel_patient(listener.accept().unwrap().0);
    there_and_back(&mut ours, &mut theirs, OVER_MARKS, OVER_MARKS);
    assert_marks_counted(&network, &ours);
}

fn nobody_asks() {
    let network = marking();
    network.kernel.run("sysctl -qw net.ipv4.tcp_ecn=2");
    let (mut theirs, mut ours) = network.kernel_connects();
    there_and_back(&mut theirs, &mut ours, OVER_MARKS, OVER_MARKS);
    assert!(!ours.info().unwrap().ecn);
    assert_eq!((kernel_count(&network, "IpExtInCEPkts"), network.stack.counters().transport.congestion_echoes.get()), (0, 0));
}

/// Our marked data arrived, the kernel echoed that, and we slowed down; the kernel's data was marked, we echoed that, and the kernel heard it.
fn assert_marks_counted(network: &Network, ours: &TcpStream) {
    let info = ours.info().unwrap();
    assert!(info.ecn && info.slow_start_threshold < usize::MAX, "{info}");
    let counts = ["IpExtInCEPkts", "TcpExtTCPDeliveredCE"].map(|name| kernel_count(network, name));
    let echoes = network.stack.counters().transport.congestion_echoes.get();
    assert!(counts.iter().all(|&count| count > 0) && echoes > 0, "marked and echoed {counts:?}, answered {echoes}: {info}");
    network.assert_nothing_lost();
}

fn kernel_count(network: &Network, name: &str) -> u64 {
    let text = network.kernel.run(&format!("nstat -az {name}"));
    let line = text.lines().find(|line| line.starts_with(name)).expect("nstat knows the counter");
    line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect("a number")
}
