//! Lists: Kubernetes' own functions, CEL's list extension version 3, and sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::operators::{add, int};
use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::value::{List, Value};

const COMPARABLE: &str = "list_int_is_sorted_bool list(int).() bool
    list_uint_is_sorted_bool list(uint).() bool
    list_double_is_sorted_bool list(double).() bool
    list_bool_is_sorted_bool list(bool).() bool
    list_duration_is_sorted_bool list(duration).() bool
    list_timestamp_is_sorted_bool list(timestamp).() bool
    list_string_is_sorted_bool list(string).() bool
    list_bytes_is_sorted_bool list(bytes).() bool";
const EXTREME: &str = "list_int_extreme_int list(int).() int
    list_uint_extreme_uint list(uint).() uint
    list_double_extreme_double list(double).() double
    list_bool_extreme_bool list(bool).() bool
    list_duration_extreme_duration list(duration).() duration
    list_timestamp_extreme_timestamp list(timestamp).() timestamp
    list_string_extreme_string list(string).() string
    list_bytes_extreme_bytes list(bytes).() bytes";
const SORTED: &str = "list_int_sort list(int).() list(int)
    list_uint_sort list(uint).() list(uint)
    list_double_sort list(double).() list(double)
    list_bool_sort list(bool).() list(bool)
    list_duration_sort list(duration).() list(duration)
    list_timestamp_sort list(timestamp).() list(timestamp)
    list_string_sort list(string).() list(string)
    list_bytes_sort list(bytes).() list(bytes)";
const SORTED_BY: &str = "list_int_sortByAssociatedKeys list(A).(list(int)) list(A)
    list_uint_sortByAssociatedKeys list(A).(list(uint)) list(A)
    list_double_sortByAssociatedKeys list(A).(list(double)) list(A)
    list_bool_sortByAssociatedKeys list(A).(list(bool)) list(A)
    list_duration_sortByAssociatedKeys list(A).(list(duration)) list(A)
    list_timestamp_sortByAssociatedKeys list(A).(list(timestamp)) list(A)
    list_string_sortByAssociatedKeys list(A).(list(string)) list(A)
    list_bytes_sortByAssociatedKeys list(A).(list(bytes)) list(A)";

pub const TABLE: &[Entry] = &[
    Entry("isSorted", is_sorted, COMPARABLE),
    Entry(
        "sum",
        sum,
        "list_int_sum_int list(int).() int
        list_uint_sum_uint list(uint).() uint
        list_double_sum_double list(double).() double
        list_duration_sum_duration list(duration).() duration",
    ),
    Entry("min", |_, a| extreme(a, "min", Ordering::Less), EXTREME),
    Entry("max", |_, a| extreme(a, "max", Ordering::Greater), EXTREME),
    Entry("slice", slice, "list_slice list(A).(int, int) list(A)"),
    Entry(
        "flatten",
        flatten,
        "list_flatten list(list(A)).() list(A)
        list_flatten_int list(dyn).(int) list(dyn)",
    ),
    Entry("lists.range", range, "lists_range (int) list(int)"),
    Entry("distinct", distinct, "list_distinct list(A).() list(A)"),
    Entry("reverse", reverse, "list_reverse list(A).() list(A)"),
    Entry("sort", |_, a| sort(&items(&a[0])?, &items(&a[0])?), SORTED),
    Entry(
        "@sortByAssociatedKeys",
        |_, a| sort(&items(&a[0])?, &items(&a[1])?),
        SORTED_BY,
    ),
    Entry(
        "sets.contains",
        |_, a| Ok(Value::Bool(contains_all(&items(&a[0])?, &items(&a[1])?))),
        "list_sets_contains_list (list(A), list(A)) bool",
    ),
    Entry(
        "sets.equivalent",
        |_, a| {
            let (a, b) = (items(&a[0])?, items(&a[1])?);
            Ok(Value::Bool(contains_all(&a, &b) && contains_all(&b, &a)))
        },
        "list_sets_equivalent_list (list(A), list(A)) bool",
    ),
    Entry(
        "sets.intersects",
        |_, a| {
            let (a, b) = (items(&a[0])?, items(&a[1])?);
            Ok(Value::Bool(
                a.iter().any(|own| b.iter().any(|other| own.equals(other))),
            ))
        },
        "list_sets_intersects_list (list(A), list(A)) bool",
    ),
];

/// Most elements that functions make out of nothing.
const MAX_ELEMENTS: i64 = 1_000_000;

fn list<'v, 'a>(value: &'v Value<'a>) -> Eval<&'v List<'a>> {
    match value {
        Value::List(own) => Ok(own),
        _ => Err(EvalError::no_overload()),
    }
}

fn items<'a>(value: &Value<'a>) -> Eval<Vec<Value<'a>>> {
    list(value)?.iter().collect()
}

fn compare<'a>(a: &Value<'a>, b: &Value<'a>) -> Eval<Ordering> {
    a.compare(b).ok_or_else(EvalError::no_overload)
}

fn contains_all<'a>(all: &[Value<'a>], part: &[Value<'a>]) -> bool {
    part.iter().all(|own| all.iter().any(|other| own.equals(other)))
}

fn is_sorted<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let mut before: Option<Value<'a>> = None;
    for own in list(&args[0])?.iter() {
        let own = own?;
        if let Some(before) = &before
            && compare(before, &own)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        before = Some(own);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let mut total: Option<Value<'a>> = None;
    for own in list(&args[0])?.iter() {
        let own = own?;
        total = Some(match total {
            None => own,
            Some(total) => add(call, &[total, own])?,
        });
    }
    // The zero of an empty list is of no type that could be told any more.
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Eval<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for own in list(&args[0])?.iter() {
        let own = own?;
        let better = match &best {
            None => true,
            Some(best) => compare(&own, best)? == wanted,
        };
        if better {
            best = Some(own);
        }
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

/// The place of a value in a list, -1 when it has none.
///
/// # Errors
/// An element that is not of its declared type.
pub fn index_of<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool) -> Eval<Value<'a>> {
    let mut found = -1;
    for (idx, own) in list.iter().enumerate() {
        if own?.equals(wanted) {
            found = idx as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let all = items(&args[0])?;
    let (start, end, length) = (int(&args[1])?, int(&args[2])?, all.len());
    let bad = |what: String| Err(EvalError::new(format!("cannot slice({start}, {end}), {what}")));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(from), Ok(to)) if from <= to && to <= length => Ok(Value::list(all[from..to].to_vec())),
        (Ok(from), Ok(to)) if from > to => bad("start index must be less than or equal to end index".into()),
        (Ok(_), Ok(_)) => bad(format!("list is length {length}")),
        _ => bad("negative indexes not supported".into()),
    }
}

fn flatten<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let depth = match args.get(1) {
        Some(depth) => int(depth)?,
        None => 1,
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut out = Vec::new();
    flatten_into(list(&args[0])?, depth, &mut out)?;
    Ok(Value::list(out))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Eval<()> {
    for own in list.iter() {
        match own? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            other => out.push(other),
        }
        if out.len() as i64 > MAX_ELEMENTS {
            return Err(EvalError::new("list too large"));
        }
    }
    Ok(())
}

fn range<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let count = int(&args[0])?;
    if count > MAX_ELEMENTS {
        return Err(EvalError::new(format!(
            "lists.range() size {count} exceeds maximum {MAX_ELEMENTS}"
        )));
    }
    Ok(Value::list((0..count).map(Value::Int).collect()))
}

fn distinct<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let mut out: Vec<Value<'a>> = Vec::new();
    for own in list(&args[0])?.iter() {
        let own = own?;
        if !out.iter().any(|known| known.equals(&own)) {
            out.push(own);
        }
    }
    Ok(Value::list(out))
}

fn reverse<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let mut all = items(&args[0])?;
    all.reverse();
    Ok(Value::list(all))
}

fn sort<'a>(all: &[Value<'a>], keys: &[Value<'a>]) -> Eval<Value<'a>> {
    if all.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            all.len(),
            keys.len()
        )));
    }
    for pair in keys.windows(2) {
        if pair[0].compare(&pair[1]).is_none() {
            return Err(EvalError::new("list elements must have the same type"));
        }
    }
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.sort_by(|a, b| keys[*a].compare(&keys[*b]).unwrap_or(Ordering::Equal));
    let sorted = places.into_iter().map(|idx| all[idx].clone()).collect();
    Ok(Value::List(List::Own(Arc::new(sorted))))
}
