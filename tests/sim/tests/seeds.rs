//! The seeds that every build must keep; `cargo xtask sim` runs more, with `SIM_SEED=42` that one run again.

use std::sync::atomic::{AtomicU64, Ordering};

use corten_sim::{Limits, run};

/// About 20 a second on one core in an unoptimised build.
const SEEDS: u64 = 2000;

#[test]
fn seeds_keep_every_promise() {
    let single = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let (from, to) = single.map_or((0, SEEDS), |seed: u64| (seed, seed + 1));
    let (next, acknowledged, crashes) = (AtomicU64::new(from), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return;
            }
            match run(seed, Limits::default()) {
                Ok(report) => {
                    acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
                    crashes.fetch_add(report.crashes, Ordering::Relaxed);
                }
                Err(failure) => {
                    next.store(to, Ordering::Relaxed); // one is enough
                    panic!("SIM_SEED={seed}: {}\n{:?}", failure.message, failure.options);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic); // with its own text
            }
        }
    });
    if single.is_none() {
        let (acknowledged, crashes) = (acknowledged.into_inner(), crashes.into_inner());
        assert!(acknowledged > 100_000 && crashes > 2000, "the load was too low");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let digest = |seed| run(seed, Limits::default()).expect("a good run").digest;
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}
