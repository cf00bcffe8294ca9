//! The status of a ResourceClaim: what was allocated, for whom, and how each device fares.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::names::{driver, pool, too_many, unique, uuid};
use super::request::{self, MAX_ITEMS, request_reference};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::conditions;
use crate::kinds::common::defaults::{child, items};
use crate::kinds::common::rules::{self, named};
use crate::kinds::core::pod::affinity::node_selector;
use crate::names;

/// Consumers a claim may be reserved for.
const MAX_RESERVED_FOR: usize = 256;
const MAX_CONDITIONS: usize = 8;
const MAX_DEVICE_DATA: usize = 10 * 1024;
const MAX_INTERFACE_NAME: usize = 256;
const MAX_HARDWARE_ADDRESS: usize = 128;
const MAX_IPS: usize = 16;

pub fn set_defaults(claim: &mut Map<String, Value>) {
    let devices = child(claim, "status")
        .and_then(|s| child(s, "allocation"))
        .and_then(|a| child(a, "devices"));
    if let Some(devices) = devices {
        for result in items(devices, "results") {
            request::default_tolerations(result);
        }
    }
}

/// Driver, pool, device and, for a shared device, the share.
fn device_key(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|f| device[f].as_str().unwrap_or_default())
}

/// A device as error texts show it.
fn shown(key: [&str; 4]) -> String {
    let [driver, pool, device, share] = key;
    let id = format!("{driver}/{pool}/{device}");
    if share.is_empty() {
        id
    } else {
        format!("{id}/{share}")
    }
}

fn allocated(status: &Value) -> BTreeSet<[&str; 4]> {
    let results = status["allocation"]["devices"]["results"].as_array();
    results.into_iter().flatten().map(device_key).collect()
}

/// The status of a device goes with its allocation.
pub fn drop_deallocated(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let Some(before) = old.get("status") else { return };
    let whole = |key: &[&str; 4]| [key[0].to_owned(), key[1].to_owned(), key[2].to_owned()];
    let mut gone: BTreeSet<[String; 3]> = allocated(before).iter().map(whole).collect();
    let Some(status) = new.get_mut("status") else {
        return;
    };
    for key in allocated(status) {
        gone.remove(&whole(&key));
    }
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else {
        return;
    };
    devices.retain(|d| !gone.contains(&whole(&device_key(d))));
    if devices.is_empty() {
        status.remove("devices");
    }
}

pub fn validate_update(new: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (status, before) = (new.at("status"), old.at("status"));
    if !too_many(&status, "reservedFor", MAX_RESERVED_FOR, errors) {
        for consumer in status.items("reservedFor") {
            for field in ["resource", "name", "uid"] {
                if consumer.str(field).is_empty() {
                    errors.required(consumer.path(field), "");
                }
            }
        }
        unique(status.items("reservedFor"), |c| c.str("uid").into(), errors);
    }
    let known = allocated(status.value);
    for device in status.items("devices") {
        validate_device(&device, &known, errors);
    }
    unique(
        status.items("devices"),
        |d| shown(device_key(d.value)).into(),
        errors,
    );
    if status.count("reservedFor") > 0 {
        reserved_for(new, &before, errors);
    }
    match (before.opt("allocation"), status.opt("allocation")) {
        (Some(had), Some(has)) => rules::immutable(&has, has.value, had.value, errors),
        (None, Some(has)) => validate_allocation(&has, new, errors),
        _ => {}
    }
}

fn reserved_for(claim: &At<'_>, before: &At<'_>, errors: &mut FieldErrors) {
    let status = claim.at("status");
    if !status.has("allocation") {
        errors.forbidden(
            status.path("reservedFor"),
            "may not be specified when `allocated` is not set",
        );
        return;
    }
    let had: Vec<&Value> = before.items("reservedFor").map(|c| c.value).collect();
    let added = status.items("reservedFor").any(|c| !had.contains(&c.value));
    if claim.at("metadata").has("deletionTimestamp") && added {
        errors.forbidden(
            status.path("reservedFor"),
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
        );
    }
}

fn validate_allocation(allocation: &At<'_>, claim: &At<'_>, errors: &mut FieldErrors) {
    let known = request::request_names(&claim.at("spec").at("devices"));
    let devices = allocation.at("devices");
    if !too_many(&devices, "results", MAX_ITEMS, errors) {
        for result in devices.items("results") {
            request_reference(result.path("request"), result.str("request"), &known, errors);
            driver(result.path("driver"), result.str("driver"), errors);
            pool(result.path("pool"), result.str("pool"), errors);
            named(
                result.path("device"),
                result.str("device"),
                names::dns_label,
                errors,
            );
            binding_conditions(&result, errors);
            request::tolerations(&result, errors);
            if let Some(share) = result.opt_str("shareID") {
                uuid(result.path("shareID"), share, errors);
            }
        }
    }
    if !too_many(&devices, "config", 2 * MAX_ITEMS, errors) {
        for config in devices.items("config") {
            rules::one_of(&config, "source", &["FromClaim", "FromClass"], errors);
            request::references(&config, &known, errors);
            request::configuration(&config, true, errors);
        }
    }
    if let Some(selector) = allocation.opt("nodeSelector") {
        node_selector(&selector, errors);
    }
}

/// Conditions that must hold, or must not, before a Pod is bound.
pub fn binding_conditions(at: &At<'_>, errors: &mut FieldErrors) {
    const MAX: usize = 4;
    const FIELDS: [&str; 2] = ["bindingConditions", "bindingFailureConditions"];
    for field in FIELDS {
        if !too_many(at, field, MAX, errors) {
            for condition in at.items(field) {
                named(&condition, condition.text(), names::qualified_name, errors);
            }
        }
    }
    let [wanted, failed] = FIELDS;
    unique(at.items(wanted), |c| c.text().into(), errors);
    let mut seen = BTreeSet::new();
    for condition in at.items(failed) {
        let text = condition.text();
        if !seen.insert(text) {
            errors.duplicate(&condition, text);
        }
        if at.strings(wanted).any(|w| w == text) {
            errors.invalid(
                &condition,
                text,
                "bindingFailureConditions must not overlap with bindingConditions",
            );
        }
    }
    for (empty, other) in [(wanted, failed), (failed, wanted)] {
        if at.count(empty) == 0 && at.count(other) > 0 {
            errors.invalid(
                at.path(empty),
                at.get(empty).clone(),
                &format!("{empty} are required to use {other}"),
            );
        }
    }
}

fn validate_device(device: &At<'_>, known: &BTreeSet<[&str; 4]>, errors: &mut FieldErrors) {
    driver(device.path("driver"), device.str("driver"), errors);
    pool(device.path("pool"), device.str("pool"), errors);
    named(
        device.path("device"),
        device.str("device"),
        names::dns_label,
        errors,
    );
    if let Some(share) = device.opt_str("shareID") {
        uuid(device.path("shareID"), share, errors);
    }
    let key = device_key(device.value);
    if !known.contains(&key) {
        errors.invalid(device, shown(key), "must be an allocated device in the claim");
    }
    if device.count("conditions") > MAX_CONDITIONS {
        errors.too_many(
            device.path("conditions"),
            device.count("conditions"),
            MAX_CONDITIONS,
        );
    }
    conditions::conditions(device, "conditions", errors);
    if device.has("data") {
        request::raw_object(device.path("data"), device.get("data"), MAX_DEVICE_DATA, errors);
    }
    let Some(network) = device.opt("networkData") else {
        return;
    };
    for (field, max) in [
        ("interfaceName", MAX_INTERFACE_NAME),
        ("hardwareAddress", MAX_HARDWARE_ADDRESS),
    ] {
        if network.str(field).len() > max {
            errors.too_long(network.path(field), max);
        }
    }
    if too_many(&network, "ips", MAX_IPS, errors) {
        return;
    }
    for ip in network.items("ips") {
        if !is_interface_address(ip.text()) {
            errors.invalid(
                &ip,
                ip.text(),
                "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
            );
        }
    }
    unique(network.items("ips"), |ip| ip.text().into(), errors);
}

/// An address with the length of its network's prefix.
fn is_interface_address(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let canonical = !prefix.is_empty() && (prefix == "0" || !prefix.starts_with('0'));
    canonical && prefix.bytes().all(|b| b.is_ascii_digit()) && prefix.parse::<u8>().is_ok_and(|p| p <= max)
}
