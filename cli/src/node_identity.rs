//! Who this node is: the identity it has, or one it gets with a token; and the connection that acts as that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use corten_client::join::{self, Identity, JoinToken, Renewal};
use corten_client::remote::{self, Remote, Server, servers};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// Where the agent was told to get its identity from.
pub enum Source {
    Kubeconfig(PathBuf),
    Join {
        server: String,
        /// Not needed by a node that has joined.
        token: Option<String>,
    },
}

pub struct Connected {
    pub remote: Remote,
    /// The server that the agent was started with.
    pub seed: Server,
}

/// Files below `identity/` in the agent's data folder.
struct Files {
    identity: PathBuf,
    authorities: PathBuf,
    servers: PathBuf,
    /// The key of a request that is not answered yet: after a crash the same one is asked for again.
    pending_key: PathBuf,
}

impl Files {
    fn below(data_dir: &Path) -> Result<Files> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = data_dir.join("identity");
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir);
        made.with_context(|| format!("make {}", dir.display()))?;
        Ok(Files {
            identity: dir.join("node.pem"),
            authorities: dir.join("ca.crt"),
            servers: dir.join("servers"),
            pending_key: dir.join("pending.key"),
        })
    }
}

/// Connects as node `node`, joining first if need be. An identity that is there needs no server to be alive. It is renewed
/// and the list of servers followed until `shutdown`.
///
/// # Errors
/// In words for the one who starts the agent.
pub async fn connect(
    node: &str,
    source: &Source,
    data_dir: &Path,
    shutdown: &CancellationToken,
) -> Result<Connected> {
    let files = Files::below(data_dir)?;
    let known = servers::load(&files.servers).context("read the list of servers")?;
    let stored = stored(node, &files)?;
    let (seed, tls, ca_pem, identity) = match source {
        Source::Kubeconfig(path) => {
            let given = corten_client::connect::of_node(path)
                .await
                .with_context(|| format!("use {}", path.display()))?;
            // One that was renewed since is the better one, unless somebody has put a newer one there.
            let newer = stored.filter(|(stored, _)| {
                let given_until = given.identity.as_ref().map(|identity| identity.facts().not_after);
                given_until.is_none_or(|until| stored.facts().not_after > until)
            });
            match newer {
                Some((identity, ca_pem)) => (given.server, identity.tls(&ca_pem)?, ca_pem, Some(identity)),
                None => (given.server, given.tls, given.ca_pem, given.identity),
            }
        }
        Source::Join { server, token } => {
            let seed = Server::from_url(server).with_context(|| {
                format!("{server} is no address of a server such as https://192.0.2.10:6443")
            })?;
            let (identity, ca_pem) = match stored {
                Some(stored) => stored,
                None => join(node, server, token.as_deref(), &files, shutdown).await?,
            };
            (seed, identity.tls(&ca_pem)?, ca_pem, Some(identity))
        }
    };
    let remote = Remote::new(node, seed.clone(), known, tls);
    let authorities = remote::follow(&remote, files.servers, shutdown.clone());
    // Only a node's own certificate is renewed: an administrator's is not ours to replace.
    if let Some(identity) =
        identity.filter(|identity| identity.facts().common_name == join::user_of_node(node))
    {
        let renewal = Renewal {
            node: node.to_owned(),
            remote: remote.clone(),
            ca_pem,
            authorities,
            file: files.identity,
            ca_file: files.authorities,
        };
        tokio::spawn(join::keep(renewal, identity, shutdown.clone()));
    }
    Ok(Connected { remote, seed })
}

/// Gets the node's identity, if it has none yet, and no more.
///
/// # Errors
/// As [`connect`].
pub async fn only_join(
    node: &str,
    server: &str,
    token: Option<&str>,
    data_dir: &Path,
    shutdown: &CancellationToken,
) -> Result<()> {
    let files = Files::below(data_dir)?;
    if stored(node, &files)?.is_none() {
        join(node, server, token, &files, shutdown).await?;
    }
    Ok(())
}

/// What is on disk, if it is this node's and still good.
fn stored(node: &str, files: &Files) -> Result<Option<(Identity, String)>> {
    let Some(identity) = Identity::load(&files.identity).context("read the node's identity")? else {
        return Ok(None);
    };
    let facts = identity.facts();
    if facts.common_name != join::user_of_node(node) {
        bail!(
            "{} is the identity of {:?}, not of node {node:?}: `corten reset` forgets it",
            files.identity.display(),
            facts.common_name
        );
    }
    if facts.is_over(Timestamp::now()) {
        tracing::warn!(ended = %facts.not_after, "the node's certificate has ended while the agent was off");
        return Ok(None);
    }
    let ca_pem = std::fs::read_to_string(&files.authorities)
        .with_context(|| format!("read {}", files.authorities.display()))?;
    Ok(Some((identity, ca_pem)))
}

/// From the token to the first certificate.
async fn join(
    node: &str,
    server: &str,
    token: Option<&str>,
    files: &Files,
    shutdown: &CancellationToken,
) -> Result<(Identity, String)> {
    let Some(token) = token else {
        bail!("this node has no identity yet, or it has ended: pass --token, see `corten token create`");
    };
    let token: JoinToken = token.parse()?;
    let pinned = join::pin(server, &token).await?;
    tracing::info!(server, node, token = token.id(), "joining");
    let key = match std::fs::read_to_string(&files.pending_key) {
        Ok(key) => key,
        Err(_) => {
            let key = join::new_key()?;
            corten_client::file::replace(&files.pending_key, key.as_bytes(), 0o600)
                .with_context(|| format!("write {}", files.pending_key.display()))?;
            key
        }
    };
    let asked = join::certificate(pinned.node()?, node, &key, shutdown).await;
    if matches!(
        asked,
        Err(join::RequestError::Denied { .. } | join::RequestError::Failed { .. })
    ) {
        // A decided request stays decided: the next attempt asks anew.
        let _ = std::fs::remove_file(&files.pending_key);
    }
    let identity = asked?;
    let ca_pem = pinned.ca_pem;
    corten_client::file::replace(&files.authorities, ca_pem.as_bytes(), 0o644)
        .with_context(|| format!("write {}", files.authorities.display()))?;
    identity.store(&files.identity)?;
    let _ = std::fs::remove_file(&files.pending_key); // its certificate is there
    tracing::info!(node, until = %identity.facts().not_after, "joined");
    Ok((identity, ca_pem))
}
