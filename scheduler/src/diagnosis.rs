//! Why a Pod found no node, in kube-scheduler's words.
//!
//! Knows plug-ins and their messages. Must not know how the answer reaches the user.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::events::{Plugin, PluginSet};
use crate::plugins::node_resources::Short;
use crate::plugins::{
    inter_pod_affinity, node_affinity, node_name, node_ports, node_unschedulable, pod_topology_spread,
    taint_toleration,
};
use crate::pod::Unsupported;
use crate::resources::Resources;

/// One node's refusal: the first plug-in, in the order of kube-scheduler's default profile, that refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    Resources(Short),
    Spread(pod_topology_spread::Refusal),
    Affinity(inter_pod_affinity::Refusal),
}

impl Refusal {
    pub fn plugin(self) -> Plugin {
        match self {
            Refusal::NodeUnschedulable => Plugin::NodeUnschedulable,
            Refusal::NodeName => Plugin::NodeName,
            Refusal::TaintToleration => Plugin::TaintToleration,
            Refusal::NodeAffinity => Plugin::NodeAffinity,
            Refusal::NodePorts => Plugin::NodePorts,
            Refusal::Resources(_) => Plugin::NodeResourcesFit,
            Refusal::Spread(_) => Plugin::PodTopologySpread,
            Refusal::Affinity(_) => Plugin::InterPodAffinity,
        }
    }

    /// False when removing Pods from the node could not change the answer (`UnschedulableAndUnresolvable`).
    pub fn preemption_may_help(self) -> bool {
        match self {
            Refusal::NodePorts => true,
            Refusal::Resources(short) => !short.beyond_capacity,
            Refusal::Spread(refusal) => refusal == pod_topology_spread::Refusal::Skew,
            Refusal::Affinity(refusal) => refusal != inter_pod_affinity::Refusal::Affinity,
            Refusal::NodeUnschedulable
            | Refusal::NodeName
            | Refusal::TaintToleration
            | Refusal::NodeAffinity => false,
        }
    }

    pub fn reasons(self, requests: &Resources) -> Vec<String> {
        let text = match self {
            Refusal::NodeUnschedulable => node_unschedulable::REASON,
            Refusal::NodeName => node_name::REASON,
            Refusal::TaintToleration => taint_toleration::REASON,
            Refusal::NodeAffinity => node_affinity::REASON,
            Refusal::NodePorts => node_ports::REASON,
            Refusal::Resources(short) => return short.reasons(requests),
            Refusal::Spread(pod_topology_spread::Refusal::Skew) => pod_topology_spread::REASON,
            Refusal::Spread(pod_topology_spread::Refusal::MissingLabel) => {
                pod_topology_spread::REASON_MISSING_LABEL
            }
            Refusal::Affinity(inter_pod_affinity::Refusal::Affinity) => inter_pod_affinity::REASON_AFFINITY,
            Refusal::Affinity(inter_pod_affinity::Refusal::AntiAffinity) => {
                inter_pod_affinity::REASON_ANTI_AFFINITY
            }
            Refusal::Affinity(inter_pod_affinity::Refusal::ExistingAntiAffinity) => {
                inter_pod_affinity::REASON_EXISTING_ANTI_AFFINITY
            }
        };
        vec![text.to_owned()]
    }
}

/// What preemption could do on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preemption {
    NotHelpful,
    NoVictims,
    /// Pods of lower priority are there, but this scheduler does not evict yet.
    NotSupported,
}

impl Preemption {
    fn text(self) -> &'static str {
        match self {
            Preemption::NotHelpful => "Preemption is not helpful for scheduling",
            Preemption::NoVictims => "No preemption victims found for incoming pod",
            Preemption::NotSupported => "Lower-priority pods found but preemption is not supported yet",
        }
    }
}

/// Everything known about one failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<String, usize>,
    /// Why the Pod was refused before any node was looked at.
    pub unsupported: Option<Unsupported>,
    pub preemption: BTreeMap<Preemption, usize>,
    pub never_preempts: bool,
    pub plugins: PluginSet,
}

impl Diagnosis {
    pub fn refuse(&mut self, refusal: Refusal, requests: &Resources, preemption: Preemption) {
        self.plugins.insert(refusal.plugin());
        for reason in refusal.reasons(requests) {
            *self.reasons.entry(reason).or_default() += 1;
        }
        *self.preemption.entry(preemption).or_default() += 1;
    }

    /// The message of the Pod's condition and of the `FailedScheduling` Event.
    /// Source: kube-scheduler 1.36, FitError and DefaultPreemption.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut message = format!("0/{} nodes are available:", self.nodes);
        match self.unsupported {
            Some(Unsupported::PersistentVolumeClaims) => {
                message.push_str(" persistentvolumeclaims are not supported yet.")
            }
            Some(Unsupported::ResourceClaims) => message.push_str(" resourceclaims are not supported yet."),
            None => {
                let reasons = self
                    .reasons
                    .iter()
                    .map(|(reason, count)| (reason.as_str(), *count));
                let _ = write!(message, " {}.", histogram(reasons));
            }
        }
        message.push_str(" no new claims to deallocate, preemption: ");
        if self.never_preempts {
            message.push_str("not eligible due to preemptionPolicy=Never.");
        } else {
            let texts = self
                .preemption
                .iter()
                .map(|(preemption, count)| (preemption.text(), *count));
            let _ = write!(
                message,
                "0/{} nodes are available: {}.",
                self.nodes,
                histogram(texts)
            );
        }
        message
    }
}

/// `1 reason, 2 other`, sorted as text.
fn histogram<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut parts: Vec<String> = counts.map(|(text, count)| format!("{count} {text}")).collect();
    parts.sort_unstable();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(refusals: &[(Refusal, Preemption)], want: &str) {
        let mut diagnosis = Diagnosis {
            nodes: refusals.len(),
            ..Diagnosis::default()
        };
        for (refusal, preemption) in refusals {
            diagnosis.refuse(*refusal, &Resources::default(), *preemption);
        }
        assert_eq!(diagnosis.message(), want);
    }

    #[test]
    fn reasons_are_counted_and_sorted() {
        check(&[], "no nodes available to schedule pods");
        check(
            &[
                (Refusal::TaintToleration, Preemption::NotHelpful),
                (Refusal::NodePorts, Preemption::NoVictims),
                (Refusal::TaintToleration, Preemption::NotHelpful),
            ],
            "0/3 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, \
             2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are available: \
             1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
        );
    }

    #[test]
    fn a_pod_that_never_preempts_says_so() {
        let mut diagnosis = Diagnosis {
            nodes: 1,
            never_preempts: true,
            ..Diagnosis::default()
        };
        diagnosis.refuse(
            Refusal::NodeAffinity,
            &Resources::default(),
            Preemption::NotHelpful,
        );
        assert_eq!(
            diagnosis.message(),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to \
             deallocate, preemption: not eligible due to preemptionPolicy=Never."
        );
    }
}
