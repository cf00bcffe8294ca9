//! `cargo xtask sim`: builds the simulator with its own profile and runs it.

use anyhow::{Result, ensure};

use crate::{cargo, root};

#[derive(clap::Args)]
pub struct Args {
    /// Passed on: `--seeds`, `--from`, `--jobs`, `--twice`, `--planted`; `--help` tells more. `SIM_SEED=42` runs one seed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    simulator: Vec<String>,
}

/// # Errors
/// When it does not build, or a seed fails.
pub fn sim(args: &Args) -> Result<()> {
    let planted = args.simulator.iter().any(|arg| arg == "--planted");
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", "sim", "--package", "corten-sim"]);
    if planted {
        build.args(["--features", "planted"]);
    }
    xtask::prerequisites::run(&mut build)?;
    let target =
        std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), std::path::PathBuf::from);
    let status = std::process::Command::new(target.join("sim").join("corten-sim"))
        .args(&args.simulator)
        .status()?;
    ensure!(status.success(), "the simulator found something");
    Ok(())
}
