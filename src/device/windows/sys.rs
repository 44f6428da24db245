//! Events, the registry and text of Windows behind safe functions.
//!
//! Owns lifetimes and lengths of what the system reads and writes. Refuses to decide anything.

use std::io;
use std::path::PathBuf;
use windows_sys::Win32::Foundation::{CloseHandle, ERROR_SUCCESS, HANDLE, MAX_PATH, WAIT_FAILED, WAIT_OBJECT_0, WIN32_ERROR};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_DWORD, RegGetValueW};
use windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForMultipleObjects};

/// The answer of a function that returns its error.
pub(super) fn check(result: WIN32_ERROR) -> io::Result<()> {
    if result == ERROR_SUCCESS { Ok(()) } else { Err(io::Error::from_raw_os_error(result as i32)) }
}

/// Text as the system wants it: UTF-16 with a zero at the end.
pub(super) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// What a thread waits for. Signals stay until they are reset.
pub(super) struct Event(HANDLE);

// SAFETY: a handle of the kernel's, which any thread may use.
unsafe impl Send for Event {}
// SAFETY: as above; the calls on it are atomic.
unsafe impl Sync for Event {}

impl Event {
    /// Not signalled.
    pub(super) fn new() -> io::Result<Event> {
        // SAFETY: both pointers may be null: no security attributes, no name.
        let handle = unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(Event(handle)) }
    }

    /// Signals it. Never blocks.
    pub(super) fn set(&self) {
        // SAFETY: the handle is open as long as `self` lives.
        unsafe { SetEvent(self.0) };
    }

    /// For [`wait_for_any`].
    pub(super) fn signal(&self) -> Signal<'_> {
        Signal(self.0, std::marker::PhantomData)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nobody uses it after this.
        unsafe { CloseHandle(self.0) };
    }
}

/// A borrowed event, perhaps one of the driver's.
#[derive(Copy, Clone)]
pub(super) struct Signal<'a>(HANDLE, std::marker::PhantomData<&'a ()>);

impl Signal<'_> {
    /// An event that belongs to somebody else.
    ///
    /// # Safety
    /// The handle must be an event's, and stay open for the lifetime.
    pub(super) unsafe fn from_raw(handle: HANDLE) -> Self {
        Signal(handle, std::marker::PhantomData)
    }

    /// Takes the signal back.
    pub(super) fn reset(self) {
        // SAFETY: the handle is an event's, and open for the lifetime.
        unsafe { ResetEvent(self.0) };
    }
}

/// Waits until one of them is signalled, or (with `at_once`) not at all; says which is, the first if several are.
pub(super) fn wait_for_any(signals: &[Signal<'_>], at_once: bool) -> io::Result<Option<usize>> {
    let handles: smallvec::SmallVec<[HANDLE; 2]> = signals.iter().map(|signal| signal.0).collect();
    let timeout = if at_once { 0 } else { INFINITE };
    // SAFETY: count and pointer describe `handles`, which are open for the length of the call.
    let result = unsafe { WaitForMultipleObjects(handles.len() as u32, handles.as_ptr(), 0, timeout) };
    if result == WAIT_FAILED {
        return Err(io::Error::last_os_error());
    }
    let index = result.wrapping_sub(WAIT_OBJECT_0) as usize;
    Ok((index < handles.len()).then_some(index))
}

/// A number below `HKEY_LOCAL_MACHINE`; `None` if there is none, or it may not be read.
pub(super) fn registry_number(key: &str, name: &str) -> Option<u32> {
    let (key, name) = (wide(key), wide(name));
    let (mut value, mut size) = (0_u32, size_of::<u32>() as u32);
    // SAFETY: both texts end with a zero; the system writes at most `size` bytes, which is the size of `value`.
    let result = unsafe {
        let to = (&raw mut value).cast();
        RegGetValueW(HKEY_LOCAL_MACHINE, key.as_ptr(), name.as_ptr(), RRF_RT_REG_DWORD, std::ptr::null_mut(), to, &mut size)
    };
    (result == ERROR_SUCCESS).then_some(value)
}

/// `C:\Windows\System32`, whatever it is called.
pub(super) fn system_folder() -> io::Result<PathBuf> {
    let mut text = [0_u16; MAX_PATH as usize + 1];
    // SAFETY: pointer and length describe `text`.
    let length = unsafe { GetSystemDirectoryW(text.as_mut_ptr(), text.len() as u32) } as usize;
    match text.get(..length) {
        Some(units) if length > 0 => Ok(PathBuf::from(String::from_utf16_lossy(units))),
        _ => Err(io::Error::last_os_error()),
    }
}
