//! The one thread that owns the state machine: takes proposals in batches, makes them durable, applies, publishes, and
//! only then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{oneshot, watch as tokio_watch};

use super::{MAX_QUEUED, MAX_QUEUED_BYTES, Status};
use crate::command::{self, Command};
use crate::error::StoreError;
use crate::model::{Revision, TxnOutcome};
use crate::mvcc::Mvcc;
use crate::watch::Hub;

/// Proposals that one fsync makes durable, at most.
const MAX_BATCH: usize = 1024;

pub(super) enum Request {
    Txn {
        data: Vec<u8>,
        reply: oneshot::Sender<Result<TxnOutcome, StoreError>>,
    },
    Compact {
        data: Vec<u8>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Barrier {
        reply: oneshot::Sender<Result<Revision, StoreError>>,
    },
    Close,
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Txn { data, .. } | Request::Compact { data, .. } => data.len(),
            Request::Barrier { .. } | Request::Close => 0,
        }
    }
}

/// The bounded queue between the handles and the thread.
pub(super) struct Queue {
    sender: SyncSender<Request>,
    bytes: Arc<Depth>,
    closed: AtomicBool,
}

#[derive(Default)]
pub(super) struct Depth {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Depth {
    fn leave(&self, request: &Request) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(request.bytes(), Ordering::Relaxed);
    }
}

impl Queue {
    pub fn new() -> (Self, Receiver<Request>) {
        // One place more, so that `Close` always fits.
        let (sender, receiver) = sync_channel(MAX_QUEUED + 1);
        (
            Queue {
                sender,
                bytes: Arc::default(),
                closed: AtomicBool::new(false),
            },
            receiver,
        )
    }

    pub fn bytes(&self) -> Arc<Depth> {
        self.bytes.clone()
    }

    pub fn depth(&self) -> (usize, usize) {
        (
            self.bytes.requests.load(Ordering::Relaxed),
            self.bytes.bytes.load(Ordering::Relaxed),
        )
    }

    pub fn send(&self, request: Request) -> Result<(), TrySendError<()>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(TrySendError::Disconnected(()));
        }
        let size = request.bytes();
        let queued = self.bytes.requests.fetch_add(1, Ordering::Relaxed);
        let queued_bytes = self.bytes.bytes.fetch_add(size, Ordering::Relaxed);
        let sent = if queued >= MAX_QUEUED || queued_bytes + size > MAX_QUEUED_BYTES {
            Err(TrySendError::Full(()))
        } else {
            self.sender.try_send(request).map_err(|refused| match refused {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })
        };
        if sent.is_err() {
            self.bytes.requests.fetch_sub(1, Ordering::Relaxed);
            self.bytes.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        sent
    }

    pub fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.bytes.requests.fetch_add(1, Ordering::Relaxed);
            // Disconnected means the thread has ended already.
            let _ = self.sender.try_send(Request::Close);
        }
    }
}

/// Read by `status()`, written by the thread.
#[derive(Default)]
pub(super) struct Counters {
    pub sole_leader: AtomicBool,
    pub applied: AtomicU64,
    pub transactions: AtomicU64,
    pub largest_batch: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> Status {
        Status {
            applied: self.applied.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            largest_batch: self.largest_batch.load(Ordering::Relaxed),
            ..Status::default()
        }
    }
}

pub(super) struct Owner {
    mvcc: Mvcc,
    hub: Arc<Hub>,
    counters: Arc<Counters>,
    depth: Arc<Depth>,
    applied: tokio_watch::Sender<Revision>,
    started: Instant,
}

impl Owner {
    pub fn new(
        mvcc: Mvcc,
        hub: Arc<Hub>,
        counters: Arc<Counters>,
        depth: Arc<Depth>,
        applied: tokio_watch::Sender<Revision>,
        started: Instant,
    ) -> Self {
        Owner {
            mvcc,
            hub,
            counters,
            depth,
            applied,
            started,
        }
    }

    pub fn run(mut self, requests: Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            if self.serve(batch) {
                break;
            }
        }
        self.hub.close();
    }

    /// Whether to stop.
    fn serve(&mut self, batch: Vec<Request>) -> bool {
        let mut stop = false;
        for request in batch {
            self.depth.leave(&request);
            match request {
                Request::Txn { data, reply } => {
                    let Ok(Command::Txn(txn)) = command::decode(&Bytes::from(data)) else {
                        unreachable!("the handle encodes transactions")
                    };
                    let applied = self.mvcc.apply(txn);
                    self.hub
                        .publish(&applied.events, self.mvcc.snapshot(), self.started.elapsed());
                    self.applied.send_replace(self.mvcc.revision());
                    let _ = reply.send(Ok(applied.outcome));
                }
                Request::Compact { data, reply } => {
                    if let Ok(Command::Compact(revision)) = command::decode(&Bytes::from(data)) {
                        self.hub.compact(revision);
                    }
                    let _ = reply.send(Ok(()));
                }
                Request::Barrier { reply } => {
                    let _ = reply.send(Ok(self.mvcc.revision()));
                }
                Request::Close => stop = true,
            }
        }
        stop
    }
}
