//! What a caller of the store sees, on disk and in memory.

use bytes::Bytes;
use corten_store::{
    Config, ImageInterval, Op, OpenError, Precondition, Revision, SnapshotError, Store, StoreError, Txn,
    TxnOutcome, WatchError, WatchItem, prefix_range,
};
use futures::StreamExt;

fn put(key: &str, value: &str) -> Txn {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    Txn::new(vec![], vec![Op::Put { key, value }])
}

async fn commit(store: &Store, txn: Txn) -> Revision {
    match store.txn(txn).await.expect("txn") {
        TxnOutcome::Committed { revision, .. } => revision,
        TxnOutcome::Conflict { key, .. } => panic!("conflict on {key:?}"),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// All `key=value`, in order.
fn content(store: &Store) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let entries = store.snapshot().range(prefix_range(b""));
    entries
        .map(|entry| format!("{}={}", text(&entry.key), text(&entry.value)))
        .collect()
}

#[tokio::test]
async fn a_store_starts_at_revision_one_and_leads_at_once() {
    for config in [Config::in_memory(), Config::new(folder().path())] {
        let store = Store::open(config).await.expect("open");
        assert_eq!(store.read_barrier().await.expect("barrier"), Revision::INITIAL);
        assert_eq!(commit(&store, put("a", "1")).await, Revision(2));
        let status = store.status();
        assert_eq!((status.keys, status.leader), (1, Some(status.member)));
        assert!(status.fsyncs > 0 && status.transactions == 1);
        store.close().await;
        assert!(matches!(store.txn(put("a", "2")).await, Err(StoreError::Closed)));
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart_with_and_without_an_image() {
    let dir = folder();
    let config = || Config {
        image: ImageInterval {
            entries: 50,
            bytes: u64::MAX,
        },
        ..Config::new(dir.path())
    };
    let mut expected = Vec::new();
    let mut last = Revision(0);
    for round in 0..6 {
        let store = Store::open(config()).await.expect("open");
        assert_eq!(content(&store), expected);
        assert_eq!(
            store.snapshot().revision(),
            if round == 0 { Revision::INITIAL } else { last }
        );
        for n in 0..40 {
            last = commit(
                &store,
                put(&format!("k{:03}", (n * 17 + round) % 60), &format!("{round}.{n}")),
            )
            .await;
        }
        let delete = Op::Delete {
            key: Bytes::from(format!("k{:03}", round * 3)),
        };
        last = last.max(commit(&store, Txn::new(vec![], vec![delete])).await);
        expected = content(&store);
        store.close().await;
    }
    let store = Store::open(config()).await.expect("open");
    assert!(
        store.status().image_applied > 100,
        "the image has moved on: {:?}",
        store.status()
    );
    // The image trails by an interval, so watchers resume across the restart.
    assert!(store.status().history_events >= 50, "{:?}", store.status());
    let oldest = store.status().oldest;
    let mut watch = store.watch(prefix_range(b""), oldest).expect("watch");
    for revision in oldest.0 + 1..=last.0 {
        let Some(Ok(WatchItem::Event(event))) = watch.next().await else {
            panic!("an event")
        };
        assert_eq!(event.revision.0, revision);
    }
    let gone = store.watch(prefix_range(b""), Revision(oldest.0 - 1)).err();
    assert_eq!(gone, Some(WatchError::Compacted { oldest }));
    store.close().await;
}

#[tokio::test]
async fn preconditions_decide_between_racing_writers() {
    let store = Store::open(Config::in_memory()).await.expect("open");
    let create = |value: &str| {
        let mut txn = put("/leader", value);
        txn.preconditions
            .push(Precondition::Absent(Bytes::from_static(b"/leader")));
        store.txn(txn)
    };
    let (one, two, three) = tokio::join!(create("1"), create("2"), create("3"));
    let outcomes = [one, two, three].map(|outcome| outcome.expect("txn"));
    let won = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, TxnOutcome::Committed { .. }))
        .count();
    assert_eq!(won, 1);
    let holder = store.snapshot().get(b"/leader").expect("created");
    for outcome in outcomes {
        if let TxnOutcome::Conflict { key, current } = outcome {
            assert_eq!((&key[..], current), (&b"/leader"[..], Some(holder.clone())));
        }
    }
}

#[tokio::test]
async fn compaction_is_remembered_by_readers_and_watchers() {
    let store = Store::open(Config::in_memory()).await.expect("open");
    for n in 0..10 {
        commit(&store, put("a", &n.to_string())).await;
    }
    assert_eq!(
        &store
            .snapshot_at(Revision(5))
            .expect("kept")
            .get(b"a")
            .expect("a")
            .value[..],
        b"3"
    );
    store.compact(Revision(8)).await.expect("compact");
    let oldest = Revision(8);
    assert_eq!(
        store.snapshot_at(Revision(7)).err(),
        Some(SnapshotError::Compacted { oldest })
    );
    assert_eq!(
        &store
            .snapshot_at(oldest)
            .expect("kept")
            .get(b"a")
            .expect("a")
            .value[..],
        b"6"
    );
    assert_eq!(
        store.watch(prefix_range(b""), Revision(7)).err(),
        Some(WatchError::Compacted { oldest })
    );
    assert!(matches!(
        store.compact(Revision(99)).await,
        Err(StoreError::Future { .. })
    ));
}

#[tokio::test]
async fn nonsense_is_refused_before_it_is_proposed() {
    let store = Store::open(Config::in_memory()).await.expect("open");
    let refused = |txn| async { store.txn(txn).await.expect_err("refused") };
    assert!(matches!(refused(Txn::default()).await, StoreError::Invalid(_)));
    assert!(matches!(refused(put("", "v")).await, StoreError::Invalid(_)));
    assert!(matches!(
        refused(put(&"k".repeat(5000), "v")).await,
        StoreError::Invalid(_)
    ));
    assert!(matches!(
        refused(put("k", &"v".repeat(5 << 20))).await,
        StoreError::TooLarge { .. }
    ));
    assert_eq!(store.status().transactions, 0);
    assert_eq!(commit(&store, put("k", &"v".repeat(3 << 20))).await, Revision(2));
}

#[tokio::test]
async fn one_folder_has_one_store() {
    let dir = folder();
    let store = Store::open(Config::new(dir.path())).await.expect("open");
    assert!(matches!(
        Store::open(Config::new(dir.path())).await,
        Err(OpenError::InUse { .. })
    ));
    store.close().await;
    Store::open(Config::new(dir.path()))
        .await
        .expect("closed, so it opens")
        .close()
        .await;
}

#[tokio::test]
async fn a_damaged_image_is_refused_or_rebuilt_but_never_used() {
    let dir = folder();
    let config = |entries| Config {
        image: ImageInterval {
            entries,
            bytes: u64::MAX,
        },
        ..Config::new(dir.path())
    };
    let image = dir.path().join("image/0000000001.segment");
    let store = Store::open(config(30)).await.expect("open");
    for n in 0..200 {
        commit(&store, put(&format!("k{n}"), "v")).await;
    }
    store.close().await;
    let mut bytes = std::fs::read(&image).expect("an image");
    // Old pages may hold it too; damage every copy.
    let places: Vec<usize> = (0..bytes.len() - 3)
        .filter(|at| bytes[*at..].starts_with(b"k10"))
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    std::fs::write(&image, bytes).expect("damage");
    // What is whole of it may be an older image, behind which the log has been cut.
    assert!(matches!(
        Store::open(config(30)).await,
        Err(OpenError::Image { .. } | OpenError::Mismatch(_))
    ));
    std::fs::remove_file(&image).expect("remove");
    assert!(matches!(
        Store::open(config(30)).await,
        Err(OpenError::Mismatch(_))
    ));
}
