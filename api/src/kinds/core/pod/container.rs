//! Validation of containers: images, ports, environment, resources, mounts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::probe::{self, ProbeKind};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::resources;
use crate::kinds::common::rules::{self, PROTOCOLS, named};
use crate::names;
use crate::quantity::Quantity;

/// What a container's checks need to know of its Pod.
pub struct Around<'a> {
    pub volumes: BTreeSet<&'a str>,
    /// Volumes whose claim is a block device are not told apart here; devices name any volume.
    pub host_network: bool,
    pub grace: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Main,
    Init,
    Ephemeral,
}

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];

pub fn container<'a>(at: &At<'a>, role: Role, around: &Around<'_>, errors: &mut FieldErrors) {
    rules::required_name(at, "name", names::dns_label, errors);
    let image = at.str("image");
    if image.is_empty() {
        errors.required(at.path("image"), "");
    } else if image.trim() != image {
        errors.invalid(
            at.path("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    match at.str("terminationMessagePolicy") {
        "" => errors.required(at.path("terminationMessagePolicy"), ""),
        "File" | "FallbackToLogsOnError" => {}
        other => errors.not_supported(
            at.path("terminationMessagePolicy"),
            other,
            &["FallbackToLogsOnError", "File"],
        ),
    }
    rules::one_of(at, "imagePullPolicy", &PULL_POLICIES, errors);
    if role == Role::Ephemeral {
        for field in [
            "ports",
            "resources",
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            let set = match field {
                "resources" => at.at(field).count("limits") + at.at(field).count("requests") > 0,
                _ => at.has(field),
            };
            if set {
                errors.forbidden(at.path(field), "cannot be set for an Ephemeral Container");
            }
        }
    } else {
        ports(at, around, errors);
        requirements(&at.at("resources"), errors);
        probes(at, role, around, errors);
    }
    env(at, errors);
    env_from(at, errors);
    mounts(at, around, errors);
    if let Some(context) = at.opt("securityContext") {
        security_context(&context, errors);
    }
    if let Some(policy) = at.opt_str("restartPolicy")
        && !RESTART_POLICIES.contains(&policy)
    {
        errors.not_supported(at.path("restartPolicy"), policy, &RESTART_POLICIES);
    }
}

fn probes(at: &At<'_>, role: Role, around: &Around<'_>, errors: &mut FieldErrors) {
    let plain_init = role == Role::Init && at.str("restartPolicy") != "Always";
    if let Some(lifecycle) = at.opt("lifecycle") {
        if plain_init {
            errors.forbidden(
                lifecycle.here(),
                "may not be set for init containers without restartPolicy=Always",
            );
        } else {
            probe::lifecycle(&lifecycle, around.grace, errors);
        }
    }
    for (field, kind) in [
        ("livenessProbe", ProbeKind::Liveness),
        ("readinessProbe", ProbeKind::Readiness),
        ("startupProbe", ProbeKind::Startup),
    ] {
        if let Some(at) = at.opt(field) {
            if plain_init {
                errors.forbidden(
                    at.here(),
                    "may not be set for init containers without restartPolicy=Always",
                );
            } else {
                probe::probe(&at, kind, around.grace, errors);
            }
        }
    }
}

fn ports(at: &At<'_>, around: &Around<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for port in at.items("ports") {
        let name = port.str("name");
        if !name.is_empty() {
            let found = errors.len();
            named(port.path("name"), name, names::port_name, errors);
            if errors.len() == found && !seen.insert(name) {
                errors.duplicate(port.path("name"), name);
            }
        }
        match port.int("containerPort") {
            0 => errors.required(port.path("containerPort"), ""),
            number => rules::port(port.path("containerPort"), number, errors),
        }
        let host = port.int("hostPort");
        if host != 0 {
            rules::port(port.path("hostPort"), host, errors);
            if around.host_network && host != port.int("containerPort") {
                errors.invalid(
                    port.path("containerPort"),
                    port.int("containerPort"),
                    "must match `hostPort` when `hostNetwork` is true",
                );
            }
        }
        rules::one_of(&port, "protocol", &PROTOCOLS, errors);
        if let Some(ip) = port.opt_str("hostIP").filter(|ip| !ip.is_empty()) {
            named(port.path("hostIP"), ip, names::ip, errors);
        }
    }
}

const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that exist for conversion and that only volumes may use.
const VOLUME_PATHS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCE_PATHS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn env(at: &At<'_>, errors: &mut FieldErrors) {
    for env in at.items("env") {
        rules::required_name(&env, "name", names::env_var_name, errors);
        if let Some(from) = env.opt("valueFrom") {
            value_from(&env, &from, errors);
        }
    }
}

fn value_from(env: &At<'_>, from: &At<'_>, errors: &mut FieldErrors) {
    let mut sources = 0;
    if let Some(field) = from.opt("fieldRef") {
        sources += 1;
        field_ref(&field, &FIELD_PATHS, errors);
    }
    if let Some(resource) = from.opt("resourceFieldRef") {
        sources += 1;
        resource_ref(&resource, errors);
    }
    for (field, rule) in [("configMapKeyRef", "name"), ("secretKeyRef", "name")] {
        if let Some(key) = from.opt(field) {
            sources += 1;
            named(key.path(rule), key.str("name"), names::dns_subdomain, errors);
            rules::required_name(&key, "key", names::config_key, errors);
        }
    }
    if let Some(file) = from.opt("fileKeyRef") {
        sources += 1;
        for field in ["volumeName", "path", "key"] {
            if file.str(field).is_empty() {
                errors.required(file.path(field), "");
            }
        }
    }
    let text = match (sources, env.str("value")) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (_, value) if !value.is_empty() => "may not be specified when `value` is not empty",
        (n, _) if n > 1 => "may not have more than one field specified at a time",
        _ => return,
    };
    errors.invalid(from.here(), "", text);
}

/// A reference to one of the Pod's own fields.
pub fn field_ref(at: &At<'_>, supported: &[&str], errors: &mut FieldErrors) {
    if at.str("apiVersion").is_empty() {
        errors.required(at.path("apiVersion"), "");
        return;
    }
    let path = at.str("fieldPath");
    if path.is_empty() {
        errors.required(at.path("fieldPath"), "");
        return;
    }
    let convertible = |p: &str| FIELD_PATHS.contains(&p) || VOLUME_PATHS.contains(&p);
    match path
        .split_once('[')
        .and_then(|(base, key)| Some((base, key.strip_suffix(']')?.trim_matches('\''))))
    {
        Some(("metadata.annotations", key)) => {
            named(at.here(), &key.to_lowercase(), names::qualified_name, errors);
        }
        Some(("metadata.labels", key)) => named(at.here(), key, names::qualified_name, errors),
        Some((base, _)) if convertible(base) => {
            errors.invalid(at.path("fieldPath"), path, "does not support subscript");
        }
        _ if !convertible(path) => errors.invalid(
            at.path("fieldPath"),
            path,
            &format!("error converting fieldPath: field label not supported: {path}"),
        ),
        _ if !supported.contains(&path) => errors.not_supported(at.path("fieldPath"), path, supported),
        _ => {}
    }
}

/// The fields a volume may show.
pub fn volume_field_ref(at: &At<'_>, errors: &mut FieldErrors) {
    field_ref(at, &VOLUME_PATHS, errors);
}

pub fn resource_ref(at: &At<'_>, errors: &mut FieldErrors) {
    let resource = at.str("resource");
    if resource.is_empty() {
        errors.required(at.path("resource"), "");
    } else if !RESOURCE_PATHS.contains(&resource)
        && !resource.starts_with("limits.hugepages-")
        && !resource.starts_with("requests.hugepages-")
    {
        errors.not_supported(at.path("resource"), resource, &RESOURCE_PATHS);
    }
    let divisor = at.str("divisor");
    if divisor.starts_with('-') {
        errors.invalid(at.path("divisor"), divisor, rules::NOT_NEGATIVE);
    }
}

fn env_from(at: &At<'_>, errors: &mut FieldErrors) {
    for source in at.items("envFrom") {
        if !source.str("prefix").is_empty() {
            named(
                source.path("prefix"),
                source.str("prefix"),
                names::env_var_name,
                errors,
            );
        }
        let mut found = 0;
        for field in ["configMapRef", "secretRef"] {
            if let Some(reference) = source.opt(field) {
                found += 1;
                named(
                    reference.path("name"),
                    reference.str("name"),
                    names::dns_subdomain,
                    errors,
                );
            }
        }
        match found {
            0 => errors.invalid(
                source.here(),
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => errors.invalid(
                source.here(),
                "",
                "may not have more than one field specified at a time",
            ),
        }
    }
}

/// Limits and requests of a container.
pub fn requirements(at: &At<'_>, errors: &mut FieldErrors) {
    let limits = amounts(at, "limits", errors);
    let requests = amounts(at, "requests", errors);
    for (name, request) in &requests {
        match limits.iter().find(|(n, _)| n == name) {
            Some((_, limit)) if request > limit => errors.invalid(
                at.path("requests"),
                request.to_string(),
                &format!("must be less than or equal to {name} limit of {limit}"),
            ),
            Some((_, limit)) if request != limit && !resources::may_overcommit(name) => errors.invalid(
                at.path("requests"),
                request.to_string(),
                &format!("must be equal to {name} limit of {limit}"),
            ),
            None if !resources::may_overcommit(name) => {
                errors.required(
                    at.path("limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
    if limits
        .iter()
        .chain(&requests)
        .any(|(n, _)| n.starts_with("hugepages-"))
        && !limits
            .iter()
            .chain(&requests)
            .any(|(n, _)| matches!(*n, "cpu" | "memory"))
    {
        errors.forbidden(at.here(), "HugePages require cpu or memory");
    }
}

fn amounts<'a>(at: &At<'a>, field: &'static str, errors: &mut FieldErrors) -> Vec<(&'a str, Quantity)> {
    let mut out = Vec::new();
    for (name, place) in at.entries(field) {
        resources::container_name(&place, name, errors);
        resources::amount(&place, name, place.text(), errors);
        out.push((name, place.text().parse().unwrap_or_default()));
    }
    out
}

fn mounts(at: &At<'_>, around: &Around<'_>, errors: &mut FieldErrors) {
    let mut paths = BTreeSet::new();
    for mount in at.items("volumeMounts") {
        let name = mount.str("name");
        if name.is_empty() {
            errors.required(mount.path("name"), "");
        } else if !around.volumes.contains(name) {
            errors.not_found(mount.path("name"), name);
        }
        let path = mount.str("mountPath");
        if path.is_empty() {
            errors.required(mount.path("mountPath"), "");
        }
        if !paths.insert(path) {
            errors.invalid(mount.path("mountPath"), path, "must be unique");
        }
        let (sub, expr) = (mount.str("subPath"), mount.str("subPathExpr"));
        if !sub.is_empty() {
            descending(mount.path("subPath"), sub, errors);
        }
        if !expr.is_empty() {
            if !sub.is_empty() {
                errors.invalid(
                    mount.path("subPathExpr"),
                    expr,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
            descending(mount.path("subPathExpr"), expr, errors);
        }
        match mount.opt_str("mountPropagation") {
            None | Some("None" | "HostToContainer") => {}
            Some("Bidirectional") => {
                let privileged = at.at("securityContext").bool("privileged");
                if !privileged {
                    errors.forbidden(
                        mount.path("mountPropagation"),
                        "Bidirectional mount propagation is available only to privileged containers",
                    );
                }
            }
            Some(other) => errors.not_supported(
                mount.path("mountPropagation"),
                other,
                &["Bidirectional", "HostToContainer", "None"],
            ),
        }
    }
    for device in at.items("volumeDevices") {
        let name = device.str("name");
        if name.is_empty() {
            errors.required(device.path("name"), "");
        } else if !around.volumes.contains(name) {
            errors.not_found(device.path("name"), name);
        }
        if device.str("devicePath").is_empty() {
            errors.required(device.path("devicePath"), "");
        } else if paths.contains(device.str("devicePath")) {
            errors.invalid(
                device.path("devicePath"),
                device.str("devicePath"),
                "must not already exist in volumeMounts",
            );
        }
    }
}

/// A relative path without `..`.
pub fn descending(field: impl std::fmt::Display, path: &str, errors: &mut FieldErrors) {
    if path.starts_with('/') {
        errors.invalid(&field, path, "must be a relative path");
    }
    no_backsteps(field, path, errors);
}

pub fn no_backsteps(field: impl std::fmt::Display, path: &str, errors: &mut FieldErrors) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid(field, path, "must not contain '..'");
    }
}

fn security_context(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["runAsUser", "runAsGroup"] {
        id(at, field, errors);
    }
    if let Some(mount) = at.opt_str("procMount")
        && !matches!(mount, "Default" | "Unmasked")
    {
        errors.not_supported(at.path("procMount"), mount, &["Default", "Unmasked"]);
    }
    seccomp(at, errors);
    if at.opt_bool("allowPrivilegeEscalation") == Some(false) {
        let sys_admin = at.at("capabilities").strings("add").any(|c| c == "CAP_SYS_ADMIN");
        let text = match (at.bool("privileged"), sys_admin) {
            (true, _) => "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            (_, true) => {
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            }
            _ => return,
        };
        errors.invalid(at.here(), at.value.clone(), text);
    }
}

/// A user or group id.
pub fn id(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    if let Some(value) = at.opt_int(field)
        && !(0..=i64::from(i32::MAX)).contains(&value)
    {
        errors.invalid(
            at.path(field),
            value,
            &names::inclusive_range_text(0, i64::from(i32::MAX)),
        );
    }
}

/// `seccompProfile` of a Pod's or container's security context.
pub fn seccomp(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(profile) = at.opt("seccompProfile") else {
        return;
    };
    match (profile.str("type"), profile.get("localhostProfile")) {
        ("Localhost", Value::String(path)) => descending(profile.path("localhostProfile"), path, errors),
        ("Localhost", _) => {
            errors.required(
                profile.path("localhostProfile"),
                "must be set when seccomp type is Localhost",
            );
        }
        ("RuntimeDefault" | "Unconfined", Value::Null) => {}
        ("RuntimeDefault" | "Unconfined", value) => errors.invalid(
            profile.path("localhostProfile"),
            value.clone(),
            "can only be set when seccomp type is Localhost",
        ),
        ("", _) => errors.required(
            profile.path("type"),
            "type is required when seccompProfile is set",
        ),
        (other, _) => {
            errors.not_supported(
                profile.path("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            );
        }
    }
}
