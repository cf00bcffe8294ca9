//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy. Expressions have to compile.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::compile::{Makes, Scope};
use super::{matching, webhook::static_suffix};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::conditions;
use crate::kinds::common::defaults::{child_or_new, default};
use crate::kinds::common::rules::named;
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct ValidatingAdmissionPolicy;
pub struct MutatingAdmissionPolicy;

const VALIDATING: &str = "admissionregistration.v1.ValidatingAdmissionPolicy";
const MUTATING: &str = "admissionregistration.v1.MutatingAdmissionPolicy";
const MAX_AUDIT_ANNOTATIONS: usize = 20;
/// Bytes of an audit annotation's expression.
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

fn set_defaults(object: &mut Map<String, Value>) {
    let spec = child_or_new(object, "spec");
    default(spec, "failurePolicy", "Fail");
    matching::default_match_resources(spec, "matchConstraints");
}

/// Conditions already stored are not checked again.
fn conditions_changed(new: &Value, old: &Value) -> bool {
    ["paramKind", "matchConditions"]
        .iter()
        .any(|field| new["spec"][field] != old["spec"][field])
}

impl ValidatingAdmissionPolicy {
    fn check(&self, object: &Value, check_conditions: bool, errors: &mut FieldErrors) {
        let at = At::root(object, VALIDATING).at("spec");
        let scope = validate_common(&at, false, check_conditions, errors);
        if at.count("validations") == 0 && at.count("auditAnnotations") == 0 {
            const ONE: &str = "validations or auditAnnotations must contain at least one item";
            errors.required(at.path("validations"), ONE);
            errors.required(at.path("auditAnnotations"), ONE);
            return;
        }
        for validation in at.items("validations") {
            validate_validation(&validation, &scope, errors);
        }
        if at.count("auditAnnotations") > MAX_AUDIT_ANNOTATIONS {
            errors.invalid(
                at.path("auditAnnotations"),
                at.get("auditAnnotations").clone(),
                &format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations"),
            );
        }
        let mut keys = BTreeSet::new();
        for annotation in at.items("auditAnnotations") {
            audit_annotation(&annotation, meta::name(object), &scope, errors);
            if !keys.insert(annotation.str("key")) {
                errors.duplicate(annotation.path("key"), annotation.str("key"));
            }
        }
    }
}

/// What both kinds of policy check before their own part: returns what their expressions may name.
fn validate_common(spec: &At<'_>, mutating: bool, check_conditions: bool, errors: &mut FieldErrors) -> Scope {
    let params = spec.has("paramKind");
    matching::word(spec, "failurePolicy", &matching::FAILURE_POLICIES, errors);
    matching::param_kind(spec, errors);
    match_constraints(spec, mutating, errors);
    if check_conditions {
        matching::match_conditions(spec, "matchConditions", params, errors);
    }
    let mut scope = Scope::new(params, mutating || spec.count("variables") > 0);
    matching::variables(spec, &mut scope, errors);
    scope
}

fn match_constraints(spec: &At<'_>, mutating: bool, errors: &mut FieldErrors) {
    let Some(at) = spec.opt("matchConstraints") else {
        errors.required(spec.path("matchConstraints"), "");
        return;
    };
    matching::match_resources(&at, errors);
    if at.count("resourceRules") == 0 {
        errors.required(at.path("resourceRules"), "");
    }
    if mutating {
        let path = at.path("resourceRules").field("operations");
        matching::mutable_operations(&at, path, errors);
    }
}

fn validate_validation(at: &At<'_>, scope: &Scope, errors: &mut FieldErrors) {
    let source = at.str("expression");
    if source.trim().is_empty() {
        errors.required(at.path("expression"), "expression is not specified");
    } else {
        scope.check(at, "expression", source, Makes::Bool, errors);
    }
    let by_expression = at.str("messageExpression");
    if !by_expression.is_empty() && by_expression.trim().is_empty() {
        errors.invalid(
            at.path("messageExpression"),
            by_expression,
            "must be non-empty if specified",
        );
    } else if !by_expression.is_empty() {
        scope.check(at, "messageExpression", by_expression, Makes::Text, errors);
    }
    let message = at.str("message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(
            at.path("message"),
            message,
            "message must be non-empty if specified",
        );
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(
            at.path("message"),
            message,
            "message must not contain line breaks",
        );
    }
    matching::word(
        at,
        "reason",
        &["Forbidden", "Invalid", "RequestEntityTooLarge"],
        errors,
    );
}

fn audit_annotation(at: &At<'_>, policy: &str, scope: &Scope, errors: &mut FieldErrors) {
    let key = at.str("key");
    if policy.is_empty() {
        errors.invalid(at.path("key"), key, "requires metadata.name be non-empty");
    } else {
        named(
            at.path("key"),
            &format!("{policy}/{key}"),
            names::qualified_name,
            errors,
        );
    }
    let value = at.str("valueExpression").trim();
    if value.is_empty() {
        errors.required(at.path("valueExpression"), "valueExpression is not specified");
    } else if value.len() > MAX_VALUE_EXPRESSION {
        errors.required(
            at.path("valueExpression"),
            &format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length"),
        );
    } else {
        scope.check(at, "valueExpression", value, Makes::TextOrNull, errors);
    }
}

fn cells(object: &Value, what: &str, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let kind = match spec["paramKind"].as_object() {
        None => "<unset>".to_owned(),
        Some(kind) => format!(
            "{}/{}",
            kind.get("apiVersion").and_then(Value::as_str).unwrap_or_default(),
            kind.get("kind").and_then(Value::as_str).unwrap_or_default()
        ),
    };
    vec![
        meta::name(object).into(),
        spec[what].as_array().map_or(0, Vec::len).into(),
        kind.into(),
        humanize::age(meta::creation_timestamp(object), now).into(),
    ]
}

impl Kind for ValidatingAdmissionPolicy {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        set_defaults(object);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), Value::Object(Map::new()));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        self.check(object, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        self.check(new, conditions_changed(new, old), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let status = At::root(new, VALIDATING).at("status");
        for warning in status.at("typeChecking").items("expressionWarnings") {
            if warning.str("warning").is_empty() {
                errors.required(warning.path("warning"), "");
            }
            if warning.str("fieldRef").trim().is_empty() {
                errors.required(warning.path("fieldRef"), "");
            }
        }
        conditions::conditions(&status, "conditions", errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        static_suffix(object)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Validations"),
                Column::string("ParamKind"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, "validations", now)
    }
}

impl MutatingAdmissionPolicy {
    fn check(&self, object: &Value, check_conditions: bool, errors: &mut FieldErrors) {
        let at = At::root(object, MUTATING).at("spec");
        let scope = validate_common(&at, true, check_conditions, errors);
        if at.count("mutations") == 0 {
            errors.required(at.path("mutations"), "mutations must contain at least one item");
        }
        for mutation in at.items("mutations") {
            validate_mutation(&mutation, &scope, errors);
        }
        match at.str("reinvocationPolicy") {
            "" => errors.required(at.path("reinvocationPolicy"), ""),
            _ => matching::word(&at, "reinvocationPolicy", &["IfNeeded", "Never"], errors),
        }
    }
}

/// The patch type names the one of two fields that must be set.
fn validate_mutation(at: &At<'_>, scope: &Scope, errors: &mut FieldErrors) {
    let kind = at.str("patchType");
    let (wanted, other, makes) = match kind {
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Makes::Change),
        "JSONPatch" => ("jsonPatch", "applyConfiguration", Makes::Patch),
        "" => return errors.required(at.path("patchType"), ""),
        _ => {
            return errors.not_supported(at.path("patchType"), kind, &["ApplyConfiguration", "JSONPatch"]);
        }
    };
    match at.opt(wanted) {
        None => errors.required(
            at.path(wanted),
            &format!("must be specified when patchType is {kind}"),
        ),
        Some(patch) => match patch.str("expression").trim() {
            "" => errors.required(patch.path("expression"), ""),
            source => scope.check(&patch, "expression", source, makes, errors),
        },
    }
    if at.has(other) {
        errors.invalid(
            at.path(other),
            format!("{{{other}}}"),
            &format!("must not be specified when patchType is {kind}"),
        );
    }
}

impl Kind for MutatingAdmissionPolicy {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        set_defaults(object);
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        self.check(object, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        self.check(new, conditions_changed(new, old), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        static_suffix(object)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Mutations"),
                Column::string("ParamKind"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, "mutations", now)
    }
}
