//! The server's side of the node tunnels: agents dial in, we send requests to them over HTTP/2.
//!
//! Knows which nodes have a tunnel to this server. Must not know Pods: callers say what to ask. This is the only
//! way to a node; no address from any object is ever dialled. A tunnel is keyed by the node's name, which the
//! caller of [`Registry::accept`] has checked against the agent's certificate ([`may_serve`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::Status;
use corten_proto::tunnel::{HEADER_LIMIT, PROTOCOL, REQUEST_HEADER};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use crate::body::{Body, RequestBody};
use crate::identity::User;

/// Silence after which the agent is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Without an answer for so long, the tunnel is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for an agent to answer with a response's headers.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The tunnels to this server. Cheap to clone; all clones are one registry.
#[derive(Clone, Default)]
pub struct Registry {
    sessions: Arc<Mutex<Sessions>>,
}

#[derive(Default)]
struct Sessions {
    by_node: HashMap<String, Session>,
    next_generation: u64,
}

struct Session {
    generation: u64,
    sender: SendRequest<RequestBody>,
    /// Who signed the certificate that the agent showed, DER.
    issuer: Option<Vec<u8>>,
}

/// Whether this user may offer the tunnel of this node: only the node itself. Even administrators may not, for a
/// tunnel receives what clients type into containers.
#[must_use]
pub fn may_serve(user: &User, node: &str) -> bool {
    let is_node = user.groups.iter().any(|group| group == "system:nodes");
    is_node && user.name.strip_prefix("system:node:") == Some(node)
}

impl Registry {
    /// Answers an agent's request for a tunnel; it comes into being when the response has been sent.
    ///
    /// # Errors
    /// `BadRequest` if it asks for no upgrade to our protocol.
    pub fn accept(
        &self,
        node: &str,
        parts: Parts,
        issuer: Option<Vec<u8>>,
    ) -> Result<Response<Body>, Status> {
        if !crate::streaming::asks_for(&parts.headers, PROTOCOL) {
            return Err(Status::bad_request(format!("Upgrade: {PROTOCOL} is required")));
        }
        let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
        let (registry, node) = (self.clone(), node.to_string());
        tokio::spawn(async move {
            if let Err(error) = registry.serve(&node, upgrade, issuer).await {
                tracing::info!(node, %error, "a node's tunnel ended");
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }

    async fn serve(
        &self,
        node: &str,
        upgrade: OnUpgrade,
        issuer: Option<Vec<u8>>,
    ) -> Result<(), hyper::Error> {
        let io = upgrade.await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .max_header_list_size(HEADER_LIMIT)
            .handshake(io)
            .await?;
        let generation = self.enter(node, sender, issuer);
        tracing::info!(node, "a node's tunnel is open");
        // Once another has taken its place nothing new is sent here, and it ends with its last stream or its peer.
        let ended = connection.await;
        self.leave(node, generation);
        ended
    }

    fn enter(&self, node: &str, sender: SendRequest<RequestBody>, issuer: Option<Vec<u8>>) -> u64 {
        let mut sessions = self.sessions.lock();
        let generation = sessions.next_generation;
        sessions.next_generation += 1;
        // The agent has given up the old connection, or has a new identity.
        let session = Session {
            generation,
            sender,
            issuer,
        };
        sessions.by_node.insert(node.to_string(), session);
        generation
    }

    fn leave(&self, node: &str, generation: u64) {
        let mut sessions = self.sessions.lock();
        if sessions
            .by_node
            .get(node)
            .is_some_and(|session| session.generation == generation)
        {
            sessions.by_node.remove(node);
        }
    }

    /// Who signed the certificates that the nodes' agents have shown, DER.
    #[must_use]
    pub fn issuers(&self) -> HashMap<String, Option<Vec<u8>>> {
        let sessions = self.sessions.lock();
        let known = sessions.by_node.iter();
        known
            .map(|(node, session)| (node.clone(), session.issuer.clone()))
            .collect()
    }

    /// Nodes with a tunnel, sorted.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self.sessions.lock().by_node.keys().cloned().collect();
        nodes.sort();
        nodes
    }

    /// Sends a request to a node's agent and waits for the response's headers. Request and response bodies run
    /// side by side.
    ///
    /// # Errors
    /// `ServiceUnavailable` (503) without a tunnel; 502 if it breaks or the agent does not answer. The text is
    /// upstream's for a kubelet that cannot be reached.
    pub async fn send(
        &self,
        node: &str,
        path: &str,
        request: &str,
        more: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Incoming>, Status> {
        let sender = self
            .sessions
            .lock()
            .by_node
            .get(node)
            .map(|session| session.sender.clone());
        let Some(mut sender) = sender else {
            let message = format!("error dialing backend: node \"{node}\" has no tunnel to this server");
            return Err(Status::service_unavailable(message));
        };
        let broken = |cause: &dyn std::fmt::Display| {
            Status::failure(
                502,
                "BadGateway",
                format!("error dialing backend: tunnel to node \"{node}\": {cause}"),
            )
        };
        let mut message = Request::post(format!("http://{PROTOCOL}{path}"))
            .header(REQUEST_HEADER, request)
            .body(body)
            .map_err(|e| broken(&e))?;
        message.headers_mut().extend(more);
        let answer = async {
            sender.ready().await?;
            sender.send_request(message).await
        };
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(broken(&"no answer in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, groups: &[&str], node: &str, expected: bool) {
        assert_eq!(may_serve(&User::new(name, groups), node), expected);
    }

    #[test]
    fn only_the_node_itself_may_serve_its_tunnel() {
        check("system:node:a", &["system:nodes", "system:masters"], "a", true);
        check("system:node:a", &["system:nodes"], "b", false);
        check("system:node:a", &["system:masters"], "a", false);
        check("admin", &["system:masters"], "a", false);
        check("system:node:", &["system:nodes"], "", true); // no node is named so
    }
}
