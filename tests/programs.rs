//! The bundled programs in the lab: no root, no network. What they print, and their exit codes.

#[path = "common/handoff.rs"]
mod handoff;

use assert_cmd::Command;
use hopline::app::lab::{body_hash, deterministic_bytes};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

/// Nothing here takes this long; what hangs must not hang the tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(name: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin(name));
    command.args(["--lab", "--handoff", handoff::current().name()]).timeout(PATIENCE).env_remove("SSLKEYLOGFILE");
    command
}

fn curl(arguments: &[&str]) -> Output {
    program("hopline-curl").args(arguments).output().unwrap()
}

fn ping(arguments: &[&str]) -> Output {
    program("hopline-ping").args(arguments).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn assert_exit(code: i32, arguments: &[&str]) {
    let output = curl(arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.contains(&format!("hopline-curl: ({code}) ")), "{errors}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expected(start: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    deterministic_bytes(start, &mut bytes);
    bytes
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn the_page_is_printed_over_http_and_https() {
    for url in ["lab.test", "http://www.lab.test/", "https://lab.test/", "https://alias.lab.test/", "https://192.0.2.1/"] {
        assert!(succeeded(&curl(&[url])).contains("<h1>It works.</h1>"), "{url}");
    }
}

fn every_failure_has_curls_exit_code() {
    assert_exit(1, &["ftp://lab.test/"]);
    assert_exit(3, &["http://lab test/"]);
    assert_exit(6, &["http://nowhere.lab.test/"]);
    assert_exit(6, &["http://broken.lab.test/"]);
    assert_exit(6, &["-6", "http://lab.test/"]);
    assert_exit(7, &["http://lab.test:81/"]);
    assert_exit(18, &["http://lab.test/cut"]);
    assert_exit(22, &["-f", "https://lab.test/status/404"]);
    assert_exit(23, &["-o", "/no/such/folder/file", "http://lab.test/"]);
    assert_exit(26, &["-T", "/no/such/file", "http://lab.test/upload"]);
    assert_exit(28, &["-m", "0.3", "http://lab.test/slow/9"]);
    assert_exit(35, &["https://lab.test:80/"]);
    assert_exit(47, &["-L", "--max-redirs", "2", "http://lab.test/redirect/5"]);
    assert_exit(52, &["http://lab.test/nothing"]);
    assert_exit(56, &["https://lab.test/torn"]);
    assert_exit(60, &["https://wrong.lab.test/"]);
    assert_exit(2, &["-x", "http://proxy.test/", "http://lab.test/"]);
}

fn a_certificate_from_elsewhere_is_refused_unless_it_does_not_matter() {
    let folder = Folder::new();
    let stranger = rcgen::generate_simple_self_signed(vec!["lab.test".to_owned()]).unwrap();
    let file = folder.path("ca.pem");
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    assert_exit(60, &["--cacert", as_text(&file), "https://lab.test/"]);
    succeeded(&curl(&["-k", "--cacert", as_text(&file), "https://lab.test/"]));
    assert_exit(77, &["--cacert", "/no/such/file", "https://lab.test/"]);
}

fn a_host_that_is_not_there_is_a_connection_failure() {
    let output = curl(&["-m", "9", "http://dead.lab.test/"]);
    assert!(matches!(output.status.code(), Some(7 | 28)), "{output:?}");
}

fn silence_is_silent_and_errors_can_be_let_through() {
    assert_eq!(curl(&["-s", "http://nowhere.lab.test/"]).stderr, b"");
    assert!(text(&curl(&["-sS", "http://nowhere.lab.test/"]).stderr).contains("(6) Could not resolve host nowhere.lab.test"));
}

fn verbose_shows_each_step() {
    let steps = text(&curl(&["-v", "https://lab.test/"]).stderr);
    let expected = [
        "* Looking up lab.test",
        "*   Trying 192.0.2.1:443...",
        "* Connected to lab.test",
        "* TLS: TLSv1.3",
        "> GET / HTTP/1.1",
        "< HTTP/1.1 200 OK",
    ];
    let mut rest = steps.as_str();
    for step in expected {
        let position = rest.find(step).unwrap_or_else(|| panic!("no {step:?} (or out of order) in:\n{steps}"));
        rest = &rest[position..];
    }
}

fn connections_are_used_again_for_further_urls() {
    let output = curl(&["-v", "https://lab.test/status/200", "https://lab.test/status/201"]);
    assert_eq!(succeeded(&output), "status 200\nstatus 201\n");
    assert_eq!(text(&output.stderr).matches("* Connected to").count(), 1);
}

fn headers_methods_and_data_are_what_was_asked_for() {
    let sent = succeeded(&curl(&["-H", "X-A: b", "-H", "Accept:", "-A", "me", "-e", "there", "-b", "a=b", "http://lab.test/headers"]));
    for line in ["x-a: b", "user-agent: me", "referer: there", "cookie: a=b"] {
        assert!(sent.to_lowercase().contains(line), "{line} in {sent}");
    }
    assert!(!sent.to_lowercase().contains("accept:"));
    let sent = succeeded(&curl(&["-d", "a=1", "-d", "b=2", "http://lab.test/headers"])).to_lowercase();
    assert!(sent.starts_with("post /headers") && sent.contains("content-length: 7") && sent.contains("x-www-form-urlencoded"), "{sent}");
    assert!(succeeded(&curl(&["-G", "-d", "a=1", "http://lab.test/headers"])).starts_with("GET /headers?a=1 "));
    assert!(succeeded(&curl(&["-X", "BREW", "http://lab.test/headers"])).starts_with("BREW /headers "));
    assert_eq!(succeeded(&curl(&["-u", "lab:test", "http://lab.test/private"])), "Welcome.\n");
    assert_eq!(succeeded(&curl(&["--compressed", "http://lab.test/gzip"])), "This text was sent compressed.\n");
    assert_eq!(succeeded(&curl(&["http://lab.test/gzip"])), "This text was not compressed.\n");
}

fn headers_can_be_printed_with_the_page_or_alone() {
    let page = succeeded(&curl(&["-i", "http://lab.test/status/201"]));
    assert!(page.starts_with("HTTP/1.1 201") && page.ends_with("\r\n\r\nstatus 201\n"), "{page}");
    let heads = succeeded(&curl(&["-IL", "http://lab.test/redirect/2"]));
    assert_eq!((heads.matches("HTTP/1.1 302 Found").count(), heads.matches("HTTP/1.1 200 OK").count()), (2, 1), "{heads}");
}

fn redirects_are_followed_when_asked_and_cookies_go_along() {
    assert!(succeeded(&curl(&["http://lab.test/redirect/2"])).contains("Go on at /redirect/1"));
    let folder = Folder::new();
    let body = folder.path("body");
    let output = curl(&["-L", "-w", "%{num_redirects} %{http_code} %{url_effective}", "-o", as_text(&body), "http://lab.test/redirect/3"]);
    assert_eq!(succeeded(&output), "3 200 http://lab.test/");
    assert_eq!(
        succeeded(&curl(&["-s", "http://lab.test/cookie", "http://lab.test/cookie"])),
        "You sent: no cookie\nYou sent: taste=vanilla\n"
    );
}

fn resolve_and_timeouts() {
    assert!(succeeded(&curl(&["--resolve", "www.elsewhere.test:80:192.0.2.1", "http://www.elsewhere.test/"])).contains("It works"));
    let started = Instant::now();
    assert_exit(28, &["--connect-timeout", "0.5", "--resolve", "x.test:80:192.0.2.99", "http://x.test/"]);
    assert!(started.elapsed() < Duration::from_secs(30));
}

fn downloads_are_exact_over_a_link_that_loses_and_delays() {
    let folder = Folder::new();
    let file = folder.path("bytes");
    let arguments = ["--lab-loss", "2", "--lab-delay", "3", "--lab-seed", "7", "-s", "-o", as_text(&file)];
    succeeded(&curl(&[&arguments[..], &["https://lab.test/bytes/2000000"]].concat()));
    assert!(std::fs::read(&file).unwrap() == expected(0, 2_000_000));
}

fn downloads_go_on_where_they_stopped() {
    let folder = Folder::new();
    let file = folder.path("bytes");
    std::fs::write(&file, expected(0, 12_345)).unwrap();
    let go_on = |url: &str| curl(&["-s", "-S", "-C", "-", "-o", as_text(&file), url]);
    succeeded(&go_on("http://lab.test/bytes/100000"));
    assert!(std::fs::read(&file).unwrap() == expected(0, 100_000));
    succeeded(&go_on("http://lab.test/bytes/100000"));
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 100_000, "what is complete stays so");
    assert_eq!(go_on("http://lab.test/status/200").status.code(), Some(33));
}

fn uploads_arrive_whole_from_files_and_pipes() {
    let folder = Folder::new();
    let data = expected(0, 700_000);
    let file = folder.path("data.bin");
    std::fs::write(&file, &data).unwrap();
    let report = format!("received 700000 bytes, hash {:016x}\n", body_hash(&data));
    assert_eq!(succeeded(&curl(&["-T", as_text(&file), "https://lab.test/upload/"])), report);
    let piped = program("hopline-curl").args(["-T", "-", "http://lab.test/upload"]).write_stdin(data.clone()).output().unwrap();
    assert_eq!(succeeded(&piped), report);
    let posted = curl(&["--data-binary", &format!("@{}", as_text(&file)), "http://lab.test/upload"]);
    assert_eq!(succeeded(&posted), report);
}

fn files_are_named_by_us_or_by_the_url() {
    let folder = Folder::new();
    let status =
        program("hopline-curl").current_dir(folder.0.path()).args(["-s", "-O", "http://lab.test/bytes/500"]).output().unwrap().status;
    assert!(status.success());
    assert_eq!(std::fs::read(folder.path("500")).unwrap(), expected(0, 500));
    assert_exit(23, &["-O", "http://lab.test/"]);
}

fn secrets_are_logged_in_a_private_file_when_asked() {
    let folder = Folder::new();
    let keys = folder.path("keys");
    let output = program("hopline-curl").env("SSLKEYLOGFILE", &keys).args(["https://lab.test/"]).output().unwrap();
    succeeded(&output);
    assert!(std::fs::read_to_string(&keys).unwrap().contains("CLIENT_TRAFFIC_SECRET_0 "));
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&keys.metadata().unwrap().permissions()) & 0o777, 0o600);
}

fn logs_name_the_layer_and_obey_their_spec() {
    let log = text(&curl(&["--log", "tcp=trace,arp=debug", "http://lab.test/"]).stderr);
    assert!(log.contains("layer: tcp") && log.contains("layer: arp"), "{log}");
    assert!(!text(&curl(&["--log", "arp=debug", "http://lab.test/"]).stderr).contains("layer: tcp"));
    let wrong = curl(&["--log", "loud", "http://lab.test/"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(text(&wrong.stderr).lines().count(), 1);
}

fn captures_are_read_by_others() {
    let folder = Folder::new();
    let file = folder.path("lab.pcapng");
    succeeded(&curl(&["--capture", as_text(&file), "http://lab.test/"]));
    assert!(std::fs::read(&file).unwrap().starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a section header block comes first");
    let mut reader = pcap_file::pcapng::PcapNgReader::new(std::fs::File::open(&file).unwrap()).unwrap();
    let mut packets = 0;
    while let Some(block) = reader.next_block() {
        packets += u32::from(matches!(block.unwrap(), pcap_file::pcapng::Block::EnhancedPacket(_)));
    }
    assert!(packets > 10, "{packets}");
    assert_eq!(curl(&["--capture", "/no/such/folder/x", "http://lab.test/"]).status.code(), Some(2));
}

fn what_cannot_start_says_so_in_one_line() {
    let bare = |arguments: &[&str]| {
        let output = Command::new(assert_cmd::cargo::cargo_bin("hopline-curl")).timeout(PATIENCE).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    };
    let unknown = bare(&["--interface", "nosuch0", "http://192.0.2.1/"]);
    assert!(unknown.contains("nosuch0") && unknown.lines().count() == 1, "{unknown}");
    assert!(bare(&["--address", "192.0.2.7/24", "http://192.0.2.1/"]).contains("--interface"));
}

fn pings_are_counted_as_scripts_expect() {
    let output = succeeded(&ping(&["-c", "3", "-i", "0.1", "lab.test"]));
    assert!(output.starts_with("PING lab.test (192.0.2.1) 56(84) bytes of data.\n"), "{output}");
    assert_eq!(output.matches("64 bytes from lab.test (192.0.2.1): icmp_seq=").count(), 3, "{output}");
    assert!(output.contains("icmp_seq=3 ttl=64 time="), "{output}");
    assert!(output.contains("\n--- lab.test ping statistics ---\n3 packets transmitted, 3 received, 0% packet loss, time "), "{output}");
    assert!(output.contains("\nrtt min/avg/max/mdev = "), "{output}");
    let numeric = succeeded(&ping(&["-n", "-q", "-c", "1", "192.0.2.1"]));
    assert!(numeric.starts_with("PING 192.0.2.1 (192.0.2.1)") && !numeric.contains("icmp_seq"), "{numeric}");
}

fn pings_of_every_size_come_back() {
    for size in ["0", "1", "1472", "1473", "65507"] {
        let output = succeeded(&ping(&["-c", "1", "-W", "5", "-s", size, "192.0.2.1"]));
        let bytes = size.parse::<usize>().unwrap() + 8;
        assert!(output.contains(&format!("{bytes} bytes from 192.0.2.1")), "{output}");
    }
}

fn pings_that_are_not_answered_exit_1_and_errors_2() {
    let output = ping(&["-c", "1", "-W", "6", "dead.lab.test"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = text(&output.stdout);
    assert!(lines.contains("Destination Host Unreachable") && lines.contains("+1 errors, 100% packet loss"), "{lines}");
    assert_eq!(ping(&["-c", "1", "nowhere.lab.test"]).status.code(), Some(2));
    assert_eq!(ping(&["-c", "0", "lab.test"]).status.code(), Some(2));
    for loss in ["100.1", "-1", "NaN", "some"] {
        let refused = ping(&["-c", "1", &format!("--lab-loss={loss}"), "lab.test"]);
        assert!(
            refused.status.code() == Some(2) && text(&refused.stderr).contains("between 0 and 100"),
            "{loss}: {}",
            text(&refused.stderr)
        );
    }
    let too_long = ping(&["-M", "do", "-s", "3000", "-c", "1", "192.0.2.1"]);
    let lines = text(&too_long.stdout);
    assert_eq!(too_long.status.code(), Some(1), "{lines}");
    assert!(lines.contains("+1 errors, 100% packet loss") && text(&too_long.stderr).contains("local error: message too long"), "{lines}");
}

fn lost_pings_are_told() {
    // Which frames are lost depends on their order, so ARP may need several of its seconds.
    let output = ping(&["-O", "-c", "20", "-i", "0.02", "-W", "3.5", "--lab-loss", "15", "--lab-seed", "3", "192.0.2.1"]);
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert!(lines.contains("no answer yet for icmp_seq=") && !lines.contains(" 0% packet loss"), "{lines}");
}

fn deadlines_and_floods_end() {
    let started = Instant::now();
    assert_eq!(ping(&["-w", "1", "-i", "0.1", "192.0.2.1"]).status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(
        succeeded(&ping(&["-i", "0", "-c", "30", "-W", "5", "192.0.2.1"])).contains("30 packets transmitted, 30 received, 0% packet loss")
    );
    assert!(succeeded(&ping(&["-f", "-q", "-c", "200", "192.0.2.1"])).contains("200 packets transmitted, 200 received, 0% packet loss"));
}

/// Runs a program whose output, or whose messages, nobody reads.
fn unread(name: &str, arguments: &[&str], is_output: bool) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut program = std::process::Command::new(assert_cmd::cargo::cargo_bin(name));
    program
        .args(["--lab", "--handoff", handoff::current().name()])
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let status = if is_output { program.stdout(writer).status() } else { program.stderr(writer).status() };
    status.unwrap().code()
}

fn programs_that_nobody_reads_end_as_others_do() {
    assert_eq!(unread("hopline-curl", &["-v", "http://lab.test/"], false), Some(0));
    assert_eq!(unread("hopline-curl", &["http://lab.test/"], true), Some(23));
    assert_eq!(unread("hopline-ping", &["192.0.2.1"], true), Some(141));
}

#[cfg(unix)]
fn an_interrupt_prints_the_summary() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("hopline-ping"))
        .args(["--lab", "--handoff", handoff::current().name(), "-i", "0.05", "192.0.2.1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.by_ref().any(|line| line.unwrap().contains("icmp_seq=3")));
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest.iter().any(|line| line.contains("packets transmitted")) && rest.iter().any(|line| line.starts_with("rtt ")), "{rest:?}");
}

handoff::in_each_handoff! {
    the_page_is_printed_over_http_and_https,
    every_failure_has_curls_exit_code,
    a_certificate_from_elsewhere_is_refused_unless_it_does_not_matter,
    a_host_that_is_not_there_is_a_connection_failure,
    silence_is_silent_and_errors_can_be_let_through,
    verbose_shows_each_step,
    connections_are_used_again_for_further_urls,
    headers_methods_and_data_are_what_was_asked_for,
    headers_can_be_printed_with_the_page_or_alone,
    redirects_are_followed_when_asked_and_cookies_go_along,
    resolve_and_timeouts,
    downloads_are_exact_over_a_link_that_loses_and_delays,
    downloads_go_on_where_they_stopped,
    uploads_arrive_whole_from_files_and_pipes,
    files_are_named_by_us_or_by_the_url,
    secrets_are_logged_in_a_private_file_when_asked,
    logs_name_the_layer_and_obey_their_spec,
    captures_are_read_by_others,
    what_cannot_start_says_so_in_one_line,
    pings_are_counted_as_scripts_expect,
    pings_of_every_size_come_back,
    pings_that_are_not_answered_exit_1_and_errors_2,
    lost_pings_are_told,
    deadlines_and_floods_end,
    programs_that_nobody_reads_end_as_others_do,
    #[cfg(unix)]
    an_interrupt_prints_the_summary,
}
