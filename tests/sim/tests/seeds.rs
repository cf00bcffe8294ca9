//! A few seeds for every build; `cargo xtask sim` runs many, with `SIM_SEED=42` that one run again.

use corten_sim::{Limits, run};

/// Runs of an unoptimised build.
const SEEDS: u64 = 24;

#[test]
fn seeds_keep_every_promise() {
    let single = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = single.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut acknowledged, mut crashes) = (0, 0);
    for seed in seeds {
        match run(seed, Limits::default()) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                crashes += report.crashes;
            }
            Err(failure) => panic!("SIM_SEED={seed}: {}\n{:?}", failure.message, failure.options),
        }
    }
    if single.is_none() {
        assert!(acknowledged > 1000 && crashes > 20, "the load was too low");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let digest = |seed| run(seed, Limits::default()).expect("a good run").digest;
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}
