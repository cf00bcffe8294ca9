//! `cargo xtask soak`: three real servers that are broken again and again under load.

use anyhow::Result;
use xtask::prerequisites;

#[derive(clap::Args)]
pub struct Args {
    /// An unoptimised build, which is there sooner
    #[arg(long)]
    debug: bool,
    /// Experiments and their options; without any, `corten-soak` says which there are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub fn soak(args: &Args) -> Result<()> {
    prerequisites::install()?;
    let corten = crate::build_corten(!args.debug)?;
    let mut soak = std::process::Command::new(corten.with_file_name("corten-soak"));
    soak.env("CORTEN_BIN", corten).args(&args.words);
    prerequisites::run(&mut soak)
}
