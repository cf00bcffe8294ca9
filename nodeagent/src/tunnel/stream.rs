//! From a request through the tunnel to the runtime's streaming server on this machine, byte for byte.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_proto::tunnel::STREAM_PROTOCOL_HEADER;
use futures::StreamExt as _;
use http::{HeaderName, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::HandlerError;
use super::serve::{Body, BoxError};

const SPDY: &str = "SPDY/3.1";
/// Bytes read at once.
const CHUNK: usize = 32 << 10;
/// Pieces that wait for the tunnel.
const WAITING: usize = 4;
/// For the connection to the runtime and its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Longest error text taken from the runtime, in bytes.
const ERROR_LIMIT: usize = 4 << 10;

/// Opens `url` as a SPDY connection, offers the client's protocols, and joins it with the request.
pub async fn join(url: &str, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
    let (head, upload) = request.into_parts();
    let open = tokio::time::timeout(ANSWER_LIMIT, open(url, &head.headers));
    let timed_out = |_| HandlerError::Internal("the runtime's streaming server does not answer".into());
    let (protocol, connection) = open.await.map_err(timed_out)??;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(copy(connection, upload, sender));
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    if let Some(protocol) = protocol {
        response
            .headers_mut()
            .insert(HeaderName::from_static(STREAM_PROTOCOL_HEADER), protocol);
    }
    Ok(response)
}

/// The runtime's URL must lead to this very machine, whoever wrote it.
fn address(url: &str) -> Result<(SocketAddr, Uri), HandlerError> {
    let bad = || HandlerError::Internal(format!("the runtime's streaming URL {url:?} is not local HTTP"));
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let address: IpAddr = host.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("http") || !address.is_loopback() {
        return Err(bad());
    }
    let port = uri.port_u16().ok_or_else(bad)?;
    Ok((SocketAddr::new(address, port), uri))
}

async fn open(
    url: &str,
    client: &http::HeaderMap,
) -> Result<(Option<http::HeaderValue>, Upgraded), HandlerError> {
    let internal =
        |e: &dyn std::fmt::Display| HandlerError::Internal(format!("error dialing the runtime: {e}"));
    let (address, uri) = address(url)?;
    let tcp = TcpStream::connect(address).await.map_err(|e| internal(&e))?;
    tcp.set_nodelay(true).map_err(|e| internal(&e))?;
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(tcp))
        .await
        .map_err(|e| internal(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the runtime ended");
        }
    });
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::post(target)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, SPDY)
        .body(Empty::new())
        .map_err(|e| internal(&e))?;
    let name = HeaderName::from_static(STREAM_PROTOCOL_HEADER);
    for protocol in client.get_all(&name) {
        request.headers_mut().append(&name, protocol.clone());
    }
    let response = sender.send_request(request).await.map_err(|e| internal(&e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    let upgrade = response
        .headers()
        .get(header::UPGRADE)
        .and_then(|u| u.to_str().ok());
    if !upgrade.is_some_and(|u| u.eq_ignore_ascii_case(SPDY)) {
        return Err(internal(&"it went over to another protocol"));
    }
    let protocol = response.headers().get(&name).cloned();
    let connection = hyper::upgrade::on(response).await.map_err(|e| internal(&e))?;
    Ok((protocol, connection))
}

async fn refused(response: Response<Incoming>) -> HandlerError {
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
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => HandlerError::BadRequest(text),
        StatusCode::NOT_FOUND => HandlerError::NotFound(text),
        _ => HandlerError::Internal(format!("the runtime answered {code}: {text}")),
    }
}

/// Until either side has ended: SPDY knows no half-closed connections, and a client that is gone must not
/// leave a shell behind.
async fn copy(runtime: Upgraded, mut upload: Incoming, download: mpsc::Sender<Bytes>) {
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(runtime));
    let up = async {
        while let Some(Ok(frame)) = upload.frame().await {
            let Ok(bytes) = frame.into_data() else { continue };
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while let Ok(1..) = reader.read_buf(&mut buffer).await {
            if download.send(buffer.split().freeze()).await.is_err() {
                return;
            }
            buffer.reserve(CHUNK);
        }
    };
    let gone = download.closed();
    tokio::select! {
        () = up => {}
        () = down => {}
        () = gone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<&str>) {
        assert_eq!(
            address(url).ok().map(|(a, _)| a.to_string()).as_deref(),
            expected,
            "{url}"
        );
    }

    #[test]
    fn only_this_machine_is_dialled() {
        check("http://127.0.0.1:4000/exec/token", Some("127.0.0.1:4000"));
        check("http://[::1]:4000/exec/token", Some("[::1]:4000"));
        check("http://10.0.0.1:4000/exec/token", None);
        check("http://example.org:4000/", None);
        check("https://127.0.0.1:4000/", None);
        check("http://127.0.0.1/", None);
    }
}
