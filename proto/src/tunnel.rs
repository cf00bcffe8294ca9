//! What an API server and a node agent say to each other over the node tunnel. Both ends are ours.
//!
//! The agent opens a TLS connection to the API port and sends `POST /apis/corten.dev/v1/nodes/{name}/tunnel` with
//! `Upgrade: corten-tunnel`. After the `101` the roles turn round: the server is an HTTP/2 client on that
//! connection, the agent an HTTP/2 server. Each request is a `POST` to one of the paths below; what is asked for
//! stands in one header as base64 of JSON, because a command line does not fit a path. Logs are the response's
//! body. For the others, request and response bodies are one raw byte stream each way: the SPDY connection to the
//! runtime's streaming server, whose handshake the agent has done.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Value of the `Upgrade` header.
pub const PROTOCOL: &str = "corten-tunnel";
/// Carries the request, see [`encode`].
pub const REQUEST_HEADER: &str = "corten-request";
/// Protocols that a client of exec, attach or port-forward offers, and the one that the runtime chose.
pub const STREAM_PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// Largest header block that the agent accepts, in bytes; command lines may be long.
pub const HEADER_LIMIT: u32 = 256 << 10;

pub const LOGS_PATH: &str = "/containerLogs";
pub const EXEC_PATH: &str = "/exec";
pub const ATTACH_PATH: &str = "/attach";
pub const PORT_FORWARD_PATH: &str = "/portForward";

/// Where the agent of a node asks for its tunnel.
pub fn path(node: &str) -> String {
    format!("/apis/corten.dev/v1/nodes/{node}/tunnel")
}

/// A container of a Pod, or the Pod itself if `container` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Target {
    pub namespace: String,
    pub pod: String,
    /// Of the Pod that the client was authorized for.
    pub uid: String,
    #[serde(default)]
    pub container: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Logs {
    pub target: Target,
    pub follow: bool,
    pub previous: bool,
    /// Before now, by the node's clock.
    pub since_seconds: Option<i64>,
    /// RFC 3339.
    pub since_time: Option<String>,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// `All`, `Stdout` or `Stderr`.
    pub stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    pub target: Target,
    pub command: Vec<String>,
    #[serde(flatten)]
    pub streams: Streams,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attach {
    pub target: Target,
    #[serde(flatten)]
    pub streams: Streams,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortForward {
    pub target: Target,
}

/// The value of [`REQUEST_HEADER`].
pub fn encode(request: &impl Serialize) -> String {
    STANDARD.encode(serde_json::to_vec(request).expect("plain structs of strings and numbers"))
}

/// `None` for anything that [`encode`] did not make.
pub fn decode<T: DeserializeOwned>(header: &[u8]) -> Option<T> {
    serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(request: T) {
        assert_eq!(decode::<T>(encode(&request).as_bytes()), Some(request));
    }

    #[test]
    fn requests_arrive_as_they_were_sent() {
        let target = Target {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        let streams = Streams {
            stdin: true,
            tty: true,
            ..Streams::default()
        };
        check(Exec {
            target: target.clone(),
            command: vec!["sh".into(), "ä\n".into()],
            streams,
        });
        check(Logs {
            target,
            tail_lines: Some(0),
            stream: "All".into(),
            ..Logs::default()
        });
        assert_eq!(decode::<Exec>(b"%"), None);
    }
}
