//! `cargo xtask soak`: three real servers that are broken again and again under load; `powercut` and `flips`: the store's
//! own tests of power cuts and of flipped bytes, at length.

use anyhow::Result;
use xtask::prerequisites;

#[derive(clap::Args)]
pub struct Args {
    /// An unoptimised build, which is there sooner
    #[arg(long)]
    debug: bool,
    /// Experiments and their options; without any, `corten-soak` says which there are. Or `powercut`, or `flips`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Points at which the power fails, and places in each file at which a byte is flipped.
const POWER_CUTS: &str = "200";
const FLIPS: &str = "40";

pub fn soak(args: &Args) -> Result<()> {
    prerequisites::install()?;
    match args.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["powercut"] => return at_length("--lib", "power_cut", ("POWER_CUTS", POWER_CUTS)),
        ["flips"] => return at_length("--test=flips", "", ("FLIPS", FLIPS)),
        _ => {}
    }
    let corten = crate::build_corten(!args.debug)?;
    let mut soak = std::process::Command::new(corten.with_file_name("corten-soak"));
    soak.env("CORTEN_BIN", corten).args(&args.words);
    prerequisites::run(&mut soak)
}

/// A test of the store, as long as the environment says; the name filters what is run.
fn at_length(target: &str, name: &str, (key, value): (&str, &str)) -> Result<()> {
    let mut cargo = crate::cargo();
    cargo.args([
        "test",
        "-p",
        "corten-store",
        "-p",
        "corten",
        target,
        name,
        "--",
        "--nocapture",
    ]);
    if std::env::var_os(key).is_none() {
        cargo.env(key, value);
    }
    prerequisites::run(&mut cargo)
}
