//! Which objects a list or watch is about: a key range and two selectors. Pure.
//!
//! Knows stored heads: a filter costs a look at one. An object is parsed only where a custom resource is selected by a field
//! that its head lacks, as it was written through another version or before its definition named the field.

use std::ops::Range;

use bytes::Bytes;
use corten_api::ResourceType;
use corten_api::resource::TypeRef;
use corten_api::selector::label::Labels;
use corten_api::selector::{FieldSelector, LabelSelector};
use corten_api::status::Status;
use corten_store::Entry;

use crate::convert;
use crate::key::Keys;
use crate::query::ListOptions;
use crate::stored::{Damaged, Head, Stored, TypeMeta};

/// The keys of a resource type.
#[must_use]
pub fn keys(ty: &ResourceType) -> Keys<'_> {
    let (group, resource) = ty.storage();
    Keys {
        group,
        resource,
        namespaced: ty.namespaced,
    }
}

#[derive(Debug, Clone)]
pub struct Filter {
    /// What is scanned or watched; a selector on the name narrows it to one key.
    pub range: Range<Bytes>,
    /// What page tokens are relative to.
    pub prefix: String,
    /// What the store may leave out the rest by; see [`tag`].
    pub tag: Option<Bytes>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// A custom resource that is selected by fields of its own.
    custom: Option<TypeRef>,
}

/// Start of the keys of Pods, and the field every node selects its own by.
const PODS: &[u8] = b"/core/pods/";
const NODE_NAME: &str = "spec.nodeName";

/// The node a stored Pod is on: what the store wakes watchers by. Each node watches its own Pods, and without this every
/// change of a Pod would wake them all.
#[must_use]
pub fn tag(key: &[u8], value: &[u8]) -> Option<Bytes> {
    if !key.starts_with(PODS) {
        return None;
    }
    let node = Stored::new(value).ok()?.head().ok()?.field(NODE_NAME)?;
    (!node.is_empty()).then(|| Bytes::copy_from_slice(node.as_bytes()))
}

impl Labels for Head<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        Head::label(self, key)
    }
}

impl Filter {
    /// # Errors
    /// `BadRequest` for a selector that cannot be read or names a field the kind does not select by.
    pub fn new(ty: &TypeRef, namespace: Option<&str>, options: &ListOptions) -> Result<Filter, Status> {
        let label_text = options.label_selector.as_deref().unwrap_or_default();
        let field_text = options.field_selector.as_deref().unwrap_or_default();
        let labels = LabelSelector::parse(label_text).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(field_text).map_err(Status::bad_request)?;
        ty.check_field_selector(&fields)?;
        let keys = keys(ty);
        let narrowed = fields
            .required_value("metadata.namespace")
            .filter(|value| !value.is_empty());
        let in_namespace = namespace.or(narrowed).filter(|_| ty.namespaced);
        let range = match fields.required_value("metadata.name") {
            Some(name) if in_namespace.is_some() || !ty.namespaced => {
                corten_store::key_range(&keys.object(in_namespace, name))
            }
            _ => keys.range(in_namespace),
        };
        // Tokens are relative to what the URL says, so a page is the same list whatever the selectors.
        let of_pods = range.start.starts_with(PODS);
        let tag = fields
            .required_value(NODE_NAME)
            .filter(|node| of_pods && !node.is_empty())
            .map(|node| Bytes::copy_from_slice(node.as_bytes()));
        let by_own = (fields.requirements.iter()).any(|own| !own.field.starts_with("metadata."));
        Ok(Filter {
            custom: (by_own && ty.as_custom().is_some()).then(|| ty.clone()),
            tag,
            range,
            prefix: keys.prefix(namespace),
            labels,
            fields,
        })
    }

    #[must_use]
    pub fn selects_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether it looks at fields that only some version of a custom resource has.
    #[must_use]
    pub fn selects_own_fields(&self) -> bool {
        self.custom.is_some()
    }

    /// An object that a webhook has yet to convert matches by its labels alone: what its fields are shows afterwards, so it is
    /// asked for again then.
    ///
    /// # Errors
    /// A stored value that is not ours.
    pub fn matches(&self, entry: &Entry) -> Result<bool, Damaged> {
        if self.selects_all() {
            return Ok(true);
        }
        let stored = Stored::new(&entry.value)?;
        let head = stored.head()?;
        if !self.labels.matches(&head) {
            return Ok(false);
        }
        let Some(ty) = &self.custom else {
            return Ok(self.fields.matches(|field| head.field(field)));
        };
        if convert::is_due(ty, &entry.value) {
            return Ok(true);
        }
        let mut wanted = self.fields.requirements.iter();
        if wanted.all(|own| head.field(&own.field).is_some()) {
            return Ok(self.fields.matches(|field| head.field(field)));
        }
        let object = stored.parse(TypeMeta::of(ty), entry.mod_revision.0)?;
        let own = ty.selectable_fields(&object);
        Ok(self.fields.matches(|field| {
            let (_, value) = own.iter().find(|(name, _)| *name == field)?;
            Some(value.as_str())
        }))
    }

    /// The part of the range from `start` on.
    #[must_use]
    pub fn range_from(&self, start: &Bytes) -> Range<Bytes> {
        self.range.start.clone().max(start.clone())..self.range.end.clone()
    }
}
