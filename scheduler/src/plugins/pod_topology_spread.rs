//! PodTopologySpread with `whenUnsatisfiable: DoNotSchedule`: matching Pods stay even over the domains of a node label.
//!
//! Counts anew for every Pod that asks. What only prefers is in [`spread_score`](super::spread_score).

use std::collections::HashMap;

use crate::cache::Cache;
use crate::node::Offer;
use crate::plugins::{node_affinity, taint_toleration};
use crate::pod::PodInfo;
use crate::requirements::SpreadConstraint;

pub const REASON: &str = "node(s) didn't match pod topology spread constraints";
pub const REASON_MISSING_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Skew,
    MissingLabel,
}

/// The counts of one Pod's constraints, taken once per attempt.
pub struct Spread<'a> {
    constraints: Vec<Counted<'a>>,
}

struct Counted<'a> {
    constraint: &'a SpreadConstraint,
    /// Matching Pods by value of the topology label; only domains of nodes that count.
    matching: HashMap<&'a str, i64>,
    least: i64,
    /// 1 when the Pod matches its own selector.
    itself: i64,
}

impl<'a> Spread<'a> {
    pub fn count(pod: &'a PodInfo, cache: &'a Cache) -> Self {
        let mut counted: Vec<Counted> = pod
            .relations
            .spread
            .iter()
            .map(|constraint| Counted {
                constraint,
                matching: HashMap::new(),
                least: 0,
                itself: i64::from(constraint.selector.matches(&pod.labels)),
            })
            .collect();
        if counted.is_empty() {
            return Spread { constraints: counted };
        }
        for (node, offer) in cache.offering() {
            if !pod
                .relations
                .spread
                .iter()
                .all(|c| offer.labels.contains_key(&c.topology_key))
            {
                continue;
            }
            let affine = node_affinity::filter(&pod.requirements, node, offer);
            let tolerated = taint_toleration::filter(&pod.requirements, offer);
            for Counted {
                constraint, matching, ..
            } in &mut counted
            {
                let counts = (affine || !constraint.honor_node_affinity)
                    && (tolerated || !constraint.honor_node_taints);
                if counts {
                    let domain = offer.labels[&constraint.topology_key].as_str();
                    *matching.entry(domain).or_default() += constraint.matching(pod, node);
                }
            }
        }
        for counted in &mut counted {
            if counted.matching.len() >= counted.constraint.min_domains {
                counted.least = counted.matching.values().copied().min().unwrap_or(0);
            }
        }
        Spread { constraints: counted }
    }

    pub fn filter(&self, offer: &Offer) -> Option<Refusal> {
        for Counted {
            constraint,
            matching,
            least,
            itself,
        } in &self.constraints
        {
            let Some(domain) = offer.labels.get(&constraint.topology_key) else {
                return Some(Refusal::MissingLabel);
            };
            let present = matching.get(domain.as_str()).copied().unwrap_or(0);
            if present + itself - least > constraint.max_skew {
                return Some(Refusal::Skew);
            }
        }
        None
    }
}
