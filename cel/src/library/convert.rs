//! Conversions between types, `size` and `type`.

use super::{Call, Entry, no_overload};
use crate::error::{Eval, EvalError};
use crate::opaque::Opaque;
use crate::time;
use crate::value::Value;

pub const TABLE: &[Entry] = &[
    Entry(
        "size",
        size,
        "size_bytes (bytes) int
        bytes_size bytes.() int
        size_list (list(A)) int
        list_size list(A).() int
        size_map (map(A, B)) int
        map_size map(A, B).() int
        size_string (string) int
        string_size string.() int",
    ),
    Entry(
        "type",
        |_, args| Ok(Value::Type(args[0].ty())),
        "type (A) type(A)",
    ),
    Entry("dyn", |_, args| Ok(args[0].clone()), "to_dyn (A) dyn"),
    Entry(
        "bool",
        to_bool,
        "bool_to_bool (bool) bool
        string_to_bool (string) bool",
    ),
    Entry(
        "int",
        to_int,
        "int64_to_int64 (int) int
        double_to_int64 (double) int
        duration_to_int64 (duration) int
        string_to_int64 (string) int
        timestamp_to_int64 (timestamp) int
        uint64_to_int64 (uint) int",
    ),
    Entry(
        "uint",
        to_uint,
        "uint64_to_uint64 (uint) uint
        double_to_uint64 (double) uint
        int64_to_uint64 (int) uint
        string_to_uint64 (string) uint",
    ),
    Entry(
        "double",
        to_double,
        "double_to_double (double) double
        int64_to_double (int) double
        string_to_double (string) double
        uint64_to_double (uint) double",
    ),
    Entry(
        "string",
        to_string,
        "string_to_string (string) string
        bool_to_string (bool) string
        bytes_to_string (bytes) string
        double_to_string (double) string
        duration_to_string (duration) string
        int64_to_string (int) string
        timestamp_to_string (timestamp) string
        uint64_to_string (uint) string
        ip_to_string (net.IP) string
        cidr_to_string (net.CIDR) string",
    ),
    Entry(
        "bytes",
        to_bytes,
        "bytes_to_bytes (bytes) bytes
        string_to_bytes (string) bytes",
    ),
    Entry(
        "duration",
        to_duration,
        "duration_to_duration (duration) duration
        int64_to_duration (int) duration
        string_to_duration (string) duration",
    ),
    Entry(
        "timestamp",
        to_timestamp,
        "timestamp_to_timestamp (timestamp) timestamp
        int64_to_timestamp (int) timestamp
        string_to_timestamp (string) timestamp",
    ),
];

fn size<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Opaque(_) => no_overload("size", args),
        value => match value.size() {
            Some(size) => Ok(Value::Int(size as i64)),
            None => no_overload("size", args),
        },
    }
}

fn failed(from: &Value<'_>, to: &str) -> EvalError {
    EvalError::new(format!(
        "type conversion error from '{}' to '{to}'",
        from.type_name()
    ))
}

fn to_bool<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Bool(own) => Ok(Value::Bool(*own)),
        Value::String(own) => match &**own {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(Value::Bool(false)),
            _ => Err(failed(&args[0], "bool")),
        },
        _ => no_overload("bool", args),
    }
}

/// The first double beyond an int.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

fn to_int<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let overflow = || EvalError::new("integer overflow");
    Ok(Value::Int(match &args[0] {
        Value::Int(own) => *own,
        Value::Uint(own) => i64::try_from(*own).map_err(|_| overflow())?,
        Value::Double(own) => {
            if !own.is_finite() || *own <= -TWO_TO_63 || *own >= TWO_TO_63 {
                return Err(overflow());
            }
            *own as i64
        }
        Value::String(own) => go_int(own).ok_or_else(|| failed(&args[0], "int"))?,
        Value::Timestamp(own) => own.as_second(),
        Value::Duration(own) => *own,
        _ => return no_overload("int", args),
    }))
}

/// Go reads decimal digits with a sign and nothing else.
fn go_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn to_uint<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let overflow = || EvalError::new("unsigned integer overflow");
    Ok(Value::Uint(match &args[0] {
        Value::Uint(own) => *own,
        Value::Int(own) => u64::try_from(*own).map_err(|_| overflow())?,
        Value::Double(own) => {
            if !own.is_finite() || *own < 0.0 || *own >= 2.0 * TWO_TO_63 {
                return Err(overflow());
            }
            *own as u64
        }
        Value::String(own) if !own.starts_with('+') => own.parse().map_err(|_| failed(&args[0], "uint"))?,
        Value::String(_) => return Err(failed(&args[0], "uint")),
        _ => return no_overload("uint", args),
    }))
}

fn to_double<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Double(match &args[0] {
        Value::Double(own) => *own,
        Value::Int(own) => *own as f64,
        Value::Uint(own) => *own as f64,
        Value::String(own) => own.parse().map_err(|_| failed(&args[0], "double"))?,
        _ => return no_overload("double", args),
    }))
}

/// The text of a value, as `string()` makes it.
///
/// # Errors
/// Values without one.
pub fn text_of(value: &Value<'_>) -> Eval<String> {
    Ok(match value {
        Value::String(own) => own.to_string(),
        Value::Bool(own) => own.to_string(),
        Value::Int(own) => own.to_string(),
        Value::Uint(own) => own.to_string(),
        Value::Double(own) => go_double(*own),
        Value::Bytes(own) => String::from_utf8(own.to_vec())
            .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?,
        Value::Timestamp(own) => time::format_timestamp(*own),
        Value::Duration(own) => time::format_duration(*own),
        Value::Type(own) => own.to_string(),
        Value::Opaque(Opaque::Ip(own)) => own.to_string(),
        Value::Opaque(Opaque::Cidr(own)) => own.to_string(),
        other => return Err(failed(other, "string")),
    })
}

fn to_string<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::String(own) => Ok(Value::String(own.clone())),
        other => text_of(other).map(Value::str),
    }
}

/// Go's shortest form: with an exponent below 1e-4 and from 1e6 on where digits end before.
pub fn go_double(own: f64) -> String {
    if own.is_nan() {
        return "NaN".into();
    }
    if own.is_infinite() {
        return if own > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if own == 0.0 {
        return if own.is_sign_negative() {
            "-0".into()
        } else {
            "0".into()
        };
    }
    let scientific = format!("{own:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{own}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn to_bytes<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Bytes(own) => Ok(Value::Bytes(own.clone())),
        Value::String(own) => Ok(Value::Bytes(own.as_bytes().into())),
        _ => no_overload("bytes", args),
    }
}

fn to_duration<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Duration(match &args[0] {
        Value::Duration(own) => *own,
        Value::Int(own) => *own,
        Value::String(own) => time::duration(own)?,
        _ => return no_overload("duration", args),
    }))
}

fn to_timestamp<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Timestamp(match &args[0] {
        Value::Timestamp(own) => *own,
        Value::Int(own) => time::from_seconds(*own)?,
        Value::String(own) => time::timestamp(own)?,
        _ => return no_overload("timestamp", args),
    }))
}
