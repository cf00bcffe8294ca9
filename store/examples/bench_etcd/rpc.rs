//! As much of gRPC and of etcd's messages as the comparison needs, the same for both sides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use corten_store::{Entry, Op, Store, StoreError, Txn};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Windows of one connection and of one call: a range of 10,000 fits.
const WINDOW: u32 = 16 << 20;
/// What the client takes in one frame, from whoever cares to use it.
const FRAME: u32 = 256 << 10;

pub enum Call {
    Put { key: Bytes, value: Bytes },
    Range { key: Bytes, end: Bytes },
}

impl Call {
    pub fn get(key: &str) -> Call {
        Call::Range {
            key: Bytes::from(key.to_owned()),
            end: Bytes::new(),
        }
    }

    /// All keys that start with `prefix`, whose last byte is not the largest.
    pub fn range(prefix: &str) -> Call {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("not empty") += 1;
        Call::Range {
            key: Bytes::from(prefix.to_owned()),
            end: end.into(),
        }
    }
}

#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Whole>,
    authority: String,
}

pub type Error = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Client, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Client {
            sender,
            authority: address.to_string(),
        })
    }

    /// Bytes of the answer.
    pub async fn call(&self, call: &Call) -> Result<usize, Error> {
        let (method, message) = encode(call);
        Ok(self.ask(method, message).await?.0)
    }

    /// How often one of our servers has synced its log.
    pub async fn fsyncs(&self) -> Result<f64, Error> {
        let (_, last) = self.ask("Fsyncs", framed(BytesMut::zeroed(5))).await?;
        let number = last.get(5..).and_then(|bytes| bytes.try_into().ok());
        Ok(number.map_or(f64::NAN, |bytes| u64::from_le_bytes(bytes) as f64))
    }

    /// Bytes of the answer, and the last piece of it.
    async fn ask(&self, method: &str, message: Bytes) -> Result<(usize, Bytes), Error> {
        let request = Request::post(format!("http://{}/etcdserverpb.KV/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Whole::new(message, false))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let mut status = response.headers().get("grpc-status").cloned();
        let (length, last, trailers) = drain(response.into_body()).await?;
        status = status.or_else(|| trailers?.get("grpc-status").cloned());
        match status {
            Some(status) if status == "0" => Ok((length, last)),
            other => Err(format!("grpc-status {other:?}").into()),
        }
    }
}

async fn drain(mut body: Incoming) -> Result<(usize, Bytes, Option<HeaderMap>), Error> {
    let (mut length, mut last, mut trailers) = (0, Bytes::new(), None);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) => (length, last) = (length + data.len(), data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((length, last, trailers))
}

/// How often etcd has synced its log, from its metrics.
pub async fn etcd_fsyncs(address: SocketAddr) -> Result<f64, Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let name = "etcd_disk_wal_fsync_duration_seconds_count ";
    let number = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(number.ok_or("no such metric")?.trim().parse()?)
}

fn field(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(number << 3 | 2);
        varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn encode(call: &Call) -> (&'static str, Bytes) {
    let mut out = BytesMut::with_capacity(1200);
    let (name, fields) = match call {
        Call::Put { key, value } => ("Put", [key, value]),
        Call::Range { key, end } => ("Range", [key, end]),
    };
    out.put_slice(&[0; 5]);
    for (number, bytes) in (1..).zip(fields) {
        field(&mut out, number, bytes);
    }
    (name, framed(out))
}

/// The length goes in front, as gRPC wants it.
fn framed(mut out: BytesMut) -> Bytes {
    let length = (out.len() - 5) as u32;
    out[1..5].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// The first two fields of a message that has only fields of bytes.
fn decode(mut message: Bytes) -> [Bytes; 2] {
    let mut fields = [Bytes::new(), Bytes::new()];
    message.advance(5);
    while message.has_remaining() {
        let number = usize::from(message.get_u8() >> 3);
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = message.get_u8();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        fields[number - 1] = message.split_to(length);
    }
    fields
}

/// A body that is there already, with the trailers of a call that went well, if it is an answer.
pub struct Whole {
    data: Option<Bytes>,
    trailers: bool,
}

impl Whole {
    fn new(data: Bytes, trailers: bool) -> Whole {
        Whole {
            data: Some(data),
            trailers,
        }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut self.trailers) {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.trailers
    }
}

pub async fn serve(listener: TcpListener, store: Store) {
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        let _ = stream.set_nodelay(true);
        let store = store.clone();
        let service = hyper::service::service_fn(move |request| answer(store.clone(), request));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_concurrent_streams(4096)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn answer(store: Store, request: Request<Incoming>) -> Result<Response<Whole>, Error> {
    let path = request.uri().path();
    let (puts, asks_fsyncs) = (path.ends_with("Put"), path.ends_with("Fsyncs"));
    let message = whole(request.into_body()).await?;
    let mut out = BytesMut::zeroed(5);
    if asks_fsyncs {
        out.put_u64_le(store.status().fsyncs);
    } else if puts {
        let [key, value] = decode(message);
        put(&store, key, value).await?;
    } else {
        let [key, end] = decode(message);
        store.read_barrier().await?;
        let state = store.snapshot();
        if end.is_empty() {
            if let Some(entry) = state.get(&key) {
                put_entry(&mut out, &entry);
            }
        } else {
            for entry in state.range(key..end) {
                put_entry(&mut out, &entry);
            }
        }
    }
    let mut response = Response::new(Whole::new(framed(out), true));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

/// Where the image has to catch up, the client waits: what it sees is the rate that can be sustained.
pub async fn put(store: &Store, key: Bytes, value: Bytes) -> Result<(), StoreError> {
    let txn = Txn::new(vec![], vec![Op::Put { key, value }]);
    loop {
        match store.txn(&txn).await {
            Ok(_) => return Ok(()),
            Err(StoreError::LogFull { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error),
        }
    }
}

/// The message of a call, which comes in one piece but for large ones.
async fn whole(mut body: Incoming) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut message = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && message.is_empty() {
            first = data;
        } else {
            message.extend_from_slice(&std::mem::take(&mut first));
            message.extend_from_slice(&data);
        }
    }
    Ok(if message.is_empty() {
        first
    } else {
        message.freeze()
    })
}

/// As field 2 of the answer.
fn put_entry(out: &mut BytesMut, entry: &Entry) {
    let revisions = [(2u8, entry.create_revision.0), (3, entry.mod_revision.0)];
    let bytes = |bytes: &Bytes| match bytes.len() {
        0 => 0,
        length => 1 + varint_len(length as u64) + length,
    };
    let numbers: usize = revisions.iter().map(|(_, number)| 1 + varint_len(*number)).sum();
    let length = bytes(&entry.key) + numbers + bytes(&entry.value);
    out.put_u8(2 << 3 | 2);
    varint(out, length as u64);
    field(out, 1, &entry.key);
    for (number, revision) in revisions {
        out.put_u8(number << 3);
        varint(out, revision);
    }
    field(out, 5, &entry.value);
}

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}
