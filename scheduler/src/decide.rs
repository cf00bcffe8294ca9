//! One Pod, one answer: the node with the highest score among all that pass every filter, or why there is none.
//!
//! Must not know the queue. Changes nothing but the memory of verdicts and the generator of tie-breaks.

use crate::cache::{Cache, Slot};
use crate::classes::{Classes, Verdict};
use crate::diagnosis::{Diagnosis, Preemption, Refusal};
use crate::events::Plugin;
use crate::node::{Node, Offer};
use crate::plugins::inter_pod_affinity::Affinity;
use crate::plugins::pod_topology_spread::Spread;
use crate::plugins::{node_affinity, spread_score, taint_toleration, weight};
use crate::pod::{PodInfo, Unsupported};

/// Breaks ties. Splitmix64: small, seeded, the same on every machine.
#[derive(Clone, Debug)]
pub struct TieBreak(u64);

impl TieBreak {
    pub fn new(seed: u64) -> Self {
        TieBreak(seed)
    }

    /// Below `bound`, which is at least 1.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

/// # Errors
/// The diagnosis names every node's refusal.
pub fn decide(
    pod: &PodInfo,
    cache: &Cache,
    classes: &mut Classes,
    ties: &mut TieBreak,
) -> Result<Slot, Box<Diagnosis>> {
    if let Some(unsupported) = pod.unsupported {
        return Err(Box::new(refuse_everywhere(pod, cache, unsupported)));
    }
    let verdicts = classes.verdicts(&pod.requirements, cache);
    let related = Related::count(pod, cache);
    let refused = |slot: Slot| related.as_ref().and_then(|related| related.refuses(slot, cache));

    let passing: Vec<Slot> = verdicts
        .iter()
        .enumerate()
        .filter(|(slot, verdict)| verdict.passes() && refused(*slot).is_none())
        .map(|(slot, _)| slot)
        .collect();
    let most_disliked = passing
        .iter()
        .map(|slot| verdicts[*slot].disliked_taints)
        .max()
        .unwrap_or(0);
    let most_preferred = passing
        .iter()
        .map(|slot| verdicts[*slot].preference)
        .max()
        .unwrap_or(0);
    let spread = spread_score::scores(pod, cache, &passing);
    let mut best: Option<(i64, Slot)> = None;
    let mut equals = 0;
    for (at, slot) in passing.into_iter().enumerate() {
        let spread = spread.as_ref().map_or(0, |scores| scores[at]) * weight::POD_TOPOLOGY_SPREAD;
        let score = total(&verdicts[slot], most_disliked, most_preferred) + spread;
        if best.is_none_or(|(highest, _)| score > highest) {
            (best, equals) = (Some((score, slot)), 1);
        } else if best.is_some_and(|(highest, _)| score == highest) {
            equals += 1;
            if ties.below(equals) == 0 {
                best = Some((score, slot));
            }
        }
    }
    match best {
        Some((_, slot)) => Ok(slot),
        None => Err(Box::new(diagnose(pod, cache, verdicts, related.as_ref()))),
    }
}

fn total(verdict: &Verdict, most_disliked: i16, most_preferred: i32) -> i64 {
    let taints = taint_toleration::normalize(verdict.disliked_taints.into(), most_disliked.into());
    let affinity = node_affinity::normalize(verdict.preference.into(), most_preferred.into());
    i64::from(verdict.resource_score)
        + i64::from(verdict.image_score) * weight::IMAGE_LOCALITY
        + taints * weight::TAINT_TOLERATION
        + affinity * weight::NODE_AFFINITY
}

/// The filters that look at Pods on other nodes too; `None` when neither side asks for them.
struct Related<'a> {
    spread: Spread<'a>,
    affinity: Affinity<'a>,
}

impl<'a> Related<'a> {
    fn count(pod: &'a PodInfo, cache: &'a Cache) -> Option<Self> {
        let asked = !pod.relations.is_empty() || cache.has_anti_affinity();
        asked.then(|| Related {
            spread: Spread::count(pod, cache),
            affinity: Affinity::count(pod, cache),
        })
    }

    fn refuses(&self, slot: Slot, cache: &Cache) -> Option<Refusal> {
        let offer = cache.nodes()[slot].offer.as_ref()?;
        self.refuses_offer(offer)
    }

    fn refuses_offer(&self, offer: &Offer) -> Option<Refusal> {
        let spread = self.spread.filter(offer).map(Refusal::Spread);
        spread.or_else(|| self.affinity.filter(offer).map(Refusal::Affinity))
    }
}

fn diagnose(pod: &PodInfo, cache: &Cache, verdicts: &[Verdict], related: Option<&Related<'_>>) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        nodes: cache.offering_count(),
        never_preempts: pod.never_preempts,
        ..Diagnosis::default()
    };
    for (node, verdict) in cache.nodes().iter().zip(verdicts) {
        let Some(offer) = &node.offer else { continue };
        let refusal = match verdict.refused {
            Some(Plugin::NodeUnschedulable) => Refusal::NodeUnschedulable,
            Some(Plugin::NodeName) => Refusal::NodeName,
            Some(Plugin::TaintToleration) => Refusal::TaintToleration,
            Some(_) => Refusal::NodeAffinity,
            None if verdict.ports_taken => Refusal::NodePorts,
            None if !verdict.short.fits() => Refusal::Resources(verdict.short),
            None => related
                .and_then(|related| related.refuses_offer(offer))
                .expect("a node that nothing refuses would have been chosen"),
        };
        diagnosis.refuse(
            refusal,
            &pod.requirements.requests,
            preemption(pod, node, refusal),
        );
    }
    diagnosis
}

fn preemption(pod: &PodInfo, node: &Node, refusal: Refusal) -> Preemption {
    if !refusal.preemption_may_help() {
        Preemption::NotHelpful
    } else if node.pods.iter().any(|other| other.priority < pod.priority) {
        Preemption::NotSupported
    } else {
        Preemption::NoVictims
    }
}

fn refuse_everywhere(pod: &PodInfo, cache: &Cache, unsupported: Unsupported) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        nodes: cache.offering_count(),
        unsupported: Some(unsupported),
        never_preempts: pod.never_preempts,
        ..Diagnosis::default()
    };
    diagnosis
        .preemption
        .insert(Preemption::NotHelpful, diagnosis.nodes);
    diagnosis.plugins.insert(match unsupported {
        Unsupported::PersistentVolumeClaims => Plugin::VolumeBinding,
        Unsupported::ResourceClaims => Plugin::DynamicResources,
    });
    diagnosis
}
