//! What a question about permissions must say. Source: `pkg/apis/authorization/validation`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::kinds::common::selector::values_of_operator;
use crate::resource::Kind;
use crate::{meta, names};

/// SubjectAccessReview, LocalSubjectAccessReview or SelfSubjectAccessReview.
pub struct AccessReview {
    schema: &'static str,
    /// The user is part of the question.
    names_user: bool,
    namespaced: bool,
}

pub struct RulesReview;

impl Kind for RulesReview {}

impl AccessReview {
    pub const OF_ANYONE: Self = Self {
        schema: "authorization.v1.SubjectAccessReview",
        names_user: true,
        namespaced: false,
    };
    pub const LOCAL: Self = Self {
        schema: "authorization.v1.LocalSubjectAccessReview",
        names_user: true,
        namespaced: true,
    };
    pub const OWN: Self = Self {
        schema: "authorization.v1.SelfSubjectAccessReview",
        names_user: false,
        namespaced: false,
    };
}

/// Checks a review as it came in. These objects have no name, so the metadata rules of stored objects do not hold.
pub fn validate(kind: &str, review: &Value, errors: &mut FieldErrors) {
    let rules = match kind {
        "SubjectAccessReview" => AccessReview::OF_ANYONE,
        "LocalSubjectAccessReview" => AccessReview::LOCAL,
        "SelfSubjectAccessReview" => AccessReview::OWN,
        _ => return,
    };
    rules.check(review, errors);
}

impl AccessReview {
    fn check(&self, review: &Value, errors: &mut FieldErrors) {
        let spec = At::root(review, self.schema).at("spec");
        let resource = spec.opt("resourceAttributes");
        let path = spec.opt("nonResourceAttributes");
        match (&resource, &path) {
            (Some(_), Some(path)) => errors.invalid(
                path,
                path.value.clone(),
                "cannot be specified in combination with resourceAttributes",
            ),
            (None, None) => errors.invalid(
                spec.path("resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ),
            _ => {}
        }
        if self.names_user && spec.str("user").is_empty() && spec.count("groups") == 0 {
            errors.invalid(
                spec.path("user"),
                "",
                "at least one of user or group must be specified",
            );
        }
        if let Some(resource) = &resource {
            selectors(resource, errors);
        }
        self.check_metadata(review, errors);
        if self.namespaced {
            if let Some(resource) = &resource
                && resource.str("namespace") != meta::namespace(review)
            {
                errors.invalid(
                    resource.path("namespace"),
                    resource.str("namespace"),
                    "must match metadata.namespace",
                );
            }
            if let Some(path) = &path {
                errors.invalid(path, path.value.clone(), "disallowed on this kind of request");
            }
        }
    }

    fn check_metadata(&self, review: &Value, errors: &mut FieldErrors) {
        let none = Map::new();
        let metadata = review["metadata"].as_object().unwrap_or(&none);
        let allowed = |field: &str| field == "managedFields" || (self.namespaced && field == "namespace");
        if metadata
            .iter()
            .any(|(field, value)| !value.is_null() && !allowed(field))
        {
            let text = if self.namespaced {
                "must be empty except for namespace"
            } else {
                "must be empty"
            };
            errors.invalid("metadata", review["metadata"].clone(), text);
        }
    }
}

/// Either the text of a selector or its requirements. Operators of later versions are let through.
fn selectors(resource: &At<'_>, errors: &mut FieldErrors) {
    for field in ["fieldSelector", "labelSelector"] {
        let Some(at) = resource.opt(field) else { continue };
        match (at.str("rawSelector"), at.count("requirements")) {
            ("", 0) => errors.required(
                at.path("requirements"),
                &format!("when {at} is specified, requirements or rawSelector is required"),
            ),
            (_, 0) | ("", _) => {}
            (raw, _) => errors.invalid(
                at.path("rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            ),
        }
        for requirement in at.items("requirements") {
            validate_requirement(&requirement, field == "labelSelector", errors);
        }
    }
}

fn validate_requirement(requirement: &At<'_>, of_labels: bool, errors: &mut FieldErrors) {
    let key = requirement.str("key");
    if !of_labels && key.is_empty() {
        errors.required(requirement.path("key"), "must be specified");
    }
    values_of_operator(requirement, errors);
    if of_labels {
        named(requirement.path("key"), key, names::qualified_name, errors);
        for value in requirement.items("values") {
            named(&value, value.text(), names::label_value, errors);
        }
    }
}

impl Kind for AccessReview {}
