//! ResourceClaim and ResourceClaimTemplate. Source: `pkg/apis/resource`, `pkg/registry/resource`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::class::name_and_age;
use super::{request, status};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new};
use crate::kinds::common::status::only_status;
use crate::kinds::common::{metadata, rules, selector};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ResourceClaim;
pub struct ResourceClaimTemplate;

const CLAIM: &str = "resource.v1.ResourceClaim";
const TEMPLATE: &str = "resource.v1.ResourceClaimTemplate";

fn immutable_spec(schema: &str, new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (At::root(new, schema), At::root(old, schema));
    rules::immutable(new.path("spec"), new.get("spec"), old.get("spec"), errors);
}

impl Kind for ResourceClaim {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        request::set_defaults(child_or_new(child_or_new(object, "spec"), "devices"));
        status::set_defaults(object);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        only_status(new, old);
        status::drop_deallocated(new, old);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        request::validate(&At::root(object, CLAIM).at("spec").at("devices"), errors);
    }

    /// The spec may not change, so it is not checked again.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        immutable_spec(CLAIM, new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        status::validate_update(&At::root(new, CLAIM), &At::root(old, CLAIM), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("State"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = &object["status"];
        let mut states = Vec::new();
        if meta::is_deleting(object) {
            states.push("deleted");
        }
        if status["allocation"].is_object() {
            states.push("allocated");
            if status["reservedFor"].as_array().is_some_and(|l| !l.is_empty()) {
                states.push("reserved");
            }
        } else if !meta::is_deleting(object) {
            states.push("pending");
        }
        vec![
            meta::name(object).into(),
            states.join(",").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

impl Kind for ResourceClaimTemplate {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        if let Some(devices) = child(spec, "spec").and_then(|s| child(s, "devices")) {
            request::set_defaults(devices);
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TEMPLATE).at("spec");
        let labels = spec.at("metadata");
        metadata::annotations(&labels, errors);
        selector::labels(labels.path("labels"), labels.get("labels"), errors);
        request::validate(&spec.at("spec").at("devices"), errors);
    }

    /// The spec may not change, so it is not checked again.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        immutable_spec(TEMPLATE, new, old, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        name_and_age(object, now)
    }
}
