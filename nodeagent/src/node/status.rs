//! The Node object and its status. Pure.

use std::collections::BTreeMap;

use corten_api::quantity::ResourceList;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Map, Value, json};

use super::machine::{Machine, Pressure, Resources};
use crate::pod::status::whole_second;
use crate::runtime::{Image, RuntimeStatus, Version};
use crate::shell::config::AgentConfig;

/// What `kubectl get nodes` shows.
pub const KUBELET_VERSION: &str = concat!("v1.36.0+corten", env!("CARGO_PKG_VERSION"));
/// Images named in the status, the largest. Source: kubelet configuration, `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// Names given for each of them. Source: kubelet, `maxNamesPerImageInNodeStatus`.
const MAX_NAMES: usize = 5;

/// What of a Node stays the same while the agent runs.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    status: NodeStatus,
}

impl Identity {
    pub fn new(
        config: &AgentConfig,
        machine: &Machine,
        resources: &Resources,
        version: &Version,
    ) -> Identity {
        let arch = machine.architecture.to_owned();
        let mut labels: BTreeMap<String, String> = [
            ("kubernetes.io/hostname", config.node_name.clone()),
            ("kubernetes.io/arch", arch.clone()),
            ("kubernetes.io/os", "linux".to_owned()),
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        labels.extend(config.labels.clone());
        let address = |kind: &str, address: String| NodeAddress {
            type_: kind.to_owned(),
            address,
        };
        let mut addresses: Vec<_> = config
            .node_ips
            .iter()
            .map(|ip| address("InternalIP", ip.to_string()))
            .collect();
        addresses.push(address("Hostname", config.node_name.clone()));
        let status = NodeStatus {
            addresses: Some(addresses),
            capacity: Some(quantities(&resources.capacity)),
            allocatable: Some(quantities(&resources.allocatable)),
            node_info: Some(NodeSystemInfo {
                architecture: machine.architecture.to_owned(),
                boot_id: machine.boot_id.clone(),
                container_runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
                kernel_version: machine.kernel_version.clone(),
                kube_proxy_version: String::new(),
                kubelet_version: KUBELET_VERSION.to_owned(),
                machine_id: machine.machine_id.clone(),
                operating_system: "linux".to_owned(),
                os_image: machine.os_image.clone(),
                swap: None,
                system_uuid: machine.system_uuid.clone(),
            }),
            ..NodeStatus::default()
        };
        Identity {
            name: config.node_name.clone(),
            labels,
            taints: config.taints.clone(),
            status,
        }
    }

    /// The Node as it is registered, without conditions.
    pub fn object(&self) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(self.status.clone()),
        }
    }

    /// The whole status now; times of conditions are taken over from `old` where nothing changed.
    pub fn status(&self, health: &Health, old: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
        NodeStatus {
            conditions: Some(conditions(health, old, now)),
            images: Some(images(&health.images)),
            ..self.status.clone()
        }
    }
}

fn quantities(list: &ResourceList) -> BTreeMap<String, ApiQuantity> {
    list.iter()
        .map(|(name, amount)| (name.clone(), corten_api::quantity::to_api(amount)))
        .collect()
}

/// How node and runtime are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Health {
    pub pressure: Pressure,
    /// `None`: the runtime does not answer.
    pub runtime: Option<RuntimeStatus>,
    pub images: Vec<Image>,
}

impl Health {
    /// # Errors
    /// Why the node is not ready, worded as the kubelet words it.
    pub fn ready(&self) -> Result<(), String> {
        let Some(runtime) = &self.runtime else {
            return Err("container runtime is down".to_owned());
        };
        let mut troubles = Vec::new();
        for (what, kind, condition) in [
            (
                "container runtime not ready",
                "RuntimeReady",
                &runtime.runtime_ready,
            ),
            (
                "container runtime network not ready",
                "NetworkReady",
                &runtime.network_ready,
            ),
        ] {
            if !condition.ready {
                troubles.push(format!(
                    "{what}: {kind}=false reason:{} message:{}",
                    condition.reason, condition.message
                ));
            }
        }
        match troubles.len() {
            0 => Ok(()),
            1 => Err(troubles.remove(0)),
            _ => Err(format!("[{}]", troubles.join(", "))),
        }
    }
}

fn conditions(health: &Health, old: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let (ready, reason, message) = match health.ready() {
        Ok(()) => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Err(message) => (false, "KubeletNotReady", message),
    };
    let pressure = |on: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if on { yes } else { no };
        (on, reason, message.to_owned())
    };
    let answers = [
        (
            "MemoryPressure",
            pressure(
                health.pressure.memory,
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                ),
                (
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
            ),
        ),
        (
            "DiskPressure",
            pressure(
                health.pressure.disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            (
                false,
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available".to_owned(),
            ),
        ),
        ("Ready", (ready, reason, message)),
    ];
    let now = Time(whole_second(now));
    let of = |(kind, (on, reason, message)): (&str, (bool, &str, String))| {
        let status = if on { "True" } else { "False" };
        let before = old.and_then(|old| old.conditions.as_ref()).and_then(|list| {
            list.iter()
                .find(|condition| condition.type_ == kind && condition.status == status)
        });
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
        }
    };
    answers.into_iter().map(of).collect()
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let of = |image: &Image| ContainerImage {
        names: Some(
            image
                .repo_digests
                .iter()
                .chain(&image.repo_tags)
                .take(MAX_NAMES)
                .cloned()
                .collect(),
        ),
        size_bytes: Some(image.size_bytes as i64),
    };
    images.into_iter().take(MAX_IMAGES).map(of).collect()
}

/// The strategic merge patch from what the API has to `new`. `None`: only heartbeats would change, and `heartbeat` does
/// not ask for them.
pub fn patch(old: &NodeStatus, new: &NodeStatus, heartbeat: bool) -> Option<Value> {
    let fields = |status: &NodeStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (old, mut new) = (fields(old), fields(new));
    let said = |list: Option<&Value>| -> Vec<Value> {
        let strip = |condition: &Value| {
            let mut condition = condition.clone();
            if let Some(fields) = condition.as_object_mut() {
                fields.remove("lastHeartbeatTime");
            }
            condition
        };
        list.and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(strip)
            .collect()
    };
    let before = said(old.get("conditions"));
    let same = said(new.get("conditions"))
        .iter()
        .all(|condition| before.contains(condition));
    if same && !heartbeat {
        new.remove("conditions");
    }
    new.retain(|name, value| name == "conditions" || old.get(name) != Some(value));
    if let Some(Value::Array(addresses)) = new.get_mut("addresses") {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    (!new.is_empty()).then(|| json!({"status": new}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Condition;

    fn healthy() -> Health {
        let good = Condition {
            ready: true,
            ..Condition::default()
        };
        let runtime = RuntimeStatus {
            runtime_ready: good.clone(),
            network_ready: good,
        };
        Health {
            runtime: Some(runtime),
            ..Health::default()
        }
    }

    /// The conditions that are said, as `Type=Status`.
    #[track_caller]
    fn check(old: Option<&Health>, new: &Health, wanted: &[&str]) {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let status = |health: &Health, old: Option<&NodeStatus>, second| NodeStatus {
            conditions: Some(conditions(health, old, at(second))),
            ..NodeStatus::default()
        };
        let old = old.map(|health| status(health, None, 100)).unwrap_or_default();
        let new = status(new, Some(&old), 200);
        let said =
            patch(&old, &new, false).map_or(Value::Null, |patch| patch["status"]["conditions"].clone());
        let show =
            |condition: &Value| format!("{}={}", condition["type"], condition["status"]).replace('"', "");
        let seen: Vec<String> = said.as_array().into_iter().flatten().map(show).collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn says_something_only_when_it_changed() {
        let all = [
            "MemoryPressure=False",
            "DiskPressure=False",
            "PIDPressure=False",
            "Ready=True",
        ];
        check(None, &healthy(), &all);
        check(Some(&healthy()), &healthy(), &[]);
        let low = Health {
            pressure: Pressure {
                memory: true,
                disk: false,
            },
            ..healthy()
        };
        check(
            Some(&healthy()),
            &low,
            &[
                "MemoryPressure=True",
                "DiskPressure=False",
                "PIDPressure=False",
                "Ready=True",
            ],
        );
    }

    #[test]
    fn why_it_is_not_ready() {
        assert_eq!(
            Health::default().ready(),
            Err("container runtime is down".to_owned())
        );
        let mut health = healthy();
        health.runtime.as_mut().expect("set").network_ready = Condition {
            ready: false,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let text = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                    message:cni plugin not initialized";
        assert_eq!(health.ready(), Err(text.to_owned()));
    }
}
