//! A Pod as the scheduler sees it: identity, order, and its compiled demands.
//!
//! Knows the Pod API. Must not know where the Pod may go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::labels::Labels;
use crate::requirements::{Relations, Requirements};

/// Who places a Pod that names nobody.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// A Pod's `metadata.uid`: names are reused, uids are not.
pub type Uid = Arc<str>;

#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The object itself, for what is written about the Pod: kept only while a node may be sought for it. A placed or
    /// gated Pod is most of the cluster, and its object several times the size of all the rest here.
    pub object: Option<Arc<Pod>>,
    /// `spec.schedulerName` where it is not `default-scheduler`.
    pub scheduler_name: Option<Box<str>>,
    pub uid: Uid,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// Uid of the owner with `controller: true`.
    pub controller: Option<Uid>,
    /// Higher goes first. Default 0.
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// `spec.nodeName`, `None` while unassigned.
    pub node_name: Option<String>,
    pub requirements: Arc<Requirements>,
    pub relations: Relations,
    pub gated: bool,
    /// `deletionTimestamp` is set.
    pub terminating: bool,
    /// Succeeded or failed: it holds nothing on its node any more.
    pub finished: bool,
    /// What the Pod needs and this scheduler cannot yet decide; such a Pod stays pending and says so.
    pub unsupported: Option<Unsupported>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    PersistentVolumeClaims,
    ResourceClaims,
}

impl PodInfo {
    pub fn new(object: Arc<Pod>) -> Self {
        let nothing = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&nothing);
        let metadata = &object.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let labels = Labels::from(&metadata.labels);
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        let claims = spec
            .volumes
            .iter()
            .flatten()
            .any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
        let unsupported = if claims {
            Some(Unsupported::PersistentVolumeClaims)
        } else if spec
            .resource_claims
            .as_ref()
            .is_some_and(|claims| !claims.is_empty())
        {
            Some(Unsupported::ResourceClaims)
        } else {
            None
        };
        let node_name = spec.node_name.clone().filter(|name| !name.is_empty());
        let gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        let mut pod = PodInfo {
            object: None,
            scheduler_name: spec
                .scheduler_name
                .as_deref()
                .filter(|name| *name != DEFAULT_SCHEDULER)
                .map(Into::into),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            name: metadata.name.clone().unwrap_or_default(),
            controller: metadata
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.as_str().into()),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            node_name,
            requirements: Arc::new(Requirements::new(spec)),
            relations: Relations::new(&namespace, &labels, spec),
            gated,
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            unsupported,
            namespace,
            labels,
        };
        if pod.node_name.is_none() && !pod.gated {
            pod.object = Some(object);
        }
        pod
    }

    /// True when a change from `old` may make a Pod placeable that was not.
    pub fn asks_differently(&self, old: &PodInfo) -> bool {
        self.requirements != old.requirements
            || self.relations != old.relations
            || self.labels != old.labels
            || self.unsupported != old.unsupported
    }
}
