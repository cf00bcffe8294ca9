//! InterPodAffinity, the required terms: a Pod goes where the Pods it needs are, not where those it (or they) refuse are.
//!
//! Counts anew for every Pod that asks, and looks at every Pod with anti-affinity. Preferred terms are not scored yet.

use std::collections::HashSet;

use crate::cache::Cache;
use crate::node::Offer;
use crate::pod::PodInfo;
use crate::requirements::PodTerm;

pub const REASON_AFFINITY: &str = "node(s) didn't match pod affinity rules";
pub const REASON_ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
pub const REASON_EXISTING_ANTI_AFFINITY: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
}

/// A domain: key and value of a node label.
type Domain<'a> = (&'a str, &'a str);

/// The domains that one Pod needs or must avoid, taken once per attempt.
pub struct Affinity<'a> {
    pod: &'a PodInfo,
    /// Where Pods are that meet all affinity terms at once.
    wanted: HashSet<Domain<'a>>,
    /// Nobody anywhere meets the terms, but the Pod itself does: the first of its kind may go anywhere.
    first_of_its_kind: bool,
    /// Where Pods are that meet any of the anti-affinity terms.
    avoided: HashSet<Domain<'a>>,
    /// Where Pods are whose anti-affinity refuses this Pod.
    refused: HashSet<Domain<'a>>,
}

impl<'a> Affinity<'a> {
    pub fn count(pod: &'a PodInfo, cache: &'a Cache) -> Self {
        let (affinity, anti_affinity) = (&pod.relations.affinity, &pod.relations.anti_affinity);
        let mut wanted = HashSet::new();
        let mut avoided = HashSet::new();
        if !affinity.is_empty() || !anti_affinity.is_empty() {
            for (node, offer) in cache.offering() {
                for other in &node.pods {
                    if !affinity.is_empty() && affinity.iter().all(|term| matches(term, other, cache)) {
                        wanted.extend(affinity.iter().filter_map(|term| domain(term, offer)));
                    }
                    let met = anti_affinity.iter().filter(|term| matches(term, other, cache));
                    avoided.extend(met.filter_map(|term| domain(term, offer)));
                }
            }
        }
        let mut refused = HashSet::new();
        for (other, node) in cache.pods_with_anti_affinity() {
            let Some(offer) = &node.offer else { continue };
            let against = other
                .relations
                .anti_affinity
                .iter()
                .filter(|term| matches(term, pod, cache));
            refused.extend(against.filter_map(|term| domain(term, offer)));
        }
        let first_of_its_kind = wanted.is_empty() && affinity.iter().all(|term| matches(term, pod, cache));
        Affinity {
            pod,
            wanted,
            first_of_its_kind,
            avoided,
            refused,
        }
    }

    pub fn filter(&self, offer: &Offer) -> Option<Refusal> {
        let relations = &self.pod.relations;
        let near = |term: &PodTerm| {
            domain(term, offer).is_some_and(|domain| self.wanted.contains(&domain) || self.first_of_its_kind)
        };
        let at = |term: &PodTerm| domain(term, offer).is_some_and(|domain| self.avoided.contains(&domain));
        if !relations.affinity.iter().all(near) {
            Some(Refusal::Affinity)
        } else if relations.anti_affinity.iter().any(at) {
            Some(Refusal::AntiAffinity)
        } else if self
            .refused
            .iter()
            .any(|(key, value)| offer.labels.get(*key).is_some_and(|v| v == value))
        {
            Some(Refusal::ExistingAntiAffinity)
        } else {
            None
        }
    }
}

fn matches(term: &PodTerm, pod: &PodInfo, cache: &Cache) -> bool {
    term.matches(
        &pod.namespace,
        cache.namespace_labels(&pod.namespace),
        &pod.labels,
    )
}

fn domain<'a>(term: &'a PodTerm, offer: &'a Offer) -> Option<Domain<'a>> {
    offer
        .labels
        .get(&term.topology_key)
        .map(|value| (term.topology_key.as_str(), value.as_str()))
}
