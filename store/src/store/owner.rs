//! The thread around a [`Core`]: it takes requests in batches, performs on disk and network what the core asks for, and
//! brings real time. While one fsync runs, proposals gather in the queue for the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use super::core::{Action, Core, Fatal};
use super::imager::Imager;
use super::pace::Pace;
use super::queue::{Depth, Request, fill};
use super::recovery::forget;
use super::scrub::{PIECE_BYTES, Piece, Place};
use super::status::Counters;
use crate::log::{Append, Base, Durable, Log};
use crate::replica::TICK;
use crate::space::Space;
use crate::transport::Transport;

/// How long the thread stays awake for the next request. Who was just answered, by this member or with its help, often goes
/// on at once; to sleep and to be woken takes as long as a fast disk's fsync, and half of the time both sides' cores idle.
const AWAKE: Duration = Duration::from_micros(50);
/// Requests of a batch that keep their place in memory.
const USUAL: usize = 1024;

pub(super) struct Owner<L> {
    core: Core,
    log: L,
    imager: Imager,
    transport: Box<dyn Transport>,
    counters: Arc<Counters>,
    depth: Arc<Depth>,
    /// `None` in memory.
    space: Option<Arc<Space>>,
    pace: Pace,
    /// What the next step serves.
    batch: Vec<Request>,
    /// Something was asked in the last step.
    served: bool,
    started: Instant,
}

impl<L: Log> Owner<L> {
    pub fn new(
        core: Core,
        log: L,
        imager: Imager,
        transport: Box<dyn Transport>,
        counters: Arc<Counters>,
        depth: Arc<Depth>,
    ) -> Self {
        counters.log_bytes.store(log.disk_bytes(), Ordering::Relaxed);
        Owner {
            core,
            log,
            imager,
            transport,
            counters,
            depth,
            space: None,
            pace: Pace::default(),
            batch: Vec::new(),
            served: false,
            started: Instant::now(),
        }
    }

    /// The same, on a disk whose room is watched.
    #[must_use]
    pub fn within(self, space: Option<Arc<Space>>) -> Self {
        Owner { space, ..self }
    }

    /// Applies what the log holds. A member without peers leads when this returns.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn start(&mut self) -> Result<(), Fatal> {
        self.core.start()?;
        self.perform()
    }

    /// Serves requests until the store is closed.
    ///
    /// # Errors
    /// See [`Fatal`]; nothing may be answered after it.
    pub fn run(&mut self, requests: &Receiver<Request>) -> Result<(), Fatal> {
        let mut next_tick = Instant::now() + TICK;
        while let Some(ticked) = self.gather(requests, &mut next_tick) {
            let full = self.space.as_ref().and_then(|space| space.check().err());
            self.core.note_room(full);
            let now = self.started.elapsed();
            let close = self.core.serve(now, self.batch.drain(..), ticked)?;
            self.batch.shrink_to(USUAL);
            self.perform()?;
            if close {
                break;
            }
        }
        self.finish(requests)
    }

    /// Waits for the first request, or a tick, and takes what else is there; whether a tick has passed. `None` when nobody
    /// can ask any more.
    fn gather(&mut self, requests: &Receiver<Request>, next_tick: &mut Instant) -> Option<bool> {
        let first = match self.soon(requests) {
            Some(request) => Ok(request),
            // Alone, nothing depends on time: the thread sleeps until somebody asks.
            None if self.core.alone() => {
                *next_tick = Instant::now() + TICK;
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            }
            None => requests.recv_timeout(next_tick.saturating_duration_since(Instant::now())),
        };
        match first {
            Ok(first) => {
                if matches!(first, Request::Txn { .. }) {
                    // Where every core is busy, those who are about to propose come first and share this batch: a batch
                    // of one or two is not worth its fsync and its wake-ups. Where a core is free, this takes no time.
                    std::thread::yield_now();
                }
                let most = self.pace.bytes();
                fill(&mut self.batch, first, requests, &self.depth, most);
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        let ticked = Instant::now() >= *next_tick;
        if ticked {
            // After a pause of the process, one tick is enough: time that nobody saw proves nothing.
            *next_tick = Instant::now() + TICK;
        }
        self.served = !self.batch.is_empty();
        Some(ticked)
    }

    /// What comes within [`AWAKE`] of a request served. Whoever wants the core has it meanwhile.
    fn soon(&mut self, requests: &Receiver<Request>) -> Option<Request> {
        let asleep = std::mem::take(&mut self.served).then(|| Instant::now() + AWAKE)?;
        while Instant::now() < asleep {
            match requests.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        None
    }

    /// Does what the core asks for, in order, until it asks for nothing more.
    fn perform(&mut self) -> Result<(), Fatal> {
        while let Some(action) = self.core.next_action()? {
            match action {
                Action::Append(batch) => {
                    let durable = self.append(batch)?;
                    self.core.persisted(durable)?;
                }
                Action::ReplaceImage(batch) => {
                    let bytes = self.imager.write_now(batch)?;
                    self.counters.image_bytes.store(bytes, Ordering::Relaxed);
                }
                Action::WriteImage(batch) => self.imager.write(batch),
                Action::RewriteImage(batch) => self.imager.rewrite(batch),
                Action::Scrub { place, done } => self.scrub(place, done),
                Action::Cut(base) => self.cut(base)?,
                Action::NotePeers(peers) => self.log.note_peers(peers)?,
                Action::Halt { index } => {
                    self.imager.set_aside()?;
                    forget(&mut self.log)?;
                    return Err(Fatal::Diverged { index });
                }
                Action::NoteRepaired => self.log.note_loss(None)?,
                Action::Fetch(fetch) => {
                    let entries = self.log.entries(fetch.low, fetch.high, fetch.max_bytes);
                    self.core.fetched(fetch, entries.unwrap_or_default())?;
                }
                Action::Send { to, message } => self.transport.send(to, message),
                Action::SendSnapshot { to, message, state } => {
                    self.transport.send_snapshot(to, message, state);
                }
                Action::SnapshotLost { to } => self.transport.snapshot_lost(to),
            }
        }
        Ok(())
    }

    fn scrub(&mut self, place: Place, done: SyncSender<Piece>) {
        let low = match place {
            Place::Image(after) => return self.imager.check(after, done),
            Place::Log(low) => low,
        };
        if low == 0 {
            self.log.forget_cached();
        }
        let state = self.log.state();
        let (low, end) = (low.max(state.base.index + 1), state.last_index + 1);
        let mut piece = Piece::default();
        if low < end {
            match self.log.entries(low, end, PIECE_BYTES) {
                Ok(entries) => {
                    let next = entries.last().map_or(end, |entry| entry.index + 1);
                    piece.next = (next < end).then_some(Place::Log(next));
                    piece.bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
                }
                Err(error) => {
                    tracing::error!(%error, "scrub");
                    self.core.log_damaged();
                }
            }
        }
        // The thread that asked may have ended.
        let _ = done.send(piece);
    }

    fn append(&mut self, batch: Append) -> Result<Durable, Fatal> {
        let counters = &self.counters;
        counters
            .entries
            .fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        let begun = Instant::now();
        let durable = self.log.append(batch)?;
        self.pace.note(begun.elapsed());
        counters.fsyncs.store(self.log.fsyncs(), Ordering::Relaxed);
        Ok(durable)
    }

    fn cut(&mut self, base: Base) -> Result<(), Fatal> {
        self.log.cut(base)?;
        self.counters
            .log_bytes
            .store(self.log.disk_bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Answers everybody who still waits and leaves the disk in order.
    fn finish(&mut self, requests: &Receiver<Request>) -> Result<(), Fatal> {
        self.imager.stop();
        for request in requests.try_iter() {
            match request {
                Request::ImageWritten(written) => self.core.image_written_last(written?),
                other => other.refuse(),
            }
        }
        self.core.finish();
        while let Some(action) = self.core.next_action()? {
            match action {
                Action::Append(batch) => {
                    self.append(batch)?;
                }
                Action::Cut(base) => self.cut(base)?,
                // Nobody is told any more.
                _ => (),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::command;
    use crate::error::StoreError;
    use crate::image::memory::MemoryImage;
    use crate::log::Identity;
    use crate::log::memory::{Disk, MemoryLog};
    use crate::model::{Op, Txn, TxnOutcome};
    use crate::store::Config;
    use crate::store::open::assemble;
    use crate::store::queue::Queue;
    use crate::store::recovery::founder;
    use crate::transport::NoPeers;
    use crate::watch::Hub;

    struct World {
        owner: Owner<MemoryLog>,
        hub: Arc<Hub>,
        counters: Arc<Counters>,
    }

    fn world(disk: &Disk, queue: &Queue) -> World {
        let (identity, base) = founder(Identity {
            cluster: 1,
            member: 2,
        });
        let mut log = MemoryLog::open(disk, identity, base);
        let mut image = MemoryImage::default();
        let counters = Arc::new(Counters::default());
        let path = std::path::Path::new("memory");
        let assembled = assemble(
            &Config::in_memory(),
            (&mut log, &mut image, path),
            (1, 1),
            counters.clone(),
        )
        .expect("fits");
        let imager = Imager::start(image, queue.sender()).expect("a thread");
        let depth = queue.depth().clone();
        World {
            owner: Owner::new(
                assembled.core,
                log,
                imager,
                Box::new(NoPeers),
                counters.clone(),
                depth,
            ),
            hub: assembled.hub,
            counters,
        }
    }

    fn put(queue: &Queue, key: &'static str) -> oneshot::Receiver<Result<TxnOutcome, StoreError>> {
        let op = Op::Put {
            key: key.into(),
            value: "v".into(),
        };
        let (reply, answer) = oneshot::channel();
        let data = command::encode_txn(&Txn::new(vec![], vec![op]));
        queue.send(Request::Txn { data, reply }).expect("there is room");
        answer
    }

    #[test]
    fn what_gathered_while_the_thread_was_busy_shares_one_fsync() {
        let (queue, requests) = Queue::new();
        let mut owner = world(&Disk::default(), &queue).owner;
        owner.start().expect("start");
        let before = owner.log.fsyncs();
        let answers: Vec<_> = ["a", "b", "c", "d"].map(|key| put(&queue, key)).into();
        queue.close();
        owner.run(&requests).expect("run");
        // One for the batch, one for the commit index when the store closes.
        assert_eq!(owner.log.fsyncs() - before, 2);
        for (n, mut answer) in answers.into_iter().enumerate() {
            let Ok(Ok(TxnOutcome::Committed { revision, .. })) = answer.try_recv() else {
                panic!("committed")
            };
            assert_eq!(revision.0, n as u64 + 2);
        }
    }

    #[test]
    fn nothing_is_answered_after_a_failed_fsync() {
        let (disk, (queue, requests)) = (Disk::default(), Queue::new());
        let World { mut owner, hub, .. } = world(&disk, &queue);
        owner.start().expect("start");
        disk.break_down();
        let mut answer = put(&queue, "a");
        assert!(matches!(owner.run(&requests), Err(Fatal::Log(_))));
        assert!(answer.try_recv().is_err(), "neither success nor failure is known");
        assert!(hub.snapshot().is_empty(), "and nothing is visible");
    }

    #[test]
    fn a_member_alone_needs_no_ticks() {
        let (queue, _requests) = Queue::new();
        let World {
            mut owner, counters, ..
        } = world(&Disk::default(), &queue);
        assert!(!owner.core.alone());
        owner.start().expect("start");
        assert!(owner.core.alone());
        assert!(counters.alone.load(Ordering::Relaxed));
    }
}
