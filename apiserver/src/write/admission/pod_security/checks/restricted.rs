//! The checks that `restricted` adds to `baseline`, or has in the place of one of it. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::policy::Version;
use super::Violation;
use super::baseline::adding;
use super::parts::{is_windows, many, name, named, own_users, quoted, setters, spec, those, violation};

/// Volume sources that are allowed.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn privilege_escalation(pod: &Value, version: Version) -> Option<Violation> {
    if is_windows(pod, version) {
        return None;
    }
    let bad = those(pod, |container| {
        container["securityContext"]["allowPrivilegeEscalation"] != false
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        named(&bad)
    );
    violation("allowPrivilegeEscalation != false", detail)
}

pub fn dropped_capabilities(pod: &Value, version: Version) -> Option<Violation> {
    if is_windows(pod, version) {
        return None;
    }
    let keeping = those(pod, |container| {
        let dropped = container["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.into_iter().flatten().any(|dropped| dropped == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeping)
        ));
    }
    details.extend(adding(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub fn volume_types(pod: &Value, _: Version) -> Option<Violation> {
    let volumes = || spec(pod)["volumes"].as_array().into_iter().flatten();
    let is_bad = |volume: &&Value| VOLUMES.iter().all(|source| volume[*source].is_null());
    let names: Vec<&str> = volumes().filter(is_bad).map(name).collect();
    if names.is_empty() {
        return None;
    }
    let sources: BTreeSet<&str> = volumes()
        .filter(is_bad)
        .map(|volume| {
            let mut fields = volume.as_object().into_iter().flatten();
            fields
                .find(|(field, _)| *field != "name")
                .map_or("unknown", |(field, _)| field.as_str())
        })
        .collect();
    let detail = format!(
        "{} {} {} {} {}",
        many("volume", "volumes", names.len()),
        quoted(names.iter().copied()),
        many("uses", "use", names.len()),
        many("restricted volume type", "restricted volume types", sources.len()),
        quoted(sources)
    );
    violation("restricted volume types", detail)
}

pub fn non_root(pod: &Value, version: Version) -> Option<Violation> {
    if own_users(pod, version) {
        return None;
    }
    let of_pod = &spec(pod)["securityContext"]["runAsNonRoot"];
    let own = |container: &Value| container["securityContext"]["runAsNonRoot"].as_bool();
    let bad = those(pod, |container| own(container) == Some(false));
    if *of_pod == false || !bad.is_empty() {
        let detail = format!(
            "{} must not set securityContext.runAsNonRoot=false",
            setters(*of_pod == false, &bad).join(" and ")
        );
        return violation("runAsNonRoot != true", detail);
    }
    let silent = those(pod, |container| own(container).is_none());
    if *of_pod == true || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        named(&silent)
    );
    violation("runAsNonRoot != true", detail)
}

pub fn root_user(pod: &Value, version: Version) -> Option<Violation> {
    if own_users(pod, version) {
        return None;
    }
    let is_bad = |owner: &Value| owner["securityContext"]["runAsUser"] == 0;
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", setters(of_pod, &bad).join(" and ")),
    )
}
