//! LimitRanger: a namespace's LimitRanges fill in what containers ask for and bound it. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/limitranger/admission.go`.

use std::fmt::Write;

use corten_api::quantity::{self, Quantity, ResourceList};
use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::damaged;
use crate::key::Keys;
use crate::stored::{Stored, TypeMeta};

const LIMIT_RANGES: Keys<'static> = Keys {
    group: "",
    resource: "limitranges",
    namespaced: true,
};
const LIMIT_RANGE: TypeMeta<'static> = TypeMeta {
    group: "",
    version: "v1",
    kind: "LimitRange",
};
/// Tells which amounts were filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// A claim knows requests only, and its sizes are told as such.
const CLAIM: &str = "PersistentVolumeClaim";

/// Requests and limits of a container, a Pod or a claim.
#[derive(Default)]
struct Amounts {
    requests: ResourceList,
    limits: ResourceList,
}

/// Fills in the amounts that containers leave open.
///
/// # Errors
/// `InternalError` for a stored LimitRange that cannot be read.
pub fn mutate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(());
    }
    for range in ranges(attributes, snapshot)? {
        fill_in(&range, object);
    }
    Ok(())
}

/// # Errors
/// `Forbidden` with all that is too small or too large.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    let created = attributes.operation == Operation::Create;
    let resized = attributes.operation == Operation::Update && attributes.subresource == "resize";
    let written = created || attributes.operation == Operation::Update;
    let ty = attributes.subject.ty;
    let is_pod = ty.group.is_empty() && &*ty.plural == "pods";
    let pod = is_pod && ((created && attributes.subresource.is_empty()) || resized);
    let claim = written && attributes.is("", "persistentvolumeclaims");
    if !pod && !claim {
        return Ok(());
    }
    for range in ranges(attributes, snapshot)? {
        let errors = if claim {
            of_claim(&range, object)
        } else {
            of_pod(&range, object)
        };
        match errors.as_slice() {
            [] => {}
            [one] => return Err(attributes.forbidden(one.clone())),
            many => return Err(attributes.forbidden(format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn ranges(attributes: &Attributes<'_>, snapshot: &Snapshot) -> Result<Vec<Value>, Status> {
    let range = LIMIT_RANGES.range(Some(attributes.subject.namespace));
    let read = |entry: std::sync::Arc<corten_store::Entry>| {
        let stored = Stored::new(&entry.value).map_err(damaged)?;
        stored.parse(LIMIT_RANGE, entry.mod_revision.0).map_err(damaged)
    };
    snapshot.range(range).map(read).collect()
}

fn limits(range: &Value) -> impl Iterator<Item = &Value> {
    range["spec"]["limits"].as_array().into_iter().flatten()
}

fn fill_in(range: &Value, pod: &mut Value) {
    let (mut requests, mut caps) = (Map::new(), Map::new());
    for limit in limits(range).filter(|limit| limit["type"] == "Container") {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        caps.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut told: Vec<String> = Vec::new();
    for (field, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (list, defaults, what) in [("requests", &requests, "request"), ("limits", &caps, "limit")] {
                let set = add_missing(container, list, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let metadata = meta::metadata_mut(pod);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", told.join("; ")).into();
    }
}

/// Adds what `list` of the container's resources does not have; tells the names.
fn add_missing(container: &mut Value, list: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if container["resources"][list][name].is_null() {
            // Indexing makes objects of what is absent or null.
            container["resources"][list][name] = amount.clone();
            set.push(name.clone());
        }
    }
    set
}

fn list(value: &Value) -> ResourceList {
    let amounts = value.as_object().into_iter().flatten();
    let read = |(name, amount): (&String, &Value)| Some((name.clone(), amount.as_str()?.parse().ok()?));
    amounts.filter_map(read).collect()
}

fn amounts(owner: &Value) -> Amounts {
    Amounts {
        requests: list(&owner["resources"]["requests"]),
        limits: list(&owner["resources"]["limits"]),
    }
}

/// All containers together, or one init container if it wants more; what the Pod itself states counts instead.
fn whole(pod: &Value) -> Amounts {
    let spec = &pod["spec"];
    let mut all = Amounts::default();
    for container in spec["containers"].as_array().into_iter().flatten().map(amounts) {
        quantity::add_to(&mut all.requests, &container.requests);
        quantity::add_to(&mut all.limits, &container.limits);
    }
    for container in spec["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(amounts)
    {
        quantity::raise_to(&mut all.requests, &container.requests);
        quantity::raise_to(&mut all.limits, &container.limits);
    }
    let own = amounts(spec);
    all.requests.extend(own.requests);
    all.limits.extend(own.limits);
    all
}

fn of_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in limits(range) {
        match limit["type"].as_str().unwrap_or_default() {
            kind @ "Container" => {
                let containers = ["containers", "initContainers"].map(|field| pod["spec"][field].as_array());
                for container in containers.into_iter().flatten().flatten() {
                    bound(limit, kind, &amounts(container), &mut errors);
                }
            }
            kind @ "Pod" => bound(limit, kind, &whole(pod), &mut errors),
            _ => {}
        }
    }
    errors
}

fn bound(limit: &Value, kind: &str, of: &Amounts, errors: &mut Vec<String>) {
    for (name, least) in list(&limit["min"]) {
        let (request, cap) = (of.requests.get(&name), of.limits.get(&name));
        let told = format!("minimum {name} usage per {kind} is {least}");
        match (request, cap) {
            (None, _) => errors.push(format!("{told}.  No request is specified")),
            (Some(request), _) if *request < least => {
                errors.push(format!("{told}, but request is {request}"))
            }
            (_, Some(cap)) if *cap < least => errors.push(format!("{told}, but limit is {cap}")),
            _ => {}
        }
    }
    for (name, most) in list(&limit["max"]) {
        let (request, cap) = (of.requests.get(&name), of.limits.get(&name));
        let told = format!("maximum {name} usage per {kind} is {most}");
        match (request, cap) {
            (_, None) => errors.push(format!("{told}.  No limit is specified")),
            (_, Some(cap)) if *cap > most => errors.push(format!("{told}, but limit is {cap}")),
            (Some(request), _) if *request > most => errors.push(format!("{told}, but request is {request}")),
            _ => {}
        }
    }
    for (name, ratio) in list(&limit["maxLimitRequestRatio"]) {
        let some = |amount: Option<&Quantity>| amount.copied().filter(|amount| !amount.is_zero());
        let mut told = format!("{name} max limit to request ratio per {kind} is {ratio}, but ");
        let given = match (some(of.requests.get(&name)), some(of.limits.get(&name))) {
            (None, _) => {
                told.push_str("no request is specified or request is 0");
                None
            }
            (_, None) => {
                told.push_str("no limit is specified or limit is 0");
                None
            }
            (Some(request), Some(cap)) => Some(cap.to_f64() / request.to_f64()),
        };
        match given {
            Some(given) if given <= ratio.to_f64() => continue,
            Some(given) => write!(told, "provided ratio is {given:.6}").expect("a String takes text"),
            None => {}
        }
        errors.push(told);
    }
}

fn of_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = list(&claim["spec"]["resources"]["requests"]);
    let mut errors = Vec::new();
    for limit in limits(range).filter(|limit| limit["type"] == CLAIM) {
        for (name, least) in list(&limit["min"]) {
            let told = format!("minimum {name} usage per {CLAIM} is {least}");
            match requests.get(&name) {
                None => errors.push(format!("{told}.  No request is specified")),
                Some(request) if *request < least => errors.push(format!("{told}, but request is {request}")),
                Some(_) => {}
            }
        }
        for (name, most) in list(&limit["max"]) {
            let told = format!("maximum {name} usage per {CLAIM} is {most}");
            match requests.get(&name) {
                None => errors.push(format!("{told}.  No request is specified")),
                Some(request) if *request > most => errors.push(format!("{told}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({ "spec": { "limits": [limit] } })
    }

    #[test]
    fn open_amounts_are_filled_in_and_told() {
        let defaults = json!({ "type": "Container", "default": { "cpu": "1" }, "defaultRequest": { "cpu": "100m", "memory": "1Mi" } });
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": {
            "initContainers": [{ "name": "i" }],
            "containers": [{ "name": "a", "resources": { "requests": { "cpu": "2" } } }] } });
        fill_in(&range(defaults), &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({ "requests": { "cpu": "2", "memory": "1Mi" }, "limits": { "cpu": "1" } })
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container a; cpu limit for container a; cpu, memory request for init container i; cpu limit for init container i"
        );
    }

    #[track_caller]
    fn check(limit: Value, resources: Value, wanted: &[&str]) {
        let pod = json!({ "spec": { "containers": [{ "name": "a", "resources": resources }, { "name": "b", "resources": resources }] } });
        let mut errors = of_pod(&range(limit), &pod);
        errors.dedup();
        assert_eq!(errors, wanted);
    }

    #[test]
    fn bounds_have_upstreams_words() {
        let both = json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "3" } });
        let min = |kind: &str, cpu: &str| json!({ "type": kind, "min": { "cpu": cpu } });
        let max = |kind: &str, cpu: &str| json!({ "type": kind, "max": { "cpu": cpu } });
        check(min("Container", "1"), both.clone(), &[]);
        check(
            min("Container", "1500m"),
            both.clone(),
            &["minimum cpu usage per Container is 1500m, but request is 1"],
        );
        check(min("Pod", "2"), both.clone(), &[]);
        check(
            min("Pod", "2100m"),
            both.clone(),
            &["minimum cpu usage per Pod is 2100m, but request is 2"],
        );
        check(
            min("Container", "1"),
            json!({}),
            &["minimum cpu usage per Container is 1.  No request is specified"],
        );
        check(
            max("Container", "2"),
            both.clone(),
            &["maximum cpu usage per Container is 2, but limit is 3"],
        );
        check(max("Pod", "6"), both.clone(), &[]);
        check(
            max("Container", "2"),
            json!({}),
            &["maximum cpu usage per Container is 2.  No limit is specified"],
        );
        let ratio = json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } });
        check(
            ratio.clone(),
            both,
            &["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
        );
        check(
            ratio,
            json!({}),
            &[
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ],
        );
    }

    #[test]
    fn claims_have_bounds_too() {
        let limit = json!({ "type": CLAIM, "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } });
        let claim = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        assert_eq!(
            of_claim(&range(limit.clone()), &claim("1Gi")),
            Vec::<String>::new()
        );
        assert_eq!(
            of_claim(&range(limit), &claim("3Gi")),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
