//! Members over a network: gRPC on connections that somebody else opens, encrypts and authenticates.
//!
//! Knows who is at which address, and how messages and states travel. Must not know what Raft says in them, nor what
//! TLS is. Each peer has a bounded queue and one connection, made when there is something to say; what does not fit
//! or does not arrive is lost, as Raft expects.

mod client;
mod server;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::log::Identity;
use crate::store::Inbox;
use crate::transport::{Connect, Transport};
pub use server::serve;

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections to peers, authenticated both ways.
pub trait Dial: Send + Sync {
    /// A connection to `address`, as the membership records it.
    fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// The addresses of all members, and how to reach them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Box<dyn Dial>,
    runtime: Handle,
    addresses: Mutex<BTreeMap<u64, String>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({:?})", self.shared.addresses.lock())
    }
}

impl Peers {
    /// Connections run on `runtime`.
    pub fn new(dial: impl Dial + 'static, runtime: Handle) -> Self {
        Peers {
            shared: Arc::new(Shared {
                dial: Box::new(dial),
                runtime,
                addresses: Mutex::default(),
            }),
        }
    }

    /// Where each member is. A member whose address changes is reached at the new one from its next connection on.
    pub fn set_addresses(&self, addresses: BTreeMap<u64, String>) {
        *self.shared.addresses.lock() = addresses;
    }
}

impl Shared {
    fn address(&self, member: u64) -> Option<String> {
        self.addresses.lock().get(&member).cloned()
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
/// Of one gRPC message: a transaction, and more than one part of a state.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

fn hex(number: u64) -> tonic::metadata::MetadataValue<tonic::metadata::Ascii> {
    format!("{number:016x}")
        .parse()
        .expect("hexadecimal digits are ASCII")
}
