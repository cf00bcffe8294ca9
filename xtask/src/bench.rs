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
    prerequisites::run(&mut bench)?;
    if args.names.is_empty() || args.names.iter().any(|name| name == "store") {
        beside_etcd()?;
    }
    Ok(())
}

/// The store and etcd (Debian's etcd-server, where it is installed) under the same client, on disk and in memory.
fn beside_etcd() -> Result<()> {
    let example = |words: &[&str]| {
        let mut cargo = std::process::Command::new("cargo");
        cargo.args([
            "run",
            "--release",
            "--quiet",
            "-p",
            "corten-store",
            "--example",
            "bench_etcd",
            "--",
        ]);
        prerequisites::run(cargo.args(words))
    };
    if std::process::Command::new("etcd")
        .arg("--version")
        .output()
        .is_ok()
    {
        for folder in ["/var/tmp/corten-bench-etcd", "/dev/shm/corten-bench-etcd"] {
            example(&[folder])?;
        }
    } else {
        println!("no etcd to compare with: apt-get install etcd-server");
    }
    example(&["objects", "/var/tmp/corten-bench-objects"])
}
