//! Raft logs through `slog`; warnings and errors go on to `tracing`, the rest is dropped unformatted.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};

struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info | Level::Debug | Level::Trace => (),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(Level::Warning)
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(Bridge, o!())
}
