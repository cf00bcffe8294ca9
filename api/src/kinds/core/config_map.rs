//! ConfigMap. Source: `pkg/apis/core/validation`, `ValidateConfigMap`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct ConfigMap;

/// Bytes of all values of a ConfigMap or Secret together.
pub const MAX_DATA: usize = 1024 * 1024;

impl Kind for ConfigMap {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, "core.v1.ConfigMap");
        let mut total = 0;
        for (key, value) in at.entries("data") {
            rules::named(&value, key, names::config_key, errors);
            if at.get("binaryData").get(key).is_some() {
                errors.invalid(&value, key, "duplicate of key present in binaryData");
            }
            total += value.text().len();
        }
        for (key, value) in at.entries("binaryData") {
            rules::named(&value, key, names::config_key, errors);
            total += decoded_len(value.text());
        }
        if total > MAX_DATA {
            errors.too_long("", MAX_DATA);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (
            At::root(new, "core.v1.ConfigMap"),
            At::root(old, "core.v1.ConfigMap"),
        );
        keeps_immutable(&new, &old, &["data", "binaryData"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Data"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |field: &str| object[field].as_object().map_or(0, Map::len);
        vec![
            meta::name(object).into(),
            (count("data") + count("binaryData")).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// Bytes that a valid base64 text stands for.
pub fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(2)
}

/// What `immutable: true` forbids to change, for ConfigMaps and Secrets.
pub fn keeps_immutable(new: &At<'_>, old: &At<'_>, fields: &[&'static str], errors: &mut FieldErrors) {
    if !old.bool("immutable") {
        return;
    }
    const TEXT: &str = "field is immutable when `immutable` is set";
    if !new.bool("immutable") {
        errors.forbidden(new.path("immutable"), TEXT);
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            errors.forbidden(new.path(field), TEXT);
        }
    }
}
