//! A file system that fills up: what would grow is refused before anything can fail, what does not grow goes on, and once
//! there is room again everything does. Needs the right to mount; without it the test says so and does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use corten_store::{Config, ImageInterval, Op, Store, StoreError, Txn, TxnOutcome, prefix_range};

const SIZE: &str = "size=12m";

/// A small file system in memory, for as long as this lives.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Small> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(at);
        mount
            .output()
            .is_ok_and(|output| output.status.success())
            .then(|| Small(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn put(key: String, size: usize) -> Txn {
    let value = Bytes::from(vec![b'x'; size]);
    let key = Bytes::from(key);
    Txn::new(vec![], vec![Op::Put { key, value }])
}

fn config(dir: &Path) -> Config {
    Config {
        image: ImageInterval {
            entries: 200,
            bytes: 2 << 20,
        },
        vital: &["/leases/"],
        ..Config::new(dir)
    }
}

/// Writes large values until one is refused; how many were acknowledged.
async fn fill(store: &Store, from: usize) -> usize {
    let mut n = from;
    while n < 10_000 {
        match store.txn(put(format!("/big/{n:05}"), 64 << 10)).await {
            Ok(TxnOutcome::Committed { .. }) => n += 1,
            Err(StoreError::LogFull { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(StoreError::DiskFull { free, reserve }) => {
                assert!(free < reserve);
                return n;
            }
            other => panic!("{n}: {other:?}"),
        }
    }
    panic!("the file system is never full");
}

/// Waits as often as the image has to catch up.
async fn write(store: &Store, txn: Txn) {
    while let Err(error) = store.txn(txn.clone()).await {
        assert!(matches!(error, StoreError::LogFull { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn delete(store: &Store, key: String) {
    let key = Bytes::from(key);
    let txn = Txn::new(vec![], vec![Op::Delete { key }]);
    write(store, txn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_grows_and_clears_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_small) = Small::mount(folder.path()) else {
        eprintln!("skipped: mounting is not allowed here");
        return;
    };
    let dir = folder.path().join("data");
    let store = Store::open(config(&dir)).await.expect("open");
    let begun = std::time::Instant::now();
    let phase = |what: &str| println!("{what}: {:?}", begun.elapsed());
    let filled = fill(&store, 0).await;
    phase("filled");
    assert!(filled > 20, "{filled} values of 64 KiB were taken");

    // Whatever does not grow goes on, for long.
    for n in 0..30 {
        write(&store, put("/leases/node".into(), 300 + n)).await;
        write(&store, put("/big/00000".into(), 64 << 10)).await;
    }
    phase("rewritten");
    // The log may have become smaller in the meantime.
    let filled = fill(&store, filled).await;

    // A restart in the middle loses nothing.
    store.close().await;
    drop(store);
    let store = Store::open(config(&dir)).await.expect("open");
    assert_eq!(store.snapshot().range(prefix_range(b"/big/")).count(), filled);
    let again = fill(&store, filled).await;
    assert!(again < filled + 40, "{filled}, {again}");
    let filled = again;

    phase("restarted");
    // Deletions make room, and nobody has to say so.
    for n in filled / 4..filled {
        delete(&store, format!("/big/{n:05}")).await;
    }
    phase("deleted");
    let room = async {
        // What is deleted leaves the log and the image without another write.
        while store.txn(put("/small".into(), 10)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), room)
        .await
        .expect("there is room again");
    phase("cleared");
    assert_eq!(store.snapshot().range(prefix_range(b"/big/")).count(), filled / 4);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_others_fill_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_small) = Small::mount(folder.path()) else {
        eprintln!("skipped: mounting is not allowed here");
        return;
    };
    let dir = folder.path().join("data");
    let store = Store::open(config(&dir)).await.expect("open");
    for n in 0..50 {
        store
            .txn(put(format!("/a/{n:03}"), 1000))
            .await
            .expect("there is room");
    }
    // All of it at once, the reserve too: only the placeholder is left.
    let hog = folder.path().join("hog");
    let mut hog_file = std::fs::File::create(&hog).expect("create");
    let chunk = vec![1u8; 1 << 20];
    while std::io::Write::write_all(&mut hog_file, &chunk).is_ok() {}
    let mut acknowledged = Vec::new();
    for n in 0..20_000 {
        let key = format!("/leases/{n:05}");
        let write = store.txn(put(key.clone(), 1000));
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(Ok(_)) => acknowledged.push(key),
            // The log waits for room, or for the image, which waits for room.
            Ok(Err(StoreError::LogFull { .. })) | Err(_) => break,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    assert!(
        acknowledged.len() > 100,
        "the placeholder made room for {}",
        acknowledged.len()
    );
    std::fs::remove_file(&hog).expect("remove");
    drop(hog_file);
    let write = write(&store, put("/leases/after".into(), 1000));
    tokio::time::timeout(Duration::from_secs(10), write)
        .await
        .expect("there is room again");
    store.close().await;
    drop(store);
    let store = Store::open(config(&dir)).await.expect("open");
    let found = store.snapshot();
    for key in acknowledged {
        assert!(found.get(key.as_bytes()).is_some(), "{key} was acknowledged");
    }
    assert_eq!(found.range(prefix_range(b"/a/")).count(), 50);
    store.close().await;
}
