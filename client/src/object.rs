//! What every API object has in common: a key, metadata, an address on the server.
//!
//! Knows `ObjectMeta` and how a kind's URL is built. Must not know any particular kind.

#![deny(clippy::disallowed_methods)]

use std::any::TypeId;
use std::fmt;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What must be escaped inside one path segment of a URL; names such as `system:node` stay readable.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// Namespace and name of an object; the namespace is empty for kinds that live in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectKey {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object of a cluster-wide kind.
    pub fn cluster(name: impl Into<String>) -> Self {
        ObjectKey {
            namespace: String::new(),
            name: name.into(),
        }
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        ObjectKey {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// `namespace/name`, or only the name where there is no namespace.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Anything a cache can hold.
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

impl<K> Object for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

/// Only the metadata of an object of any kind. Source: meta/v1 `PartialObjectMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PartialObject {
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Object for PartialObject {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A built-in kind: an [`Object`] whose address on the server is known at compile time.
pub trait KubeKind: Object {
    fn target() -> Target;
}

impl<K> KubeKind for K
where
    K: Object + k8s_openapi::Resource,
    K::Scope: 'static,
{
    fn target() -> Target {
        Target {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            plural: K::URL_PATH_SEGMENT.to_owned(),
            namespaced: TypeId::of::<K::Scope>() != TypeId::of::<ClusterResourceScope>(),
        }
    }
}

/// Where objects of one kind live on the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
}

impl Target {
    /// `v1` or `apps/v1`, as in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The collection's path; an empty `namespace` means all namespaces.
    pub fn collection_path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.api_version();
        if self.namespaced && !namespace.is_empty() {
            let namespace = utf8_percent_encode(namespace, SEGMENT);
            format!("{root}/{api_version}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{root}/{api_version}/{}", self.plural)
        }
    }

    pub fn object_path(&self, key: &ObjectKey) -> String {
        format!(
            "{}/{}",
            self.collection_path(&key.namespace),
            utf8_percent_encode(&key.name, SEGMENT)
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// The questions every component asks of every object.
pub trait ObjectExt: Object {
    fn key(&self) -> ObjectKey {
        ObjectKey::of(self.meta())
    }

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// Empty for cluster-wide kinds.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion` as the number it is; 0 when the object was never stored.
    fn revision(&self) -> u64 {
        revision_of(self.meta())
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn is_terminating(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// The one owner that manages this object, if any.
    fn controller(&self) -> Option<&OwnerReference> {
        self.meta()
            .owner_references
            .as_deref()?
            .iter()
            .find(|owner| owner.controller == Some(true))
    }

    fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
}

impl<K: Object> ObjectExt for K {}

/// `metadata.resourceVersion` as a number, 0 when absent.
pub fn revision_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// The reference an object carries to the owner that manages it (`controller` and `blockOwnerDeletion` true).
pub fn controller_reference<K: KubeKind>(owner: &K) -> OwnerReference {
    let target = K::target();
    OwnerReference {
        api_version: target.api_version(),
        kind: target.kind,
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference an Event carries to the object it is about.
pub fn object_reference<K: KubeKind>(object: &K) -> ObjectReference {
    let target = K::target();
    let meta = object.meta();
    ObjectReference {
        api_version: Some(target.api_version()),
        kind: Some(target.kind),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::{Node, Pod};

    #[track_caller]
    fn check(target: &Target, key: ObjectKey, path: &str) {
        assert_eq!(target.object_path(&key), path);
    }

    #[test]
    fn paths_follow_group_and_scope() {
        check(
            &Pod::target(),
            ObjectKey::new("web", "a"),
            "/api/v1/namespaces/web/pods/a",
        );
        check(
            &ReplicaSet::target(),
            ObjectKey::new("web", "a"),
            "/apis/apps/v1/namespaces/web/replicasets/a",
        );
        check(&Node::target(), ObjectKey::cluster("n:1"), "/api/v1/nodes/n:1");
        check(
            &Node::target(),
            ObjectKey::cluster("../x"),
            "/api/v1/nodes/..%2Fx",
        );
        assert_eq!(Pod::target().collection_path(""), "/api/v1/pods");
    }
}
