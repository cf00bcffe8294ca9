//! What the API server asks through the tunnel, answered.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::tunnel::{
    ATTACH_PATH, Attach, EXEC_PATH, Exec, LOGS_PATH, Logs, PORT_FORWARD_PATH, PortForward, REQUEST_HEADER,
    Target, decode,
};
use futures::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use super::stream;
use super::{ContainerRef, HandlerError, LogOptions, LogStream, NodeHandlers};
use crate::runtime::{AttachRequest, ExecRequest, Runtime, RuntimeError};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Serves all tunnels of this agent.
pub struct Server {
    pub handlers: Arc<dyn NodeHandlers>,
    pub runtime: Arc<dyn Runtime>,
}

impl Server {
    /// Errors become a status code and a text; the API server makes a `Status` of them.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_string();
        let answer = match path.as_str() {
            LOGS_PATH => self.logs(request.headers()).await,
            EXEC_PATH => self.exec(request).await,
            ATTACH_PATH => self.attach(request).await,
            PORT_FORWARD_PATH => self.port_forward(request).await,
            _ => Err(HandlerError::NotFound(format!("{path} is not served"))),
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(path, %error, "a request through the tunnel failed");
            refusal(&error)
        })
    }

    async fn logs(&self, headers: &HeaderMap) -> Result<Response<Body>, HandlerError> {
        let logs: Logs = read(headers)?;
        let options = log_options(&logs, Timestamp::now())?;
        let lines = self.handlers.logs(&container(logs.target), &options).await?;
        let frames = lines.map(|piece| piece.map(Frame::data).map_err(|e| Box::new(e) as BoxError));
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    }

    async fn exec(&self, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
        let exec: Exec = read(request.headers())?;
        let container_id = self.handlers.container_id(&container(exec.target)).await?;
        let wanted = ExecRequest {
            container_id,
            cmd: exec.command,
            tty: exec.streams.tty,
            stdin: exec.streams.stdin,
            stdout: exec.streams.stdout,
            stderr: exec.streams.stderr,
        };
        let url = self.runtime.exec_url(&wanted).await.map_err(refused)?;
        stream::join(&url, request).await
    }

    async fn attach(&self, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
        let attach: Attach = read(request.headers())?;
        let container_id = self.handlers.container_id(&container(attach.target)).await?;
        let wanted = AttachRequest {
            container_id,
            tty: attach.streams.tty,
            stdin: attach.streams.stdin,
            stdout: attach.streams.stdout,
            stderr: attach.streams.stderr,
        };
        let url = self.runtime.attach_url(&wanted).await.map_err(refused)?;
        stream::join(&url, request).await
    }

    async fn port_forward(&self, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
        let forward: PortForward = read(request.headers())?;
        let sandbox_id = self.handlers.sandbox_id(&container(forward.target)).await?;
        // Ports are named by the streams that the client opens.
        let url = self
            .runtime
            .port_forward_url(&sandbox_id, &[])
            .await
            .map_err(refused)?;
        stream::join(&url, request).await
    }
}

fn read<T: DeserializeOwned>(headers: &HeaderMap) -> Result<T, HandlerError> {
    let request = headers
        .get(REQUEST_HEADER)
        .and_then(|header| decode(header.as_bytes()));
    request.ok_or_else(|| HandlerError::BadRequest(format!("{REQUEST_HEADER} cannot be read")))
}

fn container(target: Target) -> ContainerRef {
    ContainerRef {
        namespace: target.namespace,
        pod: target.pod,
        uid: target.uid,
        container: target.container,
    }
}

fn log_options(logs: &Logs, now: Timestamp) -> Result<LogOptions, HandlerError> {
    let since = match (logs.since_seconds, &logs.since_time) {
        // Further back than there is time means all of it.
        (Some(seconds), _) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => {
            let bad = |e: jiff::Error| HandlerError::BadRequest(format!("sinceTime {time:?}: {e}"));
            Some(time.parse().map_err(bad)?)
        }
        (None, None) => None,
    };
    Ok(LogOptions {
        follow: logs.follow,
        previous: logs.previous,
        since,
        timestamps: logs.timestamps,
        tail_lines: logs.tail_lines,
        limit_bytes: logs.limit_bytes,
        stream: match logs.stream.as_str() {
            "Stdout" => LogStream::Stdout,
            "Stderr" => LogStream::Stderr,
            _ => LogStream::All,
        },
    })
}

fn refused(error: RuntimeError) -> HandlerError {
    match error {
        RuntimeError::NotFound(text) => HandlerError::NotFound(text),
        RuntimeError::Invalid(text) => HandlerError::BadRequest(text),
        other => HandlerError::Internal(other.to_string()),
    }
}

fn refusal(error: &HandlerError) -> Response<Body> {
    let code = match error {
        HandlerError::NotFound(_) => StatusCode::NOT_FOUND,
        HandlerError::BadRequest(_) => StatusCode::BAD_REQUEST,
        HandlerError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = Full::from(error.to_string())
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(text);
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(since_seconds: Option<i64>, since_time: Option<&str>, expected: Result<Option<&str>, ()>) {
        let logs = Logs {
            since_seconds,
            since_time: since_time.map(String::from),
            ..Logs::default()
        };
        let since = log_options(&logs, "2026-01-01T00:01:00Z".parse().unwrap())
            .map(|o| o.since)
            .map_err(|_| ());
        assert_eq!(since, expected.map(|time| time.map(|t| t.parse().unwrap())));
    }

    #[test]
    fn since_is_counted_on_the_nodes_clock() {
        check(None, None, Ok(None));
        check(Some(60), None, Ok(Some("2026-01-01T00:00:00Z")));
        check(Some(i64::MAX), None, Ok(None));
        check(
            None,
            Some("2025-12-31T23:00:00.5Z"),
            Ok(Some("2025-12-31T23:00:00.5Z")),
        );
        check(None, Some("yesterday"), Err(()));
    }
}
