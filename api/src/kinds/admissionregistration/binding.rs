//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{matching, webhook::static_suffix};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::child_or_new;
use crate::kinds::common::rules::required_name;
use crate::resource::Kind;
use crate::selector::LabelSelector;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct PolicyBinding {
    schema: &'static str,
    mutating: bool,
}

impl PolicyBinding {
    pub const VALIDATING: Self = Self {
        schema: "admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        mutating: false,
    };
    pub const MUTATING: Self = Self {
        schema: "admissionregistration.v1.MutatingAdmissionPolicyBinding",
        mutating: true,
    };
}

fn validation_actions(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for action in spec.items("validationActions") {
        let text = action.text();
        if !matches!(text, "Audit" | "Deny" | "Warn") {
            errors.not_supported(&action, text, &["Audit", "Deny", "Warn"]);
        }
        if !seen.insert(text) {
            errors.duplicate(&action, text);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.invalid(
            spec.path("validationActions"),
            spec.get("validationActions").clone(),
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        );
    }
    if seen.is_empty() {
        errors.required(
            spec.path("validationActions"),
            "at least one validation action is required",
        );
    }
}

/// The parameters' namespace and name, or their selector.
fn param(object: &Value) -> String {
    let reference = &object["spec"]["paramRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    match (text("name"), text("namespace")) {
        ("", _) if reference["selector"].is_object() => LabelSelector::from_value(&reference["selector"])
            .map(|s| s.to_string())
            .unwrap_or_default(),
        ("", _) => "<unset>".into(),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    }
}

impl Kind for PolicyBinding {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        matching::default_match_resources(child_or_new(object, "spec"), "matchResources");
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, self.schema).at("spec");
        required_name(&spec, "policyName", names::dns_subdomain, errors);
        matching::param_ref(&spec, errors);
        if let Some(at) = spec.opt("matchResources") {
            matching::match_resources(&at, errors);
            if self.mutating {
                let path = at.path("resourceRules").field("operations");
                matching::mutable_operations(&at, path, errors);
            }
        }
        if !self.mutating {
            validation_actions(&spec, errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        static_suffix(object)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("PolicyName"),
                Column::string("ParamRef"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["spec"]["policyName"].as_str().unwrap_or_default().into(),
            param(object).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}
