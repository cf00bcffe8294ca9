//! Small helpers for filling in defaults.

use serde_json::{Map, Value};

pub type Object = Map<String, Value>;

/// Sets a field that is absent, `null` or the empty string.
pub fn default(object: &mut Object, field: &str, value: impl Into<Value>) {
    match object.get(field) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return,
    }
    object.insert(field.into(), value.into());
}

/// Sets a number that is absent, `null` or 0.
pub fn default_number(object: &mut Object, field: &str, value: i64) {
    if object.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
        object.insert(field.into(), value.into());
    }
}

/// A field that is an object, if present.
pub fn child<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    object.get_mut(field)?.as_object_mut()
}

/// A field as an object, made if absent.
pub fn child_or_new<'a>(object: &'a mut Object, field: &str) -> &'a mut Object {
    let slot = object.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

/// The objects of a list field.
pub fn items<'a>(object: &'a mut Object, field: &str) -> impl Iterator<Item = &'a mut Object> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

pub fn str<'a>(object: &'a Object, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// True when the field is present and not `null`.
pub fn has(object: &Object, field: &str) -> bool {
    object.get(field).is_some_and(|v| !v.is_null())
}
