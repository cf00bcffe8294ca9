//! What a server says about itself when members are listed.

use std::path::PathBuf;

use bytes::Bytes;
use corten_store::Store;
use serde_json::json;

/// Asked by this server and by the others.
pub fn about(store: Store, name: String, data_dir: PathBuf) -> impl Fn() -> Bytes + Send + Sync + 'static {
    move || {
        let (status, standing) = (store.status(), store.standing().borrow().clone());
        let disk = nix::sys::statvfs::statvfs(&data_dir).ok();
        let free = disk.map(|disk| disk.blocks_available() * disk.fragment_size());
        let about = json!({
            "name": name,
            "version": env!("CARGO_PKG_VERSION"),
            "term": standing.term,
            "leader": standing.leader.map(|id| format!("{id:016x}")),
            "applied": status.applied,
            "lastIndex": standing.last_index.max(status.applied),
            "membership": standing.membership,
            "revision": status.revision,
            "keys": status.keys,
            "logBytes": status.log_bytes,
            "imageBytes": status.image_bytes,
            "diskFreeBytes": free,
            "watchers": status.watchers,
        });
        about.to_string().into()
    }
}
