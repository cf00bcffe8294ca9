//! The way to the log: requests hand lines over, one thread writes them.
//!
//! Knows bytes and their order. Lines wait in memory within [`WAITING_BYTES`]; whoever has one more waits for room. All
//! lines that wait are written at once, so a write costs its share of one system call.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::chain::Chain;
use super::file::{LogFile, Rotation};

/// Bytes of lines that wait to be written.
const WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Lines that wait to be written.
const WAITING_LINES: usize = 8192;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 1024 * 1024;

/// Where the log goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `-`: standard output.
    pub path: PathBuf,
    pub rotation: Rotation,
    /// Each line carries a digest of the ones before.
    pub chained: bool,
}

struct Line {
    bytes: Vec<u8>,
    /// Told whether the line is in the file.
    written: Option<oneshot::Sender<bool>>,
    _room: OwnedSemaphorePermit,
}

/// Clones write to the same log.
#[derive(Clone)]
pub struct Log {
    lines: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    failed: Arc<AtomicU64>,
}

impl Log {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(settings: &Settings) -> std::io::Result<Log> {
        let mut to = if settings.path.as_os_str() == "-" {
            To::Stdout
        } else {
            let now = Timestamp::now();
            To::File(LogFile::open(&settings.path, settings.rotation.clone(), now)?)
        };
        let mut chain = settings.chained.then(|| match &mut to {
            To::File(file) => file
                .last_line()
                .map_or_else(Chain::default, |line| Chain::after(&line)),
            To::Stdout => Chain::default(),
        });
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let failed = Arc::new(AtomicU64::new(0));
        let counted = failed.clone();
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || run(&mut to, &mut chain, waiting, &counted))?;
        Ok(Log {
            lines,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            failed,
        })
    }

    /// Lines that are not in the file.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Hands a line over once there is room for it. It is written whatever becomes of the caller.
    pub async fn queue(&self, bytes: Vec<u8>) {
        self.hand_over(bytes, None).await;
    }

    /// As [`Log::queue`], and waits until the line is in the file; `false`: it is not.
    pub async fn write(&self, bytes: Vec<u8>) -> bool {
        let (written, told) = oneshot::channel();
        self.hand_over(bytes, Some(written)).await;
        told.await.unwrap_or(false)
    }

    /// Hands a line over if there is room now.
    pub fn offer(&self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Ok(room) = self.room.clone().try_acquire_many_owned(weight(&bytes)) else {
            return Err(bytes);
        };
        let line = Line {
            bytes,
            written: None,
            _room: room,
        };
        self.lines
            .try_send(line)
            .map_err(|error| error.into_inner().bytes)
    }

    async fn hand_over(&self, bytes: Vec<u8>, written: Option<oneshot::Sender<bool>>) {
        let room = self.room.clone().acquire_many_owned(weight(&bytes)).await;
        let line = Line {
            bytes,
            written,
            _room: room.expect("the semaphore is never closed"),
        };
        if self.lines.send(line).await.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line that was discarded.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A line that is longer than all the room waits until nothing else does.
fn weight(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len().min(WAITING_BYTES)).expect("the bound fits")
}

enum To {
    File(LogFile),
    Stdout,
}

impl To {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            To::File(file) => file.append(bytes, Timestamp::now()),
            To::Stdout => std::io::stdout().lock().write_all(bytes),
        }
    }
}

/// Until nobody has a handle on the log any more.
fn run(to: &mut To, chain: &mut Option<Chain>, mut waiting: mpsc::Receiver<Line>, failed: &AtomicU64) {
    let (mut batch, mut told) = (Vec::new(), Vec::new());
    let mut broken = false;
    while let Some(first) = waiting.blocking_recv() {
        batch.clear();
        let before = *chain;
        let mut next = Some(first);
        while let Some(line) = next.take() {
            match chain {
                Some(chain) => chain.append(&line.bytes, &mut batch),
                None => {
                    batch.extend_from_slice(&line.bytes);
                    batch.push(b'\n');
                }
            }
            told.push(line.written);
            if batch.len() < BATCH_BYTES {
                next = waiting.try_recv().ok();
            }
        }
        let written = to.append(&batch);
        if let Err(error) = &written {
            *chain = before;
            failed.fetch_add(told.len() as u64, Ordering::Relaxed);
            if !broken {
                tracing::error!(%error, "the audit log cannot be written");
            }
        } else if broken {
            tracing::info!("the audit log is written again");
        }
        broken = written.is_err();
        for waiting in told.drain(..).flatten() {
            let _ = waiting.send(!broken); // whoever asked may be gone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: PathBuf, chained: bool) -> Settings {
        Settings {
            path,
            rotation: Rotation {
                max_bytes: 1 << 20,
                max_backups: 1,
                max_age_days: 0,
            },
            chained,
        }
    }

    #[tokio::test]
    async fn a_line_is_in_the_file_when_its_writer_goes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("audit.log");
        let log = Log::open(&settings(path.clone(), false)).expect("open");
        log.queue(b"{\"a\":1}".to_vec()).await;
        assert!(log.write(b"{\"b\":2}".to_vec()).await);
        assert_eq!(
            std::fs::read_to_string(&path).expect("the file"),
            "{\"a\":1}\n{\"b\":2}\n"
        );
        std::fs::remove_file(&path).expect("remove");
        drop(log);
    }

    #[tokio::test]
    async fn a_chain_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("audit.log");
        for _ in 0..2 {
            let log = Log::open(&settings(path.clone(), true)).expect("open");
            assert!(log.write(b"{\"a\":1}".to_vec()).await);
            assert!(log.write(b"{\"a\":1}".to_vec()).await);
        }
        let text = std::fs::read(&path).expect("the file");
        assert!(super::super::chain::verify(&text, Some(Chain::default())).is_ok());
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 4);
    }
}
