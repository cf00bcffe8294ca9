//! DeviceClass. Source: `pkg/apis/resource`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::names::too_many;
use super::request::{self, MAX_ITEMS};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct DeviceClass;

const TYPE: &str = "resource.v1.DeviceClass";

/// A resource name with a domain that is not Kubernetes' own.
fn is_extended_resource(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn check(class: &Value, fresh_config: bool, errors: &mut FieldErrors) {
    let spec = At::root(class, TYPE).at("spec");
    request::selectors(&spec, errors);
    if !too_many(&spec, "config", MAX_ITEMS, errors) {
        for config in spec.items("config") {
            request::configuration(&config, fresh_config, errors);
        }
    }
    if let Some(name) = spec.opt_str("extendedResourceName")
        && !is_extended_resource(name)
    {
        errors.invalid(
            spec.path("extendedResourceName"),
            name,
            "must be a valid extended resource name",
        );
    }
}

impl Kind for DeviceClass {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        check(object, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check(new, new["spec"]["config"] != old["spec"]["config"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        name_and_age(object, now)
    }
}

pub(super) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        humanize::age(meta::creation_timestamp(object), now).into(),
    ]
}
