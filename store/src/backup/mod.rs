//! A whole state as a file that can be kept elsewhere, and a new member made from it. `format` is the form of the bytes,
//! `restore` makes a data folder. Knows bytes and revisions, neither where backups are kept nor what is in them.

mod format;
mod restore;

pub use format::{About, BackupError, FORMAT, chunks, read, read_about, verify};
pub use restore::{DEFAULT_BUMP, RestoreError, Restored, restore};
