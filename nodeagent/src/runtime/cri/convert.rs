//! Between our types and CRI messages. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use corten_proto::cri;
use jiff::Timestamp;
use tonic::{Code, Status};

use super::super::*;

/// CRI times are nanoseconds since the epoch; what does not fit is the epoch itself.
pub fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// CRI has no error codes of its own: gRPC's, and for a few cases the text.
pub fn error(status: &Status) -> RuntimeError {
    let message = status.message().to_string();
    if std::error::Error::source(status).is_some_and(|s| s.is::<tonic::transport::Error>()) {
        return RuntimeError::Unavailable(message);
    }
    match status.code() {
        Code::NotFound => RuntimeError::NotFound(message),
        Code::AlreadyExists => RuntimeError::AlreadyExists(message),
        Code::InvalidArgument => RuntimeError::Invalid(message),
        Code::Unavailable => RuntimeError::Unavailable(message),
        Code::DeadlineExceeded => RuntimeError::DeadlineExceeded(message),
        Code::Unimplemented => RuntimeError::Unsupported(message),
        // containerd: `failed to reserve sandbox name "…": name "…" is reserved for "…"`
        Code::Unknown if message.contains("is reserved for") => RuntimeError::AlreadyExists(message),
        // containerd before 1.7 gives no code for an exec that ran too long: `timeout 1s exceeded: …`
        Code::Unknown if message.contains("timeout") && message.contains("exceeded") => {
            RuntimeError::DeadlineExceeded(message)
        }
        _ => RuntimeError::Failed(message),
    }
}

pub fn sandbox_config(spec: &SandboxSpec) -> cri::PodSandboxConfig {
    let host_network = spec.namespaces.network == NamespaceMode::Node;
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: spec.pod.name.clone(),
            uid: spec.pod.uid.clone(),
            namespace: spec.pod.namespace.clone(),
            attempt: spec.attempt,
        }),
        // A host name on the host network would be the host's own.
        hostname: if host_network {
            String::new()
        } else {
            spec.hostname.clone()
        },
        log_directory: spec.log_directory.to_string_lossy().into_owned(),
        dns_config: spec.dns.as_ref().map(|dns| cri::DnsConfig {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        port_mappings: spec.port_mappings.iter().map(port_mapping).collect(),
        labels: pod_labels(&spec.labels, &spec.pod),
        annotations: spec.annotations.clone(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup_parent.clone(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(&spec.namespaces)),
                run_as_user: spec.run_as_user.map(int64),
                run_as_group: spec.run_as_group.map(int64),
                readonly_rootfs: false,
                supplemental_groups: spec.supplemental_groups.clone(),
                privileged: spec.privileged,
                seccomp: Some(seccomp(&spec.seccomp)),
                apparmor: None,
            }),
            sysctls: spec.sysctls.clone(),
            overhead: None,
            resources: None,
        }),
    }
}

pub fn container_config(sandbox: &SandboxSpec, spec: &ContainerSpec) -> cri::ContainerConfig {
    let mut labels = pod_labels(&spec.labels, &sandbox.pod);
    labels.insert(labels::CONTAINER_NAME.into(), spec.name.clone());
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: spec.name.clone(),
            attempt: spec.attempt,
        }),
        image: Some(cri::ImageSpec {
            image: spec.image.clone(),
            annotations: BTreeMap::new(),
            user_specified_image: spec.user_image.clone(),
        }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: spec
            .env
            .iter()
            .map(|(key, value)| cri::KeyValue {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        devices: spec
            .devices
            .iter()
            .map(|device| cri::Device {
                container_path: device.container_path.clone(),
                host_path: device.host_path.clone(),
                permissions: device.permissions.clone(),
            })
            .collect(),
        labels,
        annotations: spec.annotations.clone(),
        log_path: spec.log_path.clone(),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(&spec.resources)),
            security_context: Some(security(&spec.security)),
        }),
    }
}

fn security(security: &ContainerSecurity) -> cri::LinuxContainerSecurityContext {
    // CRI cannot tell an empty list from none: upstream's defaults are sent in full.
    let or_default = |paths: &Option<Vec<String>>, default: &[&str]| match paths {
        Some(paths) => paths.clone(),
        None if security.privileged => Vec::new(),
        None => default.iter().map(|p| p.to_string()).collect(),
    };
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
        }),
        privileged: security.privileged,
        namespace_options: Some(entering(&security.namespaces, security.pid_of.as_deref())),
        run_as_user: security.run_as_user.map(int64),
        run_as_group: security.run_as_group.map(int64),
        run_as_username: match security.run_as_user {
            Some(_) => String::new(),
            None => security.run_as_username.clone(),
        },
        readonly_rootfs: security.read_only_root,
        supplemental_groups: security.supplemental_groups.clone(),
        no_new_privs: security.no_new_privileges,
        masked_paths: or_default(&security.masked_paths, &MASKED_PATHS),
        readonly_paths: or_default(&security.readonly_paths, &READONLY_PATHS),
        seccomp: Some(seccomp(&security.seccomp)),
        apparmor: None,
    }
}

/// Source: Kubernetes `procMount: Default`, the same lists as the OCI runtimes' defaults.
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

pub fn resources(resources: &LinuxResources) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| cri::HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
    }
}

fn int64(value: i64) -> cri::Int64Value {
    cri::Int64Value { value }
}

fn mount(mount: &Mount) -> cri::Mount {
    cri::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only,
        selinux_relabel: false,
        propagation: match mount.propagation {
            MountPropagation::None => cri::MountPropagation::PropagationPrivate,
            MountPropagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
            MountPropagation::Bidirectional => cri::MountPropagation::PropagationBidirectional,
        }
        .into(),
    }
}

fn port_mapping(mapping: &PortMapping) -> cri::PortMapping {
    cri::PortMapping {
        protocol: match mapping.protocol {
            Protocol::Tcp => cri::Protocol::Tcp,
            Protocol::Udp => cri::Protocol::Udp,
            Protocol::Sctp => cri::Protocol::Sctp,
        }
        .into(),
        container_port: mapping.container_port.into(),
        host_port: mapping.host_port.into(),
        host_ip: mapping.host_ip.clone(),
    }
}

fn namespaces(namespaces: &Namespaces) -> cri::NamespaceOption {
    let mode = |mode: NamespaceMode| match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod.into(),
        NamespaceMode::Container => cri::NamespaceMode::Container.into(),
        NamespaceMode::Node => cri::NamespaceMode::Node.into(),
    };
    cri::NamespaceOption {
        network: mode(namespaces.network),
        pid: mode(namespaces.pid),
        ipc: mode(namespaces.ipc),
        target_id: String::new(),
    }
}

/// The namespaces, but for processes those of the container `target`.
fn entering(own: &Namespaces, target: Option<&str>) -> cri::NamespaceOption {
    let mut options = namespaces(own);
    if let Some(target) = target {
        options.pid = cri::NamespaceMode::Target.into();
        options.target_id = target.to_owned();
    }
    options
}

fn seccomp(seccomp: &Seccomp) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (profile_type, localhost_ref) = match seccomp {
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::Localhost(path) => (ProfileType::Localhost, path.clone()),
    };
    cri::SecurityProfile {
        profile_type: profile_type.into(),
        localhost_ref,
    }
}

fn pod_labels(own: &BTreeMap<String, String>, pod: &PodRef) -> BTreeMap<String, String> {
    let mut labels = own.clone();
    labels.insert(labels::POD_NAME.into(), pod.name.clone());
    labels.insert(labels::POD_NAMESPACE.into(), pod.namespace.clone());
    labels.insert(labels::POD_UID.into(), pod.uid.clone());
    labels
}

/// Without containers. `None` for a sandbox that belongs to no Pod.
pub fn sandbox(status: cri::PodSandboxStatus) -> Option<Sandbox> {
    status.labels.get(labels::POD_UID)?;
    let state = match status.state() {
        cri::PodSandboxState::SandboxReady => SandboxState::Ready,
        cri::PodSandboxState::SandboxNotready => SandboxState::NotReady,
    };
    let network = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref())
        .and_then(|n| n.options.as_ref());
    let host_network = network.is_some_and(|options| options.network() == cri::NamespaceMode::Node);
    let metadata = status.metadata.unwrap_or_default();
    let ips = status.network.into_iter().flat_map(|network| {
        std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip))
    });
    Some(Sandbox {
        id: status.id,
        pod: PodRef {
            uid: metadata.uid,
            name: metadata.name,
            namespace: metadata.namespace,
        },
        attempt: metadata.attempt,
        state,
        created_at: time(status.created_at),
        ips: ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).collect(),
        host_network,
        labels: status.labels,
        annotations: status.annotations,
        containers: Vec::new(),
    })
}

pub fn container(sandbox_id: &str, status: cri::ContainerStatus) -> Container {
    let state = match status.state() {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running {
            started_at: time(status.started_at),
        },
        cri::ContainerState::ContainerExited => ContainerState::Exited(Exit {
            exit_code: status.exit_code,
            started_at: (status.started_at > 0).then(|| time(status.started_at)),
            finished_at: time(status.finished_at),
            reason: status.reason,
            message: status.message,
        }),
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let metadata = status.metadata.unwrap_or_default();
    Container {
        id: status.id,
        sandbox_id: sandbox_id.to_string(),
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: time(status.created_at),
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_ref: status.image_ref,
        log_path: PathBuf::from(status.log_path),
        labels: status.labels,
        annotations: status.annotations,
    }
}

/// `pinned` names an image that is never to be collected, whatever the runtime says.
pub fn image(image: cri::Image, pinned: &str) -> Image {
    Image {
        pinned: image.pinned || image.repo_tags.iter().any(|tag| tag == pinned),
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size_bytes: image.size,
        uid: image.uid.map(|uid| uid.value),
        username: image.username,
    }
}

/// `None` without attributes or CPU reading: the container has no task.
pub fn stats(stats: cri::ContainerStats) -> Option<ContainerStats> {
    let attributes = stats.attributes?;
    let cpu = stats.cpu?;
    let memory = stats.memory.unwrap_or_default();
    let value = |v: Option<cri::UInt64Value>| v.map_or(0, |v| v.value);
    Some(ContainerStats {
        container_id: attributes.id,
        labels: attributes.labels,
        timestamp: time(cpu.timestamp),
        cpu_usage_nanoseconds: value(cpu.usage_core_nano_seconds),
        memory_working_set_bytes: value(memory.working_set_bytes),
        memory_usage_bytes: value(memory.usage_bytes),
        memory_rss_bytes: value(memory.rss_bytes),
        fs_used_bytes: value(stats.writable_layer.and_then(|l| l.used_bytes)),
    })
}

pub fn auth(auth: &RegistryAuth) -> cri::AuthConfig {
    cri::AuthConfig {
        username: auth.username.clone(),
        password: auth.password.clone(),
        auth: auth.auth.clone(),
        server_address: auth.server_address.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

pub fn condition(conditions: &[cri::RuntimeCondition], name: &str) -> Condition {
    match conditions.iter().find(|c| c.r#type == name) {
        Some(c) => Condition {
            ready: c.status,
            reason: c.reason.clone(),
            message: c.message.clone(),
        },
        None => Condition {
            ready: false,
            reason: "Unknown".into(),
            message: format!("the runtime reports no {name}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: Code, message: &str, expected: fn(String) -> RuntimeError) {
        assert_eq!(error(&Status::new(code, message)), expected(message.to_string()));
    }

    #[test]
    fn errors_are_told_apart() {
        check(Code::NotFound, "x", RuntimeError::NotFound);
        check(
            Code::Unknown,
            "failed: name \"a\" is reserved for \"b\"",
            RuntimeError::AlreadyExists,
        );
        check(
            Code::Unknown,
            "timeout 1s exceeded: context deadline exceeded",
            RuntimeError::DeadlineExceeded,
        );
        check(Code::Unknown, "other", RuntimeError::Failed);
        check(Code::Unavailable, "x", RuntimeError::Unavailable);
    }

    #[test]
    fn host_network_sandboxes_have_no_host_name() {
        let mut spec = SandboxSpec {
            hostname: "h".into(),
            ..SandboxSpec::default()
        };
        assert_eq!(sandbox_config(&spec).hostname, "h");
        spec.namespaces.network = NamespaceMode::Node;
        assert_eq!(sandbox_config(&spec).hostname, "");
    }

    #[test]
    fn paths_are_masked_unless_said_otherwise() {
        let masked = |security: ContainerSecurity| super::security(&security).masked_paths.len();
        assert_eq!(masked(ContainerSecurity::default()), MASKED_PATHS.len());
        assert_eq!(
            masked(ContainerSecurity {
                masked_paths: Some(vec![]),
                ..Default::default()
            }),
            0
        );
        assert_eq!(
            masked(ContainerSecurity {
                privileged: true,
                ..Default::default()
            }),
            0
        );
    }
}
