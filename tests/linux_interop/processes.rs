//! What is left on a host when a program ends: nothing. Shared-address mode, whose guards are the only things that could stay.

use crate::common::{Namespace, Need, Process, handoff, trial, veth, wait_until};
use crate::paths::snmp;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The program. Cargo names it also where the build's features leave it out.
const CURL: Option<&str> = option_env!("CARGO_BIN_EXE_hopline-curl");

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces, Need::Program("ss")];
    let Some(program) = CURL.filter(|_| cfg!(feature = "cli")) else { return Vec::new() };
    vec![
        trial("a_killed_program_leaves_nothing_behind", needs, move || ends_by(program, "-KILL")),
        trial("an_interrupted_program_leaves_nothing_behind", needs, move || ends_by(program, "-INT")),
        trial("a_terminated_program_leaves_nothing_behind", needs, move || ends_by(program, "-TERM")),
    ]
}

/// Ends hopline-curl in the middle of a transfer by a signal.
fn ends_by(program: &str, signal: &str) {
    let (server, own) = (Namespace::new("interop"), Namespace::new("interop"));
    veth((&server, "k0", Some("192.0.2.1/24")), (&own, "h0", Some("192.0.2.2/24")));
    let listener = server.inside(|| std::net::TcpListener::bind("192.0.2.1:80")).unwrap();
    let mut curl = own.spawn(program, &["-s", "--handoff", handoff::current().name(), "http://192.0.2.1/endless", "-o", "/dev/null"]);
    let mut connection = begin_endless_reply(listener);
    assert!(guards(&own) > 0, "no guard holds the port:\n{}", own.run("ss -Hltun"));
    send_signal(&curl, signal);
    wait_until("the program's end", || !curl.is_running());
    assert_eq!(guards(&own), 0, "left behind:\n{}", own.run("ss -Hltun"));
    assert_eq!(pids(&own), "", "processes are left");
    if signal != "-KILL" {
        assert_ends(&mut connection);
        assert_eq!(snmp(&own.run("cat /proc/net/snmp"), "Tcp", "OutRsts"), 0, "the host's kernel reset the connection");
    }
}

/// Accepts, reads the request and sends the beginning of a reply that never ends.
fn begin_endless_reply(listener: std::net::TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("the program's connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nthe first of a thousand million bytes").unwrap();
    stream
}

/// The far end hears of it: an orderly end, or a reset of the program's own stack.
#[track_caller]
fn assert_ends(stream: &mut TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the server was not told: {other:?}"),
    }
}

fn guards(namespace: &Namespace) -> usize {
    namespace.run("ss -Hltun").lines().count()
}

fn pids(namespace: &Namespace) -> String {
    let output = std::process::Command::new("ip").args(["netns", "pids", namespace.name()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn send_signal(process: &Process, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(status.success());
}
