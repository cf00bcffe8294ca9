//! Nodes and what runs on them while servers die: one that a node talks to, and all of them for minutes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use corten_tests::load::Load;
use corten_tests::servers::Servers;
use corten_tests::{Cluster, Kubectl, manifests};
use serde_json::{Value, json};

use crate::world::HEAL;

/// The most a node may need beyond what it needs on any day.
const MOVE_LIMIT: Duration = Duration::from_secs(1);
/// How long a connection stays open without a whole request: the server in the Pod waits a minute.
const HELD: Duration = Duration::from_secs(50);
/// A Pod that is given to a node by hand must be seen by it within this, on any day.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

/// A cluster with nodes, and a Service on them.
struct World {
    cluster: Cluster,
    servers: Servers,
    addresses: Vec<String>,
}

impl World {
    fn new(purpose: &str) -> Result<World> {
        let cluster = Cluster::create_with(purpose, 3, 2, &[]);
        cluster.load_images();
        let kubectl = cluster.kubectl();
        kubectl.apply(&manifests::list(&[
            manifests::web("web", 4),
            manifests::service("web"),
        ]));
        kubectl.ok("rollout status deployment/web --timeout=120s");
        let servers = Servers::of(&cluster)?;
        let addresses = cluster.node_ports("web");
        Ok(World {
            cluster,
            servers,
            addresses,
        })
    }

    /// By name of the Pod: its uid, its container and how often that was started.
    fn pods(&self, kubectl: &Kubectl) -> Result<BTreeMap<String, String>> {
        let pods = kubectl.pods("app=web").map_err(anyhow::Error::msg)?;
        let one = |pod: &Value| {
            let container = &pod["status"]["containerStatuses"][0];
            (
                pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                format!(
                    "{} {} {}",
                    pod["metadata"]["uid"], container["containerID"], container["restartCount"]
                ),
            )
        };
        Ok(pods.iter().map(one).collect())
    }

    /// kubectl against any server but one.
    fn kubectl_without(&self, dead: &str) -> Result<Kubectl> {
        let names = &self.servers.names;
        let other = names
            .iter()
            .find(|name| *name != dead)
            .context("another server")?;
        let path = self.cluster.host_dir(other).join("admin.kubeconfig");
        corten_tests::kubectl::all(&path).pop().context("a kubectl")
    }
}

/// A connection that stays open: the other end keeps it as long as no whole request has come.
struct Established(TcpStream);

impl Established {
    fn open(address: &str) -> Result<Established> {
        let address: SocketAddr = address.parse()?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n")?;
        Ok(Established(stream))
    }

    /// The end of the request, and an answer on the same connection.
    fn finish(mut self) -> Result<()> {
        self.0.write_all(b"\r\n")?;
        let mut answer = String::new();
        self.0.read_to_string(&mut answer)?;
        ensure!(answer.contains(" 200 "), "answered {answer:?}");
        Ok(())
    }
}

/// All servers are dead for `time`: Services answer, an established connection goes on, Pods are what they were.
///
/// # Errors
/// One of that did not hold.
pub async fn dark(time: Duration) -> Result<()> {
    let world = World::new("soak-dark")?;
    let before = world.pods(world.cluster.kubectl())?;
    let load = Load::start(&world.addresses, 4, Duration::from_millis(20));
    let mut established = Established::open(&world.addresses[0])?;
    for name in &world.servers.names {
        world.cluster.fault("kill", name);
    }
    println!("all servers are dead for {} s", time.as_secs());
    let dark = Instant::now();
    let mut held = 0;
    while dark.elapsed() < time {
        tokio::time::sleep(HELD.min(time - dark.elapsed())).await;
        held += 1;
        let context = format!("a connection that was open for {HELD:?}, number {held}");
        std::mem::replace(&mut established, Established::open(&world.addresses[0])?)
            .finish()
            .context(context)?;
    }
    println!("{held} connections went on while nobody served, the first of them from before");
    let dead = load.so_far();
    for name in &world.servers.names {
        world.cluster.fault("start", name);
    }
    world.servers.healthy(3, HEAL).await?;
    // A change reaches the nodes, and what runs is still the same.
    let back = Instant::now();
    world.cluster.kubectl().ok("scale deployment/web --replicas=5");
    world
        .cluster
        .kubectl()
        .ok("rollout status deployment/web --timeout=60s");
    println!(
        "a change is carried out {} ms after the servers are back",
        back.elapsed().as_millis()
    );
    let after = world.pods(world.cluster.kubectl())?;
    let report = load.stop();
    println!(
        "{} requests to the Service while they were dead, {} in all, slowest {:?}, {} failed",
        dead.total(),
        report.total(),
        report.slowest,
        report.failures.len()
    );
    ensure!(report.failures.is_empty(), "{:?}", report.failures.first());
    for (name, identity) in &before {
        ensure!(
            after.get(name) == Some(identity),
            "Pod {name} was {identity}, and is {:?}",
            after.get(name)
        );
    }
    println!("{} Pods are untouched", before.len());
    Ok(())
}

/// The servers die one after the other, `count` times; what is given to each node right after is seen by it at once.
///
/// # Errors
/// A node needed longer than on any day, or a Pod was touched.
pub async fn node(count: usize) -> Result<()> {
    let world = World::new("soak-node")?;
    let before = world.pods(world.cluster.kubectl())?;
    let nodes: Vec<String> = world.cluster.nodes().map(str::to_owned).collect();
    let mut usual = Duration::ZERO;
    for turn in 0..4 {
        for node in &nodes {
            usual = usual.max(seen(world.cluster.kubectl(), node, &format!("usual-{turn}")).await?);
        }
    }
    println!(
        "a Pod that is given to a node is seen by it within {} ms on any day",
        usual.as_millis()
    );
    let mut worst = Duration::ZERO;
    for turn in 0..count {
        for name in &world.servers.names {
            world.servers.healthy(3, HEAL).await?;
            let kubectl = world.kubectl_without(name)?;
            world.cluster.fault("kill", name);
            let mut took = Vec::new();
            for node in &nodes {
                took.push(seen(&kubectl, node, &format!("dead-{name}-{turn}")).await?);
            }
            println!("{name} killed: seen after {took:?}");
            worst = worst.max(took.into_iter().max().unwrap_or_default());
            world.cluster.fault("start", name);
        }
    }
    world.servers.healthy(3, HEAL).await?;
    let after = world.pods(world.cluster.kubectl())?;
    ensure!(before == after, "Pods were {before:?}, and are {after:?}");
    println!(
        "at worst {} ms; {} Pods are untouched",
        worst.as_millis(),
        before.len()
    );
    ensure!(
        worst <= usual + MOVE_LIMIT,
        "{worst:?} is more than {MOVE_LIMIT:?} above {usual:?}"
    );
    Ok(())
}

/// Gives a Pod to a node by hand; how long until the node says that it has it.
async fn seen(kubectl: &Kubectl, node: &str, name: &str) -> Result<Duration> {
    let name = format!("{name}-{node}");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "none.invalid/none:1", "imagePullPolicy": "Never" }],
        },
    });
    let started = Instant::now();
    kubectl.apply(&pod);
    loop {
        let pod = kubectl
            .try_json(&format!("pod {name}"))
            .map_err(anyhow::Error::msg)?;
        if pod["status"]["startTime"].is_string() {
            let took = started.elapsed();
            kubectl.ok(&format!("delete pod {name} --wait=false"));
            return Ok(took);
        }
        if started.elapsed() > SEEN_LIMIT {
            bail!("{node} has not seen {name}: {}", pod["status"]);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
