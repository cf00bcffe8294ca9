//! Reads what is at rest, piece by piece at a bounded rate, so that damage is found while everything it held is still in
//! memory: then the image is written anew from there, and what was damaged is cut or replaced. Nobody else is asked, and
//! nobody waits. A thread that asks and sleeps; what is read and what follows from it is the owner's and the core's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;

use super::queue::{Queue, Request};
use super::status::Counters;
use crate::error::StoreError;

/// Read with one request, about: the store's thread and the image's do nothing else meanwhile.
pub const PIECE_BYTES: u64 = 512 << 10;
/// After a request that found the store too busy.
const BUSY: Duration = Duration::from_secs(1);

/// How often everything at rest is read, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two rounds; zero: never.
    pub every: Duration,
    pub bytes_per_second: u64,
}

impl Default for Pace {
    /// Every 10 minutes, at 16 MiB/s.
    fn default() -> Self {
        Pace {
            every: Duration::from_secs(600),
            bytes_per_second: 16 << 20,
        }
    }
}

/// Where the next piece starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The log, from this entry on.
    Log(u64),
    /// The image, after this key.
    Image(Option<Bytes>),
}

/// A piece that was read: where the next one starts, if there is one, and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub next: Option<Place>,
    pub bytes: u64,
}

/// Starts the thread; it ends when `stop`'s other end is dropped, or the queue is closed.
pub(super) fn start(
    pace: Pace,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    stop: Receiver<()>,
) -> std::io::Result<()> {
    if pace.every.is_zero() {
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("store-scrub".into());
    thread.spawn(move || while rest(&stop, pace.every) && round(pace, &queue, &counters, &stop) {})?;
    Ok(())
}

/// Sleeps; whether to go on.
fn rest(stop: &Receiver<()>, time: Duration) -> bool {
    stop.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}

/// Reads everything once; whether to go on.
fn round(pace: Pace, queue: &Queue, counters: &Counters, stop: &Receiver<()>) -> bool {
    for start in [Place::Log(0), Place::Image(None)] {
        let mut next = Some(start);
        while let Some(place) = next {
            let (done, piece) = sync_channel(1);
            match ask(queue, place.clone(), done) {
                Ok(()) => (),
                Err(StoreError::Closed) => return false,
                Err(_) => {
                    next = Some(place);
                    if !rest(stop, BUSY) {
                        return false;
                    }
                    continue;
                }
            }
            // Without an answer the store has closed.
            let Ok(piece) = piece.recv() else { return false };
            counters.scrubbed_bytes.fetch_add(piece.bytes, Ordering::Relaxed);
            let pause = piece.bytes as f64 / pace.bytes_per_second.max(1) as f64;
            if !rest(stop, Duration::from_secs_f64(pause)) {
                return false;
            }
            next = piece.next;
        }
    }
    counters.scrubs.fetch_add(1, Ordering::Relaxed);
    true
}

fn ask(queue: &Queue, place: Place, done: SyncSender<Piece>) -> Result<(), StoreError> {
    queue.send(Request::Scrub { place, done })
}
