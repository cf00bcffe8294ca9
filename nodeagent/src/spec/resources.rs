//! Requests and limits as cgroup values.

use corten_api::pod::{QosClass, limits, qos_class, requests};
use corten_api::quantity::{Quantity, ResourceList, list_from_api};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::containers::{all, spec};
use crate::runtime::LinuxResources;
use crate::runtime::cgroup::{DEFAULT_CPU_PERIOD_US, Limits};

/// Bounds of cgroup v1's `cpu.shares`.
const SHARES: std::ops::RangeInclusive<i64> = 2..=262_144;
/// Smallest quota the kernel takes, microseconds.
const MIN_QUOTA_US: i64 = 1_000;
/// Source: node-pressure eviction, "Node out of memory behavior".
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1_000;
const OOM_BURSTABLE: std::ops::RangeInclusive<i64> = 3..=999;

pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(*SHARES.start(), *SHARES.end())
}

pub fn quota_us(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(DEFAULT_CPU_PERIOD_US as i64) / 1000).max(MIN_QUOTA_US)
}

fn amounts(container: &Container) -> (ResourceList, ResourceList) {
    let resources = container.resources.clone().unwrap_or_default();
    let limits = list_from_api(&resources.limits.unwrap_or_default());
    let mut requests = list_from_api(&resources.requests.unwrap_or_default());
    for (name, limit) in &limits {
        requests.entry(name.clone()).or_insert(*limit);
    }
    (requests, limits)
}

fn positive<'a>(list: &'a ResourceList, name: &str) -> Option<&'a Quantity> {
    list.get(name).filter(|amount| !amount.is_zero())
}

/// `node_memory`: capacity in bytes.
pub fn of_container(pod: &Pod, container: &Container, node_memory: i64) -> LinuxResources {
    let (requests, limits) = amounts(container);
    let cpu_request = positive(&requests, "cpu").map_or(0, Quantity::milli_value);
    let cpu_limit = positive(&limits, "cpu").map(Quantity::milli_value);
    let memory_request = positive(&requests, "memory").map_or(0, Quantity::value);
    LinuxResources {
        cpu_period: DEFAULT_CPU_PERIOD_US as i64,
        cpu_quota: cpu_limit.map_or(0, quota_us),
        cpu_shares: shares(cpu_request),
        memory_limit_bytes: positive(&limits, "memory").map_or(0, Quantity::value),
        oom_score_adj: oom_score(pod, memory_request, node_memory),
        ..LinuxResources::default()
    }
}

fn oom_score(pod: &Pod, memory_request: i64, node_memory: i64) -> i64 {
    if spec(pod).priority_class_name.as_deref() == Some("system-node-critical") {
        return OOM_GUARANTEED;
    }
    match qos_class(spec(pod)) {
        QosClass::Guaranteed => OOM_GUARANTEED,
        QosClass::BestEffort => OOM_BEST_EFFORT,
        QosClass::Burstable => {
            let share = 1000_i64.saturating_mul(memory_request) / node_memory.max(1);
            (1000 - share).clamp(*OOM_BURSTABLE.start(), *OOM_BURSTABLE.end())
        }
    }
}

/// Limits of the Pod's own cgroup: a limit only if every container has one.
pub fn of_pod(pod: &Pod) -> Limits {
    let requests = requests(spec(pod));
    let sum = limits(spec(pod));
    let all_have =
        |name: &str| all(pod).all(|(container, _)| positive(&amounts(container).1, name).is_some());
    let cpu = positive(&sum, "cpu").filter(|_| all_have("cpu"));
    let memory = positive(&sum, "memory").filter(|_| all_have("memory"));
    let cpu_request = positive(&requests, "cpu").map_or(0, Quantity::milli_value);
    Limits {
        cpu_shares: Some(shares(cpu_request) as u64),
        cpu_quota_us: cpu.map(|cpu| quota_us(cpu.milli_value())),
        memory_bytes: memory.map(Quantity::value),
        pids: None,
    }
}

/// `{root}/kubepods[/burstable|/besteffort]/pod{uid}`.
pub fn cgroup(root: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let class = match qos_class(spec(pod)) {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "/burstable",
        QosClass::BestEffort => "/besteffort",
    };
    format!("{root}/kubepods{class}/pod{uid}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(resources: Value, wanted: (i64, i64, i64, i64), cgroup_wanted: &str) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}]},
        }))
        .expect("a Pod");
        let made = of_container(&pod, &spec(&pod).containers[0], 1 << 30);
        assert_eq!(
            (
                made.cpu_shares,
                made.cpu_quota,
                made.memory_limit_bytes,
                made.oom_score_adj
            ),
            wanted
        );
        assert_eq!(cgroup("/r", &pod), cgroup_wanted);
    }

    #[test]
    fn classes_become_cgroup_values() {
        check(json!({}), (2, 0, 0, 1000), "/r/kubepods/besteffort/podu");
        let full = json!({"limits": {"cpu": "500m", "memory": "128Mi"}});
        check(full, (512, 50_000, 128 << 20, -997), "/r/kubepods/podu");
        let some = json!({"requests": {"cpu": "100m", "memory": "512Mi"}});
        check(some, (102, 0, 0, 500), "/r/kubepods/burstable/podu");
        check(
            json!({"limits": {"cpu": "1m"}}),
            (2, 1_000, 0, 999),
            "/r/kubepods/burstable/podu",
        );
    }
}
