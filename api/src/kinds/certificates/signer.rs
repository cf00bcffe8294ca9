//! Names of signers: `DOMAIN/PATH`. Source: `pkg/apis/core/validation`, `ValidateSignerName`.

use std::fmt::Display;

use crate::field::{FieldErrors, quoted};
use crate::names::{self, MAX_LABEL, MAX_SUBDOMAIN};

/// Bytes of the path: a namespace, a dot and a name.
const MAX_PATH: usize = MAX_SUBDOMAIN + MAX_LABEL + 1;
const MAX_NAME: usize = MAX_SUBDOMAIN + MAX_PATH + 1;

pub fn name(field: impl Display, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(field, "");
        return;
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        errors.invalid(
            field,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    if domain.len() > MAX_SUBDOMAIN {
        errors.too_long(&field, MAX_SUBDOMAIN);
    }
    first_bad(&field, domain, names::dns_label, errors);
    if !domain.contains('.') {
        errors.invalid(
            &field,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    first_bad(&field, path, names::dns_subdomain, errors);
    if name.len() > MAX_NAME {
        errors.too_long(&field, MAX_NAME);
    }
}

/// Reports what is wrong with the first bad one of the labels of `text`.
fn first_bad(field: impl Display, text: &str, rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let found = text
        .split('.')
        .map(|label| (label, rule(label)))
        .find(|(_, e)| !e.is_empty());
    let Some((label, found)) = found else { return };
    for error in found {
        errors.invalid(
            &field,
            text,
            &format!("validating label {}: {error}", quoted(label)),
        );
    }
}
