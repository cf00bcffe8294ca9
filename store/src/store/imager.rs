//! The thread that writes the state image behind the log, one batch at a time, so that no write waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::queue::Request;
use crate::image::{Batch, Image, ImageError};

enum Task {
    Write(Box<Batch>),
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
        let (sender, receiver) = sync_channel(1);
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
        let write = || {
            match &task {
                Task::Write(batch) => image.write(batch)?,
                Task::SetAside => image.set_aside()?,
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
