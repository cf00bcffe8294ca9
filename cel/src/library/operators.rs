//! Arithmetic, order, membership, and the helpers of macros.

use std::cmp::Ordering;

use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::time;
use crate::value::{Key, Map, Str, Value};

pub const TABLE: &[Entry] = &[
    Entry("_==_", equals, "equals (A, A) bool"),
    Entry("_!=_", differs, "not_equals (A, A) bool"),
    Entry("_&&_", unreachable, "logical_and (bool, bool) bool"),
    Entry("_||_", unreachable, "logical_or (bool, bool) bool"),
    Entry("_?_:_", unreachable, "conditional (bool, A, A) A"),
    Entry("!_", not, "logical_not (bool) bool"),
    Entry(
        "@not_strictly_false",
        unreachable,
        "not_strictly_false (bool) bool",
    ),
    Entry(
        "_<_",
        |_, args| order(args, |o| o == Ordering::Less),
        "less_bool (bool, bool) bool
        less_int64 (int, int) bool
        less_int64_double (int, double) bool
        less_int64_uint64 (int, uint) bool
        less_uint64 (uint, uint) bool
        less_uint64_double (uint, double) bool
        less_uint64_int64 (uint, int) bool
        less_double (double, double) bool
        less_double_int64 (double, int) bool
        less_double_uint64 (double, uint) bool
        less_string (string, string) bool
        less_bytes (bytes, bytes) bool
        less_timestamp (timestamp, timestamp) bool
        less_duration (duration, duration) bool",
    ),
    Entry(
        "_<=_",
        |_, args| order(args, |o| o != Ordering::Greater),
        "less_equals_bool (bool, bool) bool
        less_equals_int64 (int, int) bool
        less_equals_int64_double (int, double) bool
        less_equals_int64_uint64 (int, uint) bool
        less_equals_uint64 (uint, uint) bool
        less_equals_uint64_double (uint, double) bool
        less_equals_uint64_int64 (uint, int) bool
        less_equals_double (double, double) bool
        less_equals_double_int64 (double, int) bool
        less_equals_double_uint64 (double, uint) bool
        less_equals_string (string, string) bool
        less_equals_bytes (bytes, bytes) bool
        less_equals_timestamp (timestamp, timestamp) bool
        less_equals_duration (duration, duration) bool",
    ),
    Entry(
        "_>_",
        |_, args| order(args, |o| o == Ordering::Greater),
        "greater_bool (bool, bool) bool
        greater_int64 (int, int) bool
        greater_int64_double (int, double) bool
        greater_int64_uint64 (int, uint) bool
        greater_uint64 (uint, uint) bool
        greater_uint64_double (uint, double) bool
        greater_uint64_int64 (uint, int) bool
        greater_double (double, double) bool
        greater_double_int64 (double, int) bool
        greater_double_uint64 (double, uint) bool
        greater_string (string, string) bool
        greater_bytes (bytes, bytes) bool
        greater_timestamp (timestamp, timestamp) bool
        greater_duration (duration, duration) bool",
    ),
    Entry(
        "_>=_",
        |_, args| order(args, |o| o != Ordering::Less),
        "greater_equals_bool (bool, bool) bool
        greater_equals_int64 (int, int) bool
        greater_equals_int64_double (int, double) bool
        greater_equals_int64_uint64 (int, uint) bool
        greater_equals_uint64 (uint, uint) bool
        greater_equals_uint64_double (uint, double) bool
        greater_equals_uint64_int64 (uint, int) bool
        greater_equals_double (double, double) bool
        greater_equals_double_int64 (double, int) bool
        greater_equals_double_uint64 (double, uint) bool
        greater_equals_string (string, string) bool
        greater_equals_bytes (bytes, bytes) bool
        greater_equals_timestamp (timestamp, timestamp) bool
        greater_equals_duration (duration, duration) bool",
    ),
    Entry(
        "_+_",
        add,
        "add_bytes (bytes, bytes) bytes
        add_double (double, double) double
        add_duration_duration (duration, duration) duration
        add_duration_timestamp (duration, timestamp) timestamp
        add_timestamp_duration (timestamp, duration) timestamp
        add_int64 (int, int) int
        add_list (list(A), list(A)) list(A)
        add_string (string, string) string
        add_uint64 (uint, uint) uint",
    ),
    Entry(
        "_-_",
        subtract,
        "subtract_double (double, double) double
        subtract_duration_duration (duration, duration) duration
        subtract_int64 (int, int) int
        subtract_timestamp_duration (timestamp, duration) timestamp
        subtract_timestamp_timestamp (timestamp, timestamp) duration
        subtract_uint64 (uint, uint) uint",
    ),
    Entry(
        "_*_",
        multiply,
        "multiply_double (double, double) double
        multiply_int64 (int, int) int
        multiply_uint64 (uint, uint) uint",
    ),
    Entry(
        "_/_",
        divide,
        "divide_double (double, double) double
        divide_int64 (int, int) int
        divide_uint64 (uint, uint) uint",
    ),
    Entry(
        "_%_",
        modulo,
        "modulo_int64 (int, int) int
        modulo_uint64 (uint, uint) uint",
    ),
    Entry(
        "-_",
        negate,
        "negate_double (double) double
        negate_int64 (int) int",
    ),
    Entry(
        "@in",
        contained,
        "in_list (A, list(A)) bool
        in_map (A, map(A, B)) bool",
    ),
    Entry(
        "cel.@mapInsert",
        map_insert,
        "@mapInsert_map_map (map(A, B), map(A, B)) map(A, B)
        @mapInsert_map_key_value (map(A, B), A, B) map(A, B)",
    ),
];

fn unreachable<'a>(_: &Call<'_>, _: &[Value<'a>]) -> Eval<Value<'a>> {
    Err(EvalError::new("an operator that the evaluator handles itself"))
}

fn equals<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Bool(args[0].equals(&args[1])))
}

fn differs<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Bool(!args[0].equals(&args[1])))
}

fn not<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Bool(own) => Ok(Value::Bool(!own)),
        _ => Err(EvalError::no_overload()),
    }
}

fn order<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Eval<Value<'a>> {
    if let Some(order) = args[0].compare(&args[1]) {
        return Ok(Value::Bool(holds(order)));
    }
    match (&args[0], &args[1]) {
        // Only what is no number has no place among numbers.
        (Value::Double(_), Value::Double(_) | Value::Int(_) | Value::Uint(_))
        | (Value::Int(_) | Value::Uint(_), Value::Double(_)) => {
            Err(EvalError::new("NaN values cannot be ordered"))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn overflow() -> EvalError {
    EvalError::new("integer overflow")
}

fn unsigned_overflow() -> EvalError {
    EvalError::new("unsigned integer overflow")
}

fn duration_overflow() -> EvalError {
    EvalError::new("duration overflow")
}

/// `a + b`.
pub fn add<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Value::str(text)
        }
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&**a, &**b].concat().into()),
        (Value::List(a), Value::List(b)) => Value::List(a.add(b)?),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(duration_overflow)?)
        }
        (Value::Timestamp(a), Value::Duration(b)) | (Value::Duration(b), Value::Timestamp(a)) => {
            Value::Timestamp(time::shift(*a, *b)?)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn subtract<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or_else(duration_overflow)?)
        }
        (Value::Timestamp(a), Value::Duration(b)) => {
            Value::Timestamp(time::shift(*a, b.checked_neg().ok_or_else(duration_overflow)?)?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            Value::Duration(i64::try_from(nanos).map_err(|_| duration_overflow())?)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn multiply<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(EvalError::no_overload()),
    })
}

fn divide<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new("division by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(EvalError::no_overload()),
    })
}

fn modulo<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new("modulus by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return Err(EvalError::no_overload()),
    })
}

fn negate<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(match &args[0] {
        Value::Int(a) => Value::Int(a.checked_neg().ok_or_else(overflow)?),
        Value::Double(a) => Value::Double(-a),
        _ => return Err(EvalError::no_overload()),
    })
}

fn contained<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Bool(match &args[1] {
        Value::List(list) => {
            let mut found = false;
            for own in list.iter() {
                found |= own?.equals(&args[0]);
                if found {
                    break;
                }
            }
            found
        }
        Value::Map(map) => match Key::of(&args[0]) {
            Ok(key) => map.get(&key).is_some(),
            Err(_) => false,
        },
        _ => return Err(EvalError::no_overload()),
    }))
}

fn map_insert<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::Map(Map::Own(map)) = &args[0] else {
        return Err(EvalError::no_overload());
    };
    let mut map = (**map).clone();
    insert_into(&mut map, &args[1..])?;
    Ok(Value::Map(Map::Own(map.into())))
}

/// Puts a key and its value, or all of another map, into a map.
///
/// # Errors
/// A key that is there already.
pub fn insert_into<'a>(
    map: &mut std::collections::BTreeMap<Key<'a>, Value<'a>>,
    args: &[Value<'a>],
) -> Eval<()> {
    let mut put = |key: Key<'a>, value: Value<'a>| {
        if map.contains_key(&key) {
            return Err(EvalError::new(format!("insert failed: key {key} already exists")));
        }
        map.insert(key, value);
        Ok(())
    };
    match args {
        [key, value] => put(Key::of(key)?, value.clone()),
        [Value::Map(other)] => {
            for key in other.keys() {
                if let Some(value) = other.get(&key) {
                    put(key, value?)?;
                }
            }
            Ok(())
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// The text of an argument.
///
/// # Errors
/// Another type.
pub fn text<'v, 'a>(value: &'v Value<'a>) -> Eval<&'v Str<'a>> {
    match value {
        Value::String(own) => Ok(own),
        _ => Err(EvalError::no_overload()),
    }
}

/// The int of an argument.
///
/// # Errors
/// Another type.
pub fn int(value: &Value<'_>) -> Eval<i64> {
    match value {
        Value::Int(own) => Ok(*own),
        _ => Err(EvalError::no_overload()),
    }
}
