//! From what is on disk to a running state: log and image are read, checked against each other, and either used whole
//! or refused.

use std::path::Path;

use raft::eraftpb::{ConfState, Entry};

use crate::error::OpenError;
use crate::image::{Image, Meta};
use crate::log::{Append, Base, Identity, Log, LogState};
use crate::model::Revision;
use crate::tree::{Snapshot, Tree};

/// The entry that stands for the founding of a cluster. No log holds it, so a member that joins with nothing can only
/// start from a snapshot, which tells it the membership.
const FOUNDED: u64 = 1;

/// The member that founds a cluster.
pub(super) fn founder(identity: Identity) -> (Identity, Base) {
    let conf_state = ConfState {
        voters: vec![identity.member],
        ..ConfState::default()
    };
    let base = Base {
        index: FOUNDED,
        term: FOUNDED,
        conf_state,
    };
    (identity, base)
}

/// A member that joins a cluster: it knows nothing, votes for nobody, and waits for a leader's snapshot.
pub(super) fn joiner(identity: Identity) -> (Identity, Base) {
    (identity, Base::default())
}

/// What both halves hold together.
pub(super) struct Recovered {
    pub log: LogState,
    /// Describes the image, or the empty state if there is none.
    pub image: Meta,
    pub state: Snapshot,
    /// The log after the image.
    pub entries: Vec<Entry>,
}

/// Reads the whole log after the image: Raft needs it in memory, and the image's interval bounds it.
///
/// # Errors
/// See [`OpenError`]. A damaged image is put aside and rebuilt when the log still starts at the beginning.
pub(super) fn recover(
    log: &mut impl Log,
    image: &mut impl Image,
    path: &Path,
) -> Result<Recovered, OpenError> {
    let mut state = log.state();
    let loaded = match image.load() {
        Ok(loaded) => loaded,
        Err(source) if state.base.index <= FOUNDED => {
            tracing::warn!(%source, path = %path.display(), "state image is put aside and rebuilt from the log");
            let refuse = |source| OpenError::Image {
                path: path.into(),
                log_base: state.base.index,
                source: Box::new(source),
            };
            image.set_aside().map_err(refuse)?;
            None
        }
        Err(source) => {
            let (path, log_base) = (path.into(), state.base.index);
            return Err(OpenError::Image {
                path,
                log_base,
                source: Box::new(source),
            });
        }
    };
    let (meta, tree) = loaded.unwrap_or_else(|| (empty(&state), Tree::default()));
    if meta.installed && meta.identity == state.identity && meta.base.index > state.last_index {
        // A snapshot's state was written, its place in the log was not: every entry of the log is older.
        log.append(Append {
            base: Some(meta.base.clone()),
            ..Append::default()
        })
        .map_err(|source| OpenError::Log(source.into()))?;
        state = log.state();
    }
    check_fit(&state, &meta).map_err(OpenError::Mismatch)?;
    let applied = meta.base.index;
    let read = |low, high| {
        log.entries(low, high, u64::MAX)
            .map_err(|source| OpenError::Log(source.into()))
    };
    if applied > state.base.index {
        let term = read(applied, applied + 1)?[0].term;
        if term != meta.base.term {
            let text = format!(
                "entry {applied} has term {term} in the log and {} in the image",
                meta.base.term
            );
            return Err(OpenError::Mismatch(text));
        }
    }
    let entries = if applied < state.last_index {
        read(applied + 1, state.last_index + 1)?
    } else {
        Vec::new()
    };
    let held = entries.last().map_or(applied, |entry| entry.index);
    if held != state.last_index {
        return Err(OpenError::Mismatch(format!(
            "the log has a hole: it was read up to {held}"
        )));
    }
    let state_now = Snapshot {
        revision: meta.revision,
        tree,
    };
    Ok(Recovered {
        log: state,
        image: meta,
        state: state_now,
        entries,
    })
}

fn empty(log: &LogState) -> Meta {
    let base = if log.base.index <= FOUNDED {
        log.base.clone()
    } else {
        Base::default()
    };
    Meta {
        identity: log.identity,
        base,
        revision: Revision::INITIAL,
        keys: 0,
        digest: 0,
        installed: false,
    }
}

fn check_fit(log: &LogState, image: &Meta) -> Result<(), String> {
    let (applied, base, last) = (image.base.index, log.base.index, log.last_index);
    if image.identity != log.identity {
        return Err(format!(
            "the image is of member {:x}, the log of {:x}",
            image.identity.member, log.identity.member
        ));
    }
    if applied < base {
        return Err(format!(
            "the image ends at entry {applied}, the log starts after {base}"
        ));
    }
    if applied > last {
        return Err(format!("the image holds entry {applied}, the log ends at {last}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::memory::{self as image_memory, MemoryImage};
    use crate::image::{Batch, ImageError};
    use crate::log::memory::{self as log_memory, MemoryLog};

    const ME: Identity = Identity {
        cluster: 1,
        member: 2,
    };

    struct Damaged(MemoryImage);

    impl Image for Damaged {
        fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
            Err(ImageError::Damaged("test".into()))
        }
        fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
            self.0.write(batch)
        }
        fn set_aside(&mut self) -> Result<(), ImageError> {
            self.0.set_aside()
        }
        fn disk_bytes(&self) -> u64 {
            0
        }
    }

    /// A log of entries `base + 1 ..= last`, all of term 1; 1 is the founding.
    fn log(base: u64, last: u64) -> MemoryLog {
        let mut log = MemoryLog::open(&log_memory::Disk::default(), ME, founder(ME).1);
        let entries = (FOUNDED + 1..=last)
            .map(|index| Entry {
                index,
                term: 1,
                ..Entry::default()
            })
            .collect();
        log.append(Append {
            number: 1,
            entries,
            ..Append::default()
        })
        .expect("append");
        log.cut(Base {
            index: base,
            term: 1,
            ..founder(ME).1
        })
        .expect("cut");
        log
    }

    fn image(identity: Identity, index: u64, term: u64) -> MemoryImage {
        let mut image = MemoryImage::open(&image_memory::Disk::default());
        let base = Base {
            index,
            term,
            ..founder(ME).1
        };
        let meta = Meta {
            identity,
            base,
            revision: Revision(9),
            keys: 0,
            digest: 0,
            installed: false,
        };
        image
            .write(&Batch {
                replace: false,
                puts: Vec::new(),
                deletes: Vec::new(),
                meta,
            })
            .expect("write");
        image
    }

    #[track_caller]
    fn check(mut log: MemoryLog, mut image: impl Image, expected: &str) {
        let found = match recover(&mut log, &mut image, Path::new("image")) {
            Ok(recovered) => format!(
                "from {} replay {}",
                recovered.image.base.index,
                recovered.entries.len()
            ),
            Err(OpenError::Image { .. }) => "damaged".into(),
            Err(OpenError::Mismatch(text)) => text,
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn log_and_image_are_used_whole_or_refused() {
        let none = || MemoryImage::open(&image_memory::Disk::default());
        check(log(1, 1), none(), "from 1 replay 0");
        check(log(1, 5), none(), "from 1 replay 4");
        check(log(3, 5), image(ME, 3, 1), "from 3 replay 2");
        check(log(3, 5), image(ME, 5, 1), "from 5 replay 0");
        check(log(5, 5), image(ME, 5, 1), "from 5 replay 0");
        check(
            log(3, 5),
            none(),
            "the image ends at entry 0, the log starts after 3",
        );
        check(
            log(3, 5),
            image(ME, 2, 1),
            "the image ends at entry 2, the log starts after 3",
        );
        check(
            log(3, 5),
            image(ME, 6, 1),
            "the image holds entry 6, the log ends at 5",
        );
        check(
            log(3, 5),
            image(ME, 4, 2),
            "entry 4 has term 1 in the log and 2 in the image",
        );
        let other = Identity { member: 3, ..ME };
        check(
            log(3, 5),
            image(other, 4, 1),
            "the image is of member 3, the log of 2",
        );
    }

    #[test]
    fn an_installed_state_takes_a_log_that_is_behind_with_it() {
        let installed = |installed| {
            let mut image = image(ME, 9, 1);
            let (mut meta, _) = image.load().expect("whole").expect("an image");
            meta.installed = installed;
            image
                .write(&Batch {
                    replace: true,
                    puts: Vec::new(),
                    deletes: Vec::new(),
                    meta,
                })
                .expect("write");
            image
        };
        check(log(1, 5), installed(true), "from 9 replay 0");
        check(
            log(1, 5),
            installed(false),
            "the image holds entry 9, the log ends at 5",
        );
    }

    #[test]
    fn a_damaged_image_is_rebuilt_only_from_a_whole_log() {
        check(log(3, 5), Damaged(none()), "damaged");
        check(log(1, 5), Damaged(none()), "from 1 replay 4");
        fn none() -> MemoryImage {
            MemoryImage::open(&image_memory::Disk::default())
        }
    }
}
