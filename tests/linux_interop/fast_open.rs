//! Fast Open (RFC 7413) with the kernel, both ways: the second connection brings its question in the SYN.

use crate::common::{Need, trial, wait_until};
use crate::host::{KERNEL, Medium, Network, PATIENCE, accept, patient};
use hopline::socket::ConnectOptions;
use libtest_mimic::Trial;
use std::io::{Read, Write};

const ROUNDS: u64 = 3;
const PORT: u16 = 7_413;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces, Need::Program("ethtool"), Need::Program("python3")];
    vec![trial("the_kernel_asks_with_its_syn", needs, kernel_asks), trial("hopline_asks_the_kernel_with_its_syn", needs, hopline_asks)]
}

/// `MSG_FASTOPEN` on a new socket each time.
fn kernel_asks() {
    let network = Network::new(Medium::Veth);
    network.kernel.run("sysctl -qw net.ipv4.tcp_fastopen=3");
    let listener = network.stack.listen((network.address, PORT)).unwrap();
    listener.set_fast_open(16).unwrap();
    let script = format!(
        "import socket\nfor turn in range({ROUNDS}):\n  s = socket.socket()\n  s.sendto(b'question', socket.MSG_FASTOPEN, ('{}', {PORT}))\n  s.settimeout(20)\n  assert s.recv(9) == b'answer'\n  s.close()\n",
        network.address
    );
    let client = network.kernel.spawn("python3", &["-c", &script]);
    for _ in 0..ROUNDS {
        let mut stream = patient(accept(&listener));
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"question");
        stream.write_all(b"answer").unwrap();
    }
    let output = client.finish();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let taken = network.stack.counters().transport.fast_opens_passive.get();
    assert_eq!(taken, ROUNDS - 1, "{}", network.stack.counters());
}

/// `TCP_FASTOPEN` on the kernel's listener.
fn hopline_asks() {
    let network = Network::new(Medium::Veth);
    network.kernel.run("sysctl -qw net.ipv4.tcp_fastopen=3");
    let script = format!(
        "import socket\nl = socket.socket()\nl.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\nl.setsockopt(socket.IPPROTO_TCP, 23, 16)\nl.bind(('{KERNEL}', {PORT}))\nl.listen(16)\nfor turn in range({ROUNDS}):\n  s, _ = l.accept()\n  assert s.recv(8) == b'question'\n  s.sendall(b'answer')\n  s.close()\n"
    );
    let server = network.kernel.spawn("python3", &["-c", &script]);
    wait_until("the kernel listens", || network.kernel.run("ss -Hltn").contains(&format!(":{PORT}")));
    for _ in 0..ROUNDS {
        let options = ConnectOptions { timeout: Some(PATIENCE), ..ConnectOptions::default() };
        let mut stream = patient(network.stack.connect_with_data((KERNEL, PORT), b"question", &options).unwrap());
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
    let output = server.finish();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counters = &network.stack.counters().transport;
    assert_eq!((counters.fast_opens_active.get(), counters.fast_opens_refused.get()), (ROUNDS - 1, 0), "{}", network.stack.counters());
    let taken = network.kernel.run("nstat -az TcpExtTCPFastOpenPassive");
    assert!(taken.contains(&format!(" {} ", ROUNDS - 1)), "{taken}");
}
