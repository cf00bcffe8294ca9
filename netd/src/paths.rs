//! Where netd keeps its files, all below the node's data folder. Knows names only.

use std::path::{Path, PathBuf};

/// Name of the CNI network and of its plug-in executable.
pub const NETWORK: &str = "corten";

/// The folders and files netd shares with the plug-in and the container runtime.
#[derive(Debug, Clone)]
pub struct Paths {
    data_dir: PathBuf,
}

impl Paths {
    pub fn new(data_dir: impl Into<PathBuf>) -> Paths {
        Paths {
            data_dir: data_dir.into(),
        }
    }

    /// Where the plug-in finds `node.json` and the address ledger; the `dataDir` of the CNI configuration.
    pub fn netd(&self) -> PathBuf {
        self.data_dir.join("netd")
    }

    /// The folder the container runtime executes plug-ins from.
    pub fn cni_bin(&self) -> PathBuf {
        self.data_dir.join("cni/bin")
    }

    /// The folder whose first file tells the container runtime that the network is ready.
    pub fn cni_conf(&self) -> PathBuf {
        self.data_dir.join("cni/conf")
    }

    /// The file whose presence means: Pods of this node can get an address.
    pub fn conflist(&self) -> PathBuf {
        self.cni_conf().join("10-corten.conflist")
    }
}

/// The node's facts, as the daemon wrote them for the plug-in.
pub fn node_file(netd_dir: &Path) -> PathBuf {
    netd_dir.join("node.json")
}

/// The ledger of Pod addresses.
pub fn ledger_file(netd_dir: &Path) -> PathBuf {
    netd_dir.join("addresses.json")
}

/// Held while the ledger is read and changed.
pub fn ledger_lock(netd_dir: &Path) -> PathBuf {
    netd_dir.join("addresses.lock")
}
