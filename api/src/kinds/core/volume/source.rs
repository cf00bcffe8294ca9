//! Where a PersistentVolume's bytes are: exactly one of the sources, each with its own fields.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{Object, child, default, has};
use crate::kinds::common::rules;
use crate::kinds::core::pod::volume;
use crate::names;

/// All sources, in the order upstream looks at them.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Strings a source cannot be without.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["image"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
];

const DEFAULTS: &[(&str, &[(&str, &str)])] = &[
    ("iscsi", &[("iscsiInterface", "default")]),
    (
        "rbd",
        &[
            ("pool", "rbd"),
            ("user", "admin"),
            ("keyring", "/etc/ceph/keyring"),
        ],
    ),
    (
        "azureDisk",
        &[
            ("cachingMode", "ReadWrite"),
            ("kind", "Shared"),
            ("fsType", "ext4"),
        ],
    ),
    (
        "scaleIO",
        &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
    ),
];

/// Defaults of the sources that have some, in a PersistentVolume's spec or a Pod's volume.
pub fn set_defaults(spec: &mut Object) {
    if let Some(path) = child(spec, "hostPath")
        && !has(path, "type")
    {
        path.insert("type".into(), "".into());
    }
    for (field, values) in DEFAULTS {
        if let Some(source) = child(spec, field) {
            for (key, value) in *values {
                default(source, key, *value);
            }
        }
    }
    if let Some(source) = child(spec, "azureDisk") {
        default(source, "readOnly", false);
    }
}

/// The fields of the spec that are sources.
pub fn only(spec: &Value) -> Value {
    let fields = spec.as_object().into_iter().flatten();
    let sources: Map<String, Value> = fields
        .filter(|(name, _)| SOURCES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(sources)
}

/// Exactly one source, with what it needs.
pub fn validate(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut found = 0;
    for field in SOURCES {
        let Some(at) = spec.opt(field) else { continue };
        found += 1;
        if found > 1 && field != "flexVolume" {
            errors.forbidden(at.here(), "may not specify more than 1 volume type");
            continue;
        }
        for (_, names) in REQUIRED.iter().filter(|(name, _)| *name == field) {
            for name in *names {
                rules::filled(&at, name, errors);
            }
        }
        source(field, &at, spec, errors);
    }
    if found == 0 {
        errors.required(spec.here(), "must specify a volume type");
    }
}

fn source(field: &str, at: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    match field {
        "hostPath" => volume::host_path(at, errors),
        "nfs" => volume::nfs(at, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => byte(at, "partition", errors),
        "rbd" | "cephfs" if at.count("monitors") == 0 => errors.required(at.path("monitors"), ""),
        "glusterfs" => {
            if let Some(namespace) = at.opt_str("endpointsNamespace") {
                if namespace.is_empty() {
                    errors.invalid(
                        at.path("endpointsNamespace"),
                        namespace,
                        "if the endpointnamespace is set, it must be a valid namespace name",
                    );
                }
                rules::optional_name(at, "endpointsNamespace", names::dns_label, errors);
            }
        }
        "flocker" => flocker(at, errors),
        "quobyte" => quobyte(at, errors),
        "iscsi" => iscsi(at, errors),
        "fc" => fibre_channel(at, errors),
        "azureFile" if at.opt_str("secretNamespace") == Some("") => errors.invalid(
            at.path("secretNamespace"),
            "",
            "secretNamespace must not be empty",
        ),
        "azureDisk" => azure_disk(at, errors),
        "local" => {
            volume::no_backsteps(at.path("path"), at.str("path"), errors);
            if !spec.has("nodeAffinity") {
                errors.required(spec.path("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => csi(at, errors),
        _ => {}
    }
}

/// A number of one byte.
fn byte(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    let value = at.int(field);
    if !(0..=255).contains(&value) {
        errors.invalid(at.path(field), value, &names::inclusive_range_text(0, 255));
    }
}

fn flocker(at: &At<'_>, errors: &mut FieldErrors) {
    let (name, uuid) = (at.str("datasetName"), at.str("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(at.here(), "one of datasetName and datasetUUID is required");
    } else if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(
            at.here(),
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        );
    }
    if name.contains('/') {
        errors.invalid(at.path("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(at: &At<'_>, errors: &mut FieldErrors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    const MAX_TENANT: usize = 65;
    let registry = at.str("registry");
    if registry.is_empty() {
        errors.required(at.path("registry"), PAIRS);
    } else if at.str("tenant").len() >= MAX_TENANT {
        errors.required(
            at.path("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else {
        let pair = |text: &str| {
            text.rsplit_once(':')
                .is_some_and(|(h, p)| !h.is_empty() && !p.is_empty())
        };
        for text in registry.split(',').filter(|text| !pair(text)) {
            errors.invalid(at.path("registry"), text, PAIRS);
        }
    }
    rules::filled(at, "volume", errors);
}

fn iscsi(at: &At<'_>, errors: &mut FieldErrors) {
    let iqn = at.str("iqn");
    if !iqn.is_empty() && !["iqn", "eui", "naa"].iter().any(|p| iqn.starts_with(p)) {
        errors.invalid(
            at.path("iqn"),
            iqn,
            "must be valid format starting with iqn, eui, or naa",
        );
    }
    byte(at, "lun", errors);
    let chap = at.bool("chapAuthDiscovery") || at.bool("chapAuthSession");
    if chap && !at.has("secretRef") {
        errors.required(at.path("secretRef"), "");
    }
    if let Some(secret) = at.opt("secretRef") {
        rules::filled(&secret, "name", errors);
    }
}

fn fibre_channel(at: &At<'_>, errors: &mut FieldErrors) {
    match (at.count("targetWWNs"), at.count("wwids")) {
        (0, 0) => errors.required(
            at.path("targetWWNs"),
            "must specify either targetWWNs or wwids, but not both",
        ),
        (0, _) => {}
        (_, 0) => match at.opt_int("lun") {
            None => errors.required(at.path("lun"), "lun is required if targetWWNs is specified"),
            Some(_) => byte(at, "lun", errors),
        },
        (_, _) => errors.invalid(
            at.path("targetWWNs"),
            at.get("targetWWNs").clone(),
            "targetWWNs and wwids can not be specified simultaneously",
        ),
    }
}

fn azure_disk(at: &At<'_>, errors: &mut FieldErrors) {
    const CACHING: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
    const KINDS: [&str; 3] = ["Dedicated", "Managed", "Shared"];
    for (field, words) in [("cachingMode", CACHING), ("kind", KINDS)] {
        if let Some(word) = at.opt_str(field).filter(|w| !words.contains(w)) {
            errors.not_supported(at.path(field), word, &words);
        }
    }
    let uri = at.str("diskURI");
    if at.str("kind") == "Managed" && !uri.starts_with("/subscriptions/") {
        errors.not_supported(
            at.path("diskURI"),
            uri,
            &["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"],
        );
    }
    if at.str("kind") != "Managed" && !uri.starts_with("https://") {
        errors.not_supported(
            at.path("diskURI"),
            uri,
            &["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"],
        );
    }
}

fn csi(at: &At<'_>, errors: &mut FieldErrors) {
    rules::csi_driver_name(at.path("driver"), at.str("driver"), errors);
    rules::filled(at, "volumeHandle", errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = at.opt(field) {
            secret_reference(&secret, errors);
        }
    }
}

fn secret_reference(at: &At<'_>, errors: &mut FieldErrors) {
    rules::required_name(at, "name", names::dns_subdomain, errors);
    rules::required_name(at, "namespace", names::dns_label, errors);
}
