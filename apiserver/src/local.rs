//! The break-glass socket: the API on a Unix socket in the data folder, for root on this machine.
//!
//! Whoever opens it may do everything. It needs no certificate and asks no role, so it works when certificates have ended
//! or the rules lock everybody out. Every request on it is logged, and recorded in the audit log whatever its policy says.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::ReadToEnd;
use crate::serve::{HEADER_READ_TIMEOUT, SHUTDOWN_GRACE};
use crate::{ApiServer, Peer, User};

/// Who asks on the socket.
pub const BREAK_GLASS: &str = "corten:break-glass";
/// Most connections at once; it is for one operator.
const MAX_CONNECTIONS: usize = 64;

impl ApiServer {
    /// Serves on the socket `path` (mode 0600) until `shutdown`. One that is left from before is replaced.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub async fn serve_local(&self, path: &Path, shutdown: CancellationToken) -> io::Result<()> {
        let listener = listen(path)?;
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            if connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            connections.spawn(connection(self.clone(), stream, shutdown.clone()));
        }
        connections.close();
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, connections.wait()).await; // the rest is cut
        let _ = std::fs::remove_file(path); // the next start replaces it
        Ok(())
    }
}

/// The socket gets its name when it has its mode: nobody else can open it in between.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("sock.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

async fn connection(server: ApiServer, stream: UnixStream, shutdown: CancellationToken) {
    let Ok(who) = stream.peer_cred() else { return };
    let own = std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
    if who.uid() != 0 && own.ok() != Some(who.uid()) {
        return tracing::warn!(
            uid = who.uid(),
            "somebody else than root opened the break-glass socket"
        );
    }
    let mut user = User::component(BREAK_GLASS);
    let id = |key: &str| format!("corten.dev/{key}");
    user.extra.insert(id("uid"), vec![who.uid().to_string()]);
    user.extra.insert(
        id("pid"),
        who.pid().map(|pid| pid.to_string()).into_iter().collect(),
    );
    let peer = Arc::new(Peer {
        user: Some(user),
        certificate: None,
        address: None,
        fence: None,
    });
    let (uid, pid) = (who.uid(), who.pid());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        tracing::warn!(uid, pid, method = %request.method(), path = request.uri().path(), "break-glass request");
        async move {
            let request = request.map(|body| ReadToEnd::from(body).boxed_unsync());
            Ok::<_, std::convert::Infallible>(Box::pin(server.handle(&peer, request)).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the break-glass socket ended");
    }
}
