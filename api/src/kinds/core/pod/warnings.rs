//! What a client is told about a Pod or a Pod template that is valid and yet will not do what it seems to.
//! Source: `pkg/api/pod/warnings.go`.

use std::collections::{BTreeMap, BTreeSet};

use crate::cursor::{At, Path};
use crate::kinds::common::node_labels;
use crate::quantity::Quantity;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const POD_SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const CONTAINER_APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const USE_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Volume sources that are gone, under the names upstream prints.
const VOLUMES: [(&str, &str, &str); 7] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warnings about a Pod or a template, whose `metadata` and `spec` are below `at`.
pub fn of(at: &At<'_>, is_template: bool) -> Vec<String> {
    let mut out = Vec::new();
    let spec = at.at("spec");
    placement(&spec, &mut out);
    annotations(at, &mut out);
    volumes(&spec, &mut out);
    repeated(&spec, "hostAliases", "ip", &mut out);
    repeated(&spec, "imagePullSecrets", "name", &mut out);
    for secret in spec
        .items("imagePullSecrets")
        .filter(|s| s.str("name").is_empty())
    {
        out.push(format!("{}: invalid empty name \"\"", secret.path("name")));
    }
    fractions(&spec, "overhead", &mut out);
    if spec.int("terminationGracePeriodSeconds") < 0 {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            spec.path("terminationGracePeriodSeconds")
        ));
    }
    let mut ports = BTreeMap::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.items(list) {
            container_annotations(at, &container, is_template, &mut out);
            for field in ["limits", "requests"] {
                fractions(&container.at("resources"), field, &mut out);
            }
            environment(&container, &mut out);
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.items(list) {
            container_ports(&container, &mut ports, &mut out);
        }
    }
    out
}

/// Deprecated labels of nodes, and selectors that match nothing.
fn placement(spec: &At<'_>, out: &mut Vec<String>) {
    for label in spec.keys("nodeSelector") {
        if let Some(text) = node_labels::deprecated(label) {
            out.push(format!("{}: {text}", spec.path("nodeSelector").key(label)));
        }
    }
    if let Some(affinity) = spec.opt("affinity") {
        attraction(&affinity, out);
    }
    for constraint in spec.items("topologySpreadConstraints") {
        let key = constraint.str("topologyKey");
        if let Some(text) = node_labels::deprecated(key) {
            out.push(format!("{}: {key} is {text}", constraint.path("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            out.push(format!("{}: {NO_SELECTOR}", constraint.path("labelSelector")));
        }
    }
}

/// What an affinity says of nodes by deprecated labels, and of no Pods at all.
fn attraction(affinity: &At<'_>, out: &mut Vec<String>) {
    let node = affinity.at("nodeAffinity");
    let required = node.at(REQUIRED);
    let terms = required
        .items("nodeSelectorTerms")
        .chain(node.items(PREFERRED).map(|p| p.at("preference")));
    for requirement in terms.flat_map(|term| term.items("matchExpressions").collect::<Vec<_>>()) {
        let key = requirement.str("key");
        if let Some(text) = node_labels::deprecated(key) {
            out.push(format!("{}: {key} is {text}", requirement.path("key")));
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(field);
        let terms = pods
            .items(REQUIRED)
            .chain(pods.items(PREFERRED).map(|p| p.at("podAffinityTerm")));
        for term in terms.filter(|term| !term.has("labelSelector")) {
            out.push(format!("{}: {NO_SELECTOR}", term.path("labelSelector")));
        }
    }
}

fn annotations(at: &At<'_>, out: &mut Vec<String>) {
    let metadata = at.at("metadata");
    let given = metadata.get("annotations");
    if given.is_null() {
        return;
    }
    let place = metadata.path("annotations");
    for (name, text) in ANNOTATIONS {
        if given.get(name).is_some() {
            out.push(format!("{}: {text}", place.key(name)));
        }
    }
    let profile = at.at("spec").at("securityContext").has("seccompProfile");
    if given.get(POD_SECCOMP).is_some() && !profile {
        out.push(format!("{}: {USE_SECCOMP}", place.key(POD_SECCOMP)));
    }
}

fn container_annotations(at: &At<'_>, container: &At<'_>, is_template: bool, out: &mut Vec<String>) {
    let metadata = at.at("metadata");
    let (given, place) = (metadata.get("annotations"), metadata.path("annotations"));
    if given.is_null() {
        return;
    }
    let context = container.at("securityContext");
    let name = container.str("name");
    let seccomp = format!("{CONTAINER_SECCOMP}{name}");
    if given.get(&seccomp).is_some() && !context.has("seccompProfile") {
        out.push(format!("{}: {USE_SECCOMP}", place.key(&seccomp)));
    }
    let apparmor = format!("{CONTAINER_APPARMOR}{name}");
    if is_template && given.get(&apparmor).is_some() && !context.has("appArmorProfile") {
        out.push(format!(
            "{}: deprecated since v1.30; use the \"appArmorProfile\" field instead",
            place.key(&apparmor)
        ));
    }
}

fn volumes(spec: &At<'_>, out: &mut Vec<String>) {
    for volume in spec.items("volumes") {
        // A volume has few fields, and most of these sources are in none.
        let gone = |name: &str| VOLUMES.iter().any(|(field, ..)| *field == name);
        if volume.names().any(gone) {
            for (_, shown, text) in VOLUMES.iter().filter(|(field, ..)| volume.has(field)) {
                out.push(format!("{}: {text}", volume.here().field(shown)));
            }
        }
        if let Some(ephemeral) = volume.opt("ephemeral") {
            super::super::claim::fractional(&ephemeral.at("volumeClaimTemplate").at("spec"), out);
        }
    }
}

/// Entries of a list that say the same as one before.
fn repeated(spec: &At<'_>, list: &'static str, field: &'static str, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for item in spec.items(list) {
        let value = item.str(field);
        if !seen.insert(value) {
            out.push(format!(
                "{}: duplicate {field} {}",
                item.path(field),
                crate::field::quoted(value)
            ));
        }
    }
}

/// Bytes cannot be split.
fn fractions(at: &At<'_>, list: &'static str, out: &mut Vec<String>) {
    for (name, amount) in at.entries(list) {
        let split = amount.text().parse::<Quantity>().is_ok_and(|q| !q.is_whole());
        if matches!(name, "memory" | "ephemeral-storage") && split {
            out.push(format!(
                "{amount}: fractional byte value \"{}\" is invalid, must be an integer",
                amount.text()
            ));
        }
    }
}

/// Variables that replace one of the same name without building on it.
fn environment(container: &At<'_>, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for variable in container.items("env") {
        let name = variable.str("name");
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = variable.str("value");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            out.push(format!(
                "{variable}: hides previous definition of {}, which may be dropped when using apply",
                crate::field::quoted(name)
            ));
        }
    }
}

type Ports<'a> = BTreeMap<(i64, &'a str), Vec<(Path, i64, &'a str)>>;

fn container_ports<'a>(container: &At<'a>, known: &mut Ports<'a>, out: &mut Vec<String>) {
    for port in container.items("ports") {
        let (number, host) = (port.int("containerPort"), port.int("hostPort"));
        let (protocol, ip) = (port.str("protocol"), port.str("hostIP"));
        if !ip.is_empty() && host == 0 {
            out.push(format!(
                "{port}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}",
                port.str("name")
            ));
        }
        let others = known.entry((number, protocol)).or_default();
        for (place, other_host, other_ip) in others.iter() {
            let how = if (host, ip) == (*other_host, *other_ip) {
                "duplicate"
            } else if host == 0 || *other_host == 0 {
                "overlapping"
            } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            out.push(format!("{port}: {how} port definition with {place}"));
        }
        others.push((port.here(), host, ip));
    }
}
