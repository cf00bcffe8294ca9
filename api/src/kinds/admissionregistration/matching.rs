//! What webhooks and policies share: rules over resources, match conditions, parameters.
//! Source: `pkg/apis/admissionregistration/validation`. Expressions have to compile.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::{Map, Value, json};

use super::compile::{Makes, Scope};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, default, has, items};
use crate::kinds::common::rules::named;
use crate::kinds::common::selector;
use crate::names;

pub const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// Most `matchConditions` of a webhook or policy.
const MAX_MATCH_CONDITIONS: usize = 64;
/// Words that are no identifiers in CEL.
const CEL_RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// `scope` of each rule.
pub fn default_rules(owner: &mut Map<String, Value>, field: &str) {
    for rule in items(owner, field) {
        default(rule, "scope", "*");
    }
}

/// A field that is an empty selector when absent.
pub fn default_selector(owner: &mut Map<String, Value>, field: &str) {
    if !has(owner, field) {
        owner.insert(field.into(), json!({}));
    }
}

/// Defaults of the `MatchResources` at `field`, if there is one.
pub fn default_match_resources(owner: &mut Map<String, Value>, field: &str) {
    if let Some(matches) = child(owner, field) {
        default(matches, "matchPolicy", "Equivalent");
        default_selector(matches, "namespaceSelector");
        default_selector(matches, "objectSelector");
        default_rules(matches, "resourceRules");
        default_rules(matches, "excludeResourceRules");
    }
}

/// An optional word of a list.
pub fn word(at: &At<'_>, field: &'static str, words: &[&str], errors: &mut FieldErrors) {
    if let Some(text) = at.opt_str(field)
        && !words.contains(&text)
    {
        errors.not_supported(at.path(field), text, words);
    }
}

/// Operations, groups, versions, resources and scope of one rule.
pub fn rule(at: &At<'_>, errors: &mut FieldErrors) {
    if at.count("operations") == 0 {
        errors.required(at.path("operations"), "");
    }
    lone_wildcard(at, "operations", "operations", errors);
    for operation in at.items("operations") {
        if !OPERATIONS.contains(&operation.text()) {
            errors.not_supported(&operation, operation.text(), &OPERATIONS);
        }
    }
    if at.count("apiGroups") == 0 {
        errors.required(at.path("apiGroups"), "");
    }
    lone_wildcard(at, "apiGroups", "API groups", errors);
    if at.count("apiVersions") == 0 {
        errors.required(at.path("apiVersions"), "");
    }
    lone_wildcard(at, "apiVersions", "API versions", errors);
    for version in at.items("apiVersions") {
        if version.text().is_empty() {
            errors.required(&version, "");
        }
    }
    resources(at, errors);
    word(at, "scope", &SCOPES, errors);
}

fn lone_wildcard(at: &At<'_>, field: &'static str, what: &str, errors: &mut FieldErrors) {
    if at.count(field) > 1 && at.strings(field).any(|s| s == "*") {
        errors.invalid(
            at.path(field),
            at.get(field).clone(),
            &format!("if '*' is present, must not specify other {what}"),
        );
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`, `*/*`: wildcards must not repeat what others say.
fn resources(at: &At<'_>, errors: &mut FieldErrors) {
    if at.count("resources") == 0 {
        errors.required(at.path("resources"), "");
    }
    let (mut all_subs_of, mut sub_of_all) = (BTreeSet::new(), BTreeSet::new());
    let (mut all, mut everything, mut plain) = (false, false, false);
    for entry in at.items("resources") {
        let text = entry.text();
        if text.is_empty() {
            errors.required(&entry, "");
            continue;
        }
        everything |= text == "*/*";
        all |= text == "*";
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_subs_of.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&entry, text, &detail);
        }
        if sub_of_all.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.invalid(&entry, text, &detail);
        }
        if sub == "*" {
            all_subs_of.insert(resource);
        }
        if resource == "*" {
            sub_of_all.insert(sub);
        }
    }
    let list = at.get("resources");
    if at.count("resources") > 1 && everything {
        errors.invalid(
            at.path("resources"),
            list.clone(),
            "if '*/*' is present, must not specify other resources",
        );
    }
    if all && plain {
        errors.invalid(
            at.path("resources"),
            list.clone(),
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

/// A policy's `MatchResources`.
pub fn match_resources(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.has("matchPolicy") {
        errors.required(at.path("matchPolicy"), "");
    }
    word(at, "matchPolicy", &MATCH_POLICIES, errors);
    for field in ["namespaceSelector", "objectSelector"] {
        match at.opt(field) {
            None => errors.required(at.path(field), ""),
            Some(found) => selector::label_selector(&found, errors),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for named_rule in at.items(field) {
            let mut seen = BTreeSet::new();
            for name in named_rule.items("resourceNames") {
                named(&name, name.text(), names::path_segment, errors);
                if !seen.insert(name.text()) {
                    errors.duplicate(&name, name.text());
                }
            }
            rule(&named_rule, errors);
        }
    }
}

/// Conditions with unique, qualified names. They know no variables; `params`: there are parameters.
pub fn match_conditions(at: &At<'_>, field: &'static str, params: bool, errors: &mut FieldErrors) {
    let scope = Scope::new(params, false);
    let count = at.count(field);
    if count > MAX_MATCH_CONDITIONS {
        errors.too_many(at.path(field), count, MAX_MATCH_CONDITIONS);
    }
    let mut seen = BTreeSet::new();
    for condition in at.items(field) {
        match condition.str("expression").trim() {
            "" => errors.required(condition.path("expression"), ""),
            source => scope.check(&condition, "expression", source, Makes::Bool, errors),
        }
        match condition.str("name") {
            "" => errors.required(condition.path("name"), ""),
            name => {
                named(condition.path("name"), name, names::qualified_name, errors);
                if !seen.insert(name) {
                    errors.duplicate(condition.path("name"), name);
                }
            }
        }
    }
}

/// Variables: a CEL identifier and an expression each, which may name those before it.
pub fn variables(spec: &At<'_>, scope: &mut Scope, errors: &mut FieldErrors) {
    for variable in spec.items("variables") {
        let name = variable.str("name");
        if name.trim().is_empty() {
            errors.required(variable.path("name"), "name is not specified");
        } else if !is_cel_identifier(name) {
            errors.invalid(variable.path("name"), name, "name is not a valid CEL identifier");
        }
        if variable.str("expression").trim().is_empty() {
            errors.required(variable.path("expression"), "expression is not specified");
        } else {
            scope.define(&variable, errors);
        }
    }
}

fn is_cel_identifier(name: &str) -> bool {
    names::c_identifier(name).is_empty() && !CEL_RESERVED.contains(&name)
}

/// The kind of a policy's parameters, if it has one.
pub fn param_kind(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(at) = spec.opt("paramKind") else { return };
    let api_version = at.str("apiVersion");
    let joined = |texts: Vec<String>| texts.join(",");
    match api_version.matches('/').count() {
        _ if api_version.is_empty() => errors.required(at.path("apiVersion"), ""),
        0 | 1 => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let bad_group = names::dns_subdomain(group);
            if !group.is_empty() && !bad_group.is_empty() {
                errors.invalid(at.path("apiVersion"), group, &joined(bad_group));
            }
            let bad_version = names::dns_1035_label(version);
            if version.is_empty() {
                errors.invalid(at.path("apiVersion"), api_version, "version must be specified");
            } else if !bad_version.is_empty() {
                errors.invalid(at.path("apiVersion"), version, &joined(bad_version));
            }
        }
        _ => errors.invalid(
            at.path("apiVersion"),
            api_version,
            &format!("unexpected GroupVersion string: {api_version}"),
        ),
    }
    let kind = at.str("kind");
    let bad_kind = names::dns_1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errors.required(at.path("kind"), "");
    } else if !bad_kind.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            joined(bad_kind)
        );
        errors.invalid(at.path("kind"), kind, &detail);
    }
}

/// Which parameter objects a binding uses, if any.
pub fn param_ref(spec: &At<'_>, errors: &mut FieldErrors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let Some(at) = spec.opt("paramRef") else { return };
    let (name, by_label) = (at.str("name"), at.opt("selector"));
    if !name.is_empty() {
        named(at.path("name"), name, names::path_segment, errors);
        if by_label.is_some() {
            errors.forbidden(at.path("name"), EITHER);
        }
    }
    match by_label {
        Some(found) => {
            selector::label_selector(&found, errors);
            if !name.is_empty() {
                errors.forbidden(at.path("selector"), EITHER);
            }
        }
        None if name.is_empty() => errors.required(&at, "one of name or selector must be specified"),
        None => {}
    }
    if at.str("parameterNotFoundAction").is_empty() {
        errors.required(at.path("parameterNotFoundAction"), "");
    } else {
        word(&at, "parameterNotFoundAction", &["Deny", "Allow"], errors);
    }
}

/// Only operations that carry an object to change; the path has no index, as upstream's has none.
pub fn mutable_operations(at: &At<'_>, path: impl Display, errors: &mut FieldErrors) {
    for rule in at.items("resourceRules") {
        for operation in rule.strings("operations") {
            if operation == "DELETE" || !OPERATIONS.contains(&operation) {
                errors.not_supported(&path, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
            }
        }
    }
}
