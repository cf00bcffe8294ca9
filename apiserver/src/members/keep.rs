//! What a server does about members on its own: it knows everybody's address, and the leader makes voters of learners that
//! have caught up, finishes removals and keeps the Service `kubernetes` to the servers that are there. Everything waits for news; nothing polls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use corten_store::peers::Peers;
use corten_store::{Change, Standing, Store, WatchItem};
use futures::StreamExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::change::{AdmitError, announce, successor};
use super::record::{Record, all, range};
use crate::ApiServer;

/// Log entries by which a learner may be behind when it gets its vote: less than what a leader has on its way to a peer.
const MAX_LAG: u64 = 256;

/// A server that is silent for so long is no endpoint of the Service `kubernetes` any more.
const UNPUBLISH_AFTER: Duration = Duration::from_secs(3);
/// A server that was removed stays a member until it has answered its clients, but no longer than this.
const DRAIN_LIMIT: Duration = Duration::from_secs(6);
/// After a change that failed.
const RETRY: Duration = Duration::from_millis(250);
/// Between two questions to members that have yet to hear of a change, or that may say whether this one may go.
const ASK_AGAIN: Duration = Duration::from_millis(50);

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
    // Who is about to leave still votes.
    let (removed, present): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|record| record.left);
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
    let mut draining = BTreeMap::new();
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
        match finish_removals(&api, &now, &records).await {
            Ok(true) => {}
            Ok(false) => again = Some(ASK_AGAIN),
            Err(error) => {
                tracing::debug!(%error, "a removal is not finished yet");
                again = Some(RETRY);
            }
        }
        let change = due(&now, &records);
        if let Some(Change::Remove(id)) = change
            && still_serves(&api, &now, id, &mut draining).await
        {
            again = Some(ASK_AGAIN);
        } else if let Some(change) = change {
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

/// Notes of those who were removed that they have left, once everybody who stays knows; a leader that was removed gives
/// its office away first. Whether nothing is left to do.
async fn finish_removals(api: &ApiServer, now: &Standing, records: &[Record]) -> Result<bool, AdmitError> {
    let store = &api.inner().store;
    let leaving: Vec<&Record> = records
        .iter()
        .filter(|record| record.removed && !record.left)
        .collect();
    if !now.leads || leaving.is_empty() {
        return Ok(true);
    }
    if leaving.iter().any(|record| record.id == now.member) {
        if let Some(next) = successor(now) {
            store.transfer_leadership(next)?;
        }
        return Ok(false);
    }
    let is_member = |id: u64| now.members.voters.contains(&id) || now.members.learners.contains(&id);
    if now.members.joint || leaving.iter().any(|record| is_member(record.id)) {
        return Ok(false);
    }
    let peers = api.inner().config.peers.as_ref();
    for other in now.progress.iter().filter(|other| other.member != now.member) {
        // Who is dead is told by the log when it comes back, and by whoever asks it for its vote.
        let Some(peers) = peers.filter(|_| other.alive) else {
            continue;
        };
        let about = peers.about(store.identity(), other.member).await.ok();
        let about: Option<Value> = about.and_then(|text| serde_json::from_slice(&text).ok());
        let knows = about.and_then(|about| about["membership"].as_u64());
        if knows.is_none_or(|index| index < now.membership) {
            return Ok(false);
        }
    }
    for record in leaving {
        let left = Record {
            left: true,
            ..record.clone()
        };
        announce(store, &left).await?;
        tracing::info!(member = format!("{:x}", record.id), "the member has left");
    }
    Ok(true)
}

/// Whether a member that is to be removed still answers its clients: what they write through one that is no member any more
/// would hang. `since`: when it was asked first.
async fn still_serves(api: &ApiServer, now: &Standing, id: u64, since: &mut BTreeMap<u64, Instant>) -> bool {
    let alive = now.progress.iter().any(|known| known.member == id && known.alive);
    let asked = *since.entry(id).or_insert_with(Instant::now);
    let peers = api.inner().config.peers.as_ref();
    let Some(peers) = peers.filter(|_| alive && asked.elapsed() < DRAIN_LIMIT) else {
        return false;
    };
    let about = peers.about(api.inner().store.identity(), id).await.ok();
    let about: Option<Value> = about.and_then(|text| serde_json::from_slice(&text).ok());
    about.is_some_and(|about| about["drained"] == false)
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

/// Returns once this member was removed from the cluster and may stop: those who stay may count on its vote before.
pub async fn removed(store: Store, peers: Peers) {
    let asks = async {
        leaving(&store).await;
        tracing::warn!("this member was removed from the cluster: it stops when the others know");
        loop {
            for other in peers.known() {
                // One who refuses to talk says so by that.
                let _ = peers.about(store.identity(), other).await;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let mut dismissed = peers.dismissed();
    let told = async {
        let told = dismissed.wait_for(|told| *told).await.is_ok();
        if !told {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = told => {}
        () = asks => {}
    }
}

/// Whether this member was removed, as far as it knows.
#[must_use]
pub fn is_leaving(store: &Store) -> bool {
    let me = store.identity().member;
    all(&store.snapshot())
        .iter()
        .any(|record| record.id == me && record.removed)
}

/// Returns once this member knows that it is to go: from the record, or, as it may not get that any more, from the membership.
pub async fn leaving(store: &Store) {
    let me = store.identity().member;
    let mut standing = store.standing();
    let mut was_in = false;
    loop {
        let is_in = {
            let now = standing.borrow_and_update();
            now.members.voters.contains(&me) || now.members.learners.contains(&me)
        };
        if (was_in && !is_in) || is_leaving(store) {
            return;
        }
        was_in |= is_in;
        // A write moves it too.
        if standing.changed().await.is_err() {
            return std::future::pending().await;
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
            left: false,
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
