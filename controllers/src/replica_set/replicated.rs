//! The two kinds that keep a number of Pods of one template: ReplicaSet, and ReplicationController, which is its older form.
//!
//! Knows how a ReplicationController reads as a ReplicaSet. Must not know what is decided about either.
//! Source: the replication controller of Kubernetes 1.36, which adapts its objects in the same way.

use std::borrow::Cow;

use corten_api::selector::LabelSelector;
use corten_client::{KubeKind, ObjectExt};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1;

use serde::Serialize;

use crate::context::SyncError;

pub trait Replicated: KubeKind + Serialize {
    const KIND: &str;
    /// Who reports its events.
    const COMPONENT: &str;

    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    /// The same object with this status.
    #[must_use]
    fn reporting(&self, status: ReplicaSetStatus) -> Self;

    /// Which Pods are its own.
    ///
    /// # Errors
    /// An object that validation would have refused.
    fn selector(&self) -> Result<LabelSelector, SyncError>;
}

impl Replicated for ReplicaSet {
    const KIND: &str = "ReplicaSet";
    const COMPONENT: &str = "replicaset-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn reporting(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet {
            status: Some(status),
            ..self.clone()
        }
    }

    fn selector(&self) -> Result<LabelSelector, SyncError> {
        let spec = self
            .spec
            .as_ref()
            .ok_or_else(|| SyncError::Invalid(format!("{} has no spec", self.key())))?;
        LabelSelector::from_api(&spec.selector).map_err(SyncError::Invalid)
    }
}

impl Replicated for ReplicationController {
    const KIND: &str = "ReplicationController";
    const COMPONENT: &str = "replication-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: v1::LabelSelector {
                match_labels: spec.selector,
                match_expressions: None,
            },
            template: spec.template,
        });
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status
                .conditions
                .map(|conditions| conditions.into_iter().map(of_set).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec,
            status,
        })
    }

    fn reporting(&self, status: ReplicaSetStatus) -> Self {
        ReplicationController {
            status: Some(ReplicationControllerStatus {
                available_replicas: status.available_replicas,
                conditions: status
                    .conditions
                    .map(|conditions| conditions.into_iter().map(of_controller).collect()),
                fully_labeled_replicas: status.fully_labeled_replicas,
                observed_generation: status.observed_generation,
                ready_replicas: status.ready_replicas,
                replicas: status.replicas,
            }),
            ..self.clone()
        }
    }

    /// Without a selector it would select everything, in its namespace everybody's Pods: that is refused.
    fn selector(&self) -> Result<LabelSelector, SyncError> {
        let labels = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        labels
            .filter(|labels| !labels.is_empty())
            .map(LabelSelector::from_map)
            .ok_or_else(|| SyncError::Invalid(format!("{} has no selector", self.key())))
    }
}

fn of_set(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

fn of_controller(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::same;
    use super::*;
    use k8s_openapi::api::core::v1::ReplicationControllerSpec;

    fn controller(selector: &[(&str, &str)]) -> ReplicationController {
        ReplicationController {
            spec: Some(ReplicationControllerSpec {
                replicas: Some(2),
                selector: Some(
                    selector
                        .iter()
                        .map(|(key, value)| ((*key).into(), (*value).into()))
                        .collect(),
                ),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_a_controller_reports_reads_back_as_it_was() {
        let status = ReplicaSetStatus {
            replicas: 2,
            ready_replicas: Some(1),
            observed_generation: Some(3),
            conditions: Some(vec![ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let reported = controller(&[("app", "web")]).reporting(status.clone());
        let read = reported.as_set().status.clone();
        assert!(same(read.as_ref(), &status), "{read:?}");
    }

    #[test]
    fn a_controller_without_a_selector_takes_nothing() {
        assert!(controller(&[]).selector().is_err());
        let selector = controller(&[("app", "web")]).selector().expect("a selector");
        assert!(selector.matches(&Some([("app".to_owned(), "web".to_owned())].into())));
        assert!(!selector.matches(&None));
    }
}
