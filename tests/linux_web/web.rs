//! `hopline-curl` and `hopline-ping` against servers that nobody here wrote: nginx with TLS 1.3 and dnsmasq, in a namespace behind a veth.

use crate::common::Need::{Namespaces, Program};
use crate::common::{Namespace, Process, assert_capture_is_clean, handoff, run_in_each_handoff, trial, tshark, veth, wait_until};
use hopline::app::lab::deterministic_bytes;
use libtest_mimic::Arguments;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

const SERVER: &str = "192.0.2.1";
const HOST: &str = "192.0.2.2";
const OWN: &str = "192.0.2.7/24";
const BIG: usize = 64 << 20;
const SMALL: usize = 4 << 20;

/// Runs them all.
pub(crate) fn main() {
    let web = [Namespaces, Program("nginx"), Program("dnsmasq")];
    let captured = [Namespaces, Program("nginx"), Program("dnsmasq"), Program("tshark"), Program("tcpdump"), Program("ethtool")];
    let firewall = [Namespaces, Program("nginx"), Program("dnsmasq"), Program("nft")];
    let mut arguments = Arguments::from_args();
    // Two processors carry both ends of each transfer.
    arguments.test_threads = Some(1);
    let trials = || {
        vec![
            trial("a_big_file_arrives_exact_on_the_hosts_own_address", &web, shared_big_file),
            trial("a_shared_address_leaves_no_reset_and_nothing_malformed_on_the_wire", &captured, shared_capture),
            trial("a_big_file_arrives_exact_on_an_address_of_our_own", &web, || own_big_file(false)),
            trial("a_big_file_arrives_exact_on_an_own_address_of_a_forwarding_host", &web, || own_big_file(true)),
            trial("a_hundred_connections_need_few_descriptors", &web, hundred_fetches),
            trial("a_rejecting_firewall_is_named", &firewall, rejecting_firewall),
            trial("an_interrupted_program_leaves_nothing_behind", &web, interrupted),
            trial("pings_from_both_address_modes_are_answered", &web, pings),
        ]
    };
    run_in_each_handoff(&arguments, trials);
}

/// A host with a server as its neighbour.
struct Net {
    host: Namespace,
    server: Namespace,
    folder: tempfile::TempDir,
    _services: Vec<Process>,
}

impl Net {
    fn new() -> Net {
        let (host, server) = (Namespace::new("appweb"), Namespace::new("appsrv"));
        veth((&host, "eth0", Some("192.0.2.2/24")), (&server, "eth0", Some("192.0.2.1/24")));
        let folder = tempfile::tempdir().unwrap();
        let services = vec![start_nginx(&server, folder.path()), start_dnsmasq(&server)];
        wait_until("nginx", || host.inside(|| TcpStream::connect((SERVER, 443)).is_ok()));
        wait_until("dnsmasq", || host.inside(|| TcpStream::connect((SERVER, 53)).is_ok()));
        Net { host, server, folder, _services: services }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs hopline-curl on the host, after a shell's `first`.
    fn curl_after(&self, first: &str, arguments: &[&str]) -> Output {
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let program = env!("CARGO_BIN_EXE_hopline-curl");
        self.host.try_run(&format!(
            "{first} exec timeout 120 {program} --handoff {} -sS --dns {SERVER} --cacert {} {}",
            handoff::current().name(),
            self.path("ca.pem").display(),
            quoted.join(" ")
        ))
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        self.curl_after("", arguments)
    }

    /// Fetches a file of `length` bytes and compares it.
    #[track_caller]
    fn fetch(&self, length: usize, network: &[&str]) {
        let (out, url) = (self.path("out"), format!("https://www.hopline.test/{length}"));
        let output = self.curl(&[network, &["-o", out.to_str().unwrap(), &url]].concat());
        succeeded(&output);
        assert!(std::fs::read(&out).unwrap() == pattern(length), "the file differs");
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    deterministic_bytes(0, &mut bytes);
    bytes
}

fn make_certificates(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(parameters, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["www.hopline.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

fn start_nginx(server: &Namespace, folder: &Path) -> Process {
    make_certificates(folder);
    for length in [1000, SMALL, BIG] {
        std::fs::write(folder.join(length.to_string()), pattern(length)).unwrap();
    }
    let here = folder.display();
    let config = format!(
        "daemon off; worker_processes 1; user root; pid {here}/nginx.pid; error_log {here}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; root {here}; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
         fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
         server {{ listen {SERVER}:80; listen {SERVER}:443 ssl; ssl_protocols TLSv1.3;\n\
         ssl_certificate {here}/server.pem; ssl_certificate_key {here}/server.key; }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    server.spawn("nginx", &["-c", file.to_str().unwrap(), "-e", folder.join("error.log").to_str().unwrap()])
}

fn start_dnsmasq(server: &Namespace) -> Process {
    let arguments = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--bind-interfaces"];
    server.spawn("dnsmasq", &[&arguments[..], &["--listen-address=192.0.2.1", "--address=/www.hopline.test/192.0.2.1"]].concat())
}

/// A connection of the kernel's, on the address that we share, works while ours run.
fn kernel_fetches(net: &Net) {
    net.host.inside(|| {
        let mut stream = TcpStream::connect((SERVER, 80)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /{SMALL} HTTP/1.0\r\n\r\n").unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.ends_with(&pattern(SMALL)));
    });
}

fn shared_big_file() {
    let net = Net::new();
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| (0..5).for_each(|_| kernel_fetches(&net)));
        net.fetch(BIG, &["--interface", "eth0"]);
        kernel.join().unwrap();
    });
    net.fetch(SMALL, &["--interface", "eth0", "--offload", "off"]);
    net.fetch(SMALL, &[]);
}

fn shared_capture() {
    let net = Net::new();
    net.host.set_offload("eth0", false);
    net.server.set_offload("eth0", false);
    let file = net.path("wire.pcap");
    let mut capture = net.server.spawn("tcpdump", &["-i", "eth0", "-U", "-s", "0", "-B", "65536", "-w", file.to_str().unwrap()]);
    wait_until("tcpdump", || file.metadata().is_ok_and(|metadata| metadata.len() > 0));
    let own = net.path("own.pcapng");
    net.fetch(SMALL, &["--interface", "eth0", "--capture", own.to_str().unwrap()]);
    wait_until("the capture", || !tshark(&file, "tcp.flags.fin == 1 && ip.src == 192.0.2.2").is_empty());
    // What answers the very end of the connection would come at once.
    std::thread::sleep(Duration::from_millis(500));
    assert!(capture.is_running());
    drop(capture);
    for file in [&file, &own] {
        // The case of the name is random.
        assert!(tshark(file, "dns").to_lowercase().contains("www.hopline.test"), "{}", file.display());
        let wrong = tshark(file, "tcp.flags.reset == 1 || icmp");
        assert!(wrong.is_empty(), "{}:\n{wrong}", file.display());
        assert_capture_is_clean(file);
    }
}

fn own_big_file(forwarding: bool) {
    let net = Net::new();
    net.host.run(&format!("sysctl -qw net.ipv4.ip_forward={}", i32::from(forwarding)));
    net.fetch(BIG, &["--interface", "eth0", "--address", OWN]);
    net.fetch(SMALL, &["--interface", "eth0", "--address", OWN, "--offload", "off"]);
}

fn hundred_fetches() {
    let net = Net::new();
    let urls = ["https://www.hopline.test/1000"; 100];
    let arguments = ["--interface", "eth0", "-H", "Connection: close", "-w", "%{http_code} %{num_connects}\\n"];
    let outputs = ["-o", "/dev/null"].repeat(urls.len());
    let output = net.curl_after("ulimit -n 256;", &[&arguments[..], &outputs, &urls].concat());
    succeeded(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 1\n".repeat(100));
}

fn rejecting_firewall() {
    let net = Net::new();
    let chain = "add table inet wall; add chain inet wall in { type filter hook input priority 0; }";
    net.host.run(&format!(
        "nft '{chain}; add rule inet wall in ct state invalid reject; add rule inet wall in tcp dport 1000-60000 reject with tcp reset'"
    ));
    let output = net.curl(&["--interface", "eth0", "-m", "5", "https://www.hopline.test/1000"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("firewall") && errors.contains("--address"), "{errors}");
}

fn interrupted() {
    let net = Net::new();
    // Without what the kernel is about to forget: how the test found that the servers answer.
    let sockets = || net.host.run("ss -Htuan | sed /WAIT/d; ss -Ha0");
    let before = sockets();
    let answers = || net.server.run("grep ^Icmp: /proc/net/snmp");
    for signal in ["INT", "TERM", "KILL"] {
        let answered = answers();
        let ping = net.host.spawn(
            env!("CARGO_BIN_EXE_hopline-ping"),
            &["--handoff", handoff::current().name(), "--interface", "eth0", "-i", "0.2", SERVER],
        );
        wait_until("the packet socket", || sockets() != before);
        wait_until("an answer", || answers() != answered);
        std::thread::sleep(Duration::from_millis(300));
        net.host.run(&format!("kill -{signal} {}", ping.id()));
        let output = ping.finish();
        assert_eq!(output.status.code(), if signal == "KILL" { None } else { Some(0) }, "{signal}");
        assert_eq!(sockets(), before, "{signal}");
    }
}

fn pings() {
    let net = Net::new();
    let ping = |arguments: &str| {
        let (program, handoff) = (env!("CARGO_BIN_EXE_hopline-ping"), handoff::current().name());
        let output = net.host.try_run(&format!("timeout 30 {program} --handoff {handoff} -c 3 -i 0.1 {arguments} {SERVER}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("3 packets transmitted, 3 received, 0% packet loss"),
            "{arguments}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    ping("--interface eth0");
    ping("--interface eth0 -s 65507");
    ping(&format!("--interface eth0 --address {OWN}"));
    ping(&format!("--interface eth0 --address {OWN} -s 65507"));
    let refused = net.host.try_run(&format!("{} -c 1 --interface eth0 {HOST}", env!("CARGO_BIN_EXE_hopline-ping")));
    assert!(!refused.status.success());
}
