//! Several real stores in one process, joined by channels, that tests can close, damage and open again.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_store::{
    Birth, Change, Config, Connect, Identity, ImageInterval, Inbox, Op, Precondition, Snapshot, Store,
    Transport, Txn, TxnOutcome, prefix_range,
};
use parking_lot::Mutex;

pub const LIMIT: Duration = Duration::from_secs(30);

/// Hands messages over at once, unless the pair is cut off.
#[derive(Clone, Debug, Default)]
pub struct Net(pub Arc<Mutex<Wires>>);

#[derive(Default)]
pub struct Wires {
    pub inboxes: BTreeMap<u64, Inbox>,
    pub silent: BTreeSet<u64>,
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.inboxes.keys())
    }
}

struct Wire {
    net: Net,
    inbox: Inbox,
}

impl Connect for Net {
    fn connect(&self, _: Identity, inbox: Inbox) -> Box<dyn Transport> {
        Box::new(Wire {
            net: self.clone(),
            inbox,
        })
    }
}

impl Transport for Wire {
    fn send(&mut self, to: u64, message: Bytes) {
        let wires = self.net.0.lock();
        if let Some(peer) = wires.inboxes.get(&to).filter(|_| !wires.silent.contains(&to)) {
            let _ = peer.receive(message);
        }
    }

    fn send_snapshot(&mut self, to: u64, message: Bytes, state: Snapshot) {
        let wires = self.net.0.lock();
        let sent = wires
            .inboxes
            .get(&to)
            .filter(|_| !wires.silent.contains(&to))
            .is_some_and(|peer| peer.install(message, state).is_ok());
        let _ = self.inbox.snapshot_sent(to, sent);
    }

    fn snapshot_lost(&mut self, to: u64) {
        let _ = self.inbox.snapshot_sent(to, false);
    }
}

pub struct World {
    pub net: Net,
    pub dir: tempfile::TempDir,
    pub image: ImageInterval,
    pub stores: BTreeMap<u64, Store>,
}

impl World {
    pub async fn founded() -> World {
        let mut world = World {
            net: Net::default(),
            dir: tempfile::tempdir().expect("a folder"),
            image: ImageInterval::default(),
            stores: BTreeMap::new(),
        };
        world.open("1", Birth::Found).await;
        world
    }

    pub async fn open(&mut self, name: &str, birth: Birth) -> u64 {
        let config = Config {
            birth,
            peers: Some(Arc::new(self.net.clone())),
            image: self.image,
            ..Config::new(self.dir.path().join(name))
        };
        let store = Store::open(config).await.expect("open");
        let id = store.identity().member;
        self.net.0.lock().inboxes.insert(id, store.inbox());
        self.stores.insert(id, store);
        id
    }

    pub async fn close(&mut self, id: u64) {
        self.net.0.lock().inboxes.remove(&id);
        self.stores.remove(&id).expect("it runs").close().await;
    }

    /// A new member, taken in as a learner, then as a voter.
    pub async fn grow(&mut self, name: &str) -> u64 {
        let any = self.any();
        let cluster = any.identity().cluster;
        let member = rand::random::<u64>() | 1;
        let id = self.open(name, Birth::Join { cluster, member }).await;
        change(&any, Change::AddLearner(id)).await;
        self.caught_up(id).await;
        change(&any, Change::AddVoter(id)).await;
        id
    }

    pub fn any(&self) -> Store {
        self.stores.values().next().expect("one runs").clone()
    }

    pub async fn caught_up(&self, id: u64) {
        let other = self
            .stores
            .iter()
            .find(|(other, _)| **other != id)
            .expect("another")
            .1;
        self.caught_up_with(id, other).await;
    }

    pub async fn caught_up_with(&self, id: u64, other: &Store) {
        let newest = other.snapshot().revision();
        let applied = self.stores[&id].wait_applied(newest);
        tokio::time::timeout(LIMIT, applied)
            .await
            .expect("it catches up")
            .expect("it is open");
    }

    pub async fn leader(&self) -> u64 {
        eventually(|| {
            let mut leaders = self.stores.values().map(|store| store.status().leader);
            let first = leaders.next().flatten()?;
            (self.stores.contains_key(&first) && leaders.all(|leader| leader == Some(first))).then_some(first)
        })
        .await
    }
}

pub async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("in time")
}

pub async fn change(store: &Store, step: Change) {
    let done = async {
        while store.change_members(&[step]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, done)
        .await
        .expect("the membership changes");
}

pub fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
    }
}

/// Writes under a precondition that holds once, again and again until the outcome is known.
pub async fn write(store: &Store, key: &str) {
    let done = async {
        loop {
            let absent = Precondition::Absent(Bytes::from(key.to_owned()));
            match store.txn(Txn::new(vec![absent], vec![put(key, "v")])).await {
                Ok(TxnOutcome::Committed { .. }) => return,
                // An earlier try of ours, whose outcome was unknown, did it.
                Ok(TxnOutcome::Conflict { .. }) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, done).await.expect("written");
}

pub async fn keys(store: &Store) -> Vec<String> {
    let read = async {
        while store.read_barrier().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .expect("a linearizable read");
    let all = store.snapshot();
    all.range(prefix_range(b"/"))
        .map(|entry| String::from_utf8_lossy(&entry.key).into_owned())
        .collect()
}
