//! What an independent dissector says about our segments.

use crate::common::{Need, Process, assert_capture_is_clean, trial, tshark, wait_until};
use crate::datagrams::echo_every_size;
use crate::host::{Network, on_a_lossless_wire};
use crate::transfer::there_and_back;
use hopline::config::{Config, TcpConfig};
use libtest_mimic::Trial;
use std::path::Path;

/// Bytes each way: small enough to be dissected in seconds.
const CAPTURED: u64 = 1 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces, Need::Program("tcpdump"), Need::Program("tshark")];
    vec![trial("tshark_finds_nothing_wrong", needs, || on_a_lossless_wire(nothing_wrong))]
}

fn nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture.pcap");
    let network = Network::on_veth(false, calm());
    // Else the kernel repeats the last segment whenever a busy machine lets it wait for some milliseconds (tail loss probes; ours are off as well), and a
    // whole window when its two processors send out of order.
    network.kernel.run("sysctl -qw net.ipv4.tcp_early_retrans=0 net.ipv4.tcp_recovery=0 net.ipv4.tcp_reordering=127");
    let recorder = record(&network, "k0", &file);
    for connect in [Network::kernel_connects, Network::hopline_connects] {
        let (mut theirs, mut ours) = connect(&network);
        there_and_back(&mut theirs, &mut ours, CAPTURED, CAPTURED);
    }
    echo_every_size(&network);
    network.kernel.run("ping -n -q -c 2 -i 0.05 -W 5 -s 10000 192.0.2.2");
    network.assert_nothing_lost();
    stop(recorder);
    assert_capture_is_clean(&file);
    let again =
        tshark(&file, "tcp.analysis.retransmission || tcp.analysis.duplicate_ack || tcp.analysis.lost_segment || tcp.flags.reset == 1");
    assert!(again.is_empty(), "sent again, lost or reset without a reason:\n{again}");
    assert!(tshark(&file, "ip.src == 192.0.2.2 && tcp.len > 0").lines().count() > 500, "hardly anything was captured");
    the_check_can_fail(&file);
}

/// A window that opens all at once lets the kernel send so many frames in one go that its own queue between the two ends of the pair overflows
/// (`net.core.netdev_max_backlog`): with a small one nothing is lost on the wire.
fn calm() -> Config {
    let tcp = TcpConfig { receive_buffer: 256 << 10, receive_buffer_maximum: 256 << 10, loss_probes: false, ..TcpConfig::default() };
    Config { tcp, ..Config::default() }
}

/// One flipped bit in the last segment with data must be found.
fn the_check_can_fail(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = last_data_byte(&bytes);
    bytes[at] ^= 1;
    let damaged = file.with_extension("damaged.pcap");
    std::fs::write(&damaged, bytes).unwrap();
    let found = tshark(&damaged, "tcp.checksum.status == 0 && !tcp.checksum.ffff");
    assert_eq!(found.lines().count(), 1, "the planted checksum error:\n{found}");
}

/// Where the last byte of the last full Ethernet frame with TCP is in a pcap file (24 bytes of header; 16 for each record).
fn last_data_byte(file: &[u8]) -> usize {
    let (mut at, mut last) = (24, 0);
    while let Some(record) = file.get(at..at + 16) {
        let length = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
        at += 16 + length;
        let protocol = file.get(at - length + 23);
        if length == 1_514 && protocol == Some(&6) {
            last = at - 1;
        }
    }
    assert!(last > 0, "no full segment in the capture");
    last
}

/// Starts tcpdump and waits until it listens.
fn record(network: &Network, interface: &str, file: &Path) -> Process {
    let recorder = network
        .kernel
        .spawn("tcpdump", &["-i", interface, "-n", "-U", "-B", "65536", "-s", "0", "-Z", "root", "-w", file.to_str().unwrap()]);
    wait_until("tcpdump", || std::fs::metadata(file).is_ok_and(|file| file.len() >= 24));
    recorder
}

/// Ends tcpdump in order: it writes what it still has.
fn stop(recorder: Process) {
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::process::Command::new("kill").args(["-INT", &recorder.id().to_string()]).status().unwrap();
    let output = recorder.finish();
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(report.contains("\n0 packets dropped by kernel"), "{report}");
}
