//! PersistentVolumeClaim. Source: `pkg/apis/core/validation`, `ValidatePersistentVolumeClaim`, and
//! `pkg/registry/core/persistentvolumeclaim`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{Object, child, child_or_new, default};
use crate::kinds::common::difference::difference;
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::{resources, rules, selector};
use crate::quantity::Quantity;
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct PersistentVolumeClaim;

const TYPE: &str = "core.v1.PersistentVolumeClaim";
/// Named a class before `spec.storageClassName` existed, and still counts.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
pub const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizePending",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
];

/// Defaults of a claim or of a template of one.
pub fn set_defaults(claim: &mut Object) {
    let status = child_or_new(claim, "status");
    default(status, "phase", "Pending");
    for field in ["capacity", "allocatedResources"] {
        if let Some(list) = child(status, field) {
            resources::round_up(list);
        }
    }
    let spec = child_or_new(claim, "spec");
    default(spec, "volumeMode", "Filesystem");
    for field in ["limits", "requests"] {
        if let Some(list) = child(child_or_new(spec, "resources"), field) {
            resources::round_up(list);
        }
    }
}

impl Kind for PersistentVolumeClaim {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        set_defaults(object);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"phase": "Pending"}));
        let spec = child_or_new(object, "spec");
        drop_unknown_source(spec);
        drop_cross_namespace(spec);
        align_sources(spec);
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
        let spec = child_or_new(new, "spec");
        let had_namespace = old
            .get("spec")
            .is_some_and(|s| s["dataSourceRef"]["namespace"].is_string());
        if !had_namespace {
            drop_cross_namespace(spec);
        }
        // Claims made before the newer field existed are compared as if they had it.
        align_sources(spec);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_spec(&At::root(object, TYPE).at("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        status(&At::root(new, TYPE).at("status"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut out = Vec::new();
        if meta::annotation(object, CLASS_ANNOTATION).is_some() {
            out.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        fractional(&At::root(object, TYPE).at("spec"), &mut out);
        out
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status"),
                Column::string("Volume"),
                Column::string("Capacity"),
                Column::string("Access Modes"),
                Column::string("StorageClass"),
                Column::string("VolumeAttributesClass"),
                Column::AGE,
                Column::wide("VolumeMode"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let volume = spec["volumeName"].as_str().unwrap_or_default();
        let (capacity, modes) = match volume {
            "" => (String::new(), String::new()),
            _ => (
                status["capacity"]["storage"].as_str().unwrap_or("0").to_string(),
                modes_text(&status["accessModes"]),
            ),
        };
        vec![
            meta::name(object).into(),
            phase(object).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class(object).into(),
            spec["volumeAttributesClassName"]
                .as_str()
                .unwrap_or("<unset>")
                .into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            spec["volumeMode"].as_str().unwrap_or("<unset>").into(),
        ]
    }
}

/// What the Status column of volumes and claims says.
pub fn phase(object: &Value) -> &str {
    if meta::is_deleting(object) {
        "Terminating"
    } else {
        object["status"]["phase"].as_str().unwrap_or_default()
    }
}

/// The storage class of a volume or claim, by annotation or field.
pub fn class(object: &Value) -> &str {
    meta::annotation(object, CLASS_ANNOTATION)
        .or(object["spec"]["storageClassName"].as_str())
        .unwrap_or_default()
}

/// `RWO,ROX`: each mode once, in a fixed order.
pub fn modes_text(modes: &Value) -> String {
    let has = |mode: &str| modes.as_array().into_iter().flatten().any(|m| m == mode);
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| has(mode))
    .map(|(_, short)| *short)
    .collect::<Vec<_>>()
    .join(",")
}

/// Warns of sizes that are not whole bytes, in a claim's spec or a template of one.
pub fn fractional(spec: &At<'_>, out: &mut Vec<String>) {
    let resources = spec.at("resources");
    for list in ["requests", "limits"] {
        for (name, size) in resources.entries(list) {
            let text = size.text();
            if name == "storage" && text.parse::<Quantity>().is_ok_and(|q| !q.is_whole()) {
                out.push(format!(
                    "{size}: fractional byte value \"{text}\" is invalid, must be an integer"
                ));
            }
        }
    }
}

/// `accessModes` of a volume or claim, each known, the exclusive one alone.
pub fn access_modes(spec: &At<'_>, errors: &mut FieldErrors) {
    let (mut single, mut others) = (false, false);
    for mode in spec.strings("accessModes") {
        if !ACCESS_MODES.contains(&mode) {
            errors.not_supported(spec.path("accessModes"), mode, &ACCESS_MODES);
        }
        single |= mode == "ReadWriteOncePod";
        others |= mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode);
    }
    if single && others {
        errors.forbidden(
            spec.path("accessModes"),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

/// `spec` of a claim, or of a template of one.
pub fn validate_spec(spec: &At<'_>, errors: &mut FieldErrors) {
    if spec.count("accessModes") == 0 {
        errors.required(spec.path("accessModes"), "at least 1 access mode is required");
    }
    if let Some(at) = spec.opt("selector") {
        selector::label_selector(&at, errors);
    }
    access_modes(spec, errors);
    let place = spec.path("resources").key("storage");
    match spec.at("resources").get("requests").get("storage") {
        None => errors.required(place, ""),
        Some(size) => resources::positive(place, size.as_str().unwrap_or_default(), errors),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        rules::optional_name(spec, field, names::dns_subdomain, errors);
    }
    if let Some(mode) = spec.opt_str("volumeMode").filter(|m| !VOLUME_MODES.contains(m)) {
        errors.not_supported(spec.path("volumeMode"), mode, &VOLUME_MODES);
    }
    sources(spec, errors);
}

fn sources(spec: &At<'_>, errors: &mut FieldErrors) {
    let (source, reference) = (spec.opt("dataSource"), spec.opt("dataSourceRef"));
    for at in [&source, &reference].into_iter().flatten() {
        rules::filled(at, "name", errors);
        rules::filled(at, "kind", errors);
        let group = at.str("apiGroup");
        if group.is_empty() && at.str("kind") != "PersistentVolumeClaim" {
            errors.invalid(
                at.here(),
                at.str("kind"),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
        rules::optional_name(at, "apiGroup", names::dns_subdomain, errors);
    }
    let Some(reference) = reference else { return };
    rules::optional_name(&reference, "namespace", names::dns_label, errors);
    let Some(source) = source else { return };
    let text = if !reference.str("namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if ["apiGroup", "kind", "name"]
        .iter()
        .any(|f| source.get(f) != reference.get(f))
    {
        "must match dataSourceRef"
    } else {
        return;
    };
    // Upstream shows the path object as the value, whose fields are private.
    errors.invalid(spec.here(), Raw("{}".into()), text);
}

/// Sources other than claims and snapshots only exist as `dataSourceRef`.
fn drop_unknown_source(spec: &mut Object) {
    let Some(source) = spec.get("dataSource") else {
        return;
    };
    let group = source["apiGroup"].as_str().unwrap_or_default();
    let kind = source["kind"].as_str().unwrap_or_default();
    if !matches!(
        (group, kind),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    ) {
        spec.remove("dataSource");
    }
}

/// References into other namespaces are behind a feature that is off.
fn drop_cross_namespace(spec: &mut Object) {
    if let Some(reference) = spec.get_mut("dataSourceRef").and_then(Value::as_object_mut)
        && reference
            .get("namespace")
            .and_then(Value::as_str)
            .is_some_and(|n| !n.is_empty())
    {
        spec.remove("dataSourceRef");
    }
}

/// The two names of a source say the same.
fn align_sources(spec: &mut Object) {
    match (
        spec.get("dataSource").cloned(),
        spec.get("dataSourceRef").cloned(),
    ) {
        (Some(source), None) => drop(spec.insert("dataSourceRef".into(), source)),
        (None, Some(reference)) if reference["namespace"].is_null() => {
            spec.insert("dataSource".into(), reference);
        }
        _ => {}
    }
}

fn size(spec: &Value) -> Quantity {
    let text = spec["resources"]["requests"]["storage"].as_str();
    text.unwrap_or_default().parse().unwrap_or_default()
}

fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (mut wanted, mut before) = (new["spec"].clone(), old["spec"].clone());
    let annotation = |object: &Value| meta::annotation(object, CLASS_ANNOTATION).map(str::to_string);
    if before["volumeName"].as_str().unwrap_or_default().is_empty() {
        copy(&mut before, &wanted, "volumeName");
    }
    let (old_class, new_class) = (annotation(old), annotation(new));
    let named = wanted["storageClassName"].as_str().map(str::to_string);
    let unnamed = before["storageClassName"].is_null();
    if unnamed && old_class.is_some() && named == old_class && (new_class.is_none() || new_class == old_class)
    {
        copy(&mut wanted, &json!({}), "storageClassName");
    } else {
        if old_class != new_class {
            errors.invalid(
                format!("metadata.annotations[{CLASS_ANNOTATION}]"),
                new_class.unwrap_or_default(),
                rules::IMMUTABLE,
            );
        }
        if unnamed && named.is_some() && (old_class.is_none() || named == old_class) {
            let before = before.clone();
            copy(&mut wanted, &before, "storageClassName");
        }
    }
    if new["status"]["phase"] == "Bound"
        && let Some(requests) = wanted["resources"]["requests"].as_object_mut()
    {
        requests.insert(
            "storage".into(),
            before["resources"]["requests"]["storage"].clone(),
        );
    }
    copy(&mut wanted, &before.clone(), "volumeAttributesClassName");
    if wanted != before {
        errors.forbidden(
            "spec",
            &format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                difference("core.PersistentVolumeClaimSpec", &before, &wanted)
            ),
        );
    }
    let capacity: Quantity = old["status"]["capacity"]["storage"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    let wanted_size = size(&new["spec"]);
    if wanted_size < size(&old["spec"]) && wanted_size <= capacity {
        errors.forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        );
    }
    rules::immutable_pointer(
        "volumeMode",
        &new["spec"]["volumeMode"],
        &old["spec"]["volumeMode"],
        errors,
    );
    if old["spec"]["volumeAttributesClassName"].is_string() {
        let text = match new["spec"]["volumeAttributesClassName"].as_str() {
            None => "update from non-nil value to nil is forbidden",
            Some("") => "update from non-nil value to an empty string is forbidden",
            Some(_) => return,
        };
        errors.forbidden("spec.volumeAttributesClassName", text);
    }
}

/// Makes a field of `to` what it is in `from`.
fn copy(to: &mut Value, from: &Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

fn status(status: &At<'_>, errors: &mut FieldErrors) {
    for (_, amount) in status.entries("capacity") {
        resources::basic(&amount, amount.text(), errors);
    }
    for (name, state) in status.entries("allocatedResourceStatuses") {
        let place = "status.allocatedResourceStatus";
        resource_key(place, name, errors);
        if !RESIZE_STATES.contains(&state.text()) {
            errors.not_supported(place, name, &sorted(&RESIZE_STATES));
        }
    }
    for (name, amount) in status.entries("allocatedResources") {
        let found = errors.len();
        resource_key(status.path("allocatedResources"), name, errors);
        if errors.len() > found {
            continue;
        }
        resources::basic(&amount, amount.text(), errors);
        if errors.len() == found {
            resources::amount(&amount, "storage", amount.text(), errors);
        }
    }
}

fn sorted<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words
}

/// Of Kubernetes' own resources only storage makes sense here.
fn resource_key(place: impl std::fmt::Display, name: &str, errors: &mut FieldErrors) {
    let found = errors.len();
    rules::named(&place, name, names::qualified_name, errors);
    if errors.len() == found && resources::is_native(name) && name != "storage" {
        errors.not_supported(place, name, &["storage"]);
    }
}
