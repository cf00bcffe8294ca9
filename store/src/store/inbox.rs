//! Where messages from peers, and news about them, go in.

use std::sync::Arc;

use bytes::Bytes;

use super::queue::{Queue, Request};
use crate::error::StoreError;
use crate::tree::Snapshot;

/// The way in for peers. Does not keep the store open.
#[derive(Clone)]
pub struct Inbox {
    queue: Arc<Queue>,
}

impl Inbox {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Inbox { queue }
    }

    /// A message from a peer.
    ///
    /// # Errors
    /// `Overloaded` or `Closed`: the message is lost, and Raft sends it again.
    pub fn receive(&self, message: Bytes) -> Result<(), StoreError> {
        self.queue.send(Request::Message(message))
    }

    /// A whole state from the leader, verified, with the message that came with it.
    ///
    /// # Errors
    /// As [`Inbox::receive`].
    pub fn install(&self, message: Bytes, state: Snapshot) -> Result<(), StoreError> {
        self.queue.send(Request::Install { message, state })
    }

    /// Messages to this peer do not arrive.
    ///
    /// # Errors
    /// As [`Inbox::receive`].
    pub fn unreachable(&self, peer: u64) -> Result<(), StoreError> {
        self.queue.send(Request::Unreachable(peer))
    }

    /// The connection over which this peer's messages came has ended.
    ///
    /// # Errors
    /// As [`Inbox::receive`].
    pub fn lost(&self, peer: u64) -> Result<(), StoreError> {
        self.queue.send(Request::Lost(peer))
    }

    /// How the transfer of a state ended.
    ///
    /// # Errors
    /// `Overloaded` or `Closed`. It must be told again then: the peer gets nothing before.
    pub fn snapshot_sent(&self, to: u64, ok: bool) -> Result<(), StoreError> {
        self.queue.send(Request::SnapshotSent { to, ok })
    }
}
