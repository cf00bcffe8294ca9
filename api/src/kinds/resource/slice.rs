//! ResourceSlice. Source: `pkg/apis/resource`, `pkg/registry/resource/resourceslice`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::device;
use super::names::{driver, pool, too_many, unique};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, has, items};
use crate::kinds::common::rules::{self, named};
use crate::kinds::core::pod::affinity::node_selector;
use crate::resource::{Kind, Subresource};
use crate::table::Column;
use crate::{humanize, meta, names, time};

pub struct ResourceSlice;

const TYPE: &str = "resource.v1.ResourceSlice";
const MAX_DEVICES: usize = 128;
/// Devices of a slice some of which have taints or consume counters.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
/// Fields of an attribute that need a feature that is off.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// Fields of features that are off are dropped, unless the stored object uses them.
fn drop_disabled(new: &mut Map<String, Value>, old: Option<&Map<String, Value>>) {
    let before = old.and_then(|o| o.get("spec")).map(|s| &s["devices"]);
    let devices = || before.and_then(Value::as_array).into_iter().flatten();
    let used_lists = devices()
        .flat_map(|d| d["attributes"].as_object().into_iter().flatten())
        .any(|(_, a)| LISTS.iter().any(|f| !a[f].is_null()));
    let used_mappings = devices().any(|d| !d["nodeAllocatableResourceMappings"].is_null());
    let Some(spec) = child(new, "spec") else { return };
    for device in items(spec, "devices") {
        if !used_mappings {
            device.remove("nodeAllocatableResourceMappings");
        }
        let Some(attributes) = child(device, "attributes").filter(|_| !used_lists) else {
            continue;
        };
        for attribute in attributes.values_mut().filter_map(Value::as_object_mut) {
            for field in LISTS {
                attribute.remove(field);
            }
        }
    }
}

/// A taint that does not say since when it is there is there since now.
fn date_taints(slice: &mut Map<String, Value>, now: &Value) {
    let Some(spec) = child(slice, "spec") else { return };
    for device in items(spec, "devices") {
        for taint in items(device, "taints").filter(|t| !has(t, "timeAdded")) {
            taint.insert("timeAdded".into(), now.clone());
        }
    }
}

fn check(slice: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(slice, TYPE).at("spec");
    driver(spec.path("driver"), spec.str("driver"), errors);
    let at = spec.at("pool");
    pool(at.path("name"), at.str("name"), errors);
    if at.int("resourceSliceCount") <= 0 {
        errors.invalid(
            at.path("resourceSliceCount"),
            at.int("resourceSliceCount"),
            "must be greater than zero",
        );
    }
    if at.int("generation") < 0 {
        errors.invalid(
            at.path("generation"),
            at.int("generation"),
            "must be greater than or equal to zero",
        );
    }
    if let Some(old) = old {
        let old = At::root(old, TYPE).at("spec");
        let name = old.at("pool");
        rules::immutable(at.path("name"), at.get("name"), name.get("name"), errors);
        for field in ["driver", "nodeName"] {
            rules::immutable(spec.path(field), spec.get(field), old.get(field), errors);
        }
    }
    placement(&spec, errors);
    if spec.has("sharedCounters") && spec.has("devices") {
        errors.invalid(&spec, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    devices(&spec, old, errors);
    if !too_many(&spec, "sharedCounters", MAX_COUNTER_SETS, errors) {
        for set in spec.items("sharedCounters") {
            device::counters(&set, "name", errors);
        }
        unique(spec.items("sharedCounters"), |s| s.str("name").into(), errors);
    }
}

/// Exactly one way of saying on which nodes the devices are.
fn placement(spec: &At<'_>, errors: &mut FieldErrors) {
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set = Vec::new();
    match spec.opt_str("nodeName") {
        None => {}
        Some("") => errors.invalid(
            spec.path("nodeName"),
            "",
            "must be either unset or set to a non-empty string",
        ),
        Some(node) => {
            set.push("`nodeName`");
            named(spec.path("nodeName"), node, names::dns_subdomain, errors);
        }
    }
    if let Some(selector) = spec.opt("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(&selector, errors);
        if selector.count("nodeSelectorTerms") != 1 {
            errors.invalid(
                selector.path("nodeSelectorTerms"),
                selector.get("nodeSelectorTerms").clone(),
                "must have exactly one node selector term",
            );
        }
    }
    for (field, shown) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        match spec.opt_bool(field) {
            None => {}
            Some(true) => set.push(shown),
            Some(false) => errors.invalid(spec.path(field), false, "must be either unset or set to true"),
        }
    }
    match set.len() {
        0 => errors.required(spec, ONE),
        1 => {}
        _ => errors.invalid(
            spec,
            format!("{{{}}}", set.join(", ")),
            &format!("{ONE}, but multiple fields are set"),
        ),
    }
}

fn devices(spec: &At<'_>, old: Option<&Value>, errors: &mut FieldErrors) {
    let advanced = |d: At<'_>| d.count("taints") + d.count("consumesCounters") > 0;
    let max = if spec.items("devices").any(advanced) {
        MAX_ADVANCED_DEVICES
    } else {
        MAX_DEVICES
    };
    if too_many(spec, "devices", max, errors) {
        return;
    }
    let before = old.and_then(|o| o["spec"]["devices"].as_array());
    for at in spec.items("devices") {
        let stored = before
            .into_iter()
            .flatten()
            .find(|d| &d["name"] == at.get("name"));
        device::validate(&at, stored, spec.bool("perDeviceNodeSelection"), errors);
    }
    unique(spec.items("devices"), |d| d.str("name").into(), errors);
}

impl Kind for ResourceSlice {
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        drop_disabled(object, None);
        let created = object
            .get("metadata")
            .map_or(Value::Null, |m| m["creationTimestamp"].clone());
        date_taints(object, &created);
    }

    fn stamp_update(
        &self,
        _part: Subresource,
        new: &mut Map<String, Value>,
        _old: &Map<String, Value>,
        now: Timestamp,
    ) {
        date_taints(new, &time::format_time(now).into());
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        drop_disabled(new, Some(old));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        check(object, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check(new, Some(old), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Node"),
                Column::string("Driver"),
                Column::string("Pool"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let text = |value: &Value| Value::from(value.as_str().unwrap_or_default());
        vec![
            meta::name(object).into(),
            // Upstream prints the pointer: no node is `null`.
            spec["nodeName"].clone(),
            text(&spec["driver"]),
            text(&spec["pool"]["name"]),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        let field = field.trim_start_matches("spec.");
        object["spec"][field].as_str().unwrap_or_default().into()
    }

    fn unknown_selectable(&self, field: &str) -> String {
        format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}")
    }
}
