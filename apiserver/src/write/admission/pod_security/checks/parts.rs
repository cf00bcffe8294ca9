//! The parts of a Pod that the checks look at, and the words they name them with. Pure.

use serde_json::Value;

use super::super::policy::Version;
use super::Violation;

/// From this version on `restricted` asks nothing of Windows Pods that has a meaning on Linux only.
const WINDOWS: Version = Version::Minor(25);
/// From this version on a Pod in a user namespace of its own may do as root what it likes.
const USER_NAMESPACES: Version = Version::Minor(35);

pub fn spec(pod: &Value) -> &Value {
    &pod["spec"]
}

/// Init containers, containers, ephemeral containers.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| spec(pod)[field].as_array().into_iter().flatten())
}

pub fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn those<'a>(pod: &'a Value, is_bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
    containers(pod)
        .filter(|container| is_bad(container))
        .map(name)
        .collect()
}

pub fn own_users(pod: &Value, version: Version) -> bool {
    version >= USER_NAMESPACES && spec(pod)["hostUsers"] == false
}

pub fn is_windows(pod: &Value, version: Version) -> bool {
    version >= WINDOWS && spec(pod)["os"]["name"] == "windows"
}

pub fn many<'a>(one: &'a str, more: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { more }
}

/// Each in quotes as it is, with commas between.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub fn named(bad: &[&str]) -> String {
    let quoted = quoted(bad.iter().copied());
    format!("{} {quoted}", many("container", "containers", bad.len()))
}

/// `pod` and `containers "a", "b"`, those of the two who did something.
pub fn setters(pod: bool, bad: &[&str]) -> Vec<String> {
    let pod = pod.then(|| "pod".to_owned());
    pod.into_iter()
        .chain((!bad.is_empty()).then(|| named(bad)))
        .collect()
}

pub fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.to_owned(),
        detail,
    })
}
