//! How messages reach the other members. The store hands over opaque bytes; losing, delaying or repeating them is
//! allowed, changing them is not. What comes in goes to [`crate::Inbox::receive`] and [`crate::Inbox::install`].

use std::fmt;

use bytes::Bytes;

use crate::log::Identity;
use crate::store::Inbox;
use crate::tree::Snapshot;

/// Makes the transport of a store that is about to open.
pub trait Connect: fmt::Debug + Send + Sync {
    /// `me` is who sends. What comes from peers, and what becomes of what was sent, goes into `inbox`.
    fn connect(&self, me: Identity, inbox: Inbox) -> Box<dyn Transport>;
}

/// Sends without waiting: a message that cannot go at once is dropped, Raft sends it again.
pub trait Transport: Send + 'static {
    fn send(&mut self, to: u64, message: Bytes);

    /// Starts to transfer a whole state with the message that belongs to it. However it ends is told with
    /// [`crate::Inbox::snapshot_sent`]: until then the peer gets nothing else.
    fn send_snapshot(&mut self, to: u64, message: Bytes, state: Snapshot);

    /// The state of a snapshot is no longer there: to be told as a transfer that failed.
    fn snapshot_lost(&mut self, to: u64);
}

/// For a member that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&mut self, to: u64, _message: Bytes) {
        tracing::error!(to, "a message for a peer, but no transport is configured");
    }

    fn send_snapshot(&mut self, to: u64, _message: Bytes, _state: Snapshot) {
        tracing::error!(to, "a snapshot for a peer, but no transport is configured");
    }

    fn snapshot_lost(&mut self, _to: u64) {}
}
