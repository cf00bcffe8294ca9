//! Claims for administrative access to devices: only in namespaces that are labelled for it. Pure.
//!
//! Source: Kubernetes `pkg/registry/resource/utils.go`.

use corten_api::field::FieldErrors;
use corten_api::kinds::resource::admin_requests;
use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::Value;

use super::Subject;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Checks a new ResourceClaim or ResourceClaimTemplate; any other object passes.
///
/// # Errors
/// `Invalid`, naming the first request that asks for too much.
pub fn on_create(subject: Subject<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    if subject.ty.group != "resource.k8s.io" {
        return Ok(());
    }
    let spec = match &*subject.ty.plural {
        "resourceclaims" => &object["spec"],
        "resourceclaimtemplates" => &object["spec"]["spec"],
        _ => return Ok(()),
    };
    match admin_requests(spec).next() {
        None => Ok(()),
        Some(at) => {
            let path = format!("spec.devices.requests[{at}].adminAccess");
            in_labelled(subject, snapshot, object, &path)
        }
    }
}

/// Checks a claim whose status changes: what was granted before may stay.
///
/// # Errors
/// `Invalid`, naming the first result that grants too much.
pub fn on_update(subject: Subject<'_>, snapshot: &Snapshot, new: &Value, old: &Value) -> Result<(), Status> {
    if subject.ty.group != "resource.k8s.io" || subject.ty.plural != "resourceclaims" {
        return Ok(());
    }
    let granted = |claim: &Value| {
        let results = claim["status"]["allocation"]["devices"]["results"].as_array();
        results
            .into_iter()
            .flatten()
            .position(|result| result["adminAccess"] == true)
    };
    match (granted(old), granted(new)) {
        (None, Some(at)) => {
            let path = format!("status.allocation.devices.results[{at}].adminAccess");
            in_labelled(subject, snapshot, new, &path)
        }
        _ => Ok(()),
    }
}

fn in_labelled(subject: Subject<'_>, snapshot: &Snapshot, object: &Value, path: &str) -> Result<(), Status> {
    let ty = registry()
        .lookup("", "v1", "namespaces")
        .expect("Namespaces are built in");
    let namespace = Subject { ty, namespace: "" }.read(snapshot, subject.namespace)?;
    if namespace.value["metadata"]["labels"][LABEL] == "true" {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    errors.forbidden(
        path,
        &format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace"),
    );
    Err(Status::invalid(
        subject.ty.qualified_kind(),
        meta::name(object),
        &errors,
    ))
}
