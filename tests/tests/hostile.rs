//! Hostile clients of every kind at once: the server lives, answers its nodes and stays within its memory.
//!
//! `cargo xtask soak hostile` is the same with 200 clients and an optimised server, and holds it to 100 ms.

use std::time::Duration;

use corten_tests::hostile::{Options, run};

/// Growth of the server's memory.
const MOST_BYTES: u64 = 256 << 20;
/// An unoptimised server on a busy machine: a node that waits for its turn behind hostile clients waits longer.
const MOST_P99: Duration = Duration::from_secs(2);

#[test]
fn nodes_are_answered_while_hostile_clients_do_their_worst() {
    let report = run(Options {
        clients: 40,
        time: Duration::from_secs(3),
        objects: 200,
    })
    .expect("the server lives");
    println!("{report}");
    assert_eq!(report.failed, 0, "of the node's requests\n{report}");
    assert!(report.attacked.quantile(0.99) < MOST_P99, "{report}");
    assert!(report.rss_most - report.rss_before < MOST_BYTES, "{report}");
    for (kind, count) in &report.done {
        assert!(*count > 0, "nobody of: {kind}");
    }
}
