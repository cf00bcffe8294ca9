//! Stock kubectl, as a user has it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command::{self, Finished, Running};

/// No single command of these tests may take longer.
pub const LIMIT: Duration = Duration::from_secs(90);

/// One kubectl binary with a kubeconfig and a namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    /// Such as `v1.33.4`.
    pub version: String,
}

/// The versions that tests with containers run; [`every`] version runs the table of commands.
const WANTED: [&str; 2] = ["v1.27.", "v1.33."];

/// The kubectls of [`WANTED`] versions, the first found of each; else the first found of any.
/// Panics with what to do when there is none.
pub fn all(kubeconfig: &Path) -> Vec<Kubectl> {
    let found = found(kubeconfig);
    let wanted = WANTED
        .iter()
        .filter_map(|v| found.iter().find(|kubectl| kubectl.version.starts_with(v)));
    let mut chosen: Vec<Kubectl> = wanted.cloned().collect();
    if chosen.is_empty() {
        chosen.push(found[0].clone());
    }
    announce(&chosen);
    chosen
}

/// One kubectl of each minor version that is found, oldest first.
/// Panics with what to do when there is none.
pub fn every(kubeconfig: &Path) -> Vec<Kubectl> {
    let mut found = found(kubeconfig);
    found.sort_by_key(|kubectl| kubectl.minor().parse::<u32>().unwrap_or_default());
    found.dedup_by(|a, b| a.minor() == b.minor());
    if let Ok(only) = std::env::var("CORTEN_KUBECTL_MINOR") {
        found.retain(|kubectl| kubectl.minor() == only);
    }
    announce(&found);
    found
}

fn announce(chosen: &[Kubectl]) {
    let versions: Vec<&str> = chosen.iter().map(|kubectl| kubectl.version.as_str()).collect();
    println!("kubectl versions under test: {}", versions.join(", "));
}

fn found(kubeconfig: &Path) -> Vec<Kubectl> {
    let found: Vec<Kubectl> = xtask::prerequisites::kubectls()
        .into_iter()
        .chain(xtask::prerequisites::find("kubectl"))
        .filter_map(|program| Kubectl::new(program, kubeconfig))
        .collect();
    assert!(
        !found.is_empty(),
        "no kubectl found in PATH, {:?} or $CORTEN_KUBECTL (colon-separated paths). Install one, e.g. \
         `apt-get install kubernetes-client`",
        xtask::prerequisites::KUBECTL_DIRECTORIES
    );
    found
}

impl Kubectl {
    fn new(program: PathBuf, kubeconfig: &Path) -> Option<Self> {
        let output = Command::new(&program)
            .args(["version", "--client", "-o", "json"])
            .output()
            .ok()?;
        let version: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(Kubectl {
            version: version["clientVersion"]["gitVersion"].as_str()?.to_owned(),
            program,
            kubeconfig: kubeconfig.to_owned(),
            namespace: "default".to_owned(),
        })
    }

    /// The binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same kubectl in another namespace.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Kubectl {
        Kubectl {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    /// Of the version, `27` of `v1.27.3`: names that tell two versions' objects apart.
    pub fn minor(&self) -> &str {
        self.version.split('.').nth(1).unwrap_or("0")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // A cache of its own: discovery must come from this cluster.
        let home = self.kubeconfig.parent().unwrap_or(Path::new("/tmp"));
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", home)
            .env("TERM", "xterm");
        command.args(["--namespace", &self.namespace]).args(words);
        command
    }

    /// Runs the words of `line`; no quoting, so use [`Kubectl::run`] for arguments with spaces.
    #[track_caller]
    pub fn line(&self, line: &str) -> Finished {
        self.run(&line.split_whitespace().collect::<Vec<_>>(), "")
    }

    #[track_caller]
    pub fn run(&self, words: &[&str], stdin: &str) -> Finished {
        command::run(&mut self.command(words), stdin, LIMIT)
    }

    /// Runs kubectl on a terminal of that size, as `script` makes one. No word may hold a single quote.
    #[track_caller]
    pub fn in_terminal(&self, rows: u16, columns: u16, words: &[&str]) -> Finished {
        let inner = self.command(words);
        let line: Vec<String> = std::iter::once(inner.get_program())
            .chain(inner.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut script = Command::new("script");
        let line = format!("stty rows {rows} cols {columns}; {}", line.join(" "));
        script.args(["-qec", &line, "/dev/null"]);
        script.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command::run(&mut script, "", LIMIT)
    }

    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.line(line).ok()
    }

    #[track_caller]
    pub fn start(&self, line: &str) -> Running {
        Running::start(&mut self.command(&line.split_whitespace().collect::<Vec<_>>()))
    }

    #[track_caller]
    pub fn apply(&self, manifest: &Value) -> String {
        self.run(&["apply", "-f", "-"], &manifest.to_string()).ok()
    }

    /// `get` with JSON output.
    #[track_caller]
    pub fn json(&self, what: &str) -> Value {
        let output = self.ok(&format!("get {what} -o json"));
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("get {what}: {error} in {output}"))
    }

    /// As [`Kubectl::json`], for use while the object may be missing or the server away.
    pub fn try_json(&self, what: &str) -> Result<Value, String> {
        let finished = self.line(&format!("get {what} -o json"));
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        serde_json::from_str(&finished.stdout).map_err(|error| error.to_string())
    }

    /// The Pods with that label, by name.
    pub fn pods(&self, selector: &str) -> Result<Vec<Value>, String> {
        let list = self.try_json(&format!("pods -l {selector}"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}
