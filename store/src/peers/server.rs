//! The receiving side: one call of the service on one connection.

use corten_proto::peers::peers_server::{Peers, PeersServer};
use corten_proto::peers::{Closed, Installed, RaftMessage, SnapshotPart};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::state::Receiving;
use super::{CLUSTER, Io, MAX_MESSAGE_BYTES, TO};
use crate::log::Identity;
use crate::store::{Inbox, Store};

/// A peer that does not answer a ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Serves one connection of an authenticated peer until it ends. The caller checks that it is a peer's.
///
/// # Errors
/// What broke the connection.
pub async fn serve(store: &Store, io: impl Io + 'static) -> Result<(), hyper::Error> {
    let service = PeersServer::new(Incoming {
        me: store.identity(),
        inbox: store.inbox(),
    })
    .max_decoding_message_size(MAX_MESSAGE_BYTES);
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .await
}

struct Incoming {
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
        Ok(())
    }
}

#[tonic::async_trait]
impl Peers for Incoming {
    async fn messages(&self, request: Request<Streaming<RaftMessage>>) -> Result<Response<Closed>, Status> {
        self.check(request.metadata())?;
        let mut messages = request.into_inner();
        while let Some(RaftMessage { message }) = messages.message().await? {
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
}
