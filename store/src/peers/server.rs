//! The receiving side: one call of the service on one connection.

use corten_proto::peers::peers_server::{Peers, PeersServer};
use corten_proto::peers::{Ask, Closed, Handed, Installed, RaftMessage, SnapshotPart, Taken, Told};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::state::Receiving;
use super::{ADDRESS, CLUSTER, FROM, Io, MAX_ADDRESS, MAX_MESSAGE_BYTES, Shared, TO};
use crate::log::Identity;
use crate::store::{Inbox, Store};

/// A peer that does not answer a ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a peer may send in one frame. A batch of proposals or entries then takes one call of the system, not one for every
/// 16 KiB.
const FRAME_BYTES: u32 = 1 << 20;
/// What a peer may send of one stream, and on one connection, before it is read.
const WINDOW_BYTES: u32 = 4 << 20;

/// See [`super::Peers::serve`].
pub(super) async fn serve(
    shared: Arc<Shared>,
    store: &Store,
    from: u64,
    io: impl Io + 'static,
) -> Result<(), hyper::Error> {
    let service = PeersServer::new(Incoming {
        shared,
        from,
        me: store.identity(),
        inbox: store.inbox(),
    })
    .max_decoding_message_size(MAX_MESSAGE_BYTES);
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .await
}

struct Incoming {
    shared: Arc<Shared>,
    /// Who has authenticated itself.
    from: u64,
    me: Identity,
    inbox: Inbox,
}

impl Incoming {
    /// A member may be at an address where another one was before.
    fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let number = |name: &str| {
            let text = metadata.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| u64::from_str_radix(text, 16).ok())
        };
        if number(CLUSTER) != Some(self.me.cluster) {
            return Err(Status::failed_precondition(format!(
                "this member is of cluster {:x}",
                self.me.cluster
            )));
        }
        if number(TO) != Some(self.me.member) {
            return Err(Status::failed_precondition(format!(
                "this is member {:x}",
                self.me.member
            )));
        }
        if number(FROM) != Some(self.from) {
            return Err(Status::unauthenticated("the sender is not who it says"));
        }
        if self.shared.is_removed(self.from) {
            return Err(Status::permission_denied(format!(
                "member {:x} was removed",
                self.from
            )));
        }
        let address = metadata.get(ADDRESS).and_then(|value| value.to_str().ok());
        if let Some(address) = address.filter(|address| !address.is_empty() && address.len() <= MAX_ADDRESS) {
            self.shared.told(self.from, address);
        }
        Ok(())
    }
}

/// Tells, however it ends, that a peer's messages do not come on this way any more.
struct Lost<'a>(&'a Incoming);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        // Overloaded or closed: time tells, a little later.
        let _ = self.0.inbox.lost(self.0.from);
    }
}

#[tonic::async_trait]
impl Peers for Incoming {
    async fn messages(&self, request: Request<Streaming<RaftMessage>>) -> Result<Response<Closed>, Status> {
        self.check(request.metadata())?;
        self.shared.note_arrival(self.from);
        let mut messages = request.into_inner();
        let _lost = Lost(self);
        while let Some(RaftMessage { message }) = messages.message().await? {
            if self.shared.is_removed(self.from) {
                return Err(Status::permission_denied("this member was removed"));
            }
            match self.inbox.receive(message) {
                // Too much to do: lost, and sent again by Raft.
                Ok(()) | Err(crate::StoreError::Overloaded { .. }) => {}
                Err(error) => return Err(Status::unavailable(error.to_string())),
            }
        }
        Ok(Response::new(Closed {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<Installed>, Status> {
        self.check(request.metadata())?;
        let mut parts = request.into_inner();
        let bad = |error: super::state::BadState| Status::data_loss(error.to_string());
        let first = parts.message().await?.unwrap_or_default();
        let mut receiving = Receiving::start(first).map_err(bad)?;
        while let Some(part) = parts.message().await? {
            receiving.add(part).map_err(bad)?;
        }
        let (message, state) = receiving.finish().map_err(bad)?;
        self.inbox
            .install(message, state)
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(Installed {}))
    }

    async fn about(&self, request: Request<Ask>) -> Result<Response<Told>, Status> {
        self.check(request.metadata())?;
        let text = self.shared.about.get().map(|about| about()).unwrap_or_default();
        Ok(Response::new(Told { text }))
    }

    async fn hand(&self, request: Request<Handed>) -> Result<Response<Taken>, Status> {
        self.check(request.metadata())?;
        let Some(take) = self.shared.take.get() else {
            return Err(Status::unimplemented(
                "this member reads what it needs from its state",
            ));
        };
        let text = request.into_inner().text;
        take(text).map_err(Status::failed_precondition)?;
        Ok(Response::new(Taken {}))
    }
}
