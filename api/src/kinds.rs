//! Every built-in kind: one file each, and the table that lists them all.

use std::sync::LazyLock;

use serde_json::Value;

use crate::resource::ResourceType;
use crate::selector::LabelSelector;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod common;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;

/// Labels as the wide columns show them: `a=b,c=d`, `<none>` without any.
pub(crate) fn format_labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",")
    }
}

/// A label selector as the wide columns show it.
pub(crate) fn format_selector(selector: &Value) -> String {
    match LabelSelector::from_value(selector) {
        Err(_) => "<error>".into(),
        Ok(parsed) if parsed.requirements.is_empty() => "<none>".into(),
        Ok(parsed) => parsed.to_string(),
    }
}

/// All resources, the core group first, the others in the order of upstream's discovery. Within a group the
/// preferred version comes first.
pub(crate) static RESOURCES: LazyLock<Vec<ResourceType>> = LazyLock::new(|| {
    [
        core::RESOURCES,
        apiregistration::RESOURCES,
        apps::RESOURCES,
        events::RESOURCES,
        authentication::RESOURCES,
        authorization::RESOURCES,
        autoscaling::RESOURCES,
        batch::RESOURCES,
        certificates::RESOURCES,
        networking::RESOURCES,
        policy::RESOURCES,
        rbac::RESOURCES,
        storage::RESOURCES,
        admissionregistration::RESOURCES,
        apiextensions::RESOURCES,
        scheduling::RESOURCES,
        coordination::RESOURCES,
        node::RESOURCES,
        discovery::RESOURCES,
        resource::RESOURCES,
        flowcontrol::RESOURCES,
    ]
    .concat()
});
