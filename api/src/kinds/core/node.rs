//! Node. Source: `pkg/apis/core/validation`, `ValidateNode`; `pkg/printers`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::child;
use crate::kinds::common::ip;
use crate::kinds::common::rules::{self, named};
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct Node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

impl Kind for Node {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        // Allocatable is what there is, until someone says otherwise.
        if let Some(status) = child(object, "status")
            && !status.get("allocatable").is_some_and(Value::is_object)
            && let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    // A kubelet registers its Node with the status in place, so creation keeps it.

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, "core.v1.Node");
        let spec = at.at("spec");
        let mut seen = BTreeSet::new();
        for taint in spec.items("taints") {
            rules::required_name(&taint, "key", names::qualified_name, errors);
            named(
                taint.path("value"),
                taint.str("value"),
                names::label_value,
                errors,
            );
            rules::one_of(&taint, "effect", &EFFECTS, errors);
            if !seen.insert((taint.str("key"), taint.str("effect"))) {
                errors.duplicate(&taint, taint.value.clone());
            }
        }
        let cidrs: Vec<At<'_>> = spec.items("podCIDRs").collect();
        for cidr in &cidrs {
            if cidr.text().parse::<ipnet::IpNet>().is_err() {
                errors.invalid(
                    cidr,
                    cidr.text(),
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
        if cidrs.len() > 2 {
            errors.invalid(
                spec.path("podCIDRs"),
                spec.get("podCIDRs").clone(),
                "may specify no more than one CIDR for each IP family",
            );
        }
        let single = spec.str("podCIDR");
        if cidrs.is_empty() && !single.is_empty() && single.parse::<ipnet::IpNet>().is_err() {
            errors.invalid(
                spec.path("podCIDR"),
                single,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
        validate_status(&at, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (
            At::root(new, "core.v1.Node").at("spec"),
            At::root(old, "core.v1.Node").at("spec"),
        );
        // Both may be set once, then never changed.
        if old.count("podCIDRs") > 0 && new.get("podCIDRs") != old.get("podCIDRs") {
            errors.forbidden(
                new.path("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        if !old.str("providerID").is_empty() && new.str("providerID") != old.str("providerID") {
            errors.forbidden(
                new.path("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        validate_status(&At::root(new, "core.v1.Node"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = At::root(object, "core.v1.Node").at("spec");
        let mut out = Vec::new();
        if !spec.str("externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
        }
        for cidr in spec.items("podCIDRs") {
            out.extend(ip::cidr_warnings(&cidr, cidr.text()));
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status"),
                Column::string("Roles"),
                Column::AGE,
                Column::string("Version"),
                Column::wide("Internal-IP"),
                Column::wide("External-IP"),
                Column::wide("OS-Image"),
                Column::wide("Kernel-Version"),
                Column::wide("Container-Runtime"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let info = &object["status"]["nodeInfo"];
        let text = |field: &str| info[field].as_str().unwrap_or_default();
        let or = |value: &str, other: &str| {
            if value.is_empty() {
                other.to_string()
            } else {
                value.to_string()
            }
        };
        vec![
            meta::name(object).into(),
            status_text(object).into(),
            or(&roles(object), "<none>").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            text("kubeletVersion").into(),
            or(address(object, "InternalIP"), "<none>").into(),
            or(address(object, "ExternalIP"), "<none>").into(),
            or(text("osImage"), "<unknown>").into(),
            or(text("kernelVersion"), "<unknown>").into(),
            or(text("containerRuntimeVersion"), "<unknown>").into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["spec"]["unschedulable"]
            .as_bool()
            .unwrap_or_default()
            .to_string()
    }
}

fn validate_status(at: &At<'_>, errors: &mut FieldErrors) {
    let status = at.at("status");
    let mut seen = BTreeSet::new();
    for address in status.items("addresses") {
        if !seen.insert((address.str("type"), address.str("address"))) {
            errors.duplicate(&address, address.value.clone());
        }
    }
    for field in ["capacity", "allocatable"] {
        for (_, quantity) in status.entries(field) {
            if quantity.text().starts_with('-') {
                errors.invalid(&quantity, quantity.text(), rules::NOT_NEGATIVE);
            }
        }
    }
}

fn status_text(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions
        .filter(|c| c["type"] == "Ready")
        .map(|c| &c["status"])
        .next_back();
    let mut text = match ready {
        None => "Unknown",
        Some(status) if status == "True" => "Ready",
        Some(_) => "NotReady",
    }
    .to_string();
    if node["spec"]["unschedulable"].as_bool().unwrap_or_default() {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in meta::labels(node).as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX).filter(|r| !r.is_empty()) {
            roles.insert(role.to_string());
        } else if key == ROLE_LABEL
            && let Some(role) = value.as_str().filter(|r| !r.is_empty())
        {
            roles.insert(role.to_string());
        }
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    addresses
        .filter(|a| a["type"] == kind)
        .find_map(|a| a["address"].as_str())
        .unwrap_or_default()
}
