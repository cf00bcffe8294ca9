//! Validation of `metav1.Condition` lists. Source: `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.

use std::collections::BTreeSet;

use super::rules::named;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::names;

/// Bytes of a condition's reason.
const MAX_REASON: usize = 1024;
/// Bytes of a condition's message.
const MAX_MESSAGE: usize = 32 * 1024;
const REASON_TEXT: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Checks the list `field` of `at`: unique types, known status, reason and time present, texts within bounds.
pub fn conditions(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for condition in at.items(field) {
        let kind = condition.str("type");
        if !seen.insert(kind) {
            errors.duplicate(condition.path("type"), kind);
        }
        named(condition.path("type"), kind, names::qualified_name, errors);
        if !matches!(condition.str("status"), "True" | "False" | "Unknown") {
            errors.not_supported(
                condition.path("status"),
                condition.str("status"),
                &["False", "True", "Unknown"],
            );
        }
        if condition.int("observedGeneration") < 0 {
            errors.invalid(
                condition.path("observedGeneration"),
                condition.int("observedGeneration"),
                "must be greater than or equal to zero",
            );
        }
        if !condition.has("lastTransitionTime") {
            errors.required(condition.path("lastTransitionTime"), "must be set");
        }
        match condition.str("reason") {
            "" => errors.required(condition.path("reason"), "must be set"),
            reason => {
                if !is_reason(reason) {
                    errors.invalid(condition.path("reason"), reason, REASON_TEXT);
                }
                if reason.len() > MAX_REASON {
                    errors.too_long(condition.path("reason"), MAX_REASON);
                }
            }
        }
        if condition.str("message").len() > MAX_MESSAGE {
            errors.too_long(condition.path("message"), MAX_MESSAGE);
        }
    }
}

fn is_reason(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || matches!(b, b',' | b':'))
}
