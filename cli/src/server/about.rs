//! What a server says about itself when members are listed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use corten_store::{Store, halt};
use jiff::Timestamp;
use serde_json::json;

/// Asked by this server and by the others. `drained`: it takes no requests any more, and has answered those it took.
pub fn about(
    store: Store,
    name: String,
    data_dir: PathBuf,
    drained: Arc<AtomicBool>,
) -> impl Fn() -> Bytes + Send + Sync + 'static {
    let halted = halt::last(&data_dir.join("store")).and_then(|halt| {
        let at = Timestamp::try_from(halt.at).ok()?;
        Some(json!({ "at": format!("{at:.0}"), "reason": halt.reason }))
    });
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
            "drained": drained.load(Ordering::Relaxed),
            "repairing": standing.repairing,
            "halted": halted,
            "damages": status.damages,
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
