//! Optional values. `or` and `orValue` are evaluated by need, by the evaluator.

use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::value::{List, Value};

pub const TABLE: &[Entry] = &[
    Entry(
        "optional.of",
        |_, a| Ok(Value::some(a[0].clone())),
        "optional_of (A) optional(A)",
    ),
    Entry(
        "optional.none",
        |_, _| Ok(Value::Optional(None)),
        "optional_none () optional(A)",
    ),
    Entry(
        "optional.ofNonZeroValue",
        of_non_zero,
        "optional_ofNonZeroValue (A) optional(A)",
    ),
    Entry("hasValue", has_value, "optional_hasValue optional(A).() bool"),
    Entry("value", value, "optional_value optional(A).() A"),
    Entry(
        "or",
        |_, a| pick(a, true),
        "optional_or_optional optional(A).(optional(A)) optional(A)",
    ),
    Entry(
        "orValue",
        |_, a| pick(a, false),
        "optional_orValue_value optional(A).(A) A",
    ),
    Entry(
        "optional.unwrap",
        unwrap,
        "optional_unwrap (list(optional(A))) list(A)",
    ),
    Entry(
        "unwrapOpt",
        unwrap,
        "optional_unwrapOpt list(optional(A)).() list(A)",
    ),
    Entry("first", |_, a| end(a, false), "list_first list(A).() optional(A)"),
    Entry("last", |_, a| end(a, true), "list_last list(A).() optional(A)"),
];

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(own) => !own,
        Value::Int(own) => *own == 0,
        Value::Uint(own) => *own == 0,
        Value::Double(own) => *own == 0.0,
        Value::Duration(own) => *own == 0,
        Value::String(own) => own.is_empty(),
        Value::Bytes(own) => own.is_empty(),
        Value::List(own) => own.is_empty(),
        Value::Map(own) => own.is_empty(),
        _ => false,
    }
}

fn of_non_zero<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(if is_zero(&args[0]) {
        Value::Optional(None)
    } else {
        Value::some(args[0].clone())
    })
}

fn has_value<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Optional(own) => Ok(Value::Bool(own.is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

fn value<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Optional(Some(own)) => Ok((**own).clone()),
        Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }
}

fn pick<'a>(args: &[Value<'a>], keep: bool) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Optional(None) => Ok(args[1].clone()),
        Value::Optional(Some(_)) if keep => Ok(args[0].clone()),
        Value::Optional(Some(own)) => Ok((**own).clone()),
        _ => Err(EvalError::no_overload()),
    }
}

fn items<'v, 'a>(value: &'v Value<'a>) -> Eval<&'v List<'a>> {
    match value {
        Value::List(own) => Ok(own),
        _ => Err(EvalError::no_overload()),
    }
}

fn unwrap<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let mut out = Vec::new();
    for own in items(&args[0])?.iter() {
        match own? {
            Value::Optional(Some(own)) => out.push((*own).clone()),
            Value::Optional(None) => {}
            _ => return Err(EvalError::new("optional.unwrap: not a list of optional values")),
        }
    }
    Ok(Value::list(out))
}

fn end<'a>(args: &[Value<'a>], last: bool) -> Eval<Value<'a>> {
    let list = items(&args[0])?;
    let found = if last { list.len().checked_sub(1) } else { Some(0) };
    match found.and_then(|idx| list.get(idx)) {
        Some(own) => own.map(Value::some),
        None => Ok(Value::Optional(None)),
    }
}
