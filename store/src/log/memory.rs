//! A log in memory, for tests and simulation. What is "on disk" outlives the log itself, so a crash can be played.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::{Entry, HardState};

use super::{Append, Base, Durable, Identity, Log, LogError, LogState, Lost, check_contiguous};

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Clone, Debug, Default)]
struct Content {
    identity: Option<Identity>,
    base: Base,
    hard_state: HardState,
    entries: VecDeque<Entry>,
    lost: Option<Lost>,
    peers: bool,
    /// The next append fails, as a bad disk would.
    broken: bool,
}

impl Disk {
    /// Makes every later append fail.
    pub fn break_down(&self) {
        self.0.lock().broken = true;
    }

    /// Takes entries after `last` away, though they were durable: a damaged disk.
    pub fn lose_after(&self, last: u64) {
        let mut content = self.0.lock();
        let index = content
            .entries
            .back()
            .map_or(content.base.index, |entry| entry.index);
        content.entries.retain(|entry| entry.index <= last);
        let term = content.hard_state.term;
        content.lost = Some(Lost { index, term });
    }
}

#[derive(Debug)]
pub struct MemoryLog {
    disk: Disk,
    fsyncs: u64,
}

impl MemoryLog {
    /// Opens what is on `disk`; an empty disk becomes member `identity` with the given base.
    pub fn open(disk: &Disk, identity: Identity, base: Base) -> Self {
        let mut content = disk.0.lock();
        if content.identity.is_none() {
            *content = Content {
                identity: Some(identity),
                base,
                ..Content::default()
            };
        }
        drop(content);
        MemoryLog {
            disk: disk.clone(),
            fsyncs: 0,
        }
    }
}

impl Log for MemoryLog {
    fn state(&self) -> LogState {
        let content = self.disk.0.lock();
        LogState {
            identity: content.identity.expect("set by open"),
            base: content.base.clone(),
            hard_state: content.hard_state.clone(),
            last_index: content
                .entries
                .back()
                .map_or(content.base.index, |entry| entry.index),
            lost: content.lost,
        }
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let content = self.disk.0.lock();
        let first = content.base.index + 1;
        if low < first || low >= high || high > first + content.entries.len() as u64 {
            return Err(LogError::Missing { low, high });
        }
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in content
            .entries
            .range((low - first) as usize..(high - first) as usize)
        {
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn append(&mut self, batch: Append) -> Result<Durable, LogError> {
        check_contiguous(&batch, &self.state())?;
        let mut content = self.disk.0.lock();
        if content.broken {
            return Err(LogError::Engine("the disk is broken".into()));
        }
        if let Some(base) = batch.base {
            content.base = base;
            content.entries.clear();
        }
        if let Some(first) = batch.entries.first() {
            let keep = (first.index - content.base.index - 1) as usize;
            content.entries.truncate(keep);
            content.entries.extend(batch.entries);
        }
        if let Some(hard_state) = batch.hard_state {
            content.hard_state = hard_state;
        }
        self.fsyncs += 1;
        Ok(Durable { number: batch.number })
    }

    fn cut(&mut self, base: Base) -> Result<(), LogError> {
        let mut content = self.disk.0.lock();
        while content
            .entries
            .front()
            .is_some_and(|entry| entry.index <= base.index)
        {
            content.entries.pop_front();
        }
        if base.index > content.base.index {
            content.base = base;
        }
        Ok(())
    }

    fn has_peers(&self) -> bool {
        self.disk.0.lock().peers
    }

    fn note_peers(&mut self, peers: bool) -> Result<(), LogError> {
        self.disk.0.lock().peers = peers;
        Ok(())
    }

    fn note_loss(&mut self, lost: Option<Lost>) -> Result<(), LogError> {
        self.disk.0.lock().lost = lost;
        Ok(())
    }

    fn fsyncs(&self) -> u64 {
        self.fsyncs
    }

    fn disk_bytes(&self) -> u64 {
        self.disk
            .0
            .lock()
            .entries
            .iter()
            .map(|entry| entry.data.len() as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| {
            let disk = Disk::default();
            move || MemoryLog::open(&disk, contract::IDENTITY, contract::base(0, 0))
        });
    }
}
