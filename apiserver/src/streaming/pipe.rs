//! Bytes from one connection to another, unread: what a SPDY client and the runtime say to each other.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use corten_api::Status;
use corten_proto::tunnel::STREAM_PROTOCOL_HEADER;
use futures::StreamExt as _;
use http::request::Parts;
use http::{HeaderName, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Dial, Opened, SPDY, switching};
use crate::body::{Body, RequestBody};

/// Bytes read at once.
const CHUNK: usize = 32 << 10;
/// Pieces that wait for the tunnel.
const WAITING: usize = 4;

/// The way to the node. Dropping it ends the request's body.
pub type Upload = mpsc::Sender<Bytes>;

/// A request body that is fed by hand.
pub fn upload() -> (Upload, RequestBody) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    (
        sender,
        StreamBody::new(frames)
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

/// A SPDY client: it gets the runtime's own handshake and then the runtime's own bytes.
pub async fn spdy(dial: Dial<'_>, parts: Parts) -> Result<Response<Body>, Status> {
    let name = HeaderName::from_static(STREAM_PROTOCOL_HEADER);
    let offered: Vec<_> = parts.headers.get_all(&name).iter().cloned().collect();
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
    let opened = dial.open(&offered).await?;
    let chosen = opened.protocol.clone().map(|protocol| (name, protocol));
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => copy(TokioIo::new(client), opened).await,
            Err(error) => tracing::debug!(%error, "a client left before its stream was open"),
        }
    });
    Ok(switching(SPDY, chosen))
}

/// Until either side has ended; SPDY knows no half-closed connections.
async fn copy(client: impl AsyncRead + AsyncWrite, opened: Opened) {
    let (mut reader, mut writer) = tokio::io::split(client);
    let Opened {
        upload, mut download, ..
    } = opened;
    let up = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while let Ok(1..) = reader.read_buf(&mut buffer).await {
            if upload.send(buffer.split().freeze()).await.is_err() {
                break;
            }
            buffer.reserve(CHUNK);
        }
    };
    let down = async {
        while let Some(bytes) = next(&mut download).await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    let _ = writer.shutdown().await; // it may be gone already
}

/// The next piece from the node; `None` at its end, good or bad.
pub async fn next(download: &mut Incoming) -> Option<Bytes> {
    loop {
        match download.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a stream from a node broke");
                return None;
            }
        }
    }
}
