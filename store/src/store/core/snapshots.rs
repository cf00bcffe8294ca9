//! Whole states: offered to peers that are too far behind for the log, and taken over from one.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Action, Core, Fatal};
use crate::image::{Batch, Meta};
use crate::log::Base;
use crate::mvcc::Mvcc;
use crate::planted::{Bug, planted};
use crate::replica::{Input, Output};
use crate::tree::{Snapshot, Tree};
use crate::witness::is_witness;

/// States of snapshots kept for transfers that have not started.
const MAX_OFFERED: usize = 2;

impl Core {
    /// The state now stands for a snapshot at the applied index; its bytes are made only when a transfer starts.
    pub(super) fn offer_snapshot(&mut self, index: u64) -> Vec<Output> {
        if is_witness(self.identity.member) {
            tracing::warn!(
                index,
                "a peer is too far behind for a witness, which has no state to send"
            );
            return Vec::new();
        }
        if self.applied.index < index {
            tracing::warn!(index, "a peer needs a snapshot of what is not applied yet");
            return Vec::new();
        }
        let mut snapshot = raft::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.applied.index, self.applied.term);
        if planted(Bug::SnapshotBehindState) {
            metadata.index -= 1;
        }
        let offered = metadata.index;
        metadata.set_conf_state(self.applied.conf_state.clone());
        self.offered.push_back((offered, self.mvcc.snapshot()));
        if self.offered.len() > MAX_OFFERED {
            self.offered.pop_front();
        }
        self.replica.step([Input::Offer(snapshot)])
    }

    pub(super) fn send_snapshot(&mut self, to: u64, index: u64, message: Bytes) {
        let state = self.offered.iter().find(|(offered, _)| *offered == index);
        self.actions.push_back(match state {
            Some((_, state)) if is_witness(to) => Action::SendSnapshot {
                to,
                message,
                state: Snapshot {
                    tree: Tree::default(),
                    ..state.clone()
                },
            },
            Some((_, state)) => Action::SendSnapshot {
                to,
                message,
                state: state.clone(),
            },
            // Raft keeps the last snapshot it was offered; the next try gets a fresh one.
            None => Action::SnapshotLost { to },
        });
    }

    /// Replaces the whole state by the one that came with a snapshot. A majority has it on disk already, so it may be seen
    /// before it is on this one.
    pub(super) fn install(&mut self, snapshot: &raft::eraftpb::Snapshot) -> Result<(), Fatal> {
        let state = self.arrived.take().ok_or(Fatal::Snapshot)?;
        let metadata = snapshot.get_metadata();
        let base = Base {
            index: metadata.index,
            term: metadata.term,
            conf_state: metadata.get_conf_state().clone(),
        };
        let meta = Meta::of_installed(self.identity, base.clone(), &state);
        self.actions.push_back(Action::ReplaceImage(Batch {
            replace: true,
            puts: state.tree.iter().cloned().collect(),
            deletes: Vec::new(),
            meta: meta.clone(),
            state: state.tree.clone(),
        }));
        self.trail.restart(meta);
        self.agreement.forget();
        self.mvcc = Mvcc::restore(state.clone());
        self.applied = base;
        let counters = &self.shared.counters;
        counters
            .image_applied
            .store(self.applied.index, Ordering::Relaxed);
        counters.applied.store(self.applied.index, Ordering::Relaxed);
        counters.installed.fetch_add(1, Ordering::Relaxed);
        // Last, for whoever waits for it looks at the counters next.
        self.shared.hub.install(state);
        self.shared.applied.send_replace(self.mvcc.revision());
        Ok(())
    }
}
