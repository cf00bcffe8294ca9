//! How a witness follows: it holds no record, so servers hand it the files of the peers' authority, and no others.
//!
//! Every server hands them over when it has taken a record up itself, again and again until the witness has them or there is
//! a newer record. Must not know how they travel (the store's peers).

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use corten_store::peers::Peers;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::pki::PkiError;
use crate::pki::rollover::{self, Files};
use crate::{ApiServer, members};

/// Between two tries to hand something to a witness that is not reached; doubles up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is handed over.
#[derive(Serialize, Deserialize)]
struct Handed {
    /// Of the record: what is older than what a witness has is no news.
    revision: u64,
    files: Files,
}

/// The words for a witness about a record.
pub(super) fn words(revision: u64, files: &Files) -> Bytes {
    let handed = Handed {
        revision,
        files: rollover::of_peers(files),
    };
    serde_json::to_vec(&handed)
        .expect("names and texts are JSON")
        .into()
}

/// Until every witness has them.
pub(super) async fn hand_to_all(server: &ApiServer, words: Bytes) {
    let inner = server.inner();
    let Some(peers) = &inner.config.peers else { return };
    let me = inner.store.identity();
    let (mut done, mut backoff) = (Vec::new(), BACKOFF.0);
    loop {
        let mut waiting = false;
        for witness in members::all(&inner.store.snapshot()) {
            if !witness.witness || witness.removed || done.contains(&witness.id) {
                continue;
            }
            match peers.hand(me, witness.id, words.clone()).await {
                Ok(()) => done.push(witness.id),
                Err(error) => {
                    tracing::debug!(%error, witness = witness.name, "the authorities were not handed over");
                    waiting = true;
                }
            }
        }
        if !waiting {
            return;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Once, before somebody asks what the witness shows; whoever does not take them shows what it had.
pub(super) async fn hand(peers: &Peers, me: corten_store::Identity, witness: u64, words: Bytes) {
    if let Err(error) = peers.hand(me, witness, words).await {
        tracing::debug!(%error, witness = format!("{witness:016x}"), "the authorities were not handed over");
    }
}

/// The witness's side: writes what it is handed below `dir`, and calls `take_over`.
pub fn taking(
    dir: PathBuf,
    take_over: impl Fn() -> Result<(), PkiError> + Send + Sync + 'static,
) -> impl Fn(Bytes) -> Result<(), String> + Send + Sync + 'static {
    let newest = Mutex::new(0);
    move |words| {
        let handed: Handed = serde_json::from_slice(&words).map_err(|error| error.to_string())?;
        let mut newest = newest.lock();
        if handed.revision < *newest {
            return Ok(());
        }
        let take = || {
            let changed = rollover::write_peers(&dir, &handed.files)?;
            take_over().map(|()| changed)
        };
        if take().map_err(|error: PkiError| error.to_string())? {
            tracing::info!("the members' authority has changed");
        }
        *newest = handed.revision;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::pki::peers::PeerPki;
    use crate::pki::{Ca, FrontProxy};

    #[test]
    fn what_is_older_is_no_news() {
        let dirs = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
        let [server, witness] = dirs.each_ref().map(|dir| dir.path().to_owned());
        let now = OffsetDateTime::now_utc();
        Ca::open(&server, now).expect("an authority");
        FrontProxy::open(&server, now).expect("an authority");
        PeerPki::ensure_ca(&server, now).expect("an authority");
        let first = rollover::read(&server).expect("read");
        let second = rollover::rotate_authority(&first, now).expect("rotated");
        let told = words(7, &second);
        let text = String::from_utf8_lossy(&told);
        for secret in ["authorities.key", "\"ca.key", "front-proxy", "sa.key"] {
            assert!(!text.contains(secret), "{secret}");
        }
        let take = taking(witness.clone(), || Ok(()));
        take(told.clone()).expect("taken");
        take(words(6, &first)).expect("passed over");
        assert_eq!(
            rollover::read(&witness).expect("read"),
            rollover::of_peers(&second)
        );
        take(told).expect("the same again");
        assert!(take(Bytes::from_static(b"{}")).is_err());
        assert!(take(words(8, &Files::new())).is_err());
    }
}
