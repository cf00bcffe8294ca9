//! The bounded queue between the handles and the thread that owns the replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use raft::eraftpb::ConfChangeV2;
use tokio::sync::oneshot;

use super::scrub::{Piece, Place};
use super::{MAX_QUEUED, MAX_QUEUED_BYTES};
use crate::error::StoreError;
use crate::image::ImageError;
use crate::model::{Revision, TxnOutcome};
use crate::tree::Snapshot;

/// Places beyond [`MAX_QUEUED`] for what must always fit: `Close`, and what the image's thread says, once for each of its
/// two tasks.
const RESERVED: usize = 3;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Request {
    Txn {
        data: Vec<u8>,
        reply: Reply<TxnOutcome>,
    },
    Compact {
        data: Vec<u8>,
        reply: Reply<()>,
    },
    Barrier {
        reply: Reply<Revision>,
    },
    /// From a peer.
    Message(Bytes),
    /// From a peer: the message that goes with a snapshot, and the state it stands for.
    Install {
        message: Bytes,
        state: Snapshot,
    },
    /// What the transport found out about a peer.
    Unreachable(u64),
    Lost(u64),
    SnapshotSent {
        to: u64,
        ok: bool,
    },
    Conf {
        change: ConfChangeV2,
        reply: Reply<()>,
    },
    Transfer(u64),
    ImageWritten(Result<u64, ImageError>),
    /// Read a piece of what is at rest.
    Scrub {
        place: Place,
        done: SyncSender<Piece>,
    },
    /// The image on disk is not what was written.
    ImageDamaged,
    Close,
}

impl Request {
    pub fn bytes(&self) -> usize {
        match self {
            Request::Txn { data, .. } | Request::Compact { data, .. } => data.len(),
            Request::Message(message) => message.len(),
            _ => 0,
        }
    }

    /// Answers a request that is not served any more.
    pub fn refuse(self) {
        // A caller that has gone away needs no answer.
        match self {
            Request::Txn { reply, .. } => drop(reply.send(Err(StoreError::Closed))),
            Request::Compact { reply, .. } => drop(reply.send(Err(StoreError::Closed))),
            Request::Barrier { reply } => drop(reply.send(Err(StoreError::Closed))),
            Request::Conf { reply, .. } => drop(reply.send(Err(StoreError::Closed))),
            // Raft sends again what is lost.
            Request::Message(_) | Request::Install { .. } | Request::Unreachable(_) | Request::Lost(_) => (),
            Request::SnapshotSent { .. } | Request::Transfer(_) => (),
            Request::ImageWritten(_) | Request::ImageDamaged | Request::Close => (),
            // Whoever waits hears that nobody answers.
            Request::Scrub { .. } => (),
        }
    }
}

pub(super) struct Queue {
    sender: SyncSender<Request>,
    depth: Arc<Depth>,
    closed: AtomicBool,
}

/// What waits now.
#[derive(Default)]
pub(super) struct Depth {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Depth {
    /// A request was taken out.
    pub fn leave(&self, request: &Request) {
        if matches!(
            request,
            Request::ImageWritten(_) | Request::ImageDamaged | Request::Close
        ) {
            return;
        }
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(request.bytes(), Ordering::Relaxed);
    }
}

/// Proposals that one fsync makes durable, at most.
const MAX_BATCH: usize = 1024;
/// Bytes of proposals that one fsync makes durable (one proposal may be larger).
pub(super) const MAX_BATCH_BYTES: usize = 8 << 20;
/// What a request weighs besides its bytes.
const OVERHEAD: usize = 256;

/// Puts `first` and what waits behind it into `batch`, as much as one step takes: until it has `most` bytes. A snapshot
/// comes last: what follows it waits until it is on disk.
pub(super) fn fill(
    batch: &mut Vec<Request>,
    first: Request,
    requests: &Receiver<Request>,
    depth: &Depth,
    most: usize,
) {
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        bytes += request.bytes() + OVERHEAD;
        depth.leave(&request);
        let last = matches!(request, Request::Install { .. });
        batch.push(request);
        let full = last || batch.len() >= MAX_BATCH || bytes >= most;
        next = if full { None } else { requests.try_recv().ok() };
    }
}

impl Queue {
    pub fn new() -> (Self, Receiver<Request>) {
        Queue::of(MAX_QUEUED)
    }

    /// With `places` allocated instead of [`MAX_QUEUED`].
    pub fn of(places: usize) -> (Self, Receiver<Request>) {
        let (sender, receiver) = sync_channel(places + RESERVED);
        (
            Queue {
                sender,
                depth: Arc::default(),
                closed: AtomicBool::new(false),
            },
            receiver,
        )
    }

    pub fn depth(&self) -> &Arc<Depth> {
        &self.depth
    }

    /// Requests and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        (
            self.depth.requests.load(Ordering::Relaxed),
            self.depth.bytes.load(Ordering::Relaxed),
        )
    }

    /// For the image's thread.
    pub fn sender(&self) -> SyncSender<Request> {
        self.sender.clone()
    }

    pub fn send(&self, request: Request) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let size = request.bytes();
        let queued = self.depth.requests.fetch_add(1, Ordering::Relaxed);
        let queued_bytes = self.depth.bytes.fetch_add(size, Ordering::Relaxed);
        let sent = if queued >= MAX_QUEUED || queued_bytes + size > MAX_QUEUED_BYTES {
            Err(StoreError::Overloaded { queued, queued_bytes })
        } else {
            self.sender.try_send(request).map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded { queued, queued_bytes },
                TrySendError::Disconnected(_) => StoreError::Closed,
            })
        };
        if sent.is_err() {
            self.depth.requests.fetch_sub(1, Ordering::Relaxed);
            self.depth.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        sent
    }

    pub fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            // It has a reserved place; disconnected means the thread has ended already.
            let _ = self.sender.try_send(Request::Close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(size: usize) -> Request {
        Request::Txn {
            data: vec![0; size],
            reply: oneshot::channel().0,
        }
    }

    #[track_caller]
    fn check(size: usize, fit: usize) {
        let (queue, receiver) = Queue::new();
        for n in 0..fit {
            queue
                .send(txn(size))
                .unwrap_or_else(|error| panic!("{n}: {error}"));
        }
        assert!(matches!(
            queue.send(txn(size)),
            Err(StoreError::Overloaded { .. })
        ));
        assert_eq!(queue.waiting(), (fit, fit * size));
        let first = receiver.recv().expect("full");
        queue.depth().leave(&first);
        queue.send(txn(size)).expect("there is a place again");
        queue.close();
        assert!(matches!(queue.send(txn(0)), Err(StoreError::Closed)));
        let last = receiver.try_iter().last();
        assert!(
            matches!(last, Some(Request::Close)),
            "close fits into a full queue"
        );
    }

    #[test]
    fn the_queue_is_bounded_in_number_and_in_bytes() {
        check(1, MAX_QUEUED);
        check(4 << 20, 16);
    }
}
