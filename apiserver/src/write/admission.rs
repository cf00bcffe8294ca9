//! Built-in admission: what the cluster adds to objects and refuses about them. Pure.
//!
//! Knows Namespaces, Pods and their ServiceAccounts. Policies, quotas and webhooks are other rooms.

use corten_api::kinds::certificates::request;
use corten_api::status::StatusCause;
use corten_api::{ResourceType, Status, meta, registry};
use corten_store::{Op, Precondition, Snapshot};
use serde_json::{Value, json};

use super::{Env, Subject};
use crate::Config;
use crate::identity::MASTERS;
use crate::key::Keys;
use crate::stored::{Stored, TypeMeta};
use corten_api::resource::CreateContext;

const NAMESPACES: Keys<'static> = Keys {
    group: "",
    resource: "namespaces",
    namespaced: false,
};
const SERVICE_ACCOUNTS: Keys<'static> = Keys {
    group: "",
    resource: "serviceaccounts",
    namespaced: true,
};
/// Namespaces that always exist. Source: Kubernetes NamespaceLifecycle admission.
pub const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// ConfigMap with the cluster's CA in every namespace. Source: Kubernetes root-ca-cert-publisher.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Seconds a Pod stays on a node that is not ready or unreachable. Source: DefaultTolerationSeconds admission.
const DEFAULT_TOLERATION_SECONDS: i64 = 300;
/// The signer of certificates for users, and the group it never signs for.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn is(ty: &ResourceType, plural: &str) -> bool {
    ty.group.is_empty() && ty.plural == plural
}

/// What is filled in before defaults.
pub fn mutate_create(subject: Subject<'_>, object: &mut Value) {
    if is(subject.ty, "namespaces") {
        mutate_namespace(object);
    } else if is(subject.ty, "pods") {
        mutate_pod(object);
    } else if is(subject.ty, "nodes") {
        mutate_node(object);
    }
}

/// A new node takes no Pods until it is known to be ready. Source: Kubernetes TaintNodesByCondition admission.
fn mutate_node(object: &mut Value) {
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    if let Some(list) = taints.as_array_mut()
        && !list
            .iter()
            .any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule")
    {
        list.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
    }
}

fn mutate_namespace(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if name.is_empty() || !object["metadata"]["labels"].is_null() && !object["metadata"]["labels"].is_object()
    {
        return; // generateName: the label follows at the end of preparation; a wrong type is refused by decoding
    }
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

fn mutate_pod(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let text = |spec: &serde_json::Map<String, Value>, key: &str| {
        spec.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let account = match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        (name, _) if !name.is_empty() => name,
        (_, name) if !name.is_empty() => name,
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".into(), account.clone().into());
    spec.insert("serviceAccount".into(), account.into());
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(list) = tolerations.as_array_mut() else {
        return;
    };
    for key in [NOT_READY, "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|t| {
            let effect = t["effect"].as_str().unwrap_or_default();
            let any_key = t["key"].as_str().unwrap_or_default().is_empty() && t["operator"] == "Exists";
            (t["key"] == key || any_key) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            }));
        }
    }
}

/// The namespace of a namespaced object must exist and live; the precondition keeps it so until the write.
///
/// # Errors
/// `NotFound` or `Forbidden` with upstream's texts.
pub fn namespace_of(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    object: &Value,
) -> Result<Option<Precondition>, Status> {
    if !subject.ty.namespaced {
        return Ok(None);
    }
    let name = subject.namespace;
    let key = NAMESPACES.object(None, name);
    let entry = snapshot
        .get(&key)
        .ok_or_else(|| Status::not_found(corten_api::status::Qualified::new("", "namespaces"), name))?;
    let meta = TypeMeta {
        group: "",
        version: "v1",
        kind: "Namespace",
    };
    // Only a namespace that is being deleted has a deletion time; a look at the bytes saves parsing on every create.
    let terminating = memmem(&entry.value, b"\"deletionTimestamp\"")
        && Stored::new(&entry.value)
            .and_then(|stored| stored.parse(meta, entry.mod_revision.0))
            .map_err(crate::damaged)
            .map(|namespace| meta::is_deleting(&namespace))?;
    if terminating {
        let mut status = Status::forbidden(
            subject.ty.qualified(),
            meta::name(object),
            format!("unable to create new content in namespace {name} because it is being terminated"),
        );
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        return Err(status);
    }
    Ok(Some(Precondition::ModRevision(key, entry.mod_revision)))
}

/// Nobody becomes a member of `system:masters` by a certificate request.
/// Source: Kubernetes CertificateSubjectRestriction admission.
fn certificate_subject(subject: Subject<'_>, object: &Value) -> Result<(), Status> {
    let spec = &object["spec"];
    if spec["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let organizations = request::organizations(spec["request"].as_str().unwrap_or_default());
    if organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(Status::forbidden(subject.ty.qualified(), meta::name(object), why));
    }
    Ok(())
}

pub(super) fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// # Errors
/// `Forbidden` with upstream's texts.
pub fn validate_create(subject: Subject<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    if subject.ty.group == "certificates.k8s.io" {
        return certificate_subject(subject, object);
    }
    if !is(subject.ty, "pods") {
        return Ok(());
    }
    let name = meta::name(object);
    let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let mirror = meta::annotation(object, "kubernetes.io/config.mirror").is_some();
    if !mirror
        && snapshot
            .get(&SERVICE_ACCOUNTS.object(Some(subject.namespace), account))
            .is_none()
    {
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
            subject.namespace
        );
        return Err(Status::forbidden(subject.ty.qualified(), name, why));
    }
    Ok(())
}

/// What is born with a namespace: its default ServiceAccount and the cluster's CA. One left over from before is kept.
///
/// # Errors
/// Never for our own objects; the signature is that of preparation.
pub fn namespace_contents(
    config: &Config,
    snapshot: &Snapshot,
    namespace: &str,
    env: &mut Env,
    preconditions: &mut Vec<Precondition>,
) -> Result<Vec<Op>, Status> {
    let contents = [
        ("serviceaccounts", json!({ "metadata": { "name": "default" } })),
        (
            "configmaps",
            json!({
                "metadata": {
                    "name": ROOT_CA_CONFIG_MAP,
                    "annotations": {
                        "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
                    },
                },
                "data": { "ca.crt": config.ca_pem },
            }),
        ),
    ];
    let mut ops = Vec::with_capacity(contents.len());
    for (plural, mut object) in contents {
        let ty = registry()
            .lookup("", "v1", plural)
            .expect("ServiceAccounts and ConfigMaps are built in");
        let subject = Subject { ty, namespace };
        let uid = env.uid();
        ty.prepare_create(
            &mut object,
            &CreateContext {
                namespace,
                uid: &uid,
                now: env.now,
                name_suffix: "",
            },
        )?;
        let key = subject.key(meta::name(&object));
        if snapshot.get(&key).is_none() {
            preconditions.push(Precondition::Absent(key.clone()));
            ops.push(Op::Put {
                value: subject.encode(&object),
                key,
            });
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_account_and_tolerations() {
        let mut pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [] } });
        mutate_pod(&mut pod);
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["serviceAccount"], "default");
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
        let again = pod.clone();
        mutate_pod(&mut pod);
        assert_eq!(pod, again, "a second time changes nothing");
    }

    #[test]
    fn own_tolerations_stand() {
        let mut pod = json!({ "spec": {
            "tolerations": [{ "operator": "Exists", "effect": "NoExecute" }],
        } });
        mutate_pod(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_namespace_names_itself_and_waits_for_its_finalizer() {
        let mut namespace = json!({ "metadata": { "name": "a" } });
        mutate_namespace(&mut namespace);
        assert_eq!(
            namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
            "a"
        );
        assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    }
}
