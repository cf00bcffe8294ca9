//! One connection to a port of a Pod, for the server itself: what `kubectl port-forward` does, spoken from this side.
//!
//! The runtime's SPDY connection carries a pair of streams: data, and an error text if the port cannot be reached.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::BytesMut;
use corten_api::Status;
use corten_proto::tunnel::{PORT_FORWARD_PATH, PortForward, Target, encode};
use http::HeaderValue;
use hyper::body::Incoming;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
};

use super::pipe::{Upload, next};
use super::spdy::{Decoder, Encoder, Frame};
use super::{Dial, Opened};
use crate::tunnel::Registry;

const PROTOCOL: &str = "portforward.k8s.io";
/// Clients use odd numbers.
const ERROR: u32 = 1;
const DATA: u32 = 3;
/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;
/// Longest error text kept, in bytes.
const ERROR_LIMIT: usize = 4 << 10;

/// A port of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub node: String,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub number: u16,
}

/// Why the runtime could not reach the port, once it said so.
#[derive(Clone, Default)]
pub struct Refused(Arc<OnceLock<String>>);

impl Refused {
    pub fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// Bytes to and from the port. Dropping it ends the connection.
pub struct Connection {
    io: DuplexStream,
    refused: Refused,
}

impl Connection {
    pub fn refused(&self) -> Refused {
        self.refused.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// # Errors
/// The node cannot be reached, or its runtime refuses. That nobody listens at the port is told later: see [`Refused`].
pub async fn open(tunnels: &Registry, port: &Port) -> Result<Connection, Status> {
    let target = Target {
        namespace: port.namespace.clone(),
        pod: port.pod.clone(),
        uid: port.pod_uid.clone(),
        container: String::new(),
    };
    let request = encode(&PortForward { target });
    let dial = Dial {
        registry: tunnels,
        node: &port.node,
        path: PORT_FORWARD_PATH,
        request: &request,
    };
    let opened = dial.open(&[HeaderValue::from_static(PROTOCOL)]).await?;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let refused = Refused::default();
    tokio::spawn(carry(theirs, opened, port.number, refused.clone()));
    Ok(Connection { io: ours, refused })
}

/// Until either side has ended.
async fn carry(io: DuplexStream, opened: Opened, port: u16, refused: Refused) {
    let Opened { upload, download, .. } = opened;
    let (reader, writer) = tokio::io::split(io);
    let mut encoder = Encoder::default();
    let number = port.to_string();
    let headers = |kind: &'static str| [("streamtype", kind), ("port", &*number), ("requestid", "0")];
    let opening = [
        encoder.syn_stream(ERROR, &headers("error")),
        // Nothing is said on the error stream from this side.
        encoder.data(ERROR, b"", true),
        encoder.syn_stream(DATA, &headers("data")),
    ];
    for frame in opening {
        if upload.send(frame).await.is_err() {
            return;
        }
    }
    let pings = upload.clone();
    tokio::join!(
        up(reader, upload, encoder),
        down(writer, download, pings, refused)
    );
}

async fn up(mut reader: ReadHalf<DuplexStream>, upload: Upload, encoder: Encoder) {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while let Ok(1..) = reader.read_buf(&mut buffer).await {
        let frame = encoder.data(DATA, &buffer.split(), false);
        if upload.send(frame).await.is_err() {
            return;
        }
        buffer.reserve(BUFFER);
    }
    let _ = upload.send(encoder.data(DATA, b"", true)).await; // it may be gone already
}

async fn down(mut writer: WriteHalf<DuplexStream>, mut download: Incoming, pings: Upload, refused: Refused) {
    let (mut decoder, answers) = (Decoder::default(), Encoder::default());
    let mut why: Vec<u8> = Vec::new();
    'frames: while let Some(bytes) = next(&mut download).await {
        decoder.push(&bytes);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Ok(Some(Frame::Data {
                    stream: DATA,
                    data,
                    fin,
                })) => {
                    if writer.write_all(&data).await.is_err() || fin {
                        break 'frames;
                    }
                }
                Ok(Some(Frame::Data {
                    stream: ERROR, data, ..
                })) => {
                    let room = ERROR_LIMIT.saturating_sub(why.len()).min(data.len());
                    why.extend_from_slice(&data[..room]);
                    if !why.is_empty() {
                        break 'frames;
                    }
                }
                Ok(Some(Frame::Ping { id })) if id % 2 == 0 => {
                    let _: Result<(), _> = pings.send(answers.ping(id)).await; // it may be gone already
                }
                Ok(Some(Frame::Reset { .. } | Frame::GoAway { .. })) => break 'frames,
                Ok(Some(_)) => {}
                Err(error) => {
                    tracing::debug!(%error, "a forwarded connection broke");
                    break 'frames;
                }
            }
        }
    }
    if !why.is_empty() {
        let _ = refused.0.set(String::from_utf8_lossy(&why).trim().to_owned()); // the first text stands
    }
    let _ = writer.shutdown().await; // it may be gone already
}
