//! Amounts of node resources as plain integers, and what a Pod asks for in total.
//!
//! Knows quantities. Must not know nodes or plug-ins.

use std::collections::BTreeMap;

use corten_api::pod;
use corten_api::quantity::{self, ResourceList};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Assumed for scoring when a container requests no CPU. Source: kube-scheduler, 0.1 core.
const DEFAULT_CPU: &str = "100m";
/// Assumed for scoring when a container requests no memory. Source: kube-scheduler, 200 MiB.
const DEFAULT_MEMORY: &str = "200Mi";

/// CPU in thousandths of a core, memory and storage in bytes, everything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages and attachable volumes by name.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// `pods` is left out: it counts Pods, it is not requested.
    pub fn from_list(list: &ResourceList) -> Self {
        let mut resources = Resources::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => {
                    resources.scalar.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Resources) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let sum = self.scalar.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }
}

pub fn whole(amount: &ApiQuantity) -> i64 {
    quantity::from_api(amount).value()
}

/// What the Pod takes from its node.
pub fn requested(spec: &PodSpec) -> Resources {
    Resources::from_list(&pod::requests(spec))
}

/// Whether every container requests CPU and memory, so that scoring assumes nothing.
pub fn requests_both(spec: &PodSpec) -> bool {
    let both = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        requests.is_some_and(|list| list.contains_key("cpu") && list.contains_key("memory"))
    };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .all(both)
}

/// As [`requested`], where a container that names no CPU or memory counts with the scoring defaults.
pub fn requested_for_scoring(spec: &PodSpec) -> Resources {
    let with_defaults = |container: &Container| {
        let mut resources = container.resources.clone().unwrap_or_default();
        let requests = resources.requests.get_or_insert_default();
        for (name, amount) in [("cpu", DEFAULT_CPU), ("memory", DEFAULT_MEMORY)] {
            requests
                .entry(name.to_owned())
                .or_insert_with(|| ApiQuantity(amount.to_owned()));
        }
        Container {
            resources: Some(resources),
            restart_policy: container.restart_policy.clone(),
            ..Container::default()
        }
    };
    requested(&PodSpec {
        containers: spec.containers.iter().map(with_defaults).collect(),
        init_containers: spec
            .init_containers
            .as_ref()
            .map(|init| init.iter().map(with_defaults).collect()),
        resources: spec.resources.clone(),
        overhead: spec.overhead.clone(),
        ..PodSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `want` is milli CPU and MiB, as requested and as scored.
    #[track_caller]
    fn check(containers: Value, init: Value, want: [(i64, i64); 2]) {
        let spec = json!({"containers": containers, "initContainers": init});
        let spec: PodSpec = serde_json::from_value(spec).expect("a Pod spec");
        let got = [requested(&spec), requested_for_scoring(&spec)].map(|r| (r.milli_cpu, r.memory >> 20));
        assert_eq!(got, want);
        if requests_both(&spec) {
            assert_eq!(requested(&spec), requested_for_scoring(&spec));
        }
    }

    #[test]
    fn scoring_assumes_something_where_nothing_is_named() {
        let container = |requests: Value| json!({"name": "c", "resources": {"requests": requests}});
        check(json!([container(json!({}))]), json!([]), [(0, 0), (100, 200)]);
        check(
            json!([{"name": "c"}, {"name": "d"}]),
            json!([]),
            [(0, 0), (200, 400)],
        );
        check(
            json!([container(json!({"cpu": "0"}))]),
            json!([]),
            [(0, 0), (0, 200)],
        );
        check(
            json!([container(json!({"cpu": "1500m", "memory": "1Gi"}))]),
            json!([]),
            [(1500, 1024); 2],
        );
        let small = container(json!({"cpu": "100m", "memory": "10Mi"}));
        check(
            json!([small]),
            json!([container(json!({"cpu": "2"}))]),
            [(2000, 10), (2000, 200)],
        );
    }

    #[test]
    fn extended_resources_are_counted_by_name() {
        let requests = json!({"example.com/gpu": "2", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"});
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        let got = requested(&serde_json::from_value(spec).expect("a Pod spec"));
        assert_eq!(got.ephemeral_storage, 1 << 30);
        assert_eq!(got.scalar["example.com/gpu"], 2);
        assert_eq!(got.scalar["hugepages-2Mi"], 4 << 20);
    }
}
