//! What every long-running verb needs of its process: logging, the TLS provider, a runtime, signals.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;
use corten_apiserver::members::AdmitError;
use corten_store::OpenError;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// That the CA is fetched over a connection that proves nothing is what a token's hash is for, and no news.
const DEFAULT_FILTER: &str = "info,kube_client::client::tls=error";

/// Logs go to standard error; `CORTEN_LOG` takes `tracing` filters (default `info`).
pub fn init() {
    let filter = EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .init();
    // Fails only when a provider is set already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The exit code of a process that would fail again in the same way, whoever starts it: a supervisor had better not.
/// Source: sysexits.h, EX_CONFIG.
pub const USELESS: u8 = 78;

/// What a supervisor is told by the exit code. (A store that cannot go on aborts: that is worth another start.)
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if is_useless(error) {
        return ExitCode::from(USELESS);
    }
    ExitCode::FAILURE
}

/// Whether this server has no place in its cluster any more, or what it holds has to be restored by somebody.
fn is_useless(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(AdmitError::Removed { .. }))
            || matches!(
                cause.downcast_ref(),
                Some(OpenError::Image { .. } | OpenError::Mismatch(_) | OpenError::Entry { .. })
            )
    })
}

pub fn block_on<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(task)
}

/// Cancelled by SIGTERM or SIGINT.
pub fn shutdown() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        cancelled.cancel();
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_supervisor_is_told_when_another_start_is_of_no_use() {
        let error = |error: anyhow::Error| is_useless(&error.context("open the store"));
        assert!(error(AdmitError::Removed { id: 1 }.into()));
        assert!(error(OpenError::Mismatch("a hole".into()).into()));
        let in_use = OpenError::InUse { dir: "/data".into() };
        assert!(!error(in_use.into()), "the other process may end");
        let busy = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::AddrInUse)).context("listen");
        assert!(!error(busy.expect_err("an error")));
    }
}
