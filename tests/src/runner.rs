//! Runs the tables of [`crate::script`]: each command in bash, in a folder of its own with its own kubeconfig.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::command;
use crate::script::{End, Section, Step};

/// One command may take this long, and `$~` commands are repeated this long.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// Where the commands of a table run.
pub struct Runner {
    /// Holds the programs under test, first in `PATH`, and scratch files.
    dir: tempfile::TempDir,
    /// Of the kubectl under test: steps may be for some versions only.
    minor: u32,
    variables: Vec<(&'static str, String)>,
}

impl Runner {
    /// With a copy of `kubeconfig`, as tables change contexts.
    #[track_caller]
    pub fn new(kubeconfig: &Path, minor: u32) -> Runner {
        let dir = tempfile::tempdir().expect("a folder for temporary files");
        let config = std::fs::read_to_string(kubeconfig).expect("the kubeconfig is readable");
        std::fs::write(dir.path().join("config"), config).expect("write a kubeconfig");
        Runner {
            dir,
            minor,
            variables: vec![("V", minor.to_string())],
        }
    }

    /// Commands call `program` by `name`.
    #[must_use]
    pub fn program(self, name: &str, program: &Path) -> Runner {
        std::os::unix::fs::symlink(program, self.dir.path().join(name)).expect("a link");
        self
    }

    #[must_use]
    pub fn variable(mut self, name: &'static str, value: String) -> Runner {
        self.variables.push((name, value));
        self
    }

    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.dir.path().join("config")
    }

    /// All steps in order, up to the first that goes wrong: later ones build on it.
    #[track_caller]
    pub fn run(&self, section: &Section) {
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
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
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
