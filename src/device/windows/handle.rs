//! One open capture of `wpcap.dll` behind safe functions.
//!
//! Owns a `pcap_t` and what may be called on it from where: everything but [`Handle::interrupt`] takes `&mut`, so one thread at a time. Refuses to wait for
//! anything but frames.

use super::library::{Library, Pcap, Program, SendQueue, Statistics, library, text};
use super::pcap_records::{RecordHeader, SendRecords};
use super::sys::Signal;
use crate::device::filter::Filter;
use crate::packet::LARGE_SLOT;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// `PCAP_ERRBUF_SIZE`.
const ERROR_BYTES: usize = 256;
/// `PCAP_ERROR_BREAK`.
const INTERRUPTED: c_int = -2;
/// `PCAP_ERROR_PERM_DENIED` and `PCAP_ERROR_PROMISC_PERM_DENIED`.
const DENIED: [c_int; 2] = [-8, -11];
/// Bytes of the driver's buffer for us: its usual megabyte is a millisecond of a fast link.
const BUFFER_BYTES: c_int = 16 << 20;
/// The same for a capture that is not read.
const UNREAD_BUFFER_BYTES: c_int = 64 << 10;
/// How long a library without immediate mode may hold frames back, in milliseconds.
const TIMEOUT_MILLIS: c_int = 1;

/// What a capture is for.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To receive; with `everything` also frames for other stations.
    Receive {
        /// The adapter is to take whatever passes.
        everything: bool,
    },
    /// To send.
    Send,
}

/// What [`Handle::next`] found.
pub(super) enum Next<'a> {
    /// A frame, and whether it was longer than what there is of it.
    Frame(&'a [u8], bool),
    /// None now.
    Nothing,
    /// Somebody called [`Handle::interrupt`].
    Interrupted,
}

/// The `pcap_t` itself; closed when the last owner is gone.
struct Capture {
    library: &'static Library,
    pcap: NonNull<Pcap>,
}

// SAFETY: a `pcap_t` belongs to no thread; `Handle` lets one thread at a time call what is not made for several.
unsafe impl Send for Capture {}
// SAFETY: what is called through a shared reference is `pcap_breakloop`, which is made for other threads.
unsafe impl Sync for Capture {}

impl Drop for Capture {
    fn drop(&mut self) {
        // SAFETY: the `pcap_t` is ours, and nobody uses it after this.
        unsafe { (self.library.close)(self.pcap.as_ptr()) };
    }
}

/// An active capture.
pub(super) struct Handle {
    capture: Arc<Capture>,
    blocks: bool,
}

/// Ends [`Handle::next`] of another thread, or its next call.
pub(super) struct Interrupter(Arc<Capture>);

impl Interrupter {
    /// Never blocks.
    pub(super) fn interrupt(&self) {
        // SAFETY: the `pcap_t` is open as long as `self` lives; pcap_breakloop may be called from any thread.
        unsafe { (self.0.library.breakloop)(self.0.pcap.as_ptr()) };
    }
}

impl Handle {
    /// Opens the device of an adapter.
    pub(super) fn open(device: &str, purpose: Purpose) -> io::Result<Handle> {
        let library = library()?;
        let name = CString::new(device).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut message = [0 as c_char; ERROR_BYTES];
        // SAFETY: the name ends with a zero; the library writes at most `PCAP_ERRBUF_SIZE` bytes of message.
        let pcap = unsafe { (library.create)(name.as_ptr(), message.as_mut_ptr()) };
        // SAFETY: if the library wrote no message, the text is empty; it always ends with a zero.
        let pcap = NonNull::new(pcap).ok_or_else(|| io::Error::other(unsafe { text(message.as_ptr()) }))?;
        let handle = Handle { capture: Arc::new(Capture { library, pcap }), blocks: true };
        handle.activate(purpose)?;
        Ok(handle)
    }

    fn activate(&self, purpose: Purpose) -> io::Result<()> {
        let (library, pcap) = (self.capture.library, self.pcap());
        let buffer_bytes = if purpose == Purpose::Send { UNREAD_BUFFER_BYTES } else { BUFFER_BYTES };
        let everything = purpose == Purpose::Receive { everything: true };
        // SAFETY: the `pcap_t` is open and not yet active, as these functions want it.
        let status = unsafe {
            (library.set_snaplen)(pcap, LARGE_SLOT as c_int);
            (library.set_promisc)(pcap, everything.into());
            (library.set_timeout)(pcap, TIMEOUT_MILLIS);
            (library.set_buffer_size)(pcap, buffer_bytes);
            if let Some(set_immediate_mode) = library.set_immediate_mode {
                set_immediate_mode(pcap, 1);
            }
            (library.activate)(pcap)
        };
        if status < 0 {
            return Err(self.activation_error(status));
        }
        if let Some(npcap) = &library.npcap {
            // SAFETY: the `pcap_t` is open and active. For versions without immediate mode.
            unsafe { (npcap.setmintocopy)(pcap, 0) };
        }
        Ok(())
    }

    fn activation_error(&self, status: c_int) -> io::Error {
        if DENIED.contains(&status) {
            let text = "no permission for raw frames: run as administrator (Npcap can be installed for administrators only)";
            return io::Error::new(io::ErrorKind::PermissionDenied, text);
        }
        // SAFETY: the function returns a text of the library's for every number.
        let kind = unsafe { text((self.capture.library.statustostr)(status)) };
        io::Error::other(format!("{kind} ({})", self.error_text()))
    }

    fn pcap(&self) -> *mut Pcap {
        self.capture.pcap.as_ptr()
    }

    fn error_text(&self) -> String {
        // SAFETY: the `pcap_t` is open; the text is its own, and copied at once.
        unsafe { text((self.capture.library.geterr)(self.pcap())) }
    }

    fn check(&self, status: c_int) -> io::Result<()> {
        if status < 0 { Err(io::Error::other(self.error_text())) } else { Ok(()) }
    }

    /// What interrupts this handle.
    pub(super) fn interrupter(&self) -> Interrupter {
        Interrupter(self.capture.clone())
    }

    /// The link-layer type (`DLT_…`).
    pub(super) fn link_type(&self) -> i32 {
        // SAFETY: the `pcap_t` is open and active.
        unsafe { (self.capture.library.datalink)(self.pcap()) }
    }

    /// The event that the driver signals when there are frames, where it has one.
    pub(super) fn event(&self) -> Option<Signal<'_>> {
        let npcap = self.capture.library.npcap.as_ref()?;
        // SAFETY: the `pcap_t` is open and active.
        let handle = unsafe { (npcap.getevent)(self.pcap()) };
        // SAFETY: the event belongs to the `pcap_t`, which is open as long as `self` is borrowed.
        (!handle.is_null()).then(|| unsafe { Signal::from_raw(handle) })
    }

    /// Whether [`Handle::next`] waits for a frame.
    pub(super) fn set_blocking(&mut self, blocks: bool) -> io::Result<()> {
        if self.blocks == blocks {
            return Ok(());
        }
        let mut message = [0 as c_char; ERROR_BYTES];
        // SAFETY: the `pcap_t` is open and active; the library writes at most `PCAP_ERRBUF_SIZE` bytes of message.
        let status = unsafe { (self.capture.library.setnonblock)(self.pcap(), (!blocks).into(), message.as_mut_ptr()) };
        self.check(status)?;
        self.blocks = blocks;
        Ok(())
    }

    /// The next frame. It is the library's until the next call.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        let (mut header, mut bytes) = (std::ptr::null(), std::ptr::null());
        // SAFETY: the `pcap_t` is open and active; the library writes two pointers.
        let status = unsafe { (self.capture.library.next_ex)(self.pcap(), &mut header, &mut bytes) };
        match status {
            1 => {}
            0 => return Ok(Next::Nothing),
            INTERRUPTED => return Ok(Next::Interrupted),
            _ => return Err(io::Error::other(self.error_text())),
        }
        // SAFETY: with a 1 the first pointer leads to a `struct pcap_pkthdr`, which is 16 bytes, valid until the next call.
        let header = unsafe { std::slice::from_raw_parts(header, RecordHeader::LENGTH) };
        let Some(header) = RecordHeader::parse(header) else {
            return Err(io::Error::other("wpcap.dll gave a frame that contradicts itself"));
        };
        // SAFETY: with a 1 the second pointer leads to as many bytes as the header says were captured, valid until the next call, which needs
        // `self` mutably.
        let frame = unsafe { std::slice::from_raw_parts(bytes, header.captured as usize) };
        Ok(Next::Frame(frame, header.is_truncated()))
    }

    /// Replaces the filter.
    pub(super) fn set_filter(&mut self, filter: &Filter) -> io::Result<()> {
        let instructions = filter.instructions();
        let program = Program { length: instructions.len() as u32, instructions: instructions.as_ptr() };
        // SAFETY: the `pcap_t` is open and active; the program describes the slice, of the library's own layout, which is copied.
        let status = unsafe { (self.capture.library.setfilter)(self.pcap(), &program) };
        self.check(status)
    }

    /// Frames dropped for want of room in the driver's buffer since the capture began, as far as the library knows.
    pub(super) fn dropped(&mut self) -> u32 {
        let mut statistics = Statistics::default();
        // SAFETY: the `pcap_t` is open and active; the library writes less than the structure has room for.
        let status = unsafe { (self.capture.library.stats)(self.pcap(), &mut statistics) };
        if status == 0 { statistics.dropped } else { 0 }
    }

    /// Sends frames in order; says how many the driver took. Zero of some is an error of the first.
    pub(super) fn send(&mut self, records: &SendRecords) -> io::Result<usize> {
        let sent = match &self.capture.library.npcap {
            Some(npcap) => {
                let length = records.bytes().len() as u32;
                let queue = SendQueue { most: length, length, records: records.bytes().as_ptr() };
                // SAFETY: the `pcap_t` is open and active; the queue describes the records, which the library only reads. 0: without timing.
                records.frames_within(unsafe { (npcap.sendqueue_transmit)(self.pcap(), &queue, 0) } as usize)
            }
            None => records.frames().take_while(|frame| self.send_one(frame)).count(),
        };
        if sent == 0 && records.count() > 0 { Err(io::Error::other(self.error_text())) } else { Ok(sent) }
    }

    fn send_one(&self, frame: &[u8]) -> bool {
        // SAFETY: the `pcap_t` is open and active; pointer and length describe the frame, which the library only reads.
        unsafe { (self.capture.library.sendpacket)(self.pcap(), frame.as_ptr(), frame.len() as c_int) == 0 }
    }
}
