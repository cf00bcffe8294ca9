//! Bodies: the one response body type, and reading a request body within its bound.
//!
//! Knows bytes. Must not know what they mean.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::limits::{Readers, Reading, steady_millis};

/// Largest request body in bytes. Source: kube-apiserver, `MaxRequestBodyBytes` (3 MiB).
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Bytes that are handed over at once of a body whose reader is watched.
const PIECE: usize = 64 * 1024;

/// A response body: nothing, bytes known at once, or a stream.
pub struct Body {
    inner: Inner,
    /// How its client takes it.
    reading: Option<Reading>,
}

enum Inner {
    Full(Bytes),
    Stream(BoxStream),
}

impl Body {
    #[must_use]
    pub fn empty() -> Body {
        Body::from(Bytes::new())
    }

    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
        Body {
            inner: Inner::Stream(Box::pin(stream)),
            reading: None,
        }
    }

    /// The bytes, if they are all known already.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.inner {
            Inner::Full(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    /// Notes from now on whether its client takes what is sent. Small bodies are sent at once and need no notes.
    pub(crate) fn read_by(&mut self, readers: &Readers) {
        if !matches!(&self.inner, Inner::Full(bytes) if bytes.len() <= PIECE) {
            self.reading = Some(readers.open());
        }
    }

    /// The body as a stream of its chunks.
    #[must_use]
    pub fn into_stream(self) -> BoxStream {
        match self.inner {
            Inner::Full(bytes) => Box::pin(futures::stream::once(async move { Ok(bytes) })),
            Inner::Stream(stream) => stream,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body {
            inner: Inner::Full(bytes.into()),
            reading: None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(reading) = &this.reading {
            reading.taken();
        }
        let polled = match &mut this.inner {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => {
                let piece = if this.reading.is_some() {
                    PIECE
                } else {
                    bytes.len()
                };
                let piece = bytes.split_to(piece.min(bytes.len()));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Inner::Stream(stream) => stream
                .poll_next_unpin(cx)
                .map(|next| next.map(|chunk| chunk.map(Frame::data))),
        };
        if let (Some(reading), Poll::Ready(Some(Ok(_)))) = (&this.reading, &polled) {
            reading.offered(steady_millis());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.inner, Inner::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request body whose type no longer matters.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("limit is {MAX_BODY_BYTES}")]
    TooLarge,
    #[error("read request body")]
    Broken(#[source] BoxError),
}

/// The whole body, at most [`MAX_BODY_BYTES`]. What comes after the bound is never kept.
///
/// # Errors
/// `TooLarge`, or a connection that broke.
pub async fn read(mut body: RequestBody) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else {
            continue;
        };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > MAX_BODY_BYTES {
            return Err(ReadError::TooLarge);
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data, // the usual case: one frame, no copy
            None => {
                let mut joined = BytesMut::with_capacity(first.len() + data.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                rest = Some(joined);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// How much of a body nobody wants is read and thrown away, and for how long.
const DRAIN_BYTES: usize = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body from a connection. What is left of it when it is dropped is read to its end, within bounds: a client that is
/// still sending would see a reset stream instead of the answer.
pub struct ReadToEnd(Option<Incoming>);

impl From<Incoming> for ReadToEnd {
    fn from(body: Incoming) -> ReadToEnd {
        ReadToEnd(Some(body))
    }
}

impl http_body::Body for ReadToEnd {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            tokio::spawn(drain(body));
        }
    }
}

async fn drain(mut body: Incoming) {
    let drained = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, drained).await; // what is left is cut off with the stream
}
