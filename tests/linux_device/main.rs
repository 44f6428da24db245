//! The Linux devices against the kernel: packet sockets, TUN/TAP, guards, filters, captures. Needs root; says so where it is skipped.

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod sharing;
mod toy;

use common::{Namespace, Need, trial, veth};
use libtest_mimic::{Arguments, Trial};

fn main() {
    if sharing::open_interface_if_asked() {
        return;
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = vec![trial("namespaces_are_joined_and_vanish", &[Need::Namespaces], namespaces_are_joined_and_vanish)];
    trials.extend(frames::trials());
    trials.extend(sharing::trials());
    libtest_mimic::run(&arguments, trials).exit();
}

fn namespaces_are_joined_and_vanish() {
    let (one, other) = (Namespace::new("dev"), Namespace::new("dev"));
    veth((&one, "vA", Some("192.0.2.1/24")), (&other, "vB", Some("192.0.2.2/24")));
    one.run("ping -c 1 -W 5 192.0.2.2");
    let inside = other.inside(|| std::net::TcpListener::bind("192.0.2.2:7").map(|listener| listener.local_addr().unwrap()));
    assert_eq!(inside.unwrap().port(), 7);
    let path = one.path();
    drop((one, other));
    assert!(!path.exists());
}
