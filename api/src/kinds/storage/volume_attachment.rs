//! VolumeAttachment. Source: `pkg/apis/storage/validation`, `pkg/registry/storage/volumeattachment`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::rules::{self, IMMUTABLE, named};
use crate::kinds::common::status;
use crate::kinds::core::volume;
use crate::names;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct VolumeAttachment;

const TYPE: &str = "storage.v1.VolumeAttachment";
const EXACTLY_ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
/// Bytes of all keys and values of the attachment's metadata together.
const MAX_METADATA: usize = 256 * 1024;
/// Bytes of an error's message.
const MAX_MESSAGE: usize = 1024;

impl Kind for VolumeAttachment {
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"attached": false}));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        status::only_status(new, old);
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        if spec.str("attacher").is_empty() {
            errors.required(spec.path("attacher"), "");
        }
        source(&spec.at("source"), errors);
        named(
            spec.path("nodeName"),
            spec.str("nodeName"),
            names::dns_subdomain,
            errors,
        );
        attachment(object, errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        rules::csi_driver_name(spec.path("attacher"), spec.str("attacher"), errors);
        let source = spec.at("source");
        if let Some(name) = source.opt_str("persistentVolumeName") {
            named(
                source.path("persistentVolumeName"),
                name,
                names::dns_subdomain,
                errors,
            );
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if new["spec"] != old["spec"] {
            errors.invalid("spec", go_spec(new), IMMUTABLE);
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        self.validate(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column {
                    format: "name",
                    ..Column::string("Attacher")
                },
                Column::string("PV"),
                Column::string("Node"),
                Column::boolean("Attached"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let at = At::root(object, TYPE);
        let spec = at.at("spec");
        vec![
            meta::name(object).into(),
            spec.str("attacher").into(),
            spec.at("source").str("persistentVolumeName").into(),
            spec.str("nodeName").into(),
            at.at("status").bool("attached").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn source(at: &At<'_>, errors: &mut FieldErrors) {
    match (at.has("inlineVolumeSpec"), at.opt_str("persistentVolumeName")) {
        (false, None) => errors.required(at, EXACTLY_ONE),
        (true, Some(_)) => errors.forbidden(at, EXACTLY_ONE),
        (false, Some("")) => errors.required(
            at.path("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        ),
        (false, Some(_)) => {}
        (true, None) => volume::spec(&at.at("inlineVolumeSpec"), true, errors),
    }
}

fn attachment(object: &Value, errors: &mut FieldErrors) {
    let status = At::root(object, TYPE).at("status");
    let bytes: usize = status
        .entries("attachmentMetadata")
        .map(|(key, value)| key.len() + value.text().len())
        .sum();
    if bytes > MAX_METADATA {
        errors.too_long(status.path("attachmentMetadata"), MAX_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = status.opt(field) else { continue };
        if error.str("message").len() > MAX_MESSAGE {
            // Upstream names the other limit in this text.
            errors.too_long(error.path("message"), MAX_METADATA);
        }
        if let Some(code) = error.opt_int("errorCode")
            && code < 0
        {
            errors.invalid(
                error.path("errorCode"),
                code,
                &names::inclusive_range_text(0, i64::from(i32::MAX)),
            );
        }
    }
}

/// The spec as upstream's error shows it; an inline volume is shown in the API's form.
fn go_spec(object: &Value) -> Raw {
    let spec = &object["spec"];
    let text = |value: &Value| Value::from(value.as_str().unwrap_or_default());
    let source = &spec["source"];
    Raw(format!(
        "{{\"Attacher\":{},\"Source\":{{\"PersistentVolumeName\":{},\"InlineVolumeSpec\":{}}},\"NodeName\":{}}}",
        text(&spec["attacher"]),
        source["persistentVolumeName"],
        source["inlineVolumeSpec"],
        text(&spec["nodeName"]),
    ))
}
