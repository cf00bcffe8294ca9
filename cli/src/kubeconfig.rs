//! Which administrator's kubeconfig a verb uses, and the client it makes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What a server of this machine writes.
const SERVERS_OWN: &str = "/var/lib/corten/server/admin.kubeconfig";

/// Who asks, for verbs of administrators.
#[derive(clap::Args)]
pub struct Credentials {
    /// Credentials of an administrator [default: $KUBECONFIG, then the one this machine's server wrote]
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

impl Credentials {
    /// # Errors
    /// See [`find`].
    pub fn find(self) -> Result<PathBuf> {
        find(self.kubeconfig)
    }
}

/// # Errors
/// A file that is no kubeconfig, or credentials that cannot be used.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    corten_client::remote(kubeconfig)
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))
}

/// The one given, else the first file of `$KUBECONFIG`, else the one a server of this machine wrote.
///
/// # Errors
/// There is none.
pub fn find(given: Option<PathBuf>) -> Result<PathBuf> {
    let from_environment = || {
        let paths = std::env::var_os("KUBECONFIG")?;
        std::env::split_paths(&paths).find(|path| path.exists())
    };
    let servers_own = || Some(PathBuf::from(SERVERS_OWN)).filter(|path| path.exists());
    match given.or_else(from_environment).or_else(servers_own) {
        Some(path) => Ok(path),
        None => bail!("no kubeconfig: pass --kubeconfig, set KUBECONFIG, or run this on a server's machine"),
    }
}
