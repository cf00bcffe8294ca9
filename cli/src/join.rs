//! How a server joins others, from both sides: what is handed over, and where it is put.
//!
//! What becomes of a new member is decided by `corten_apiserver::members`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use corten_api::Status;
use corten_apiserver::join::{Cluster, Member, ServerRequest, ServerShare};
use corten_apiserver::members::{self, Record};
use corten_apiserver::pki;
use corten_client::join::{JoinToken, pin};
use corten_store::{Store, is_witness};
use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;

/// Bytes of a host's name. Source: gethostname(2), 64; and room for a domain.
const MAX_NAME: usize = 253;
/// How the files of the peers' authority begin.
const PEERS_FILES: &str = "peer-ca";

/// Takes servers in, and hands out what all servers of the cluster share.
#[derive(Debug)]
pub struct Sharing {
    /// `pki/` of the data folder.
    pub pki: PathBuf,
    pub service_cidr: Ipv4Net,
    pub cluster_cidr: Ipv4Net,
    /// Set once it is open; nobody can ask before.
    pub store: OnceLock<StoreHandle>,
}

/// A store as a `Debug` field.
#[derive(Clone)]
pub struct StoreHandle(pub Store);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.0.identity())
    }
}

impl Sharing {
    async fn take_in(&self, request: ServerRequest) -> Result<ServerShare, Status> {
        let Some(StoreHandle(store)) = self.store.get() else {
            return Err(Status::service_unavailable("the store is not open yet"));
        };
        let mut files = pki::shared(&self.pki).map_err(Status::internal)?;
        if request.witness != is_witness(request.member) {
            return Err(Status::bad_request("the id of the member is not one of its kind"));
        }
        if request.witness {
            // It serves nobody but members.
            files.retain(|name, _| name.starts_with(PEERS_FILES));
        }
        if request.name.len() > MAX_NAME {
            return Err(Status::bad_request("the name of the member is too long"));
        }
        let record = Record {
            id: request.member,
            name: request.name,
            peer: request.peer.to_string(),
            api: if request.witness {
                String::new()
            } else {
                request.api.to_string()
            },
            witness: request.witness,
            removed: false,
            left: false,
        };
        let members = members::admit(store, &record).await?;
        let others = members
            .iter()
            .filter(|other| !other.removed && other.id != record.id);
        Ok(ServerShare {
            cluster_id: format!("{:016x}", store.identity().cluster),
            files,
            service_cidr: self.service_cidr,
            cluster_cidr: self.cluster_cidr,
            members: others
                .filter_map(|other| {
                    Some(Member {
                        id: other.id,
                        peer: other.peer.parse().ok()?,
                    })
                })
                .collect(),
        })
    }
}

impl Cluster for Sharing {
    fn admit(&self, request: ServerRequest) -> BoxFuture<'_, Result<ServerShare, Status>> {
        self.take_in(request).boxed()
    }
}

/// Asks the server at `url` to take this one in, and puts what it gives below `data_dir`.
///
/// # Errors
/// In words for the one who starts the server.
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
