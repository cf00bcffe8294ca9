//! Every verb of kubectl's command reference that needs no other server, with every kubectl that is found.
//!
//! The tables are `tests/matrix/*.txt`; `corten_tests::script` says how they are written. Each version works in a
//! namespace of its own (`$NS`); names of cluster-scoped objects end in `$V`, so versions do not meet.

use std::path::{Path, PathBuf};

use corten_tests::script::{self, Section};
use corten_tests::{Cases, Cluster, Kubectl, Runner};

/// The folder of the tables.
fn tables() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix")
}

fn sections() -> Vec<Section> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(tables())
        .expect("the folder of tables is there")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a table is readable");
        let sections = script::parse(&text).unwrap_or_else(|bad| panic!("{}: {bad}", file.display()));
        all.extend(sections);
    }
    all
}

#[test]
fn every_verb_with_every_version() {
    let (alone, together): (Vec<Section>, Vec<Section>) = sections().into_iter().partition(|s| s.alone);
    let cluster = Cluster::with_images("matrix", 1);
    let kubectls = corten_tests::kubectl::every(&cluster.kubeconfig());
    let benches: Vec<Bench> = kubectls.into_iter().map(|k| Bench::new(&cluster, k)).collect();
    // Most of the time is spent waiting: the versions run side by side, but for what touches what they share.
    let mut cases = std::thread::scope(|scope| {
        let run = |bench| {
            let sections = &together;
            move || {
                let mut cases = Cases::new();
                run_all(bench, sections, &mut cases);
                cases
            }
        };
        let threads: Vec<_> = benches.iter().map(|bench| scope.spawn(run(bench))).collect();
        let mut all = Cases::new();
        for thread in threads {
            all.merge(thread.join().expect("cases catch their panics"));
        }
        all
    });
    for bench in &benches {
        run_all(bench, &alone, &mut cases);
    }
    cases.finish();
}

fn run_all(bench: &Bench, sections: &[Section], cases: &mut Cases) {
    for section in sections {
        let title = format!("{}: {}", bench.kubectl.version, section.title);
        cases.case(&title, || bench.runner.run(section));
    }
}

/// Where one version's commands run.
struct Bench {
    kubectl: Kubectl,
    runner: Runner,
}

impl Bench {
    fn new(cluster: &Cluster, kubectl: Kubectl) -> Bench {
        let minor: u32 = kubectl.minor().parse().expect("versions are numbers");
        let namespace = format!("m{minor}");
        let runner = Runner::new(&cluster.kubeconfig(), minor)
            .program("kubectl", kubectl.program())
            .variable("TABLES", tables().display().to_string())
            .variable("NS", namespace.clone());
        kubectl.ok(&format!("create namespace {namespace}"));
        kubectl.ok(&format!(
            "--kubeconfig {} config set-context --current --namespace {namespace}",
            runner.kubeconfig().display()
        ));
        Bench { kubectl, runner }
    }
}
