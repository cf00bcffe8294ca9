//! Why the process of a store stopped itself the last time: a note beside the store, for those who look at the member once
//! a supervisor has started it again. Best effort: the disk may be what has failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a reason that are kept.
const MAX_REASON: usize = 4096;

/// One stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    pub at: SystemTime,
    pub reason: String,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("halted")
}

/// Notes why the store in `dir` stops now.
pub(crate) fn note(dir: &Path, reason: &str) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = reason.floor_char_boundary(MAX_REASON);
    // The process ends, and has said why on its standard error.
    let _ = std::fs::write(path(dir), format!("{}\n{}", at.as_secs(), &reason[..end]));
}

/// The last stop of the store in `dir`, if it ever stopped itself.
#[must_use]
pub fn last(dir: &Path) -> Option<Halt> {
    let text = std::fs::read_to_string(path(dir)).ok()?;
    let (seconds, reason) = text.split_once('\n')?;
    Some(Halt {
        at: UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stop_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(last(dir.path()), None);
        note(dir.path(), "first");
        note(dir.path(), &"ü".repeat(MAX_REASON));
        let told = last(dir.path()).expect("a note");
        assert!(told.reason.len() <= MAX_REASON && told.reason.starts_with('ü'));
        assert!(told.at.elapsed().expect("not in the future") < Duration::from_secs(60));
        std::fs::write(path(dir.path()), "torn").expect("a file");
        assert_eq!(last(dir.path()), None);
    }
}
