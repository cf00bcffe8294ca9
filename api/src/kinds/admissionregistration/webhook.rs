//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration, which differ in one field.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::matching;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, default, default_number, has, items};
use crate::kinds::common::{selector, webhook};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct WebhookConfiguration {
    schema: &'static str,
    mutating: bool,
}

/// Versions of AdmissionReview a webhook may ask for.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];

/// What an update may keep although a new object may not have it.
struct Rules {
    match_conditions: bool,
    no_side_effects: bool,
    known_review_version: bool,
    unique_names: bool,
    label_values: bool,
}

impl WebhookConfiguration {
    pub const MUTATING: Self = Self {
        schema: "admissionregistration.v1.MutatingWebhookConfiguration",
        mutating: true,
    };
    pub const VALIDATING: Self = Self {
        schema: "admissionregistration.v1.ValidatingWebhookConfiguration",
        mutating: false,
    };

    fn check(&self, object: &Value, rules: &Rules, errors: &mut FieldErrors) {
        let mut seen = BTreeSet::new();
        for hook in At::root(object, self.schema).items("webhooks") {
            self.hook(&hook, rules, errors);
            review_versions(&hook, rules, errors);
            let name = hook.str("name");
            if rules.unique_names && !name.is_empty() && !seen.insert(name) {
                errors.duplicate(hook.path("name"), name);
            }
        }
    }

    fn hook(&self, hook: &At<'_>, rules: &Rules, errors: &mut FieldErrors) {
        webhook::fully_qualified_name(hook.path("name"), hook.str("name"), errors);
        for rule in hook.items("rules") {
            matching::rule(&rule, errors);
        }
        matching::word(hook, "failurePolicy", &matching::FAILURE_POLICIES, errors);
        matching::word(hook, "matchPolicy", &matching::MATCH_POLICIES, errors);
        let allowed: &[&str] = if rules.no_side_effects {
            &NO_SIDE_EFFECTS
        } else {
            &SIDE_EFFECTS
        };
        if !hook.has("sideEffects") {
            let detail = format!("must specify one of {}", allowed.join(", "));
            errors.required(hook.path("sideEffects"), &detail);
        }
        matching::word(hook, "sideEffects", allowed, errors);
        if let Some(seconds) = hook.opt_int("timeoutSeconds")
            && !(1..=30).contains(&seconds)
        {
            errors.invalid(
                hook.path("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            );
        }
        for field in SELECTORS {
            if let Some(at) = hook.opt(field) {
                label_selector(&at, rules.label_values, errors);
            }
        }
        if self.mutating {
            matching::word(hook, "reinvocationPolicy", &["IfNeeded", "Never"], errors);
        }
        webhook::client_config(&hook.at("clientConfig"), errors);
        if rules.match_conditions {
            matching::match_conditions(hook, "matchConditions", false, errors);
        }
    }
}

/// A stored selector with bad values may stay; its operators and keys may not be bad.
fn label_selector(at: &At<'_>, check_values: bool, errors: &mut FieldErrors) {
    let mut found = FieldErrors::default();
    selector::label_selector(at, &mut found);
    if !check_values {
        found.errors.retain(|e| !e.field.contains(".values["));
    }
    errors.append(found);
}

fn review_versions(hook: &At<'_>, rules: &Rules, errors: &mut FieldErrors) {
    if hook.count("admissionReviewVersions") == 0 {
        errors.required(
            hook.path("admissionReviewVersions"),
            "must specify one of v1, v1beta1",
        );
        return;
    }
    let (mut seen, mut known) = (BTreeSet::new(), false);
    for version in hook.items("admissionReviewVersions") {
        let text = version.text();
        if !seen.insert(text) {
            errors.invalid(&version, text, "duplicate version");
            continue;
        }
        for detail in names::dns_1035_label(text) {
            errors.invalid(&version, text, &detail);
        }
        known |= REVIEW_VERSIONS.contains(&text);
    }
    if rules.known_review_version && !known {
        errors.invalid(
            hook.path("admissionReviewVersions"),
            hook.get("admissionReviewVersions").clone(),
            "must include at least one of v1, v1beta1",
        );
    }
}

/// What the stored object obeys, the new one must obey.
fn rules_of(old: &At<'_>, new: &At<'_>) -> Rules {
    let conditions = |at: &At<'_>| -> Vec<Value> {
        at.items("webhooks")
            .map(|h| h.get("matchConditions").clone())
            .collect()
    };
    let (mut no_side_effects, mut known, mut unique, mut label_values) = (true, true, true, true);
    let mut seen = BTreeSet::new();
    for hook in old.items("webhooks") {
        no_side_effects &= NO_SIDE_EFFECTS.contains(&hook.str("sideEffects"));
        known &= hook.count("admissionReviewVersions") == 0
            || hook
                .strings("admissionReviewVersions")
                .any(|v| REVIEW_VERSIONS.contains(&v));
        unique &= seen.insert(hook.str("name"));
        for at in SELECTORS.into_iter().filter_map(|field| hook.opt(field)) {
            let mut errors = FieldErrors::default();
            selector::label_selector(&at, &mut errors);
            label_values &= errors.is_empty();
        }
    }
    Rules {
        match_conditions: conditions(old) != conditions(new),
        no_side_effects,
        known_review_version: known,
        unique_names: unique,
        label_values,
    }
}

impl Kind for WebhookConfiguration {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for hook in items(object, "webhooks") {
            default(hook, "failurePolicy", "Fail");
            default(hook, "matchPolicy", "Equivalent");
            for field in SELECTORS {
                matching::default_selector(hook, field);
            }
            if !has(hook, "timeoutSeconds") {
                hook.insert("timeoutSeconds".into(), 10.into());
            }
            if self.mutating {
                default(hook, "reinvocationPolicy", "Never");
            }
            matching::default_rules(hook, "rules");
            if let Some(service) = child(hook, "clientConfig").and_then(|c| child(c, "service"))
                && !has(service, "port")
            {
                default_number(service, "port", 443);
            }
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["webhooks"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let rules = Rules {
            match_conditions: true,
            no_side_effects: true,
            known_review_version: true,
            unique_names: true,
            label_values: true,
        };
        self.check(object, &rules, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let rules = rules_of(&At::root(old, self.schema), &At::root(new, self.schema));
        self.check(new, &rules, errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        static_suffix(object)
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::integer("Webhooks"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["webhooks"].as_array().map_or(0, Vec::len).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// Names that a later feature keeps for itself.
pub(super) fn static_suffix(object: &Value) -> Vec<String> {
    if meta::name(object).ends_with(".static.k8s.io") {
        vec!["metadata.name: names ending with \".static.k8s.io\" will be reserved for static manifest-based configurations when the ManifestBasedAdmissionControlConfig feature gate is enabled".into()]
    } else {
        Vec::new()
    }
}
