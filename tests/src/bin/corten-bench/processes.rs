//! Starts the real `corten` for a bench and reads what the kernel knows about it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A server on a free port of the loopback address, with its own folder; both go with the value.
pub struct Server {
    pub child: Child,
    pub started: Instant,
    pub directory: tempfile::TempDir,
    pub port: u16,
}

/// The release build under test.
pub fn corten() -> Result<PathBuf> {
    Ok(PathBuf::from(
        std::env::var("CORTEN_BIN").context("CORTEN_BIN is not set: use `cargo xtask bench`")?,
    ))
}

impl Server {
    /// On a disk.
    pub fn start() -> Result<Server> {
        Server::start_in("/var/tmp")
    }

    /// With its data below `parent`; `/dev/shm` is tmpfs everywhere.
    pub fn start_in(parent: &str) -> Result<Server> {
        let directory = tempfile::Builder::new()
            .prefix("corten-bench-")
            .tempdir_in(parent)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(directory.path().join("server.log"))?;
        let started = Instant::now();
        let child = Command::new(corten()?)
            .args([
                "server",
                "--bind-address",
                "127.0.0.1",
                "--advertise-address",
                "127.0.0.1",
            ])
            .arg("--port")
            .arg(port.to_string())
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Server {
            child,
            started,
            directory,
            port,
        })
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/admin.kubeconfig")
    }

    /// Waits for the kubeconfig and for `/readyz`.
    pub async fn client(&self) -> Result<kube::Client> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if self.kubeconfig().exists() {
                let client = client(&self.kubeconfig()).await?;
                let request = ::http::Request::get("/readyz").body(Vec::new())?;
                if client.request_text(request).await.is_ok() {
                    return Ok(client);
                }
            }
            if Instant::now() > deadline {
                let log =
                    std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
                bail!("the server is not ready after 20 s:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of one server and `nodes` nodes, deleted with the value.
pub struct Cluster {
    pub name: String,
}

impl Cluster {
    pub fn create(nodes: u32) -> Result<Cluster> {
        let cluster = Cluster {
            name: format!("bench{}", std::process::id()),
        };
        run(Command::new(corten()?)
            .args(["cluster", "create", &cluster.name, "--servers", "1", "--nodes"])
            .arg(nodes.to_string()))?;
        let tar = tempfile::NamedTempFile::new()?;
        std::fs::write(tar.path(), xtask::image::busybox(IMAGE)?)?;
        run(Command::new(corten()?)
            .args(["cluster", "load", &cluster.name])
            .arg(tar.path()))?;
        Ok(cluster)
    }

    pub async fn client(&self) -> Result<kube::Client> {
        let output = Command::new(corten()?)
            .args(["cluster", "kubeconfig", &self.name])
            .output()?;
        client(Path::new(String::from_utf8(output.stdout)?.trim())).await
    }

    pub fn host_directory(&self, host: &str) -> PathBuf {
        Path::new("/var/lib/corten/clusters").join(&self.name).join(host)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(corten) = corten() {
            let _ = Command::new(corten)
                .args(["cluster", "delete", &self.name])
                .status();
        }
    }
}

/// The image every bench Pod runs.
pub const IMAGE: &str = "corten.dev/busybox:1";

pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Processes whose command line starts with `corten VERB` and holds `needle`.
pub fn find(verb: &str, needle: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split('\0');
            words.next().is_some_and(|program| program.ends_with("corten"))
                && words.next() == Some(verb)
                && line.contains(needle)
        })
        .collect()
}

/// Resident memory in KiB.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

/// User and system time so far.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name stands in parentheses and may hold spaces; fields 14 and 15 follow it.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
