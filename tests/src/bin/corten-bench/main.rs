//! Figures, each printed as a ratio against a peer in the same run (`cargo xtask bench`).

mod api;
mod figures;
mod footprint;
mod http;
mod pods;
mod processes;
mod store;

use anyhow::{Result, bail};

/// That of the server: the static peer is the same stack, and clients share the machine with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every bench by name, in the order they run.
const NAMES: &[&str] = &["store", "api", "start", "pods", "idle"];

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.first().map(String::as_str) == Some("static-server") {
        return http::serve_static(&names[1..]).await;
    }
    if names.is_empty() {
        names = NAMES.iter().map(ToString::to_string).collect();
    }
    for name in &names {
        println!("\n== {name}");
        match name.as_str() {
            "store" => store::run().await?,
            "api" => api::run().await?,
            "start" => footprint::start().await?,
            "pods" => pods::run().await?,
            "idle" => footprint::idle().await?,
            other => bail!("no bench is called {other}; there are {}", NAMES.join(", ")),
        }
    }
    Ok(())
}
