//! PodTopologySpread's score: among the nodes that fit, those whose domains hold fewer matching Pods.
//!
//! Two sources: the Pod's own constraints with `whenUnsatisfiable: ScheduleAnyway`, and, for a Pod that names no
//! constraint but has a controller, kube-scheduler's system defaults over nodes and zones. For the defaults the Pods
//! of the same controller match, and the cache keeps their numbers; own constraints are counted anew for every Pod.

use std::collections::{HashMap, HashSet};

use crate::cache::{Cache, Slot};
use crate::plugins::{MAX_NODE_SCORE, node_affinity, taint_toleration};
use crate::pod::PodInfo;
use crate::requirements::SpreadConstraint;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// `maxSkew` of the system defaults. Source: kube-scheduler, `systemDefaultConstraints`.
const DEFAULT_NODE_SKEW: i64 = 3;
const DEFAULT_ZONE_SKEW: i64 = 5;

/// Domain of a node for one constraint: an index, `None` when the node lacks the label.
type Domain = Option<usize>;

struct Counted {
    max_skew: i64,
    domains: Vec<Domain>,
    /// Matching Pods by domain.
    matching: Vec<i64>,
}

/// The normalised score, 0 to 100, of each of `passing`, in that order. `None` when the Pod has no preference.
pub fn scores(pod: &PodInfo, cache: &Cache, passing: &[Slot]) -> Option<Vec<i64>> {
    let own = &pod.relations.preferred_spread;
    let (counted, needs_all_labels) = if !own.is_empty() {
        (
            own.iter()
                .map(|constraint| count_own(pod, constraint, cache, passing))
                .collect(),
            true,
        )
    } else if let Some(controller) = pod.controller.as_deref().filter(|_| !pod.relations.has_spread) {
        (count_defaults(controller, cache, passing), false)
    } else {
        return None;
    };
    Some(normalize(&counted, needs_all_labels, passing.len()))
}

/// `counted` with the domains of `nodes` nodes; a node that lacks a label of the Pod's own constraints scores 0.
fn normalize(counted: &[Counted], needs_all_labels: bool, nodes: usize) -> Vec<i64> {
    let weights: Vec<f64> = counted
        .iter()
        .map(|Counted { domains, .. }| {
            let distinct: HashSet<usize> = domains.iter().flatten().copied().collect();
            (distinct.len() as f64 + 2.0).ln()
        })
        .collect();
    let raw: Vec<Option<i64>> = (0..nodes)
        .map(|at| {
            let mut sum = 0.0;
            for (
                Counted {
                    max_skew,
                    domains,
                    matching,
                },
                weight,
            ) in counted.iter().zip(&weights)
            {
                match domains[at] {
                    Some(domain) => sum += matching[domain] as f64 * weight + (*max_skew - 1) as f64,
                    None if needs_all_labels => return None,
                    None => {}
                }
            }
            Some(sum.round() as i64)
        })
        .collect();
    let most = raw.iter().flatten().copied().max().unwrap_or(0);
    let least = raw.iter().flatten().copied().min().unwrap_or(0);
    let normalized = |score: i64| {
        if most == 0 {
            MAX_NODE_SCORE
        } else {
            MAX_NODE_SCORE * (most + least - score) / most
        }
    };
    raw.into_iter().map(|score| score.map_or(0, normalized)).collect()
}

fn count_defaults(controller: &str, cache: &Cache, passing: &[Slot]) -> Vec<Counted> {
    let mut by_zone = vec![0; cache.zone_count()];
    let mut by_slot: HashMap<Slot, i64> = HashMap::new();
    for (slot, pods) in cache.pods_of_controller(controller) {
        by_slot.insert(slot, pods);
        if let Some(zone) = cache.zone(slot) {
            by_zone[zone] += pods;
        }
    }
    let matching = passing
        .iter()
        .map(|slot| by_slot.get(slot).copied().unwrap_or(0))
        .collect();
    let nodes = Counted {
        max_skew: DEFAULT_NODE_SKEW,
        domains: (0..passing.len()).map(Some).collect(),
        matching,
    };
    let zones = passing.iter().map(|slot| cache.zone(*slot)).collect();
    vec![
        nodes,
        Counted {
            max_skew: DEFAULT_ZONE_SKEW,
            domains: zones,
            matching: by_zone,
        },
    ]
}

fn count_own(pod: &PodInfo, constraint: &SpreadConstraint, cache: &Cache, passing: &[Slot]) -> Counted {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let nodes = cache.nodes();
    let domains: Vec<Domain> = passing
        .iter()
        .map(|slot| {
            let name = nodes[*slot]
                .offer
                .as_ref()?
                .labels
                .get(&constraint.topology_key)?;
            let next = names.len();
            Some(*names.entry(name).or_insert(next))
        })
        .collect();
    let mut matching = vec![0; names.len()];
    for (node, offer) in cache.offering() {
        let Some(domain) = offer
            .labels
            .get(&constraint.topology_key)
            .and_then(|name| names.get(name.as_str()))
        else {
            continue;
        };
        let counts = constraint.topology_key == HOSTNAME
            || ((!constraint.honor_node_affinity || node_affinity::filter(&pod.requirements, node, offer))
                && (!constraint.honor_node_taints || taint_toleration::filter(&pod.requirements, offer)));
        if counts {
            matching[*domain] += constraint.matching(pod, node);
        }
    }
    Counted {
        max_skew: constraint.max_skew,
        domains,
        matching,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `constraints`: max skew, the domain of each node (`-` for none) and the Pods in each domain.
    #[track_caller]
    fn check(constraints: &[(i64, &str, &[i64])], needs_all_labels: bool, want: &[i64]) {
        let counted: Vec<Counted> = constraints
            .iter()
            .map(|(max_skew, domains, matching)| Counted {
                max_skew: *max_skew,
                domains: domains.split(' ').map(|domain| domain.parse().ok()).collect(),
                matching: matching.to_vec(),
            })
            .collect();
        assert_eq!(normalize(&counted, needs_all_labels, want.len()), want);
    }

    #[test]
    fn fewer_matching_pods_score_higher() {
        check(&[(3, "0 1", &[0, 0])], false, &[100, 100]);
        check(&[(3, "0 1", &[1, 0])], false, &[66, 100]);
        check(&[(1, "0 1 2", &[0, 4, 8])], true, &[100, 53, 0]);
        check(&[(1, "0 1", &[0, 0])], true, &[100, 100]);
    }

    #[test]
    fn a_node_without_the_label_scores_nothing_for_own_constraints_only() {
        check(&[(1, "0 -", &[3])], true, &[100, 0]);
        check(&[(3, "0 1", &[0, 0]), (5, "- -", &[])], false, &[100, 100]);
    }
}
