//! Helm manages a chart with everything charts usually hold: definitions, hooks, tests, looked-up values.
//!
//! The chart is `tests/helm/shop`, the table of commands `tests/helm/steps.txt`. Without a Helm, and without a Go toolchain
//! to build one, nothing is tested and the output says so.

use std::path::Path;

use corten_tests::{Cases, Cluster, Runner, helm, script};

#[test]
fn a_chart_from_install_to_uninstall() {
    let program = match helm::program() {
        Ok(program) => program,
        Err(why) => {
            println!("SKIPPED: {why}");
            return;
        }
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm");
    let table = std::fs::read_to_string(here.join("steps.txt")).expect("the table is readable");
    let sections = script::parse(&table).unwrap_or_else(|bad| panic!("steps.txt: {bad}"));
    let cluster = Cluster::with_images("helm", 1);
    let kubectl = cluster.kubectl();
    let runner = Runner::new(&cluster.kubeconfig(), kubectl.minor().parse().expect("a number"))
        .program("helm", &program)
        .program("kubectl", kubectl.program())
        .variable("CHART", here.join("shop").display().to_string());
    let mut cases = Cases::new();
    for section in &sections {
        cases.case(&section.title, || runner.run(section));
    }
    cases.finish();
}
