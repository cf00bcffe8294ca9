//! How many Pods to create, or which to delete.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::rank::in_order_of_deletion;

/// Pods created or deleted in one sync, at most. Source: the ReplicaSet controller's `BurstReplicas`.
pub const BURST_REPLICAS: usize = 500;

/// What one sync will do. At most one of the two is not empty.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
}

/// `active`: the Pods of `set` that are neither finished nor being deleted. `siblings` is asked only when Pods
/// must go: the active Pods of all ReplicaSets under the same owner, `set`'s own among them.
pub fn plan(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    siblings: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Plan {
    let wanted = replicas(set);
    if active.len() <= wanted {
        return Plan {
            create: (wanted - active.len()).min(BURST_REPLICAS),
            delete: Vec::new(),
        };
    }
    let surplus = (active.len() - wanted).min(BURST_REPLICAS);
    let mut delete = in_order_of_deletion(active, &siblings(), now);
    delete.truncate(surplus);
    Plan { create: 0, delete }
}

/// `spec.replicas`, default 1.
pub fn replicas(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::rank::tests::{now, pod};
    use super::*;
    use corten_client::ObjectExt;
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;

    /// Pods are written as [`pod`] reads them, separated by blanks; the plan reads `create N` or `delete a b`.
    #[track_caller]
    fn check(replicas: i32, pods: &str, wanted: &str) {
        let set = ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pods: Vec<Arc<Pod>> = pods.split_whitespace().map(|text| Arc::new(pod(text))).collect();
        let plan = plan(&set, &pods, || pods.clone(), now());
        let mut text = format!("create {}", plan.create);
        if plan.create == 0 {
            let names: Vec<&str> = plan.delete.iter().map(|pod| pod.name()).collect();
            text = format!("delete {}", names.join(" "));
        }
        assert_eq!(text, wanted);
    }

    #[test]
    fn missing_pods_are_created_in_bursts() {
        check(3, "a", "create 2");
        check(2000, "", "create 500");
        check(2, "a b", "delete ");
    }

    #[test]
    fn surplus_pods_go_not_ready_first_then_youngest() {
        check(1, "old@1h! mid@10m new@1m", "delete old new");
        check(0, "a b", "delete a b");
    }
}
