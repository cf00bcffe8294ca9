//! What is at rest is damaged while a member runs, alone: the scrub finds it before anybody needs it, what was damaged is
//! replaced by what is in memory, and the next start finds everything.

mod world;

use std::path::Path;
use std::time::Duration;

use corten_store::{Config, ImageInterval, Pace, Store};
use world::{eventually, keys, write};

const KEYS: usize = 100;

fn config(dir: &Path) -> Config {
    Config {
        image: ImageInterval {
            entries: 20,
            bytes: 1 << 20,
        },
        scrub: Pace {
            every: Duration::from_millis(50),
            bytes_per_second: 16 << 20,
        },
        ..Config::new(dir)
    }
}

/// Damages every place in a file where `marker` stands and that `pick` picks by its number among them; how many.
fn damage(path: &Path, marker: &[u8], pick: impl Fn(usize) -> bool) -> usize {
    let bytes = std::fs::read(path).expect("read");
    let found: Vec<usize> = (0..bytes.len() - marker.len())
        .filter(|at| bytes[*at..].starts_with(marker))
        .collect();
    let picked: Vec<usize> = (0..found.len()).filter(|n| pick(*n)).map(|n| found[n]).collect();
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).expect("open");
    for at in &picked {
        file.write_all_at(&[0xff], *at as u64).expect("write");
    }
    picked.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_at_rest_is_found_and_replaced_from_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(config(dir.path())).await.expect("open");
    for n in 0..KEYS {
        write(&store, &format!("/marked/{n:03}")).await;
    }
    eventually(|| (store.status().image_applied > 60).then_some(())).await;
    eventually(|| (store.status().scrubs > 1).then_some(())).await;
    assert_eq!(store.status().damages, 0, "nothing is damaged yet");
    assert!(store.status().scrubbed_bytes > 1000);

    // The log's newest record: what it held goes into the image, and the log is cut.
    let (log, applied) = (
        dir.path().join("log/0000000000000001.raftlog"),
        store.status().applied,
    );
    let last = format!("/marked/{:03}", KEYS - 1);
    assert!(damage(&log, last.as_bytes(), |_| true) > 0);
    eventually(|| (store.status().damages > 0).then_some(())).await;
    write(&store, "/marked/after").await;
    eventually(|| (store.status().image_applied >= applied).then_some(())).await;

    // The image: it is written anew.
    let image = dir.path().join("image");
    let before = store.status().damages;
    eventually(|| {
        // It may be about to be written anyway, in other places.
        for file in std::fs::read_dir(&image).expect("an image") {
            let path = file.expect("a file").path();
            // It may have been replaced already.
            if path.exists() {
                damage(&path, b"/marked/0", |n| n % 7 == 0);
            }
        }
        (store.status().damages > before).then_some(())
    })
    .await;

    // Nothing is found any more.
    let (scrubs, damages) = (store.status().scrubs, store.status().damages);
    println!("{damages} damages found");
    eventually(|| (store.status().scrubs > scrubs + 3).then_some(())).await;
    assert!(
        store.status().damages <= damages + 1,
        "one may have been found while it was replaced"
    );
    let damages = store.status().damages;
    eventually(|| (store.status().scrubs > scrubs + 6).then_some(())).await;
    assert_eq!(store.status().damages, damages);
    store.close().await;
    drop(store);
    let store = Store::open(config(dir.path()))
        .await
        .expect("everything is whole");
    assert_eq!(keys(&store).await.len(), KEYS + 1);
    store.close().await;
}
