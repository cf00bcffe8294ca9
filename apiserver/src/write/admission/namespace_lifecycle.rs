//! NamespaceLifecycle: nothing is made in a namespace that is missing or going, and some namespaces stay. Pure.

use corten_api::status::{Qualified, StatusCause};
use corten_api::{Status, meta, registry};
use corten_store::{Entry, Precondition, Snapshot};
use std::sync::Arc;

use super::{Attributes, Effects, Operation};
use crate::key::Keys;
use crate::write::Subject;

pub(super) const NAMESPACES: Keys<'static> = Keys {
    group: "",
    resource: "namespaces",
    namespaced: false,
};
/// Namespaces that always exist. Source: Kubernetes NamespaceLifecycle admission.
pub const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

fn namespace(attributes: &Attributes<'_>, snapshot: &Snapshot) -> Result<Arc<Entry>, Status> {
    let name = attributes.subject.namespace;
    snapshot
        .get(&NAMESPACES.object(None, name))
        .ok_or_else(|| Status::not_found(Qualified::new("", "namespaces"), name))
}

fn is_namespaced_create(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create
        && attributes.subject.ty.namespaced
        && !is_access_review(attributes)
}

/// An access review is answered, not stored: it may ask about a namespace that does not exist.
fn is_access_review(attributes: &Attributes<'_>) -> bool {
    attributes.is("authorization.k8s.io", "localsubjectaccessreviews")
}

/// The namespace of a new object must exist and live. Told before anything else is.
///
/// # Errors
/// `NotFound` or `Forbidden` with upstream's texts.
pub fn check(attributes: &Attributes<'_>, snapshot: &Snapshot) -> Result<(), Status> {
    if attributes.operation == Operation::Delete && attributes.is("", "namespaces") {
        return match IMMORTAL.contains(&attributes.name) {
            true => Err(attributes.forbidden("this namespace may not be deleted")),
            false => Ok(()),
        };
    }
    if !is_namespaced_create(attributes) {
        return Ok(());
    }
    let entry = namespace(attributes, snapshot)?;
    let ty = registry().lookup("", "v1", "namespaces");
    let namespaces = Subject {
        ty: ty.expect("Namespaces are built in"),
        namespace: "",
    };
    if !meta::is_deleting(&*namespaces.shared(&entry)?) {
        return Ok(());
    }
    let name = attributes.subject.namespace;
    let mut status = attributes.forbidden(format!(
        "unable to create new content in namespace {name} because it is being terminated"
    ));
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}

/// Keeps the namespace of a new object as it was checked until the write.
///
/// # Errors
/// `NotFound`.
pub fn hold(attributes: &Attributes<'_>, snapshot: &Snapshot, effects: &mut Effects) -> Result<(), Status> {
    if is_namespaced_create(attributes) && attributes.subresource.is_empty() {
        let entry = namespace(attributes, snapshot)?;
        let unchanged = Precondition::ModRevision(entry.key.clone(), entry.mod_revision);
        effects.preconditions.push(unchanged);
    }
    Ok(())
}
