//! Opens a path below a volume without ever leaving it, whatever links a container put there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Directories made on the way get these permission bits, as the kubelet gives them.
const DIRECTORY_MODE: libc::mode_t = 0o750;

/// Opens `path` below `root` (as `O_PATH`); makes it as a directory if it is missing. Links may be followed as long as
/// they stay below `root`.
///
/// # Errors
/// `EXDEV` for a path that leads out of the volume; else from the file system.
pub fn open_or_create(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let base = open_root(root)?;
    match open_beneath(&base, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(base, path),
        other => other,
    }
}

/// A path through which the kernel reaches the opened file itself.
pub fn through(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn create(base: OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let mut walked = PathBuf::new();
    let mut parent = base.try_clone()?;
    for part in Path::new(path).components() {
        let std::path::Component::Normal(name) = part else {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        };
        walked.push(name);
        let text = walked.to_string_lossy().into_owned();
        parent = match open_beneath(&base, &text) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = CString::new(name.as_encoded_bytes())?;
                // SAFETY: `parent` is open and `name` is a valid C string for the length of the call.
                let made = unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), DIRECTORY_MODE) };
                if made != 0 && io::Error::last_os_error().kind() != io::ErrorKind::AlreadyExists {
                    return Err(io::Error::last_os_error());
                }
                open_beneath(&base, &text)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(parent)
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(root.as_os_str().as_encoded_bytes())?;
    // SAFETY: `path` is a valid C string for the length of the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open_beneath(base: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: all-zero is a valid `open_how` (its fields are integers).
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: `base` is open, `path` and `how` live for the length of the call, and the size is that of `how`.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            base.as_raw_fd(),
            path.as_ptr(),
            &how as *const libc::open_how,
            std::mem::size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[track_caller]
    fn check(path: &str, wanted: Result<(), i32>) {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("volume");
        std::fs::create_dir_all(root.join("real")).expect("made");
        symlink("/etc", root.join("out")).expect("linked");
        symlink("../..", root.join("up")).expect("linked");
        symlink("real", root.join("in")).expect("linked");
        let seen = open_or_create(&root, path)
            .map(|_| ())
            .map_err(|error| error.raw_os_error().unwrap_or(0));
        assert_eq!(seen, wanted, "{path}");
    }

    #[test]
    fn stays_in_the_volume() {
        check("real", Ok(()));
        check("in", Ok(()));
        check("new/deep", Ok(()));
        check("in/new", Ok(()));
        check("out/passwd", Err(libc::EXDEV));
        check("out/new", Err(libc::EXDEV));
        check("up/x", Err(libc::EXDEV));
        check("real/../../x", Err(libc::EXDEV));
    }
}
