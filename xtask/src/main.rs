//! Chores: `cargo xtask up`, `down`, `test`, `bench`, `fuzz`, `sim`.

mod bench;
mod fuzz;
mod sim;
mod soak;
mod test;
mod up;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Corten project")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build Corten, start a cluster of three hosts on this machine, show a Deployment behind a Service answering
    Up(up::Args),
    /// Delete the cluster that `up` made
    Down(up::DownArgs),
    /// Build and run every test; end-to-end tests need root
    Test(test::Args),
    /// Print figures as ratios against a peer in the same run
    Bench(bench::Args),
    /// Break three real servers under load, again and again: `cargo xtask soak kill --minutes 20`
    Soak(soak::Args),
    /// Run the fuzz targets in `fuzz/`, each for a while
    Fuzz(fuzz::Args),
    /// Simulate the store under faults, seed after seed
    Sim(sim::Args),
}

fn main() {
    let result = match Cli::parse().chore {
        Chore::Up(args) => up::up(&args),
        Chore::Down(args) => up::down(&args),
        Chore::Test(args) => test::test(&args),
        Chore::Bench(args) => bench::bench(&args),
        Chore::Soak(args) => soak::soak(&args),
        Chore::Fuzz(args) => fuzz::fuzz(&args),
        Chore::Sim(args) => sim::sim(&args),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the workspace's programs, with the features that its tests get too, and says where `corten` is.
fn build_corten(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins"]);
    if release {
        command.arg("--release");
    }
    xtask::prerequisites::run(&mut command)?;
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    Ok(target
        .join(if release { "release" } else { "debug" })
        .join("corten"))
}
