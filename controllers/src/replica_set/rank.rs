//! In what order Pods go when there are too many.
//!
//! Pure. Source: the ReplicaSet controller's `ActivePodsWithRanks`.

#![deny(clippy::disallowed_methods)]

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use corten_api::pod::{is_ready, phase};
use corten_client::ObjectExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{deletion_cost, max_restarts, node_name, ready_since};

/// `pods`, first to go first. `siblings` tells how crowded each node is.
pub fn in_order_of_deletion(pods: &[Arc<Pod>], siblings: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in siblings {
        *on_node.entry(node_name(pod)).or_default() += 1;
    }
    let crowd = |pod: &Pod| on_node.get(node_name(pod)).copied().unwrap_or(0);
    let mut pods = pods.to_vec();
    pods.sort_by(|a, b| first_to_go(a, b, (crowd(a), crowd(b)), now));
    pods
}

/// `Less`: `a` goes before `b`. Each rule decides only where the ones before it do not.
fn first_to_go(a: &Pod, b: &Pod, crowds: (usize, usize), now: Timestamp) -> Ordering {
    let unassigned_first = || node_name(b).is_empty().cmp(&node_name(a).is_empty());
    let phase_order = || phase_rank(a).cmp(&phase_rank(b));
    let not_ready_first = || is_ready(a).cmp(&is_ready(b));
    let cheap_first = || deletion_cost(a).cmp(&deletion_cost(b));
    let crowded_node_first = || crowds.1.cmp(&crowds.0);
    let ready_short_first = || match (ready_since(a), ready_since(b)) {
        (Some(at), Some(bt)) if at != bt => newer_first(a, b, at, bt, now),
        _ => Ordering::Equal,
    };
    let restarted_first = || Reverse(max_restarts(a)).cmp(&Reverse(max_restarts(b)));
    let created_late_first = || match (created(a), created(b)) {
        (Some(at), Some(bt)) if at != bt => newer_first(a, b, at, bt, now),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        _ => Ordering::Equal,
    };
    unassigned_first()
        .then_with(phase_order)
        .then_with(not_ready_first)
        .then_with(cheap_first)
        .then_with(crowded_node_first)
        .then_with(ready_short_first)
        .then_with(restarted_first)
        .then_with(created_late_first)
        .then_with(|| a.uid().cmp(b.uid()))
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Younger goes first, but ages within the same power of two count as equal and the uid decides: so scaling down
/// does not always hit the same Pods. Source: KEP-2185, random Pod selection on ReplicaSet downscale.
fn newer_first(a: &Pod, b: &Pod, at: Timestamp, bt: Timestamp, now: Timestamp) -> Ordering {
    age_rank(at, now)
        .cmp(&age_rank(bt, now))
        .then_with(|| a.uid().cmp(b.uid()))
}

/// The power of two of the age in nanoseconds, -1 for times to come.
fn age_rank(since: Timestamp, now: Timestamp) -> i64 {
    let nanoseconds = now.as_nanosecond() - since.as_nanosecond();
    u128::try_from(nanoseconds)
        .ok()
        .and_then(u128::checked_ilog2)
        .map_or(-1, i64::from)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use corten_client::object::ObjectKey;
    use jiff::SignedDuration;
    use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    pub fn now() -> Timestamp {
        Timestamp::from_second(1_000_000_000).expect("a time")
    }

    /// `name[@age][+restarts][$cost][%node][!][?]`: `!` not ready, `?` pending, `%-` not assigned to a node.
    pub fn pod(text: &str) -> Pod {
        let end = text.find(['@', '+', '$', '%', '!', '?']).unwrap_or(text.len());
        let part = |mark: char| {
            let rest = &text[text.find(mark)? + 1..];
            Some(&rest[..rest.find(['@', '+', '$', '%', '!', '?']).unwrap_or(rest.len())])
        };
        let age: SignedDuration = part('@').unwrap_or("1h").parse().expect("an age such as 10m");
        let since = Time(now() - age);
        let node = match part('%') {
            Some("-") => None,
            Some(node) => Some(node.to_owned()),
            None => Some(format!("node-{}", &text[..end])),
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(text[..end].to_owned()),
                uid: Some(text[..end].to_owned()),
                creation_timestamp: Some(since.clone()),
                annotations: part('$')
                    .map(|cost| [(crate::pod::DELETION_COST.to_owned(), cost.to_owned())].into()),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: node,
                ..Default::default()
            }),
            status: Some(PodStatus {
                phase: Some(if text.contains('?') { "Pending" } else { "Running" }.to_owned()),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: if text.contains('!') { "False" } else { "True" }.into(),
                    last_transition_time: Some(since),
                    ..Default::default()
                }]),
                container_statuses: part('+').map(|restarts| {
                    vec![ContainerStatus {
                        restart_count: restarts.parse().expect("a number"),
                        ..Default::default()
                    }]
                }),
                ..Default::default()
            }),
        }
    }

    #[track_caller]
    fn check(pods: &str, order: &str) {
        let pods: Vec<Arc<Pod>> = pods.split_whitespace().map(|text| Arc::new(pod(text))).collect();
        let ordered = in_order_of_deletion(&pods, &pods, now());
        let names: Vec<ObjectKey> = ordered.iter().map(|pod| pod.key()).collect();
        let names: Vec<&str> = names.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names.join(" "), order);
    }

    #[test]
    fn each_rule_decides_where_the_ones_before_do_not() {
        check("a b%-", "b a");
        check("a b?", "b a");
        check("a b!", "b a");
        check("a$5 b", "b a");
        check("a$-1 b", "a b");
        check("a@1h%n1 b@1h%n2 c@1h%n2", "b c a");
        check("a@1h b@1m", "b a");
        check("a b+3", "b a");
    }

    #[test]
    fn ages_within_a_power_of_two_count_as_equal() {
        check("b@60m a@65m", "a b");
        check("b@65m a@60m", "a b");
    }

    #[test]
    fn cost_beats_crowding_and_age() {
        check("a@1m$10 b@1h$5", "b a");
    }
}
