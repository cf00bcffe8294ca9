//! An image in memory, for tests and simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Batch, Image, ImageError, Meta, Sums, decode_meta, decode_record, encode_meta, encode_record, verify,
};
use crate::tree::Tree;

/// What survives a crash: the same records the engine keeps on disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    meta: Option<Vec<u8>>,
    records: BTreeMap<Bytes, Vec<u8>>,
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
        for (key, record) in &content.records {
            tree.insert(Arc::new(decode_record(key, record)?));
        }
        verify(&meta, &tree, Sums::of_all(&tree))?;
        Ok(Some((meta, tree)))
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let mut content = self.0.0.lock();
        if batch.replace {
            content.records.clear();
        }
        for key in &batch.deletes {
            content.records.remove(key);
        }
        for entry in &batch.puts {
            content.records.insert(entry.key.clone(), encode_record(entry));
        }
        content.meta = Some(encode_meta(&batch.meta));
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), ImageError> {
        *self.0.0.lock() = Content::default();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.0
            .0
            .lock()
            .records
            .values()
            .map(|record| record.len() as u64)
            .sum()
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
