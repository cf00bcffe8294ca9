//! Namespace. Source: `pkg/registry/core/namespace/strategy.go`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default};
use crate::kinds::common::rules::named;
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct Namespace;

/// The finalizer in `spec` that holds a Namespace until its content is gone.
pub const FINALIZER: &str = "kubernetes";
/// The label every Namespace has, with its name as the value.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Kind for Namespace {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let name = object
            .get("metadata")
            .and_then(|m| m["name"].as_str())
            .unwrap_or_default()
            .to_string();
        if !name.is_empty() {
            let labels = child_or_new(child_or_new(object, "metadata"), "labels");
            labels.insert(NAME_LABEL.into(), name.into());
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"phase": "Active"}));
        let spec = child_or_new(object, "spec");
        let list = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|f| f == FINALIZER)
        {
            list.push(FINALIZER.into());
        }
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        // Only `/finalize` changes the finalizers of the spec.
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_finalize(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let spec = At::root(new, "core.v1.Namespace").at("spec");
        for finalizer in spec.items("finalizers") {
            if finalizer.text() != FINALIZER {
                named(&finalizer, finalizer.text(), names::qualified_name, errors);
            }
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let phase = At::root(new, "core.v1.Namespace").at("status");
        let want = if meta::is_deleting(old) {
            "Terminating"
        } else {
            "Active"
        };
        if phase.str("phase") != want {
            let when = if meta::is_deleting(old) {
                "is not empty"
            } else {
                "is empty"
            };
            errors.invalid(
                phase.path("phase"),
                phase.str("phase"),
                &format!("may only be '{want}' if `deletionTimestamp` {when}"),
            );
        }
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::dns_label
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Status"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["status"]["phase"].as_str().unwrap_or_default().into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["status"]["phase"].as_str().unwrap_or_default().into()
    }
}

/// Marks a Namespace as being deleted.
pub fn set_terminating(object: &mut Map<String, Value>) {
    let status = child_or_new(object, "status");
    status.remove("phase");
    default(status, "phase", "Terminating");
}
