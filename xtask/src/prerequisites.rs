//! What the machine must have before a cluster can run, and how to get it on Debian.
//!
//! Knows commands and Debian packages. Must not know what they are used for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// A command that must be found, and the Debian package that brings it.
const REQUIRED: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables-restore", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("modprobe", "kmod"),
    ("openssl", "openssl"),
];

/// Any of these names is a kubectl; Google's packages install one file per version.
pub const KUBECTL_DIRECTORIES: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/usr/lib/google-cloud-sdk/bin",
    "/opt/kubectl",
];

/// Installs what is missing. Needs root only when something is.
///
/// # Errors
/// When a package is missing and cannot be installed; the text names the command to run by hand.
pub fn install() -> Result<()> {
    let mut packages: Vec<&str> = REQUIRED
        .iter()
        .filter(|(command, _)| find(command).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !Path::new("/usr/bin/busybox").exists() {
        packages.push("busybox-static");
    }
    if !has_python_with_venv() {
        packages.extend(["python3", "python3-venv"]);
    }
    if kubectls().is_empty() {
        packages.push("kubernetes-client");
    }
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {} (apt-get, as root)", packages.join(" "));
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !is_root() {
        bail!("missing packages; run as root: {by_hand}");
    }
    if find("apt-get").is_none() {
        bail!(
            "this is no Debian machine: install what these Debian packages hold: {}",
            packages.join(" ")
        );
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The official Python client is tried in an environment of its own.
fn has_python_with_venv() -> bool {
    Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Every kubectl on this machine: `$CORTEN_KUBECTL` (colon-separated) first, then the usual folders.
#[must_use]
pub fn kubectls() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::env::var("CORTEN_KUBECTL")
        .map(|paths| {
            paths
                .split(':')
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .collect()
        })
        .unwrap_or_default();
    for directory in KUBECTL_DIRECTORIES {
        let Ok(entries) = std::fs::read_dir(directory) else {
            continue;
        };
        let mut names: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                name == "kubectl" || name.strip_prefix("kubectl.").is_some_and(|v| v.starts_with("1."))
            })
            .collect();
        names.sort();
        found.extend(names);
    }
    found
}

/// Where `command` is, by `PATH` and the system folders.
#[must_use]
pub fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain([
            "/usr/local/sbin",
            "/usr/sbin",
            "/sbin",
            "/usr/local/bin",
            "/usr/bin",
            "/bin",
        ])
        .map(|directory| Path::new(directory).join(command))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may make namespaces, links and mounts.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a command to its end, with its output shown.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|e| anyhow::anyhow!("start {:?}: {e}", command.get_program()))?;
    if !status.success() {
        bail!(
            "{:?} {:?}: {status}",
            command.get_program(),
            command.get_args().collect::<Vec<_>>()
        );
    }
    Ok(())
}
