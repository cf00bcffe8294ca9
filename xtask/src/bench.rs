//! `cargo xtask bench`: figures, printed as ratios against a peer in the same run.

use anyhow::Result;
use xtask::prerequisites;

#[derive(clap::Args)]
pub struct Args {
    /// Which figures: store, access, api, pods, start, idle; all of them when none is named
    names: Vec<String>,
}

pub fn bench(args: &Args) -> Result<()> {
    prerequisites::install()?;
    let (access, others): (Vec<&String>, Vec<&String>) =
        args.names.iter().partition(|name| *name == "access");
    if args.names.is_empty() || !access.is_empty() {
        example("corten-apiserver", "bench_access", &[])?;
    }
    if !args.names.is_empty() && others.is_empty() {
        return Ok(());
    }
    let corten = crate::build_corten(true)?;
    // Built by the same command, so that nothing is compiled twice with other features.
    let mut bench = std::process::Command::new(corten.with_file_name("corten-bench"));
    bench.env("CORTEN_BIN", corten).args(&others);
    prerequisites::run(&mut bench)?;
    if args.names.is_empty() || args.names.iter().any(|name| name == "store") {
        beside_etcd()?;
    }
    Ok(())
}

/// Runs an example of a crate, compiled with the features that the binary has.
fn example(package: &str, name: &str, words: &[&str]) -> Result<()> {
    let mut cargo = std::process::Command::new("cargo");
    let build = [
        "build",
        "--release",
        "-p",
        package,
        "-p",
        "corten",
        "--example",
        name,
    ];
    prerequisites::run(cargo.args(build))?;
    let path = crate::root().join("target/release/examples").join(name);
    prerequisites::run(std::process::Command::new(path).args(words))
}

/// The store and etcd (Debian's etcd-server, where it is installed) under the same client, on disk and in memory.
fn beside_etcd() -> Result<()> {
    if std::process::Command::new("etcd")
        .arg("--version")
        .output()
        .is_ok()
    {
        for folder in ["/var/tmp/corten-bench-etcd", "/dev/shm/corten-bench-etcd"] {
            example("corten-store", "bench_etcd", &[folder])?;
        }
    } else {
        println!("no etcd to compare with: apt-get install etcd-server");
    }
    example(
        "corten-store",
        "bench_etcd",
        &["objects", "/var/tmp/corten-bench-objects"],
    )
}
