//! Where Helm comes from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xtask::prerequisites::find;

use crate::{command, golang};

/// The release that is built where none is installed.
const MODULE: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
/// Building takes a minute or two of two cores, once: the binary is kept beside the build's.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// `$CORTEN_HELM`, the one in `PATH`, or one built by the Go toolchain. `Err` says why there is none.
///
/// # Errors
/// What is missing, or what the build said.
pub fn program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("CORTEN_HELM") {
        return Ok(path.into());
    }
    if let Some(path) = find("helm") {
        return Ok(path);
    }
    let tools = tools();
    let built = tools.join("helm");
    if built.is_file() {
        return Ok(built);
    }
    let Some(go) = golang::toolchain() else {
        return Err("no helm in PATH or $CORTEN_HELM, and no Go toolchain to build one".into());
    };
    println!("building {MODULE}, once");
    let mut build = Command::new(go);
    build.args(["install", MODULE]).env("GOBIN", &tools);
    let finished = command::run(&mut build, "", BUILD_LIMIT);
    if finished.succeeded() && built.is_file() {
        return Ok(built);
    }
    Err(format!("helm could not be built: {finished}"))
}

/// `target/tools`, beside `target/debug`.
fn tools() -> PathBuf {
    let program = crate::cluster::binary();
    let target = program.parent().and_then(Path::parent);
    target.map_or_else(std::env::temp_dir, |target| target.join("tools"))
}
