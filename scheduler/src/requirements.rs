//! What a Pod asks for, compiled from its spec: of a single node, and in relation to other Pods.
//!
//! Knows the Pod API. Must not know the state of any node.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::pod::{self, HostPort};
use k8s_openapi::api::core::v1 as core;

use crate::labels::Labels;
use crate::node::Node;
use crate::pod::PodInfo;
use crate::resources::{self, Resources};
use crate::selector::{NodeTerm, Requirement, Selector};

/// What one node alone can answer. Pods with equal requirements get equal verdicts, so they share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requirements {
    /// `spec.nodeName`; empty for every Pod that still needs a node.
    pub node_name: String,
    pub node_selector: BTreeMap<String, String>,
    /// `requiredDuringSchedulingIgnoredDuringExecution`: one of the terms must match.
    pub required_terms: Option<Vec<NodeTerm>>,
    /// Weight (1 to 100) and term of each preference.
    pub preferred_terms: Vec<(i32, NodeTerm)>,
    pub tolerations: Vec<Toleration>,
    pub requests: Resources,
    /// CPU and memory as scoring counts them, with defaults for containers that name none.
    pub scoring_milli_cpu: i64,
    pub scoring_memory: i64,
    pub host_ports: Vec<HostPort>,
    /// Normalised names of the images of all containers.
    pub images: Vec<String>,
}

impl Requirements {
    pub fn new(spec: &core::PodSpec) -> Self {
        let node_affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            node_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred =
            node_affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let requests = resources::requested(spec);
        let assumed = (!resources::requests_both(spec)).then(|| resources::requested_for_scoring(spec));
        let scoring = assumed.as_ref().unwrap_or(&requests);
        Requirements {
            node_name: spec.node_name.clone().unwrap_or_default(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_terms: required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect()),
            preferred_terms: preferred
                .into_iter()
                .flatten()
                .filter(|term| term.weight != 0)
                .map(|term| (term.weight, NodeTerm::new(&term.preference)))
                .collect(),
            tolerations: spec
                .tolerations
                .as_deref()
                .unwrap_or_default()
                .iter()
                .map(Toleration::new)
                .collect(),
            scoring_milli_cpu: scoring.milli_cpu,
            scoring_memory: scoring.memory,
            requests,
            host_ports: pod::host_ports(spec),
            images: spec
                .init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
                .filter_map(|container| container.image.as_deref())
                .map(normalized_image)
                .collect(),
        }
    }
}

/// Adds `:latest` to a name without tag or digest. Source: kube-scheduler, ImageLocality.
pub fn normalized_image(name: &str) -> String {
    let tagged = match (name.rfind(':'), name.rfind('/')) {
        (Some(colon), Some(slash)) => colon > slash,
        (colon, _) => colon.is_some(),
    };
    if tagged {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Toleration {
    pub key: String,
    /// Empty means `Equal`.
    pub operator: String,
    pub value: String,
    /// Empty tolerates every effect.
    pub effect: String,
}

impl Toleration {
    fn new(toleration: &core::Toleration) -> Self {
        Toleration {
            key: toleration.key.clone().unwrap_or_default(),
            operator: toleration.operator.clone().unwrap_or_default(),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration.effect.clone().unwrap_or_default(),
        }
    }

    /// Source: Kubernetes, "Taints and Tolerations".
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let numbers = || Some((taint.value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "" | "Equal" => self.value == taint.value,
                "Exists" => true,
                "Gt" => numbers().is_some_and(|(taint, bound)| taint > bound),
                "Lt" => numbers().is_some_and(|(taint, bound)| taint < bound),
                _ => false,
            }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: String,
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl Taint {
    pub fn new(taint: &core::Taint) -> Self {
        Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint.effect.clone(),
        }
    }
}

/// What only a look at other Pods can answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// `topologySpreadConstraints` with `whenUnsatisfiable: DoNotSchedule`.
    pub spread: Vec<SpreadConstraint>,
    /// Those with `ScheduleAnyway`: they score, they do not filter.
    pub preferred_spread: Vec<SpreadConstraint>,
    /// Any `topologySpreadConstraints` at all: then kube-scheduler's defaults do not apply.
    pub has_spread: bool,
    /// Required terms only.
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
}

impl Relations {
    pub fn new(namespace: &str, labels: &Labels, spec: &core::PodSpec) -> Self {
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.pod_affinity.as_ref());
        let anti_affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let terms = |terms: Option<&Vec<core::PodAffinityTerm>>| {
            terms
                .into_iter()
                .flatten()
                .map(|term| PodTerm::new(namespace, labels, term))
                .collect()
        };
        let spread = |unsatisfiable: &str| {
            let constraints = spec.topology_spread_constraints.iter().flatten();
            let wanted = constraints.filter(|constraint| constraint.when_unsatisfiable == unsatisfiable);
            wanted
                .map(|constraint| SpreadConstraint::new(labels, constraint))
                .collect()
        };
        Relations {
            spread: spread("DoNotSchedule"),
            preferred_spread: spread("ScheduleAnyway"),
            has_spread: spec
                .topology_spread_constraints
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
            affinity: terms(
                affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            anti_affinity: terms(
                anti_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
        }
    }

    /// Nothing that filters.
    pub fn is_empty(&self) -> bool {
        self.spread.is_empty() && self.affinity.is_empty() && self.anti_affinity.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadConstraint {
    pub topology_key: String,
    /// At least 1.
    pub max_skew: i64,
    /// With fewer domains than this the global minimum counts as 0. Default 1.
    pub min_domains: usize,
    pub selector: Selector,
    /// `Honor` (default): only nodes that the Pod's node selector and affinity accept are counted.
    pub honor_node_affinity: bool,
    /// `Honor`: only nodes whose taints the Pod tolerates are counted. Default `Ignore`.
    pub honor_node_taints: bool,
}

impl SpreadConstraint {
    fn new(labels: &Labels, constraint: &core::TopologySpreadConstraint) -> Self {
        let mut selector = Selector::new(constraint.label_selector.as_ref());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.and(Requirement::equals(key, value));
            }
        }
        SpreadConstraint {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            selector,
            honor_node_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_node_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Pods on `node` that count for a Pod of this constraint. Terminating ones do not.
    pub fn matching(&self, pod: &PodInfo, node: &Node) -> i64 {
        let counts = |other: &&Arc<PodInfo>| {
            other.namespace == pod.namespace && !other.terminating && self.selector.matches(&other.labels)
        };
        node.pods.iter().filter(counts).count() as i64
    }
}

/// One required term of Pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTerm {
    pub topology_key: String,
    pub selector: Selector,
    /// Named namespaces; the Pod's own when the term names none and has no namespace selector.
    pub namespaces: Vec<String>,
    pub namespace_selector: Selector,
}

impl PodTerm {
    fn new(namespace: &str, labels: &Labels, term: &core::PodAffinityTerm) -> Self {
        let mut selector = Selector::new(term.label_selector.as_ref());
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.and(Requirement::equals(key, value));
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.and(Requirement::new(key, "NotIn", Some(&vec![value.clone()])));
            }
        }
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        PodTerm {
            topology_key: term.topology_key.clone(),
            selector,
            namespaces,
            namespace_selector: Selector::new(term.namespace_selector.as_ref()),
        }
    }

    /// `namespace_labels` are those of the other Pod's namespace.
    pub fn matches(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let namespace_matches = self.namespaces.iter().any(|name| name == namespace)
            || self.namespace_selector.is_everything()
            || self.namespace_selector.matches(namespace_labels);
        namespace_matches && self.selector.matches(labels)
    }
}
