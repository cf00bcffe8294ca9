//! Connections that were opened with a certificate: found, and ended, when that is revoked. What a connection became by an
//! upgrade (a tunnel, exec) ends with it, for it is the bytes below that end.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::Peer;
use crate::identity::Certificate;

/// The open ones; as many as a server has connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

struct Open {
    user: String,
    certificate: Certificate,
    cut: CancellationToken,
}

impl Connections {
    /// The same bytes, which end when the certificate of `peer` is revoked. Whoever came without has nothing to revoke.
    pub fn enter<T>(self: &Arc<Connections>, peer: &Peer, io: T) -> Cut<T> {
        let (Some(user), Some(certificate)) = (&peer.user, &peer.certificate) else {
            return Cut { io, entered: None };
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = CancellationToken::new();
        let open = Open {
            user: user.name.clone(),
            certificate: certificate.clone(),
            cut: cut.clone(),
        };
        self.open.lock().insert(id, open);
        let entered = Entered {
            of: self.clone(),
            id,
            cut: Box::pin(cut.cancelled_owned()),
        };
        Cut {
            io,
            entered: Some(entered),
        }
    }

    /// Ends those of whom `denies` says so.
    pub(super) fn cut(&self, denies: impl Fn(&str, &Certificate) -> bool) {
        for open in self.open.lock().values() {
            if denies(&open.user, &open.certificate) {
                open.cut.cancel();
            }
        }
    }
}

struct Entered {
    of: Arc<Connections>,
    id: u64,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.of.open.lock().remove(&self.id);
    }
}

/// Bytes of a connection, until it is cut: then reading fails, which everyone who serves one takes for its end.
pub struct Cut<T> {
    io: T,
    entered: Option<Entered>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Cut<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(entered) = &mut self.entered
            && entered.cut.as_mut().poll(cx).is_ready()
        {
            let why = "the certificate was revoked";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        pin!(&mut self.io).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cut<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
