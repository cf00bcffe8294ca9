//! ResourceQuota: what a namespace's objects may use together. Pure.
//!
//! What a write uses more (or less) is booked in the quota's status in the write's own transaction, so that writers who
//! come at the same time never use more than there is. What deletions give back is counted by the controller.
//! Source: Kubernetes `apiserver/pkg/admission/plugin/resourcequota`.

use std::sync::Arc;

use corten_api::quota::{self, Quota};
use corten_api::{Status, registry};
use corten_store::{Entry, Op, Precondition, Snapshot};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::Subject;
use super::{Attributes, Effects, Operation};
use crate::key::Keys;

const QUOTAS: Keys<'static> = Keys {
    group: "",
    resource: "resourcequotas",
    namespaced: true,
};

/// # Errors
/// `Forbidden` with upstream's texts for a write that uses more than a quota leaves.
pub fn validate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
    now: Timestamp,
) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    if !ty.namespaced || !uses(attributes, object) {
        return Ok(());
    }
    let kind = (&*ty.group, &*ty.plural);
    let mut usage = None;
    for entry in snapshot.range(QUOTAS.range(Some(attributes.subject.namespace))) {
        let subject = subject(attributes.subject.namespace);
        let stored = subject.parse(&entry)?;
        let mut quota = Quota::of(&stored);
        if !quota.matches(kind, object) {
            continue;
        }
        let new = usage.get_or_insert_with(|| quota::usage(kind, object, now));
        let old = attributes
            .old
            .filter(|old| attributes.operation == Operation::Update && quota.matches(kind, old));
        let old = old.map(|old| quota::usage(kind, old, now)).unwrap_or_default();
        let delta = quota.bounded(&quota::delta(new, &old));
        if kind == ("", "pods") && attributes.operation == Operation::Create {
            quota::complete(&quota, object)
                .map_err(|why| attributes.forbidden(format!("failed quota: {}: {why}", quota.name)))?;
        }
        if delta.is_empty() {
            continue;
        }
        quota.charge(&delta).map_err(|why| attributes.forbidden(why))?;
        book(&subject, &entry, stored, &quota, effects);
    }
    Ok(())
}

/// Whether a write of this kind can change what the namespace uses.
fn uses(attributes: &Attributes<'_>, object: &Value) -> bool {
    let ty = attributes.subject.ty;
    match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") if ty.group.is_empty() => match &*ty.plural {
            "services" | "persistentvolumeclaims" => true,
            // It goes from one scope to another.
            "pods" => attributes
                .old
                .is_some_and(|old| quota::is_terminating(old) != quota::is_terminating(object)),
            _ => false,
        },
        (Operation::Update, "resize") => true,
        _ => false,
    }
}

fn subject(namespace: &str) -> Subject<'_> {
    let ty = registry()
        .lookup("", "v1", "resourcequotas")
        .expect("ResourceQuotas are built in");
    Subject { ty, namespace }
}

fn book(subject: &Subject<'_>, entry: &Arc<Entry>, mut stored: Value, quota: &Quota, effects: &mut Effects) {
    let used: serde_json::Map<String, Value> = quota
        .used
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())))
        .collect();
    stored["status"]["used"] = used.into();
    let key = subject.key(&quota.name);
    effects
        .preconditions
        .push(Precondition::ModRevision(key.clone(), entry.mod_revision));
    effects.ops.push(Op::Put {
        key,
        value: subject.encode(&stored),
    });
}
