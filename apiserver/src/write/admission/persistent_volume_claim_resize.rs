//! PersistentVolumeClaimResize: only a bound claim grows, and only where its class says that volumes can. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/storage/persistentvolume/resize`.

use std::str::FromStr;

use corten_api::quantity::Quantity;
use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::write::Subject;

/// What named a claim's class before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// # Errors
/// `Forbidden` with upstream's texts.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Update || !attributes.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let Some(old) = attributes.old.filter(|old| grows(old, object)) else {
        return Ok(());
    };
    if old["status"]["phase"] != "Bound" {
        return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let (class, before) = (class(object), class(old));
    let ty = registry()
        .lookup("storage.k8s.io", "v1", "storageclasses")
        .expect("StorageClasses are built in");
    let expands = || {
        let found = Subject { ty, namespace: "" }.read(snapshot, class);
        found.is_ok_and(|class| class.value["allowVolumeExpansion"] == true)
    };
    if class.is_empty() || class != before || !expands() {
        return Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ));
    }
    Ok(())
}

fn grows(old: &Value, new: &Value) -> bool {
    let size = |claim: &Value| {
        let text = claim["spec"]["resources"]["requests"]["storage"].as_str();
        text.and_then(|text| Quantity::from_str(text).ok())
    };
    match (size(old), size(new)) {
        (Some(old), Some(new)) => new > old,
        (None, Some(_)) => true,
        _ => false,
    }
}

fn class(claim: &Value) -> &str {
    meta::annotation(claim, CLASS_ANNOTATION)
        .or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn more_is_more_in_any_unit() {
        let claim = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        let check = |old: &str, new: &str, want: bool| {
            assert_eq!(grows(&claim(old), &claim(new)), want, "{old} to {new}");
        };
        check("1Gi", "2Gi", true);
        check("1Gi", "1024Mi", false);
        check("1Gi", "1025Mi", true);
        check("2Gi", "1Gi", false);
    }
}
