//! NodeRestriction: a node changes its own objects only, and of these only what is a node's to change. Pure.
//!
//! The Node authorizer has let the request pass already; what it cannot see is judged here: the object's content.
//! Source: Kubernetes `plugin/pkg/admission/noderestriction`.

use corten_api::kinds::certificates::request;
use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::node::{self, references};
use crate::write::Subject;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes' own that a node may set. Source: `k8s.io/kubelet/pkg/apis/well_known_labels.go`.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Signers of certificates for nodes.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
];

/// # Errors
/// `Forbidden` in upstream's words; `NotFound` for a Pod or Node that is not there.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    let Some(node) = node::of_user(attributes.user) else {
        return Ok(());
    };
    if node.is_empty() {
        let name = &attributes.user.name;
        return Err(attributes.forbidden(format!("could not determine node from user {name:?}")));
    }
    let request = Request {
        attributes,
        snapshot,
        object,
        node,
    };
    let ty = attributes.subject.ty;
    let judged = match (&*ty.group, &*ty.plural) {
        ("", "pods") => request.pod()?,
        ("", "nodes") => request.own_node(),
        ("", "persistentvolumeclaims") => request.claim(),
        ("coordination.k8s.io", "leases") => request.lease(),
        ("storage.k8s.io", "csinodes") => {
            request.named("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => request.slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => request.certificate(),
        _ => Ok(()),
    };
    judged.map_err(|why| attributes.forbidden(why))
}

/// What of a token's request is a node's to ask. `account`: namespace and name.
///
/// # Errors
/// `Forbidden` in upstream's words, `NotFound` for the Pod.
pub fn token(node: &str, account: (&str, &str), request: &Value, snapshot: &Snapshot) -> Result<(), Status> {
    let (namespace, name) = account;
    let ty = registry().lookup("", "v1", "serviceaccounts").expect("built in");
    let forbidden = |why: String| Err(Status::forbidden(ty.qualified(), name, why));
    let reference = &request["spec"]["boundObjectRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return forbidden("node requested token not bound to a pod".into());
    }
    if text("uid").is_empty() {
        return forbidden("node requested token with a pod binding without a uid".into());
    }
    let pod = pod(snapshot, namespace, text("name"))?;
    if meta::uid(&pod) != text("uid") {
        return forbidden(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return forbidden("node requested token bound to a pod scheduled on a different node".into());
    }
    let audiences = request["spec"]["audiences"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let audience = match audiences {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return forbidden("node may only request 0 or 1 audiences".into()),
    };
    if !has_audience(&pod, audience, snapshot) {
        return forbidden(format!("audience {audience:?} not found in pod spec volume"));
    }
    Ok(())
}

/// Whether a volume of the Pod asks for tokens of this audience.
fn has_audience(pod: &Value, audience: &str, snapshot: &Snapshot) -> bool {
    let items = |list: &'_ Value| list.as_array().cloned().unwrap_or_default();
    let of = |object: &Value, field: &str| object[field].as_str().unwrap_or_default() == audience;
    for volume in items(&pod["spec"]["volumes"]) {
        let sources = items(&volume["projected"]["sources"]);
        let projected = |source: &Value| {
            source["serviceAccountToken"].is_object() && of(&source["serviceAccountToken"], "audience")
        };
        if sources.iter().any(projected) {
            return true;
        }
        if let Some(driver) = driver_of(pod, &volume, snapshot) {
            let ty = registry()
                .lookup("storage.k8s.io", "v1", "csidrivers")
                .expect("built in");
            let found = Subject { ty, namespace: "" }.read(snapshot, &driver);
            let requests = found.map(|driver| items(&driver.value["spec"]["tokenRequests"]));
            if requests.is_ok_and(|requests| requests.iter().any(|request| of(request, "audience"))) {
                return true;
            }
        }
    }
    false
}

/// The CSI driver of a volume: named itself, or by the PersistentVolume of its claim.
fn driver_of(pod: &Value, volume: &Value, snapshot: &Snapshot) -> Option<String> {
    if let Some(driver) = volume["csi"]["driver"].as_str() {
        return Some(driver.to_owned());
    }
    let claim = match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claim) => claim.to_owned(),
        None if volume["ephemeral"].is_object() => {
            format!(
                "{}-{}",
                meta::name(pod),
                volume["name"].as_str().unwrap_or_default()
            )
        }
        None => return None,
    };
    let read = |plural: &str, namespace: &str, name: &str| {
        let ty = registry().lookup("", "v1", plural).expect("built in");
        Some(Subject { ty, namespace }.read(snapshot, name).ok()?.value)
    };
    let claim = read("persistentvolumeclaims", meta::namespace(pod), &claim)?;
    let volume = read("persistentvolumes", "", claim["spec"]["volumeName"].as_str()?)?;
    volume["spec"]["csi"]["driver"].as_str().map(str::to_owned)
}

fn pod(snapshot: &Snapshot, namespace: &str, name: &str) -> Result<Value, Status> {
    let ty = registry().lookup("", "v1", "pods").expect("built in");
    Ok(Subject { ty, namespace }.read(snapshot, name)?.value)
}

struct Request<'a> {
    attributes: &'a Attributes<'a>,
    snapshot: &'a Snapshot,
    object: &'a Value,
    node: &'a str,
}

type Judged = Result<(), String>;

impl Request<'_> {
    fn operation(&self) -> Operation {
        self.attributes.operation
    }

    fn pod(&self) -> Result<Judged, Status> {
        let node = self.node;
        Ok(match (self.attributes.subresource, self.operation()) {
            ("", Operation::Create) => return self.mirror_pod(),
            ("", Operation::Delete) => {
                let old = self.attributes.old.unwrap_or(&Value::Null);
                match old["spec"]["nodeName"] == node {
                    true => Ok(()),
                    false => Err(format!(
                        "node {node:?} can only delete pods with spec.nodeName set to itself"
                    )),
                }
            }
            ("", operation) => Err(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) => self.pod_status(),
            ("status", operation) => Err(format!("unexpected operation {:?}", operation.as_str())),
            ("eviction", Operation::Create) => {
                let own = meta::name(self.object);
                let name = if self.attributes.name.is_empty() {
                    own
                } else {
                    self.attributes.name
                };
                let pod = pod(self.snapshot, self.attributes.subject.namespace, name)?;
                match pod["spec"]["nodeName"] == node {
                    true => Ok(()),
                    false => Err(format!(
                        "node {node} can only evict pods with spec.nodeName set to itself"
                    )),
                }
            }
            ("eviction", operation) => Err(format!("unexpected operation {}", operation.as_str())),
            (sub, _) => Err(format!(
                "unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed"
            )),
        })
    }

    /// The only Pods a node makes stand for what it runs without the server's word, and open nothing to it.
    fn mirror_pod(&self) -> Result<Judged, Status> {
        let (pod, node) = (self.object, self.node);
        if pod["metadata"]["annotations"].get(MIRROR).is_none() {
            return Ok(Err(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            )));
        }
        if pod["spec"]["nodeName"] != node {
            return Ok(Err(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            )));
        }
        if let Err(why) = self.owned_by_node(pod)? {
            return Ok(Err(why));
        }
        let refers = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
        if pod["spec"]["serviceAccountName"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
        {
            return Ok(refers("a service account"));
        }
        if let Some((kind, _)) = references::all(pod).into_iter().next() {
            return Ok(refers(kind.plural()));
        }
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let mut sources = volumes.flat_map(|v| v["projected"]["sources"].as_array().into_iter().flatten());
        if sources.any(|source| source["clusterTrustBundle"].is_object()) {
            return Ok(refers("clustertrustbundles"));
        }
        let claims = pod["spec"]["resourceClaims"].as_array();
        if claims.is_some_and(|claims| !claims.is_empty()) {
            return Ok(refers("resourceclaims"));
        }
        Ok(Ok(()))
    }

    fn owned_by_node(&self, pod: &Value) -> Result<Judged, Status> {
        let node = self.node;
        let owners = pod["metadata"]["ownerReferences"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let owner = match owners {
            [owner] => owner,
            [] => {
                return Ok(Err(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                )));
            }
            _ => {
                return Ok(Err(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                )));
            }
        };
        let is = |field: &str, want: &str| owner[field] == want;
        if !(is("apiVersion", "v1") && is("kind", "Node") && is("name", node)) {
            return Ok(Err(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            )));
        }
        if owner["controller"] != true {
            return Ok(Err(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            )));
        }
        if owner["blockOwnerDeletion"] == true {
            return Ok(Err(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            )));
        }
        let ty = registry().lookup("", "v1", "nodes").expect("built in");
        let own = Subject { ty, namespace: "" }.read(self.snapshot, node)?.value;
        if owner["uid"] != meta::uid(&own) {
            return Ok(Err(format!(
                "node {node} UID mismatch: expected {} got {}",
                owner["uid"].as_str().unwrap_or_default(),
                meta::uid(&own)
            )));
        }
        Ok(Ok(()))
    }

    fn pod_status(&self) -> Judged {
        let (node, new) = (self.node, self.object);
        let old = self.attributes.old.unwrap_or(&Value::Null);
        if old["spec"]["nodeName"] != node {
            return Err(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        if old["metadata"]["labels"] != new["metadata"]["labels"] {
            return Err(format!("node {node:?} cannot update labels through pod status"));
        }
        for (field, what) in [
            ("resourceClaimStatuses", "resource claim statuses"),
            ("extendedResourceClaimStatus", "extended resource claim statuses"),
        ] {
            if old["status"][field] != new["status"][field] {
                return Err(format!("node {node:?} cannot update {what}"));
            }
        }
        Ok(())
    }

    fn own_node(&self) -> Judged {
        let (node, new, old) = (self.node, self.object, self.attributes.old);
        let labels = |object: Option<&Value>| {
            let labels = object.and_then(|object| object["metadata"]["labels"].as_object());
            labels.cloned().unwrap_or_default()
        };
        let (new_labels, old_labels) = (labels(Some(new)), labels(old));
        let changed = new_labels
            .iter()
            .filter(|(key, value)| old_labels.get(*key) != Some(*value));
        let removed = old_labels
            .iter()
            .filter(|(key, _)| !new_labels.contains_key(*key));
        let mut refused: Vec<&str> = changed
            .chain(removed)
            .map(|(key, _)| key.as_str())
            .filter(|key| !is_a_nodes(key))
            .collect();
        refused.sort_unstable();
        if self.operation() == Operation::Create && !refused.is_empty() {
            let refused = refused.join(", ");
            return Err(format!("is not allowed to set the following labels: {refused}"));
        }
        let name = match self.attributes.name {
            "" => meta::name(new),
            name => name,
        };
        if name != node {
            return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let Some(old) = old.filter(|_| self.operation() == Operation::Update) else {
            return Ok(());
        };
        if old["spec"]["taints"] != new["spec"]["taints"] {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
        if !refused.is_empty() {
            return Err(format!("is not allowed to modify labels: {}", refused.join(", ")));
        }
        Ok(())
    }

    fn claim(&self) -> Judged {
        if self.attributes.subresource != "status" {
            return Err("may only update PVC status".into());
        }
        let Some(old) = self.attributes.old else {
            return Ok(());
        };
        let rest = |claim: &Value| {
            let mut rest = claim.clone();
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                rest["status"][field] = Value::Null;
            }
            for field in ["managedFields", "resourceVersion"] {
                meta::set(&mut rest, field, Value::Null);
            }
            rest
        };
        match rest(old) == rest(self.object) {
            true => Ok(()),
            false => Err(format!(
                "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
                self.node
            )),
        }
    }

    fn lease(&self) -> Judged {
        if self.attributes.subject.namespace != "kube-node-lease" {
            return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
        }
        self.named("can only access node lease with the same name as the requesting node")
    }

    /// The object has the node's name.
    fn named(&self, why: &str) -> Judged {
        let name = match self.attributes.name {
            "" => meta::name(self.object),
            name => name,
        };
        if name == self.node {
            Ok(())
        } else {
            Err(why.to_owned())
        }
    }

    fn slice(&self) -> Judged {
        let (slice, what) = match self.operation() {
            Operation::Create => (self.object, "create"),
            Operation::Delete => (self.attributes.old.unwrap_or(&Value::Null), "delete"),
            _ => return Ok(()),
        };
        match slice["spec"]["nodeName"] == self.node {
            true => Ok(()),
            false => Err(format!(
                "can only {what} ResourceSlice with the same NodeName as the requesting node"
            )),
        }
    }

    fn certificate(&self) -> Judged {
        let spec = &self.object["spec"];
        let signer = spec["signerName"].as_str().unwrap_or_default();
        if self.operation() != Operation::Create || !NODE_SIGNERS.contains(&signer) {
            return Ok(());
        }
        let own = format!("system:node:{}", self.node);
        match request::common_name(spec["request"].as_str().unwrap_or_default()) {
            Some(name) if name == own => Ok(()),
            _ => Err(format!("can only create a node CSR with CN={own}")),
        }
    }
}

/// Whether a node may set or change a label.
fn is_a_nodes(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| {
        domain == parent
            || domain
                .strip_suffix(parent)
                .is_some_and(|start| start.ends_with('.'))
    };
    if below(RESTRICTED) {
        return false;
    }
    let of_kubernetes = below("kubernetes.io") || below("k8s.io");
    !of_kubernetes || OWN_LABELS.contains(&label) || OWN_LABEL_DOMAINS.iter().any(|domain| below(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_node() {
        for (label, want) in [
            ("disk", true),
            ("example.com/disk", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/other", false),
            ("x.k8s.io/y", false),
            ("notk8s.io/y", true),
            ("node-restriction.kubernetes.io/fips", false),
            ("example.com.node-restriction.kubernetes.io/fips", false),
        ] {
            assert_eq!(is_a_nodes(label), want, "{label}");
        }
    }
}
