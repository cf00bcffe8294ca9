//! A backup becomes a new cluster: the same objects, revisions far above the old ones, and nobody's watch goes on as if
//! nothing had happened.

use bytes::Bytes;
use corten_store::backup::{DEFAULT_BUMP, RestoreError, chunks, read, restore};
use corten_store::{Config, Op, Store, Txn, TxnOutcome, WatchError, prefix_range};

async fn put(store: &Store, key: &str) -> u64 {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from_static(b"value"));
    match store.txn(Txn::new(vec![], vec![Op::Put { key, value }])).await {
        Ok(TxnOutcome::Committed { revision, .. }) => revision.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_has_the_objects_and_none_of_the_past() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old_dir, new_dir) = (folder.path().join("old"), folder.path().join("new"));
    let old = Store::open(Config::new(&old_dir)).await.expect("open");
    for n in 0..100 {
        put(&old, &format!("/objects/{n:03}")).await;
    }
    put(&old, "/members/old").await;
    let state = old.snapshot();
    let backup: Vec<u8> = chunks(old.identity(), &state, 1).flatten().collect();
    let after = put(&old, "/objects/after-the-backup").await;

    let (about, read_back) = read(&mut &backup[..]).expect("whole");
    let keep = |key: &[u8]| !key.starts_with(b"/members/");
    let refused = restore(&old_dir, (&about, read_back.clone()), DEFAULT_BUMP, keep);
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))), "{refused:?}");
    let restored = restore(&new_dir, (&about, read_back), DEFAULT_BUMP, keep).expect("restored");
    assert_eq!(restored.keys, 100);
    assert_ne!(
        restored.identity.cluster,
        old.identity().cluster,
        "another incarnation"
    );
    old.close().await;

    for round in 0..2 {
        let new = Store::open(Config::new(&new_dir)).await.expect("open");
        assert_eq!(new.identity(), restored.identity);
        let found = new.snapshot();
        assert!(found.revision().0 >= state.revision().0 + DEFAULT_BUMP);
        assert_eq!(found.range(prefix_range(b"/objects/")).count(), 100);
        let entry = found.get(b"/objects/007").expect("restored");
        assert_eq!(Some(entry), state.get(b"/objects/007"), "as it was");
        for past in [state.revision().0, after] {
            let watch = new.watch(prefix_range(b"/objects/"), corten_store::Revision(past));
            assert!(
                matches!(watch.err(), Some(WatchError::Compacted { .. })),
                "{past}"
            );
        }
        assert!(put(&new, &format!("/objects/new-{round}")).await > after + DEFAULT_BUMP / 2);
        put(&new, "/objects/new-0").await;
        let txn = Txn::new(
            vec![],
            vec![Op::Delete {
                key: format!("/objects/new-{round}").into(),
            }],
        );
        new.txn(txn).await.expect("written");
        new.close().await;
    }
}
