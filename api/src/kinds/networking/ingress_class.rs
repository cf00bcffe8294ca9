//! IngressClass. Source: `pkg/apis/networking/validation`, `pkg/apis/networking/v1/defaults.go`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ingress::typed_reference;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, has};
use crate::kinds::common::rules::{self, named};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct IngressClass;

const TYPE: &str = "networking.v1.IngressClass";
/// Bytes of `spec.controller`.
const MAX_CONTROLLER: usize = 250;

impl Kind for IngressClass {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        if let Some(parameters) = child(object, "spec").and_then(|spec| child(spec, "parameters"))
            && !has(parameters, "scope")
        {
            parameters.insert("scope".into(), "Cluster".into());
        }
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        match spec.str("controller") {
            "" => errors.required(spec.path("controller"), ""),
            controller => {
                if controller.len() > MAX_CONTROLLER {
                    errors.too_long(spec.path("controller"), MAX_CONTROLLER);
                }
                rules::domain_prefixed_path(spec.path("controller"), controller, errors);
            }
        }
        if let Some(at) = spec.opt("parameters") {
            parameters(&at, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        rules::immutable(
            new.path("controller"),
            new.get("controller"),
            old.get("controller"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Controller"),
                Column::string("Parameters"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let parameters = &spec["parameters"];
        let text = |field: &str| parameters[field].as_str().unwrap_or_default();
        let shown = match (parameters.is_object(), parameters["apiGroup"].as_str()) {
            (false, _) => "<none>".to_string(),
            (true, None) => format!("{}/{}", text("kind"), text("name")),
            (true, Some(group)) => format!("{}.{group}/{}", text("kind"), text("name")),
        };
        vec![
            meta::name(object).into(),
            spec["controller"].as_str().unwrap_or_default().into(),
            shown.into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn parameters(at: &At<'_>, errors: &mut FieldErrors) {
    typed_reference(at, errors);
    match (at.opt_str("scope"), at.opt_str("namespace")) {
        (None, _) => errors.required(at.path("scope"), ""),
        (Some("Namespace"), None) => {
            errors.required(at.path("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        (Some("Namespace"), Some(name)) => named(at.path("namespace"), name, names::dns_label, errors),
        (Some("Cluster"), Some(_)) => {
            errors.forbidden(at.path("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.not_supported(at.path("scope"), other, &["Cluster", "Namespace"]),
    }
}
