//! ResourceQuota: what an object uses of which resource, and which objects a quota is about. Pure.
//!
//! Source: Kubernetes `pkg/quota/v1/evaluator/core` and `apiserver/pkg/quota/v1`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::quantity::{self, Quantity, ResourceList};
use crate::{meta, pod};

/// Which objects a quota counts, and how much of what they may use together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quota {
    pub name: String,
    pub hard: ResourceList,
    pub used: ResourceList,
    scopes: Vec<Scope>,
}

/// One requirement of `spec.scopes` or `spec.scopeSelector`.
#[derive(Debug, Clone, PartialEq)]
struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

/// The objects of these have more to them than their number.
const PODS: (&str, &str) = ("", "pods");
const SERVICES: (&str, &str) = ("", "services");
const CLAIMS: (&str, &str) = ("", "persistentvolumeclaims");
/// Kinds whose number has an old name too: the plural alone.
const PLAIN_NAMES: [&str; 5] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// What every container has to ask for if a quota bounds it.
const ASKED_OF_CONTAINERS: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
const COMPUTE: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl Quota {
    /// A ResourceQuota with the bounds that are in force: those of its status.
    #[must_use]
    pub fn of(object: &Value) -> Quota {
        Quota {
            name: meta::name(object).to_owned(),
            hard: list(&object["status"]["hard"]),
            used: list(&object["status"]["used"]),
            scopes: scopes(&object["spec"]),
        }
    }

    /// The same with the bounds that are asked for.
    #[must_use]
    pub fn wanted(object: &Value) -> Quota {
        Quota {
            hard: list(&object["spec"]["hard"]),
            ..Quota::of(object)
        }
    }

    /// Whether the quota is about this object.
    #[must_use]
    pub fn matches(&self, kind: (&str, &str), object: &Value) -> bool {
        self.scopes.iter().all(|scope| scope.matches(kind, object))
    }

    /// What of `usage` this quota bounds.
    #[must_use]
    pub fn bounded(&self, usage: &ResourceList) -> ResourceList {
        let bounded = usage.iter().filter(|(name, _)| self.hard.contains_key(*name));
        bounded.map(|(name, amount)| (name.clone(), *amount)).collect()
    }

    /// Charges `delta`, of which only what grows can be too much.
    ///
    /// # Errors
    /// Upstream's text.
    pub fn charge(&mut self, delta: &ResourceList) -> Result<(), String> {
        let unknown: Vec<&str> = delta
            .keys()
            .filter(|name| !self.used.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            return Err(format!(
                "status unknown for quota: {}, resources: {}",
                self.name,
                unknown.join(",")
            ));
        }
        let mut exceeded = Vec::new();
        let mut used = self.used.clone();
        for (name, amount) in delta {
            let sum = used.entry(name.clone()).or_default();
            sum.add(amount);
            if !amount.is_negative() && *sum > self.hard[name] {
                exceeded.push(name.as_str());
            }
        }
        if exceeded.is_empty() {
            self.used = used;
            return Ok(());
        }
        let of = |list: &ResourceList| -> String {
            let told: Vec<String> = exceeded
                .iter()
                .map(|name| format!("{name}={}", list[*name]))
                .collect();
            told.join(",")
        };
        Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.name,
            of(delta),
            of(&self.used),
            of(&self.hard)
        ))
    }
}

fn scopes(spec: &Value) -> Vec<Scope> {
    let plain = spec["scopes"].as_array().into_iter().flatten().map(|name| Scope {
        name: text(name).to_owned(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selected = spec["scopeSelector"]["matchExpressions"].as_array();
    let selected = selected.into_iter().flatten().map(|expression| Scope {
        name: text(&expression["scopeName"]).to_owned(),
        operator: text(&expression["operator"]).to_owned(),
        values: expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|value| text(value).to_owned())
            .collect(),
    });
    plain.chain(selected).collect()
}

impl Scope {
    fn matches(&self, kind: (&str, &str), object: &Value) -> bool {
        let spec = &object["spec"];
        let named = |name: &str| {
            let listed = self.values.iter().any(|value| value == name);
            match self.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "DoesNotExist" => name.is_empty(),
                _ => !name.is_empty(),
            }
        };
        if kind == CLAIMS {
            return self.name == "VolumeAttributesClass" && named(text(&spec["volumeAttributesClassName"]));
        }
        if kind != PODS {
            return false;
        }
        let ends = is_terminating(object);
        match self.name.as_str() {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => is_best_effort(object),
            "NotBestEffort" => !is_best_effort(object),
            "PriorityClass" => named(text(&spec["priorityClassName"])),
            "CrossNamespacePodAffinity" => crosses_namespaces(spec),
            _ => false,
        }
    }
}

/// Whether a Pod is to end by itself, which two of the scopes are about.
#[must_use]
pub fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(object: &Value) -> bool {
    pod::qos_class(&pod::spec_of(object)).as_str() == "BestEffort"
}

fn crosses_namespaces(spec: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term["namespaces"]
            .as_array()
            .is_some_and(|names| !names.is_empty());
        named || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let list = |field: &str| affinity[field].as_array().into_iter().flatten();
        list("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| crosses(&term["podAffinityTerm"]))
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> ResourceList {
    let amounts = value.as_object().into_iter().flatten();
    let read = |(name, amount): (&String, &Value)| Some((name.clone(), amount.as_str()?.parse().ok()?));
    amounts.filter_map(read).collect()
}

/// What one object uses. Every object counts as one of its kind.
#[must_use]
pub fn usage(kind: (&str, &str), object: &Value, now: Timestamp) -> ResourceList {
    let mut usage = ResourceList::new();
    let (group, plural) = kind;
    let one = Quantity::units(1);
    usage.insert(count_name(group, plural), one);
    if group.is_empty() && PLAIN_NAMES.contains(&plural) {
        usage.insert(plural.to_owned(), one);
    }
    match kind {
        PODS if lives(object, now) => of_pod(object, &mut usage),
        SERVICES => of_service(object, &mut usage),
        CLAIMS => of_claim(object, &mut usage),
        _ => {}
    }
    usage
}

/// `count/pods`, `count/deployments.apps`.
#[must_use]
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    }
}

/// The kind whose objects a resource's name counts; `None` for a name no object uses anything of.
#[must_use]
pub fn kind_of(resource: &str) -> Option<(String, String)> {
    if let Some(counted) = resource.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some((group.to_owned(), plural.to_owned()));
    }
    let plural = match resource {
        "persistentvolumeclaims" | "requests.storage" => CLAIMS.1,
        name if name.contains(STORAGE_CLASS) => CLAIMS.1,
        "services.nodeports" | "services.loadbalancers" => SERVICES.1,
        name if PLAIN_NAMES.contains(&name) => name,
        name if name == "pods" || is_of_pods(name) => PODS.1,
        _ => return None,
    };
    Some((String::new(), plural.to_owned()))
}

fn is_of_pods(name: &str) -> bool {
    let bare = name
        .strip_prefix("requests.")
        .or(name.strip_prefix("limits."))
        .unwrap_or(name);
    COMPUTE.contains(&bare)
        || bare.starts_with("hugepages-")
        || (name.starts_with("requests.") && bare.contains('/'))
}

/// A Pod that has ended, or should have by now, uses nothing.
fn lives(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed") {
        return false;
    }
    match (
        meta::deletion_timestamp(pod),
        meta::deletion_grace_period_seconds(pod),
    ) {
        (Some(at), Some(grace)) => at
            .checked_add(SignedDuration::from_secs(grace))
            .is_ok_and(|end| now <= end),
        _ => true,
    }
}

fn of_pod(object: &Value, usage: &mut ResourceList) {
    let spec = pod::spec_of(object);
    usage.insert("pods".to_owned(), Quantity::units(1));
    compute(&pod::requests(&spec), &pod::limits(&spec), usage);
}

/// Requests and limits under the names quotas know them by.
fn compute(requests: &ResourceList, limits: &ResourceList, usage: &mut ResourceList) {
    for (name, amount) in requests {
        let is_huge = name.starts_with("hugepages-");
        if COMPUTE.contains(&name.as_str()) || is_huge {
            usage.insert(name.clone(), *amount);
        }
        if COMPUTE.contains(&name.as_str()) || is_huge || name.contains('/') {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if COMPUTE.contains(&name.as_str()) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
}

fn of_service(service: &Value, usage: &mut ResourceList) {
    let spec = &service["spec"];
    let ports = || spec["ports"].as_array().into_iter().flatten();
    let units = |count: usize| Quantity::units(i64::try_from(count).unwrap_or(i64::MAX));
    let (node_ports, balancers) = match text(&spec["type"]) {
        "NodePort" => (ports().count(), 0),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => (
            ports()
                .filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0)
                .count(),
            1,
        ),
        "LoadBalancer" => (ports().count(), 1),
        _ => (0, 0),
    };
    usage.insert("services.nodeports".to_owned(), units(node_ports));
    usage.insert("services.loadbalancers".to_owned(), units(balancers));
}

fn of_claim(claim: &Value, usage: &mut ResourceList) {
    let one = Quantity::units(1);
    usage.insert("persistentvolumeclaims".to_owned(), one);
    let class = match text(&claim["spec"]["storageClassName"]) {
        "" => meta::annotation(claim, CLASS_ANNOTATION).unwrap_or_default(),
        class => class,
    };
    if !class.is_empty() {
        usage.insert(format!("{class}{STORAGE_CLASS}persistentvolumeclaims"), one);
    }
    let amount = |value: &Value| text(value).parse::<Quantity>().ok();
    let asked = amount(&claim["spec"]["resources"]["requests"]["storage"]);
    // While a volume grows, the larger size counts.
    let allocated = amount(&claim["status"]["allocatedResources"]["storage"]);
    if let Some(size) = asked.max(allocated) {
        usage.insert("requests.storage".to_owned(), size);
        if !class.is_empty() {
            usage.insert(format!("{class}{STORAGE_CLASS}requests.storage"), size);
        }
    }
}

/// What the containers of a Pod do not say although the quota bounds it.
///
/// # Errors
/// `must specify RESOURCE for: CONTAINER,...`.
pub fn complete(quota: &Quota, pod: &Value) -> Result<(), String> {
    let asked: Vec<&str> = ASKED_OF_CONTAINERS
        .into_iter()
        .filter(|name| quota.hard.contains_key(*name))
        .collect();
    let own = said(&pod["spec"]);
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for field in ["containers", "initContainers"] {
        for container in pod["spec"][field].as_array().into_iter().flatten() {
            let said = said(container);
            for name in asked
                .iter()
                .filter(|name| !said.contains(**name) && !own.contains(**name))
            {
                missing.entry(name).or_default().insert(text(&container["name"]));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", told.join("; ")))
}

fn said(owner: &Value) -> BTreeSet<String> {
    let resources = &owner["resources"];
    let mut said = ResourceList::new();
    compute(
        &list(&resources["requests"]),
        &list(&resources["limits"]),
        &mut said,
    );
    said.into_keys().collect()
}

/// `new` less `old`, without what stays the same.
#[must_use]
pub fn delta(new: &ResourceList, old: &ResourceList) -> ResourceList {
    let mut delta = new.clone();
    for (name, amount) in old {
        delta.entry(name.clone()).or_default().sub(amount);
    }
    delta.retain(|_, amount| !amount.is_zero());
    delta
}

/// What all `objects` that the quota is about use of what it bounds. Resources of other kinds are left out.
#[must_use]
pub fn total<'a>(
    quota: &Quota,
    kind: (&str, &str),
    objects: impl IntoIterator<Item = &'a Value>,
    now: Timestamp,
) -> ResourceList {
    let own = |name: &&String| {
        kind_of(name).is_some_and(|(group, plural)| (group.as_str(), plural.as_str()) == kind)
    };
    let mut total: ResourceList = quota
        .hard
        .keys()
        .filter(own)
        .map(|name| (name.clone(), Quantity::ZERO))
        .collect();
    for object in objects {
        if quota.matches(kind, object) {
            quantity::add_to(&mut total, &quota.bounded(&usage(kind, object, now)));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    #[track_caller]
    fn uses(kind: (&str, &str), object: Value, wanted: &str) {
        let told: Vec<String> = usage(kind, &object, now())
            .into_iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        assert_eq!(told.join(" "), wanted);
    }

    #[test]
    fn objects_use() {
        let pod = json!({ "spec": { "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "1", "example.com/gpu": "2" }, "limits": { "memory": "1Gi" } } },
            { "name": "b", "resources": { "requests": { "cpu": "500m" } } }] } });
        uses(
            PODS,
            pod.clone(),
            "count/pods=1 cpu=1500m limits.memory=1Gi pods=1 requests.cpu=1500m requests.example.com/gpu=2",
        );
        let mut ended = pod;
        ended["status"] = json!({ "phase": "Failed" });
        uses(PODS, ended, "count/pods=1");
        uses(("apps", "deployments"), json!({}), "count/deployments.apps=1");
        uses(("", "secrets"), json!({}), "count/secrets=1 secrets=1");
        uses(
            SERVICES,
            json!({ "spec": { "type": "LoadBalancer", "ports": [{}, {}] } }),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
        );
        uses(
            CLAIMS,
            json!({ "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "2Gi" } } } }),
            "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/requests.storage=2Gi persistentvolumeclaims=1 requests.storage=2Gi",
        );
    }

    #[test]
    fn a_pod_past_its_grace_period_uses_nothing() {
        let pod = |at: &str| json!({ "metadata": { "deletionTimestamp": at, "deletionGracePeriodSeconds": 30 }, "spec": { "containers": [] } });
        uses(PODS, pod("2025-12-31T23:59:00Z"), "count/pods=1");
        uses(PODS, pod("2025-12-31T23:59:45Z"), "count/pods=1 pods=1");
    }

    fn quota(hard: Value, used: Value) -> Quota {
        Quota::of(&json!({ "metadata": { "name": "q" }, "status": { "hard": hard, "used": used } }))
    }

    #[test]
    fn charging_has_upstreams_words() {
        let mut found = quota(
            json!({ "pods": "2", "cpu": "1" }),
            json!({ "pods": "1", "cpu": "800m" }),
        );
        let delta = list(&json!({ "pods": "1", "cpu": "300m" }));
        assert_eq!(
            found.charge(&delta).unwrap_err(),
            "exceeded quota: q, requested: cpu=300m, used: cpu=800m, limited: cpu=1"
        );
        assert_eq!(found.charge(&list(&json!({ "pods": "1" }))), Ok(()));
        assert_eq!(found.used["pods"], Quantity::units(2));
        let mut fresh = quota(json!({ "pods": "2" }), json!({}));
        assert_eq!(
            fresh.charge(&list(&json!({ "pods": "1" }))).unwrap_err(),
            "status unknown for quota: q, resources: pods"
        );
    }

    #[test]
    fn containers_must_say_what_is_bounded() {
        let found = quota(
            json!({ "cpu": "1", "limits.memory": "1Gi", "pods": "1" }),
            json!({}),
        );
        let pod = json!({ "spec": { "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "1" } } }, { "name": "b" }] } });
        assert_eq!(
            complete(&found, &pod).unwrap_err(),
            "must specify cpu for: b; limits.memory for: a,b"
        );
    }

    #[track_caller]
    fn in_scope(spec: Value, pod: Value, wanted: bool) {
        let found = Quota::of(&json!({ "metadata": { "name": "q" }, "spec": spec }));
        assert_eq!(found.matches(PODS, &pod), wanted, "{spec} {pod}");
    }

    #[test]
    fn scopes_choose() {
        let bare = json!({ "spec": { "containers": [{ "name": "a" }] } });
        let asking = json!({ "spec": { "activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }] } });
        let selector = |operator: &str, values: &[&str]| {
            json!({ "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": operator, "values": values }] } })
        };
        in_scope(json!({ "scopes": ["BestEffort"] }), bare.clone(), true);
        in_scope(json!({ "scopes": ["BestEffort"] }), asking.clone(), false);
        in_scope(
            json!({ "scopes": ["NotBestEffort", "Terminating"] }),
            asking.clone(),
            true,
        );
        in_scope(json!({ "scopes": ["NotTerminating"] }), asking.clone(), false);
        in_scope(selector("In", &["high"]), asking.clone(), true);
        in_scope(selector("NotIn", &["high"]), asking, false);
        in_scope(selector("Exists", &[]), bare.clone(), false);
        in_scope(selector("DoesNotExist", &[]), bare, true);
        let found = Quota::of(&json!({ "spec": { "scopes": ["BestEffort"] } }));
        assert!(!found.matches(SERVICES, &json!({})), "a scope is about Pods");
    }

    #[test]
    fn names_tell_their_kind() {
        let kind = |name: &str| kind_of(name).map(|(group, plural)| format!("{group}/{plural}"));
        assert_eq!(
            kind("count/deployments.apps").as_deref(),
            Some("apps/deployments")
        );
        assert_eq!(kind("limits.cpu").as_deref(), Some("/pods"));
        assert_eq!(kind("requests.example.com/gpu").as_deref(), Some("/pods"));
        assert_eq!(
            kind("requests.storage").as_deref(),
            Some("/persistentvolumeclaims")
        );
        assert_eq!(kind("services.nodeports").as_deref(), Some("/services"));
        assert_eq!(kind("unknown"), None);
    }
}
