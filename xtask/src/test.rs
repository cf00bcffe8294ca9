//! `cargo xtask test`: everything a change must pass, with its prerequisites installed first.

use anyhow::{Result, bail};
use xtask::prerequisites;

#[derive(clap::Args)]
pub struct Args {
    /// Leave out the end-to-end tests (they need root)
    #[arg(long)]
    unit: bool,
    /// Only the end-to-end tests
    #[arg(long, conflicts_with = "unit")]
    e2e: bool,
    /// Passed on to the test programs, such as a part of a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

pub fn test(args: &Args) -> Result<()> {
    prerequisites::install()?;
    if !args.e2e {
        let mut unit = crate::cargo();
        unit.args(["test", "--workspace", "--exclude", "corten-tests", "--"])
            .args(&args.filter);
        prerequisites::run(&mut unit)?;
    }
    if args.unit {
        println!("end-to-end tests skipped: --unit was given");
        return Ok(());
    }
    if !prerequisites::is_root() {
        bail!("the end-to-end tests make network namespaces and containers: run as root, or pass --unit");
    }
    let corten = crate::build_corten(false)?;
    let mut e2e = crate::cargo();
    e2e.env("CORTEN_BIN", corten)
        .args([
            "test",
            "--package",
            "corten-tests",
            "--",
            "--test-threads=1",
            "--nocapture",
        ])
        .args(&args.filter);
    prerequisites::run(&mut e2e)
}
