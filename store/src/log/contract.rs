//! What every log back end must do. `make` gives an opener on a fresh disk; each call of the opener is a restart.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::{Append, Base, Identity, Log, LogError};

pub(super) const IDENTITY: Identity = Identity {
    cluster: 7,
    member: 11,
};

pub(super) fn base(index: u64, term: u64) -> Base {
    let conf_state = ConfState {
        voters: vec![11],
        ..ConfState::default()
    };
    Base {
        index,
        term,
        conf_state,
    }
}

/// Runs the whole suite.
pub(super) fn check<L: Log, O: FnMut() -> L>(make: impl Fn() -> O) {
    a_new_log_is_empty(make());
    what_was_appended_is_there_after_a_restart(make());
    a_conflicting_append_truncates_first(make());
    a_cut_log_keeps_the_rest(make());
    a_snapshot_replaces_everything_at_once(make());
    holes_are_refused(make());
    reads_are_bounded(make());
}

fn entry(index: u64, term: u64, size: usize) -> Entry {
    let data = Bytes::from(vec![index as u8; size]);
    Entry {
        index,
        term,
        data,
        context: Bytes::from_static(b"context"),
        ..Entry::default()
    }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote: 11,
        commit,
        ..HardState::default()
    }
}

fn append(log: &mut impl Log, number: u64, indexes: std::ops::RangeInclusive<u64>, term: u64) {
    let entries = indexes.map(|index| entry(index, term, 100)).collect();
    let batch = Append {
        number,
        entries,
        hard_state: Some(hard_state(term, 0)),
        base: None,
    };
    assert_eq!(log.append(batch).expect("append").number(), number);
}

#[track_caller]
fn holds(log: &impl Log, expected_base: u64, terms: &[u64]) {
    let state = log.state();
    assert_eq!(state.identity, IDENTITY);
    assert_eq!(
        (state.base.index, state.last_index),
        (expected_base, expected_base + terms.len() as u64)
    );
    if terms.is_empty() {
        return;
    }
    let found = log
        .entries(expected_base + 1, state.last_index + 1, u64::MAX)
        .expect("read");
    assert_eq!(found.iter().map(|entry| entry.term).collect::<Vec<_>>(), terms);
    for (n, found) in found.iter().enumerate() {
        assert_eq!(*found, entry(expected_base + 1 + n as u64, found.term, 100));
    }
}

fn a_new_log_is_empty<L: Log>(mut open: impl FnMut() -> L) {
    holds(&open(), 0, &[]);
    let log = open();
    holds(&log, 0, &[]);
    assert_eq!(log.state().base, base(0, 0));
    assert_eq!(log.state().hard_state, HardState::default());
}

fn what_was_appended_is_there_after_a_restart<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=3, 1);
    append(&mut log, 2, 4..=4, 2);
    let only_state = Append {
        number: 3,
        hard_state: Some(hard_state(3, 4)),
        ..Append::default()
    };
    log.append(only_state).expect("append");
    assert_eq!(log.fsyncs(), 3);
    drop(log);
    let log = open();
    holds(&log, 0, &[1, 1, 1, 2]);
    assert_eq!(log.state().hard_state, hard_state(3, 4));
}

fn a_conflicting_append_truncates_first<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=6, 1);
    append(&mut log, 2, 3..=4, 2);
    holds(&log, 0, &[1, 1, 2, 2]);
    drop(log);
    holds(&open(), 0, &[1, 1, 2, 2]);
}

fn a_cut_log_keeps_the_rest<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=6, 1);
    log.cut(base(4, 1)).expect("cut");
    log.cut(base(2, 1)).expect("a second, older cut does nothing");
    holds(&log, 4, &[1, 1]);
    assert!(matches!(
        log.entries(4, 6, u64::MAX),
        Err(LogError::Missing { .. })
    ));
    append(&mut log, 2, 7..=7, 2);
    drop(log);
    let mut log = open();
    holds(&log, 4, &[1, 1, 2]);
    log.cut(base(7, 2)).expect("cut all");
    holds(&log, 7, &[]);
    append(&mut log, 3, 8..=8, 2);
    drop(log);
    holds(&open(), 7, &[2]);
}

fn a_snapshot_replaces_everything_at_once<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=6, 1);
    let entries = vec![entry(21, 3, 100)];
    let batch = Append {
        number: 2,
        base: Some(base(20, 3)),
        entries,
        hard_state: Some(hard_state(3, 20)),
    };
    log.append(batch).expect("append");
    holds(&log, 20, &[3]);
    drop(log);
    let log = open();
    holds(&log, 20, &[3]);
    assert_eq!(log.state().hard_state, hard_state(3, 20));
    assert_eq!(log.state().base, base(20, 3));
}

fn holes_are_refused<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=3, 1);
    for indexes in [vec![5], vec![0], vec![4, 6]] {
        let entries = indexes.iter().map(|index| entry(*index, 1, 1)).collect();
        let refused = log.append(Append {
            number: 2,
            entries,
            ..Append::default()
        });
        assert!(matches!(refused, Err(LogError::Hole { .. })), "{indexes:?}");
    }
    holds(&log, 0, &[1, 1, 1]);
}

fn reads_are_bounded<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    append(&mut log, 1, 1..=10, 1);
    let count = |max| log.entries(2, 10, max).expect("read").len();
    assert_eq!(count(0), 1, "one entry is always returned");
    assert!((1..8).contains(&count(350)));
    assert_eq!(count(u64::MAX), 8);
    assert!(matches!(log.entries(1, 12, 0), Err(LogError::Missing { .. })));
}
