//! A log in memory, for tests and simulation. What is "on disk" outlives the log itself, so a crash can be played, with
//! the loss of what was written and not yet synced.

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
    /// What takes back each write since the last sync, oldest first.
    unsynced: VecDeque<Undo>,
    /// The next append fails, as a bad disk would.
    broken: bool,
}

/// What one write replaced.
#[derive(Clone, Debug)]
enum Undo {
    Append {
        /// Set when the batch came with a base of its own.
        base: Option<Base>,
        hard_state: Option<HardState>,
        removed: Vec<Entry>,
        added: usize,
    },
    Cut {
        base: Base,
        removed: Vec<Entry>,
    },
}

impl Content {
    fn last_index(&self) -> u64 {
        self.entries.back().map_or(self.base.index, |entry| entry.index)
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Append {
                base,
                hard_state,
                removed,
                added,
            } => {
                self.entries.truncate(self.entries.len() - added);
                if let Some(base) = base {
                    self.base = base;
                }
                self.entries.extend(removed);
                if let Some(hard_state) = hard_state {
                    self.hard_state = hard_state;
                }
            }
            Undo::Cut { base, removed } => {
                for entry in removed.into_iter().rev() {
                    self.entries.push_front(entry);
                }
                self.base = base;
            }
        }
    }
}

impl Disk {
    /// Makes every later append fail.
    pub fn break_down(&self) {
        self.0.lock().broken = true;
    }

    /// Takes entries after `last` away, though they were durable: a damaged disk.
    pub fn lose_after(&self, last: u64) {
        let mut content = self.0.lock();
        let index = content.last_index();
        content.entries.retain(|entry| entry.index <= last);
        let term = content.hard_state.term;
        content.lost = Some(Lost { index, term });
    }

    /// Makes appends work again.
    pub fn mend(&self) {
        self.0.lock().broken = false;
    }

    /// Writes that no sync has covered yet.
    pub fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// The power fails: of the writes since the last sync the first `kept` are there, the others are gone, as a log that
    /// checks its records finds it.
    pub fn crash(&self, kept: usize) {
        let mut content = self.0.lock();
        while content.unsynced.len() > kept
            && let Some(undo) = content.unsynced.pop_back()
        {
            content.undo(undo);
        }
        content.unsynced.clear();
    }

    /// The newest entry, durable or not.
    pub fn last_index(&self) -> u64 {
        self.0.lock().last_index()
    }

    /// Where the log starts.
    pub fn base_index(&self) -> u64 {
        self.0.lock().base.index
    }

    /// The term of an entry that is durable: synced, and not about to be replaced.
    pub fn durable_term(&self, index: u64) -> Option<u64> {
        let content = self.0.lock();
        let mut held = content.last_index();
        let mut removed_from = u64::MAX;
        for undo in content.unsynced.iter().rev() {
            if let Undo::Append { added, removed, .. } = undo {
                held = held.saturating_sub(*added as u64);
                if let Some(first) = removed.first() {
                    removed_from = removed_from.min(first.index);
                }
            }
        }
        if index > held || index >= removed_from || index <= content.base.index {
            return None;
        }
        content
            .entries
            .get((index - content.base.index - 1) as usize)
            .map(|entry| entry.term)
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

    /// The first half of [`Log::append`]: the batch is written, and a crash may take it back.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn write(&mut self, batch: Append) -> Result<(), LogError> {
        check_contiguous(&batch, &self.state())?;
        let mut content = self.disk.0.lock();
        if content.broken {
            return Err(LogError::Engine("the disk is broken".into()));
        }
        let mut removed = Vec::new();
        let base = batch.base.map(|base| {
            removed.extend(content.entries.drain(..));
            std::mem::replace(&mut content.base, base)
        });
        let added = batch.entries.len();
        if let Some(first) = batch.entries.first() {
            let keep = (first.index - content.base.index - 1) as usize;
            removed.extend(content.entries.drain(keep..));
            content.entries.extend(batch.entries);
        }
        let hard_state = batch
            .hard_state
            .map(|hard_state| std::mem::replace(&mut content.hard_state, hard_state));
        content.unsynced.push_back(Undo::Append {
            base,
            hard_state,
            removed,
            added,
        });
        Ok(())
    }

    /// The second half: everything written is durable.
    pub fn sync(&mut self, number: u64) -> Durable {
        self.disk.0.lock().unsynced.clear();
        self.fsyncs += 1;
        Durable { number }
    }
}

impl Log for MemoryLog {
    fn state(&self) -> LogState {
        let content = self.disk.0.lock();
        LogState {
            identity: content.identity.expect("set by open"),
            base: content.base.clone(),
            hard_state: content.hard_state.clone(),
            last_index: content.last_index(),
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
        let number = batch.number;
        self.write(batch)?;
        Ok(self.sync(number))
    }

    fn cut(&mut self, base: Base) -> Result<(), LogError> {
        let mut content = self.disk.0.lock();
        if base.index <= content.base.index {
            return Ok(());
        }
        let count = content.entries.partition_point(|entry| entry.index <= base.index);
        let removed = content.entries.drain(..count).collect();
        let base = std::mem::replace(&mut content.base, base);
        content.unsynced.push_back(Undo::Cut { base, removed });
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
