//! One stored object served in several forms: versions of a group, or two groups.
//!
//! Each form is a resource type of its own; those that share [`ResourceType::storage`] show the same objects. The form
//! objects are stored in needs no conversion; the others bring their own.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{ResourceType, registry};

/// Where objects of more than one built-in form are stored.
static SHARED: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
    let forms = registry().all().iter().filter(|ty| ty.converts());
    forms.map(ResourceType::storage).collect()
});

impl ResourceType {
    /// The schema of a custom kind, for documents; `None` for built-in kinds and those without a schema.
    pub fn open_api(&self) -> Option<serde_json::Value> {
        self.behaviour.open_api()
    }

    /// True when this form is not the stored one.
    pub fn converts(&self) -> bool {
        self.behaviour.converts()
    }

    /// From the stored form to this one. Does nothing for the stored form itself.
    pub fn from_stored(&self, object: &mut Value) {
        self.convert(object, |map| self.behaviour.from_stored(map));
    }

    /// From this form to the stored one. Does nothing for the stored form itself.
    pub fn to_stored(&self, object: &mut Value) {
        self.convert(object, |map| self.behaviour.to_stored(map));
    }

    fn convert(&self, object: &mut Value, how: impl Fn(&mut Map<String, Value>)) {
        if let Some(map) = object.as_object_mut().filter(|_| self.converts()) {
            how(map);
        }
    }

    /// Whether objects of this type are also served in another built-in form.
    pub fn has_other_forms(&self) -> bool {
        SHARED.contains(&self.storage())
    }

    /// The selectable fields of a stored object in all its forms, for its head.
    pub fn stored_fields(&self, stored: &Value) -> Vec<(&'static str, String)> {
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        let forms = registry().all().iter();
        for ty in forms.filter(|ty| ty.storage() == self.storage()) {
            let mut seen = stored.clone();
            ty.from_stored(&mut seen);
            for (name, value) in ty.selectable_fields(&seen) {
                if fields.iter().all(|(known, _)| *known != name) {
                    fields.push((name, value));
                }
            }
        }
        fields
    }
}
