//! An image in memory, for tests and simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Batch, Image, ImageError, Meta, Sums, decode_meta, decode_record, encode_meta, encode_record, size,
    verify,
};
use crate::model::Entry;
use crate::tree::Tree;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    meta: Option<Vec<u8>>,
    entries: BTreeMap<Bytes, Arc<Entry>>,
    bytes: u64,
}

#[derive(Debug, Default)]
pub struct MemoryImage(Disk);

impl MemoryImage {
    pub fn open(disk: &Disk) -> Self {
        MemoryImage(disk.clone())
    }
}

impl Image for MemoryImage {
    fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
        let content = self.0.0.lock();
        let Some(meta) = &content.meta else {
            return Ok(None);
        };
        let meta = decode_meta(meta)?;
        let mut tree = Tree::default();
        for (key, entry) in &content.entries {
            // What a disk gives back shares no memory with what was written, and has gone through the record's format.
            tree.insert(Arc::new(decode_record(key, &encode_record(entry))?));
        }
        verify(&meta, &tree, Sums::of_all(&tree))?;
        Ok(Some((meta, tree)))
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let mut content = self.0.0.lock();
        if batch.replace {
            content.entries.clear();
            content.bytes = 0;
        }
        for key in &batch.deletes {
            let gone = content.entries.remove(key);
            content.bytes -= gone.map_or(0, |entry| size(&entry));
        }
        for entry in &batch.puts {
            let gone = content.entries.insert(entry.key.clone(), entry.clone());
            content.bytes -= gone.map_or(0, |entry| size(&entry));
            content.bytes += size(entry);
        }
        content.meta = Some(encode_meta(&batch.meta));
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), ImageError> {
        *self.0.0.lock() = Content::default();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.0.0.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(|| {
            let disk = Disk::default();
            move || MemoryImage::open(&disk)
        });
    }
}
