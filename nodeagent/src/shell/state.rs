//! What must outlive the agent's process: one record per Pod in a `sled` database, valid for one boot.
//!
//! sled is no safe place for what must not be lost (see ARCHITECTURE.md): each record carries its own checksum, a record
//! that fails it counts as absent, and a database that does not open is thrown away. All of it can be rebuilt from
//! the runtime, at the price of a shorter restart back-off.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use crate::pod::action::Memory;

const BOOT_KEY: &[u8] = b"boot";
const POD_PREFIX: &str = "pod/";

enum Command {
    Save(String, Box<Memory>),
    Remove(String),
    Flush(mpsc::Sender<()>),
}

/// Writes are made in order by one thread, and gathered: one flush for all that wait.
#[derive(Clone)]
pub struct State {
    commands: mpsc::Sender<Command>,
}

impl State {
    /// Opens or makes the database and returns what it holds of this boot, by Pod uid.
    ///
    /// # Errors
    /// The directory cannot be used at all.
    pub fn open(directory: &Path, boot_id: &str) -> io::Result<(State, BTreeMap<String, Memory>)> {
        let db = match open_checked(directory) {
            Ok(db) => db,
            // Held by another process: not ours to throw away.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "node state is damaged; it is made anew");
                fs::remove_dir_all(directory)?;
                open_checked(directory)?
            }
        };
        if db.get(BOOT_KEY).ok().flatten().as_deref() != Some(boot_id.as_bytes()) {
            db.clear()?;
            db.insert(BOOT_KEY, boot_id.as_bytes())?;
        }
        let mut found = BTreeMap::new();
        for entry in db.scan_prefix(POD_PREFIX) {
            let Ok((key, value)) = entry else { continue };
            let uid = String::from_utf8_lossy(&key[POD_PREFIX.len()..]).into_owned();
            match decode(&value) {
                Some(memory) => {
                    found.insert(uid, memory);
                }
                None => tracing::warn!(uid, "a record of the node state is damaged; it is left out"),
            }
        }
        let (commands, receive) = mpsc::channel();
        std::thread::Builder::new()
            .name("node-state".into())
            .spawn(move || write(&db, &receive))?;
        Ok((State { commands }, found))
    }

    pub fn save(&self, uid: &str, memory: Memory) {
        self.send(Command::Save(uid.to_owned(), Box::new(memory)));
    }

    pub fn remove(&self, uid: &str) {
        self.send(Command::Remove(uid.to_owned()));
    }

    /// Waits until everything before is on disk. Blocking.
    pub fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.send(Command::Flush(done));
        // The writer ends only with the process; then nobody waits.
        let _ = wait.recv();
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the node state is no longer written");
        }
    }
}

fn open_checked(directory: &Path) -> io::Result<sled::Db> {
    let directory: PathBuf = directory.to_owned();
    // sled panics on some kinds of damage instead of returning an error.
    std::panic::catch_unwind(|| {
        // No timer of its own: every batch is flushed by the writer.
        sled::Config::new()
            .path(directory)
            .cache_capacity(1 << 20)
            .flush_every_ms(None)
            .open()
    })
    .map_err(|_| io::Error::other("sled panicked"))?
    .map_err(|error| match error {
        sled::Error::Io(source) if source.to_string().contains("could not acquire lock") => {
            io::Error::new(io::ErrorKind::WouldBlock, source)
        }
        other => io::Error::from(other),
    })
}

fn write(db: &sled::Db, commands: &mpsc::Receiver<Command>) {
    while let Ok(first) = commands.recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next {
            let result = match command {
                Command::Save(uid, memory) => db.insert(key(&uid), encode(&memory)).map(|_| ()),
                Command::Remove(uid) => db.remove(key(&uid)).map(|_| ()),
                Command::Flush(done) => {
                    waiting.push(done);
                    Ok(())
                }
            };
            if let Err(error) = result {
                tracing::error!(%error, "write node state");
            }
            next = commands.try_recv().ok();
        }
        if let Err(error) = db.flush() {
            tracing::error!(%error, "flush node state");
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn key(uid: &str) -> Vec<u8> {
    format!("{POD_PREFIX}{uid}").into_bytes()
}

fn encode(memory: &Memory) -> Vec<u8> {
    let json = serde_json::to_vec(memory).expect("plain data always encodes");
    let mut record = crc32fast::hash(&json).to_le_bytes().to_vec();
    record.extend_from_slice(&json);
    record
}

fn decode(record: &[u8]) -> Option<Memory> {
    let (sum, json) = record.split_at_checked(4)?;
    (crc32fast::hash(json).to_le_bytes() == sum).then_some(())?;
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(attempt: u32) -> Memory {
        Memory {
            sandbox_attempt: attempt,
            ..Memory::default()
        }
    }

    /// Saves under one boot id, opens under another; what is found.
    #[track_caller]
    fn check(second_boot: &str, wanted: &[(&str, u32)]) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let (state, found) = State::open(&path, "boot-1").expect("opened");
        assert!(found.is_empty());
        state.save("a", memory(1));
        state.save("a", memory(2));
        state.save("b", memory(3));
        state.remove("b");
        state.flush();
        drop(state);
        // The writer lets go of the database once the last handle is dropped; until then it is locked.
        let found = loop {
            match State::open(&path, second_boot) {
                Ok((_, found)) => break found,
                Err(_) => std::thread::yield_now(),
            }
        };
        let seen: Vec<_> = found
            .iter()
            .map(|(uid, memory)| (uid.as_str(), memory.sandbox_attempt))
            .collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn records_live_for_one_boot() {
        check("boot-1", &[("a", 2)]);
        check("boot-2", &[]);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut record = encode(&memory(7));
        assert_eq!(decode(&record), Some(memory(7)));
        record[6] ^= 1;
        assert_eq!(decode(&record), None);
        assert_eq!(decode(b"x"), None);
    }
}
