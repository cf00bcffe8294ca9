//! ControllerRevision: an immutable snapshot of a workload's template. Source: `pkg/apis/apps/validation`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ControllerRevision;

const TYPE: &str = "apps.v1.ControllerRevision";

impl Kind for ControllerRevision {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        if !at.has("data") {
            errors.required(at.path("data"), "data is mandatory");
        }
        rules::not_negative(&at, "revision", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE), At::root(old, TYPE));
        rules::immutable_pointer(new.path("data"), new.get("data"), old.get("data"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Controller"),
                Column::string("Revision"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            meta::controller_of(object)
                .map_or_else(|| "<none>".to_string(), |owner| owner_text(&owner))
                .into(),
            object["revision"].as_i64().unwrap_or_default().into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// `statefulset.apps/web`.
fn owner_text(owner: &meta::OwnerRef<'_>) -> String {
    let kind = match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{}.{group}", owner.kind),
        None => owner.kind.to_string(),
    };
    format!("{}/{}", kind.to_lowercase(), owner.name)
}
