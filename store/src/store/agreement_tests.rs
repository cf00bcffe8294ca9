//! Three cores on a network without faults, one of which starts with another state than the others: found by what the
//! members write into the log, and put aside by the member that is alone with it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::ConfState;
use tokio::sync::oneshot;

use super::Config;
use super::agreement::EVERY;
use super::core::{Action, Core};
use super::open::assemble;
use super::queue::Request;
use super::recovery::joiner;
use super::status::Counters;
use crate::command;
use crate::image::memory::{Disk as ImageDisk, MemoryImage};
use crate::image::{Batch, Image, Meta};
use crate::log::memory::{Disk, MemoryLog};
use crate::log::{Base, Identity, Log};
use crate::model::{Op, Txn};
use crate::mvcc::Mvcc;

struct Member {
    core: Core,
    log: MemoryLog,
    halted: bool,
}

fn member(id: u64, ids: &[u64], value: &'static str) -> Member {
    let identity = Identity {
        cluster: 1,
        member: id,
    };
    let mut mvcc = Mvcc::default();
    mvcc.apply(Txn::new(vec![], vec![put("/a", value)]));
    let state = mvcc.snapshot();
    let conf_state = ConfState {
        voters: ids.to_vec(),
        ..ConfState::default()
    };
    let base = Base {
        index: 10,
        term: 1,
        conf_state,
    };
    let mut image = MemoryImage::open(&ImageDisk::default());
    let meta = Meta::of_installed(identity, base, &state);
    let puts = state.tree.iter().cloned().collect();
    image
        .write(&Batch {
            replace: true,
            puts,
            deletes: Vec::new(),
            meta,
            state: state.tree.clone(),
        })
        .expect("write");
    let (identity, base) = joiner(identity);
    let mut log = MemoryLog::open(&Disk::default(), identity, base);
    let disk = (&mut log, &mut image, Path::new("memory"));
    let assembled = assemble(
        &Config::in_memory(),
        disk,
        (id, id),
        Arc::new(Counters::default()),
    );
    let mut core = assembled.expect("fits").core;
    core.start().expect("start");
    Member {
        core,
        log,
        halted: false,
    }
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
    }
}

/// Does what all cores ask for until nothing is left to do.
fn settle(members: &mut BTreeMap<u64, Member>) {
    let mut messages: VecDeque<(u64, Bytes)> = VecDeque::new();
    loop {
        for member in members.values_mut() {
            while let Some(action) = member.core.next_action().expect("goes on") {
                match action {
                    Action::Append(batch) => {
                        let durable = member.log.append(batch).expect("append");
                        member.core.persisted(durable).expect("goes on");
                    }
                    Action::Send { to, message } => messages.push_back((to, message)),
                    Action::Halt { .. } => member.halted = true,
                    _ => (),
                }
            }
        }
        let Some((to, message)) = messages.pop_front() else {
            return;
        };
        let member = members.get_mut(&to).expect("a member");
        if !member.halted {
            serve(member, vec![Request::Message(message)], false);
        }
    }
}

fn serve(member: &mut Member, batch: Vec<Request>, ticked: bool) {
    let batch = batch.into_iter();
    member.core.serve(Duration::ZERO, batch, ticked).expect("goes on");
}

/// States of members 1.. at the start; who halts, and whether a write is taken afterwards.
#[track_caller]
fn check(values: &[&'static str], halted: &[u64], writes: bool) {
    let ids: Vec<u64> = (1..=values.len() as u64).collect();
    let mut members: BTreeMap<u64, Member> = ids
        .iter()
        .zip(values)
        .map(|(id, value)| (*id, member(*id, &ids, value)))
        .collect();
    // Only one of those that agree campaigns.
    for _ in 0..100 {
        serve(members.get_mut(&1).expect("the first"), Vec::new(), true);
        settle(&mut members);
    }
    let write = |members: &mut BTreeMap<u64, Member>| {
        let (reply, answer) = oneshot::channel();
        let data = command::encode_txn(&Txn::new(vec![], vec![put("/b", "b")]));
        serve(
            members.get_mut(&1).expect("the first"),
            vec![Request::Txn { data, reply }],
            false,
        );
        settle(members);
        answer
    };
    for _ in 0..EVERY {
        drop(write(&mut members));
    }
    let found: Vec<u64> = members
        .iter()
        .filter_map(|(id, member)| member.halted.then_some(*id))
        .collect();
    assert_eq!(found, halted, "{values:?}");
    let answer = write(&mut members).try_recv();
    assert_eq!(matches!(answer, Ok(Ok(_))), writes, "{values:?}: {answer:?}");
}

#[test]
fn a_member_that_is_alone_with_its_state_halts() {
    check(&["x", "x", "x"], &[], true);
    check(&["x", "x", "y"], &[3], true);
    check(&["x", "y"], &[], false);
    // The leader itself; the others would elect another.
    check(&["x", "y", "y"], &[1], false);
}
