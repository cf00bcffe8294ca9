//! The controllers alone, against any API server: `run KUBECONFIG ROOT_CA_FILE [CLUSTER_CIDR]`. Ctrl-C ends them.

use std::io::Error;

use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| {
        args.next()
            .ok_or_else(|| Error::other(format!("missing argument {what}")))
    };
    let client = corten_client::remote(next("KUBECONFIG")?.as_ref()).await?;
    let root_ca = std::fs::read_to_string(next("ROOT_CA_FILE")?)?;
    let cidr = next("CLUSTER_CIDR")
        .unwrap_or_else(|_| "10.244.0.0/16".to_owned())
        .parse()?;
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    tokio::spawn(async move {
        // Without a signal handler there is no orderly end; the default action ends the process all the same.
        if tokio::signal::ctrl_c().await.is_ok() {
            ended.cancel();
        }
    });
    corten_controllers::run(
        std::sync::Arc::new(move |_: &str| client.clone()),
        corten_controllers::Config::new(cidr, tokio::sync::watch::channel(root_ca.into()).1),
        shutdown,
    )
    .await?;
    Ok(())
}
