//! `cargo xtask up` and `down`: the shortest way from a clone to a cluster that answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::{image, prerequisites};

/// How long the example may take to answer from all its Pods.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
const IMAGE: &str = "corten.dev/hello:1";

#[derive(clap::Args)]
pub struct Args {
    /// Name of the cluster
    #[arg(long, default_value = "hello")]
    name: String,
    /// Nodes beside the server
    #[arg(long, default_value_t = 2)]
    nodes: u32,
    /// Use an optimised build: some ten minutes to compile on two cores, where the plain one takes three
    #[arg(long)]
    release: bool,
}

#[derive(clap::Args)]
pub struct DownArgs {
    /// Name of the cluster
    #[arg(long, default_value = "hello")]
    name: String,
    /// Use the optimised build
    #[arg(long)]
    release: bool,
}

pub fn up(args: &Args) -> Result<()> {
    let started = Instant::now();
    let step = |text: &str| println!("[{:>5.1}s] {text}", started.elapsed().as_secs_f32());
    step("looking for containerd, runc, iptables and busybox");
    prerequisites::install()?;
    if !prerequisites::is_root() {
        bail!("a cluster is made of network namespaces and containers: run as root");
    }
    step("building corten");
    let corten = crate::build_corten(args.release)?;
    step(&format!(
        "creating cluster {:?}: 1 server and {} nodes",
        args.name, args.nodes
    ));
    prerequisites::run(
        Command::new(&corten)
            .args(["cluster", "create", &args.name, "--servers", "1", "--nodes"])
            .arg(args.nodes.to_string()),
    )?;
    step(&format!("making and loading the image {IMAGE}"));
    let tar = crate::root().join("target/hello-image.tar");
    std::fs::write(&tar, image::web(IMAGE, "v1")?).with_context(|| format!("write {}", tar.display()))?;
    prerequisites::run(
        Command::new(&corten)
            .args(["cluster", "load", &args.name])
            .arg(&tar),
    )?;
    let kubectl = Kubectl::new(&corten, &args.name)?;
    step("applying examples/hello.yaml");
    let example = crate::root().join("examples/hello.yaml");
    kubectl.show(&["apply", "-f", &example.to_string_lossy()])?;
    step("waiting for the Deployment");
    kubectl.show(&["rollout", "status", "deployment/hello", "--timeout=120s"])?;
    answers(&kubectl, &step)?;
    kubectl.show(&["get", "pods", "-o", "wide"])?;
    step("it works");
    println!(
        "\nGo on with:\n  export KUBECONFIG={}\n  {} get all -A\n  cargo xtask down    # leaves nothing behind",
        kubectl.kubeconfig.display(),
        kubectl.program.display()
    );
    Ok(())
}

pub fn down(args: &DownArgs) -> Result<()> {
    let corten = crate::build_corten(args.release)?;
    prerequisites::run(Command::new(corten).args(["cluster", "delete", &args.name]))
}

/// Asks the Service from a Pod (ClusterIP) and from this host (NodePort) until each Pod has answered both.
fn answers(kubectl: &Kubectl, step: &dyn Fn(&str)) -> Result<()> {
    let service: Value = serde_json::from_str(&kubectl.read(&["get", "service", "hello", "-o", "json"])?)?;
    let cluster_ip = service["spec"]["clusterIP"]
        .as_str()
        .context("the Service has no clusterIP")?;
    let node_port = service["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .context("the Service has no nodePort")?;
    let nodes: Value = serde_json::from_str(&kubectl.read(&["get", "nodes", "-o", "json"])?)?;
    let node_ip = nodes["items"][0]["status"]["addresses"]
        .as_array()
        .and_then(|addresses| addresses.iter().find(|address| address["type"] == "InternalIP"))
        .and_then(|address| address["address"].as_str())
        .context("the first Node has no InternalIP")?;
    let pods: Value =
        serde_json::from_str(&kubectl.read(&["get", "pods", "-l", "app=hello", "-o", "json"])?)?;
    let names: Vec<&str> = pods["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    let first = *names.first().context("the Deployment has no Pod")?;

    let inside = format!("http://{cluster_ip}/");
    step(&format!("asking the ClusterIP {inside} from Pod {first}"));
    collect(&names, || {
        kubectl.read(&[
            "exec", first, "--", "timeout", "3", "wget", "-q", "-O", "-", &inside,
        ])
    })?;
    let outside = format!("{node_ip}:{node_port}");
    step(&format!("asking the NodePort http://{outside}/ from this host"));
    collect(&names, || get(&outside))
}

fn collect(pods: &[&str], mut ask: impl FnMut() -> Result<String>) -> Result<()> {
    let deadline = Instant::now() + ANSWER_DEADLINE;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut last_error = None;
    while !pods.iter().all(|pod| counts.contains_key(*pod)) {
        if Instant::now() > deadline {
            bail!(
                "not every Pod answered within {ANSWER_DEADLINE:?}: {counts:?}; last error: {last_error:?}"
            );
        }
        match ask() {
            Ok(answer) => {
                *counts
                    .entry(answer.split(' ').next().unwrap_or_default().to_string())
                    .or_default() += 1
            }
            Err(error) => last_error = Some(format!("{error:#}")),
        }
    }
    for (pod, count) in counts {
        println!("         {pod} answered {count} times");
    }
    Ok(())
}

/// One HTTP/1.0 GET of `/` with a deadline; the body.
fn get(address: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if !head.contains(" 200 ") {
        bail!("answer {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_string())
}

struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn new(corten: &Path, cluster: &str) -> Result<Kubectl> {
        let output = Command::new(corten)
            .args(["cluster", "kubeconfig", cluster])
            .output()?;
        if !output.status.success() {
            bail!(
                "corten cluster kubeconfig: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let kubeconfig = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let program = prerequisites::kubectls()
            .pop()
            .context("no kubectl on this machine")?;
        Ok(Kubectl { program, kubeconfig })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }

    fn show(&self, args: &[&str]) -> Result<()> {
        prerequisites::run(&mut self.command(args))
    }

    fn read(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output()?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
