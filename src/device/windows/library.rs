//! The functions of `wpcap.dll`, found at run time.
//!
//! Owns where the library may come from: the system's own folders, by their full names, never the current folder or `PATH`, where anybody might have put one.
//! Refuses to call anything but the library's version. The signatures are those of pcap(3PCAP), with the sizes of Windows.

use super::pcap_records::is_npcap;
use super::sys::{self, wide};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::{FARPROC, HANDLE, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};

/// A `pcap_t`.
pub(super) type Pcap = c_void;

/// `struct bpf_program`.
#[repr(C)]
pub(super) struct Program {
    pub(super) length: c_uint,
    pub(super) instructions: *const crate::device::filter::Instruction,
}

/// `struct pcap_send_queue`.
#[repr(C)]
pub(super) struct SendQueue {
    pub(super) most: c_uint,
    pub(super) length: c_uint,
    pub(super) records: *const u8,
}

/// `struct pcap_stat`, with room for what Windows appends.
#[repr(C)]
#[derive(Default)]
pub(super) struct Statistics {
    pub(super) received: c_uint,
    pub(super) dropped: c_uint,
    pub(super) dropped_by_interface: c_uint,
    pub(super) appended: [c_uint; 13],
}

/// What every `wpcap.dll` has.
pub(super) struct Library {
    pub(super) create: unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut Pcap,
    pub(super) set_snaplen: unsafe extern "C" fn(*mut Pcap, c_int) -> c_int,
    pub(super) set_promisc: unsafe extern "C" fn(*mut Pcap, c_int) -> c_int,
    pub(super) set_timeout: unsafe extern "C" fn(*mut Pcap, c_int) -> c_int,
    pub(super) set_buffer_size: unsafe extern "C" fn(*mut Pcap, c_int) -> c_int,
    /// Absent before libpcap 1.5.
    pub(super) set_immediate_mode: Option<unsafe extern "C" fn(*mut Pcap, c_int) -> c_int>,
    pub(super) activate: unsafe extern "C" fn(*mut Pcap) -> c_int,
    pub(super) close: unsafe extern "C" fn(*mut Pcap),
    pub(super) datalink: unsafe extern "C" fn(*mut Pcap) -> c_int,
    pub(super) setnonblock: unsafe extern "C" fn(*mut Pcap, c_int, *mut c_char) -> c_int,
    pub(super) next_ex: unsafe extern "C" fn(*mut Pcap, *mut *const u8, *mut *const u8) -> c_int,
    pub(super) sendpacket: unsafe extern "C" fn(*mut Pcap, *const u8, c_int) -> c_int,
    pub(super) setfilter: unsafe extern "C" fn(*mut Pcap, *const Program) -> c_int,
    pub(super) stats: unsafe extern "C" fn(*mut Pcap, *mut Statistics) -> c_int,
    pub(super) breakloop: unsafe extern "C" fn(*mut Pcap),
    pub(super) geterr: unsafe extern "C" fn(*mut Pcap) -> *const c_char,
    pub(super) statustostr: unsafe extern "C" fn(c_int) -> *const c_char,
    pub(super) npcap: Option<Extensions>,
}

/// What Npcap has beyond that.
pub(super) struct Extensions {
    pub(super) sendqueue_transmit: unsafe extern "C" fn(*mut Pcap, *const SendQueue, c_int) -> c_uint,
    pub(super) getevent: unsafe extern "C" fn(*mut Pcap) -> HANDLE,
    pub(super) setmintocopy: unsafe extern "C" fn(*mut Pcap, c_int) -> c_int,
}

/// The library, loaded by whoever asks first; it stays until the process ends.
pub(super) fn library() -> io::Result<&'static Library> {
    static LOADED: OnceLock<Library> = OnceLock::new();
    if LOADED.get().is_none() {
        // If another thread was faster, its table is the one.
        let _ = LOADED.set(Library::load()?);
    }
    LOADED.get().ok_or_else(absent)
}

fn absent() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "Npcap is not installed, which raw frames need: get it from https://npcap.com")
}

/// A function of the library as the type of the field that it is for.
macro_rules! function {
    ($module:expr, $name:literal) => {{
        // SAFETY: the name ends with a zero.
        let address = unsafe { GetProcAddress($module, concat!($name, "\0").as_ptr()) };
        // SAFETY: `FARPROC` is a function pointer or null, as is the option of the field's type, whose signature is that of this name in pcap(3PCAP).
        unsafe { std::mem::transmute::<FARPROC, Option<_>>(address) }
    }};
}

impl Library {
    fn load() -> io::Result<Library> {
        let system = sys::system_folder()?;
        let places = [system.join("Npcap").join("wpcap.dll"), system.join("wpcap.dll")];
        let module = places.iter().find_map(|place| open(place)).ok_or_else(absent)?;
        Library::of_module(module).ok_or_else(|| io::Error::other("wpcap.dll is too old: get Npcap from https://npcap.com"))
    }

    fn of_module(module: HMODULE) -> Option<Library> {
        Some(Library {
            create: function!(module, "pcap_create")?,
            set_snaplen: function!(module, "pcap_set_snaplen")?,
            set_promisc: function!(module, "pcap_set_promisc")?,
            set_timeout: function!(module, "pcap_set_timeout")?,
            set_buffer_size: function!(module, "pcap_set_buffer_size")?,
            set_immediate_mode: function!(module, "pcap_set_immediate_mode"),
            activate: function!(module, "pcap_activate")?,
            close: function!(module, "pcap_close")?,
            datalink: function!(module, "pcap_datalink")?,
            setnonblock: function!(module, "pcap_setnonblock")?,
            next_ex: function!(module, "pcap_next_ex")?,
            sendpacket: function!(module, "pcap_sendpacket")?,
            setfilter: function!(module, "pcap_setfilter")?,
            stats: function!(module, "pcap_stats")?,
            breakloop: function!(module, "pcap_breakloop")?,
            geterr: function!(module, "pcap_geterr")?,
            statustostr: function!(module, "pcap_statustostr")?,
            npcap: if is_npcap(&version(module)) { Extensions::of_module(module) } else { None },
        })
    }
}

impl Extensions {
    fn of_module(module: HMODULE) -> Option<Extensions> {
        Some(Extensions {
            sendqueue_transmit: function!(module, "pcap_sendqueue_transmit")?,
            getevent: function!(module, "pcap_getevent")?,
            setmintocopy: function!(module, "pcap_setmintocopy")?,
        })
    }
}

/// Loads the library at exactly this place; what it needs itself (`Packet.dll`) may lie beside it or in the system's folder.
fn open(place: &Path) -> Option<HMODULE> {
    let name = wide(place.to_str()?);
    let flags = LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32;
    // SAFETY: the name ends with a zero; the library is of the system's own folders, where only an administrator can put one.
    let module = unsafe { LoadLibraryExW(name.as_ptr(), std::ptr::null_mut(), flags) };
    (!module.is_null()).then_some(module)
}

fn version(module: HMODULE) -> String {
    let function: Option<unsafe extern "C" fn() -> *const c_char> = function!(module, "pcap_lib_version");
    // SAFETY: the function takes nothing and returns a text of the library's.
    function.map(|version| unsafe { text(version()) }).unwrap_or_default()
}

/// A copy of a text of the library's.
///
/// # Safety
/// The pointer must be null, or lead to a text with a zero at its end.
pub(super) unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}
