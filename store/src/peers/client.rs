//! The sending side: one worker for each peer, with one connection. It is made before there is something to say: a
//! follower has to do with the other followers only when the leader has died, and then each handshake would make the
//! time without a leader longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_proto::peers::peers_client::PeersClient;
use corten_proto::peers::{Ask, Handed, RaftMessage, SnapshotPart};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tower::service_fn;

use super::{ADDRESS, CLUSTER, FROM, MAX_MESSAGE_BYTES, Shared, TO, hex, state};
use crate::log::Identity;
use crate::store::Inbox;
use crate::transport::Transport;
use crate::tree::Snapshot;

/// Messages that wait for one peer; the next one is lost.
const MAX_WAITING: usize = 4096;
/// Parts of a state made ahead of the network.
const PARTS_AHEAD: usize = 4;
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// A member says this fast what it has to say about itself.
const ABOUT_LIMIT: Duration = Duration::from_secs(1);
/// A connection on which nothing comes back for so long is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Between two tries to connect; doubles up to the second, which a member that comes back may have to wait.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Between two tries to connect to a peer that there is nothing to say to.
const IDLE_RETRY: Duration = Duration::from_secs(1);
/// A state that does not move on for so long has failed.
const PART_LIMIT: Duration = Duration::from_secs(30);

/// The transport of one member.
pub(super) struct Outgoing {
    workers: Arc<Workers>,
}

/// The way to each peer; made for everyone whose address is known, and for whoever else gets a message.
struct Workers {
    shared: Arc<Shared>,
    me: Identity,
    inbox: Inbox,
    queues: Mutex<BTreeMap<u64, mpsc::Sender<Bytes>>>,
}

impl Outgoing {
    pub fn new(shared: Arc<Shared>, me: Identity, inbox: Inbox) -> Self {
        let workers = Arc::new(Workers {
            shared: shared.clone(),
            me,
            inbox,
            queues: Mutex::default(),
        });
        // The workers end with this transport, and so does what starts them.
        let (held, mut moved) = (Arc::downgrade(&workers), shared.moved.subscribe());
        shared.runtime.spawn(async move {
            while let Some(workers) = held.upgrade() {
                let known = workers.shared.known();
                for peer in known.into_iter().filter(|peer| *peer != me.member) {
                    workers.queue(peer);
                }
                drop(workers);
                if moved.changed().await.is_err() {
                    return;
                }
            }
        });
        Outgoing { workers }
    }
}

impl Workers {
    fn peer(&self, to: u64) -> Peer {
        let line = Line {
            shared: self.shared.clone(),
            me: self.me,
            to,
        };
        Peer {
            line,
            inbox: self.inbox.clone(),
        }
    }

    /// What waits for a peer.
    fn queue(&self, to: u64) -> mpsc::Sender<Bytes> {
        let mut queues = self.queues.lock();
        let made = queues.entry(to).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            self.shared.runtime.spawn(self.peer(to).work(receiver));
            sender
        });
        made.clone()
    }
}

impl Transport for Outgoing {
    fn send(&mut self, to: u64, message: Bytes) {
        // Full: the peer is slower than we are. Raft sends it again.
        let _ = self.workers.queue(to).try_send(message);
    }

    fn send_snapshot(&mut self, to: u64, message: Bytes, state: Snapshot) {
        let peer = self.workers.peer(to);
        self.workers.shared.runtime.spawn(async move {
            let sent = peer.transfer(message, state).await;
            if let Err(error) = &sent {
                tracing::warn!(peer = format!("{to:x}"), %error, "a state could not be sent");
            }
            peer.tell(to, sent.is_ok()).await;
        });
    }

    fn snapshot_lost(&mut self, to: u64) {
        let peer = self.workers.peer(to);
        self.workers
            .shared
            .runtime
            .spawn(async move { peer.tell(to, false).await });
    }
}

/// Another member, as seen by the tasks that talk to it.
struct Peer {
    line: Line,
    inbox: Inbox,
}

/// The way to another member.
struct Line {
    shared: Arc<Shared>,
    me: Identity,
    to: u64,
}

pub(super) async fn about(shared: Arc<Shared>, me: Identity, to: u64) -> std::io::Result<Bytes> {
    let line = Line { shared, me, to };
    let ask = async {
        let mut client = line.connect().await.map_err(std::io::Error::other)?;
        let told = client.about(line.request(Ask {})).await;
        told.map(|told| told.into_inner().text)
            .inspect_err(|status| line.shared.note_refusal(status))
            .map_err(std::io::Error::other)
    };
    tokio::time::timeout(ABOUT_LIMIT, ask).await?
}

pub(super) async fn hand(shared: Arc<Shared>, me: Identity, to: u64, text: Bytes) -> std::io::Result<()> {
    let line = Line { shared, me, to };
    let give = async {
        let mut client = line.connect().await.map_err(std::io::Error::other)?;
        let taken = client.hand(line.request(Handed { text })).await;
        taken
            .map(|_| ())
            .inspect_err(|status| line.shared.note_refusal(status))
            .map_err(std::io::Error::other)
    };
    tokio::time::timeout(ABOUT_LIMIT, give).await?
}

impl Line {
    async fn connect(&self) -> Result<PeersClient<Channel>, tonic::transport::Error> {
        let shared = self.shared.clone();
        let to = self.to;
        let connector = service_fn(move |_: Uri| {
            let shared = shared.clone();
            async move {
                let address = shared.address(to).ok_or_else(|| {
                    std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "its address is not known")
                })?;
                let connected = tokio::time::timeout(DIAL_LIMIT, shared.dial.dial(to, address)).await;
                Ok::<_, std::io::Error>(TokioIo::new(connected??))
            }
        });
        let channel = Endpoint::from_static("http://peer")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await?;
        Ok(PeersClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, hex(self.me.cluster));
        metadata.insert(FROM, hex(self.me.member));
        metadata.insert(TO, hex(self.to));
        if let Ok(address) = self.shared.own_address.parse() {
            metadata.insert(ADDRESS, address);
        }
        request
    }
}

impl Peer {
    /// Sends what comes until nobody sends any more.
    async fn work(self, mut messages: mpsc::Receiver<Bytes>) {
        let (mut backoff, mut first) = (BACKOFF.0, None);
        let came = self.line.shared.arrival(self.line.to);
        while !messages.is_closed() {
            match self.line.connect().await {
                Ok(client) => {
                    backoff = BACKOFF.0;
                    let ended = self.stream(client, first.take(), &mut messages).await;
                    if let Err(status) = ended {
                        self.line.shared.note_refusal(&status);
                        tracing::debug!(peer = format!("{:x}", self.line.to), %status, "the connection to a peer ended");
                    }
                }
                Err(error) => {
                    tracing::debug!(peer = format!("{:x}", self.line.to), %error, "a peer is not reached");
                }
            }
            // Two that cannot keep their connections must not wake each other without a pause.
            tokio::time::sleep(BACKOFF.0).await;
            // A peer that comes back says so by its own connection: the next election may need this one at once.
            let came_back = tokio::time::timeout(backoff, came.notified()).await.is_ok();
            backoff = (backoff * 2).min(BACKOFF.1);
            // What gathered is about a past the peer will be told anew.
            while messages.try_recv().is_ok() {}
            // Overloaded or closed: Raft finds out by itself, a little later.
            let _ = self.inbox.unreachable(self.line.to);
            if !came_back {
                first = self.wanted(&mut messages, &came).await;
            }
        }
    }

    /// Until it is worth another try: there is something to say, the peer has come, or it is time for one. Whom nobody knows
    /// an address of is not looked for.
    async fn wanted(&self, messages: &mut mpsc::Receiver<Bytes>, came: &Notify) -> Option<Bytes> {
        let retry = async {
            match self.line.shared.address(self.line.to) {
                Some(_) => tokio::time::sleep(IDLE_RETRY).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = messages.recv() => message,
            () = retry => None,
            () = came.notified() => None,
        }
    }

    /// Until the connection breaks or nobody sends any more.
    async fn stream(
        &self,
        mut client: PeersClient<Channel>,
        first: Option<Bytes>,
        messages: &mut mpsc::Receiver<Bytes>,
    ) -> Result<(), Status> {
        let (sender, outgoing) = mpsc::channel(MAX_WAITING);
        if let Some(message) = first {
            let _ = sender.try_send(RaftMessage { message });
        }
        let call = client.messages(self.line.request(ReceiverStream::new(outgoing)));
        tokio::pin!(call);
        loop {
            tokio::select! {
                ended = &mut call => return ended.map(|_| ()),
                message = messages.recv() => match message {
                    Some(message) => {
                        // Full: lost, as on any network.
                        let _ = sender.try_send(RaftMessage { message });
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends a whole state; returns once the peer has it.
    async fn transfer(&self, message: Bytes, state: Snapshot) -> Result<(), Status> {
        let mut client = self
            .line
            .connect()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (sender, outgoing) = mpsc::channel::<SnapshotPart>(PARTS_AHEAD);
        let feed = async move {
            for part in state::parts(message, state) {
                let sent = tokio::time::timeout(PART_LIMIT, sender.send(part)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        };
        let call = client.snapshot(self.line.request(ReceiverStream::new(outgoing)));
        let (answer, ()) = tokio::join!(call, feed);
        answer.map(|_| ())
    }

    /// Raft waits for this word, so it must arrive.
    async fn tell(&self, to: u64, ok: bool) {
        while let Err(crate::StoreError::Overloaded { .. }) = self.inbox.snapshot_sent(to, ok) {
            tokio::time::sleep(BACKOFF.0).await;
        }
    }
}
