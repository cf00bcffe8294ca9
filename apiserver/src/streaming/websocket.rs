//! WebSocket: the handshake, and port-forward, whose SPDY bytes travel inside binary messages.

use base64::Engine as _;
use corten_api::Status;
use futures::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::pipe::next;
use super::{Dial, Opened, switching};
use crate::body::Body;

/// Largest message taken from a client, in bytes. kubectl sends up to 32 KiB.
const MESSAGE_LIMIT: usize = 4 << 20;
/// Says that the rest names a SPDY protocol, to be spoken inside the WebSocket.
const TUNNELLED: &str = "SPDY/3.1+";

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A client's wish for a WebSocket, checked.
pub struct Handshake {
    accept: HeaderValue,
    /// Subprotocols in the client's order.
    pub offered: Vec<String>,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// # Errors
    /// `BadRequest` for what is no handshake of RFC 6455.
    pub fn read(parts: Parts) -> Result<Handshake, Status> {
        let bad = |what: &str| Status::bad_request(format!("websocket: {what}"));
        let value = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
        if parts.method != http::Method::GET {
            return Err(bad("the request method is not GET"));
        }
        if value(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
            return Err(bad(
                "unsupported version: 13 not found in 'Sec-Websocket-Version' header",
            ));
        }
        let key =
            value(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("'Sec-WebSocket-Key' header is missing"))?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(key);
        if !decoded.is_ok_and(|key| key.len() == 16) {
            return Err(bad(
                "'Sec-WebSocket-Key' header must be Base64 encoded value of 16-byte in length",
            ));
        }
        let accept = HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is a header value");
        let offered = offered(&parts.headers);
        Ok(Handshake {
            accept,
            offered,
            upgrade: hyper::upgrade::on(Request::from_parts(parts, ())),
        })
    }

    /// The `101`, and the socket to come.
    pub fn accept(self, protocol: &str) -> Result<(Response<Body>, Pending), Status> {
        let protocol = HeaderValue::from_str(protocol);
        let protocol = protocol.map_err(|_| Status::bad_request("websocket: bad subprotocol"))?;
        let mut response = switching("websocket", Some((header::SEC_WEBSOCKET_ACCEPT, self.accept)));
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok((response, Pending(self.upgrade)))
    }
}

/// A socket that exists once the `101` has been sent.
pub struct Pending(OnUpgrade);

impl Pending {
    pub async fn socket(self) -> Result<Socket, hyper::Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(32 << 10)
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let io = TokioIo::new(self.0.await?);
        Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_string())
        .filter(|v| !v.is_empty())
        .collect()
}

/// The SPDY protocols offered for the inside of the WebSocket.
fn tunnelled(offered: &[String]) -> Vec<HeaderValue> {
    let inner = offered
        .iter()
        .filter_map(|protocol| protocol.strip_prefix(TUNNELLED));
    inner
        .filter(|p| p.ends_with(".k8s.io"))
        .filter_map(|p| HeaderValue::from_str(p).ok())
        .collect()
}

pub async fn port_forward(dial: Dial<'_>, parts: Parts) -> Result<Response<Body>, Status> {
    let handshake = Handshake::read(parts)?;
    let protocols = tunnelled(&handshake.offered);
    if protocols.is_empty() {
        return Err(Status::bad_request(
            "unable to upgrade: no tunneling spdy protocols provided",
        ));
    }
    let opened = dial.open(&protocols).await?;
    let chosen = opened
        .protocol
        .as_ref()
        .and_then(|p| p.to_str().ok())
        .unwrap_or("portforward.k8s.io");
    let (response, pending) = handshake.accept(&format!("{TUNNELLED}{chosen}"))?;
    tokio::spawn(async move {
        match pending.socket().await {
            Ok(socket) => copy(socket, opened).await,
            Err(error) => tracing::debug!(%error, "a client left before its stream was open"),
        }
    });
    Ok(response)
}

/// Until either side has ended.
async fn copy(socket: Socket, opened: Opened) {
    let (mut sink, mut stream) = socket.split();
    let Opened {
        upload, mut download, ..
    } = opened;
    let up = async {
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Message::Binary(bytes) if !bytes.is_empty() => bytes,
                Message::Close(_) => return,
                // Pings are answered by the library; text is not part of this protocol.
                _ => continue,
            };
            if upload.send(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(bytes) = next(&mut download).await {
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await; // it may be gone already
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &'static str, expected: &[&str]) {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(header));
        assert_eq!(tunnelled(&offered(&headers)), expected);
    }

    #[test]
    fn spdy_is_spoken_inside_only_when_offered() {
        check("SPDY/3.1+portforward.k8s.io", &["portforward.k8s.io"]);
        check(
            "v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io",
            &["portforward.k8s.io"],
        );
        check("v4.channel.k8s.io", &[]);
        check("SPDY/3.1+else", &[]);
    }

    #[test]
    fn handshakes_are_checked() {
        let read = |key: &str| {
            let request = Request::get("/")
                .header("Sec-WebSocket-Version", "13")
                .header("Sec-WebSocket-Key", key);
            Handshake::read(request.body(()).unwrap().into_parts().0).map(|h| h.accept)
        };
        // The example of RFC 6455, section 1.3.
        assert_eq!(
            read("dGhlIHNhbXBsZSBub25jZQ==").unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(read("short").unwrap_err().code, 400);
    }
}
