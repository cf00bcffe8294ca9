//! The steps every object goes through before it is stored: what a client may not set, defaults,
//! generation, validation. Source of the order: `k8s.io/apiserver/pkg/registry/rest`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ResourceType, Subresource};
use crate::field::FieldErrors;
use crate::kinds::common::metadata;
use crate::{Status, meta, names, time};

/// What creation needs from outside. Nothing here is decided by this crate.
#[derive(Debug, Clone, Copy)]
pub struct CreateContext<'a> {
    /// The request's namespace; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// A fresh uid.
    pub uid: &'a str,
    pub now: Timestamp,
    /// Five characters of [`names::SUFFIX_ALPHABET`] for a `generateName`.
    pub name_suffix: &'a str,
}

impl ResourceType {
    /// Makes a decoded object ready to be stored as a new one: system metadata, generated name, defaults,
    /// no status, validated.
    ///
    /// # Errors
    /// 400 for a namespace that is not the request's, 422 naming each bad field.
    pub fn prepare_create(&self, object: &mut Value, ctx: &CreateContext<'_>) -> Result<(), Status> {
        if !object.is_object() {
            return Err(Status::bad_request("the object provided is unrecognized"));
        }
        self.settle_namespace(object, ctx.namespace)?;
        let generate = meta::generate_name(object);
        if meta::name(object).is_empty() && !generate.is_empty() {
            let name = names::generated(generate, ctx.name_suffix);
            meta::set(object, "name", name.into());
        }
        self.stamp_identity(object);
        let metadata = meta::metadata_mut(object);
        for field in [
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".into(), ctx.uid.into());
        metadata.insert("creationTimestamp".into(), time::format_time(ctx.now).into());
        self.set_defaults(object);
        if self.behaviour.has_generation() {
            meta::set(object, "generation", 1.into());
        }
        if let Some(map) = object.as_object_mut() {
            self.behaviour.prepare_create(map);
        }
        let mut errors = FieldErrors::default();
        metadata::validate(self, object, &mut errors);
        self.behaviour.validate(object, &mut errors);
        self.behaviour.validate_create(object, &mut errors);
        self.verdict(object, &errors)
    }

    /// Makes `new` ready to replace `old`: keeps what this path may not change, sets defaults and
    /// generation, validates.
    ///
    /// # Errors
    /// 400 for another namespace, 422 naming each bad or immutable field.
    pub fn prepare_update(
        &self,
        new: &mut Value,
        old: &Value,
        subresource: Subresource,
    ) -> Result<(), Status> {
        let (Some(_), Some(old_map)) = (new.as_object(), old.as_object()) else {
            return Err(Status::bad_request("the object provided is unrecognized"));
        };
        self.settle_namespace(new, meta::namespace(old))?;
        self.stamp_identity(new);
        keep_system_metadata(new, old);
        self.set_defaults(new);
        let map = new.as_object_mut().expect("checked above");
        match subresource {
            Subresource::Status => self.behaviour.prepare_status_update(map, old_map),
            Subresource::Finalize => self.behaviour.prepare_finalize(map, old_map),
            Subresource::Main => self.behaviour.prepare_update(map, old_map),
            part @ (Subresource::Resize | Subresource::EphemeralContainers | Subresource::Approval) => {
                self.behaviour.prepare_part(part, map, old_map);
            }
        }
        if subresource != Subresource::Status {
            self.set_generation(new, old_map);
        }
        let mut errors = FieldErrors::default();
        metadata::validate(self, new, &mut errors);
        metadata::validate_update(new, old, &mut errors);
        if !self.unconditional_update() && meta::resource_version(new).is_empty() {
            errors.invalid(
                "metadata.resourceVersion",
                0i64,
                "must be specified for an update",
            );
        }
        match subresource {
            Subresource::Status => self.behaviour.validate_status_update(new, old, &mut errors),
            Subresource::Main | Subresource::Finalize => {
                self.behaviour.validate(new, &mut errors);
                self.behaviour.validate_update(new, old, &mut errors);
            }
            part @ (Subresource::Resize | Subresource::EphemeralContainers | Subresource::Approval) => {
                self.behaviour.validate(new, &mut errors);
                self.behaviour.validate_part(part, new, old, &mut errors);
            }
        }
        self.verdict(new, &errors)
    }

    fn verdict(&self, object: &Value, errors: &FieldErrors) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(self.qualified_kind(), meta::name(object), errors))
    }

    /// Puts the request's namespace into an object that names none.
    ///
    /// # Errors
    /// 400 for another namespace.
    pub fn settle_namespace(&self, object: &mut Value, wanted: &str) -> Result<(), Status> {
        if !self.namespaced {
            meta::set(object, "namespace", Value::Null);
            return Ok(());
        }
        let given = meta::namespace(object);
        if given.is_empty() {
            meta::set(object, "namespace", wanted.into());
            return Ok(());
        }
        if given != wanted {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    fn stamp_identity(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".into(), self.api_version().into());
            map.insert("kind".into(), self.kind.as_ref().into());
        }
    }

    fn set_generation(&self, new: &mut Value, old: &Map<String, Value>) {
        if !self.behaviour.has_generation() {
            return;
        }
        let before = old
            .get("metadata")
            .and_then(|m| m["generation"].as_i64())
            .unwrap_or_default();
        let changed = new
            .as_object()
            .is_some_and(|new| self.behaviour.raises_generation(new, old));
        let after = if changed { before + 1 } else { before };
        meta::set(
            new,
            "generation",
            if after == 0 { Value::Null } else { after.into() },
        );
    }
}

/// A client may leave out what the system set; it may not change it.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    let Some(old) = old.get("metadata").and_then(Value::as_object) else {
        return;
    };
    let metadata = meta::metadata_mut(new);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old.get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    metadata.remove("selfLink");
    for field in ["uid", "creationTimestamp", "generateName"] {
        if let (None | Some(Value::Null), Some(value)) = (metadata.get(field), old.get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
}
