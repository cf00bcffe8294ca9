//! Logs, exec, attach and port-forward: from the client's connection to the node's tunnel.
//!
//! Knows the streaming protocols of Kubernetes' clients. Must not know Pods or who may do what: the caller has
//! found the node, has checked that the container exists, and has authorized the *operation* (exec and attach
//! start as GET with WebSocket and as POST with SPDY; what counts is `create pods/exec`, never the method).
//! Raw bytes flow only after the runtime itself agreed to them, and only then does the client get its `101`.

mod exec;
pub mod forward;
mod logs;
mod options;
mod pipe;
mod spdy;
mod websocket;

use corten_api::Status;
use corten_proto::tunnel::{
    ATTACH_PATH, EXEC_PATH, LOGS_PATH, PORT_FORWARD_PATH, STREAM_PROTOCOL_HEADER, Target,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::body::Body;
use crate::tunnel::Registry;

/// The value of `Upgrade` with which kubectl before 1.31 asks.
const SPDY: &str = "SPDY/3.1";
/// Longest error text taken over from an agent or a runtime, in bytes.
const ERROR_LIMIT: usize = 4 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Log,
    Exec,
    Attach,
    PortForward,
}

/// Where a stream goes, as the caller read it from the Pod; its query is read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTarget {
    pub node: String,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    /// Empty for port-forward.
    pub container: String,
    pub operation: Operation,
}

/// Serves one request.
///
/// # Errors
/// `BadRequest` and `Invalid` for what the query asks; 502 or 503 if the node cannot be reached; what the agent or
/// the runtime answered.
pub async fn handle(
    registry: &Registry,
    parts: Parts,
    target: StreamTarget,
) -> Result<Response<Body>, Status> {
    let query = parts.uri.query().unwrap_or_default().to_string();
    let on = Target {
        namespace: target.namespace.clone(),
        pod: target.pod.clone(),
        uid: target.pod_uid.clone(),
        container: target.container.clone(),
    };
    let (path, request, streams) = match target.operation {
        Operation::Log => {
            let request = options::logs(&query, on)?;
            return logs::serve(registry, &target.node, LOGS_PATH, &request).await;
        }
        Operation::Exec => {
            let exec = options::exec(&query, on)?;
            (EXEC_PATH, corten_proto::tunnel::encode(&exec), exec.streams)
        }
        Operation::Attach => {
            let attach = options::attach(&query, on)?;
            (ATTACH_PATH, corten_proto::tunnel::encode(&attach), attach.streams)
        }
        Operation::PortForward => {
            let forward = corten_proto::tunnel::PortForward { target: on };
            (
                PORT_FORWARD_PATH,
                corten_proto::tunnel::encode(&forward),
                Default::default(),
            )
        }
    };
    let dial = Dial {
        registry,
        node: &target.node,
        path,
        request: &request,
    };
    if asks_for(&parts.headers, SPDY) {
        return pipe::spdy(dial, parts).await;
    }
    if asks_for(&parts.headers, "websocket") {
        return match target.operation {
            Operation::PortForward => websocket::port_forward(dial, parts).await,
            _ => exec::websocket(dial, parts, streams).await,
        };
    }
    // Upstream's words, which kubectl and other clients show.
    Err(Status::bad_request("Upgrade request required"))
}

/// A stream to be opened.
#[derive(Clone, Copy)]
struct Dial<'a> {
    registry: &'a Registry,
    node: &'a str,
    path: &'a str,
    request: &'a str,
}

/// An open stream: bytes of the runtime's SPDY connection.
struct Opened {
    upload: pipe::Upload,
    download: Incoming,
    /// The protocol that the runtime chose among those offered.
    protocol: Option<HeaderValue>,
}

impl Dial<'_> {
    /// Opens the stream and makes sure that the runtime has agreed.
    async fn open(&self, protocols: &[HeaderValue]) -> Result<Opened, Status> {
        let name = HeaderName::from_static(STREAM_PROTOCOL_HEADER);
        let offered: HeaderMap = protocols.iter().map(|p| (name.clone(), p.clone())).collect();
        let (upload, body) = pipe::upload();
        let response = self
            .registry
            .send(self.node, self.path, self.request, offered, body)
            .await?;
        if response.status() != StatusCode::OK {
            return Err(refused(response).await);
        }
        let protocol = response.headers().get(&name).cloned();
        Ok(Opened {
            upload,
            download: response.into_body(),
            protocol,
        })
    }
}

/// The agent's answer as an error for the client.
async fn refused(response: Response<Incoming>) -> Status {
    let code = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.extend(frame.data_ref().into_iter().flatten());
        if text.len() >= ERROR_LIMIT {
            break;
        }
    }
    text.truncate(ERROR_LIMIT);
    let text = String::from_utf8_lossy(&text).trim().to_string();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::failure(404, "NotFound", text),
        _ => Status::internal(text),
    }
}

/// Whether the client asks to go over to this protocol.
pub(crate) fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let has = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
        values
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, protocol)
}

/// `101`, with the chosen protocol if there is one.
fn switching(protocol: &'static str, more: Option<(HeaderName, HeaderValue)>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    headers.extend(more.map(|(name, value)| (Some(name), value)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(connection: &'static str, upgrade: &'static str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        assert_eq!(asks_for(&headers, SPDY), expected);
    }

    #[test]
    fn upgrades_are_recognised() {
        check("Upgrade", "SPDY/3.1", true);
        check("keep-alive, Upgrade", "spdy/3.1", true);
        check("close", "SPDY/3.1", false);
        check("Upgrade", "websocket", false);
        assert!(!asks_for(&HeaderMap::new(), SPDY));
    }
}
