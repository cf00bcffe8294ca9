//! Quantities, authorization checks, JSON pointers, and the names that quantities and versions share.

use std::cmp::Ordering;
use std::sync::Arc;

use super::operators::text;
use super::{Call, Entry, semver};
use crate::authorizer::{Authorize, Check, Subject};
use crate::error::{Eval, EvalError};
use crate::names;
use crate::opaque::Opaque;
use crate::quantity::Quantity;
use crate::value::Value;

/// Known where a JSON patch may be made, and nowhere else.
pub const PATCHES_ONLY: &str = "jsonpatch.escapeKey";

pub const TABLE: &[Entry] = &[
    Entry("quantity", quantity, "string_to_quantity (string) kubernetes.Quantity"),
    Entry(
        "isQuantity",
        |_, a| Ok(Value::Bool(text(&a[0])?.parse::<Quantity>().is_ok())),
        "is_quantity_string (string) bool",
    ),
    Entry("sign", |_, a| Ok(Value::Int(own(&a[0])?.signum())), "quantity_sign (kubernetes.Quantity) int"),
    Entry(
        "isInteger",
        |_, a| Ok(Value::Bool(whole(own(&a[0])?).is_some())),
        "quantity_is_integer kubernetes.Quantity.() bool",
    ),
    Entry("asInteger", as_integer, "quantity_as_integer kubernetes.Quantity.() int"),
    Entry(
        "asApproximateFloat",
        |_, a| Ok(Value::Double(own(&a[0])?.to_f64())),
        "quantity_as_float kubernetes.Quantity.() double",
    ),
    Entry(
        "add",
        |_, a| combine(a, Quantity::add),
        "quantity_add kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity
        quantity_add_int kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    Entry(
        "sub",
        |_, a| combine(a, Quantity::sub),
        "quantity_sub kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity
        quantity_sub_int kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    Entry(
        "isLessThan",
        |_, a| Ok(Value::Bool(compare(a)? == Ordering::Less)),
        "quantity_is_less_than kubernetes.Quantity.(kubernetes.Quantity) bool
        semver_is_less_than kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    Entry(
        "isGreaterThan",
        |_, a| Ok(Value::Bool(compare(a)? == Ordering::Greater)),
        "quantity_is_greater_than kubernetes.Quantity.(kubernetes.Quantity) bool
        semver_is_greater_than kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    Entry(
        "compareTo",
        |_, a| Ok(Value::Int(compare(a)? as i64)),
        "quantity_compare_to kubernetes.Quantity.(kubernetes.Quantity) int
        semver_compare_to kubernetes.Semver.(kubernetes.Semver) int",
    ),
    Entry(
        PATCHES_ONLY,
        |_, a| Ok(Value::str(text(&a[0])?.replace('~', "~0").replace('/', "~1"))),
        "jsonpatch_escapeKey_string (string) string",
    ),
    Entry(
        "path",
        path,
        "authorizer_path kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck",
    ),
    Entry(
        "group",
        group,
        "authorizer_group kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck",
    ),
    Entry(
        "serviceAccount",
        service_account,
        "authorizer_serviceaccount kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer",
    ),
    Entry(
        "resource",
        resource,
        "groupcheck_resource kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "subresource",
        |_, a| narrow(a, |check, own| check.subresource = own),
        "resourcecheck_subresource kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "namespace",
        |_, a| narrow(a, |check, own| check.namespace = own),
        "resourcecheck_namespace kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "name",
        |_, a| narrow(a, |check, own| check.name = own),
        "resourcecheck_name kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "fieldSelector",
        |_, a| narrow(a, |check, own| check.field_selector = own),
        "authorizer_fieldselector kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "labelSelector",
        |_, a| narrow(a, |check, own| check.label_selector = own),
        "authorizer_labelselector kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck",
    ),
    Entry(
        "check",
        check,
        "pathcheck_check kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision
        resourcecheck_check kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
    ),
    Entry(
        "allowed",
        |_, a| Ok(Value::Bool(decision(a)?.allowed)),
        "decision_allowed kubernetes.authorization.Decision.() bool",
    ),
    Entry(
        "reason",
        |_, a| Ok(Value::str(&*decision(a)?.reason)),
        "decision_reason kubernetes.authorization.Decision.() string",
    ),
    Entry(
        "errored",
        |_, a| Ok(Value::Bool(decision(a)?.error.is_some())),
        "decision_errored kubernetes.authorization.Decision.() bool",
    ),
    Entry(
        "error",
        |_, a| Ok(Value::str(decision(a)?.error.as_deref().unwrap_or_default())),
        "decision_error kubernetes.authorization.Decision.() string",
    ),
];

fn own<'v>(value: &'v Value<'_>) -> Eval<&'v Quantity> {
    match value {
        Value::Opaque(Opaque::Quantity(own)) => Ok(own),
        _ => Err(EvalError::no_overload()),
    }
}

fn made<'a>(own: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(Arc::new(own)))
}

fn quantity<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match text(&args[0])?.parse() {
        Ok(own) => Ok(made(own)),
        Err(error) => Err(EvalError::new(format!("{error}"))),
    }
}

/// The largest number is also what a larger one was cut to, and counts as no integer.
fn whole(own: &Quantity) -> Option<i64> {
    own.as_integer().filter(|own| *own != i64::MAX)
}

fn as_integer<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match whole(own(&args[0])?) {
        Some(own) => Ok(Value::Int(own)),
        None => Err(EvalError::new("cannot convert value to integer")),
    }
}

fn combine<'a>(args: &[Value<'a>], with: fn(&mut Quantity, &Quantity)) -> Eval<Value<'a>> {
    let mut sum = *own(&args[0])?;
    match &args[1] {
        Value::Int(whole) => with(&mut sum, &Quantity::units(*whole)),
        other => with(&mut sum, own(other)?),
    }
    Ok(made(sum))
}

fn compare(args: &[Value<'_>]) -> Eval<Ordering> {
    match (&args[0], &args[1]) {
        (Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))) => Ok(a.cmp(b)),
        (Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))) => Ok(semver::compare(a, b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn path<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (Value::Opaque(Opaque::Authorizer(host, subject)), path) = (&args[0], text(&args[1])?) else {
        return Err(EvalError::no_overload());
    };
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    let check = Check {
        subject: (**subject).clone(),
        path: path.to_string(),
        ..Check::default()
    };
    Ok(Value::Opaque(Opaque::PathCheck(*host, Arc::new(check))))
}

fn group<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (Value::Opaque(Opaque::Authorizer(host, subject)), group) = (&args[0], text(&args[1])?) else {
        return Err(EvalError::no_overload());
    };
    let check = Check {
        subject: (**subject).clone(),
        group: group.to_string(),
        ..Check::default()
    };
    Ok(Value::Opaque(Opaque::GroupCheck(*host, Arc::new(check))))
}

fn service_account<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::Opaque(Opaque::Authorizer(host, _)) = &args[0] else {
        return Err(EvalError::no_overload());
    };
    let (namespace, name) = (text(&args[1])?, text(&args[2])?);
    if !names::dns_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !names::dns_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount {
        namespace: namespace.to_string(),
        name: name.to_string(),
    };
    Ok(Value::Opaque(Opaque::Authorizer(*host, Arc::new(subject))))
}

fn resource<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (Value::Opaque(Opaque::GroupCheck(host, check)), resource) = (&args[0], text(&args[1])?) else {
        return Err(EvalError::no_overload());
    };
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let mut check = (**check).clone();
    check.resource = resource.to_string();
    Ok(Value::Opaque(Opaque::ResourceCheck(*host, Arc::new(check))))
}

fn narrow<'a>(args: &[Value<'a>], set: fn(&mut Check, String)) -> Eval<Value<'a>> {
    let (Value::Opaque(Opaque::ResourceCheck(host, check)), own) = (&args[0], text(&args[1])?) else {
        return Err(EvalError::no_overload());
    };
    let mut check = (**check).clone();
    set(&mut check, own.to_string());
    Ok(Value::Opaque(Opaque::ResourceCheck(*host, Arc::new(check))))
}

fn check<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (host, check): (&dyn Authorize, &Check) = match &args[0] {
        Value::Opaque(Opaque::PathCheck(host, check) | Opaque::ResourceCheck(host, check)) => (*host, check),
        _ => return Err(EvalError::no_overload()),
    };
    let decision = host.authorize(check, text(&args[1])?);
    Ok(Value::Opaque(Opaque::Decision(Arc::new(decision))))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Eval<&'v crate::authorizer::Decision> {
    match &args[0] {
        Value::Opaque(Opaque::Decision(own)) => Ok(own),
        _ => Err(EvalError::no_overload()),
    }
}
