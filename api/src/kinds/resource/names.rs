//! Names of drivers, pools and attributes, and lists that are sets.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::Value;

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::names;

/// Bytes of a driver's name, or of the domain of an attribute.
const MAX_DRIVER: usize = 63;
/// Bytes of an attribute's own name.
const MAX_ID: usize = 32;
/// Bytes of an attribute's name with its domain.
pub const MAX_QUALIFIED: usize = MAX_DRIVER + 1 + MAX_ID;
const MAX_POOL: usize = names::MAX_SUBDOMAIN;

pub fn driver(field: impl Display, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(field, "");
        return;
    }
    if name.len() > MAX_DRIVER {
        errors.too_long(&field, MAX_DRIVER);
    }
    for text in names::dns_subdomain(&name.to_lowercase()) {
        errors.invalid(&field, name, &text);
    }
}

/// One or more subdomains joined by slashes.
pub fn pool(field: impl Display, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(field, "");
        return;
    }
    if name.len() > MAX_POOL {
        errors.too_long(&field, MAX_POOL);
    }
    for part in name.split('/') {
        named(&field, part, names::dns_subdomain, errors);
    }
}

/// `name` or `domain/name` of an attribute or capacity.
pub fn qualified(field: impl Display, name: &str, errors: &mut FieldErrors) {
    match name.split_once('/') {
        None => identifier(&field, name, errors),
        Some((_, rest)) if rest.contains('/') => {
            errors.invalid(&field, name, "must not contain more than one slash");
        }
        Some((domain, id)) => {
            if domain.is_empty() {
                errors.invalid(&field, "", "the domain must not be empty");
            } else {
                driver(&field, domain, errors);
            }
            if id.is_empty() {
                errors.invalid(&field, "", "the name must not be empty");
            } else {
                identifier(&field, id, errors);
            }
        }
    }
}

/// A qualified name with its domain.
pub fn fully_qualified(field: impl Display, name: &str, errors: &mut FieldErrors) {
    qualified(&field, name, errors);
    if !name.contains('/') {
        errors.invalid(
            &field,
            name,
            "a fully qualified name must be a domain and a name separated by a slash",
        );
    }
}

fn identifier(field: impl Display, id: &str, errors: &mut FieldErrors) {
    if id.len() > MAX_ID {
        errors.too_long(&field, MAX_ID);
    }
    named(&field, id, names::c_identifier, errors);
}

/// A lower-case UUID in its usual form.
pub fn uuid(field: impl Display, text: &str, errors: &mut FieldErrors) {
    let hex = |b: u8| b.is_ascii_hexdigit();
    let dashed = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(idx, b)| {
                if matches!(idx, 8 | 13 | 18 | 23) {
                    b == b'-'
                } else {
                    hex(b)
                }
            })
    };
    let inner = match text.len() {
        45 => text.strip_prefix("urn:uuid:"),
        38 => text.strip_prefix('{').and_then(|t| t.strip_suffix('}')),
        _ => Some(text),
    };
    let plain = text.len() == 32 && text.bytes().all(hex);
    if dashed(text) && !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return;
    }
    if plain || inner.is_some_and(dashed) {
        errors.invalid(
            field,
            text,
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters",
        );
        return;
    }
    let why = match text.len() {
        32 | 36 | 38 | 45 => "invalid UUID format".to_owned(),
        other => format!("invalid UUID length: {other}"),
    };
    errors.invalid(field, text, &format!("error validating uid: {why}"));
}

/// True when the list is too long; then nothing else of it is looked at.
pub fn too_many(at: &At<'_>, field: &'static str, max: usize, errors: &mut FieldErrors) -> bool {
    let count = at.count(field);
    if count > max {
        errors.too_many(at.path(field), count, max);
    }
    count > max
}

/// Reports the elements whose key an earlier one has. Upstream shows the key.
pub fn unique<'a>(
    items: impl Iterator<Item = At<'a>>,
    key: impl Fn(&At<'a>) -> Value,
    errors: &mut FieldErrors,
) {
    let mut seen = BTreeSet::new();
    for item in items {
        let key = key(&item);
        if !seen.insert(key.to_string()) {
            errors.duplicate(&item, key);
        }
    }
}
