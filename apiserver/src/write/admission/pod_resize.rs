//! NodeDeclaredFeatureValidator and PodResizeValidator: a bound Pod is resized only to what its node can do and has. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/nodedeclaredfeatures` and `podresize`, on by default in v1.36.

use std::collections::BTreeMap;
use std::str::FromStr;

use corten_api::quantity::Quantity;
use corten_api::status::StatusCause;
use corten_api::{Status, meta, pod, registry};
use corten_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::write::Subject;

const OS: &str = "kubernetes.io/os";
/// What a node must declare before the resources of a Pod as a whole change.
const POD_LEVEL: &str = "InPlacePodLevelResourcesVerticalScaling";
/// What it must declare before those of an init container change that is no sidecar.
const INIT_CONTAINERS: &str = "InPlacePodVerticalScalingInitContainers";

/// # Errors
/// `Forbidden` with upstream's texts and causes.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    let resized = attributes.operation == Operation::Update && attributes.subresource == "resize";
    if !resized || !ty.group.is_empty() || ty.plural != "pods" {
        return Ok(());
    }
    let name = object["spec"]["nodeName"].as_str().unwrap_or_default();
    let Some(old) = attributes.old.filter(|old| old["spec"] != object["spec"]) else {
        return Ok(());
    };
    if name.is_empty() {
        return Ok(());
    }
    let ty = registry().lookup("", "v1", "nodes").expect("Nodes are built in");
    let node = match (Subject { ty, namespace: "" }).read(snapshot, name) {
        Ok(node) => node.value,
        Err(status) if status.code == 404 => {
            return Err(attributes.forbidden(format!("node {} not found", corten_api::field::quoted(name))));
        }
        Err(damaged) => return Err(damaged),
    };
    let lacking = lacking(old, object, &node);
    if !lacking.is_empty() {
        return Err(attributes.forbidden(format!(
            "pod update requires features {} which are not available on node \"{name}\"",
            lacking.join(", ")
        )));
    }
    if let Some(other) = meta::label(&node, OS).filter(|os| *os != "linux") {
        let why = format!("pod resize is only supported on linux nodes, node \"{name}\" is \"{other}\"");
        return Err(caused(attributes.forbidden(why), "UnsupportedPlatform"));
    }
    match too_much(object, &node) {
        Some(why) => Err(caused(attributes.forbidden(why), "NodeCapacity")),
        None => Ok(()),
    }
}

fn caused(mut status: Status, reason: &str) -> Status {
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: reason.to_owned(),
            ..StatusCause::default()
        });
    }
    status
}

/// The features that the change needs and the node has not declared.
fn lacking(old: &Value, new: &Value, node: &Value) -> Vec<&'static str> {
    let declared = |feature: &&str| {
        let declared = node["status"]["declaredFeatures"].as_array();
        declared.into_iter().flatten().any(|own| own == *feature)
    };
    let mut needed = Vec::new();
    if amounts(&old["spec"]["resources"]) != amounts(&new["spec"]["resources"]) {
        needed.push(POD_LEVEL);
    }
    fn list(pod: &Value) -> impl Iterator<Item = &Value> {
        let list = pod["spec"]["initContainers"].as_array();
        list.into_iter().flatten()
    }
    let changed = list(old).zip(list(new)).any(|(old, new)| {
        old["restartPolicy"] != "Always" && amounts(&old["resources"]) != amounts(&new["resources"])
    });
    if changed {
        needed.push(INIT_CONTAINERS);
    }
    needed.retain(|feature| !declared(feature));
    needed
}

/// Requests and limits by their names; equal amounts are equal however they are written.
fn amounts(resources: &Value) -> BTreeMap<(&'static str, &str), Option<Quantity>> {
    ["requests", "limits"]
        .into_iter()
        .flat_map(|list| {
            let amounts = resources[list].as_object().into_iter().flatten();
            amounts.map(move |(name, amount)| {
                let amount = amount.as_str().and_then(|text| Quantity::from_str(text).ok());
                ((list, name.as_str()), amount)
            })
        })
        .collect()
}

/// Why the Pod would not fit on its node were it alone there.
fn too_much(pod: &Value, node: &Value) -> Option<String> {
    let wanted = pod::requests(&pod::spec_of(pod));
    let amount = |name: &str| wanted.get(name).cloned().unwrap_or_default();
    let room = |name: &str| {
        let text = node["status"]["allocatable"][name].as_str();
        text.and_then(|text| Quantity::from_str(text).ok())
            .unwrap_or_default()
    };
    let said = |name: &str, shown: fn(&Quantity) -> i64| {
        let (wanted, room) = (amount(name), room(name));
        (wanted > room).then(|| {
            format!(
                "{name}, requested: {}, allocatable: {}",
                shown(&wanted),
                shown(&room)
            )
        })
    };
    let found: Vec<String> = [
        said("cpu", Quantity::milli_value),
        said("memory", Quantity::value),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!found.is_empty()).then(|| {
        format!(
            "node didn't have enough allocatable resources: {}",
            found.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_must_fit_alone_on_its_node() {
        let node = json!({ "status": { "allocatable": { "cpu": "2", "memory": "1Gi" } } });
        let check = |cpu: &str, memory: &str, want: Option<&str>| {
            let pod = json!({ "spec": { "overhead": { "cpu": "500m" }, "containers": [
                { "name": "a", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] } });
            assert_eq!(too_much(&pod, &node).as_deref(), want);
        };
        check("1500m", "1Gi", None);
        check(
            "1501m",
            "1Gi",
            Some("node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000"),
        );
        check(
            "2",
            "2Gi",
            Some(
                "node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
            ),
        );
    }

    #[test]
    fn some_changes_need_a_feature_of_the_node() {
        let pod = |whole: &str, step: &str, sidecar: &str| {
            let cpu = |amount: &str| json!({ "requests": { "cpu": amount } });
            json!({ "spec": { "resources": cpu(whole), "initContainers": [
                { "name": "s", "resources": cpu(step) },
                { "name": "c", "restartPolicy": "Always", "resources": cpu(sidecar) }] } })
        };
        let check = |new: Value, declared: &[&str], want: &[&str]| {
            let node = json!({ "status": { "declaredFeatures": declared } });
            assert_eq!(lacking(&pod("1", "1", "1"), &new, &node), want);
        };
        check(pod("1000m", "1", "2"), &[], &[]);
        check(pod("2", "1", "1"), &[], &[POD_LEVEL]);
        check(pod("2", "2", "1"), &[], &[POD_LEVEL, INIT_CONTAINERS]);
        check(pod("2", "2", "1"), &[POD_LEVEL], &[INIT_CONTAINERS]);
        check(pod("2", "2", "1"), &[POD_LEVEL, INIT_CONTAINERS], &[]);
    }
}
