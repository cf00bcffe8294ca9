//! The picture of the house, kept true: which crate may depend on which.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// For each room the rooms it may use (DESIGN §1). A crate that is not here fails the check.
const ALLOWED: &[(&str, &[&str])] = &[
    ("corten-proto", &[]),
    ("corten-cel", &[]),
    ("corten-api", &["corten-cel"]),
    ("corten-store", &["corten-proto"]),
    (
        "corten-apiserver",
        &["corten-store", "corten-api", "corten-cel", "corten-proto"],
    ),
    ("corten-client", &["corten-api", "corten-proto"]),
    (
        "corten-controllers",
        &["corten-client", "corten-api", "corten-proto"],
    ),
    (
        "corten-scheduler",
        &["corten-client", "corten-api", "corten-proto"],
    ),
    (
        "corten-nodeagent",
        &["corten-client", "corten-api", "corten-proto"],
    ),
    ("corten-netd", &["corten-client", "corten-api", "corten-proto"]),
    (
        "corten",
        &[
            "corten-proto",
            "corten-api",
            "corten-store",
            "corten-apiserver",
            "corten-client",
            "corten-controllers",
            "corten-scheduler",
            "corten-nodeagent",
            "corten-netd",
        ],
    ),
    (
        "corten-tests",
        &[
            "corten-api",
            "corten-client",
            "corten-proto",
            "corten-store",
            "xtask",
        ],
    ),
    ("corten-sim", &["corten-store"]),
    ("xtask", &[]),
];

/// Every arrow that should not be there, as `a -> b`.
#[must_use]
pub fn violations(arrows: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in arrows {
        let allowed = ALLOWED
            .iter()
            .find(|(name, _)| name == from)
            .map(|(_, allowed)| *allowed);
        match allowed {
            None => found.push(format!("{from} is no room of the house")),
            Some(allowed) => found.extend(
                targets
                    .iter()
                    .filter(|to| !allowed.contains(&to.as_str()))
                    .map(|to| format!("{from} -> {to}")),
            ),
        }
    }
    found
}

/// The arrows between workspace members (not those of tests), as `cargo metadata` reports them.
///
/// # Errors
/// When cargo cannot be run or its answer is not understood.
pub fn arrows() -> Result<BTreeMap<String, Vec<String>>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut arrows = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("package name")?;
        let targets = package["dependencies"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let inside = targets
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|target| names.contains(target))
            .map(str::to_string)
            .collect();
        arrows.insert(name.to_string(), inside);
    }
    Ok(arrows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down_only() {
        let arrows = arrows().expect("the workspace has metadata");
        assert_eq!(violations(&arrows), Vec::<String>::new());
        assert_eq!(arrows.len(), ALLOWED.len(), "every room is listed");
    }

    #[test]
    fn siblings_and_strangers_are_named() {
        let arrows = BTreeMap::from([
            (
                "corten-scheduler".to_string(),
                vec!["corten-api".to_string(), "corten-netd".to_string()],
            ),
            ("corten-attic".to_string(), vec![]),
        ]);
        assert_eq!(
            violations(&arrows),
            [
                "corten-attic is no room of the house",
                "corten-scheduler -> corten-netd"
            ]
        );
    }
}
