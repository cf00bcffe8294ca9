//! A Pod as the runtime's sandbox.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::dns::{self, ClusterDns};
use super::resources;
use super::security::{SecurityDefaults, namespaces, seccomp};
use crate::pod::containers::{all, spec};
use crate::runtime::{PodRef, PortMapping, Protocol, SandboxSpec};

/// Where and under what names the node runs Pods.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `{data}/pods/logs`.
    pub logs: PathBuf,
    pub cgroup_root: String,
    pub defaults: SecurityDefaults,
    pub dns: ClusterDns,
    /// The node's own `resolv.conf`.
    pub resolv_conf: String,
}

pub fn pod_ref(pod: &Pod) -> PodRef {
    PodRef {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
    }
}

/// `{namespace}_{name}_{uid}`.
pub fn log_directory(place: &Place, pod: &PodRef) -> PathBuf {
    place
        .logs
        .join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

pub fn sandbox(pod: &Pod, attempt: u32, place: &Place) -> SandboxSpec {
    let reference = pod_ref(pod);
    let security = spec(pod).security_context.clone().unwrap_or_default();
    let privileged = all(pod).any(|(container, _)| {
        container
            .security_context
            .as_ref()
            .is_some_and(|security| security.privileged == Some(true))
    });
    let sysctls = security
        .sysctls
        .iter()
        .flatten()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()));
    let fqdn = dns::fqdn(pod, &place.dns.domain).filter(|_| spec(pod).set_hostname_as_fqdn == Some(true));
    SandboxSpec {
        attempt,
        hostname: if spec(pod).host_network == Some(true) {
            String::new()
        } else {
            fqdn.unwrap_or_else(|| dns::hostname(pod))
        },
        dns: dns::resolver(pod, &place.dns, &place.resolv_conf),
        port_mappings: all(pod)
            .flat_map(|(container, _)| container.ports.iter().flatten())
            .filter_map(port_mapping)
            .collect(),
        cgroup_parent: resources::cgroup(&place.cgroup_root, pod),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        log_directory: log_directory(place, &reference),
        namespaces: namespaces(pod),
        sysctls: sysctls.collect(),
        privileged,
        run_as_user: security.run_as_user,
        run_as_group: security.run_as_group,
        supplemental_groups: security
            .supplemental_groups
            .into_iter()
            .flatten()
            .chain(security.fs_group)
            .collect(),
        seccomp: seccomp(security.seccomp_profile.as_ref(), &place.defaults),
        pod: reference,
    }
}

fn port_mapping(port: &ContainerPort) -> Option<PortMapping> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Some(PortMapping {
        protocol,
        container_port: u16::try_from(port.container_port).ok()?,
        host_port: u16::try_from(port.host_port.unwrap_or(0)).ok()?,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}
