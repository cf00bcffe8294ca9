//! IPAddress: one address given out, and who has it. Source: `pkg/apis/networking/validation`.

use serde_json::Value;

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{IMMUTABLE, named};
use crate::kinds::common::{go_value, ip};
use crate::resource::Kind;
use crate::table::Column;
use crate::{meta, names};

pub struct IPAddress;

const TYPE: &str = "networking.v1.IPAddress";
const PARENT: &[(&str, &str)] = &[
    ("Group", "group"),
    ("Resource", "resource"),
    ("Namespace", "namespace"),
    ("Name", "name"),
];

impl Kind for IPAddress {
    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        ip::canonical_ip
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        let Some(parent) = spec.opt("parentRef") else {
            errors.required(spec.path("parentRef"), "");
            return;
        };
        let group = parent.str("group");
        if !group.is_empty() {
            named(parent.path("group"), group, names::dns_subdomain, errors);
        }
        for field in ["resource", "name"] {
            match parent.str(field) {
                "" => errors.required(parent.path(field), ""),
                text => named(parent.path(field), text, names::path_segment, errors),
            }
        }
        let namespace = parent.str("namespace");
        named(parent.path("namespace"), namespace, names::path_segment, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        let parent = new.get("parentRef");
        if parent != old.get("parentRef") {
            errors.invalid(
                new.path("parentRef"),
                go_value::strings(parent, PARENT),
                IMMUTABLE,
            );
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("ParentRef")] }
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let parent = &object["spec"]["parentRef"];
        let text = |field: &str| parent[field].as_str().unwrap_or_default();
        let shown = if parent.is_object() {
            let mut shown = text("resource").to_lowercase();
            if !text("group").is_empty() {
                shown = format!("{shown}.{}", text("group").to_lowercase());
            }
            if !text("namespace").is_empty() {
                shown = format!("{shown}/{}", text("namespace"));
            }
            format!("{shown}/{}", text("name"))
        } else {
            "<none>".into()
        };
        vec![meta::name(object).into(), shown.into()]
    }
}
