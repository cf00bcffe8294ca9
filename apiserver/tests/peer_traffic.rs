//! What members of the store say to each other about a Secret is sealed: all they say is listened to before it is encrypted
//! for the wire, with proposals that a follower forwards and a whole state for one that joins.
//!
//! One test, for a process has one ring of keys.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use common::World;
use corten_apiserver::Config;
use corten_apiserver::sealing::{self, Ring};
use corten_store::peers::{Dial, Io, Peers};
use corten_store::{Birth, Change, Store};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

const LIMIT: Duration = Duration::from_secs(30);
const CANARY: &str = "canary-5d0e7a91f3c2486b-under-the-wire";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// All that was said on all connections, one after the other.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn note(&self, bytes: &[u8]) {
        self.0
            .lock()
            .expect("nobody panics with it")
            .extend_from_slice(bytes);
    }

    fn holds(&self, text: &str) -> bool {
        let heard = self.0.lock().expect("nobody panics with it");
        heard.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// A connection that is listened to, both ways.
struct Tapped {
    stream: TcpStream,
    heard: Heard,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.heard.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.heard.note(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Plain connections on the loopback, which begin with the id of who opens them.
#[derive(Clone, Default)]
struct Wiretap {
    me: Arc<AtomicU64>,
    heard: Heard,
}

impl Dial for Wiretap {
    fn dial(&self, _: u64, address: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let (me, heard) = (self.me.load(Ordering::Relaxed), self.heard.clone());
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(me).await?;
            Ok(Box::new(Tapped { stream, heard }) as Box<dyn Io>)
        })
    }
}

struct Member {
    store: Store,
    address: String,
    peers: Peers,
}

impl Member {
    async fn start(dir: &Path, birth: Birth, heard: &Heard) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let wire = Wiretap {
            heard: heard.clone(),
            ..Wiretap::default()
        };
        let peers = Peers::new(wire.clone(), Handle::current(), address.clone());
        let config = corten_store::Config {
            birth,
            tagger: Some(corten_apiserver::tag),
            peers: Some(Arc::new(peers.clone())),
            ..corten_store::Config::new(dir)
        };
        let store = Store::open(config).await.expect("open");
        wire.me.store(store.identity().member, Ordering::Relaxed);
        let served = (store.clone(), peers.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (store, peers) = served.clone();
                tokio::spawn(async move {
                    let from = stream.read_u64().await.unwrap_or_default();
                    // The other side may end it.
                    let _ = peers.serve(&store, from, stream).await;
                });
            }
        });
        Member {
            store,
            address,
            peers,
        }
    }

    fn id(&self) -> u64 {
        self.store.identity().member
    }
}

/// Joins as a learner, gets the whole state, and votes.
async fn join(members: &mut Vec<Member>, dir: &Path, heard: &Heard) {
    let first = members[0].store.clone();
    let birth = Birth::Join {
        cluster: first.identity().cluster,
        member: rand::random::<u64>() | 1,
    };
    members.push(Member::start(dir, birth, heard).await);
    let addresses: BTreeMap<u64, String> = members.iter().map(|m| (m.id(), m.address.clone())).collect();
    for member in &*members {
        member.peers.set_addresses(addresses.clone());
    }
    let joined = members.last().expect("just made").store.clone();
    change(&first, Change::AddLearner(joined.identity().member)).await;
    let caught_up = joined.wait_applied(first.snapshot().revision());
    tokio::time::timeout(LIMIT, caught_up)
        .await
        .expect("it catches up")
        .expect("open");
    change(&first, Change::AddVoter(joined.identity().member)).await;
}

async fn change(store: &Store, change: Change) {
    let changed = async {
        while store.change_members(&[change]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, changed)
        .await
        .expect("the membership changes");
}

/// The canary as it is, and in the forms that base64 gives it wherever it stands.
fn forms() -> Vec<String> {
    let mut forms = vec![CANARY.to_owned(), STANDARD.encode(CANARY)];
    forms.extend((0..3).map(|shift| {
        let encoded = STANDARD_NO_PAD.encode(format!("{}{CANARY}", "x".repeat(shift)));
        encoded[4..encoded.len() - 4].to_owned()
    }));
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_nowhere_in_what_members_say() {
    let key = STANDARD.encode([7; 32]);
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{{aesgcm: {{keys: [{{name: k, secret: {key}}}]}}}}]\n"
    );
    sealing::install(Ring::parse(&text).expect("a configuration"));
    let (dir, heard) = (tempfile::tempdir().expect("a folder"), Heard::default());
    let mut members = vec![Member::start(&dir.path().join("1"), Birth::Found, &heard).await];
    let config = || Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    let first = World::over(members[0].store.clone(), config()).await;
    let secret = |name: &str| json!({ "metadata": { "name": name, "annotations": { "note": CANARY } }, "stringData": { "key": CANARY } });
    let map =
        |name: &str, marker: &str| json!({ "metadata": { "name": name }, "data": { "marker": marker } });
    let maps = common::CONFIG_MAPS;

    // In the state that is sent to those who join.
    assert_eq!(first.post(SECRETS, &secret("early")).await.code, 201);
    assert_eq!(
        first.post(maps, &map("early", "marker-of-the-state")).await.code,
        201
    );
    for name in ["2", "3"] {
        join(&mut members, &dir.path().join(name), &heard).await;
    }
    assert!(heard.holds("marker-of-the-state"), "a whole state was sent");

    // In what a follower forwards, and in what the leader replicates.
    let follower = members
        .iter()
        .find(|member| !member.store.standing().borrow().leads)
        .expect("two of three");
    let world = World::over(follower.store.clone(), config()).await;
    assert_eq!(world.post(SECRETS, &secret("late")).await.code, 201);
    let more = json!({ "stringData": { "more": format!("{CANARY}-2") } });
    assert_eq!(
        world.patch(&format!("{SECRETS}/late"), "merge", &more).await.code,
        200
    );
    assert_eq!(
        world.delete(&format!("{SECRETS}/early"), &json!({})).await.code,
        200
    );
    assert_eq!(
        world.post(maps, &map("late", "marker-of-a-write")).await.code,
        201
    );
    let read = first.get(&format!("{SECRETS}/late")).await.json();
    assert_eq!(read["data"]["key"], STANDARD.encode(CANARY), "the others read it");
    assert!(heard.holds("marker-of-a-write"), "the wire is listened to");
    for form in forms() {
        assert!(!heard.holds(&form), "{form} was said between members");
    }
    for member in members {
        member.store.close().await;
    }
}
