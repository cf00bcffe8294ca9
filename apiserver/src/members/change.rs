//! Changes of the membership: each first recorded, then made, so that one that was interrupted is finished by the leader
//! ([`super::keep`]).

use std::time::Duration;

use corten_api::Status;
use corten_api::status::Qualified;
use corten_store::peers::Peers;
use corten_store::{
    Change, Op, Precondition, Progress, Standing, Store, StoreError, Txn, TxnOutcome, is_witness,
};
use futures::StreamExt;

use super::record::{Record, all, key, range};
use crate::store_status;

/// How long a change may take: an election may come between.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a server that stops waits for somebody else to lead.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// Log entries by which a server that stays may be behind when another one is removed: about a second of the most writes,
/// for until it has caught up none is acknowledged.
const MAX_LAG: u64 = 10_000;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error("member {id:016x} was removed from this cluster: start with an empty data folder to join anew")]
    Removed { id: u64 },
    #[error("the membership did not change in time")]
    Late,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AdmitError> for Status {
    fn from(error: AdmitError) -> Status {
        match error {
            AdmitError::Removed { .. } => Status::forbidden(Qualified::new("", ""), "", error),
            AdmitError::Late => Status::timeout(error.to_string(), 1),
            AdmitError::Store(error) => store_status(&error),
        }
    }
}

/// Writes the record of a member: at its start, or when its addresses are new.
///
/// # Errors
/// The member was removed, or the store cannot be written.
pub async fn announce(store: &Store, record: &Record) -> Result<(), AdmitError> {
    let key = key(record.id);
    loop {
        let held = store.snapshot().get(&key);
        let old: Option<Record> = held
            .as_ref()
            .and_then(|entry| serde_json::from_slice(&entry.value).ok());
        match old {
            Some(old) if old == *record => return Ok(()),
            Some(old) if old.removed && !record.left => return Err(AdmitError::Removed { id: record.id }),
            _ => {}
        }
        let unchanged = match &held {
            Some(entry) => Precondition::ModRevision(key.clone(), entry.mod_revision),
            None => Precondition::Absent(key.clone()),
        };
        let put = Op::Put {
            key: key.clone(),
            value: record.encode(),
        };
        match store.txn(Txn::new(vec![unchanged], vec![put])).await {
            Ok(TxnOutcome::Committed { .. }) => return Ok(()),
            // Somebody else's write, or our own of which we were not told.
            Ok(TxnOutcome::Conflict { .. }) | Err(StoreError::Ambiguous(_)) => {
                store.read_barrier().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes a member in as a learner; the leader makes it a voter once it has caught up. May be asked again. The members as
/// recorded.
///
/// # Errors
/// See [`AdmitError`].
pub async fn admit(store: &Store, record: &Record) -> Result<Vec<Record>, AdmitError> {
    store.read_barrier().await?;
    announce(store, record).await?;
    change(store, Change::AddLearner(record.id), |standing| {
        is_member(standing, record.id)
    })
    .await?;
    Ok(all(&store.snapshot()))
}

/// Removes a member for good; returns once everybody who stays knows, so that it may be stopped. Its id is never taken in
/// again.
///
/// # Errors
/// `Conflict` when too few of those that stay are alive and have caught up (unless `force`), or for the last one; those of
/// the store.
pub(super) async fn remove(
    store: &Store,
    peers: Option<&Peers>,
    record: &Record,
    force: bool,
) -> Result<(), Status> {
    store.read_barrier().await.map_err(|error| store_status(&error))?;
    let standing = store.standing().borrow().clone();
    check_removal(&standing, record.id, force).map_err(|why| conflict(record.id, &why))?;
    if standing.leader == Some(record.id) {
        hand_over(store, record.id, None).await?;
    }
    let gone = Record {
        removed: true,
        ..record.clone()
    };
    match announce(store, &gone).await {
        Ok(()) | Err(AdmitError::Removed { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // The leader does the rest. One that removes itself hears of the end from the others only.
    let dismissed = async {
        let told = match peers.map(Peers::dismissed) {
            Some(mut dismissed) => dismissed.wait_for(|told| *told).await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending().await
        }
    };
    let left = async {
        tokio::select! {
            () = has_left(store, record.id) => {}
            () = dismissed => {}
        }
    };
    tokio::time::timeout(LIMIT, left).await.map_err(|_| {
        Status::timeout(
            "the removal is recorded, and goes on: those who stay do not know of it yet",
            1,
        )
    })
}

/// Returns once everybody who stays knows that this member is gone.
async fn has_left(store: &Store, id: u64) {
    loop {
        let snapshot = store.snapshot();
        if all(&snapshot).iter().any(|record| record.id == id && record.left) {
            return;
        }
        let Ok(mut watch) = store.watch(range(), snapshot.revision()) else {
            continue;
        };
        if let Some(Err(corten_store::WatchError::Closed)) | None = watch.next().await {
            return std::future::pending().await;
        }
    }
}

/// # Errors
/// `Conflict` for who is no learner.
pub(super) async fn promote(store: &Store, record: &Record) -> Result<(), Status> {
    let standing = store.standing().borrow().clone();
    if standing.members.voters.contains(&record.id) {
        return Ok(());
    }
    if !standing.members.learners.contains(&record.id) {
        return Err(conflict(record.id, "it is not a member"));
    }
    let voter = change(store, Change::AddVoter(record.id), |standing| {
        standing.members.voters.contains(&record.id)
    });
    Ok(voter.await?)
}

/// Makes another member lead: `to`, or the one that is furthest.
///
/// # Errors
/// `Conflict` when nobody else can, `Timeout` when it did not happen in time.
pub async fn hand_over(store: &Store, from: u64, to: Option<u64>) -> Result<(), Status> {
    let mut standing = store.standing();
    let target = {
        let now = standing.borrow();
        to.or_else(|| successor(&now))
            .ok_or_else(|| conflict(from, "no other member can lead"))?
    };
    if !standing.borrow().members.voters.contains(&target) {
        return Err(conflict(target, "only a voter can lead"));
    }
    store
        .transfer_leadership(target)
        .map_err(|error| store_status(&error))?;
    let done = standing.wait_for(|standing| standing.leader == Some(target));
    match tokio::time::timeout(LIMIT, done).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(store_status(&StoreError::Closed)),
        Err(_) => Err(Status::timeout("the leadership was not handed over in time", 1)),
    }
}

/// Before a server stops: somebody else leads. Returns at once when this member does not lead or nobody else can, and after
/// [`LEAVE_LIMIT`] at the latest.
pub async fn leave(store: &Store) {
    let (leads, me) = {
        let standing = store.standing();
        let now = standing.borrow();
        (now.leads, now.member)
    };
    if leads && store.standing().borrow().members.voters.len() > 1 {
        match tokio::time::timeout(LEAVE_LIMIT, hand_over(store, me, None)).await {
            Ok(Ok(())) => tracing::info!("handed the leadership over"),
            Ok(Err(status)) => {
                tracing::warn!(reason = status.message.as_ref() as &str, "stops as the leader")
            }
            Err(_) => tracing::warn!("stops as the leader: nobody took over in time"),
        }
    }
}

/// Who leads best after this leader: a voter that is alive, the one with most of the log.
pub(super) fn successor(standing: &Standing) -> Option<u64> {
    let able = |progress: &&Progress| {
        progress.member != standing.member
            && !is_witness(progress.member)
            && progress.alive
            && standing.members.voters.contains(&progress.member)
    };
    let known = standing.progress.iter().filter(able);
    let best = known
        .max_by_key(|progress| progress.matched)
        .map(|progress| progress.member);
    // A follower does not know how far the others are.
    best.or_else(|| {
        let mut others = standing.members.voters.iter();
        others
            .find(|id| !standing.leads && Some(**id) != standing.leader && !is_witness(**id))
            .copied()
    })
}

/// Whether the cluster goes on without `id`. Only a leader knows who is alive; a follower that can write knows that a
/// majority is.
fn check_removal(standing: &Standing, id: u64, force: bool) -> Result<(), String> {
    let stay: Vec<u64> = standing
        .members
        .voters
        .iter()
        .copied()
        .filter(|voter| *voter != id)
        .collect();
    if stay.iter().all(|id| is_witness(*id)) {
        return Err("no other server would be left".into());
    }
    if force || standing.progress.is_empty() || !standing.members.voters.contains(&id) {
        return Ok(());
    }
    let able = |progress: &&Progress| {
        progress.alive && progress.matched + MAX_LAG >= standing.last_index && stay.contains(&progress.member)
    };
    let able = standing.progress.iter().filter(able).count();
    if able > stay.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "only {able} of the {} voters that stay are alive and have caught up",
        stay.len()
    ))
}

fn is_member(standing: &Standing, id: u64) -> bool {
    standing.members.voters.contains(&id) || standing.members.learners.contains(&id)
}

fn conflict(id: u64, why: &str) -> Status {
    Status::failure(409, "Conflict", format!("member {id:016x}: {why}"))
}

/// Changes the membership until `done` shows. One change at a time is possible, and each may be repeated.
async fn change(store: &Store, step: Change, done: impl Fn(&Standing) -> bool) -> Result<(), AdmitError> {
    let attempt = async {
        loop {
            if done(&store.standing().borrow()) {
                return Ok(());
            }
            match store.change_members(&[step]).await {
                Ok(()) | Err(StoreError::Unavailable(_) | StoreError::Ambiguous(_)) => {}
                Err(error) => return Err(AdmitError::Store(error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, attempt)
        .await
        .map_err(|_| AdmitError::Late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_store::Membership;

    fn standing(alive: &[(u64, bool, u64)]) -> Standing {
        Standing {
            member: 1,
            leader: Some(1),
            leads: true,
            members: Membership {
                voters: alive.iter().map(|(id, _, _)| *id).collect(),
                ..Membership::default()
            },
            progress: alive
                .iter()
                .map(|(member, alive, matched)| Progress {
                    member: *member,
                    matched: *matched,
                    alive: *alive,
                })
                .collect(),
            ..Standing::default()
        }
    }

    #[test]
    fn a_removal_leaves_a_majority_that_is_alive() {
        let check =
            |alive: &[(u64, bool, u64)], id, force| check_removal(&standing(alive), id, force).is_ok();
        let all = [(1, true, 9), (2, true, 9), (3, true, 9)];
        assert!(check(&all, 3, false));
        let one_dead = [(1, true, 9), (2, true, 9), (3, false, 4)];
        assert!(check(&one_dead, 3, false), "the dead one is replaced");
        assert!(!check(&one_dead, 2, false), "two would stay, one of them dead");
        assert!(check(&one_dead, 2, true));
        assert!(!check(&[(1, true, 9)], 1, true), "the last one stays");
        let one_behind = Standing {
            last_index: 9 + MAX_LAG,
            ..standing(&[(1, true, 9 + MAX_LAG), (2, true, 9), (3, true, 8)])
        };
        assert!(check_removal(&one_behind, 3, false).is_ok());
        assert!(
            check_removal(&one_behind, 2, false).is_err(),
            "the third has to catch up first"
        );
    }

    #[test]
    fn the_one_with_most_of_the_log_leads_next() {
        let next = |alive: &[(u64, bool, u64)]| successor(&standing(alive));
        assert_eq!(next(&[(1, true, 9), (2, true, 5), (3, true, 7)]), Some(3));
        assert_eq!(next(&[(1, true, 9), (2, true, 5), (3, false, 7)]), Some(2));
        assert_eq!(next(&[(1, true, 9)]), None);
    }
}
