//! Objects that tell how this server serves: one APIService for each built-in group and version, and the flow
//! schemas and priority levels of upstream's configuration. Knows what they say; `bootstrap` writes them.
//!
//! Source: Kubernetes `pkg/controlplane/apiserver/aggregator.go`, `apis/flowcontrol/bootstrap`.

use corten_api::kinds::flowcontrol::suggested;
use corten_api::registry;
use serde_json::{Value, json};

const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";
const AGGREGATION: &str = "apiregistration.k8s.io";
/// Marks an APIService that comes back with the next start when it was deleted.
const AUTO_MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Groups by what `groupPriorityMinimum` upstream gives them.
const PRIORITIES: [(&str, i64); 20] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    (FLOW_CONTROL, 16_100),
    ("resource.k8s.io", 15_900),
];

/// One object to be made: group, plural, object.
pub type Wanted = (&'static str, &'static str, Value);

/// Everything this file knows.
pub fn objects() -> Vec<Wanted> {
    let levels = suggested::priority_levels().iter().cloned();
    let schemas = suggested::flow_schemas().iter().cloned();
    let mut objects: Vec<Wanted> = levels
        .map(|o| (FLOW_CONTROL, "prioritylevelconfigurations", o))
        .collect();
    objects.extend(schemas.map(|o| (FLOW_CONTROL, "flowschemas", o)));
    objects.extend(api_services().map(|o| (AGGREGATION, "apiservices", o)));
    objects
}

fn api_services() -> impl Iterator<Item = Value> {
    let groups = registry().groups().into_iter();
    groups.flat_map(|(group, versions)| {
        let priority = PRIORITIES.iter().find(|(g, _)| *g == group).map(|(_, p)| *p);
        let services = versions
            .into_iter()
            .filter_map(move |version| Some(api_service(group, version, priority?)));
        services.collect::<Vec<_>>()
    })
}

fn api_service(group: &str, version: &str, priority: i64) -> Value {
    let within = match (group, version) {
        ("", _) => 1,
        (FLOW_CONTROL, _) => 21,
        (_, "v2") => 30,
        _ => 15,
    };
    let mut spec = json!({"version": version, "groupPriorityMinimum": priority, "versionPriority": within});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "metadata": {"name": format!("{version}.{group}"), "labels": {AUTO_MANAGED: "onstart"}},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_but_aggregation_itself_has_its_apiservice() {
        let names: Vec<String> = api_services()
            .map(|s| s["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        for (group, versions) in registry().groups() {
            for version in versions {
                let name = format!("{version}.{group}");
                assert_eq!(names.contains(&name), group != AGGREGATION, "{name}");
            }
        }
        assert!(names.contains(&"v1.".to_owned()) && names.contains(&"v2.autoscaling".to_owned()));
    }
}
