//! The thread that writes the state image behind the log, one batch at a time, so that no write waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::queue::Request;
use super::scrub::{PIECE_BYTES, Piece, Place};
use bytes::Bytes;

use crate::image::{Batch, Image, ImageError};

enum Task {
    Write(Box<Batch>),
    Rewrite(Box<Batch>),
    /// The piece after this key, for whoever waits for it.
    Check(Option<Bytes>, SyncSender<Piece>),
    SetAside,
}

/// A task, and who waits for it; nobody when the answer comes through the queue.
struct Work {
    task: Task,
    waiter: Option<SyncSender<Result<u64, ImageError>>>,
}

pub(super) struct Imager {
    batches: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Imager {
    pub fn start(image: impl Image, done: SyncSender<Request>) -> std::io::Result<Self> {
        // The owner sends the next batch only after the last one was answered.
        // And one piece is read at a time.
        let (sender, receiver) = sync_channel(2);
        let thread = std::thread::Builder::new()
            .name("store-image".into())
            .spawn(move || run(image, receiver, done))?;
        Ok(Imager {
            batches: Some(sender),
            thread: Some(thread),
        })
    }

    /// Starts to write; the answer comes as [`Request::ImageWritten`].
    pub fn write(&self, batch: Batch) {
        let task = Task::Write(Box::new(batch));
        self.send(Work { task, waiter: None });
    }

    /// As [`Imager::write`], into a new file.
    pub fn rewrite(&self, batch: Batch) {
        let task = Task::Rewrite(Box::new(batch));
        self.send(Work { task, waiter: None });
    }

    /// Reads a piece and tells `done`. Damage comes as [`Request::ImageDamaged`].
    pub fn check(&self, after: Option<Bytes>, done: SyncSender<Piece>) {
        let task = Task::Check(after, done);
        self.send(Work { task, waiter: None });
    }

    /// Writes after whatever is under way, and waits for it.
    ///
    /// # Errors
    /// Those of [`Image::write`].
    pub fn write_now(&self, batch: Batch) -> Result<u64, ImageError> {
        self.wait_for(Task::Write(Box::new(batch)))
    }

    /// Puts the image out of the way, after whatever is under way.
    ///
    /// # Errors
    /// Those of [`Image::set_aside`].
    pub fn set_aside(&self) -> Result<u64, ImageError> {
        self.wait_for(Task::SetAside)
    }

    fn wait_for(&self, task: Task) -> Result<u64, ImageError> {
        let (sender, receiver) = sync_channel(1);
        self.send(Work {
            task,
            waiter: Some(sender),
        });
        receiver
            .recv()
            .unwrap_or_else(|_| Err(ImageError::Damaged("the image's thread has ended".into())))
    }

    fn send(&self, work: Work) {
        let sender = self.batches.as_ref().expect("taken only by stop");
        // The thread lives until `stop`; a write that panics is answered as a failure.
        let _ = sender.send(work);
    }

    /// Waits for the batch under way.
    pub fn stop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut image: impl Image, batches: Receiver<Work>, done: SyncSender<Request>) {
    while let Ok(Work { task, waiter }) = batches.recv() {
        if let Task::Check(after, piece) = task {
            if !check(&mut image, after, &piece) && done.send(Request::ImageDamaged).is_err() {
                return;
            }
            continue;
        }
        let write = || {
            match &task {
                Task::Write(batch) => image.write(batch)?,
                Task::Rewrite(batch) => image.rewrite(batch)?,
                Task::SetAside => image.set_aside()?,
                Task::Check(..) => unreachable!("done above"),
            }
            Ok(image.disk_bytes())
        };
        let panicked = |_| Err(ImageError::Damaged("the engine panicked while it wrote".into()));
        let written = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(panicked);
        let told = match waiter {
            Some(waiter) => waiter.send(written).is_ok(),
            None => done.send(Request::ImageWritten(written)).is_ok(),
        };
        if !told {
            return;
        }
    }
}

/// Reads a piece; whether it is as it was written.
fn check(image: &mut impl Image, after: Option<Bytes>, done: &SyncSender<Piece>) -> bool {
    let read = catch_unwind(AssertUnwindSafe(|| image.check(after.as_deref(), PIECE_BYTES)));
    let (piece, whole) = match read {
        Ok(Ok((next, bytes))) => {
            let next = next.map(|key| Place::Image(Some(key)));
            (Piece { next, bytes }, true)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "scrub");
            (Piece::default(), false)
        }
        Err(_) => (Piece::default(), false),
    };
    // The thread that asked may have ended.
    let _ = done.send(piece);
    whole
}
