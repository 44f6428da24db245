//! Network namespaces for tests. A [`Namespace`] is deleted when it is dropped, also when the test panics, and whatever runs inside is
//! killed first. Namespaces of runs that were killed themselves are swept away by the next run with the same prefix.

use super::unique;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// A network namespace of its own, with loopback up and IPv6 off (its router solicitations and the like only disturb).
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// A process inside a namespace; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
}

/// Why there can be no namespaces, if so.
pub fn unavailable() -> Option<&'static str> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let probe = || {
        let name = format!("hopprobe-{}", unique());
        let output = Command::new("ip").args(["netns", "add", &name]).output();
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
        match output {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("cannot make a network namespace: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Some(format!("cannot run ip: {error}")),
        }
    };
    ANSWER.get_or_init(probe).as_deref()
}

impl Namespace {
    /// A new namespace named `prefix-PID-COUNT`.
    #[track_caller]
    pub fn new(prefix: &str) -> Namespace {
        sweep(prefix);
        let name = format!("{prefix}-{}", unique());
        must(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true");
        namespace
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a shell command inside, and returns what it printed. Panics if it fails.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let output = self.try_run(command);
        assert!(output.status.success(), "in {}: {command}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell command inside, whatever comes of it.
    #[track_caller]
    pub fn try_run(&self, command: &str) -> Output {
        self.command("sh").args(["-c", command]).stdin(Stdio::null()).output().expect("ip netns exec starts")
    }

    /// A command that will run `program` inside: add arguments and start it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Starts a program inside; it is killed when the guard, or the namespace, is dropped. Its output goes to pipes.
    #[track_caller]
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        Process { child, what: format!("{program} {}", arguments.join(" ")) }
    }

    /// Runs `body` on a thread that is inside. Sockets, devices and threads that it makes are inside too, and stay there.
    #[track_caller]
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        hopline::device::linux::namespace::run_in(&self.path(), body).expect("enters the namespace")
    }

    /// Switches an interface's segmentation, merging and checksum offloads on or off.
    #[track_caller]
    pub fn set_offload(&self, interface: &str, on: bool) {
        let word = if on { "on" } else { "off" };
        self.run(&format!("ethtool -K {interface} tso {word} gso {word} gro {word} tx {word} >/dev/null"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

impl Process {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and returns what it printed (standard output and standard error).
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let stdout = read_all(self.child.stdout.take());
        let stderr = read_all(self.child.stderr.take());
        let status = self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.what));
        Output { status, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Joins two namespaces by a veth pair. Each end is its namespace, the interface's name, and its address with prefix length (or `None`).
#[track_caller]
pub fn veth(one: (&Namespace, &str, Option<&str>), other: (&Namespace, &str, Option<&str>)) {
    let mut command = Command::new("ip");
    command.args(["-n", one.0.name(), "link", "add", one.1, "type", "veth", "peer", "name", other.1, "netns", other.0.name()]);
    must(&mut command);
    for (namespace, interface, address) in [one, other] {
        if let Some(address) = address {
            namespace.run(&format!("ip address add {address} dev {interface}"));
        }
        namespace.run(&format!("ip link set {interface} up"));
    }
    // The kernel's work queue does the rest of it; before that, what is sent is lost.
    for (namespace, interface, _) in [one, other] {
        super::wait_until("the veth pair to carry frames", || namespace.run(&format!("ip link show {interface}")).contains(" state UP "));
    }
}

#[track_caller]
fn must(command: &mut Command) {
    let output = command.output().expect("ip starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Deletes namespaces `prefix-PID-COUNT` whose maker is dead.
fn sweep(prefix: &str) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if maker(prefix, &name).is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
                delete(&name);
            }
        }
    });
}

fn maker(prefix: &str, name: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?.0.parse().ok()
}

fn delete(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout).unwrap_or_default();
    let own = std::process::id().to_string();
    for pid in String::from_utf8_lossy(&pids).split_whitespace().filter(|pid| *pid != own) {
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}
