//! Which administrator's kubeconfig a verb uses.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// What a server of this machine writes.
const SERVERS_OWN: &str = "/var/lib/corten/server/admin.kubeconfig";

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
