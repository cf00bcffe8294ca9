//! From what is on disk to a running state: log and image are read, checked against each other, and either used whole
//! or refused. With other members nothing is refused: what is damaged is put aside, and the member starts with what is
//! left, marked as one that has lost something ([`crate::log::Lost`]), to get the rest from them.

use std::path::Path;

use raft::eraftpb::{ConfState, Entry, HardState};

use crate::error::OpenError;
use crate::image::{Image, Meta};
use crate::log::{Append, Base, Identity, Log, LogError, LogState, Lost};
use crate::model::Revision;
use crate::tree::{Snapshot, Tree};

/// The entry that stands for the founding of a cluster. No log holds it, so a member that joins with nothing can only
/// start from a snapshot, which tells it the membership.
const FOUNDED: u64 = 1;

/// The member that founds a cluster.
pub fn founder(identity: Identity) -> (Identity, Base) {
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
pub fn joiner(identity: Identity) -> (Identity, Base) {
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
/// See [`OpenError`]. A damaged image is put aside and rebuilt when the log still starts at the beginning, or peers can
/// send the state.
pub(super) fn recover(
    log: &mut impl Log,
    image: &mut impl Image,
    path: &Path,
) -> Result<Recovered, OpenError> {
    let state = log.state();
    if let Some(lost) = state.lost {
        let error = LogError::Lost {
            last_index: state.last_index,
            durable: lost.index,
        };
        if !log.has_peers() {
            return Err(log_error(error));
        }
        tracing::error!(%error, "the other members have to repair this one; until then it neither votes nor leads");
        renounce(log, lost, None).map_err(log_error)?;
    }
    match read(log, image, path) {
        Err(error) if log.has_peers() => {
            tracing::error!(%error, "the other members have to repair this one; until then it neither votes nor leads");
            image.set_aside().map_err(|source| OpenError::Image {
                path: path.into(),
                log_base: state.base.index,
                source: source.into(),
            })?;
            forget(log).map_err(log_error)?;
            read(log, image, path)
        }
        read => read,
    }
}

/// Empties the log; everything it held counts as lost. The image has been put aside before: a crash in between must not
/// leave one that looks whole.
///
/// # Errors
/// Those of the log.
pub(super) fn forget(log: &mut impl Log) -> Result<(), LogError> {
    let state = log.state();
    let earlier = state.lost.unwrap_or_default();
    let lost = Lost {
        index: state.last_index.max(earlier.index),
        term: state.hard_state.term.max(earlier.term),
    };
    log.note_loss(Some(lost))?;
    renounce(log, lost, Some(Base::default()))
}

/// The member takes its newest term for one in which it has voted already, for it may have.
fn renounce(log: &mut impl Log, lost: Lost, base: Option<Base>) -> Result<(), LogError> {
    let LogState {
        identity,
        hard_state,
        last_index,
        ..
    } = log.state();
    let held = base.as_ref().map_or(last_index, |base| base.index);
    let hard_state = HardState {
        term: lost.term.max(hard_state.term),
        vote: identity.member,
        commit: hard_state.commit.min(held),
        ..HardState::default()
    };
    log.append(Append {
        base,
        hard_state: Some(hard_state),
        ..Append::default()
    })
    .map(drop)
}

fn log_error(source: LogError) -> OpenError {
    OpenError::Log(source.into())
}

fn read(log: &mut impl Log, image: &mut impl Image, path: &Path) -> Result<Recovered, OpenError> {
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
    let behind = meta.installed || state.lost.is_some();
    if behind && meta.identity == state.identity && meta.base.index > state.last_index {
        // A snapshot's state was written, its place in the log was not; or that part of the log is lost. Either way
        // every entry of the log is older.
        log.append(Append {
            base: Some(meta.base.clone()),
            ..Append::default()
        })
        .map_err(log_error)?;
        state = log.state();
    }
    check_fit(&state, &meta).map_err(OpenError::Mismatch)?;
    let applied = meta.base.index;
    let read = |low, high| log.entries(low, high, u64::MAX).map_err(log_error);
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
        bytes: 0,
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

    /// Damaged until it is put aside.
    struct Damaged(MemoryImage, bool);

    impl Image for Damaged {
        fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
            if self.1 {
                return Ok(None);
            }
            Err(ImageError::Damaged("test".into()))
        }
        fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
            self.0.write(batch)
        }
        fn set_aside(&mut self) -> Result<(), ImageError> {
            self.1 = true;
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
            bytes: 0,
            installed: false,
        };
        image
            .write(&Batch {
                replace: false,
                puts: Vec::new(),
                deletes: Vec::new(),
                meta,
                state: Tree::default(),
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
                    state: Tree::default(),
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
    fn with_peers_what_is_damaged_is_put_aside_and_votes_are_renounced() {
        let none = || MemoryImage::open(&image_memory::Disk::default());
        let disk = log_memory::Disk::default();
        let open = || MemoryLog::open(&disk, ME, founder(ME).1);
        let entry = |index| Entry {
            index,
            term: 4,
            ..Entry::default()
        };
        let hard_state = HardState {
            term: 4,
            vote: 3,
            commit: 5,
            ..HardState::default()
        };
        open()
            .append(Append {
                entries: (2..=6).map(entry).collect(),
                hard_state: Some(hard_state),
                ..Append::default()
            })
            .expect("append");
        disk.lose_after(4);
        assert!(matches!(
            recover(&mut open(), &mut none(), Path::new("image")),
            Err(OpenError::Log(_))
        ));
        open().note_peers(true).expect("noted");
        let check = |image: &mut dyn FnMut() -> Damaged, expected: (u64, u64)| {
            let recovered = recover(&mut open(), &mut image(), Path::new("image")).expect("opens");
            let LogState {
                base,
                hard_state,
                last_index,
                lost,
                ..
            } = recovered.log;
            assert_eq!((base.index, last_index), expected);
            assert_eq!(lost, Some(Lost { index: 6, term: 4 }));
            assert_eq!((hard_state.term, hard_state.vote), (4, ME.member));
            assert_eq!(hard_state.commit, last_index.min(4));
        };
        // Of a log that starts with the founding the image can be rebuilt, as far as it goes.
        check(&mut || Damaged(none(), false), (1, 4));
        open()
            .cut(Base {
                index: 3,
                term: 4,
                ..founder(ME).1
            })
            .expect("cut");
        check(&mut || Damaged(none(), false), (0, 0));
    }

    #[test]
    fn a_damaged_image_is_rebuilt_only_from_a_whole_log() {
        check(log(3, 5), Damaged(none(), false), "damaged");
        check(log(1, 5), Damaged(none(), false), "from 1 replay 4");
        fn none() -> MemoryImage {
            MemoryImage::open(&image_memory::Disk::default())
        }
    }
}
