//! Room on the disk: how much is free, how much of it nobody may write into, and a placeholder that is given up when the
//! log cannot be written any more. Knows the file system, not what is stored.
//!
//! Below the reserve nothing new is taken: what would make the state larger is refused, while deletions, compaction,
//! and whatever does not grow go on, inside the reserve. It clears itself as soon as there is room again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::{Op, Txn};
use crate::tree::Snapshot;

/// What is kept free where the file system is large enough for it.
const RESERVE_BYTES: u64 = 1 << 30;
/// The share of a large file system that is kept free: one in so many.
const RESERVE_SHARE: u64 = 20;
/// A share of a very large one would be more than a log and an image ever need.
const MOST_BYTES: u64 = 5 << 30;
/// The largest share of a small one.
const SMALL_SHARE: u64 = 8;
/// The placeholder's share of the reserve, and its largest size.
const PLACEHOLDER_SHARE: u64 = 4;
const PLACEHOLDER_BYTES: u64 = 64 << 20;
/// How much larger a value may become while there is no room: a deletion timestamp, a condition of a status.
const SLACK: usize = 1024;
/// While there is no room, the file system is asked this often at most.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How much of a file system is kept free, in bytes, when `wanted` is not said: 5 %, at least 1 and at most 5 GiB; but
/// never more than an eighth.
pub fn reserve(total: u64, wanted: Option<u64>) -> u64 {
    let usual = (total / RESERVE_SHARE).clamp(RESERVE_BYTES, MOST_BYTES);
    wanted.unwrap_or(usual).min(total / SMALL_SHARE)
}

/// Whether a transaction is taken even though there is no room: it deletes, or changes what is there without making it
/// much larger, or writes below one of the `vital` prefixes.
pub fn fits(txn: &Txn, state: &Snapshot, vital: &[&'static str]) -> bool {
    txn.ops.iter().all(|op| match op {
        Op::Delete { .. } => true,
        Op::Put { key, value } => {
            let room = state.get(key).map_or(0, |entry| entry.value.len() + SLACK);
            value.len() <= room || vital.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
        }
    })
}

/// What was found when there was too little room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub free: u64,
    pub reserve: u64,
}

/// The room around one folder.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    total: u64,
    reserve: u64,
    free: AtomicU64,
    full: AtomicBool,
    looked: Mutex<Instant>,
}

impl Space {
    /// Looks around `dir`, and makes the placeholder if there is room for it.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn open(dir: &Path, wanted: Option<u64>) -> io::Result<Space> {
        let (total, free) = ask(dir)?;
        let space = Space {
            dir: dir.to_owned(),
            total,
            reserve: reserve(total, wanted),
            free: AtomicU64::new(free),
            full: AtomicBool::new(false),
            looked: Mutex::new(Instant::now()),
        };
        space.look();
        Ok(space)
    }

    /// Bytes of the whole file system.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes nobody may write into, the placeholder included.
    pub fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Whether there was too little room when somebody last looked.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether there is too little room. While there is, the file system is asked again now and then.
    pub fn check(&self) -> Result<(), Full> {
        if self.is_full() {
            let mut looked = self.looked.lock();
            if looked.elapsed() >= LOOK_AGAIN {
                *looked = Instant::now();
                self.look();
            }
        }
        if self.is_full() {
            return Err(Full {
                free: self.free.load(Ordering::Relaxed),
                reserve: self.reserve,
            });
        }
        Ok(())
    }

    /// Asks the file system. For whoever has just written.
    pub fn look(&self) {
        let Ok((_, free)) = ask(&self.dir) else { return };
        self.free.store(free, Ordering::Relaxed);
        let placeholder = self.placeholder();
        let held = std::fs::metadata(&placeholder).map_or(0, |metadata| metadata.len());
        if held == 0 && free >= self.reserve {
            // Without it the reserve is still observed.
            if let Err(error) = allocate(&placeholder, self.placeholder_bytes()) {
                tracing::warn!(%error, "no placeholder in the data folder");
                let _ = std::fs::remove_file(&placeholder);
            }
        }
        let full = free + held < self.reserve;
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(free, reserve = self.reserve, "disk is full: writes are refused");
            } else {
                tracing::info!(free, "disk has room again: writes are taken");
            }
        }
    }

    /// Makes room for what must be written; whether there was any.
    pub fn give_up_placeholder(&self) -> bool {
        let given = std::fs::remove_file(self.placeholder()).is_ok();
        self.look();
        given
    }

    fn placeholder(&self) -> PathBuf {
        self.dir.join("placeholder")
    }

    fn placeholder_bytes(&self) -> u64 {
        (self.reserve / PLACEHOLDER_SHARE).min(PLACEHOLDER_BYTES)
    }
}

/// What of a file is on disk is read from there the next time, not from memory. No more than a wish.
pub(crate) fn forget_cached(path: &Path) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    if let Ok(file) = File::open(path) {
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// Total and free bytes, as far as they are not for others.
fn ask(dir: &Path) -> io::Result<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    let unit = found.fragment_size();
    Ok((found.blocks() * unit, found.blocks_available() * unit))
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    nix::fcntl::posix_fallocate(&file, 0, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Precondition;
    use crate::mvcc::Mvcc;

    #[test]
    fn the_reserve_suits_the_file_system() {
        const GIB: u64 = 1 << 30;
        assert_eq!(reserve(40 * GIB, None), 2 * GIB);
        assert_eq!(reserve(1000 * GIB, None), 5 * GIB);
        assert_eq!(reserve(10 * GIB, None), GIB);
        assert_eq!(reserve(GIB, None), GIB / 8);
        assert_eq!(reserve(100 * GIB, Some(7)), 7);
        assert_eq!(reserve(8 * GIB, Some(100 * GIB)), GIB);
    }

    #[track_caller]
    fn check(op: Op, expected: bool) {
        let mut mvcc = Mvcc::default();
        mvcc.apply(Txn::new(vec![], vec![put("/pods/a", 100)]));
        let txn = Txn::new(vec![Precondition::Exists("/pods/a".into())], vec![op]);
        assert_eq!(fits(&txn, &mvcc.snapshot(), &["/leases/"]), expected);
    }

    fn put(key: &'static str, size: usize) -> Op {
        Op::Put {
            key: key.into(),
            value: vec![0; size].into(),
        }
    }

    #[test]
    fn what_does_not_grow_is_taken_without_room() {
        check(
            Op::Delete {
                key: "/pods/a".into(),
            },
            true,
        );
        check(put("/pods/a", 90), true);
        check(put("/pods/a", 100 + SLACK), true);
        check(put("/pods/a", 101 + SLACK), false);
        check(put("/pods/b", 1), false);
        check(put("/leases/b", 300), true);
    }
}
