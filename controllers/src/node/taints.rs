//! Which taints a Node's conditions call for.
//!
//! Pure. Source: the node lifecycle controller, Kubernetes 1.36.

#![deny(clippy::disallowed_methods)]

use corten_api::scheduling::{NO_EXECUTE, NO_SCHEDULE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::health::{condition, ready, ready_status};
use crate::context::time;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new Pods away while `True`.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The Node's taints as they should be; `None` if they are so already. `may_evict` is false while no node at all is
/// ready: then the trouble is ours, and nobody loses Pods over it.
pub fn wanted(node: &Node, may_evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let current: Vec<Taint> = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .cloned()
        .collect();
    let called_for = called_for(node);
    let is_wanted = |taint: &Taint| {
        called_for
            .iter()
            .any(|(key, effect)| *key == taint.key && *effect == taint.effect)
    };
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_managed(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in called_for {
        let present = taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect);
        if !present && (may_evict || effect != NO_EXECUTE) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(time(now)),
                value: None,
            });
        }
    }
    (taints != current).then_some(taints)
}

fn called_for(node: &Node) -> Vec<(&'static str, &'static str)> {
    let mut taints = Vec::new();
    match (ready(node).is_some(), ready_status(node)) {
        (_, "True") => {}
        // A node that has reported nothing yet is not lost.
        (false, _) => taints.push((NOT_READY, NO_SCHEDULE)),
        (true, "False") => taints.extend([(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]),
        (true, _) => taints.extend([(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]),
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            taints.push((key, NO_SCHEDULE));
        }
    }
    if node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
    {
        taints.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    taints
}

/// Ours to add and remove; all others belong to users.
fn is_managed(taint: &Taint) -> bool {
    let by_condition = [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
        || PRESSURES.iter().any(|(_, key)| *key == taint.key);
    let evicting = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    (by_condition && taint.effect == NO_SCHEDULE) || (evicting && taint.effect == NO_EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    /// Conditions are `Type=Status`, `cordon` makes the node unschedulable; taints are `key:effect`, keys without
    /// their domain. `=` means that nothing is to be written.
    #[track_caller]
    fn check(conditions: &str, current: &str, may_evict: bool, expected: &str) {
        let taint = |text: &str| {
            let (key, effect) = text.split_once(':').expect("key:effect");
            let key = if key.contains('/') {
                key.to_owned()
            } else {
                format!("node.kubernetes.io/{key}")
            };
            Taint {
                key,
                effect: effect.to_owned(),
                ..Default::default()
            }
        };
        let pairs = conditions
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        let node = Node {
            spec: Some(NodeSpec {
                unschedulable: Some(conditions.contains("cordon")),
                taints: Some(current.split_whitespace().map(taint).collect()),
                ..Default::default()
            }),
            status: Some(NodeStatus {
                conditions: Some(
                    pairs
                        .map(|(kind, status)| NodeCondition {
                            type_: kind.into(),
                            status: status.into(),
                            ..Default::default()
                        })
                        .collect(),
                ),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = match wanted(&node, may_evict, Timestamp::UNIX_EPOCH) {
            None => "=".to_owned(),
            Some(taints) => {
                let short = |taint: &Taint| {
                    format!(
                        "{}:{}",
                        taint.key.trim_start_matches("node.kubernetes.io/"),
                        taint.effect
                    )
                };
                taints.iter().map(short).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn readiness_decides_between_the_two_pairs() {
        check("Ready=True", "", true, "=");
        check(
            "Ready=Unknown",
            "",
            true,
            "unreachable:NoSchedule unreachable:NoExecute",
        );
        check(
            "Ready=False",
            "unreachable:NoSchedule unreachable:NoExecute",
            true,
            "not-ready:NoSchedule not-ready:NoExecute",
        );
        check("Ready=True", "not-ready:NoSchedule not-ready:NoExecute", true, "");
        check("", "not-ready:NoSchedule", true, "=");
    }

    #[test]
    fn nothing_new_evicts_while_no_node_is_ready() {
        check("Ready=Unknown", "", false, "unreachable:NoSchedule");
        check(
            "Ready=Unknown",
            "unreachable:NoExecute",
            false,
            "unreachable:NoExecute unreachable:NoSchedule",
        );
    }

    #[test]
    fn pressure_and_cordon_keep_new_pods_away_and_other_taints_stay() {
        check(
            "Ready=True MemoryPressure=True cordon",
            "",
            true,
            "memory-pressure:NoSchedule unschedulable:NoSchedule",
        );
        check(
            "Ready=True",
            "a.b/c:NoExecute unschedulable:NoSchedule",
            true,
            "a.b/c:NoExecute",
        );
    }
}
