//! Many frames at once through a TAP: by one system call where there is io_uring, and one by one where a container forbids it.

use crate::common::{Namespace, Need, trial};
use crate::frames::{OWN_MAC, configure, toy};
use crate::toy::{OURS, PEERS, Toy};
use hopline::device::host;
use hopline::device::linux::tun_tap::TunTap;
use hopline::packet::Packet;
use hopline::wire::Protocol;
use libtest_mimic::Trial;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::VecDeque;
use std::net::UdpSocket;
use std::time::Duration;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces];
    vec![
        trial("many_frames_by_rings", needs, || many_frames(libc::SYS_writev)),
        trial("many_frames_without_rings", needs, || many_frames(libc::SYS_io_uring_setup)),
        trial("many_frames_by_rings_that_may_not_be_entered", needs, || many_frames(libc::SYS_io_uring_enter)),
    ]
}

/// As many frames as there are, in order, while the thread may not make this system call: plain writing, or rings. Frames that nobody takes, alone or all of them, are counted.
fn many_frames(forbidden: libc::c_long) {
    if !has_rings() {
        return eprintln!("skipped: no io_uring here that TAP goes with");
    }
    let namespace = Namespace::new("dev");
    let device = namespace.inside(|| TunTap::tap("tap0").and_then(|tap| tap.mac(OWN_MAC).offload(false))).unwrap();
    configure(&namespace, "tap0");
    let mac = namespace.inside(|| host::interface("tap0")).unwrap().mac.unwrap();
    let socket = namespace.inside(|| UdpSocket::bind((PEERS, 53))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut toy = toy(&namespace, device, mac);
    let frames = |toy: &Toy, first| (first..first + 60).map(|number| toy.datagram(9, 53, &[number; 500])).collect::<VecDeque<_>>();
    let other = std::thread::spawn(move || {
        forbid(forbidden);
        for first in [0, 60, 120] {
            let mut frames = frames(&toy, first);
            frames.insert(30, Packet::from_bytes(&toy.pool, b"too short"));
            let sent = toy.sender.send(&mut frames).unwrap();
            assert_eq!((sent.frames, sent.refused, frames.len()), (60, 1, 0));
            for number in first..first + 60 {
                let mut got = [0; 501];
                assert_eq!((socket.recv(&mut got).unwrap(), &got[..500]), (500, &[number; 500][..]));
                socket.send_to(&got[..500], (OURS, 9)).unwrap();
            }
            for number in first..first + 60 {
                let udp = toy.next(|toy, packet| toy.ip(packet).filter(|(ip, _)| ip.protocol == Protocol::UDP)).1;
                assert_eq!(udp[8..], [number; 500]);
            }
        }
        toy
    });
    let mut toy = other.join().unwrap();
    namespace.run("ip link set tap0 down");
    let mut frames = frames(&toy, 0);
    let sent = toy.sender.send(&mut frames).unwrap();
    assert_eq!((sent.frames, sent.refused, frames.len()), (0, 60, 0));
}

/// Containers forbid them; before Linux 6.4 there are none for TUN and TAP.
fn has_rings() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(4)) && io_uring::IoUring::new(64).is_ok()
}

/// Has the thread's system calls of this number fail from now on.
fn forbid(call: libc::c_long) {
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32));
    let filter = SeccompFilter::new([(call, vec![])].into(), allow, refuse, std::env::consts::ARCH.try_into().unwrap()).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}
