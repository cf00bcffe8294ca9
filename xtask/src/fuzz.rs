//! `cargo xtask fuzz`: builds the fuzz targets and runs each for a while.
//!
//! Works with a stable compiler alone: `cargo-fuzz` is installed when missing, and without a sanitizer its
//! instrumentation needs no unstable option. The code under test has no `unsafe`, so a sanitizer would see nothing more.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Parser;

use crate::root;
use xtask::prerequisites::run;

/// The release this was tried with; a newer one may change its options.
const CARGO_FUZZ: &str = "0.13.2";
/// Longest input made, in bytes.
const MAX_INPUT_BYTES: u32 = 8192;
/// Longest time for one input, in seconds. A linear target needs well under a millisecond.
const INPUT_SECONDS: u32 = 10;
/// Memory of one target, in MiB.
const MEMORY_MIB: u32 = 2048;

#[derive(Parser)]
pub struct Args {
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Where the inputs come from: the same number tries the same ones first, so that what failed elsewhere fails here
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Targets to run; all without any
    targets: Vec<String>,
}

pub fn fuzz(args: &Args) -> Result<()> {
    install()?;
    let known = targets()?;
    if let Some(other) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target {other:?}; there are: {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    let one: &[&str] = match chosen.as_slice() {
        [target] => &[target],
        _ => &[],
    };
    run(cargo_fuzz("build").args(one))?;
    for target in chosen {
        println!("\n== fuzz {target} for {}s", args.seconds);
        let corpus = folder().join("corpus").join(target);
        std::fs::create_dir_all(&corpus)?;
        let mut command = cargo_fuzz("run");
        command.arg(target).arg(corpus);
        // A target whose input is no text has no seeds.
        let seeds = folder().join("seeds").join(target);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        command.arg("--");
        command.args([
            format!("-max_total_time={}", args.seconds),
            format!("-max_len={MAX_INPUT_BYTES}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            "-print_final_stats=1".into(),
            "-verbosity=0".into(),
            format!("-seed={}", args.seed),
        ]);
        run(&mut command)?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("fuzz")
}

/// The names of the files in `fuzz/targets`, in order.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder().join("targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(folder())
        .args(["fuzz", verb, "--sanitizer", "none"]);
    command
}

fn install() -> Result<()> {
    let found = Command::new("cargo").args(["fuzz", "--version"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-fuzz {CARGO_FUZZ}");
    run(Command::new("cargo").args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]))
}
