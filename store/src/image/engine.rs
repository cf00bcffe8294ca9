//! The image on disk, in `redb`. The file is open only while it is read or written: closed cleanly after each batch, so
//! that only a kill in the middle of a batch costs a repair when it opens next.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Batch, Image, ImageError, Meta, decode_meta, decode_record, encode_meta, encode_record, verify};
use crate::tree::Tree;

const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
const HEAD: TableDefinition<&[u8], &[u8]> = TableDefinition::new("head");
/// Everything is in memory anyway; redb needs only what one batch touches.
const CACHE_BYTES: usize = 16 << 20;

pub struct EngineImage {
    path: PathBuf,
}

impl EngineImage {
    /// Nothing is read or made before the first load or write.
    pub fn new(path: &Path) -> Self {
        EngineImage {
            path: path.to_owned(),
        }
    }

    fn open(&self) -> Result<Database, ImageError> {
        redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&self.path)
            .map_err(error)
    }

    fn read(&self) -> Result<Option<(Meta, Tree)>, ImageError> {
        let database = self.open()?;
        let read = database.begin_read().map_err(error)?;
        let head = match read.open_table(HEAD) {
            Ok(table) => table,
            // The file was made, but the first batch never came to its end.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(other) => return Err(error(other)),
        };
        let meta = head.get(b"meta".as_slice()).map_err(error)?;
        let meta = decode_meta(
            meta.ok_or(ImageError::Damaged("its head is missing".into()))?
                .value(),
        )?;
        let mut tree = Tree::default();
        for record in read.open_table(KEYS).map_err(error)?.iter().map_err(error)? {
            let (key, record) = record.map_err(error)?;
            tree.insert(Arc::new(decode_record(key.value(), record.value())?));
        }
        verify(&meta, &tree)?;
        Ok(Some((meta, tree)))
    }

    fn sync_folder(&self) -> Result<(), ImageError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(error)
    }
}

fn error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Engine(source.into())
}

impl Image for EngineImage {
    fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
        if !self.path.exists() {
            return Ok(None);
        }
        // A damaged file can make redb panic; that is one more way to be damaged.
        match catch_unwind(AssertUnwindSafe(|| self.read())) {
            Ok(read) => read,
            Err(_) => Err(ImageError::Damaged("the engine cannot read it".into())),
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let new = !self.path.exists();
        let database = self.open()?;
        // `Durability::Immediate` is the default: commit returns after fsync.
        let write = database.begin_write().map_err(error)?;
        {
            if batch.replace {
                write.delete_table(KEYS).map_err(error)?;
            }
            let mut keys = write.open_table(KEYS).map_err(error)?;
            for key in &batch.deletes {
                keys.remove(&key[..]).map_err(error)?;
            }
            for entry in &batch.puts {
                keys.insert(&entry.key[..], &encode_record(entry)[..])
                    .map_err(error)?;
            }
            let mut head = write.open_table(HEAD).map_err(error)?;
            head.insert(b"meta".as_slice(), &encode_meta(&batch.meta)[..])
                .map_err(error)?;
        }
        write.commit().map_err(error)?;
        drop(database);
        if new { self.sync_folder() } else { Ok(()) }
    }

    fn set_aside(&mut self) -> Result<(), ImageError> {
        if !self.path.exists() {
            return Ok(());
        }
        let aside = (1..)
            .map(|n| self.path.with_extension(format!("damaged-{n}")))
            .find(|path| !path.exists())
            .expect("some number is free");
        std::fs::rename(&self.path, aside).map_err(error)?;
        self.sync_folder()
    }

    fn disk_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| {
            let dir = tempfile::tempdir().expect("a folder");
            move || EngineImage::new(&dir.path().join("image.redb"))
        });
    }

    #[test]
    fn damage_is_refused_or_harmless_but_never_believed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("image.redb");
        let mut tree = Tree::default();
        let entries = (0..200)
            .map(|n| contract::entry(&format!("/key/{n}"), n + 2, 300))
            .collect();
        let batch = contract::batch(&mut tree, entries, &[], 500);
        EngineImage::new(&path).write(&batch).expect("write");
        let good = std::fs::read(&path).expect("read");
        let mut refused = 0;
        for round in 0..60usize {
            let mut bytes = good.clone();
            let at = round * 7919 * 131 % bytes.len();
            match round % 3 {
                0 => bytes[at] ^= 1 << (round % 8),
                1 => bytes.truncate(at),
                _ => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            }
            std::fs::write(&path, &bytes).expect("write");
            match EngineImage::new(&path).load() {
                Ok(Some((meta, read))) => {
                    assert_eq!(meta, batch.meta, "round {round}");
                    assert_eq!(read.iter().collect::<Vec<_>>(), tree.iter().collect::<Vec<_>>());
                }
                Ok(None) => assert!(bytes.is_empty() || bytes == vec![0; bytes.len()], "round {round}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 10, "{refused} of 60 rounds were refused");
    }
}
