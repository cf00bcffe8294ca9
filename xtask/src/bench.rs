//! `cargo xtask bench`: figures, printed as ratios against a peer in the same run.

use anyhow::Result;
use xtask::prerequisites;

#[derive(clap::Args)]
pub struct Args {
    /// Which figures: store, api, pods, start, idle; all of them when none is named
    names: Vec<String>,
}

pub fn bench(args: &Args) -> Result<()> {
    prerequisites::install()?;
    let corten = crate::build_corten(true)?;
    let mut bench = crate::cargo();
    bench
        .env("CORTEN_BIN", corten)
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "corten-tests",
            "--bin",
            "corten-bench",
            "--",
        ])
        .args(&args.names);
    prerequisites::run(&mut bench)
}
