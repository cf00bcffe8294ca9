//! Seccomp, which was an annotation before 1.19, in both levels. Pure.

use std::collections::BTreeSet;

use corten_api::field;
use serde_json::Value;

use super::super::policy::Version;
use super::Violation;
use super::parts::{
    containers, is_windows, many, name, named, quoted, setters, spec, text, those, violation,
};

/// From this version on the field counts and the annotations do not.
pub const FIELD_SINCE: u32 = 19;
const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Profiles that are set and not allowed.
pub fn seccomp(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(FIELD_SINCE) {
        return annotations(pod);
    }
    let is_bad = |owner: &Value| !profile(owner).is_null() && !is_confined(profile(owner));
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    let owners = containers(pod).chain([spec(pod)]);
    let values: BTreeSet<&str> = owners
        .filter(|owner| is_bad(owner))
        .map(|owner| text(&profile(owner)["type"]))
        .collect();
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters(of_pod, &bad).join(" and "),
        quoted(values)
    );
    violation("seccompProfile", detail)
}

/// Whoever starts has a profile.
pub fn required_seccomp(pod: &Value, version: Version) -> Option<Violation> {
    if is_windows(pod, version) {
        return None;
    }
    if let Some(bad) = seccomp(pod, version) {
        return Some(bad);
    }
    if is_confined(profile(spec(pod))) {
        return None;
    }
    let bad = those(pod, |container| profile(container).is_null());
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&bad)
    );
    violation("seccompProfile", detail)
}

fn annotations(pod: &Value) -> Option<Violation> {
    let of_containers = containers(pod).map(|container| format!("{OF_CONTAINER}{}", name(container)));
    let bad: BTreeSet<String> = of_containers
        .chain([OF_POD.to_owned()])
        .filter_map(|key| {
            let value = pod["metadata"]["annotations"][&key].as_str()?;
            let allowed =
                ["runtime/default", "docker/default"].contains(&value) || value.starts_with("localhost/");
            (!allowed).then(|| format!("{key}={}", field::quoted(value)))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let noun = many("annotation", "annotations", bad.len());
    let listed: Vec<String> = bad.into_iter().collect();
    violation(
        "seccompProfile",
        format!("forbidden {noun} {}", listed.join(", ")),
    )
}

fn profile(owner: &Value) -> &Value {
    &owner["securityContext"]["seccompProfile"]
}

fn is_confined(profile: &Value) -> bool {
    matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
}
