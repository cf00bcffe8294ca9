//! `corten audit`: looks at audit logs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use corten_apiserver::audit::chain::verify;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Check that no line of a chained log was changed, removed or put in
    Verify {
        /// The rotated files, the oldest first, then the newest
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// # Errors
/// A file that cannot be read, or a line that does not follow from the one before.
pub fn run(args: &Args) -> Result<()> {
    let Verb::Verify { files } = &args.verb;
    let mut end = None;
    for path in files {
        let log = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        end = match verify(&log, end) {
            Ok(end) => end,
            Err(line) => bail!("{}:{line} does not follow from the line before", path.display()),
        };
    }
    match end {
        Some(end) => println!("every line follows from the one before; the end is {}", end.hex()),
        None => bail!("there is no line"),
    }
    Ok(())
}
