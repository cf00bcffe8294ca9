//! Admission: what the cluster adds to objects and refuses about them. Pure; the order of the plug-ins is here.
//!
//! A plug-in is one file with plain functions over [`Attributes`] and a snapshot: `mutate` changes the object before it
//! is checked, `validate` sees it as it will be stored and may add to the write's transaction ([`Effects`]). What has to
//! ask somebody outside (webhooks) answers with a question; `transact` asks, and the decision is made again.
//!
//! Source of the order: Kubernetes `pkg/kubeapiserver/options/plugins.go`.

mod attributes;
mod certificate_signer;
mod certificate_subject;
mod default_toleration_seconds;
mod deny_service_external_ips;
mod limit_ranger;
pub mod namespace;
mod namespace_lifecycle;
pub mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_resize;
pub mod pod_security;
mod pod_topology_labels;
mod resource_quota;
mod restricted_endpoints;
mod role_escalation;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

use corten_api::apply::managers;
use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use super::question::Question;
use super::{Env, classes};
use crate::event_rate_limit::Charged;
use crate::{policies, webhooks};

pub use attributes::{Attributes, Effects, Operation, RequestOptions};

/// Changes an object that is to be created or updated; for a deletion `object` is null. A question has to be answered
/// before the rest can be decided.
///
/// # Errors
/// What a plug-in or webhook refuses, with upstream's texts.
pub fn mutate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    env: &mut Env,
) -> Result<Option<Question>, Status> {
    built_in(attributes, snapshot, object, env)?;
    let Some(scene) = env.scene.clone() else {
        return Ok(None);
    };
    let managers = object["metadata"].get("managedFields").cloned();
    let mut rounds = webhooks::Rounds::default();
    let mut again = false;
    loop {
        let changed = policies::mutate(&scene, attributes, snapshot, object, again)?;
        if changed {
            rounds.note_change();
        }
        again = true;
        let asked = webhooks::mutate(&scene, attributes, snapshot, object, &mut rounds, env)?;
        if asked.is_some() {
            return Ok(asked);
        }
        if !rounds.another() {
            break;
        }
        built_in(attributes, snapshot, object, env)?;
    }
    keep_managers(object, managers, env);
    Ok(None)
}

/// The plug-ins that change objects, in their order.
fn built_in(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    env: &mut Env,
) -> Result<(), Status> {
    namespace_lifecycle::check(attributes, snapshot)?;
    namespace::mutate(attributes, snapshot, object)?;
    limit_ranger::mutate(attributes, snapshot, object)?;
    service_account::mutate(attributes, snapshot, object, env)?;
    taint_nodes_by_condition::mutate(attributes, snapshot, object)?;
    storage_object_in_use_protection::mutate(attributes, snapshot, object)?;
    // Priority, RuntimeClass, DefaultStorageClass, DefaultIngressClass.
    if attributes.operation == Operation::Create && attributes.subresource.is_empty() {
        classes::mutate_create(attributes.subject, snapshot, object)?;
    }
    default_toleration_seconds::mutate(attributes, snapshot, object)?;
    pod_topology_labels::mutate(attributes, snapshot, object)
}

/// Managers of fields that a webhook has made unreadable are those from before.
/// Source: Kubernetes `NewManagedFieldsValidatingAdmissionController`.
fn keep_managers(object: &mut Value, before: Option<Value>, env: &mut Env) {
    let after = object["metadata"].get("managedFields");
    if after == before.as_ref() {
        return;
    }
    if let Some(Err(error)) = after.map(managers::decode) {
        env.warnings.push(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {error}"
        ));
        meta::set(object, "managedFields", before.unwrap_or_default());
    }
}

/// Judges an object as it would be stored; for a deletion `object` is null. What is noted about a refused one is recorded
/// as well.
///
/// # Errors
/// What a plug-in or webhook refuses, with upstream's texts.
pub fn validate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
    env: &mut Env,
) -> Result<Option<Question>, Status> {
    let judged = judge(attributes, snapshot, object, effects, env);
    if judged.is_err() {
        env.annotations.append(&mut effects.annotations);
    }
    judged
}

fn judge(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
    env: &mut Env,
) -> Result<Option<Question>, Status> {
    namespace_lifecycle::hold(attributes, snapshot, effects)?;
    limit_ranger::validate(attributes, snapshot, object)?;
    service_account::validate(attributes, snapshot, object)?;
    node_restriction::validate(attributes, snapshot, object)?;
    pod_security::validate(attributes, snapshot, object, effects, env.pod_security.as_deref())?;
    charge_event(attributes, object, env)?;
    persistent_volume_claim_resize::validate(attributes, snapshot, object)?;
    certificate_signer::validate(attributes, object, &env.rules)?;
    certificate_subject::validate(attributes, object)?;
    if env.deny_external_ips {
        deny_service_external_ips::validate(attributes, object)?;
    }
    if let Some(pods) = env.strict.pod_range {
        restricted_endpoints::validate(attributes, object, pods, &env.rules)?;
    }
    pod_resize::validate(attributes, snapshot, object)?;
    role_escalation::validate(attributes, snapshot, object, &env.rules)?;
    if let Some(scene) = env.scene.clone() {
        policies::validate(&scene, attributes, snapshot, object, effects)?;
        let asked = webhooks::validate(&scene, attributes, snapshot, object, effects, env)?;
        if asked.is_some() {
            return Ok(asked);
        }
    }
    // The last one: nothing is charged for what another refuses.
    resource_quota::validate(attributes, snapshot, object, effects, env.now)?;
    Ok(None)
}

/// EventRateLimit. A request is charged once, however often it is decided.
fn charge_event(attributes: &Attributes<'_>, object: &Value, env: &mut Env) -> Result<(), Status> {
    let is_write = matches!(attributes.operation, Operation::Create | Operation::Update);
    if !is_write || attributes.dry_run || !attributes.is("", "events") {
        return Ok(());
    }
    let Some(limit) = env.event_limit.clone() else {
        return Ok(());
    };
    let (user, namespace, now) = (&attributes.user.name, attributes.subject.namespace, env.now);
    let charge = || {
        limit.charge(
            Charged {
                user,
                namespace,
                event: object,
            },
            now,
        )
    };
    env.event_verdict.get_or_insert_with(charge).clone()
}

/// Whether `haystack` contains `needle`: a look at stored bytes that saves parsing them, on every create.
pub(crate) fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(head) = needle.first_chunk::<8>() else {
        return needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle);
    };
    // Eight bytes compare as one number; nearly no other place has them.
    let head = u64::from_ne_bytes(*head);
    (0..haystack.len()).any(|at| {
        let rest = &haystack[at..];
        rest.first_chunk::<8>()
            .is_some_and(|found| u64::from_ne_bytes(*found) == head)
            && rest.starts_with(needle)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_bytes() {
        let check = |haystack: &str, needle: &str| {
            let found = memmem(haystack.as_bytes(), needle.as_bytes());
            assert_eq!(found, haystack.contains(needle), "{needle} in {haystack}");
        };
        for needle in [
            "",
            "a",
            "deletion",
            "\"deletionTimestamp\"",
            "\"globalDefault\":true",
        ] {
            for haystack in [
                "",
                "a",
                "deletio",
                "deletion",
                "x\"deletionTimestamp",
                "x\"deletionTimestamp\"",
                "\"globalDefault\":trux",
            ] {
                check(haystack, needle);
            }
        }
    }
}
