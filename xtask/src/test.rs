//! `cargo xtask test`: everything a change must pass, with its prerequisites installed first.
//!
//! The workspace is compiled once, as a whole: building packages one by one would compile their dependencies anew for
//! each set of features. Then the test programs are run from here: the end-to-end ones last, one case at a time.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::prerequisites;

/// The package whose tests start clusters.
const END_TO_END: &str = "tests";

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

/// One compiled test program.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// The folder of its package: what the program expects as its working directory.
    directory: PathBuf,
    name: String,
    file: PathBuf,
}

impl Program {
    fn is_end_to_end(&self) -> bool {
        self.directory == crate::root().join(END_TO_END)
    }
}

pub fn test(args: &Args) -> Result<()> {
    prerequisites::install()?;
    if !args.unit && !prerequisites::is_root() {
        bail!("the end-to-end tests make network namespaces and containers: run as root, or pass --unit");
    }
    let corten = crate::build_corten(false)?;
    let programs = compile()?;
    let mut failed = Vec::new();
    for program in programs
        .iter()
        .filter(|program| !args.e2e && !program.is_end_to_end())
    {
        run(
            program,
            Command::new(&program.file).args(&args.filter),
            &mut failed,
        )?;
    }
    for program in programs
        .iter()
        .filter(|program| !args.unit && program.is_end_to_end())
    {
        let mut command = Command::new(&program.file);
        command
            .args(["--test-threads=1", "--nocapture"])
            .args(&args.filter)
            .env("CORTEN_BIN", &corten);
        run(program, &mut command, &mut failed)?;
    }
    if args.unit {
        println!("end-to-end tests skipped: --unit was given");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("every test passed");
    Ok(())
}

/// Runs all programs even after one failed: a run tells everything it can.
fn run(program: &Program, command: &mut Command, failed: &mut Vec<String>) -> Result<()> {
    println!("\n-- {}", program.name);
    let started = Instant::now();
    let status = command
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .status()
        .with_context(|| format!("start {}", program.file.display()))?;
    println!(
        "-- {}: {status} after {:.1} s",
        program.name,
        started.elapsed().as_secs_f32()
    );
    if !status.success() {
        failed.push(program.name.clone());
    }
    Ok(())
}

/// Compiles every test program of the workspace.
fn compile() -> Result<Vec<Program>> {
    let output = crate::cargo()
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo test --no-run")?;
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    let text = String::from_utf8(output.stdout).context("read cargo's messages")?;
    Ok(text
        .lines()
        .filter_map(|line| program(&serde_json::from_str(line).ok()?))
        .collect())
}

/// A test program, if this message of cargo's announces one.
fn program(message: &Value) -> Option<Program> {
    if message["profile"]["test"] != true {
        return None;
    }
    let directory = PathBuf::from(message["manifest_path"].as_str()?)
        .parent()?
        .to_path_buf();
    let package = directory.file_name()?.to_str()?.to_string();
    let target = &message["target"];
    let name = match target["kind"][0].as_str()? {
        "test" => format!("{package}/tests/{}", target["name"].as_str()?),
        kind => format!("{package} ({kind} {})", target["name"].as_str()?),
    };
    Some(Program {
        directory,
        name,
        file: PathBuf::from(message["executable"].as_str()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_run() {
        let message = |test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": "/clone/store/Cargo.toml",
                "target": { "kind": ["test"], "name": "crash" },
                "profile": { "test": test },
                "executable": "/clone/target/debug/deps/crash-1",
            })
        };
        let found = program(&message(true)).expect("a test program");
        assert_eq!(
            (found.name.as_str(), found.is_end_to_end()),
            ("store/tests/crash", false)
        );
        assert_eq!(program(&message(false)), None);
    }
}
