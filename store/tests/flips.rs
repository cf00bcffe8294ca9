//! One byte flipped in every file of a stopped member's folder, at several places. Alone, the member opens with everything
//! or refuses to; with two others it always comes back, and all hold the same. `FLIPS=40` places in each file for the
//! long run.

mod world;

use std::path::{Path, PathBuf};

use corten_store::{Birth, Config, ImageInterval, Store};
use world::{World, eventually, keys, write};

/// Places in each file of the short run.
const FLIPS: usize = 2;
const KEYS: usize = 60;
const INTERVAL: ImageInterval = ImageInterval {
    entries: 20,
    bytes: 1 << 20,
};

fn flips() -> usize {
    let given = std::env::var("FLIPS").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(FLIPS)
}

/// All files that hold anything.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry"))
    {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&path));
        } else if entry.metadata().expect("metadata").len() > 0
            && path.file_name() != Some("placeholder".as_ref())
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Flips a byte among those that were written, at `place` of `places`.
fn flip(path: &Path, place: usize, places: usize) -> usize {
    let mut bytes = std::fs::read(path).expect("read");
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(bytes.len(), |end| end + 1);
    let at = (end - 1) * place / places.saturating_sub(1).max(1);
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("write");
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_flipped_byte_is_repaired_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (good, tried) = (dir.path().join("good"), dir.path().join("tried"));
    let config = |dir: &Path| Config {
        image: INTERVAL,
        ..Config::new(dir)
    };
    let store = Store::open(config(&good)).await.expect("open");
    for n in 0..KEYS {
        write(&store, &format!("/{n:03}")).await;
    }
    eventually(|| (store.status().image_applied > 20).then_some(())).await;
    store.close().await;
    drop(store);
    let (mut refused, mut opened) = (0, 0);
    for file in files(&good) {
        for place in 0..flips() {
            let _ = std::fs::remove_dir_all(&tried);
            let copied = std::process::Command::new("cp")
                .arg("-r")
                .args([&good, &tried])
                .status();
            assert!(copied.is_ok_and(|status| status.success()));
            let name = file.strip_prefix(&good).expect("below it");
            let at = flip(&tried.join(name), place, flips());
            match Store::open(config(&tried)).await {
                Ok(store) => {
                    assert_eq!(keys(&store).await.len(), KEYS, "{} at {at}", name.display());
                    store.close().await;
                    opened += 1;
                }
                Err(error) => {
                    println!("{} at {at}: {error}", name.display());
                    refused += 1;
                }
            }
        }
    }
    println!("{refused} refused, {opened} opened whole");
    assert!(refused > 0 && opened > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_members_one_is_repaired_whatever_byte_is_flipped() {
    let mut world = World::founded().await;
    world.image = INTERVAL;
    world.grow("2").await;
    let third = world.grow("3").await;
    let other = world
        .stores
        .iter()
        .find(|(id, _)| **id != third)
        .expect("another")
        .1
        .clone();
    let dir = world.dir.path().join("3");
    let mut round = 0;
    // Files come and go with every start.
    let kinds = ["raftlog", "segment", "watermark"];
    for kind in kinds {
        for place in 0..flips() {
            for n in 0..25 {
                write(&other, &format!("/{round}/{n:03}")).await;
            }
            world.caught_up(third).await;
            world.close(third).await;
            let mut of_kind = files(&dir);
            of_kind.retain(|path| {
                path.to_string_lossy().ends_with(kind) && !path.to_string_lossy().contains("damaged")
            });
            for path in &of_kind {
                flip(path, place, flips());
            }
            assert_eq!(world.open("3", Birth::Found).await, third, "{kind} {place}");
            world.caught_up(third).await;
            let all = keys(&other).await;
            assert_eq!(keys(&world.stores[&third]).await, all, "{kind} {place}");
            round += 1;
        }
    }
    for store in world.stores.values() {
        store.close().await;
    }
}
