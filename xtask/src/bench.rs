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
    // Built by the same command, so that nothing is compiled twice with other features.
    let mut bench = std::process::Command::new(corten.with_file_name("corten-bench"));
    bench.env("CORTEN_BIN", corten).args(&args.names);
    prerequisites::run(&mut bench)
}
