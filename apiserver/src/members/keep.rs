//! What a server does about members on its own: it knows everybody's address, and the leader makes voters of learners that
//! have caught up, finishes removals and keeps the Service `kubernetes` to the servers that are there. Everything waits for news; nothing polls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use corten_store::peers::Peers;
use corten_store::{Change, Standing, Store, WatchItem};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::record::{Record, all, range};
use crate::ApiServer;

/// Log entries by which a learner may be behind when it gets its vote: less than what a leader has on its way to a peer.
const MAX_LAG: u64 = 256;

/// A server that is silent for so long is no endpoint of the Service `kubernetes` any more.
const UNPUBLISH_AFTER: Duration = Duration::from_secs(5);
/// After a change that failed.
const RETRY: Duration = Duration::from_millis(250);

/// Tells `peers` who is where, now and whenever a record changes, until `stop`.
pub async fn follow(store: Store, peers: Peers, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let snapshot = store.snapshot();
        tell(&peers, &all(&snapshot));
        let Ok(mut watch) = store.watch(range(), snapshot.revision()) else {
            // Compacted in between: read again.
            continue;
        };
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                () = stop.cancelled() => return,
            };
            match item {
                Some(Ok(WatchItem::Event(_))) => tell(&peers, &all(&store.snapshot())),
                Some(Ok(_)) => {}
                Some(Err(corten_store::WatchError::Closed)) | None => return,
                // A whole state took the place of events.
                Some(Err(_)) => break,
            }
        }
    }
}

fn tell(peers: &Peers, records: &[Record]) {
    let (removed, present): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|record| record.removed);
    let addresses: BTreeMap<u64, String> = present
        .into_iter()
        .map(|record| (record.id, record.peer.clone()))
        .collect();
    // A member that has no state yet knows only what it was told when it joined.
    if !addresses.is_empty() {
        peers.set_addresses(addresses);
    }
    peers.set_removed(
        removed
            .into_iter()
            .map(|record| record.id)
            .collect::<BTreeSet<u64>>(),
    );
}

/// What the leader does next about the membership, if anything. Pure.
fn due(standing: &Standing, records: &[Record]) -> Option<Change> {
    if !standing.leads || standing.members.joint {
        return None;
    }
    let present = |id: &u64| standing.members.voters.contains(id) || standing.members.learners.contains(id);
    let removed = records
        .iter()
        .find(|record| record.removed && present(&record.id) && record.id != standing.member);
    if let Some(record) = removed {
        return Some(Change::Remove(record.id));
    }
    standing.members.learners.iter().find_map(|id| {
        let progress = standing.progress.iter().find(|progress| progress.member == *id)?;
        let caught_up =
            progress.alive && progress.matched > 0 && progress.matched + MAX_LAG >= standing.last_index;
        caught_up.then_some(Change::AddVoter(*id))
    })
}

/// The leader's part, on every server, until `stop`: who does not lead does nothing.
pub async fn keep(api: ApiServer, stop: CancellationToken) {
    let store = api.inner().store.clone();
    let mut standing = store.standing();
    let mut silent = Silent::default();
    let mut published: Option<Vec<Record>> = None;
    while !stop.is_cancelled() {
        let now = standing.borrow_and_update().clone();
        let records = all(&store.snapshot());
        let mut again = None;
        if now.leads {
            silent.note(&now, Instant::now());
            let present = silent.present(&records, Instant::now());
            if published.as_ref() != Some(&present) {
                match api.publish_servers(&present).await {
                    Ok(()) => published = Some(present),
                    Err(error) => {
                        tracing::debug!(%error, "the servers were not published");
                        again = Some(RETRY);
                    }
                }
            }
            again = again.or_else(|| silent.wait(Instant::now()));
        } else {
            published = None;
        }
        if let Some(change) = due(&now, &records) {
            match store.change_members(&[change]).await {
                Ok(()) => tracing::info!(?change, "the membership changed"),
                Err(error) => {
                    tracing::debug!(%error, ?change, "the membership did not change yet");
                    again = Some(RETRY);
                }
            }
        }
        let timer = async {
            match again {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = timer => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Since when members have not been heard.
#[derive(Default)]
struct Silent(BTreeMap<u64, Instant>);

impl Silent {
    fn note(&mut self, standing: &Standing, now: Instant) {
        let dead = |id: &u64| {
            standing
                .progress
                .iter()
                .any(|known| known.member == *id && !known.alive)
        };
        self.0.retain(|id, _| dead(id));
        for known in standing.progress.iter().filter(|known| !known.alive) {
            self.0.entry(known.member).or_insert(now);
        }
    }

    /// The servers that clients inside the cluster are sent to.
    fn present(&self, records: &[Record], now: Instant) -> Vec<Record> {
        let gone = |record: &&Record| {
            let since = self.0.get(&record.id);
            record.removed || since.is_some_and(|since| now - *since >= UNPUBLISH_AFTER)
        };
        records.iter().filter(|record| !gone(record)).cloned().collect()
    }

    /// Until the next one counts as gone.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self
            .0
            .values()
            .map(|since| (*since + UNPUBLISH_AFTER).saturating_duration_since(now));
        left.filter(|left| !left.is_zero()).min()
    }
}

/// Returns once this member was removed from the cluster.
pub async fn removed(store: Store) {
    let me = store.identity().member;
    loop {
        let snapshot = store.snapshot();
        if all(&snapshot)
            .iter()
            .any(|record| record.id == me && record.removed)
        {
            return;
        }
        let Ok(mut watch) = store.watch(range(), snapshot.revision()) else {
            continue;
        };
        match watch.next().await {
            Some(Ok(_)) => {}
            Some(Err(corten_store::WatchError::Closed)) | None => return std::future::pending().await,
            Some(Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_store::{Membership, Progress};

    fn record(id: u64, removed: bool) -> Record {
        Record {
            id,
            name: String::new(),
            peer: String::new(),
            api: String::new(),
            witness: false,
            removed,
        }
    }

    fn leader(learner: Progress) -> Standing {
        Standing {
            member: 1,
            leads: true,
            last_index: 10_000,
            members: Membership {
                voters: vec![1],
                learners: vec![learner.member],
                joint: false,
            },
            progress: vec![learner],
            ..Standing::default()
        }
    }

    #[test]
    fn a_server_that_is_silent_is_no_endpoint_until_it_is_heard_again() {
        let start = Instant::now();
        let heard = |alive| Standing {
            leads: true,
            progress: vec![Progress {
                member: 2,
                matched: 1,
                alive,
            }],
            ..Standing::default()
        };
        let records = [record(1, false), record(2, false), record(3, true)];
        let ids = |silent: &Silent, now| -> Vec<u64> {
            silent
                .present(&records, now)
                .iter()
                .map(|record| record.id)
                .collect()
        };
        let mut silent = Silent::default();
        silent.note(&heard(false), start);
        assert_eq!(ids(&silent, start), [1, 2]);
        assert_eq!(silent.wait(start), Some(UNPUBLISH_AFTER));
        silent.note(&heard(false), start + UNPUBLISH_AFTER);
        assert_eq!(ids(&silent, start + UNPUBLISH_AFTER), [1]);
        silent.note(&heard(true), start + UNPUBLISH_AFTER);
        assert_eq!(ids(&silent, start + UNPUBLISH_AFTER), [1, 2]);
    }

    #[test]
    fn a_learner_gets_its_vote_when_it_has_caught_up_and_is_alive() {
        let progress = |matched, alive| Progress {
            member: 2,
            matched,
            alive,
        };
        let records = [record(1, false), record(2, false)];
        assert_eq!(due(&leader(progress(9_000, true)), &records), None);
        assert_eq!(due(&leader(progress(9_900, false)), &records), None);
        let ready = leader(progress(9_900, true));
        assert_eq!(due(&ready, &records), Some(Change::AddVoter(2)));
        assert_eq!(
            due(
                &Standing {
                    leads: false,
                    ..ready.clone()
                },
                &records
            ),
            None
        );
        assert_eq!(due(&ready, &[record(2, true)]), Some(Change::Remove(2)));
    }
}
