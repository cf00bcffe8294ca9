//! StorageObjectInUseProtection: a claim, volume or class of attributes that is deleted stays until nobody uses it. Pure.
//!
//! Puts the finalizers on; the protection controllers take them off.
//! Source: Kubernetes `plugin/pkg/admission/storage/storageobjectinuseprotection`.

use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::{Attributes, Operation};

/// # Errors
/// None; the signature is that of a plug-in.
pub fn mutate(attributes: &Attributes<'_>, _: &Snapshot, object: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    if attributes.is("", "persistentvolumeclaims") {
        protect(object, "kubernetes.io/pvc-protection");
    } else if attributes.is("", "persistentvolumes") {
        protect(object, "kubernetes.io/pv-protection");
    } else if attributes.is("storage.k8s.io", "volumeattributesclasses") {
        protect(object, "kubernetes.io/vac-protection");
    }
    Ok(())
}

fn protect(object: &mut Value, finalizer: &str) {
    if meta::finalizers(object).any(|known| known == finalizer) {
        return;
    }
    let mut all = object["metadata"]["finalizers"].take();
    if all.is_null() {
        all = json!([]);
    }
    // A list that is none is refused by validation.
    if let Some(list) = all.as_array_mut() {
        list.push(finalizer.into());
    }
    meta::set(object, "finalizers", all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_is_added_once() {
        let mut claim = json!({ "metadata": { "name": "c", "finalizers": ["a/b"] } });
        for _ in 0..2 {
            protect(&mut claim, "kubernetes.io/pvc-protection");
            assert_eq!(
                claim["metadata"]["finalizers"],
                json!(["a/b", "kubernetes.io/pvc-protection"])
            );
        }
        let mut bare = json!({ "metadata": { "name": "c" } });
        protect(&mut bare, "x/y");
        assert_eq!(bare["metadata"]["finalizers"], json!(["x/y"]));
    }
}
