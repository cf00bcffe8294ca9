//! How a server joins others, from both sides: what is handed over, and where it is put.
//!
//! What the store does with a new member is not decided here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use corten_apiserver::join::{Cluster, ServerRequest, ServerShare};
use corten_apiserver::pki;
use corten_client::join::{JoinToken, pin};
use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;

/// Hands out what this server shares with others.
#[derive(Debug)]
pub struct Sharing {
    /// `pki/` of the data folder.
    pub pki: PathBuf,
    pub service_cidr: Ipv4Net,
    pub cluster_cidr: Ipv4Net,
}

impl Sharing {
    /// What a new server needs beside its place in the store.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn share(&self) -> Result<ServerShare, pki::PkiError> {
        Ok(ServerShare {
            cluster_id: String::new(),
            files: pki::shared(&self.pki)?,
            service_cidr: self.service_cidr,
            cluster_cidr: self.cluster_cidr,
            members: Vec::new(),
        })
    }
}

impl Cluster for Sharing {
    fn admit(&self, _: ServerRequest) -> BoxFuture<'_, Result<ServerShare, corten_api::Status>> {
        async { self.share().map_err(corten_api::Status::internal) }.boxed()
    }
}

/// Asks the server at `url` to take this one in, and puts what it gives below `data_dir`.
///
/// # Errors
/// In words for the one who starts the server.
#[allow(dead_code, reason = "for servers with peers")]
pub async fn server(
    url: &str,
    token: &JoinToken,
    request: &ServerRequest,
    data_dir: &Path,
) -> Result<ServerShare> {
    let pinned = pin(url, token).await?;
    let share: ServerShare = pinned.join_servers(request).await?;
    let dir = data_dir.join("pki");
    pki::store_shared(&dir, &share.files).with_context(|| format!("write {}", dir.display()))?;
    Ok(share)
}
