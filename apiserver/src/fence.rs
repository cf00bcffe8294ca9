//! Fences: what makes the writes of a component that was deposed harmless, however late they come.
//!
//! Who is elected writes a record of its own beside its Lease, in a transaction that holds only while the Lease is as it
//! was won. Every write it makes afterwards asserts that this record is still the one it wrote: the store checks that when it
//! applies the write, so nothing of an earlier holder gets in after a later one has begun.

use bytes::Bytes;
use corten_api::{Status, registry};
use corten_store::{Op, Precondition, Revision, Txn, TxnOutcome};

use crate::write::commit;
use crate::{ApiServer, read};

const PREFIX: &str = "/corten.dev.internal/fences/";

/// Proof of an election, carried by every request of the elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    key: Bytes,
    /// The epoch: where the elected wrote its record.
    epoch: Revision,
}

impl Fence {
    /// What a fenced transaction asserts beside its own preconditions.
    #[must_use]
    pub(crate) fn precondition(&self) -> Precondition {
        Precondition::ModRevision(self.key.clone(), self.epoch)
    }

    /// Whether it was this fence that did not hold.
    #[must_use]
    pub(crate) fn is_at(&self, key: &[u8]) -> bool {
        self.key == key
    }
}

/// What a deposed component is told.
pub(crate) fn deposed() -> Status {
    Status::failure(
        409,
        "Conflict",
        "the component that asks was deposed: another one holds its Lease now",
    )
}

impl ApiServer {
    /// The fence of who holds the Lease `name` in `namespace`, as it stands at `resource_version`.
    ///
    /// # Errors
    /// `Conflict` when the Lease has changed since; those of the store.
    pub async fn fence(
        &self,
        namespace: &str,
        name: &str,
        resource_version: u64,
        holder: &str,
    ) -> Result<Fence, Status> {
        let ty = registry()
            .lookup("coordination.k8s.io", "v1", "leases")
            .expect("Leases are built in");
        let lease = read::filter::keys(ty).object(Some(namespace), name);
        let key = Bytes::from(format!("{PREFIX}{namespace}/{name}"));
        let txn = Txn::new(
            vec![Precondition::ModRevision(lease, Revision(resource_version))],
            vec![Op::Put {
                key: key.clone(),
                value: Bytes::copy_from_slice(holder.as_bytes()),
            }],
        );
        match commit::commit(&self.inner().store, &txn).await? {
            TxnOutcome::Committed { revision, .. } => Ok(Fence { key, epoch: revision }),
            TxnOutcome::Conflict { .. } => Err(deposed()),
        }
    }
}
