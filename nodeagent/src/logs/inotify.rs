//! A thin asynchronous wrapper around the kernel's inotify.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use tokio::io::unix::AsyncFd;

/// Room for a batch of events; names are at most 255 bytes each.
const BUFFER_BYTES: usize = 4096;

pub struct Inotify {
    fd: AsyncFd<OwnedFd>,
}

impl Inotify {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// From the kernel (`EMFILE`: too many instances of this user).
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Inotify { fd })
    }

    /// Watches `path`; `mask` as in inotify(7). Returns the watch's number, which its events carry.
    ///
    /// # Errors
    /// From the kernel.
    pub fn add(&self, path: &Path, mask: u32) -> io::Result<i32> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the descriptor is open and `path` is a valid C string for the length of the call.
        let watch = unsafe { libc::inotify_add_watch(self.fd.as_raw_fd(), path.as_ptr(), mask) };
        if watch < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(watch)
        }
    }

    /// Waits for events and returns the numbers of the watches they belong to. May be dropped at any time.
    ///
    /// # Errors
    /// From the kernel.
    pub async fn next(&self) -> io::Result<Vec<i32>> {
        loop {
            let mut guard = self.fd.readable().await?;
            let mut buffer = [0_u8; BUFFER_BYTES];
            let read = guard.try_io(|fd| {
                // SAFETY: the buffer is writable and as long as stated.
                let read = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                if read < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(read as usize)
                }
            });
            if let Ok(read) = read {
                return Ok(watches(&buffer[..read?]));
            }
        }
    }
}

/// Each event: watch i32, mask u32, cookie u32, length u32, then a name of that length.
fn watches(mut events: &[u8]) -> Vec<i32> {
    let word = |bytes: &[u8], at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().expect("four bytes") };
    let mut found = Vec::new();
    while events.len() >= 16 {
        found.push(i32::from_ne_bytes(word(events, 0)));
        let length = u32::from_ne_bytes(word(events, 12)) as usize;
        events = events.get(16 + length..).unwrap_or_default();
    }
    found
}
