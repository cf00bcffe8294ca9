//! The image on a disk that loses power: what was not synced is gone, or there in part, sector by sector. What is read
//! afterwards is the state of the last batch that was acknowledged, or of the one under way, and nothing else.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::engine::EngineImage;
use super::{Batch, Image, contract};
use crate::tree::Tree;

const SECTOR: usize = 512;
/// Power cuts of the short run; `POWER_CUTS=200` for the long one.
const CUTS: usize = 15;

/// A file in memory, and what of it would survive.
#[derive(Debug, Default)]
pub(crate) struct Disk(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Syncs until the power fails; 0: it has.
    left: u32,
    /// What was written when the power failed.
    at_failure: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Backend(pub Arc<Disk>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.0.lock();
        let start = offset as usize;
        let bytes = content.written.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.0.lock().written.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.0.0.lock();
        if content.left == 0 {
            return Ok(());
        }
        content.left -= 1;
        if content.left == 0 {
            content.at_failure = content.written.clone();
        } else {
            content.synced = content.written.clone();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.0.lock();
        let (start, end) = (offset as usize, offset as usize + data.len());
        if content.written.len() < end {
            content.written.resize(end, 0);
        }
        content.written[start..end].copy_from_slice(data);
        Ok(())
    }
}

impl Disk {
    pub fn start(&self, left: u32) {
        self.0.lock().left = left;
    }

    pub fn failed(&self) -> bool {
        self.0.lock().left == 0
    }

    /// What is synced, plus each other sector by chance.
    pub fn cut_power(&self, random: &mut StdRng) {
        let mut content = self.0.lock();
        let kept = if random.random_bool(0.3) {
            0.0
        } else {
            random.random_range(0.0..1.0)
        };
        let written = if content.left == 0 {
            std::mem::take(&mut content.at_failure)
        } else {
            content.written.clone()
        };
        let mut after = content.synced.clone();
        // How long the file is may be known, or not yet.
        if random.random_bool(0.5) {
            after.resize(written.len(), 0);
        }
        for (number, sector) in written.chunks(SECTOR).enumerate() {
            let start = number * SECTOR;
            if let Some(place) = after.get_mut(start..start + sector.len())
                && random.random_bool(kept)
            {
                place.copy_from_slice(sector);
            }
        }
        content.synced = after.clone();
        content.written = after;
    }
}

fn change(tree: &mut Tree, random: &mut StdRng, index: u64) -> Batch {
    let key = |random: &mut StdRng| format!("/key/{:03}", random.random_range(0..60));
    let puts: Vec<_> = (0..random.random_range(1..20))
        .map(|_| contract::entry(&key(random), index, random.random_range(0..5000)))
        .collect();
    // The newest of each key, as a batch holds them.
    let mut newest = Tree::default();
    for put in puts {
        newest.insert(put);
    }
    let gone = key(random);
    let gone: Vec<&str> = if newest.get(gone.as_bytes()).is_none() {
        vec![&gone]
    } else {
        vec![]
    };
    contract::batch(tree, newest.iter().cloned().collect(), &gone, index)
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SIM_SEED").unwrap_or_else(rand::random);
    let cuts = number("POWER_CUTS").unwrap_or(CUTS as u64);
    println!("SIM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image.redb");
    // Only its presence counts.
    std::fs::write(&path, b"").expect("write");
    let disk = Arc::new(Disk::default());
    let (mut held, mut index) = (None, 1u64);
    let mut tree = Tree::default();
    for round in 0..cuts {
        disk.start(u32::MAX);
        let mut image = EngineImage::on(&path, disk.clone());
        if round > 0 {
            let loaded = image
                .load()
                .unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            let found = loaded.as_ref().map(|(meta, _)| meta.base.index);
            assert!(
                found == held || found == Some(index),
                "round {round}: {found:?} instead of {held:?} or {index}"
            );
            held = found;
            if let Some((meta, loaded)) = loaded {
                if found == Some(index) {
                    assert!(tree.iter().eq(loaded.iter()), "round {round}");
                }
                assert_eq!(crate::image::sum(&loaded), meta.digest);
                tree = loaded;
            } else {
                tree = Tree::default();
            }
        }
        disk.start(random.random_range(1..25));
        loop {
            index += 1;
            let batch = change(&mut tree, &mut random, index);
            image.write(&batch).expect("the disk itself never fails");
            if disk.failed() {
                break;
            }
            held = Some(index);
        }
        drop(image);
        disk.cut_power(&mut random);
    }
}
