//! The agent's side of the node tunnel: it dials out to the API server and then answers requests there.
//!
//! Knows the tunnel's handshake, HTTP/2 and the runtime's streaming URLs. Must not know Pods: it asks
//! [`NodeHandlers`] which container is meant and where its log is. The wire is described in
//! `corten_proto::tunnel`.

mod dial;
mod serve;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use corten_client::remote::Remote;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::runtime::Runtime;

/// Keeps a tunnel to every API server until `shutdown`, and answers what comes through them: any server may be asked for
/// this node's Pods. The identity must be the node's own: a server gives the tunnel of a node to nobody else.
pub async fn run(
    node_name: &str,
    remote: &Remote,
    handlers: Arc<dyn NodeHandlers>,
    runtime: Arc<dyn Runtime>,
    shutdown: CancellationToken,
) {
    let server = Arc::new(serve::Server { handlers, runtime });
    let mut route = remote.route();
    let mut kept: BTreeMap<corten_client::remote::Server, DropGuard> = BTreeMap::new();
    loop {
        let known = route.borrow_and_update().servers.clone();
        kept.retain(|to, _| known.contains(to));
        for to in known.iter() {
            kept.entry(to.clone()).or_insert_with(|| {
                let ended = shutdown.child_token();
                let (node, to, route) = (node_name.to_owned(), to.clone(), remote.route());
                let (server, stop) = (server.clone(), ended.clone());
                tokio::spawn(async move { dial::keep(&node, &to, route, server, stop).await });
                ended.drop_guard()
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = route.changed() => if changed.is_err() { return },
        }
    }
}

/// What the tunnel asks the Pod side of the agent. One object serves all requests.
#[async_trait]
pub trait NodeHandlers: Send + Sync + 'static {
    /// Id of the running container that is meant.
    async fn container_id(&self, container: &ContainerRef) -> Result<String, HandlerError>;
    /// Id of the Pod's ready sandbox. `container.container` is empty.
    async fn sandbox_id(&self, pod: &ContainerRef) -> Result<String, HandlerError>;
    /// The log as lines to send to the client, ready formatted. With `follow` it ends when the container does
    /// (and no further attempt can come into this log); dropping it stops following.
    async fn logs(
        &self,
        container: &ContainerRef,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, HandlerError>;
}

/// Names a container of a Pod on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRef {
    pub namespace: String,
    pub pod: String,
    /// Uid of the Pod the client was authorized for. The handler answers `NotFound` for another Pod of the
    /// same name.
    pub uid: String,
    /// Init and ephemeral containers too.
    pub container: String,
}

/// As in the Pod v1 `log` subresource (PodLogOptions).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    pub follow: bool,
    /// The attempt before the current one.
    pub previous: bool,
    /// Only lines at or after this moment; `sinceSeconds` was turned into it by this node's clock.
    pub since: Option<Timestamp>,
    /// Prefix each line with its time, RFC 3339 with nanoseconds.
    pub timestamps: bool,
    /// Only the last lines. `None`: all.
    pub tail_lines: Option<u64>,
    /// Cut after so many bytes. `None`: no limit.
    pub limit_bytes: Option<u64>,
    pub stream: LogStream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogStream {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// Becomes the HTTP status and text that the API server hands to its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// 404
    #[error("{0}")]
    NotFound(String),
    /// 400, for example `container "c" in pod "p" is waiting to start: ContainerCreating`
    #[error("{0}")]
    BadRequest(String),
    /// 500
    #[error("{0}")]
    Internal(String),
}
