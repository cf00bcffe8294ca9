//! Calls this server makes to others: webhooks and aggregated API servers.
//!
//! Knows HTTPS, time limits and bounds. Must not know what is said. A name is resolved once for each connection, what it
//! resolves to is checked, and no redirect is followed.

mod dial;
pub mod tls;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::Inner;
use crate::streaming::forward::Refused;

pub use dial::{Place, Wire, dial};
pub use tls::Trust;

/// Longest answer that is read, in bytes: a list of objects that was sent, and as much again.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Calls of this server that may be under way; others wait within their time.
const MAX_CALLS: usize = 256;
/// Connections to one place that are kept when they are not used, and for how long.
const MAX_IDLE: usize = 8;
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Longest part of a bad answer that is shown, in bytes.
const SHOWN: usize = 512;

/// Bounds what this server has under way.
pub struct Calls(Semaphore);

impl Default for Calls {
    fn default() -> Calls {
        Calls(Semaphore::new(MAX_CALLS))
    }
}

/// Why a call has no good answer, in the words of Go's HTTP client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// One place that is called again and again, with the connections to it.
pub struct Target {
    place: Place,
    /// Path and query, starting with `/`.
    path: String,
    /// In PEM; empty: what the host trusts.
    bundle: Vec<u8>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    idle: Mutex<VecDeque<(SendRequest<Full<Bytes>>, Instant)>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target(https://{}{})", self.place.authority(), self.path)
    }
}

impl Target {
    #[must_use]
    pub fn new(place: Place, path: String, bundle: Vec<u8>) -> Target {
        Target {
            place,
            path,
            bundle,
            tls: OnceLock::new(),
            idle: Mutex::default(),
        }
    }

    /// Reads a webhook's `clientConfig`.
    ///
    /// # Errors
    /// What cannot be read; validation finds the same first.
    pub fn of_client_config(config: &Value) -> Result<Target, String> {
        use base64::Engine as _;
        let bundle = match config["caBundle"].as_str().unwrap_or_default() {
            "" => Vec::new(),
            text => base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| format!("caBundle: {error}"))?,
        };
        if let Some(url) = config["url"].as_str() {
            let uri: http::Uri = url.parse().map_err(|error| format!("url: {error}"))?;
            let name = uri.host().ok_or("url: host must be specified")?;
            let place = Place::Host {
                name: name.trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(443),
            };
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return Ok(Target::new(place, path.to_owned(), bundle));
        }
        let service = &config["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_u64().unwrap_or(443);
        let place = Place::Service {
            namespace: text("namespace"),
            name: text("name"),
            port: u16::try_from(port).map_err(|_| "service.port: out of range")?,
        };
        let path = text("path");
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        Ok(Target::new(place, path, bundle))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let made = self.tls.get_or_init(|| {
            let trust = match self.bundle.as_slice() {
                [] => Trust::Host,
                pem => Trust::Bundle(pem),
            };
            tls::client(&trust, None)
        });
        made.clone()
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        while let Some((sender, since)) = idle.pop_back() {
            if !sender.is_closed() && since.elapsed() < IDLE_LIMIT {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for the next call, for a while.
    fn put_idle(self: &Arc<Self>, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push_back((sender, Instant::now()));
        drop(idle);
        let target: Weak<Target> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_LIMIT).await;
            if let Some(target) = target.upgrade() {
                target
                    .idle
                    .lock()
                    .retain(|(_, since)| since.elapsed() < IDLE_LIMIT);
            }
        });
    }
}

/// A TLS connection to a place.
///
/// # Errors
/// Why there is none.
pub async fn connect(
    inner: &Inner,
    place: &Place,
    tls: Arc<ClientConfig>,
) -> Result<(Box<dyn Wire>, Refused), String> {
    let (wire, refused) = dial(inner, place).await?;
    let name = ServerName::try_from(place.server_name()).map_err(|error| error.to_string())?;
    let connected = tokio_rustls::TlsConnector::from(tls).connect(name, wire).await;
    match connected {
        Ok(wire) => Ok((Box::new(wire), refused)),
        Err(error) => Err(refused.get().unwrap_or_else(|| tls::in_go_words(&error))),
    }
}

impl Inner {
    /// Posts JSON and returns the body of a good answer.
    ///
    /// # Errors
    /// No connection, no answer in time, an answer that is too long, or one that is not 200.
    pub(crate) async fn call(
        &self,
        target: &Arc<Target>,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let separator = if target.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}timeout={}s", target.path, limit.as_secs().max(1));
        let failed = |why: &str| {
            let authority = target.place.authority();
            // As Go shows URLs: the port of the scheme is not named for a URL that did not name it.
            CallError(format!("Post \"https://{authority}{path}\": {why}"))
        };
        let exchange = async {
            let _permit = self
                .calls
                .0
                .acquire()
                .await
                .map_err(|error| failed(&error.to_string()))?;
            let response = self.post(target, &path, body).await.map_err(|why| failed(&why))?;
            answer(target, response).await.map_err(|why| match why {
                Broken::Said(why) => CallError(why),
                Broken::Off(why) => failed(&why),
            })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }

    async fn post(
        &self,
        target: &Arc<Target>,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|error| format!("{error}"))?;
        let host = HeaderValue::from_str(&target.place.authority()).map_err(|error| error.to_string())?;
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::CONTENT_TYPE, json.clone());
        headers.insert(header::ACCEPT, json);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("corten-admission"));
        // A connection that waited may be gone: what it has not begun to send goes over another.
        while let Some(mut sender) = target.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().to_string()),
                },
            }
        }
        let tls = target.tls()?;
        let (wire, refused) = connect(self, &target.place, tls).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an outbound connection ended");
            }
        });
        match sender.send_request(request).await {
            Ok(response) => Ok((response, sender)),
            Err(error) => Err(refused
                .get()
                .unwrap_or_else(|| match error.is_incomplete_message() {
                    true => "EOF".into(),
                    false => error.to_string(),
                })),
        }
    }
}

enum Broken {
    /// The other side said something that is no good answer.
    Said(String),
    Off(String),
}

/// Reads an answer within its bound, and keeps the connection if it is whole.
async fn answer(
    target: &Arc<Target>,
    (response, sender): (Response<Incoming>, SendRequest<Full<Bytes>>),
) -> Result<Bytes, Broken> {
    let (parts, mut body) = response.into_parts();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Broken::Off(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > MAX_ANSWER_BYTES {
            return Err(Broken::Off(format!(
                "answer is longer than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        all.extend_from_slice(&data);
    }
    target.put_idle(sender);
    let all = all.freeze();
    match parts.status {
        StatusCode::OK => Ok(all),
        status => Err(Broken::Said(refusal(status, &all))),
    }
}

/// What Go's REST client makes of an answer that is no Status. Source: apimachinery's `NewGenericServerResponse`.
fn refusal(code: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let text = text.trim();
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => text.to_owned(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500 => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {} but did not return more information", code.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn client_configs_name_a_place() {
        for (config, want) in [
            (
                json!({"url": "https://h.example:8443/a/b?c=d"}),
                "Target(https://h.example:8443/a/b?c=d)",
            ),
            (json!({"url": "https://[::1]/"}), "Target(https://[::1]:443/)"),
            (
                json!({"service": {"namespace": "n", "name": "s", "path": "/p", "port": 8443}}),
                "Target(https://s.n.svc:8443/p)",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                "Target(https://s.n.svc:443/)",
            ),
        ] {
            let target = Target::of_client_config(&config).expect("a place");
            assert_eq!(format!("{target:?}"), want);
        }
    }
}
