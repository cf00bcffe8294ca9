//! Validation of `LabelSelector` objects and of label maps.

use std::fmt::Display;

use serde_json::Value;

use super::rules::named;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::names;

/// Keys and values of a label map; errors are reported at the map.
pub fn labels(field: impl Display, labels: &Value, errors: &mut FieldErrors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        named(&field, key, names::qualified_name, errors);
        named(
            &field,
            value.as_str().unwrap_or_default(),
            names::label_value,
            errors,
        );
    }
}

/// Values where the operator of a requirement asks for some, none where it forbids them; other operators pass.
pub fn values_of_operator(requirement: &At<'_>, errors: &mut FieldErrors) {
    let values = requirement.count("values");
    match requirement.str("operator") {
        "In" | "NotIn" if values == 0 => errors.required(
            requirement.path("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if values > 0 => errors.forbidden(
            requirement.path("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        _ => {}
    }
}

/// A `LabelSelector`.
pub fn label_selector(at: &At<'_>, errors: &mut FieldErrors) {
    labels(at.path("matchLabels"), at.get("matchLabels"), errors);
    for expression in at.items("matchExpressions") {
        values_of_operator(&expression, errors);
        let operator = expression.str("operator");
        if !matches!(operator, "In" | "NotIn" | "Exists" | "DoesNotExist") {
            errors.invalid(
                expression.path("operator"),
                operator,
                "not a valid selector operator",
            );
        }
        named(
            expression.path("key"),
            expression.str("key"),
            names::qualified_name,
            errors,
        );
        for value in expression.items("values") {
            named(&value, value.text(), names::label_value, errors);
        }
    }
}
