//! What expressions cost: counted when they run, estimated beforehand from the bounds of declarations. A unit is about 50 ns
//! on the machine upstream measured on.
//!
//! Source: cel-go's `checker/cost.go` and `interpreter/runtimecost.go`, `k8s.io/apiserver/pkg/cel/library/cost.go`. Both
//! halves must be changed together.

use crate::library::formats;
use crate::opaque::Opaque;
use crate::value::{Map, Value};

mod estimate;

pub use estimate::{Estimate, estimate};

pub const LIST_CREATE: u64 = 10;
pub const MAP_CREATE: u64 = 30;
pub const STRUCT_CREATE: u64 = 40;
/// Per character.
const TRAVERSAL: f64 = 0.1;
/// Per character of a pattern.
const PATTERN: f64 = 0.25;
/// A check of authorization: three of them are too many.
const CHECK: u64 = 350_000;

fn times(size: u64, factor: f64) -> u64 {
    let product = (size as f64 * factor).ceil();
    if product >= 18_446_744_073_709_551_616.0 {
        u64::MAX
    } else {
        product as u64
    }
}

fn size(value: Option<&Value<'_>>) -> u64 {
    value.and_then(Value::size).map_or(1, |size| size as u64)
}

/// A selector of so many characters.
fn selector(length: u64) -> u64 {
    let requirements = times(length, 0.5);
    LIST_CREATE
        .saturating_add(times(length, TRAVERSAL))
        .saturating_add(times(requirements, (LIST_CREATE + STRUCT_CREATE) as f64))
}

/// What a call costs, but for what depends on its result. `overload` is empty when several may apply.
pub fn of_call(function: &str, overload: &str, args: &[Value<'_>]) -> u64 {
    let (first, second) = (args.first(), args.get(1));
    match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => selector(size(second)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => first.map_or(0, traversal),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => times(size(first), TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => times(size(first), 2.0 * TRAVERSAL),
        "join" => 0,
        "find" | "findAll" => pattern_cost(size(first), size(second)),
        "ip" if overload == "cidr_ip" => 1,
        "ip" => times(size(first), TRAVERSAL),
        "containsIP" => {
            let base = times(2 * size(first), TRAVERSAL);
            base + if overload == "cidr_contains_ip_string" {
                times(size(second), TRAVERSAL)
            } else {
                0
            }
        }
        "containsCIDR" => {
            let base = times(2 * size(first), TRAVERSAL) + times(size(first), TRAVERSAL) + 1;
            base + if overload == "cidr_contains_cidr_string" {
                times(size(second), TRAVERSAL)
            } else {
                0
            }
        }
        "validate" => match first {
            Some(Value::Opaque(Opaque::Format(format))) => pattern_cost(size(second), format.pattern_size),
            _ => 1,
        },
        "sets.contains" | "sets.intersects" => 1 + size(first).saturating_mul(size(second)),
        "sets.equivalent" => 1 + times(size(first).saturating_mul(size(second)), 2.0),
        "flatten"
        | "distinct"
        | "sort"
        | "reverse"
        | "slice"
        | "@sortByAssociatedKeys"
        | "optional.unwrap"
        | "unwrapOpt" => list_cost(function, size(first)),
        "lists.range" => match first {
            Some(Value::Int(count)) => LIST_CREATE.saturating_add(u64::try_from(*count).unwrap_or(0)),
            _ => 1,
        },
        _ => of_operator(overload, args),
    }
}

/// The list functions, which upstream prices by what they make.
fn list_cost(function: &str, length: u64) -> u64 {
    match function {
        "distinct" | "sort" | "@sortByAssociatedKeys" => 1u64
            .saturating_add(LIST_CREATE)
            .saturating_add(length.saturating_mul(length)),
        _ => 1u64.saturating_add(LIST_CREATE).saturating_add(length),
    }
}

fn pattern_cost(text: u64, pattern: u64) -> u64 {
    times(text.saturating_add(1), TRAVERSAL).saturating_mul(times(pattern, PATTERN))
}

fn of_operator(overload: &str, args: &[Value<'_>]) -> u64 {
    let (first, second) = (args.first(), args.get(1));
    match overload {
        "equals" if matches!(first, Some(Value::Opaque(_))) => 1,
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => times(size(first), TRAVERSAL),
        "in_list" => size(second),
        "equals"
        | "not_equals"
        | "less_string"
        | "less_bytes"
        | "greater_string"
        | "greater_bytes"
        | "less_equals_string"
        | "less_equals_bytes"
        | "greater_equals_string"
        | "greater_equals_bytes" => times(size(first).min(size(second)), TRAVERSAL),
        "add_string" | "add_bytes" => times(size(first).saturating_add(size(second)), TRAVERSAL),
        "matches" | "matches_string" => pattern_cost(size(first), size(second)),
        "contains_string" => times(size(first), TRAVERSAL).saturating_mul(times(size(second), TRAVERSAL)),
        // Upstream prices a concatenation at one as it only links the lists; here it copies them.
        "add_list" => 1 + size(first).saturating_add(size(second)) / 20,
        _ => 1,
    }
}

/// What a call costs for its result.
pub fn of_result(function: &str, result: &Value<'_>) -> u64 {
    match function {
        "join" => times(size(Some(result)), 2.0 * TRAVERSAL),
        _ => 0,
    }
}

/// Going through a value once.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(own) => (own.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(own) => (own.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => list.iter().map(|own| own.map_or(1, |own| traversal(&own))).sum(),
        Value::Map(map @ (Map::Json { .. } | Map::Own(_) | Map::Struct(..))) => map
            .keys()
            .iter()
            .map(|key| {
                let own = map.get(key).and_then(Result::ok);
                traversal(&key.value()) + own.map_or(1, |own| traversal(&own))
            })
            .sum(),
        _ => 1,
    }
}

/// The longest pattern of a named format, for estimates.
pub(crate) const FORMAT_PATTERN: u64 = formats::MAX_PATTERN_SIZE;
