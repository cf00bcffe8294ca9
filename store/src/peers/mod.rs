//! Members over a network: gRPC on connections that somebody else opens, encrypts and authenticates.
//!
//! Knows who is at which address, and how messages and states travel. Must not know what Raft says in them, nor what
//! TLS is. Each peer has a bounded queue and one connection, made when there is something to say; what does not fit
//! or does not arrive is lost, as Raft expects.

mod client;
mod server;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::log::Identity;
use crate::store::{Inbox, Store};
use crate::transport::{Connect, Transport};

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections to peers, authenticated both ways.
pub trait Dial: Send + Sync {
    /// A connection to `member` at `address`; fails if somebody else answers there.
    fn dial(&self, member: u64, address: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// What a member says about itself when another one asks; JSON.
pub type About = dyn Fn() -> Bytes + Send + Sync;

/// What a member does with what another one hands it; the error is in words for the one who handed it.
pub type Take = dyn Fn(Bytes) -> Result<(), String> + Send + Sync;

/// The addresses of all members, and how to reach them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Box<dyn Dial>,
    runtime: Handle,
    /// Where this member listens, told to every peer it connects to.
    own_address: String,
    book: Mutex<Book>,
    about: OnceLock<Box<About>>,
    take: OnceLock<Box<Take>>,
    /// Some address is another one than before.
    moved: watch::Sender<()>,
    /// A peer said that this member was removed, and everybody who stays knows.
    dismissed: watch::Sender<bool>,
    /// One for each peer that this member sends to: it has just connected to this one, so it can be reached.
    came: Mutex<BTreeMap<u64, Arc<Notify>>>,
}

/// Who is where.
#[derive(Debug, Default)]
struct Book {
    /// As the membership records it.
    recorded: BTreeMap<u64, String>,
    /// As members told themselves since: newer than the record, until that says the same.
    told: BTreeMap<u64, String>,
    /// Nothing is taken from them any more.
    removed: BTreeSet<u64>,
}

/// Members whose told address is kept.
const MAX_TOLD: usize = 64;

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({:?})", self.shared.book.lock())
    }
}

impl Peers {
    /// Connections run on `runtime`; `own_address` is where peers reach this member.
    pub fn new(dial: impl Dial + 'static, runtime: Handle, own_address: impl Into<String>) -> Self {
        Peers {
            shared: Arc::new(Shared {
                dial: Box::new(dial),
                runtime,
                own_address: own_address.into(),
                book: Mutex::default(),
                about: OnceLock::new(),
                take: OnceLock::new(),
                moved: watch::Sender::default(),
                dismissed: watch::Sender::default(),
                came: Mutex::default(),
            }),
        }
    }

    /// Where each member is. A member whose address changes is reached at the new one from its next connection on.
    pub fn set_addresses(&self, addresses: BTreeMap<u64, String>) {
        let mut book = self.shared.book.lock();
        book.told
            .retain(|member, told| addresses.get(member) != Some(told));
        if book.recorded != addresses {
            book.recorded = addresses;
            self.shared.moved.send_replace(());
        }
    }

    /// Where each other member is, as far as this one knows.
    pub fn addresses(&self) -> BTreeMap<u64, String> {
        let book = self.shared.book.lock();
        let mut addresses = book.recorded.clone();
        addresses.extend(book.told.clone());
        addresses.retain(|member, _| !book.removed.contains(member));
        addresses
    }

    /// Changes whenever [`Peers::addresses`] may answer differently.
    pub fn moved(&self) -> watch::Receiver<()> {
        self.shared.moved.subscribe()
    }

    /// Who was removed for good: nobody talks to them, and nothing is taken from them.
    pub fn set_removed(&self, removed: BTreeSet<u64>) {
        self.shared.book.lock().removed = removed;
    }

    /// Becomes true when a peer says that this member was removed from the cluster and may go.
    pub fn dismissed(&self) -> watch::Receiver<bool> {
        self.shared.dismissed.subscribe()
    }

    /// The other members that this one knows an address of.
    pub fn known(&self) -> Vec<u64> {
        self.shared.known()
    }

    /// What this member says about itself. Only the first call counts.
    pub fn set_about(&self, about: impl Fn() -> Bytes + Send + Sync + 'static) {
        let _ = self.shared.about.set(Box::new(about));
    }

    /// What was set with [`Peers::set_about`], as of now.
    pub fn own_about(&self) -> Option<Bytes> {
        self.shared.about.get().map(|about| about())
    }

    /// What `member` says about itself.
    ///
    /// # Errors
    /// It is not reached, or does not answer within 1 s.
    pub async fn about(&self, me: Identity, member: u64) -> io::Result<Bytes> {
        client::about(self.shared.clone(), me, member).await
    }

    /// What this member does with what others hand it; without, it takes nothing. Only the first call counts.
    pub fn set_take(&self, take: impl Fn(Bytes) -> Result<(), String> + Send + Sync + 'static) {
        let _ = self.shared.take.set(Box::new(take));
    }

    /// Hands `member` something, over a connection of its own.
    ///
    /// # Errors
    /// It is not reached, does not answer within 1 s, or does not take it.
    pub async fn hand(&self, me: Identity, member: u64, text: Bytes) -> io::Result<()> {
        client::hand(self.shared.clone(), me, member, text).await
    }

    /// Serves one connection of the peer that authenticated itself as `from` until it ends.
    ///
    /// # Errors
    /// What broke the connection.
    pub async fn serve(&self, store: &Store, from: u64, io: impl Io + 'static) -> Result<(), hyper::Error> {
        server::serve(self.shared.clone(), store, from, io).await
    }
}

impl Shared {
    /// Everybody whose address is known.
    fn known(&self) -> Vec<u64> {
        let book = self.book.lock();
        let known: BTreeSet<u64> = book.recorded.keys().chain(book.told.keys()).copied().collect();
        known.difference(&book.removed).copied().collect()
    }

    fn address(&self, member: u64) -> Option<String> {
        let book = self.book.lock();
        if book.removed.contains(&member) {
            return None;
        }
        book.told
            .get(&member)
            .or_else(|| book.recorded.get(&member))
            .cloned()
    }

    /// What a peer refuses. Only one who knows that this member was removed says so.
    fn note_refusal(&self, status: &tonic::Status) {
        if status.code() == tonic::Code::PermissionDenied {
            self.dismissed.send_replace(true);
        }
    }

    fn is_removed(&self, member: u64) -> bool {
        self.book.lock().removed.contains(&member)
    }

    /// Wakes whoever waits to reach this peer.
    fn note_arrival(&self, peer: u64) {
        if let Some(waits) = self.came.lock().get(&peer) {
            waits.notify_one();
        }
    }

    /// Told when this peer has connected to this member.
    fn arrival(&self, peer: u64) -> Arc<Notify> {
        self.came.lock().entry(peer).or_default().clone()
    }

    /// A member says where it listens.
    fn told(&self, member: u64, address: &str) {
        let mut book = self.book.lock();
        let known = book
            .recorded
            .get(&member)
            .is_some_and(|recorded| recorded == address);
        let before = if known {
            book.told.remove(&member)
        } else if book.told.len() < MAX_TOLD || book.told.contains_key(&member) {
            book.told.insert(member, address.to_owned())
        } else {
            return;
        };
        if before.as_deref() != (!known).then_some(address) {
            self.moved.send_replace(());
        }
    }
}

impl Connect for Peers {
    fn connect(&self, me: Identity, inbox: Inbox) -> Box<dyn Transport> {
        Box::new(client::Outgoing::new(self.shared.clone(), me, inbox))
    }
}

/// Metadata of every call, as hexadecimal numbers.
const CLUSTER: &str = "corten-cluster";
const FROM: &str = "corten-from";
const TO: &str = "corten-to";
const ADDRESS: &str = "corten-address";
/// Bytes of an address.
const MAX_ADDRESS: usize = 256;
/// Of one gRPC message: a transaction, and more than one part of a state.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

fn hex(number: u64) -> tonic::metadata::MetadataValue<tonic::metadata::Ascii> {
    format!("{number:016x}")
        .parse()
        .expect("hexadecimal digits are ASCII")
}
