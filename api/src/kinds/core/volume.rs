//! PersistentVolume. Source: `pkg/apis/core/validation`, `ValidatePersistentVolume`, and
//! `pkg/registry/core/persistentvolume`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::claim::{self, VOLUME_MODES};
use super::pod::affinity;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default, str};
use crate::kinds::common::difference::difference;
use crate::kinds::common::{go_value, resources, rules};
use crate::resource::{Kind, Subresource};
use crate::table::Column;
use crate::{humanize, meta, names, time};

pub(crate) mod source;

pub struct PersistentVolume;

const TYPE: &str = "core.v1.PersistentVolume";
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];
const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl Kind for PersistentVolume {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        default(child_or_new(object, "status"), "phase", "Pending");
        let spec = child_or_new(object, "spec");
        default(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = child(spec, "capacity") {
            resources::round_up(capacity);
        }
        source::set_defaults(spec);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        let created = object.get("metadata").map(|m| m["creationTimestamp"].clone());
        object.insert(
            "status".into(),
            json!({"phase": "Pending", "lastPhaseTransitionTime": created}),
        );
    }

    fn stamp_update(
        &self,
        part: Subresource,
        new: &mut Map<String, Value>,
        old: &Map<String, Value>,
        now: Timestamp,
    ) {
        const SINCE: &str = "lastPhaseTransitionTime";
        if part != Subresource::Status {
            return;
        }
        let none = Map::new();
        let before = old.get("status").and_then(Value::as_object).unwrap_or(&none);
        let status = child_or_new(new, "status");
        let changed = str(before, "phase") != str(status, "phase");
        match (changed, status.get(SINCE), before.get(SINCE)) {
            (false, None, Some(since)) => drop(status.insert(SINCE.into(), since.clone())),
            (true, given, since) if given.is_none() || given == since => {
                status.insert(SINCE.into(), time::format_time(now).into());
            }
            _ => {}
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        spec(&At::root(object, TYPE).at("spec"), false, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update(&new["spec"], &old["spec"], errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings(object)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Capacity"),
                Column::string("Access Modes"),
                Column::string("Reclaim Policy"),
                Column::string("Status"),
                Column::string("Claim"),
                Column::string("StorageClass"),
                Column::string("VolumeAttributesClass"),
                Column::string("Reason"),
                Column::AGE,
                Column::wide("VolumeMode"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let claim = match &spec["claimRef"] {
            Value::Object(_) => format!(
                "{}/{}",
                text(&spec["claimRef"]["namespace"]),
                text(&spec["claimRef"]["name"])
            ),
            _ => String::new(),
        };
        vec![
            meta::name(object).into(),
            spec["capacity"]["storage"].as_str().unwrap_or("0").into(),
            claim::modes_text(&spec["accessModes"]).into(),
            text(&spec["persistentVolumeReclaimPolicy"]).into(),
            claim::phase(object).into(),
            claim.into(),
            claim::class(object).into(),
            spec["volumeAttributesClassName"]
                .as_str()
                .unwrap_or("<unset>")
                .into(),
            text(&status["reason"]).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            spec["volumeMode"].as_str().unwrap_or("<unset>").into(),
        ]
    }
}

/// A volume's spec. `inline`: inside a VolumeAttachment, where only a CSI source makes sense and no claim,
/// capacity, class or node affinity does.
pub(crate) fn spec(spec: &At<'_>, inline: bool, errors: &mut FieldErrors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    if inline {
        if spec.has("claimRef") {
            errors.forbidden(spec.path("claimRef"), INLINE);
        }
        if spec.count("capacity") > 0 {
            errors.forbidden(spec.path("capacity"), INLINE);
        }
        if !spec.has("csi") {
            errors.required(
                spec.path("csi"),
                "has to be specified in the context of inline volumes",
            );
        }
    }
    if spec.count("accessModes") == 0 {
        errors.required(spec.path("accessModes"), "");
    }
    claim::access_modes(spec, errors);
    if !inline {
        capacity(spec, errors);
    }
    let policy = spec.str("persistentVolumeReclaimPolicy");
    if inline && !matches!(policy, "" | "Retain") {
        errors.forbidden(
            spec.path("persistentVolumeReclaimPolicy"),
            "may only be Retain in the context of inline volumes",
        );
    } else if !inline && !policy.is_empty() && !RECLAIM.contains(&policy) {
        errors.not_supported(spec.path("persistentVolumeReclaimPolicy"), policy, &RECLAIM);
    }
    if let Some(at) = spec.opt("nodeAffinity") {
        match at.opt("required") {
            _ if inline => errors.forbidden(at.here(), INLINE),
            Some(required) => affinity::node_selector(&required, errors),
            None => errors.required(at.path("required"), "must specify required node constraints"),
        }
    }
    source::validate(spec, errors);
    if policy == "Recycle" && is_root(spec.at("hostPath").str("path")) {
        errors.forbidden(
            spec.path("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    if inline && !spec.str("storageClassName").is_empty() {
        errors.forbidden(spec.path("storageClassName"), INLINE);
    } else {
        rules::optional_name(spec, "storageClassName", names::dns_subdomain, errors);
    }
    match spec.opt_str("volumeMode") {
        Some(mode) if inline && mode != "Filesystem" => errors.forbidden(
            spec.path("volumeMode"),
            "may not specify volumeMode other than Filesystem in the context of inline volumes",
        ),
        Some(mode) if !VOLUME_MODES.contains(&mode) => {
            errors.not_supported(spec.path("volumeMode"), mode, &VOLUME_MODES);
        }
        _ => {}
    }
    attributes_class(spec, errors);
}

fn attributes_class(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(class) = spec.opt_str("volumeAttributesClassName") else {
        return;
    };
    if class.is_empty() {
        errors.required(
            spec.path("volumeAttributesClassName"),
            "an empty string is disallowed",
        );
    }
    rules::optional_name(spec, "volumeAttributesClassName", names::dns_subdomain, errors);
    if !spec.has("csi") {
        errors.required(
            spec.path("csi"),
            "has to be specified when using volumeAttributesClassName",
        );
    }
}

fn capacity(spec: &At<'_>, errors: &mut FieldErrors) {
    if spec.count("capacity") == 0 {
        errors.required(spec.path("capacity"), "");
    }
    if spec.get("capacity").get("storage").is_none() || spec.count("capacity") > 1 {
        errors.not_supported(
            spec.path("capacity"),
            go_value::list(spec.get("capacity")),
            &["storage"],
        );
    }
    for (_, amount) in spec.entries("capacity") {
        resources::basic(&amount, amount.text(), errors);
        resources::positive(&amount, amount.text(), errors);
    }
}

/// True for `/` and other ways to write it.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && {
        let mut depth = 0usize;
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => depth = depth.saturating_sub(1),
                _ => depth += 1,
            }
        }
        depth == 0
    }
}

fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let mut wanted = source::only(new);
    let before = source::only(old);
    if before["csi"].is_object()
        && before["csi"]["controllerExpandSecretRef"].is_null()
        && let Some(csi) = wanted["csi"].as_object_mut()
    {
        csi.remove("controllerExpandSecretRef");
    }
    if wanted != before {
        errors.forbidden(
            "spec.persistentvolumesource",
            &format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                difference("core.PersistentVolumeSource", &before, &wanted)
            ),
        );
    }
    rules::immutable_pointer("volumeMode", &new["volumeMode"], &old["volumeMode"], errors);
    if !old["nodeAffinity"].is_null() {
        rules::immutable_pointer("nodeAffinity", &new["nodeAffinity"], &old["nodeAffinity"], errors);
    }
    if old["volumeAttributesClassName"].is_string() && new["volumeAttributesClassName"].is_null() {
        errors.forbidden(
            "spec.volumeAttributesClassName",
            "update from non-nil value to nil is forbidden",
        );
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (annotation, since, instead) in [
        (CLASS_ANNOTATION, "v1.8", "storageClassName"),
        (MOUNT_OPTIONS_ANNOTATION, "v1.31", "mountOptions"),
    ] {
        if meta::annotation(object, annotation).is_some() {
            out.push(format!(
                "metadata.annotations[{annotation}]: deprecated since {since}; use \"{instead}\" attribute instead"
            ));
        }
    }
    let spec = &object["spec"];
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    for (field, text) in [
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        (
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if !spec[field].is_null() {
            let name = if field == "storageos" { "storageOS" } else { field };
            out.push(format!("spec.{name}: {text}"));
        }
    }
    out
}
