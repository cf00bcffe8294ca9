//! Secret. Source: `pkg/apis/core/validation`, `ValidateSecret`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::config_map::{MAX_DATA, decoded_len, keeps_immutable};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default};
use crate::kinds::common::rules;
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct Secret;

impl Kind for Secret {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        default(object, "type", "Opaque");
        // `stringData` is write-only: it ends up in `data`.
        if let Some(Value::Object(texts)) = object.remove("stringData") {
            let data = child_or_new(object, "data");
            for (key, value) in texts {
                data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
            }
        }
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        // A type that is not given on update stays what it was.
        if new.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            keep(new, old, "type");
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, "core.v1.Secret");
        let mut total = 0;
        for (key, value) in at.entries("data") {
            rules::named(&value, key, names::config_key, errors);
            total += decoded_len(value.text());
        }
        if total > MAX_DATA {
            errors.too_long("data", MAX_DATA);
        }
        let text_of = |key: &str| {
            at.get("data")
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let needs = |keys: &[&str], errors: &mut FieldErrors| {
            for key in keys.iter().filter(|k| at.get("data").get(**k).is_none()) {
                errors.required(at.path("data").key(key), "");
            }
        };
        match at.str("type") {
            "kubernetes.io/service-account-token" => {
                const NAME: &str = "kubernetes.io/service-account.name";
                if meta::annotation(object, NAME).unwrap_or_default().is_empty() {
                    errors.required(at.path("metadata").field("annotations").key(NAME), "");
                }
            }
            "kubernetes.io/dockercfg" => json_under(&at, ".dockercfg", errors),
            "kubernetes.io/dockerconfigjson" => json_under(&at, ".dockerconfigjson", errors),
            "kubernetes.io/basic-auth" => {
                let has = |key: &str| at.get("data").get(key).is_some();
                if !has("username") && !has("password") {
                    needs(&["username", "password"], errors);
                }
            }
            "kubernetes.io/ssh-auth" if text_of("ssh-privatekey").is_empty() => {
                errors.required(at.path("data").key("ssh-privatekey"), "");
            }
            "kubernetes.io/tls" => needs(&["tls.crt", "tls.key"], errors),
            _ => {}
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, "core.v1.Secret"), At::root(old, "core.v1.Secret"));
        rules::immutable(new.path("type"), new.get("type"), old.get("type"), errors);
        keeps_immutable(&new, &old, &["data"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Type"),
                Column::string("Data"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["type"].as_str().unwrap_or_default().into(),
            object["data"].as_object().map_or(0, Map::len).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["type"].as_str().unwrap_or_default().into()
    }
}

fn json_under(at: &At<'_>, key: &str, errors: &mut FieldErrors) {
    let path = at.path("data").key(key);
    match at.get("data").get(key).and_then(Value::as_str) {
        None => errors.required(path, ""),
        Some(text) => {
            let bytes = STANDARD.decode(text).unwrap_or_default();
            if let Err(error) = crate::schema::decode::parse_json(&bytes) {
                errors.invalid(path, "<secret contents redacted>", &error.to_string());
            }
        }
    }
}
