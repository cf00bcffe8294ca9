//! Names of compute resources and amounts of them. Source: `pkg/apis/core/helper` and
//! `pkg/apis/core/validation`, `validateResourceName` and its relatives.

use std::fmt::Display;

use super::defaults::Object;
use super::rules::{NOT_NEGATIVE, named};
use crate::field::FieldErrors;
use crate::names;
use crate::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";
/// Resources that count objects.
const COUNTS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources a quota may limit beside counts.
const QUOTA_AMOUNTS: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Resources of Kubernetes itself: without a prefix, or with one of its own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources of device plugins.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// True when a Pod may ask for less than its limit.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// True when only whole numbers make sense.
pub fn is_counted(name: &str) -> bool {
    COUNTS.contains(&name) || is_extended(name)
}

fn is_huge_pages_quota(name: &str) -> bool {
    name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-")
}

/// True for the unprefixed names a quota knows.
pub fn is_standard_for_quota(name: &str) -> bool {
    QUOTA_AMOUNTS.contains(&name) || COUNTS.contains(&name) || is_huge_pages_quota(name)
}

/// Any resource's name: a well-known word, or a qualified name with a prefix.
pub fn name(field: impl Display, name: &str, errors: &mut FieldErrors) {
    let found = errors.len();
    named(&field, name, names::qualified_name, errors);
    if errors.len() == found && !name.contains('/') && !is_standard_for_quota(name) && name != "storage" {
        errors.invalid(field, name, "must be a standard resource type or fully qualified");
    }
}

/// A resource's name in the requirements of a container.
pub fn container_name(field: impl Display, resource: &str, errors: &mut FieldErrors) {
    name(&field, resource, errors);
    if !resource.contains('/') {
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with(HUGE_PAGES) {
            errors.invalid(field, resource, "must be a standard resource for containers");
        }
    } else if !is_native(resource) && !is_extended(resource) {
        errors.invalid(field, resource, "doesn't follow extended resource name standard");
    }
}

/// A resource's name in a quota.
pub fn quota_name(field: impl Display, resource: &str, errors: &mut FieldErrors) {
    name(&field, resource, errors);
    if !resource.contains('/') && !is_standard_for_quota(resource) {
        errors.invalid(field, resource, "must be a standard resource for quota");
    }
}

/// An amount of a resource: not negative, whole where the resource is counted.
pub fn amount(field: impl Display, resource: &str, text: &str, errors: &mut FieldErrors) {
    let quantity: Quantity = text.parse().unwrap_or_default();
    if quantity.is_negative() {
        errors.invalid(&field, text, NOT_NEGATIVE);
    }
    if is_counted(resource) && !quantity.is_whole() {
        errors.invalid(field, text, "must be an integer");
    }
}

/// An amount above zero.
pub fn positive(field: impl Display, text: &str, errors: &mut FieldErrors) {
    let quantity: Quantity = text.parse().unwrap_or_default();
    if quantity.is_negative() || quantity.is_zero() {
        errors.invalid(field, text, "must be greater than zero");
    }
}

/// An amount that is not below zero, as upstream words it for volumes.
pub fn basic(field: impl Display, text: &str, errors: &mut FieldErrors) {
    let quantity: Quantity = text.parse().unwrap_or_default();
    if quantity.value() < 0 {
        errors.invalid(field, quantity.value(), "must be a valid resource quantity");
    }
}

/// Amounts finer than a thousandth are rounded up to one.
pub fn round_up(list: &mut Object) {
    for value in list.values_mut() {
        let text = value.as_str().unwrap_or_default();
        if text.ends_with(['n', 'u'])
            && let Ok(quantity) = text.parse::<Quantity>()
        {
            *value = Quantity::milli(quantity.milli_value()).to_string().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, extended: bool, overcommit: bool, counted: bool) {
        assert_eq!(
            (is_extended(name), may_overcommit(name), is_counted(name)),
            (extended, overcommit, counted),
            "{name}"
        );
    }

    #[test]
    fn what_kind_of_resource_a_name_is() {
        check("cpu", false, true, false);
        check("pods", false, true, true);
        check("hugepages-2Mi", false, false, false);
        check("nvidia.com/gpu", true, false, true);
        check("requests.nvidia.com/gpu", false, false, false);
        check("node.kubernetes.io/x", false, true, false);
        check("count/jobs.batch", true, false, true);
    }
}
