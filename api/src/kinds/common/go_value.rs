//! Whole structs in error texts. Upstream validates its internal types, which have no JSON names, so a struct
//! is shown with the names of its Go fields, all of them, in the order of the struct.

use serde_json::Value;

use crate::field::BadValue;

/// A value already as the error text shows it.
pub struct Raw(pub String);

impl BadValue for Raw {
    fn shown(&self) -> String {
        self.0.clone()
    }
}

/// A list as Go shows it: `null` when there is none.
pub fn list(value: &Value) -> Raw {
    Raw(value.to_string())
}

/// Shows a struct whose fields are strings: Go's name and the API's name of each, in Go's order. `null` for a
/// nil pointer.
pub fn strings(value: &Value, fields: &[(&str, &str)]) -> Raw {
    if value.is_null() {
        return Raw("\"null\"".into());
    }
    let parts: Vec<String> = fields
        .iter()
        .map(|(go, name)| {
            let text = value[*name].as_str().unwrap_or_default();
            format!("{}:{}", Value::from(*go), Value::from(text))
        })
        .collect();
    Raw(format!("{{{}}}", parts.join(",")))
}

/// `ObjectReference` of the core group.
pub const OBJECT_REFERENCE: &[(&str, &str)] = &[
    ("Kind", "kind"),
    ("Namespace", "namespace"),
    ("Name", "name"),
    ("UID", "uid"),
    ("APIVersion", "apiVersion"),
    ("ResourceVersion", "resourceVersion"),
    ("FieldPath", "fieldPath"),
];
