//! How messages reach the other members. The store hands over opaque bytes; losing, delaying or repeating them is
//! allowed, changing them is not.

use bytes::Bytes;

/// Sends without waiting: a message that cannot go at once is dropped, Raft sends it again.
pub trait Transport: Send + 'static {
    fn send(&mut self, to: u64, message: Bytes);
}

/// For a member that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&mut self, to: u64, _message: Bytes) {
        tracing::error!(to, "a message for a peer, but no transport is configured");
    }
}
