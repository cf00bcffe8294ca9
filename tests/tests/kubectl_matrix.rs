//! Every verb of kubectl's command reference that needs no other server, with every kubectl that is found.
//!
//! The tables are `tests/matrix/*.txt`; `corten_tests::script` says how they are written. Each version works in a
//! namespace of its own (`$NS`); names of cluster-scoped objects end in `$V`, so versions do not meet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corten_tests::script::{self, End, Section, Step};
use corten_tests::{Cases, Cluster, Kubectl, command};

/// One command may take this long, and `$~` commands are repeated this long.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

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
        cases.case(&title, || bench.run(section));
    }
}

/// Where one version's commands run.
struct Bench {
    kubectl: Kubectl,
    minor: u32,
    /// Holds a `kubectl` of this version, and scratch files.
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(cluster: &Cluster, kubectl: Kubectl) -> Bench {
        let dir = tempfile::tempdir().expect("a folder for temporary files");
        let minor: u32 = kubectl.minor().parse().expect("versions are numbers");
        std::os::unix::fs::symlink(kubectl.program(), dir.path().join("kubectl")).expect("a link");
        let namespace = format!("m{minor}");
        // A kubeconfig of its own: the table changes contexts.
        let config = std::fs::read_to_string(cluster.kubeconfig()).expect("the kubeconfig is readable");
        let own = dir.path().join("config");
        std::fs::write(&own, config).expect("write a kubeconfig");
        kubectl.ok(&format!("create namespace {namespace}"));
        kubectl.ok(&format!(
            "--kubeconfig {} config set-context --current --namespace {namespace}",
            own.display()
        ));
        Bench { kubectl, minor, dir }
    }

    /// All steps in order, up to the first that goes wrong: later ones build on it.
    fn run(&self, section: &Section) {
        for step in section.steps.iter().filter(|step| step.is_for(self.minor)) {
            let started = Instant::now();
            while let Some(wrong) = self.once(step) {
                if step.end == End::Eventually && started.elapsed() < LIMIT {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                panic!("line {}: `{}` {wrong}", step.line, step.command);
            }
        }
    }

    fn once(&self, step: &Step) -> Option<String> {
        let mut bash = Command::new("bash");
        let path = format!(
            "{}:{}",
            self.dir.path().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        bash.args(["-o", "pipefail", "-uc", &step.command])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("KUBECONFIG", self.dir.path().join("config"))
            .env("HOME", self.dir.path())
            .env("TABLES", tables())
            .env("NS", format!("m{}", self.minor))
            .env("V", self.minor.to_string());
        // kubectl before 1.31 takes what starts with a brace for JSON.
        let stdin = if step.stdin.starts_with('{') {
            format!("---\n{}", step.stdin)
        } else {
            step.stdin.clone()
        };
        let finished = command::run(&mut bash, &stdin, LIMIT);
        step.judge(
            finished.succeeded(),
            &format!("{}\n{}", finished.stdout, finished.stderr),
        )
    }
}
