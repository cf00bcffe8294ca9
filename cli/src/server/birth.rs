//! How this server's member of the store comes into being: it founds a cluster, joins one, or is who its folder says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use corten_apiserver::join::{ServerRequest, ServerShare};
use corten_apiserver::pki::{self, peers::PeerPki};
use corten_client::join::JoinToken;
use corten_store::{Birth, is_witness, witness_id};
use time::OffsetDateTime;

/// The id a server gave itself before it joined, so that it joins as the same one if it has to try again.
const ID_FILE: &str = "member-id";

/// What a server that joins was asked for on its command line.
pub struct Joining<'a> {
    pub url: &'a str,
    pub token: &'a JoinToken,
    pub peer: SocketAddr,
    pub api: SocketAddr,
    pub witness: bool,
}

pub struct Born {
    pub birth: Birth,
    /// Where the members are that took this one in, until it has its own state.
    pub addresses: BTreeMap<u64, String>,
    /// What all servers have alike, as the others told.
    pub share: Option<ServerShare>,
    pub witness: bool,
}

/// Joins only with an empty folder; a folder that holds a store is whose it was.
///
/// # Errors
/// In words for the one who starts the server.
pub async fn born(data_dir: &Path, joining: Option<Joining<'_>>, witness: bool) -> Result<Born> {
    let pki_dir = data_dir.join("pki");
    let found = Born {
        birth: Birth::Found,
        addresses: BTreeMap::new(),
        share: None,
        witness: false,
    };
    if has_store(data_dir) {
        let held = data_dir.join(ID_FILE).exists() && is_witness(own_id(data_dir, witness)?);
        ensure!(
            held || !witness,
            "{} holds a server, which cannot become a witness: remove it as a member, and join with an empty folder",
            data_dir.display()
        );
        return Ok(Born {
            witness: held,
            ..found
        });
    }
    ensure!(
        !witness || joining.is_some(),
        "a witness joins a cluster: pass --join and --token"
    );
    let Some(joining) = joining else {
        std::fs::create_dir_all(&pki_dir).with_context(|| format!("make {}", pki_dir.display()))?;
        PeerPki::ensure_ca(&pki_dir, OffsetDateTime::now_utc()).context("make the peers' authority")?;
        return Ok(found);
    };
    let request = ServerRequest {
        member: own_id(data_dir, witness)?,
        peer: joining.peer,
        api: joining.api,
        name: super::host_name(),
        witness: joining.witness,
    };
    let share = crate::join::server(joining.url, joining.token, &request, data_dir)
        .await
        .with_context(|| format!("join the cluster at {}", joining.url))?;
    let cluster = u64::from_str_radix(&share.cluster_id, 16).context("the cluster's id is no number")?;
    Ok(Born {
        birth: Birth::Join {
            cluster,
            member: request.member,
        },
        addresses: share
            .members
            .iter()
            .map(|member| (member.id, member.peer.to_string()))
            .collect(),
        share: Some(share),
        witness,
    })
}

fn has_store(data_dir: &Path) -> bool {
    std::fs::read_dir(data_dir.join("store").join("log")).is_ok_and(|mut files| files.next().is_some())
}

fn own_id(data_dir: &Path, witness: bool) -> Result<u64> {
    let path = data_dir.join(ID_FILE);
    let named = |error: &dyn std::fmt::Display| anyhow::anyhow!("{}: {error}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let id = u64::from_str_radix(text.trim(), 16).map_err(|error| named(&error))?;
            ensure!(
                is_witness(id) || !witness,
                "{} is that of a server, not of a witness",
                path.display()
            );
            Ok(id)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Never 0, which Raft uses for "nobody".
            let id = match witness {
                true => witness_id(rand::random()),
                false => rand::random::<u64>() | 1,
            };
            pki::write_private(&path, format!("{id:016x}\n").as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(named(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_tries_again_is_the_same_one() {
        let dir = std::env::temp_dir().join(format!("corten-birth-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let (first, second) = (
            own_id(&dir, false).expect("an id"),
            own_id(&dir, false).expect("an id"),
        );
        assert!(own_id(&dir, true).is_err(), "it is not a witness");
        std::fs::remove_dir_all(&dir).expect("remove");
        assert!(first == second && first != 0);
    }
}
