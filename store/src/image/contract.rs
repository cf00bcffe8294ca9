//! What every image back end must do. `make` gives an opener on a fresh disk; each call of the opener is a restart.

use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Image, ImageError, Meta, digest};
use crate::log::{Base, Identity};
use crate::model::{Entry, Memo, Revision};
use crate::tree::Tree;

/// Runs the whole suite.
pub(super) fn check<I: Image, O: FnMut() -> I>(make: impl Fn() -> O) {
    no_image_is_no_error(make());
    batches_add_up(make());
    a_head_that_does_not_match_the_keys_is_refused(make());
    an_image_set_aside_is_gone(make());
}

pub(super) fn entry(name: &str, revision: u64, size: usize) -> Arc<Entry> {
    Arc::new(Entry {
        key: Bytes::from(name.to_owned()),
        value: Bytes::from(vec![revision as u8; size]),
        create_revision: Revision(2),
        mod_revision: Revision(revision),
        memo: Memo::default(),
    })
}

/// The batch that turns `tree` into itself plus `puts` minus `deletes`.
pub(super) fn batch(tree: &mut Tree, puts: Vec<Arc<Entry>>, deletes: &[&str], index: u64) -> Batch {
    for entry in &puts {
        tree.insert(entry.clone());
    }
    for key in deletes {
        tree.remove(key.as_bytes());
    }
    let meta = Meta {
        identity: Identity {
            cluster: 1,
            member: 2,
        },
        base: Base {
            index,
            term: 3,
            ..Base::default()
        },
        revision: Revision(index),
        keys: tree.len() as u64,
        digest: tree
            .iter()
            .fold(0u64, |sum, entry| sum.wrapping_add(digest(entry))),
        bytes: tree.iter().map(|entry| super::size(entry)).sum(),
        installed: false,
    };
    Batch {
        replace: false,
        puts,
        deletes: deletes.iter().map(|key| Bytes::from((*key).to_owned())).collect(),
        meta,
        state: tree.clone(),
    }
}

fn no_image_is_no_error<I: Image>(mut open: impl FnMut() -> I) {
    assert!(open().load().expect("load").is_none());
}

fn batches_add_up<I: Image>(mut open: impl FnMut() -> I) {
    let mut tree = Tree::default();
    let steps = [
        (
            vec![entry("a", 2, 10), entry("b", 3, 100_000), entry("c", 4, 0)],
            vec![],
            10,
        ),
        (vec![entry("a", 11, 20)], vec!["b"], 20),
        (
            vec![entry("b", 21, 5), entry("d", 22, 5)],
            vec!["a", "c", "never"],
            30,
        ),
        (vec![], vec![], 40),
    ];
    for (puts, deletes, index) in steps {
        let batch = batch(&mut tree, puts, &deletes, index);
        open().write(&batch).expect("write");
        let mut image = open();
        let (meta, read) = image.load().expect("load").expect("an image");
        assert_eq!(meta, batch.meta);
        assert_eq!(read.iter().collect::<Vec<_>>(), tree.iter().collect::<Vec<_>>());
        assert!(image.disk_bytes() > 0 || tree.is_empty());
    }
}

fn a_head_that_does_not_match_the_keys_is_refused<I: Image>(mut open: impl FnMut() -> I) {
    let mut tree = Tree::default();
    open()
        .write(&batch(
            &mut tree,
            vec![entry("a", 2, 10), entry("b", 3, 10)],
            &[],
            10,
        ))
        .expect("write");
    let mut revision = 10;
    let mut refused = |change: fn(&mut Batch)| {
        revision += 1;
        let mut wrong = batch(&mut tree.clone(), vec![entry("a", revision, 10)], &[], 20);
        change(&mut wrong);
        open().write(&wrong).expect("write");
        matches!(open().load(), Err(ImageError::Damaged(_)))
    };
    assert!(refused(|batch| batch.meta.keys += 1), "a key is missing");
    assert!(refused(|batch| batch.puts.clear()), "a key is stale");
    assert!(
        refused(|batch| batch.meta.revision = Revision(5)),
        "a key is from the future"
    );
}

fn an_image_set_aside_is_gone<I: Image>(mut open: impl FnMut() -> I) {
    open()
        .write(&batch(&mut Tree::default(), vec![entry("a", 2, 10)], &[], 10))
        .expect("write");
    open().set_aside().expect("set aside");
    assert!(open().load().expect("load").is_none());
    open()
        .write(&batch(&mut Tree::default(), vec![], &[], 10))
        .expect("write");
    assert!(open().load().expect("load").is_some());
}
