//! What the API server does to read, with the same functions of the store: a barrier and then the newest state, what is
//! here if it is new enough, a list's pages at one revision, a watch that waits until its member has come to its beginning.

use bytes::Bytes;
use corten_store::{Revision, Snapshot, SnapshotError, Store};

/// Why a read has no answer.
#[derive(Debug)]
pub enum Why {
    /// 503: nobody confirmed in time.
    Unavailable,
    /// 410.
    Compacted { oldest: u64 },
    /// 504: "Too large resource version".
    TooLarge { newest: u64 },
}

/// A revision, and a state that is not older.
pub type Read = Result<(u64, Snapshot), Why>;

/// The newest state.
pub async fn newest(store: Store) -> Read {
    let confirmed = store.read_barrier().await.map_err(|_| Why::Unavailable)?;
    Ok((confirmed.0, store.snapshot()))
}

/// What this member has, if it is not older than `revision`; else the newest.
pub async fn not_older_than(store: Store, revision: u64) -> Read {
    let mut snapshot = store.snapshot();
    if snapshot.revision().0 < revision {
        snapshot = newest(store).await?.1;
    }
    match snapshot.revision().0 {
        current if current < revision => Err(Why::TooLarge { newest: current }),
        _ => Ok((revision, snapshot)),
    }
}

/// The state at `revision`.
pub async fn exact(store: Store, revision: u64) -> Read {
    if store.snapshot().revision().0 < revision {
        newest(store.clone()).await?;
    }
    let found = store
        .snapshot_at(Revision(revision))
        .map_err(|error| match error {
            SnapshotError::Compacted { oldest } => Why::Compacted { oldest: oldest.0 },
            SnapshotError::Future { newest } => Why::TooLarge { newest: newest.0 },
        })?;
    Ok((revision, found))
}

/// The first key of the page after one that ended with `last`.
pub fn next_key(last: &[u8]) -> Bytes {
    let mut next = last.to_vec();
    next.push(0);
    next.into()
}
