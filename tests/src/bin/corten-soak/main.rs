//! `corten-soak`: clusters of three real servers that are broken again and again under load, for as long as one likes.
//!
//! Every experiment prints what it did and what it measured, and ends with an error when anything was seen that must not
//! be: an acknowledged write lost, a stale read, a watch that missed an event or had to list again.

mod disks;
mod experiments;
mod moved;
mod nodes;
mod shapes;
mod witness;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

const USAGE: &str = "corten-soak EXPERIMENT... [--minutes N] [--count N] [--watches N] [--other BINARY]
  failover   kill -9 the leader, --count times (100): the time without writes and without reads
  kill       kill -9 any server every 1 to 5 s, for --minutes (20)
  pause      stop the leader in its tracks for 0.1 to 30 s, --count times (20)
  partition  cut servers off each other for 1 to 10 s, whole, one way, or both from a third, --count times (20)
  all        kill -9 all three at once, --count times (50)
  rolling    stop and start one server after the other, --count rounds (5)
  replace    lose one server's disk and replace it, one after the other, --count rounds (3); no kubectl fails
  flip       flip a byte in each file of each server's store, --count rounds (1)
  witness    two servers and a witness: kill any one, for --minutes (10); writes go on without it
  leave      each server leaves in order and joins anew, --count rounds (3)
  mixed      as rolling, each round between this build and another one, --other
  dark       all servers dead for --minutes (10), with nodes and a Service
  node       kill one server after the other, --count rounds (10): nodes go on with another within 1 s
  watches    --watches (10000) open on one server that is killed
  hostile    --count (200) hostile clients on one server, for --minutes (0.5): system traffic's p99 and the memory
Root is needed; CORTEN_BIN names the binary.";

const HOSTILE: &str = "hostile";
/// Objects of 4 KiB that hostile clients list.
const HOSTILE_OBJECTS: usize = 2000;
/// What system traffic may notice of them.
const HOSTILE_P99: Duration = Duration::from_millis(100);
/// What they may take of the server's memory: the answers that seats allow at once, and their connections.
const HOSTILE_BYTES: u64 = 256 << 20;

/// How long and how often.
#[derive(Clone, Default)]
pub struct Options {
    minutes: Option<f64>,
    count: Option<usize>,
    watches: Option<usize>,
    other: Option<PathBuf>,
}

impl Options {
    fn time(&self, default: f64) -> Duration {
        Duration::from_secs_f64(self.minutes.unwrap_or(default) * 60.0)
    }

    fn count(&self, default: usize) -> usize {
        self.count.unwrap_or(default)
    }
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match parse(std::env::args().skip(1)).and_then(|(names, options)| run(&names, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Vec<String>, Options)> {
    let (mut names, mut options) = (Vec::new(), Options::default());
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .and_then(|text| text.parse::<f64>().ok())
                .ok_or(anyhow::anyhow!(USAGE))
        };
        match word.as_str() {
            "--minutes" => options.minutes = Some(number()?),
            "--count" => options.count = Some(number()? as usize),
            "--watches" => options.watches = Some(number()? as usize),
            "--other" => options.other = Some(words.next().ok_or(anyhow::anyhow!(USAGE))?.into()),
            name if name == HOSTILE || experiments::NAMES.contains(&name) => names.push(name.to_owned()),
            _ => bail!(USAGE),
        }
    }
    if names.is_empty() {
        bail!(USAGE);
    }
    Ok((names, options))
}

/// # Errors
/// System traffic suffered, or memory was not bounded.
fn hostile(options: &Options) -> Result<()> {
    let report = corten_tests::hostile::run(corten_tests::hostile::Options {
        clients: options.count(200),
        time: options.time(0.5),
        objects: HOSTILE_OBJECTS,
    })?;
    println!("{report}");
    let most = report.attacked.quantile(0.99);
    ensure!(most < HOSTILE_P99, "system traffic's p99 is {most:?}");
    ensure!(
        report.failed == 0,
        "{} requests of system traffic failed",
        report.failed
    );
    let grown = report.rss_most.saturating_sub(report.rss_before);
    ensure!(grown < HOSTILE_BYTES, "RSS has grown by {grown} bytes");
    Ok(())
}

fn run(names: &[String], options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for name in names {
        println!("== {name}");
        if name == HOSTILE {
            hostile(&options)?;
            continue;
        }
        runtime.block_on(experiments::run(name, options.clone()))?;
        println!("== {name}: nothing was lost, stale or missed");
    }
    Ok(())
}
