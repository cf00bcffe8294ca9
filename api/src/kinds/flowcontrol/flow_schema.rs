//! FlowSchema. Source: `pkg/apis/flowcontrol`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::suggested;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default_number};
use crate::kinds::common::rules::named;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct FlowSchema;

const TYPE: &str = "flowcontrol.v1.FlowSchema";
const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
/// A subject's kind and the field that goes with it.
const SUBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
    ("Group", "group"),
];

impl Kind for FlowSchema {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        default_number(child_or_new(object, "spec"), "matchingPrecedence", 1_000);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        super::only_conditions(new, old);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        let (spec, name) = (at.at("spec"), meta::name(object));
        let precedence = spec.int("matchingPrecedence");
        if precedence <= 0 {
            errors.invalid(
                spec.path("matchingPrecedence"),
                precedence,
                "must be a positive value",
            );
        }
        if precedence > MAX_PRECEDENCE {
            let detail = format!("must not be greater than {MAX_PRECEDENCE}");
            errors.invalid(spec.path("matchingPrecedence"), precedence, &detail);
        }
        if precedence == 1 && name != "exempt" {
            errors.invalid(
                spec.path("matchingPrecedence"),
                precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
        if let Some(method) = spec.opt("distinguisherMethod")
            && !matches!(method.str("type"), "ByNamespace" | "ByUser")
        {
            // Upstream shows the whole method, with Go's name of the field.
            errors.not_supported(
                method.path("type"),
                json!({"Type": method.str("type")}),
                &["ByNamespace", "ByUser"],
            );
        }
        let level = spec.at("priorityLevelConfiguration");
        match level.str("name") {
            "" => errors.required(level.path("name"), "must reference a priority level"),
            reference => named(level.path("name"), reference, names::dns_subdomain, errors),
        }
        for rule in spec.items("rules") {
            validate_rule(&rule, errors);
        }
        if let Some(fixed) = suggested::fixed(suggested::flow_schemas(), name)
            && fixed != spec.value
        {
            errors.invalid(
                &spec,
                spec.value.clone(),
                &format!("spec of '{name}' must equal the fixed value"),
            );
        }
        super::conditions(&at.at("status"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        super::conditions(&At::root(new, TYPE).at("status"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("PriorityLevel"),
                Column::string("MatchingPrecedence"),
                Column::string("DistinguisherMethod"),
                Column::AGE,
                Column::string("MissingPL"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let conditions = object["status"]["conditions"].as_array();
        let dangling = conditions.into_iter().flatten().find(|c| c["type"] == "Dangling");
        vec![
            meta::name(object).into(),
            spec["priorityLevelConfiguration"]["name"]
                .as_str()
                .unwrap_or_default()
                .into(),
            spec["matchingPrecedence"].as_i64().unwrap_or_default().into(),
            spec["distinguisherMethod"]["type"]
                .as_str()
                .unwrap_or("<none>")
                .into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            dangling
                .map_or("?", |c| c["status"].as_str().unwrap_or_default())
                .into(),
        ]
    }
}

fn validate_rule(rule: &At<'_>, errors: &mut FieldErrors) {
    if rule.count("subjects") == 0 {
        errors.required(rule.path("subjects"), "subjects must contain at least one value");
    }
    for subject in rule.items("subjects") {
        validate_subject(&subject, errors);
    }
    if rule.count("resourceRules") + rule.count("nonResourceRules") == 0 {
        errors.required(
            rule,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for resources in rule.items("resourceRules") {
        validate_resources(&resources, errors);
    }
    for paths in rule.items("nonResourceRules") {
        verbs(&paths, errors);
        const URLS: &str = "nonResourceURLs";
        if paths.count(URLS) == 0 {
            errors.required(
                paths.path(URLS),
                "nonResourceURLs must contain at least one value",
            );
        } else if !wildcard(&paths, URLS, "non-resource URLs", errors) {
            for path in paths.items(URLS) {
                if let Some(text) = bad_path(path.text()) {
                    errors.invalid(&path, path.text(), text);
                }
            }
        }
    }
}

fn validate_subject(subject: &At<'_>, errors: &mut FieldErrors) {
    let kind = subject.str("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        errors.not_supported(subject.path("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    match subject.opt(own) {
        None => errors.required(
            subject.path(own),
            &format!("{own} is required when subject kind is '{kind}'"),
        ),
        Some(at) => {
            match at.str("name") {
                "" => errors.required(at.path("name"), ""),
                name if kind == "ServiceAccount" && name != "*" => {
                    named(at.path("name"), name, names::dns_subdomain, errors);
                }
                _ => {}
            }
            if kind == "ServiceAccount" {
                match at.str("namespace") {
                    "" => errors.required(at.path("namespace"), "must specify namespace for service account"),
                    namespace => named(at.path("namespace"), namespace, names::dns_label, errors),
                }
            }
        }
    }
    for (other, field) in SUBJECTS {
        if other != kind && subject.has(field) {
            errors.forbidden(
                subject.path(field),
                &format!("{field} is forbidden when subject kind is not '{other}'"),
            );
        }
    }
}

fn validate_resources(rule: &At<'_>, errors: &mut FieldErrors) {
    verbs(rule, errors);
    for (field, what, one) in [
        ("apiGroups", "api groups", "api group"),
        ("resources", "resources", "resource"),
    ] {
        if rule.count(field) == 0 {
            errors.required(
                rule.path(field),
                &format!("resource rules must supply at least one {one}"),
            );
        } else {
            wildcard(rule, field, what, errors);
        }
    }
    if rule.count("namespaces") == 0 && !rule.bool("clusterScope") {
        errors.required(
            rule.path("namespaces"),
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if !wildcard(rule, "namespaces", "namespaces", errors) {
        for namespace in rule.items("namespaces") {
            for text in names::dns_label(namespace.text()) {
                errors.invalid(
                    &namespace,
                    namespace.text(),
                    &format!("each member of this list must be '*' or a DNS-1123 label; {text}"),
                );
            }
        }
    }
}

fn verbs(rule: &At<'_>, errors: &mut FieldErrors) {
    if rule.count("verbs") == 0 {
        errors.required(rule.path("verbs"), "verbs must contain at least one value");
    } else if !wildcard(rule, "verbs", "verbs", errors) && !rule.strings("verbs").all(|v| VERBS.contains(&v))
    {
        errors.not_supported(rule.path("verbs"), rule.get("verbs").clone(), &VERBS);
    }
}

/// True when the list has a `*`, which must then be alone.
fn wildcard(rule: &At<'_>, field: &'static str, what: &str, errors: &mut FieldErrors) -> bool {
    let found = rule.strings(field).any(|s| s == "*");
    if found && rule.count(field) > 1 {
        errors.invalid(
            rule.path(field),
            rule.get(field).clone(),
            &format!("if '*' is present, must not specify other {what}"),
        );
    }
    found
}

/// What is wrong with a path of the server, which may end in `/*`.
fn bad_path(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        Some("must not be empty")
    } else if path == "/" {
        None
    } else if !path.starts_with('/') {
        Some("must start with slash")
    } else if path.contains(' ') {
        Some("must not contain white-space")
    } else if path.contains("//") {
        Some("must not contain double slash")
    } else {
        match path.matches('*').count() {
            0 => None,
            1 if path.ends_with("/*") => None,
            _ => Some("wildcard can only do suffix matching"),
        }
    }
}
