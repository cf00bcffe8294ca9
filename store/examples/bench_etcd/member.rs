//! Members over plain TCP on the loopback, as servers are over TLS: who joins says so to the first one, and every member
//! finds the others' addresses in the store. Knows nothing of what is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corten_store::peers::{Dial, Io, Peers};
use corten_store::{Birth, Change, Config, Identity, Op, Revision, Store, Txn, prefix_range};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

const MEMBERS: &str = "/bench/members/";
/// A connection starts with the id of who opens it; somebody who is no member yet says this.
const STRANGER: u64 = 0;
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Tcp(Arc<AtomicU64>);

impl Dial for Tcp {
    fn dial(&self, _: u64, address: String) -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> {
        let me = self.0.load(Ordering::Relaxed);
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(me).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// The first member of a cluster.
pub async fn found(dir: &Path, listen: SocketAddr) -> Store {
    let store = open(Config::new(dir), listen, None).await;
    introduce(&store, store.identity().member, &listen.to_string()).await;
    store
}

/// A further one: with a vote and a folder, or in memory and without a vote, as a front end that only passes writes on.
pub async fn join(dir: Option<&Path>, listen: SocketAddr, first: SocketAddr) -> Store {
    let member = rand::random::<u64>() | 1;
    let ask = |voter: bool| async move {
        let mut stream = TcpStream::connect(first).await?;
        stream.write_u64(STRANGER).await?;
        stream.write_u64(member).await?;
        stream.write_u16(listen.port()).await?;
        stream.write_u8(voter.into()).await?;
        Ok::<_, std::io::Error>((stream.read_u64().await?, stream.read_u64().await?))
    };
    let (cluster, founder) = ask(false).await.expect("the first member answers");
    let config = Config {
        birth: Birth::Join { cluster, member },
        ..dir.map_or_else(Config::in_memory, Config::new)
    };
    let store = open(config, listen, Some((founder, first))).await;
    let caught_up = store.wait_applied(Revision(2));
    tokio::time::timeout(LIMIT, caught_up)
        .await
        .expect("it catches up")
        .expect("it is open");
    if dir.is_some() {
        ask(true).await.expect("the first member answers");
    }
    store
}

async fn open(config: Config, listen: SocketAddr, first: Option<(u64, SocketAddr)>) -> Store {
    let tcp = Tcp::default();
    let peers = Peers::new(tcp.clone(), Handle::current(), listen.to_string());
    if let Some((founder, address)) = first {
        peers.set_addresses(BTreeMap::from([(founder, address.to_string())]));
    }
    if let Birth::Join { member, .. } = config.birth {
        tcp.0.store(member, Ordering::Relaxed);
    }
    let listener = TcpListener::bind(listen).await.expect("listen");
    let store = Store::open(Config {
        peers: Some(Arc::new(peers.clone())),
        ..config
    })
    .await
    .expect("open");
    tcp.0.store(store.identity().member, Ordering::Relaxed);
    tokio::spawn(listen_to_peers(listener, store.clone(), peers.clone()));
    tokio::spawn(follow_addresses(store.clone(), peers));
    store
}

async fn listen_to_peers(listener: TcpListener, store: Store, peers: Peers) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (store, peers) = (store.clone(), peers.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match stream.read_u64().await {
                Ok(STRANGER) => drop(take_in(&store, &mut stream).await),
                Ok(from) => drop(peers.serve(&store, from, stream).await),
                Err(_) => {}
            }
        });
    }
}

/// Somebody wants to become a member, or to have a vote.
async fn take_in(store: &Store, stream: &mut TcpStream) -> std::io::Result<()> {
    let (member, port) = (stream.read_u64().await?, stream.read_u16().await?);
    let voter = stream.read_u8().await? == 1;
    introduce(store, member, &format!("127.0.0.1:{port}")).await;
    let change = if voter {
        Change::AddVoter(member)
    } else {
        Change::AddLearner(member)
    };
    while store.change_members(&[change]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let Identity { cluster, member } = store.identity();
    stream.write_u64(cluster).await?;
    stream.write_u64(member).await
}

async fn introduce(store: &Store, member: u64, address: &str) {
    let key = Bytes::from(format!("{MEMBERS}{member}"));
    let value = Bytes::copy_from_slice(address.as_bytes());
    let txn = Txn::new(vec![], vec![Op::Put { key, value }]);
    store.txn(txn).await.expect("written");
}

async fn follow_addresses(store: Store, peers: Peers) {
    loop {
        let state = store.snapshot();
        let addresses = state.range(prefix_range(MEMBERS.as_bytes())).filter_map(|entry| {
            let member = std::str::from_utf8(&entry.key[MEMBERS.len()..]).ok()?;
            let address = std::str::from_utf8(&entry.value).ok()?;
            Some((member.parse().ok()?, address.to_owned()))
        });
        let addresses: BTreeMap<u64, String> = addresses.collect();
        if !addresses.is_empty() {
            peers.set_addresses(addresses);
        }
        let Ok(mut watch) = store.watch(prefix_range(MEMBERS.as_bytes()), state.revision()) else {
            return;
        };
        // Whatever it says, and if it only ends because a whole state arrived: look again.
        if watch.next().await.is_none() {
            return;
        }
    }
}
