//! Checks of single values, shared by kinds. Source: `pkg/apis/core/validation` and apimachinery's.

use std::fmt::Display;

use serde_json::Value;

use crate::cursor::At;
use crate::field::{BadValue, FieldErrors};
use crate::names;

pub const IMMUTABLE: &str = "field is immutable";
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Reports each text of a name rule.
pub fn named(field: impl Display, value: &str, rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    for text in rule(value) {
        errors.invalid(&field, value, &text);
    }
}

/// A required field that follows a name rule.
pub fn required_name(
    at: &At<'_>,
    field: &'static str,
    rule: fn(&str) -> Vec<String>,
    errors: &mut FieldErrors,
) {
    match at.str(field) {
        "" => errors.required(at.path(field), ""),
        name => named(at.path(field), name, rule, errors),
    }
}

/// One of a list of words; empty is `Required`.
pub fn one_of(at: &At<'_>, field: &'static str, words: &[&str], errors: &mut FieldErrors) {
    match at.str(field) {
        "" => errors.required(at.path(field), ""),
        word if words.contains(&word) => {}
        word => errors.not_supported(at.path(field), word, words),
    }
}

pub fn not_negative(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    let value = at.int(field);
    if value < 0 {
        errors.invalid(at.path(field), value, NOT_NEGATIVE);
    }
}

pub fn port(field: impl Display, value: i64, errors: &mut FieldErrors) {
    for text in names::port_number(value) {
        errors.invalid(&field, value, &text);
    }
}

/// A port by number or name.
pub fn port_or_name(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    match at.get(field) {
        Value::String(name) => {
            for text in names::port_name(name) {
                errors.invalid(at.path(field), name, &text);
            }
        }
        value => port(at.path(field), value.as_i64().unwrap_or_default(), errors),
    }
}

pub fn immutable(field: impl Display, new: &Value, old: &Value, errors: &mut FieldErrors) {
    if new != old {
        errors.invalid(field, Shown(new), IMMUTABLE);
    }
}

/// The same for what is a pointer in Go: absence shows as `"null"`.
pub fn immutable_pointer(field: impl Display, new: &Value, old: &Value, errors: &mut FieldErrors) {
    if new != old {
        errors.invalid(field, new.clone(), IMMUTABLE);
    }
}

/// A counter that a status update may not lower.
pub fn not_decremented(status: &At<'_>, old: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    if status.int(field) < old.int(field) {
        errors.invalid(status.path(field), status.int(field), "cannot be decremented");
    }
}

/// A required string without further rules.
pub fn filled(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    if at.str(field).is_empty() {
        errors.required(at.path(field), "");
    }
}

/// A name that may be left out.
pub fn optional_name(
    at: &At<'_>,
    field: &'static str,
    rule: fn(&str) -> Vec<String>,
    errors: &mut FieldErrors,
) {
    if !at.str(field).is_empty() {
        named(at.path(field), at.str(field), rule, errors);
    }
}

/// True when a count or percentage means none; text that is neither counts as none, as in Go.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            crate::intstr::percent(text)
                .or_else(|| text.parse().ok())
                .unwrap_or_default()
                == 0
        }
        value => value.as_i64().unwrap_or_default() == 0,
    }
}

/// A value that may be absent, shown as Go shows its zero.
pub struct Shown<'a>(pub &'a Value);

impl BadValue for Shown<'_> {
    fn shown(&self) -> String {
        match self.0 {
            Value::Null => "\"\"".into(),
            other => other.shown(),
        }
    }
}

/// A count or a percentage, neither negative.
pub fn int_or_percent(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    match at.get(field) {
        Value::String(text) if crate::intstr::percent(text).is_none() => {
            errors.invalid(
                at.path(field),
                text,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            );
        }
        Value::String(_) => {}
        value => {
            let value = value.as_i64().unwrap_or_default();
            if value < 0 {
                errors.invalid(at.path(field), value, NOT_NEGATIVE);
            }
        }
    }
}

/// A percentage of at most 100.
pub fn at_most_all(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    if let Value::String(text) = at.get(field)
        && crate::intstr::percent(text).is_some_and(|p| p > 100)
    {
        errors.invalid(at.path(field), text, "must not be greater than 100%");
    }
}

/// `acme.io/path`: a domain, then characters of an HTTP path. Source: `IsDomainPrefixedPath`.
pub fn domain_prefixed_path(field: impl Display, value: &str, errors: &mut FieldErrors) {
    let Some((host, path)) = value
        .split_once('/')
        .filter(|(h, p)| !h.is_empty() && !p.is_empty())
    else {
        errors.invalid(
            field,
            value,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
        return;
    };
    named(&field, host, names::dns_subdomain, errors);
    let known = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(known) {
        errors.invalid(
            field,
            path,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// Bytes of a CSI driver's name.
const MAX_DRIVER_NAME: usize = 63;

/// A CSI driver's name: a DNS subdomain in any case. Source: `ValidateCSIDriverName`.
pub fn csi_driver_name(field: impl Display, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(&field, "");
    }
    if name.len() > MAX_DRIVER_NAME {
        errors.too_long(&field, MAX_DRIVER_NAME);
    }
    for text in names::dns_subdomain(&name.to_lowercase()) {
        errors.invalid(&field, name, &text);
    }
}
