//! A member whose files are damaged: found when it starts, repaired from the others, and nothing that was acknowledged
//! is lost. Alone it refuses to start, with an error that names what is damaged.

mod world;

use std::path::{Path, PathBuf};

use corten_store::{Birth, Config, ImageInterval, Store};
use world::{World, eventually, keys, write};

/// The newest log file, up to its last byte that is not zero.
fn log_file(dir: &Path) -> (PathBuf, usize) {
    let files = std::fs::read_dir(dir.join("log")).expect("list");
    let path = files
        .map(|file| file.expect("file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
        .max()
        .expect("a log file");
    let bytes = std::fs::read(&path).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty");
    (path, end)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("read");
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).expect("write");
}

/// One way to damage the files of a stopped member.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 6] = [
    ("the newest record", |dir| {
        let (path, end) = log_file(dir);
        flip(&path, end - 60);
    }),
    ("a record in the middle of the log", |dir| {
        let (path, end) = log_file(dir);
        flip(&path, end * 3 / 4);
    }),
    ("the head of the log file", |dir| {
        let (path, _) = log_file(dir);
        flip(&path, 3);
    }),
    ("the image", |dir| {
        for file in std::fs::read_dir(dir.join("image")).expect("an image") {
            flip(&file.expect("a file").path(), 200);
        }
    }),
    ("the watermark", |dir| flip(&dir.join("log/watermark"), 20)),
    ("all of the image", |dir| {
        std::fs::remove_dir_all(dir.join("image")).expect("remove")
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_repair_what_is_damaged() {
    let mut world = World::founded().await;
    world.image = ImageInterval {
        entries: 20,
        bytes: 1 << 20,
    };
    world.grow("2").await;
    let third = world.grow("3").await;
    let (_, other) = world
        .stores
        .iter()
        .find(|(id, _)| **id != third)
        .expect("another");
    let other = other.clone();
    for (round, (what, damage)) in DAMAGES.into_iter().enumerate() {
        for n in 0..70 {
            write(&other, &format!("/{round}/{n:03}")).await;
        }
        world.caught_up(third).await;
        world.close(third).await;
        damage(&world.dir.path().join("3"));
        assert_eq!(world.open("3", Birth::Found).await, third, "{what}");
        world.caught_up(third).await;
        let all = keys(&other).await;
        assert_eq!(keys(&world.stores[&third]).await, all, "{what}");
        // It serves, and once it votes again the cluster goes on without another member.
        let (back, others) = (world.stores[&third].clone(), world.stores.clone());
        write(&back, &format!("/{round}/after")).await;
        let leader = world.leader().await;
        let gone = *others
            .keys()
            .find(|id| **id != third && **id != leader)
            .expect("a third");
        world.net.0.lock().silent.insert(gone);
        write(&back, &format!("/{round}/two")).await;
        world.net.0.lock().silent.clear();
    }
    for store in world.stores.values() {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_what_is_damaged_is_refused() {
    for (what, damage) in DAMAGES {
        let dir = tempfile::tempdir().expect("a folder");
        let config = || Config {
            image: ImageInterval {
                entries: 20,
                bytes: 1 << 20,
            },
            ..Config::new(dir.path())
        };
        let store = Store::open(config()).await.expect("open");
        for n in 0..70 {
            write(&store, &format!("/{n:03}")).await;
        }
        eventually(|| (store.status().image_applied > 20).then_some(())).await;
        store.close().await;
        drop(store);
        damage(dir.path());
        let opened = Store::open(config()).await;
        let harmless = ["the watermark", "the newest record"].contains(&what);
        if let Some(store) = opened.as_ref().ok().filter(|_| harmless) {
            // The log is whole, and says so itself: the newest record may be one of no entry.
            assert_eq!(keys(store).await.len(), 70, "{what}");
            continue;
        }
        let error = opened.err().unwrap_or_else(|| panic!("{what} is refused"));
        println!(
            "{what}: {error}: {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        );
    }
}
