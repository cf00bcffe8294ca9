//! Quantities of the API's typed objects, and lists of them. What a quantity is stands in `corten_cel::quantity`.

use std::collections::BTreeMap;

pub use corten_cel::quantity::{Format, ParseError, Quantity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Reads the typed wire form; an unreadable one counts as zero, which decoding has already refused.
pub fn from_api(api: &ApiQuantity) -> Quantity {
    api.0.parse().unwrap_or_default()
}

/// The typed wire form.
pub fn to_api(own: &Quantity) -> ApiQuantity {
    ApiQuantity(own.to_string())
}

/// Amounts by resource name.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Reads a typed resource list.
pub fn list_from_api(list: &BTreeMap<String, ApiQuantity>) -> ResourceList {
    list.iter()
        .map(|(name, quantity)| (name.clone(), from_api(quantity)))
        .collect()
}

/// Adds `other` to `list`, name by name.
pub fn add_to(list: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        list.entry(name.clone()).or_default().add(quantity);
    }
}

/// Raises each amount of `list` to at least that of `other`.
pub fn raise_to(list: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        let slot = list.entry(name.clone()).or_insert(*quantity);
        if *slot < *quantity {
            *slot = *quantity;
        }
    }
}
