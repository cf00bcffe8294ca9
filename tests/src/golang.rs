//! The Go toolchain, where there is one: it fetches and builds what users of a cluster bring along.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use xtask::prerequisites::find;

use crate::command;

/// A module is some megabytes from the module proxy, once.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);

/// The `go` in `PATH`, or where Go's own installer puts it.
#[must_use]
pub fn toolchain() -> Option<PathBuf> {
    find("go").or_else(|| Some("/usr/local/go/bin/go".into()).filter(|go: &PathBuf| go.exists()))
}

/// The folder with a module's files, such as `example.com/module@v1.2.3`.
///
/// # Errors
/// There is no toolchain, or the module cannot be had; says which.
pub fn module(name: &str) -> Result<PathBuf, String> {
    let go = toolchain().ok_or("no Go toolchain to fetch modules with")?;
    let mut download = Command::new(go);
    // Outside of any module of its own.
    download.current_dir(std::env::temp_dir());
    download.args(["mod", "download", "-json", name]);
    let finished = command::run(&mut download, "", DOWNLOAD_LIMIT);
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    match answer["Dir"].as_str() {
        Some(folder) if finished.succeeded() => Ok(folder.into()),
        _ => Err(format!("{name} is not fetched: {finished}")),
    }
}
