//! What is stored follows the configuration: values that are plain, or sealed under an older key, are written anew.
//!
//! Knows the ring and stored bytes. Each rewrite holds only if the value is still the one that was read, so it may run on
//! several servers at once and beside any writer.

use corten_store::{Op, Precondition, StoreError, Txn};

use super::current;
use crate::key::prefix_range;
use crate::stored::{self, Stored};
use crate::{ApiServer, key};

/// Values looked at between two waits for the store.
const BATCH: usize = 256;

/// How a rewrite ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub looked_at: usize,
    pub rewritten: usize,
}

impl ApiServer {
    /// Writes anew what is not stored as the configuration says. A value somebody else writes meanwhile is current by that.
    ///
    /// # Errors
    /// What the store says; what was rewritten stays so.
    pub async fn rewrite_sealed(&self) -> Result<Done, StoreError> {
        let Some(ring) = current() else {
            return Ok(Done::default());
        };
        let store = &self.inner().store;
        let snapshot = store.snapshot();
        let mut done = Done::default();
        for entry in snapshot.range(prefix_range(key::REGISTRY)) {
            done.looked_at += 1;
            if done.looked_at.is_multiple_of(BATCH) {
                tokio::task::yield_now().await;
            }
            let Some((group, plural)) = key::resource(&entry.key) else {
                continue;
            };
            let Ok(stored) = Stored::new(&entry.value) else {
                continue;
            };
            if ring.is_current(group, plural, stored.sealed()) {
                continue;
            }
            let Ok(value) = stored::reseal(&entry.value, group, plural) else {
                tracing::error!(key = %String::from_utf8_lossy(&entry.key), "a stored object cannot be opened");
                continue;
            };
            let txn = Txn {
                preconditions: vec![Precondition::ModRevision(entry.key.clone(), entry.mod_revision)],
                ops: vec![Op::Put {
                    key: entry.key.clone(),
                    value,
                }],
            };
            store.txn(txn).await?;
            done.rewritten += 1;
        }
        Ok(done)
    }
}
