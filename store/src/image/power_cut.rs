//! The image on a disk that loses power: what was not synced is gone, or there in part, sector by sector, and so are the
//! names of files that were made or removed. What is read afterwards is the state of the last batch that was acknowledged,
//! or of the one under way, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::segments::SegmentImage;
use super::segments::folder::{self, Segment};
use super::{Batch, Image, contract};
use crate::tree::Tree;

const SECTOR: usize = 512;
/// Power cuts of the short run; `POWER_CUTS=200` for the long one.
const CUTS: usize = 15;
/// So that a few batches fill a file.
pub(crate) const SEGMENT_BYTES: u64 = 20_000;

/// A folder in memory, and what of it would survive.
#[derive(Debug, Default)]
pub(crate) struct Disk(Mutex<Content>);

/// A file: what was written, and what of it is synced.
#[derive(Clone, Debug, Default)]
struct Held {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<u64, Held>,
    /// As of the last sync of names.
    named: BTreeMap<u64, Held>,
    /// Syncs until the power fails; 0: it has.
    left: u32,
    /// What there was when the power failed.
    at_failure: BTreeMap<u64, Held>,
}

impl Content {
    /// One more sync; whether it has an effect.
    fn sync(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if self.left == 0 {
            self.at_failure = self.files.clone();
        }
        self.left > 0
    }
}

/// One file of it.
struct Open {
    disk: Arc<Disk>,
    number: u64,
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> io::Result<T> {
        let mut content = self.disk.0.lock();
        let held = content.files.get_mut(&self.number);
        Ok(act(held.ok_or(io::ErrorKind::NotFound)?))
    }
}

impl Segment for Open {
    fn read(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.with(|held| bytes.clone_from(&held.written))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        self.with(|held| {
            if held.written.len() < end {
                held.written.resize(end, 0);
            }
            held.written[start..end].copy_from_slice(bytes);
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|held| held.written.resize(length as usize, 0))
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.0.lock().sync() {
            self.with(|held| held.synced = held.written.clone())?;
            let mut content = self.disk.0.lock();
            let held = content.files[&self.number].clone();
            if let Some(named) = content.named.get_mut(&self.number) {
                *named = held;
            }
        }
        Ok(())
    }
}

impl folder::Disk for Arc<Disk> {
    fn list(&self) -> io::Result<Vec<(u64, u64)>> {
        let content = self.0.lock();
        let sizes = content.files.iter();
        Ok(sizes
            .map(|(number, held)| (*number, held.written.len() as u64))
            .collect())
    }

    fn create(&self, number: u64) -> io::Result<Box<dyn Segment>> {
        let mut content = self.0.lock();
        // What was there is emptied, and that may be lost like any write.
        let held = content.files.entry(number).or_default();
        held.written.clear();
        drop(content);
        folder::Disk::open(self, number)
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn Segment>> {
        let there = self.0.lock().files.contains_key(&number);
        let disk = self.clone();
        there
            .then(|| Box::new(Open { disk, number }) as Box<dyn Segment>)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.0.lock().files.remove(&number);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        if content.sync() {
            content.named = content.files.clone();
        }
        Ok(())
    }

    fn forget_cached(&self, _: u64) {}

    fn set_aside(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        content.files.clear();
        content.named.clear();
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

    /// What is synced, plus each other sector and each other name by chance.
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
            content.files.clone()
        };
        let mut after = BTreeMap::new();
        for (number, held) in &written {
            if content.named.contains_key(number) || random.random_bool(0.5) {
                after.insert(*number, survives(held, kept, random));
            }
        }
        for (number, held) in &content.named {
            if !written.contains_key(number) && random.random_bool(0.5) {
                after.insert(*number, held.synced.clone());
            }
        }
        let held = |content: Vec<u8>| Held {
            written: content.clone(),
            synced: content,
        };
        let after: BTreeMap<u64, Held> = after.into_iter().map(|(n, content)| (n, held(content))).collect();
        (content.files, content.named) = (after.clone(), after);
    }
}

/// What a file holds after a power cut.
fn survives(held: &Held, kept: f64, random: &mut StdRng) -> Vec<u8> {
    let mut after = held.synced.clone();
    // How long the file is may be known, or not yet.
    if random.random_bool(0.5) {
        after.resize(held.written.len(), 0);
    }
    for (number, sector) in held.written.chunks(SECTOR).enumerate() {
        let start = number * SECTOR;
        if let Some(place) = after.get_mut(start..start + sector.len())
            && random.random_bool(kept)
        {
            place.copy_from_slice(sector);
        }
    }
    after
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
    let disk = Arc::new(Disk::default());
    let (mut held, mut index) = (None, 1u64);
    let mut tree = Tree::default();
    for round in 0..cuts {
        disk.start(u32::MAX);
        let mut image = SegmentImage::on(disk.clone(), SEGMENT_BYTES);
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
