//! `cargo xtask sim`: many seeds, on some threads; prints what was run, and of the first failure the seed, its options and
//! the smallest form of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use corten_sim::options::SECOND;
use corten_sim::{Failure, Limits, Report, run, shrink};

#[derive(Parser)]
#[command(name = "corten-sim", about = "Simulates the store under faults")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Every n-th seed is run twice, and both runs must be the same
    #[arg(long, default_value_t = 100)]
    twice: u64,
    /// Instead of that: find every planted bug within its budget of seeds
    #[arg(long)]
    planted: bool,
    /// Of the planted bugs only those whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Print what each seed did
    #[arg(long)]
    verbose: bool,
}

#[derive(Default)]
struct Totals {
    report: Report,
    seeds: u64,
    failed: Vec<Failure>,
}

fn add(totals: &mut Report, report: &Report) {
    totals.simulated += report.simulated;
    totals.events += report.events;
    totals.acknowledged += report.acknowledged;
    totals.unknown += report.unknown;
    totals.reads += report.reads;
    totals.seen += report.seen;
    totals.lists += report.lists;
    totals.resumes += report.resumes;
    totals.crashes += report.crashes;
    totals.partitions += report.partitions;
    totals.installed += report.installed;
    totals.changes += report.changes;
    totals.compactions += report.compactions;
    totals.terms += report.terms;
}

fn main() {
    let args = Args::parse();
    if args.planted {
        return planted(&args);
    }
    let (from, count) = match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed, 1),
        None => (args.from, args.seeds),
    };
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    work(&args, seed, &totals, &stop, started);
                }
            });
        }
    });
    let totals = totals.into_inner().expect("no thread panics with the lock");
    print(&totals, started);
    for failure in &totals.failed {
        println!("FAILED: SIM_SEED={}: {}", failure.options.seed, failure.message);
        println!("{:?}", failure.options);
        let (limits, smallest) = shrink(failure);
        println!(
            "smallest: {limits:?}: {}\n{:?}",
            smallest.message, smallest.options
        );
    }
    if !totals.failed.is_empty() {
        std::process::exit(1);
    }
}

fn work(args: &Args, seed: u64, totals: &Mutex<Totals>, stop: &AtomicBool, started: Instant) {
    let ended = run(seed, Limits::default());
    let mut ended = ended.map_err(|failure| *failure);
    if let (true, Ok(report)) = (seed.is_multiple_of(args.twice.max(1)), &ended)
        && let again = run(seed, Limits::default())
        && again.as_ref().ok().map(|report| report.digest) != Some(report.digest)
    {
        let options = corten_sim::Options::draw(seed, Limits::default());
        let message = format!("two runs of one seed differ: {report:?} and {again:?}");
        ended = Err(Failure { options, message });
    }
    if args.verbose {
        println!("{seed}: {ended:?}");
    }
    let mut totals = totals.lock().expect("no thread panics with the lock");
    totals.seeds += 1;
    match ended {
        Ok(report) => add(&mut totals.report, &report),
        Err(failure) => {
            totals.failed.push(failure);
            stop.store(true, Ordering::Relaxed);
        }
    }
    if totals.seeds.is_multiple_of(1000) {
        print(&totals, started);
    }
}

fn print(totals: &Totals, started: Instant) {
    let (report, took) = (&totals.report, started.elapsed().as_secs_f64());
    println!(
        "{} seeds, {} s simulated, {:.1} seeds/s, {:.0}x; {} acknowledged, {} unknown, {} reads, {} events seen, {} lists, {} resumes; {} crashes, {} partitions, {} snapshots installed, {} membership changes, {} compactions, {} terms",
        totals.seeds,
        report.simulated / SECOND,
        totals.seeds as f64 / took,
        report.simulated as f64 / SECOND as f64 / took,
        report.acknowledged,
        report.unknown,
        report.reads,
        report.seen,
        report.lists,
        report.resumes,
        report.crashes,
        report.partitions,
        report.installed,
        report.changes,
        report.compactions,
        report.terms,
    );
}

#[cfg(not(feature = "planted"))]
fn planted(_: &Args) {
    eprintln!("this build has no planted bugs: build it with --features planted");
    std::process::exit(1);
}

#[cfg(feature = "planted")]
fn planted(args: &Args) {
    use corten_sim::catalogue::{CATALOGUE, find};

    let next = AtomicU64::new(0);
    let missed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some((bug, budget)) = CATALOGUE.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if !format!("{bug:?}").contains(&args.only) {
                        continue;
                    }
                    match find(*bug, args.from, *budget) {
                        Some((seeds, failure)) => {
                            let text: String = failure.message.lines().skip(1).take(1).collect();
                            println!("{bug:?}: found after {seeds} seeds: {:.160}", text);
                        }
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            println!("{bug:?}: NOT FOUND within {budget} seeds");
                        }
                    }
                }
            });
        }
    });
    if missed.into_inner() > 0 {
        std::process::exit(1);
    }
}
