//! Validation of volumes.

use std::collections::BTreeSet;

pub(crate) use super::container::no_backsteps;
use super::container::{descending, resource_ref, volume_field_ref};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{self, FILE_MODE, named};
use crate::kinds::core::claim;
use crate::names;

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// All sources, in the order upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flexVolume",
    "configMap",
    "rbd",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "persistentVolumeClaim",
    "scaleIO",
    "storageos",
    "projected",
    "csi",
    "ephemeral",
    "image",
];

/// Checks the volumes of a Pod; their names.
pub fn volumes<'a>(spec: &At<'a>, errors: &mut FieldErrors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for volume in spec.items("volumes") {
        rules::required_name(&volume, "name", names::dns_label, errors);
        let name = volume.str("name");
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(volume.path("name"), name);
        }
        source(&volume, errors);
    }
    seen
}

fn source(volume: &At<'_>, errors: &mut FieldErrors) {
    let mut found = 0;
    // A volume has one: its few fields are looked for among the sources, not each source among its fields.
    let place = |name: &str| SOURCES.iter().position(|source| *source == name);
    let mut given: Vec<usize> = volume.names().filter_map(place).collect();
    given.sort_unstable();
    for field in given.into_iter().map(|place| SOURCES[place]) {
        let Some(at) = volume.opt(field) else { continue };
        found += 1;
        if found > 1 {
            errors.forbidden(at.here(), "may not specify more than 1 volume type");
            continue;
        }
        match field {
            "emptyDir" if at.str("sizeLimit").starts_with('-') => {
                errors.forbidden(
                    at.path("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
            "hostPath" => host_path(&at, errors),
            "secret" => keyed(&at, "secretName", errors),
            "configMap" => keyed(&at, "name", errors),
            "nfs" => nfs(&at, errors),
            "persistentVolumeClaim" => rules::filled(&at, "claimName", errors),
            "downwardAPI" => {
                mode(&at, "defaultMode", errors);
                downward(&at, errors);
            }
            "projected" => projected(&at, errors),
            "csi" => rules::csi_driver_name(at.path("driver"), at.str("driver"), errors),
            "ephemeral" => match at.opt("volumeClaimTemplate") {
                None => errors.required(at.path("volumeClaimTemplate"), ""),
                Some(template) => claim::validate_spec(&template.at("spec"), errors),
            },
            "gitRepo" => rules::filled(&at, "repository", errors),
            // The remaining sources only have fields that their drivers check; a claim of them is refused there.
            _ => {}
        }
    }
    if found == 0 {
        errors.required(volume.here(), "must specify a volume type");
    }
}

pub(crate) fn host_path(at: &At<'_>, errors: &mut FieldErrors) {
    rules::filled(at, "path", errors);
    no_backsteps(at.path("path"), at.str("path"), errors);
    if let Some(kind) = at.opt_str("type").filter(|t| !HOST_PATH_TYPES.contains(t)) {
        errors.not_supported(at.path("type"), kind, &HOST_PATH_TYPES);
    }
}

pub(crate) fn nfs(at: &At<'_>, errors: &mut FieldErrors) {
    rules::filled(at, "server", errors);
    rules::filled(at, "path", errors);
    if !at.str("path").is_empty() && !at.str("path").starts_with('/') {
        errors.invalid(at.path("path"), at.str("path"), "must be an absolute path");
    }
}

fn mode(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    if let Some(mode) = at.opt_int(field).filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(at.path(field), mode, FILE_MODE);
    }
}

fn keyed(at: &At<'_>, name: &'static str, errors: &mut FieldErrors) {
    rules::filled(at, name, errors);
    mode(at, "defaultMode", errors);
    key_paths(at, errors);
}

fn key_paths(at: &At<'_>, errors: &mut FieldErrors) {
    for item in at.items("items") {
        rules::filled(&item, "key", errors);
        local_path(&item, errors);
        mode(&item, "mode", errors);
    }
}

/// A path inside the volume that the volume's own bookkeeping does not use.
fn local_path(item: &At<'_>, errors: &mut FieldErrors) {
    let path = item.str("path");
    if path.is_empty() {
        errors.required(item.path("path"), "");
        return;
    }
    descending(item.path("path"), path, errors);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        errors.invalid(item.path("path"), path, "must not start with '..'");
    }
}

fn downward(at: &At<'_>, errors: &mut FieldErrors) {
    for item in at.items("items") {
        local_path(&item, errors);
        match (item.opt("fieldRef"), item.opt("resourceFieldRef")) {
            (Some(_), Some(_)) => errors.invalid(
                item.here(),
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (Some(field), None) => volume_field_ref(&field, errors),
            (None, Some(resource)) => {
                rules::filled(&resource, "containerName", errors);
                resource_ref(&resource, errors);
            }
            (None, None) => errors.required(item.here(), "one of fieldRef and resourceFieldRef is required"),
        }
        mode(&item, "mode", errors);
    }
}

fn projected(at: &At<'_>, errors: &mut FieldErrors) {
    mode(at, "defaultMode", errors);
    let mut paths = BTreeSet::new();
    for source in at.items("sources") {
        let mut found = 0;
        for field in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let Some(item) = source.opt(field) else { continue };
            found += 1;
            if found > 1 {
                errors.forbidden(source.path(field), "may not specify more than 1 volume type");
                continue;
            }
            match field {
                "secret" | "configMap" => {
                    rules::filled(&item, "name", errors);
                    key_paths(&item, errors);
                }
                "downwardAPI" => downward(&item, errors),
                "serviceAccountToken" => token(&item, errors),
                _ => {}
            }
            if field != "serviceAccountToken" && matches!(field, "secret" | "configMap" | "downwardAPI") {
                for entry in item.items("items") {
                    let path = entry.str("path");
                    if !path.is_empty() && !paths.insert(path) {
                        errors.invalid(source.path(field), path, "conflicting duplicate paths");
                    }
                }
            }
        }
        if found == 0 {
            errors.required(source.here(), "must specify exactly one of [secret configMap downwardAPI serviceAccountToken clusterTrustBundle podCertificate]");
        }
    }
}

fn token(at: &At<'_>, errors: &mut FieldErrors) {
    const SHORTEST: i64 = 600;
    let seconds = at.int("expirationSeconds");
    if seconds < SHORTEST {
        errors.invalid(
            at.path("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > 1 << 32 {
        errors.invalid(
            at.path("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    match at.str("path") {
        "" => errors.required(at.path("path"), ""),
        path => descending(at.path("path"), path, errors),
    }
}

/// A list of references to Secrets: each needs a name.
pub fn pull_secrets(spec: &At<'_>, errors: &mut FieldErrors) {
    for secret in spec.items("imagePullSecrets") {
        if secret.str("name").is_empty() {
            errors.required(secret.here(), "name is required");
        }
    }
    if !spec.str("serviceAccountName").is_empty() {
        named(
            spec.path("serviceAccountName"),
            spec.str("serviceAccountName"),
            names::dns_subdomain,
            errors,
        );
    }
}
