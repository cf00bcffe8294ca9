//! Indexing and field access, plain and optional.

use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::value::{Key, Value};

pub const TABLE: &[Entry] = &[
    Entry(
        "_[_]",
        |_, args| index(&args[0], &args[1]),
        "index_list (list(A), int) A
        index_map (map(A, B), A) B
        optional_list_index_int (optional(list(A)), int) optional(A)
        optional_map_index_value (optional(map(A, B)), A) optional(B)",
    ),
    Entry(
        "_[?_]",
        |_, args| optional_index(&args[0], &args[1]),
        "list_optindex_optional_int (list(A), int) optional(A)
        optional_list_optindex_optional_int (optional(list(A)), int) optional(A)
        map_optindex_optional_value (map(A, B), A) optional(B)
        optional_map_optindex_optional_value (optional(map(A, B)), A) optional(B)",
    ),
    Entry(
        "_?._",
        |_: &Call<'_>, args| optional_index(&args[0], &args[1]),
        "",
    ),
];

/// `value[key]`.
///
/// # Errors
/// No such element.
pub fn index<'a>(value: &Value<'a>, key: &Value<'a>) -> Eval<Value<'a>> {
    match value {
        Value::List(list) => {
            let number = match key {
                Value::Int(own) => Some(*own),
                Value::Uint(own) => i64::try_from(*own).ok(),
                Value::Double(own) if own.fract() == 0.0 => Some(*own as i64),
                other => {
                    return Err(EvalError::new(format!(
                        "unsupported index type '{}' in list",
                        other.type_name()
                    )));
                }
            };
            let found = number
                .and_then(|own| usize::try_from(own).ok())
                .and_then(|idx| list.get(idx));
            found.unwrap_or_else(|| {
                let shown = number.map_or_else(|| "out of range".to_owned(), |own| own.to_string());
                Err(EvalError::new(format!("index out of bounds: {shown}")))
            })
        }
        Value::Map(map) => {
            let own = Key::of(key)?;
            map.get(&own).unwrap_or_else(|| Err(EvalError::no_key(own)))
        }
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => index(inner, key).map(Value::some),
        _ => Err(EvalError::no_overload()),
    }
}

/// `value[?key]` and `value.?key`: absent elements are none.
///
/// # Errors
/// Keys of the wrong type.
pub fn optional_index<'a>(value: &Value<'a>, key: &Value<'a>) -> Eval<Value<'a>> {
    match value {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => optional_index(inner, key),
        Value::List(list) => {
            let Value::Int(number) = key else {
                return Err(EvalError::no_overload());
            };
            match usize::try_from(*number).ok().and_then(|idx| list.get(idx)) {
                Some(found) => found.map(Value::some),
                None => Ok(Value::Optional(None)),
            }
        }
        Value::Map(map) => match map.get(&Key::of(key)?) {
            Some(found) => found.map(Value::some),
            None => Ok(Value::Optional(None)),
        },
        _ => Ok(Value::Optional(None)),
    }
}

/// `value.field`.
///
/// # Errors
/// No such field.
pub fn select<'a>(value: &Value<'a>, field: &str) -> Eval<Value<'a>> {
    match value {
        Value::Map(map) => map.field(field).unwrap_or_else(|| Err(EvalError::no_key(field))),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => match &**inner {
            Value::Map(map) => match map.field(field) {
                Some(found) => found.map(Value::some),
                None => Ok(Value::Optional(None)),
            },
            other => select(other, field).map(Value::some),
        },
        Value::List(_) => index(value, &Value::str(field)),
        _ => Err(EvalError::no_key(field)),
    }
}

/// `has(value.field)`.
///
/// # Errors
/// What has no fields.
pub fn has<'a>(value: &Value<'a>, field: &str) -> Eval<bool> {
    match value {
        Value::Map(map) => match map.field(field) {
            Some(Err(error)) => Err(error),
            found => Ok(found.is_some()),
        },
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(inner)) => has(inner, field),
        Value::List(_) => index(value, &Value::str(field)).map(|_| true),
        _ => Ok(false),
    }
}
