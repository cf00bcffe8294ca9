//! `corten cluster create`: a place for the cluster, its network, its server, its nodes, and the wait until they are ready.
//!
//! What fails on the way is taken back by [`super::delete`], which needs to know nothing of how far it came.

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corten_apiserver::pki;
use corten_client::{Informers, Selection};
use futures::FutureExt;
use futures::future::select_all;
use k8s_openapi::api::core::v1::Node;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::state::{self, Cluster, DirLock, Host, Phase, Role, kubeconfig_path};
use super::{CreateArgs, delete, network, process, subnet};

/// Hosts that fit a subnet beside the root namespace.
const MAX_HOSTS: u32 = 250;
/// More members only make writes slower: 7 survive three failures.
const MAX_SERVERS: u32 = 7;
/// Between two questions whether a server that is starting answers already.
const SERVER_PAUSE: Duration = Duration::from_millis(20);

/// Creates a cluster and waits until all its nodes are ready.
///
/// # Errors
/// The name or number is not possible, the name is taken, or the cluster did not become ready; then the error holds the
/// end of the log that matters, and nothing of the cluster is left unless `keep` was asked for.
pub async fn create(args: &CreateArgs) -> Result<Cluster> {
    state::check_name(&args.name)?;
    ensure!(
        (1..=MAX_SERVERS).contains(&args.servers),
        "a cluster has 1 to {MAX_SERVERS} servers"
    );
    ensure!(
        args.nodes < MAX_HOSTS - args.servers - u32::from(args.witness),
        "at most {MAX_HOSTS} hosts fit one cluster"
    );
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root");

    let mut progress = Progress::new();
    let (mut cluster, lock) = reserve(args).await?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(args.deadline(), bring_up(&cluster, &mut progress)) => match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(late(&cluster, args.timeout)),
        },
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = outcome {
        if args.keep {
            progress.finish();
            return Err(error.context(format!(
                "cluster {} did not come up; kept for inspection",
                cluster.name
            )));
        }
        progress.waiting_for("removing what was made");
        drop(lock);
        let removed = delete(&cluster.name).await;
        progress.finish();
        let error = error.context(format!(
            "cluster {} did not come up and was removed",
            cluster.name
        ));
        return Err(match removed {
            Ok(()) => error,
            Err(left) => error.context(format!("and something is left of it: {left:#}")),
        });
    }
    cluster.phase = Phase::Running;
    cluster.save()?;
    progress.done(&format!("cluster {} is ready", cluster.name));
    progress.finish();
    Ok(cluster)
}

/// Takes the name and a free subnet, under the lock of all clusters.
async fn reserve(args: &CreateArgs) -> Result<(Cluster, DirLock)> {
    let all = DirLock::take(&state::clusters_dir(), true)?;
    let dir = state::cluster_dir(&args.name);
    ensure!(
        !dir.exists(),
        "cluster {} exists already; `corten cluster delete {0}` removes it",
        args.name
    );
    let mut taken = network::subnets_in_use().await?;
    taken.extend(state::list()?.iter().map(|cluster| cluster.subnet));
    taken.extend([args.service_cidr, args.cluster_cidr]);
    let subnet = subnet::pick(&args.name, &taken).context("no free subnet is left in 10.160.0.0/11")?;
    let mut cluster = Cluster::new(
        &args.name,
        args.servers,
        args.nodes,
        subnet,
        args.service_cidr,
        args.cluster_cidr,
    );
    if args.witness {
        cluster = cluster.with_witness();
    }
    cluster.server_args.clone_from(&args.server_arg);
    let lock = DirLock::take(&dir, true)?.context("the cluster's folder vanished")?;
    cluster.save()?;
    drop(all);
    Ok((cluster, lock))
}

async fn bring_up(cluster: &Cluster, progress: &mut Progress) -> Result<()> {
    network::build(cluster).await.context("build the network")?;
    progress.done(&format!("{} hosts on {}", cluster.hosts.len(), cluster.subnet));

    let server = cluster
        .with_role(Role::Server)
        .next()
        .context("the cluster has no server")?;
    process::start(cluster, server)?;
    progress.waiting_for("waiting for the server");
    let client = server_ready(cluster, server).await?;
    progress.done(&format!("server ready at {}", cluster.server_url()?));
    let servers: Vec<&Host> = cluster.with_role(Role::Server).skip(1).collect();
    let witness = cluster.with_role(Role::Witness).next();
    if !servers.is_empty() || witness.is_some() {
        let token = crate::token::for_servers(&client).await?;
        pki::write_private(&cluster.server_token_path(), token.reveal().as_bytes())?;
        for other in servers.iter().copied().chain(witness) {
            process::start(cluster, other)?;
        }
        progress.waiting_for("waiting for the other servers");
        for other in &servers {
            answers(cluster, other).await?;
        }
        let count = 1 + servers.len() + usize::from(witness.is_some());
        tokio::select! {
            done = voters(&client, count) => done?,
            error = any_exit(cluster) => return Err(error),
        }
        let and_witness = if witness.is_some() { " and a witness" } else { "" };
        progress.done(&format!("{} servers{and_witness} ready", servers.len() + 1));
    }

    // As on real machines: nodes know an address and a token.
    let token = crate::token::for_nodes(&client).await?;
    pki::write_private(&cluster.node_token_path(), token.reveal().as_bytes())?;
    for host in cluster.with_role(Role::Node) {
        process::start(cluster, host)?;
    }
    tokio::select! {
        () = nodes_ready(cluster, client, progress) => {}
        error = any_exit(cluster) => return Err(error),
    }
    progress.done(&format!("{} nodes ready", cluster.with_role(Role::Node).count()));
    Ok(())
}

/// Waits until the first server is ready, and puts its kubeconfig where users find it.
async fn server_ready(cluster: &Cluster, server: &Host) -> Result<kube::Client> {
    let client = answers(cluster, server).await?;
    let written = cluster.data_dir(server).join("admin.kubeconfig");
    write_kubeconfig(&written, &kubeconfig_path(&cluster.name))?;
    Ok(client)
}

/// Waits until the leader has made voters of all servers.
async fn voters(client: &kube::Client, count: usize) -> Result<()> {
    loop {
        let request = http::Request::get("/corten/v1/members").body(Vec::new())?;
        let members: serde_json::Value = client.request(request).await.context("list the members")?;
        let votes = |member: &&serde_json::Value| {
            matches!(member["role"].as_str(), Some("leader" | "voter" | "witness"))
        };
        let members = members["members"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if members.iter().filter(votes).count() == count {
            return Ok(());
        }
        tokio::time::sleep(SERVER_PAUSE).await;
    }
}

/// Waits until the server has written its kubeconfig and answers `/readyz`.
async fn answers(cluster: &Cluster, server: &Host) -> Result<kube::Client> {
    let written = cluster.data_dir(server).join("admin.kubeconfig");
    let answers = async {
        let mut client = None;
        loop {
            if client.is_none() && written.exists() {
                client = Some(corten_client::remote(&written).await?);
            }
            if let Some(client) = &client {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                if client.request_text(request).await.is_ok() {
                    return anyhow::Ok(client.clone());
                }
            }
            tokio::time::sleep(SERVER_PAUSE).await;
        }
    };
    tokio::select! {
        client = answers => client,
        error = any_exit(cluster) => Err(error),
    }
}

fn write_kubeconfig(from: &Path, to: &Path) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let mut file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(to)?;
    file.write_all(&content)
        .with_context(|| format!("write {}", to.display()))
}

/// Returns once every node of the cluster reports `Ready`.
async fn nodes_ready(cluster: &Cluster, client: kube::Client, progress: &mut Progress) {
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let nodes = Informers::new(client, stop).informer::<Node>(Selection::all());
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |_| wake.notify_one());
    loop {
        let ready: Vec<String> = nodes
            .list()
            .iter()
            .filter(|node| is_ready(node))
            .filter_map(|node| node.metadata.name.clone())
            .collect();
        let missing: Vec<&str> = cluster
            .with_role(Role::Node)
            .map(|host| host.name.as_str())
            .filter(|name| !ready.iter().any(|ready| ready == name))
            .collect();
        if missing.is_empty() {
            return;
        }
        progress.waiting_for(format!("waiting for {}", missing.join(", ")));
        changed.notified().await;
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns when the first host process of the cluster ends, which none should.
async fn any_exit(cluster: &Cluster) -> anyhow::Error {
    let exits = cluster
        .hosts
        .iter()
        .filter_map(|host| Some((host, process::running(cluster, host)?)))
        .map(|(host, running)| async move { (host, exited(running.pid).await) }.boxed())
        .collect::<Vec<_>>();
    // A process that ended before it could be waited for is not running any more.
    let started = |host: &&Host| cluster.log_path(host).exists();
    if let Some(host) = cluster
        .hosts
        .iter()
        .filter(started)
        .find(|host| !process::is_running(cluster, host))
    {
        return ended(cluster, host);
    }
    if exits.is_empty() {
        return std::future::pending().await;
    }
    let ((host, _), _, _) = select_all(exits).await;
    ended(cluster, host)
}

fn ended(cluster: &Cluster, host: &Host) -> anyhow::Error {
    let log = cluster.log_path(host);
    anyhow::anyhow!(
        "{} ended; the end of {}:\n{}",
        host.name,
        log.display(),
        process::log_tail(&log)
    )
}

/// Waits for the end of a process that need not be our child.
async fn exited(pid: i32) -> std::io::Result<()> {
    // SAFETY: a plain system call; the descriptor it returns is owned by nobody else.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: see above; the descriptor stays open as long as the `AsyncFd` that owns it.
    let ended = unsafe {
        let fd = OwnedFd::from_raw_fd(fd as i32);
        AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE)?
    };
    ended.readable().await.map(|_| ())
}

fn late(cluster: &Cluster, seconds: u64) -> anyhow::Error {
    let mut text = format!("not ready within {seconds} s");
    for host in &cluster.hosts {
        let log = cluster.log_path(host);
        if log.exists() {
            text.push_str(&format!(
                "\nthe end of {}:\n{}",
                log.display(),
                process::log_tail(&log)
            ));
        }
    }
    anyhow::Error::msg(text)
}

/// Starts again what was killed; used by the fault verbs.
pub fn restart(cluster: &Cluster, host: &Host) -> Result<()> {
    if process::is_running(cluster, host) {
        bail!("{} of cluster {} is running", host.name, cluster.name);
    }
    process::start(cluster, host)
}
