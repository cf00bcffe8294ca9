//! How a definition's versions are converted: what a conversion webhook needs.

use serde_json::Value;

use super::schema_rules::text;
use crate::field::FieldErrors;
use crate::names;

/// Checks `spec.conversion`, with the field names of the internal version as upstream reports them.
pub fn conversion(own: &Value, errors: &mut FieldErrors) {
    let base = "spec.conversion";
    match text(&own["strategy"]) {
        "" => errors.required(format!("{base}.strategy"), ""),
        "Webhook" => {
            let config = &own["webhook"]["clientConfig"];
            let path = format!("{base}.webhookClientConfig");
            match (config["url"].as_str(), config["service"].is_object()) {
                _ if !config.is_object() => errors.required(path, "required when strategy is set to Webhook"),
                (Some(_), true) | (None, false) => {
                    errors.required(path, "exactly one of url or service is required");
                }
                (Some(url), false) => {
                    crate::kinds::common::webhook::url(format!("{path}.url"), url, errors);
                }
                (None, true) => {
                    // Upstream hands name and namespace to its check in the wrong order.
                    for (field, place) in [("namespace", "name"), ("name", "namespace")] {
                        if text(&config["service"][field]).is_empty() {
                            let what = format!("service {place} is required");
                            errors.required(format!("{path}.service.{place}"), &what);
                        }
                    }
                }
            }
            review_versions(
                &own["webhook"]["conversionReviewVersions"],
                &format!("{base}.conversionReviewVersions"),
                errors,
            );
        }
        "None" => {}
        other => errors.not_supported(format!("{base}.strategy"), other, &["None", "Webhook"]),
    }
    if own["strategy"] != "Webhook" {
        let (config, versions) = (
            own["webhook"]["clientConfig"].is_object(),
            &own["webhook"]["conversionReviewVersions"],
        );
        let listed = versions.as_array().is_some_and(|list| !list.is_empty());
        for (set, field) in [
            (config, "webhookClientConfig"),
            (listed, "conversionReviewVersions"),
        ] {
            if set {
                errors.forbidden(
                    format!("{base}.{field}"),
                    "should not be set when strategy is not set to Webhook",
                );
            }
        }
    }
}

/// Versions of ConversionReview a webhook takes: labels, each once, one of them known.
fn review_versions(own: &Value, base: &str, errors: &mut FieldErrors) {
    let versions = own.as_array().map_or(&[] as &[Value], Vec::as_slice);
    if versions.is_empty() {
        errors.required(base, "");
        return;
    }
    for (idx, version) in versions.iter().enumerate() {
        let path = format!("{base}[{idx}]");
        if versions[..idx].contains(version) {
            errors.invalid(path, text(version), "duplicate version");
            continue;
        }
        for wrong in names::dns_1035_label(text(version)) {
            errors.invalid(&path, text(version), &wrong);
        }
    }
    if !versions
        .iter()
        .any(|version| matches!(text(version), "v1" | "v1beta1"))
    {
        errors.invalid(base, own.clone(), "must include at least one of v1, v1beta1");
    }
}
