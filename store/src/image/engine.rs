//! The image on disk, in `redb`. The file is open only while it is read or written: closed cleanly after each batch, so
//! that only a kill in the middle of a batch costs a repair when it opens next.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    Batch, Image, ImageError, Meta, RECORD_HEADER, decode_meta, decode_record, encode_meta, encode_record,
    verify,
};
use crate::model::Entry;
use crate::space::Space;
use crate::tree::Tree;

const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
const HEAD: TableDefinition<&[u8], &[u8]> = TableDefinition::new("head");
/// Everything is in memory anyway; redb needs only what one batch touches.
/// The file is compacted when it is this many times as large as what it holds, and larger than a few megabytes.
const COMPACT_TIMES: u64 = 3;
const COMPACT_BYTES: u64 = 16 << 20;
/// Without room on the disk it is compacted as soon as what it holds has shrunk by one part in so many.
const FREED_SHARE: u64 = 8;
/// A batch without room on the disk is tried again after this long.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);
const CACHE_BYTES: usize = 16 << 20;

pub struct EngineImage {
    path: PathBuf,
    space: Option<Arc<Space>>,
    /// Bytes of all keys and records, as of the last load or write.
    live: u64,
    /// The most of them since the file was compacted.
    peak: u64,
    /// A disk that can lose power.
    #[cfg(test)]
    disk: Option<Arc<super::power_cut::Disk>>,
}

impl EngineImage {
    /// Nothing is read or made before the first load or write.
    pub fn new(path: &Path) -> Self {
        EngineImage {
            path: path.to_owned(),
            space: None,
            live: 0,
            peak: 0,
            #[cfg(test)]
            disk: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn on(path: &Path, disk: Arc<super::power_cut::Disk>) -> Self {
        EngineImage {
            disk: Some(disk),
            ..EngineImage::new(path)
        }
    }

    /// The same, on a disk whose room is watched: a batch waits until there is room for it.
    #[must_use]
    pub fn within(self, space: Option<Arc<Space>>) -> Self {
        EngineImage { space, ..self }
    }

    fn open(&self) -> Result<Database, ImageError> {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            let backend = super::power_cut::Backend(disk.clone());
            return builder.create_with_backend(backend).map_err(error);
        }
        builder.create(&self.path).map_err(error)
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

    fn write_once(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let new = !self.path.exists();
        let written = self.commit(batch);
        if new && written.is_err() {
            // It holds nothing yet, and may not even be a database.
            let _ = std::fs::remove_file(&self.path);
        }
        self.live = written?;
        if new { self.sync_folder() } else { Ok(()) }
    }

    /// Returns the bytes of all keys and records.
    fn commit(&mut self, batch: &Batch) -> Result<u64, ImageError> {
        let mut live = if batch.replace { 0 } else { self.live };
        let mut database = self.open()?;
        // `Durability::Immediate` is the default: commit returns after fsync.
        let write = database.begin_write().map_err(error)?;
        {
            if batch.replace {
                write.delete_table(KEYS).map_err(error)?;
            }
            let mut keys = write.open_table(KEYS).map_err(error)?;
            for key in &batch.deletes {
                let old = keys.remove(&key[..]).map_err(error)?;
                live = live.saturating_sub(old.map_or(0, |old| key.len() + old.value().len()) as u64);
            }
            for entry in &batch.puts {
                let record = encode_record(entry);
                let old = keys.insert(&entry.key[..], &record[..]).map_err(error)?;
                live = live.saturating_sub(old.map_or(0, |old| entry.key.len() + old.value().len()) as u64);
                live += (entry.key.len() + record.len()) as u64;
            }
            let mut head = write.open_table(HEAD).map_err(error)?;
            head.insert(b"meta".as_slice(), &encode_meta(&batch.meta)[..])
                .map_err(error)?;
        }
        write.commit().map_err(error)?;
        self.peak = self.peak.max(live);
        let length = self.disk_bytes();
        let tight = self.space.as_ref().is_some_and(|space| space.is_full());
        let freed = tight && self.peak - live > self.peak / FREED_SHARE;
        if freed || length > COMPACT_BYTES.max(COMPACT_TIMES * live) {
            self.peak = live;
            let compacted = database.compact().map_err(error);
            let after = self.disk_bytes();
            match compacted {
                // The batch is in the image, and the next one may find room to move pages.
                Err(error) if is_no_space(&error) => tracing::warn!(%error, "no room to compact the image"),
                compacted => {
                    compacted?;
                    tracing::info!(before = length, after, "state image was compacted");
                }
            }
        }
        Ok(live)
    }

    fn sync_folder(&self) -> Result<(), ImageError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(error)
    }
}

fn is_no_space(error: &ImageError) -> bool {
    let ImageError::Engine(source) = error else {
        return false;
    };
    let full = std::io::ErrorKind::StorageFull;
    matches!(source.downcast_ref(), Some(redb::Error::Io(error)) if error.kind() == full)
}

fn error(source: impl Into<redb::Error>) -> ImageError {
    ImageError::Engine(Box::new(source.into()))
}

impl Image for EngineImage {
    fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
        if !self.path.exists() {
            return Ok(None);
        }
        // A damaged file can make redb panic; that is one more way to be damaged.
        let read = match catch_unwind(AssertUnwindSafe(|| self.read())) {
            Ok(read) => read?,
            Err(_) => return Err(ImageError::Damaged("the engine cannot read it".into())),
        };
        let size = |entry: &Arc<Entry>| (entry.key.len() + RECORD_HEADER + entry.value.len()) as u64;
        self.live = read.iter().flat_map(|(_, tree)| tree.iter()).map(size).sum();
        self.peak = self.live;
        Ok(read)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
        while let Err(error) = self.write_once(batch) {
            let Some(space) = self.space.as_ref().filter(|_| is_no_space(&error)) else {
                return Err(error);
            };
            // Nothing of the batch is in the image. The log keeps what the image does not have yet.
            tracing::error!(%error, "the image waits for room on the disk");
            if !space.give_up_placeholder() {
                std::thread::sleep(WAIT_FOR_ROOM);
            }
        }
        if let Some(space) = &self.space {
            space.look();
        }
        Ok(())
    }

    fn rewrite(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let path = self.path.with_extension("new");
        if path.exists() {
            std::fs::remove_file(&path).map_err(error)?;
        }
        let mut new = EngineImage::new(&path).within(self.space.clone());
        new.write(batch)?;
        std::fs::rename(&path, &self.path).map_err(error)?;
        (self.live, self.peak) = (new.live, new.peak);
        self.sync_folder()
    }

    fn check(&mut self, after: Option<&[u8]>, bytes: u64) -> Result<(Option<Bytes>, u64), ImageError> {
        if !self.path.exists() {
            return Ok((None, 0));
        }
        if after.is_none() {
            crate::space::forget_cached(&self.path);
        }
        let database = self.open()?;
        let read = database.begin_read().map_err(error)?;
        let keys = match read.open_table(KEYS) {
            Ok(keys) => keys,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, 0)),
            Err(other) => return Err(error(other)),
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut checked = 0;
        for record in keys.range::<&[u8]>((start, Bound::Unbounded)).map_err(error)? {
            let (key, record) = record.map_err(error)?;
            decode_record(key.value(), record.value())?;
            checked += (key.value().len() + record.value().len()) as u64;
            if checked >= bytes {
                return Ok((Some(Bytes::copy_from_slice(key.value())), checked));
            }
        }
        let head = read.open_table(HEAD).map_err(error)?;
        let meta = head.get(b"meta".as_slice()).map_err(error)?;
        decode_meta(
            meta.ok_or(ImageError::Damaged("its head is missing".into()))?
                .value(),
        )?;
        Ok((None, checked))
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
    fn the_file_shrinks_with_what_it_holds() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("image.redb");
        let (mut image, mut tree) = (EngineImage::new(&path), Tree::default());
        let entry = |n: u64, revision| contract::entry(&format!("/key/{n:05}"), revision, 8 << 10);
        let all = (0..2500).map(|n| entry(n, n + 2)).collect();
        image
            .write(&contract::batch(&mut tree, all, &[], 5000))
            .expect("write");
        let full = image.disk_bytes();
        let gone: Vec<String> = (100..2500).map(|n| format!("/key/{n:05}")).collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let batch = contract::batch(&mut tree, vec![entry(1, 6000)], &gone, 6000);
        image.write(&batch).expect("write");
        assert!(
            full > 16 << 20 && image.disk_bytes() < full / 4,
            "{full}, {}",
            image.disk_bytes()
        );
        let (live, again) = (
            image.live,
            EngineImage::new(&path).load().expect("whole").expect("an image"),
        );
        assert_eq!(
            again.1.iter().collect::<Vec<_>>(),
            tree.iter().collect::<Vec<_>>()
        );
        let mut loaded = EngineImage::new(&path);
        loaded.load().expect("whole");
        assert_eq!(loaded.live, live, "what is counted is what is there");
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
