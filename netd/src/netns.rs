//! Network namespaces as files and file descriptors. Knows the kernel's namespaces; must not know Pods.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

/// The namespace of the calling thread.
pub fn current() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Runs `work` on this thread inside `namespace` and comes back. Sockets opened inside stay there.
///
/// `work` must not be async: a task could leave the thread while it is in the other namespace.
pub fn within<T>(namespace: impl AsFd, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = current()?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let result = work();
    if let Err(error) = setns(home.as_fd(), CloneFlags::CLONE_NEWNET) {
        // Going on would change the wrong host's network.
        tracing::error!(%error, "cannot return to the host's network namespace");
        std::process::abort();
    }
    Ok(result)
}

/// Makes a new, empty namespace and keeps it alive by a mount on `path`, as `ip netns add` does.
pub fn create(path: &Path) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    File::create_new(path)?;
    let path = path.to_path_buf();
    // A namespace belongs to a thread, so a thread of its own makes it and ends.
    let made = {
        let path = path.clone();
        std::thread::spawn(move || -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that makes the namespace panicked")))
    };
    if made.is_err() {
        let _ = std::fs::remove_file(&path);
    }
    made
}

/// Undoes [`create`]; a namespace that is already gone is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether `path` is a namespace that is still there: after a crash or a reboot only an empty file is left.
pub fn is_namespace(path: &Path) -> bool {
    /// Magic number of the kernel's namespace file system. Source: linux/magic.h, `NSFS_MAGIC`.
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type().0 == NSFS_MAGIC)
}
