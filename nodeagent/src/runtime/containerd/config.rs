//! The configuration file of our own containerd. Pure.

use std::path::{Path, PathBuf};

/// Longest path of a unix socket in bytes, without the closing zero.
pub const SOCKET_PATH_LIMIT: usize = 107;

/// Where everything of one containerd lives. Two with different directories never meet: shims are told apart by
/// a hash of the socket's address, and all state, mounts and network namespaces lie below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub dir: PathBuf,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
}

impl Layout {
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }
    pub fn ttrpc_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock.ttrpc")
    }
    pub fn debug_socket(&self) -> PathBuf {
        self.dir.join("debug.sock")
    }
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("containerd.pid")
    }
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("containerd.log")
    }
    pub fn boot_file(&self) -> PathBuf {
        self.dir.join("boot-id")
    }

    /// The first socket whose path the kernel would refuse.
    pub fn too_long(&self) -> Option<PathBuf> {
        let sockets = [self.ttrpc_socket(), self.socket(), self.debug_socket()];
        sockets
            .into_iter()
            .find(|path| path.as_os_str().len() > SOCKET_PATH_LIMIT)
    }
}

/// Plug-ins that we do not use. `restart` and the cgroup monitor wake up on timers; the others look for
/// programs, file systems or services that are not there. (The old runtime v1 must stay: the task service of
/// containerd 1.6 does not load without it.)
const DISABLED: [&str; 8] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// Version 2 of the format, understood by containerd 1.3 to 1.7, and converted by 2.x.
pub fn render(layout: &Layout, pause_image: &str, runc: &Path) -> String {
    let disabled: Vec<String> = DISABLED.iter().map(|name| text(name)).collect();
    format!(
        r#"# Written by Corten at every start; changes are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[ttrpc]
  address = {ttrpc}

[debug]
  address = {debug}
  level = "warn"

[metrics]
  address = ""

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  stream_idle_timeout = "4h0m0s"
  enable_tls_streaming = false
  max_container_log_line_size = 16384
  # Seconds. Only sizes of writable layers and of images depend on it.
  stats_collect_period = 60
  # Hosts that may not lower a process's score below their own would refuse the containers otherwise.
  restrict_oom_score_adj = true
  # Otherwise all containerds of a machine share /var/run/netns.
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}
    max_conf_num = 1

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = {runc}
        SystemdCgroup = false
        # Otherwise all containerds of a machine share /run/containerd/runc.
        Root = {runc_root}
"#,
        root = path(&layout.root()),
        state = path(&layout.state()),
        disabled = disabled.join(", "),
        socket = path(&layout.socket()),
        ttrpc = path(&layout.ttrpc_socket()),
        debug = path(&layout.debug_socket()),
        pause = text(pause_image),
        cni_bin = path(&layout.cni_bin_dir),
        cni_conf = path(&layout.cni_conf_dir),
        runc = path(runc),
        runc_root = path(&layout.state().join("runc")),
    )
}

/// TOML's basic strings are escaped as JSON's are.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &str) -> Layout {
        Layout {
            dir: dir.into(),
            cni_bin_dir: "/c/bin".into(),
            cni_conf_dir: "/c/conf".into(),
        }
    }

    #[track_caller]
    fn check(dir: &str, expected: &str) {
        let config = render(&layout(dir), "corten.dev/pause:1", Path::new("/usr/sbin/runc"));
        assert!(config.contains(expected), "{config}");
    }

    #[test]
    fn everything_lies_below_the_directory() {
        check("/d", "root = \"/d/root\"\nstate = \"/d/state\"");
        check("/d", "address = \"/d/containerd.sock\"");
        check("/d", "sandbox_image = \"corten.dev/pause:1\"");
        check("/d\"x", "root = \"/d\\\"x/root\"");
    }

    #[test]
    fn socket_paths_have_a_limit() {
        assert_eq!(layout("/d").too_long(), None);
        let long = format!(
            "/{}",
            "a".repeat(SOCKET_PATH_LIMIT - "/containerd.sock.ttrpc".len())
        );
        assert_eq!(layout(&long).too_long(), Some(layout(&long).ttrpc_socket()));
        assert_eq!(layout(&long[..long.len() - 1]).too_long(), None);
    }
}
