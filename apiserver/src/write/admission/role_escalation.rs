//! Nobody grants by a Role or a binding what they do not have; who may is [`escalation`]'s to say. Pure.
//!
//! Upstream does this in the registry, behind admission: it looks at the object as it will be stored.

use corten_api::Status;
use corten_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::rbac::{self, escalation, rules::Rules};

/// # Errors
/// `Forbidden`, or `NotFound` for a role that does not exist.
pub fn validate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    rules: &Rules,
) -> Result<(), Status> {
    let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
    if !writes || attributes.subject.ty.group != rbac::GROUP {
        return Ok(());
    }
    let write = escalation::Write {
        subject: attributes.subject,
        user: attributes.user,
        old: attributes.old,
        new: object,
    };
    escalation::check(&write, rules, snapshot)
}
