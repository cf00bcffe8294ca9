//! Questions about a Pod that several components ask. Typed and pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use std::collections::BTreeMap;

use crate::quantity::{self, ResourceList};

/// How a Pod's resources rank it when a node runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// `status.phase`, empty when unset.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

/// True once the Pod will never run again (`Succeeded` or `Failed`).
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// True once deletion began.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither terminal nor being deleted: it counts for its controller.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// The `Ready` condition is `True`.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// An init container that keeps running beside the Pod's containers (`restartPolicy: Always`).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The typed spec of a Pod that was decoded before; what it cannot hold counts as absent.
pub fn spec_of(object: &serde_json::Value) -> PodSpec {
    use serde::Deserialize;
    PodSpec::deserialize(&object["spec"]).unwrap_or_default()
}

/// What the scheduler reserves for the Pod: the larger of its running containers together and each
/// step of its init sequence (sidecars counted along), Pod-level requests first, plus overhead.
pub fn requests(spec: &PodSpec) -> ResourceList {
    effective(
        spec,
        |c| c.resources.as_ref().and_then(|r| r.requests.as_ref()),
        true,
    )
}

/// The same over limits; overhead is added only where a limit is set.
pub fn limits(spec: &PodSpec) -> ResourceList {
    effective(
        spec,
        |c| c.resources.as_ref().and_then(|r| r.limits.as_ref()),
        false,
    )
}

type Picked<'a> = Option<&'a BTreeMap<String, ApiQuantity>>;

fn effective(spec: &PodSpec, pick: impl Fn(&Container) -> Picked<'_>, requests: bool) -> ResourceList {
    let list = |c: &Container| pick(c).map(quantity::list_from_api).unwrap_or_default();
    let mut running = ResourceList::new();
    for container in &spec.containers {
        quantity::add_to(&mut running, &list(container));
    }
    let (mut sidecars, mut peak) = (ResourceList::new(), ResourceList::new());
    for container in spec.init_containers.iter().flatten() {
        let own = list(container);
        let step = if is_sidecar(container) {
            quantity::add_to(&mut running, &own);
            quantity::add_to(&mut sidecars, &own);
            sidecars.clone()
        } else {
            let mut step = own;
            quantity::add_to(&mut step, &sidecars);
            step
        };
        quantity::raise_to(&mut peak, &step);
    }
    quantity::raise_to(&mut running, &peak);
    let of_pod = spec.resources.as_ref().and_then(|r| {
        if requests {
            r.requests.as_ref()
        } else {
            r.limits.as_ref()
        }
    });
    for (name, value) in of_pod.into_iter().flatten() {
        running.insert(name.clone(), quantity::from_api(value));
    }
    for (name, value) in spec.overhead.iter().flatten() {
        let value = quantity::from_api(value);
        if requests {
            running.entry(name.clone()).or_default().add(&value);
        } else if let Some(limit) = running.get_mut(name) {
            limit.add(&value);
        }
    }
    running
}

/// QoS class by the rule of upstream: only `cpu` and `memory` count.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let mut any = false;
    let mut guaranteed = true;
    let mut look = |requests: Picked<'_>, limits: Picked<'_>| {
        for name in ["cpu", "memory"] {
            let read = |list: Picked<'_>| {
                list.and_then(|l| l.get(name))
                    .map(quantity::from_api)
                    .filter(|q| !q.is_zero())
            };
            let (request, limit) = (read(requests), read(limits));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    };
    match &spec.resources {
        Some(r) if r.requests.is_some() || r.limits.is_some() => look(r.requests.as_ref(), r.limits.as_ref()),
        _ => {
            for container in spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
            {
                let resources = container.resources.as_ref();
                look(
                    resources.and_then(|r| r.requests.as_ref()),
                    resources.and_then(|r| r.limits.as_ref()),
                );
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// A port of the node that a Pod claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Empty means every address.
    pub ip: String,
    pub protocol: String,
    pub port: u16,
}

impl HostPort {
    /// Same port and protocol on overlapping addresses.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// The host ports of the containers and sidecars.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            let number = u16::try_from(port.host_port?).ok().filter(|n| *n > 0)?;
            Some(HostPort {
                ip: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: number,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ResourceRequirements;

    fn resources(text: &str) -> Option<ResourceRequirements> {
        // "cpu=100m memory=1Gi / cpu=1" is requests / limits
        let read = |part: &str| {
            let map: BTreeMap<String, ApiQuantity> = part
                .split_whitespace()
                .filter_map(|p| p.split_once('='))
                .map(|(k, v)| (k.to_string(), ApiQuantity(v.to_string())))
                .collect();
            (!map.is_empty()).then_some(map)
        };
        let (requests, limits) = text.split_once('/').unwrap_or((text, ""));
        Some(ResourceRequirements {
            requests: read(requests),
            limits: read(limits),
            claims: None,
        })
    }

    fn spec(containers: &[&str], init: &[&str]) -> PodSpec {
        let build = |text: &&str| Container {
            restart_policy: text.starts_with('*').then(|| "Always".into()),
            resources: resources(text.trim_start_matches('*')),
            ..Container::default()
        };
        PodSpec {
            containers: containers.iter().map(build).collect(),
            init_containers: (!init.is_empty()).then(|| init.iter().map(build).collect()),
            ..PodSpec::default()
        }
    }

    #[track_caller]
    fn check(containers: &[&str], init: &[&str], want: &str, qos: QosClass) {
        let spec = spec(containers, init);
        let got: Vec<String> = requests(&spec).iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!((got.join(" ").as_str(), qos_class(&spec)), (want, qos));
    }

    #[test]
    fn requests_and_class() {
        check(&[""], &[], "", QosClass::BestEffort);
        check(
            &["cpu=100m", "cpu=200m memory=1Gi"],
            &[],
            "cpu=300m memory=1Gi",
            QosClass::Burstable,
        );
        check(
            &["cpu=100m"],
            &["cpu=1", "cpu=500m"],
            "cpu=1",
            QosClass::Burstable,
        );
        check(
            &["cpu=100m"],
            &["*cpu=200m", "cpu=500m"],
            "cpu=700m",
            QosClass::Burstable,
        );
        check(
            &["cpu=600m"],
            &["*cpu=200m", "cpu=500m"],
            "cpu=800m",
            QosClass::Burstable,
        );
        check(
            &["cpu=1 memory=1Gi / cpu=1 memory=1Gi"],
            &[],
            "cpu=1 memory=1Gi",
            QosClass::Guaranteed,
        );
        check(
            &["cpu=1 memory=1Gi / cpu=1 memory=1Gi", ""],
            &[],
            "cpu=1 memory=1Gi",
            QosClass::Burstable,
        );
        check(&["/ cpu=1"], &[], "", QosClass::Burstable);
    }

    #[test]
    fn overhead_is_added_once() {
        let mut spec = spec(&["cpu=1"], &[]);
        spec.overhead = Some([("cpu".to_string(), ApiQuantity("250m".into()))].into());
        assert_eq!(requests(&spec)["cpu"].to_string(), "1250m");
        assert!(limits(&spec).is_empty());
    }

    #[test]
    fn host_ports_overlap_by_address() {
        let port = |ip: &str| HostPort {
            ip: ip.into(),
            protocol: "TCP".into(),
            port: 80,
        };
        assert!(port("").conflicts(&port("10.0.0.1")));
        assert!(port("10.0.0.1").conflicts(&port("10.0.0.1")));
        assert!(!port("10.0.0.1").conflicts(&port("10.0.0.2")));
    }
}
