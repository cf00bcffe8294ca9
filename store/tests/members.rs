//! Several real stores in one process, joined by channels: a member joins with nothing, is promoted, serves writes and
//! reads like any other, takes over when the leader is gone, and leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corten_store::peers::{Dial, Io, Peers};
use corten_store::{
    Birth, Change, Config, Connect, Identity, Inbox, Op, Precondition, Snapshot, Store, Transport, Txn,
    TxnOutcome, WatchItem, prefix_range,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

const LIMIT: Duration = Duration::from_secs(30);

/// Hands messages over at once, unless the pair is cut off.
#[derive(Clone, Debug, Default)]
struct Net(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    inboxes: BTreeMap<u64, Inbox>,
    silent: BTreeSet<u64>,
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

struct World {
    net: Net,
    dir: tempfile::TempDir,
    stores: BTreeMap<u64, Store>,
}

impl World {
    async fn founded() -> World {
        let mut world = World {
            net: Net::default(),
            dir: tempfile::tempdir().expect("a folder"),
            stores: BTreeMap::new(),
        };
        world.open("1", Birth::Found).await;
        world
    }

    async fn open(&mut self, name: &str, birth: Birth) -> u64 {
        let config = Config {
            birth,
            peers: Some(Arc::new(self.net.clone())),
            ..Config::new(self.dir.path().join(name))
        };
        let store = Store::open(config).await.expect("open");
        let id = store.identity().member;
        self.net.0.lock().inboxes.insert(id, store.inbox());
        self.stores.insert(id, store);
        id
    }

    async fn close(&mut self, id: u64) {
        self.net.0.lock().inboxes.remove(&id);
        self.stores.remove(&id).expect("it runs").close().await;
    }

    /// A new member, taken in as a learner, then as a voter.
    async fn grow(&mut self, name: &str) -> u64 {
        let any = self.any();
        let cluster = any.identity().cluster;
        let member = rand::random::<u64>() | 1;
        let id = self.open(name, Birth::Join { cluster, member }).await;
        change(&any, Change::AddLearner(id)).await;
        self.caught_up(id).await;
        change(&any, Change::AddVoter(id)).await;
        id
    }

    fn any(&self) -> Store {
        self.stores.values().next().expect("one runs").clone()
    }

    async fn caught_up(&self, id: u64) {
        let other = self
            .stores
            .iter()
            .find(|(other, _)| **other != id)
            .expect("another")
            .1;
        self.caught_up_with(id, other).await;
    }

    async fn caught_up_with(&self, id: u64, other: &Store) {
        let newest = other.snapshot().revision();
        let applied = self.stores[&id].wait_applied(newest);
        tokio::time::timeout(LIMIT, applied)
            .await
            .expect("it catches up")
            .expect("it is open");
    }

    async fn leader(&self) -> u64 {
        eventually(|| {
            let mut leaders = self.stores.values().map(|store| store.status().leader);
            let first = leaders.next().flatten()?;
            (self.stores.contains_key(&first) && leaders.all(|leader| leader == Some(first))).then_some(first)
        })
        .await
    }
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
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

async fn change(store: &Store, step: Change) {
    let done = async {
        while store.change_members(&[step]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, done)
        .await
        .expect("the membership changes");
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
    }
}

/// Writes under a precondition that holds once, again and again until the outcome is known.
async fn write(store: &Store, key: &str) {
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

async fn keys(store: &Store) -> Vec<String> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_serve_fail_over_and_leave() {
    let mut world = World::founded().await;
    let first = world.leader().await;
    for n in 0..50 {
        write(&world.any(), &format!("/a/{n:03}")).await;
    }
    let second = world.grow("2").await;
    let third = world.grow("3").await;
    assert_eq!(
        world.stores[&second].status().installed,
        1,
        "it started from a whole state"
    );
    for store in world.stores.values() {
        eventually(|| {
            let members = store.status().members;
            (members.voters.len() == 3 && members.learners.is_empty() && !members.joint).then_some(())
        })
        .await;
    }

    // Every member takes writes, and reads what any other acknowledged.
    let mut watch = world.stores[&third]
        .watch(prefix_range(b"/b/"), world.stores[&third].snapshot().revision())
        .expect("a watch on a follower");
    for (n, id) in [first, second, third].iter().cycle().take(30).enumerate() {
        write(&world.stores[id], &format!("/b/{n:03}")).await;
        let reader = &world.stores[&[second, third, first][n % 3]];
        assert!(keys(reader).await.contains(&format!("/b/{n:03}")));
    }
    for n in 0..30 {
        let event = tokio::time::timeout(LIMIT, watch.next()).await.expect("in time");
        let Some(Ok(WatchItem::Event(event))) = event else {
            panic!("{event:?}")
        };
        assert_eq!(event.key, format!("/b/{n:03}"));
    }

    // The leader goes; the others go on, and nothing is lost.
    let leader = world.leader().await;
    let mut all = keys(&world.any()).await;
    world.close(leader).await;
    write(&world.any(), "/c/after").await;
    all.push("/c/after".into());
    assert_eq!(keys(&world.any()).await, all);
    assert_ne!(world.leader().await, leader);

    // It comes back with what it has, and a member leaves for good.
    let name = (1..=3)
        .find(|n| [first, second, third][n - 1] == leader)
        .expect("one of them")
        .to_string();
    let back = world.open(&name, Birth::Found).await;
    assert_eq!(back, leader, "a member is who its folder says");
    world.caught_up(back).await;
    assert_eq!(keys(&world.stores[&back]).await, all);
    let gone = *world.stores.keys().find(|id| **id != back).expect("another");
    change(&world.stores[&back], Change::Remove(gone)).await;
    world.close(gone).await;
    write(&world.any(), "/d/two-are-enough").await;
    for store in world.stores.values() {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_too_long_gets_the_state_and_its_watchers_an_error() {
    let mut world = World::founded().await;
    let (_, third) = (world.grow("2").await, world.grow("3").await);
    write(&world.any(), "/a").await;
    world.caught_up(third).await;
    let mut watch = world.stores[&third]
        .watch(prefix_range(b"/"), world.stores[&third].snapshot().revision())
        .expect("a watch");
    world.net.0.lock().silent.insert(third);
    let leader = world.leader().await;
    if leader == third {
        // A leader that hears nothing steps down by itself; then the others can go on.
        eventually(|| (world.stores[&third].status().leader.is_none()).then_some(())).await;
    }
    let writer = world
        .stores
        .iter()
        .find(|(id, _)| **id != third)
        .expect("another")
        .1
        .clone();
    let big = "x".repeat(1 << 20);
    // Two intervals of the image, so that the log is cut beyond what the silent member has.
    for n in 0..80 {
        let done = async {
            while writer
                .txn(Txn::new(vec![], vec![put(&format!("/big/{}", n % 4), &big)]))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, done).await.expect("written");
    }
    // The log is cut up to the image, on every member that could lead.
    let behind = world.stores[&third].status().applied;
    for (_, store) in world.stores.iter().filter(|(id, _)| **id != third) {
        eventually(|| (store.status().image_applied > behind).then_some(())).await;
    }
    let before = world.stores[&third].status().installed;
    world.net.0.lock().silent.clear();
    write(&writer, "/z").await;
    world.caught_up_with(third, &writer).await;
    assert_eq!(world.stores[&third].status().installed, before + 1);
    assert_eq!(keys(&world.stores[&third]).await, keys(&writer).await);
    let end = tokio::time::timeout(LIMIT, async {
        while let Some(item) = watch.next().await {
            if let Err(error) = item {
                return Some(error);
            }
        }
        None
    });
    let end = end.await.expect("the watch says something");
    assert!(
        matches!(end, Some(corten_store::WatchError::Compacted { .. })),
        "events that were not there are not passed over in silence: {end:?}"
    );
    for store in world.stores.values() {
        store.close().await;
    }
}

/// Plain TCP on the loopback: encryption is the caller's business.
/// A connection starts with the id of who opens it.
#[derive(Clone, Default)]
struct Tcp {
    me: Arc<AtomicU64>,
    /// To whom there was a connection.
    dialled: Arc<Mutex<BTreeSet<u64>>>,
}

impl Dial for Tcp {
    fn dial(&self, to: u64, address: String) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> {
        let (me, dialled) = (self.me.load(Ordering::Relaxed), self.dialled.clone());
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(me).await?;
            dialled.lock().insert(to);
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// One member that listens on the loopback.
struct Member {
    store: Store,
    address: String,
    peers: Peers,
    tcp: Tcp,
    listening: JoinHandle<()>,
}

impl Member {
    async fn start(dir: &Path, birth: Birth) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let tcp = Tcp::default();
        let peers = Peers::new(tcp.clone(), Handle::current(), address.clone());
        let config = Config {
            birth,
            peers: Some(Arc::new(peers.clone())),
            ..Config::new(dir)
        };
        let store = Store::open(config).await.expect("open");
        tcp.me.store(store.identity().member, Ordering::Relaxed);
        let served = (store.clone(), peers.clone());
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (store, peers) = served.clone();
                connections.spawn(async move {
                    let from = stream.read_u64().await.unwrap_or_default();
                    let _ = peers.serve(&store, from, stream).await;
                });
            }
        });
        Member {
            store,
            address,
            peers,
            tcp,
            listening,
        }
    }

    fn id(&self) -> u64 {
        self.store.identity().member
    }

    /// As a crash looks to the others: nothing is said any more.
    async fn stop(self) {
        self.listening.abort();
        self.store.close().await;
    }
}

fn introduce(members: &[Member]) {
    let addresses: BTreeMap<u64, String> = members.iter().map(|m| (m.id(), m.address.clone())).collect();
    for member in members {
        member.peers.set_addresses(addresses.clone());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk_over_sockets() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut members = vec![Member::start(&dir.path().join("1"), Birth::Found).await];
    let first = members[0].store.clone();
    // More than one part of a state.
    for n in 0..40 {
        let value = "y".repeat(100_000);
        first
            .txn(Txn::new(vec![], vec![put(&format!("/a/{n:02}"), &value)]))
            .await
            .expect("alone it always leads");
    }
    for name in ["2", "3"] {
        let birth = Birth::Join {
            cluster: first.identity().cluster,
            member: rand::random::<u64>() | 1,
        };
        members.push(Member::start(&dir.path().join(name), birth).await);
        introduce(&members);
        let joined = members.last().expect("just made").store.clone();
        change(&first, Change::AddLearner(joined.identity().member)).await;
        tokio::time::timeout(LIMIT, joined.wait_applied(first.snapshot().revision()))
            .await
            .expect("it catches up")
            .expect("open");
        change(&first, Change::AddVoter(joined.identity().member)).await;
    }
    for (n, member) in members.iter().enumerate() {
        write(&member.store, &format!("/b/{n}")).await;
    }
    let all = keys(&members[2].store).await;
    assert_eq!(all.len(), 43);
    for member in &members {
        assert_eq!(keys(&member.store).await, all);
    }
    // The followers never had anything to say to each other, and are connected already when they have.
    for (one, other) in [(1, 2), (2, 1)] {
        let (tcp, other) = (members[one].tcp.clone(), members[other].id());
        eventually(|| tcp.dialled.lock().contains(&other).then_some(())).await;
    }
    // The founder dies; what remains goes on.
    members.remove(0).stop().await;
    write(&members[0].store, "/c").await;
    assert!(keys(&members[1].store).await.contains(&"/c".to_owned()));
    for member in members {
        member.stop().await;
    }
}
