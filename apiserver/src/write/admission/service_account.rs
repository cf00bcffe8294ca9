//! ServiceAccount: a Pod has an account that exists, and shows its token to the API. Pure.
//!
//! A new Pod gets a name of an account, a volume with the account's token, the cluster's CA and its own namespace, and the
//! account's pull Secrets. An account may restrict which Secrets its Pods use.
//!
//! Source: Kubernetes `plugin/pkg/admission/serviceaccount`.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::node::graph::Kind;
use crate::node::references;
use crate::tokens::claims::WARN_ONLY_SECONDS;
use crate::write::{Env, Subject};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DEFAULT: &str = "default";
/// Where the token is in every container.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volume's name starts with; five random characters follow.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// On an account: its Pods use only the Secrets that it names.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Permission bits of the volume's files.
const MODE: i32 = 0o644;

/// Fills in what a new Pod has by its account.
///
/// # Errors
/// `Forbidden` with upstream's text for an account that does not exist.
pub fn mutate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    env: &mut Env,
) -> Result<(), Status> {
    let creates_pod = attributes.operation == Operation::Create && attributes.is("", "pods");
    // A mirror Pod stands for what runs already: nothing is added.
    if !creates_pod || meta::annotation(object, MIRROR).is_some() {
        return Ok(());
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let account = account(attributes, snapshot, &name_account(spec))?;
    let unasked = !(env.strict.bare_default_account && meta::name(&account) == DEFAULT);
    if automounts(spec, &account, unasked) {
        mount_token(spec, || format!("{VOLUME_PREFIX}{}", env.name_suffix()));
    }
    if is_empty(spec.get("imagePullSecrets")) && !is_empty(account.get("imagePullSecrets")) {
        let names = items(&account["imagePullSecrets"]).map(|secret| json!({ "name": secret["name"] }));
        spec.insert("imagePullSecrets".into(), names.collect());
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn is_empty(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// The name of the Pod's account, set in both of its fields.
fn name_account(spec: &mut Map<String, Value>) -> String {
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let account = match (text("serviceAccountName"), text("serviceAccount")) {
        ("", "") => DEFAULT,
        ("", name) | (name, _) => name,
    };
    let account = account.to_owned();
    spec.insert("serviceAccountName".into(), account.clone().into());
    spec.insert("serviceAccount".into(), account.clone().into());
    account
}

fn account(attributes: &Attributes<'_>, snapshot: &Snapshot, name: &str) -> Result<Arc<Value>, Status> {
    let namespace = attributes.subject.namespace;
    let ty = registry()
        .lookup("", "v1", "serviceaccounts")
        .expect("ServiceAccounts are built in");
    let accounts = Subject { ty, namespace };
    match snapshot.get(&accounts.key(name)) {
        Some(entry) => accounts.shared(&entry),
        None => Err(attributes.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        ))),
    }
}

/// The Pod's wish counts before the account's; without either there is a token if `unasked`.
fn automounts(spec: &Map<String, Value>, account: &Value, unasked: bool) -> bool {
    let wish = |value: Option<&Value>| value.and_then(Value::as_bool);
    const FIELD: &str = "automountServiceAccountToken";
    wish(spec.get(FIELD))
        .or_else(|| wish(account.get(FIELD)))
        .unwrap_or(unasked)
}

/// Mounts the token into every container that has nothing at its place. `new_name`: of the volume, if there is none yet.
fn mount_token(spec: &mut Map<String, Value>, new_name: impl FnOnce() -> String) {
    let present = items(spec.get("volumes").unwrap_or(&Value::Null))
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let is_new = present.is_none();
    let name = present.unwrap_or_else(new_name);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let mounts = container.entry("volumeMounts").or_insert(Value::Null);
            if mounts.is_null() {
                *mounts = json!([]);
            }
            // A list that is none is refused by validation.
            let Some(mounts) = mounts.as_array_mut() else {
                continue;
            };
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH }));
                mounted = true;
            }
        }
    }
    if !is_new || !mounted {
        return;
    }
    let volumes = spec.entry("volumes").or_insert(Value::Null);
    if volumes.is_null() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    static VOLUME: LazyLock<Value> = LazyLock::new(|| {
        json!({
            "projected": {
                "defaultMode": MODE,
                "sources": [
                    { "serviceAccountToken": { "path": "token", "expirationSeconds": WARN_ONLY_SECONDS } },
                    { "configMap": {
                        "name": super::namespace::ROOT_CA_CONFIG_MAP,
                        "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                    } },
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }] } },
                ],
            },
        })
    });
    let mut volume = VOLUME.clone();
    volume["name"] = name.into();
    volume
}

/// # Errors
/// `Forbidden` with upstream's texts: an account that does not exist, a Secret that the account does not name, a mirror Pod
/// that refers to either.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    if !ty.group.is_empty() || ty.plural != "pods" {
        return Ok(());
    }
    let ephemeral = match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => false,
        (Operation::Update, "ephemeralcontainers") => true,
        _ => return Ok(()),
    };
    if !ephemeral && meta::annotation(object, MIRROR).is_some() {
        return mirror(object).map_err(|why| attributes.forbidden(why));
    }
    let name = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if name.is_empty() {
        let (namespace, pod) = (attributes.subject.namespace, meta::name(object));
        return Err(attributes.forbidden(format!("no service account specified for pod {namespace}/{pod}")));
    }
    let account = account(attributes, snapshot, name)?;
    // As Go's ParseBool reads it.
    let enforces = meta::annotation(&account, ENFORCE)
        .is_some_and(|value| matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True"));
    match (enforces, ephemeral) {
        (false, _) => Ok(()),
        (true, false) => of_account(&account, &object["spec"]).map_err(|why| attributes.forbidden(why)),
        // Upstream answers with a bare error here, which is an internal one.
        (true, true) => containers(
            &account,
            &object["spec"],
            "ephemeralContainers",
            "ephemeral container",
        )
        .map_err(Status::internal),
    }
}

/// A mirror Pod stands for what a node runs on its own: it opens nothing of the cluster's.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    let text = |field: &str| pod["spec"][field].as_str().unwrap_or_default();
    if !text("serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if references::all(pod).iter().any(|(kind, _)| *kind == Kind::Secret) {
        return Err("a mirror pod may not reference secrets");
    }
    let mut sources =
        items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    if sources.any(|source| source["serviceAccountToken"].is_object()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn names(list: &Value) -> BTreeSet<&str> {
    items(list).filter_map(|item| item["name"].as_str()).collect()
}

/// The Pod uses no other Secrets than those its account names.
fn of_account(account: &Value, spec: &Value) -> Result<(), String> {
    let (own, allowed) = (meta::name(account), names(&account["secrets"]));
    for volume in items(&spec["volumes"]) {
        let Some(secret) = volume["secret"].as_object() else {
            continue;
        };
        let name = secret
            .get("secretName")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !allowed.contains(name) {
            return Err(format!(
                "volume with secret.secretName=\"{name}\" is not allowed because service account {own} does not reference that secret"
            ));
        }
    }
    containers(account, spec, "initContainers", "init container")?;
    containers(account, spec, "containers", "container")?;
    let pulls = names(&account["imagePullSecrets"]);
    for (place, secret) in items(&spec["imagePullSecrets"]).enumerate() {
        let name = secret["name"].as_str().unwrap_or_default();
        if !pulls.contains(name) {
            return Err(format!(
                "imagePullSecrets[{place}].name=\"{name}\" is not allowed because service account {own} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// The Secrets in the environment of one list of containers. `what`: what the text calls one of them.
fn containers(account: &Value, spec: &Value, list: &str, what: &str) -> Result<(), String> {
    let (own, allowed) = (meta::name(account), names(&account["secrets"]));
    let text = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    for container in items(&spec[list]) {
        let refused = |how: String, secret: &str| {
            let name = text(container);
            Err(format!(
                "{what} {name} with {how} referencing secret.secretName=\"{secret}\" is not allowed because service account {own} does not reference that secret"
            ))
        };
        for variable in items(&container["env"]) {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            if reference.is_object() && !allowed.contains(text(reference).as_str()) {
                return refused(format!("envVar {}", text(variable)), &text(reference));
            }
        }
        for from in items(&container["envFrom"]) {
            let reference = &from["secretRef"];
            if reference.is_object() && !allowed.contains(text(reference).as_str()) {
                return refused("envFrom".into(), &text(reference));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_pod_gets_an_account() {
        let mut new = spec(json!({ "containers": [] }));
        assert_eq!(name_account(&mut new), "default");
        assert_eq!(new["serviceAccount"], "default");
        let mut old = spec(json!({ "serviceAccount": "x" }));
        assert_eq!(name_account(&mut old), "x");
        assert_eq!(old["serviceAccountName"], "x");
    }

    #[test]
    fn every_container_without_something_there_gets_the_token() {
        let taken = json!([{ "name": "own", "mountPath": MOUNT_PATH }]);
        let mut pod = spec(json!({
            "initContainers": [{ "name": "i" }],
            "containers": [{ "name": "a", "volumeMounts": null }, { "name": "b", "volumeMounts": taken }],
        }));
        mount_token(&mut pod, || "kube-api-access-abcde".into());
        let mount = json!([{ "name": "kube-api-access-abcde", "readOnly": true, "mountPath": MOUNT_PATH }]);
        assert_eq!(pod["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(pod["containers"][0]["volumeMounts"], mount);
        assert_eq!(pod["containers"][1]["volumeMounts"], taken);
        let sources = &pod["volumes"][0]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3607);
        // Again, as after a webhook: nothing is added.
        let before = pod.clone();
        mount_token(&mut pod, || unreachable!("there is one"));
        assert_eq!(pod, before);
        let mut full = spec(json!({ "containers": [{ "name": "b", "volumeMounts": taken }] }));
        mount_token(&mut full, || "kube-api-access-x".into());
        assert_eq!(full.get("volumes"), None, "nobody would use it");
    }

    #[test]
    fn the_pods_wish_counts_first() {
        let check = |pod: Value, account: Value, want: bool| {
            let found = |unasked| automounts(&spec(pod.clone()), &account, unasked);
            assert_eq!(found(true), want, "{pod} {account}");
            let asked = !(pod == json!({}) && account == json!({}));
            assert_eq!(found(false), want && asked, "{pod} {account}");
        };
        let wish = |wish: bool| json!({ "automountServiceAccountToken": wish });
        check(json!({}), json!({}), true);
        check(json!({}), wish(false), false);
        check(wish(true), wish(false), true);
        check(wish(false), wish(true), false);
    }

    #[test]
    fn an_account_may_name_all_secrets_of_its_pods() {
        let account = json!({ "metadata": { "name": "s" }, "secrets": [{ "name": "mine" }],
            "imagePullSecrets": [{ "name": "pull" }] });
        let check = |spec: Value, want: Result<(), &str>| {
            assert_eq!(of_account(&account, &spec), want.map_err(str::to_owned));
        };
        check(
            json!({ "volumes": [{ "secret": { "secretName": "mine" } }] }),
            Ok(()),
        );
        check(
            json!({ "volumes": [{ "secret": { "secretName": "other" } }] }),
            Err(
                "volume with secret.secretName=\"other\" is not allowed because service account s does not reference that secret",
            ),
        );
        let env = json!([{ "name": "E", "valueFrom": { "secretKeyRef": { "name": "other", "key": "k" } } }]);
        check(
            json!({ "initContainers": [{ "name": "i", "env": env }] }),
            Err(
                "init container i with envVar E referencing secret.secretName=\"other\" is not allowed because service account s does not reference that secret",
            ),
        );
        check(
            json!({ "containers": [{ "name": "c", "envFrom": [{ "secretRef": { "name": "other" } }] }] }),
            Err(
                "container c with envFrom referencing secret.secretName=\"other\" is not allowed because service account s does not reference that secret",
            ),
        );
        check(
            json!({ "imagePullSecrets": [{ "name": "pull" }, { "name": "no" }] }),
            Err(
                "imagePullSecrets[1].name=\"no\" is not allowed because service account s does not reference that imagePullSecret",
            ),
        );
    }

    #[test]
    fn a_mirror_pod_opens_nothing() {
        let check = |spec: Value, want: Result<(), &str>| {
            assert_eq!(mirror(&json!({ "spec": spec })), want);
        };
        check(json!({ "containers": [] }), Ok(()));
        check(
            json!({ "serviceAccountName": "x" }),
            Err("a mirror pod may not reference service accounts"),
        );
        check(
            json!({ "volumes": [{ "name": "v", "secret": { "secretName": "s" } }] }),
            Err("a mirror pod may not reference secrets"),
        );
        let token = json!([{ "serviceAccountToken": { "path": "t" } }]);
        check(
            json!({ "volumes": [{ "name": "v", "projected": { "sources": token } }] }),
            Err("a mirror pod may not use ServiceAccountToken volume projections"),
        );
    }
}
