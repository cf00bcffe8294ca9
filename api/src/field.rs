//! Field errors of validation (`field.Error`), with Kubernetes' reasons and texts.
//!
//! Knows how one bad field is described; must not know any kind.

use std::fmt::Display;

use serde_json::Value;

use crate::status::StatusCause;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl Reason {
    /// The `reason` of a cause.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One bad field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub reason: Reason,
    /// Path as Kubernetes writes it: `spec.containers[0].ports[1].name`.
    pub field: String,
    /// The text without the field, for example `Required value: must not be empty`.
    pub body: String,
}

/// A value as an error text shows it: strings quoted, numbers and booleans plain, the rest as JSON.
pub trait BadValue {
    fn shown(&self) -> String;
}

impl BadValue for str {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl BadValue for String {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl<T: BadValue + ?Sized> BadValue for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}

impl BadValue for Value {
    fn shown(&self) -> String {
        match self {
            Value::String(text) => quoted(text),
            Value::Null => quoted("null"),
            other => other.to_string(),
        }
    }
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl BadValue for $t {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
plain!(bool, i32, i64, u64, usize);

/// Go's `%q`.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// All bad fields of one object, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors {
    pub errors: Vec<FieldError>,
}

/// More field errors than this are counted but not kept, so that an answer stays small.
pub const MAX_FIELD_ERRORS: usize = 1_000;

impl FieldErrors {
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn len(&self) -> usize {
        self.errors.len()
    }

    fn push(&mut self, reason: Reason, field: impl Display, value: Option<String>, detail: &str) {
        if self.errors.len() >= MAX_FIELD_ERRORS {
            return;
        }
        let mut body = reason.text().to_string();
        if let Some(value) = value {
            body.push_str(": ");
            body.push_str(&value);
        }
        if !detail.is_empty() {
            body.push_str(": ");
            body.push_str(detail);
        }
        self.errors.push(FieldError {
            reason,
            field: field.to_string(),
            body,
        });
    }

    pub fn required(&mut self, field: impl Display, detail: &str) {
        self.push(Reason::Required, field, None, detail);
    }

    pub fn invalid(&mut self, field: impl Display, value: impl BadValue, detail: &str) {
        self.push(Reason::Invalid, field, Some(value.shown()), detail);
    }

    /// `Invalid` where upstream leaves the value out.
    pub fn invalid_without_value(&mut self, field: impl Display, detail: &str) {
        self.push(Reason::Invalid, field, None, detail);
    }

    pub fn type_invalid(&mut self, field: impl Display, value: impl BadValue, detail: &str) {
        self.push(Reason::TypeInvalid, field, Some(value.shown()), detail);
    }

    pub fn forbidden(&mut self, field: impl Display, detail: &str) {
        self.push(Reason::Forbidden, field, None, detail);
    }

    /// `supported` in the order to print; upstream sorts it.
    pub fn not_supported(&mut self, field: impl Display, value: impl BadValue, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|v| quoted(v)).collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", list.join(", "))
        };
        self.push(Reason::NotSupported, field, Some(value.shown()), &detail);
    }

    pub fn duplicate(&mut self, field: impl Display, value: impl BadValue) {
        self.push(Reason::Duplicate, field, Some(value.shown()), "");
    }

    /// `Duplicate` where upstream leaves the value out.
    pub fn duplicate_without_value(&mut self, field: impl Display) {
        self.push(Reason::Duplicate, field, None, "");
    }

    pub fn not_found(&mut self, field: impl Display, value: impl BadValue) {
        self.push(Reason::NotFound, field, Some(value.shown()), "");
    }

    pub fn too_long(&mut self, field: impl Display, max_bytes: usize) {
        self.push(
            Reason::TooLong,
            field,
            None,
            &format!("may not be more than {max_bytes} bytes"),
        );
    }

    pub fn too_many(&mut self, field: impl Display, actual: usize, max: usize) {
        self.push(
            Reason::TooMany,
            field,
            Some(actual.to_string()),
            &format!("must have at most {max} items"),
        );
    }

    pub fn internal(&mut self, field: impl Display, cause: &str) {
        self.push(Reason::Internal, field, None, cause);
    }

    pub fn append(&mut self, mut other: FieldErrors) {
        self.errors.append(&mut other.errors);
    }

    /// The text of all errors as Go's aggregate prints it: one alone plain, several in brackets, repeats once.
    pub fn aggregate(&self) -> String {
        let mut seen = std::collections::HashSet::new();
        let mut texts = Vec::new();
        for error in &self.errors {
            let text = format!("{}: {}", error.field, error.body);
            if seen.insert(text.clone()) {
                texts.push(text);
            }
        }
        match texts.len() {
            0 => String::new(),
            1 => texts.remove(0),
            _ => format!("[{}]", texts.join(", ")),
        }
    }

    pub fn causes(&self) -> Vec<StatusCause> {
        self.errors
            .iter()
            .map(|e| StatusCause {
                reason: e.reason.as_str().into(),
                message: e.body.clone(),
                field: e.field.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(build: impl FnOnce(&mut FieldErrors), want: &str) {
        let mut errors = FieldErrors::default();
        build(&mut errors);
        assert_eq!(errors.aggregate(), want);
    }

    #[test]
    fn bodies_follow_upstream() {
        check(|e| e.required("a", ""), "a: Required value");
        check(
            |e| e.invalid("a", "x\"y", "bad"),
            "a: Invalid value: \"x\\\"y\": bad",
        );
        check(|e| e.invalid("a", -1i64, "bad"), "a: Invalid value: -1: bad");
        check(
            |e| e.not_supported("a", "x", &["A", "B"]),
            "a: Unsupported value: \"x\": supported values: \"A\", \"B\"",
        );
        check(
            |e| e.too_long("a", 3),
            "a: Too long: may not be more than 3 bytes",
        );
        check(
            |e| e.too_many("a", 9, 3),
            "a: Too many: 9: must have at most 3 items",
        );
        check(|e| e.forbidden("a", "no"), "a: Forbidden: no");
        check(
            |e| {
                e.required("a", "");
                e.required("a", "");
                e.required("b", "");
            },
            "[a: Required value, b: Required value]",
        );
    }
}
