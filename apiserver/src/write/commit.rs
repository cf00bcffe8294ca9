//! Proposing a transaction, and finding out what became of one whose outcome nobody told.

use corten_api::Status;
use corten_store::{Op, Snapshot, Store, StoreError, Txn, TxnOutcome};

use super::Env;
use crate::{fence, store_status};

/// As [`commit`], behind the fence of who asks, if it has one.
///
/// # Errors
/// Those of [`commit`]; `Conflict` for a component that was deposed.
pub async fn fenced(store: &Store, mut txn: Txn, env: &Env) -> Result<TxnOutcome, Status> {
    let Some(fence) = &env.asker.user.fence else {
        return commit(store, &txn).await;
    };
    txn.preconditions.push(fence.precondition());
    match commit(store, &txn).await? {
        TxnOutcome::Conflict { key, .. } if fence.is_at(&key) => Err(fence::deposed()),
        outcome => Ok(outcome),
    }
}

/// Proposes `txn`. When its outcome is unknown, the newest state is asked: a write that is found there has happened.
///
/// # Errors
/// `Timeout` when nobody can tell, as upstream; what the store refuses.
pub async fn commit(store: &Store, txn: &Txn) -> Result<TxnOutcome, Status> {
    let unknown = match store.txn(txn).await {
        Ok(outcome) => return Ok(outcome),
        Err(error @ StoreError::Ambiguous(_)) => store_status(&error),
        Err(error) => return Err(store_status(&error)),
    };
    if store.read_barrier().await.is_err() {
        return Err(unknown);
    }
    found(&store.snapshot(), txn).ok_or(unknown)
}

/// The outcome of `txn` if `state` shows that it was committed: everything it put is there. A put's value names its object's
/// uid and what it says; if somebody else wrote the very same, the client has what it asked for. A transaction that only
/// deletes leaves no trace.
fn found(state: &Snapshot, txn: &Txn) -> Option<TxnOutcome> {
    let mut revisions = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        revisions.push(match op {
            Op::Put { key, value } => {
                let entry = state.get(key).filter(|entry| entry.value == *value)?;
                let before = txn
                    .preconditions
                    .iter()
                    .find_map(|precondition| match precondition {
                        corten_store::Precondition::ModRevision(asserted, revision) if asserted == key => {
                            Some(*revision)
                        }
                        _ => None,
                    });
                before
                    .is_none_or(|before| entry.mod_revision > before)
                    .then_some(entry.mod_revision)?
            }
            Op::Delete { key } if state.get(key).is_some() => return None,
            Op::Delete { .. } => corten_store::Revision::default(),
        });
    }
    let revision = revisions
        .iter()
        .copied()
        .max()
        .filter(|revision| revision.0 > 0)?;
    // A delete has no entry to tell its revision; the newest of the transaction is never before it.
    for unseen in revisions.iter_mut().filter(|unseen| unseen.0 == 0) {
        *unseen = revision;
    }
    Some(TxnOutcome::Committed { revision, revisions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use corten_store::{Config, Precondition};

    fn put(key: &'static str, value: &'static str) -> Op {
        Op::Put {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    #[tokio::test]
    async fn a_write_is_found_only_where_it_happened() {
        let store = Store::open(Config::in_memory()).await.expect("open");
        let create = Txn::new(vec![Precondition::Absent("/a".into())], vec![put("/a", "uid-1")]);
        assert_eq!(found(&store.snapshot(), &create), None);
        let outcome = commit(&store, &create).await.expect("written");
        assert_eq!(found(&store.snapshot(), &create), Some(outcome.clone()));
        let TxnOutcome::Committed { revision, .. } = outcome else {
            panic!("{outcome:?}")
        };
        let same = Txn::new(
            vec![Precondition::ModRevision("/a".into(), revision)],
            vec![put("/a", "uid-1")],
        );
        assert_eq!(
            found(&store.snapshot(), &same),
            None,
            "what was there before is no proof"
        );
        let delete = Txn::new(Vec::new(), vec![Op::Delete { key: "/b".into() }]);
        assert_eq!(
            found(&store.snapshot(), &delete),
            None,
            "nothing tells who deleted it"
        );
    }
}
