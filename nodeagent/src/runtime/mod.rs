//! The container runtime as the node agent sees it: one trait, plain types, no wire formats.
//!
//! Knows what a sandbox, a container and an image are. Must not know Pods' policies (restart, probes,
//! volumes) nor which runtime answers: [`cri`] speaks CRI v1 to containerd or any other runtime,
//! [`fake`] keeps everything in memory for unit tests and hollow nodes.
//!
//! The contract every back end keeps:
//! - Stopping or removing what is gone succeeds; so does stopping what is already stopped.
//! - An event arrives after the state it tells of can be read: on [`RuntimeEvent::ContainerExited`],
//!   [`Runtime::sandbox`] already shows the container as exited. Events of different kinds may overtake each
//!   other: a container that ends at once can be told of as exited before it is told of as started.
//! - [`RuntimeEvent::Reconnected`] is the first event of every stream, and comes again whenever events may
//!   have been lost. The consumer then lists once; it never has to list on a timer.

pub mod cgroup;
pub mod containerd;
pub mod cri;
pub mod fake;
pub mod import;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// Labels that the kubelet puts on sandboxes and containers; other tools (crictl, log shippers) look for them.
pub mod labels {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// What a caller can do about a failure decides the variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The sandbox, container or image is not there.
    #[error("{0}")]
    NotFound(String),
    /// A sandbox or container of this name and attempt exists (or its name is still reserved by a running call).
    #[error("{0}")]
    AlreadyExists(String),
    /// The runtime refuses the request as it stands; the same request will fail again.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers on the runtime's socket. Worth trying again once [`RuntimeEvent::Reconnected`] came.
    #[error("container runtime is unavailable: {0}")]
    Unavailable(String),
    /// The call or the command inside the container took longer than allowed.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// This back end cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// Everything else, in the runtime's own words.
    #[error("{0}")]
    Failed(String),
}

pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// A container runtime. All calls may be made at the same time; ids are the runtime's own.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<Version>;
    async fn status(&self) -> Result<RuntimeStatus>;

    /// Creates and starts a sandbox with its network. Names are unique by (namespace, name, uid, attempt).
    ///
    /// # Errors
    /// `AlreadyExists` for a second sandbox with the same name, uid and attempt; `Failed` when network or
    /// cgroup set-up fails (the runtime has then cleaned up).
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String>;
    /// Stops all containers of the sandbox at once (no grace) and gives its network back.
    async fn stop_sandbox(&self, sandbox_id: &str) -> Result<()>;
    /// Removes the sandbox and every container in it, stopping them if need be.
    async fn remove_sandbox(&self, sandbox_id: &str) -> Result<()>;
    /// One sandbox with all its containers, or `None` if it is gone.
    async fn sandbox(&self, sandbox_id: &str) -> Result<Option<Sandbox>>;
    /// All sandboxes of Pods (whatever their state) with all their containers.
    async fn list(&self) -> Result<Vec<Sandbox>>;
    /// All sandboxes of one Pod, newest first.
    async fn sandboxes_of(&self, pod_uid: &str) -> Result<Vec<Sandbox>>;

    /// Creates a container; its image must be present. `sandbox` is what the sandbox was made from.
    async fn create_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String>;
    async fn start_container(&self, container_id: &str) -> Result<()>;
    /// Sends the image's stop signal, waits up to `grace`, then kills. Returns when the container has stopped.
    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()>;
    /// Removes a container, killing it first if it runs.
    async fn remove_container(&self, container_id: &str) -> Result<()>;
    async fn container(&self, container_id: &str) -> Result<Option<Container>>;
    async fn update_resources(&self, container_id: &str, resources: &LinuxResources) -> Result<()>;
    /// To be called after the container's log file was renamed away.
    async fn reopen_log(&self, container_id: &str) -> Result<()>;

    /// Runs a command in a running container and waits for its end. `timeout` zero means none.
    ///
    /// # Errors
    /// `DeadlineExceeded` if the command ran longer than `timeout` (it was killed). A command that ends, with
    /// whatever exit code, is `Ok`.
    async fn exec_sync(&self, container_id: &str, cmd: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// URL on the runtime's own streaming server, to be dialled by this process only.
    async fn exec_url(&self, request: &ExecRequest) -> Result<String>;
    async fn attach_url(&self, request: &AttachRequest) -> Result<String>;
    async fn port_forward_url(&self, sandbox_id: &str, ports: &[u16]) -> Result<String>;

    /// Reading of one container; `None` if it is gone or has no running task.
    async fn stats(&self, container_id: &str) -> Result<Option<ContainerStats>>;
    async fn list_stats(&self) -> Result<Vec<ContainerStats>>;

    /// `image` is a name, a name with digest, or an image id.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// Pulls from a registry and returns the image's id (`sha256:…`).
    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String>;
    /// Removes the image with all its names; one that is not there is fine.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// Imports all images of a tar file (`docker save` or OCI layout) and returns their full names.
    async fn import_image(&self, tar: &Path) -> Result<Vec<String>>;
    /// Space that images take on disk.
    async fn image_fs(&self) -> Result<FsUsage>;

    /// Never ends; after a lost connection it reconnects and says [`RuntimeEvent::Reconnected`].
    /// A consumer that does not read loses its oldest events and gets a `Reconnected` instead.
    fn events(&self) -> BoxStream<'static, RuntimeEvent>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// For example `containerd`.
    pub runtime_name: String,
    /// For example `1.6.20~ds1`.
    pub runtime_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    pub runtime_ready: Condition,
    /// Not ready until a CNI configuration is there.
    pub network_ready: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    pub ready: bool,
    /// Empty when ready.
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodRef {
    pub uid: String,
    pub name: String,
    pub namespace: String,
}

/// What a sandbox is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SandboxSpec {
    pub pod: PodRef,
    /// 0 for the Pod's first sandbox; unique within the Pod.
    pub attempt: u32,
    /// Ignored on the host network.
    pub hostname: String,
    /// `None`: the runtime's default (the host's resolv.conf).
    pub dns: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    /// Cgroup below which sandbox and containers are placed, from the hierarchy's root: `/corten/kubepods/pod…`.
    pub cgroup_parent: String,
    /// In addition to [`labels`], which the back end sets itself.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Directory of all log files of this Pod; containers name theirs relative to it.
    pub log_directory: PathBuf,
    pub namespaces: Namespaces,
    pub sysctls: BTreeMap<String, String>,
    /// A privileged sandbox is needed for any privileged container.
    pub privileged: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub seccomp: Seccomp,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    /// 0 if the Pod asks for no port of the host.
    pub host_port: u16,
    /// Empty: all addresses.
    pub host_ip: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Which namespaces the containers of a Pod share. Default: network and IPC by Pod, PID by container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// `Pod` or `Node`.
    pub network: NamespaceMode,
    /// `Container`, `Pod` (shareProcessNamespace) or `Node` (hostPID).
    pub pid: NamespaceMode,
    /// `Pod` or `Node` (hostIPC).
    pub ipc: NamespaceMode,
}

impl Default for Namespaces {
    fn default() -> Namespaces {
        Namespaces {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceMode {
    Pod,
    Container,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    #[default]
    RuntimeDefault,
    Unconfined,
    /// Absolute path of a profile on the node.
    Localhost(String),
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerSpec {
    pub name: String,
    /// Number of restarts so far; unique within sandbox and name.
    pub attempt: u32,
    /// Id of a present image (as [`Runtime::image_status`] gives it) or its full name.
    pub image: String,
    /// The image as the Pod names it; shown in the status.
    pub user_image: String,
    /// Empty: the image's entrypoint.
    pub command: Vec<String>,
    /// Empty: the image's command, unless `command` is given.
    pub args: Vec<String>,
    /// Empty: the image's.
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to [`SandboxSpec::log_directory`], as `app/0.log`. Its directory must exist.
    pub log_path: String,
    pub stdin: bool,
    /// Close stdin after the first attached client has gone.
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: LinuxResources,
    pub security: ContainerSecurity,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    pub container_path: String,
    pub host_path: PathBuf,
    pub read_only: bool,
    pub propagation: MountPropagation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountPropagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// 0 means: not set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinuxResources {
    /// Microseconds; 100,000 is usual.
    pub cpu_period: i64,
    /// Microseconds of CPU time in a period; -1: no limit.
    pub cpu_quota: i64,
    /// 1024 is one CPU; at least 2.
    pub cpu_shares: i64,
    pub memory_limit_bytes: i64,
    /// -1000 (never) to 1000 (first).
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub hugepage_limits: Vec<(String, u64)>,
    /// cgroup v2 only: file name to content.
    pub unified: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerSecurity {
    pub privileged: bool,
    /// Takes precedence over `run_as_username` and the image's user.
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_username: String,
    pub supplemental_groups: Vec<i64>,
    /// Without `CAP_`; `ALL` is allowed.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// The sandbox's, again: containers state their namespaces too.
    pub namespaces: Namespaces,
    /// Id of the container whose PID namespace this one enters, instead of the one above.
    pub pid_of: Option<String>,
    /// `None`: the runtime's defaults. `Some(vec![])`: nothing is masked (`procMount: Unmasked`).
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
}

/// A sandbox as the runtime reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub pod: PodRef,
    pub attempt: u32,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// The Pod's addresses, primary first. Empty on the host network or when not ready.
    pub ips: Vec<IpAddr>,
    pub host_network: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Of every attempt, oldest first.
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: Timestamp,
    /// The name it was created from.
    pub image: String,
    /// Name with digest if the runtime knows one, else the image's id.
    pub image_ref: String,
    /// Absolute.
    pub log_path: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ContainerState {
    Created,
    Running {
        started_at: Timestamp,
    },
    Exited(Exit),
    /// The runtime lost track of it (it could not be loaded after a restart).
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// 128 + signal number if a signal ended it.
    pub exit_code: i32,
    /// `None` if it never started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, ...
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// At least one of the streams must be wanted; with `tty`, not `stderr`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    pub container_id: String,
    pub cmd: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachRequest {
    pub container_id: String,
    /// Must be as the container was created.
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStats {
    pub container_id: String,
    /// Labels of the container, among them the Pod's name, namespace and uid.
    pub labels: BTreeMap<String, String>,
    pub timestamp: Timestamp,
    /// Since the container's start.
    pub cpu_usage_nanoseconds: u64,
    pub memory_working_set_bytes: u64,
    pub memory_usage_bytes: u64,
    pub memory_rss_bytes: u64,
    /// Of the writable layer.
    pub fs_used_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// `sha256:…`, the digest of its configuration.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    /// The user it runs as, if given as a number.
    pub uid: Option<i64>,
    /// The user it runs as, if given as a name.
    pub username: String,
    /// Never to be garbage collected.
    pub pinned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// base64 of `username:password`; used if both are empty.
    pub auth: String,
    pub identity_token: String,
    pub registry_token: String,
    pub server_address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsUsage {
    pub mountpoint: PathBuf,
    pub used_bytes: u64,
    pub used_inodes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RuntimeEvent {
    /// Events may have been lost before this one: list everything once.
    Reconnected,
    /// The runtime stopped answering; `Reconnected` follows once it is back. Containers may run on meanwhile.
    Disconnected,
    ContainerStarted {
        sandbox_id: String,
        container_id: String,
    },
    ContainerExited {
        sandbox_id: String,
        container_id: String,
        exit_code: i32,
        /// The kernel killed it for lack of memory.
        oom_killed: bool,
    },
    /// The kernel killed some process in the container; the container itself may run on.
    ContainerOom {
        sandbox_id: String,
        container_id: String,
    },
    SandboxReady {
        sandbox_id: String,
    },
    /// The sandbox's own process ended: its network is gone, the Pod needs a new sandbox.
    SandboxExited {
        sandbox_id: String,
    },
    /// Removed from the runtime altogether.
    Removed {
        id: String,
    },
    /// An image was added, changed or removed.
    ImageChanged {
        name: String,
    },
}
