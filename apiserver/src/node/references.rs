//! What one Pod or PersistentVolume refers to, read from its stored bytes. Pure.
//!
//! Source: Kubernetes `pkg/api/v1/pod/util.go` (VisitPodSecretNames, VisitPodConfigmapNames) and
//! `pkg/api/v1/persistentvolume/util.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::borrow::Cow;

use serde_json::Value;

use super::graph::Kind;

/// Marks a Pod that a node made itself: it opens nothing to the node.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is referred to, in the Pod's namespace.
pub type Reference<'a> = (Kind, Cow<'a, str>);

/// A Pod's node and what it refers to in its namespace, each once. `None`: it has no node, or opens nothing.
#[must_use]
pub fn of_pod(pod: &Value) -> Option<(&str, Vec<Reference<'_>>)> {
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())?;
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return None;
    }
    Some((node, all(pod)))
}

/// What a Pod's fields name, whatever they open to whom.
#[must_use]
pub fn all(pod: &Value) -> Vec<Reference<'_>> {
    let spec = &pod["spec"];
    let mut found = Found(Vec::new());
    found.add(Kind::ServiceAccount, &spec["serviceAccountName"]);
    for secret in items(&spec["imagePullSecrets"]) {
        found.add(Kind::Secret, &secret["name"]);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            found.container(container);
        }
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    for volume in items(&spec["volumes"]) {
        found.volume(volume, name);
    }
    for claim in items(&spec["resourceClaims"]).chain(items(&pod["status"]["resourceClaimStatuses"])) {
        found.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    let extended = &pod["status"]["extendedResourceClaimStatus"];
    found.add(Kind::ResourceClaim, &extended["resourceClaimName"]);
    found.0
}

/// Namespace and name.
type Place<'a> = (&'a str, &'a str);

/// The claim a PersistentVolume is bound to, and the Secrets it needs. `None`: it has no claim.
#[must_use]
pub fn of_volume(volume: &Value) -> Option<(Place<'_>, Vec<Place<'_>>)> {
    let spec = &volume["spec"];
    let claim = text(&spec["claimRef"], "name").map(|name| (text(&spec["claimRef"], "namespace"), name));
    let (Some(namespace), claim) = claim? else {
        return None;
    };
    let mut secrets = Vec::new();
    // Where a reference names no namespace it is the claim's.
    let mut add = |of: &'static str, at: &'static str| {
        let reference = &spec[of][at];
        if let Some(name) = text(reference, "name") {
            secrets.push((text(reference, "namespace").unwrap_or(namespace), name));
        }
    };
    for reference in CSI_SECRETS {
        add("csi", reference);
    }
    for kind in WITH_SECRET {
        add(kind, "secretRef");
    }
    if let Some(name) = text(&spec["azureFile"], "secretName") {
        let of = text(&spec["azureFile"], "secretNamespace");
        secrets.push((of.unwrap_or(namespace), name));
    }
    Some(((namespace, claim), secrets))
}

const CSI_SECRETS: [&str; 4] = [
    "controllerPublishSecretRef",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
];
/// Volumes with a `secretRef`.
const WITH_SECRET: [&str; 6] = ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];

fn text<'a>(of: &'a Value, field: &str) -> Option<&'a str> {
    of[field].as_str().filter(|text| !text.is_empty())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

struct Found<'a>(Vec<Reference<'a>>);

impl<'a> Found<'a> {
    fn add(&mut self, kind: Kind, name: &'a Value) {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            self.push(kind, Cow::Borrowed(name));
        }
    }

    fn push(&mut self, kind: Kind, name: Cow<'a, str>) {
        if !self.0.contains(&(kind, name.clone())) {
            self.0.push((kind, name));
        }
    }

    fn container(&mut self, container: &'a Value) {
        for from in items(&container["envFrom"]) {
            self.add(Kind::ConfigMap, &from["configMapRef"]["name"]);
            self.add(Kind::Secret, &from["secretRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            let from = &variable["valueFrom"];
            self.add(Kind::ConfigMap, &from["configMapKeyRef"]["name"]);
            self.add(Kind::Secret, &from["secretKeyRef"]["name"]);
        }
    }

    fn volume(&mut self, volume: &'a Value, pod: &str) {
        self.add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object()
            && let Some(name) = text(volume, "name")
        {
            self.push(Kind::Claim, Cow::Owned(format!("{pod}-{name}")));
        }
        self.add(Kind::ConfigMap, &volume["configMap"]["name"]);
        self.add(Kind::Secret, &volume["secret"]["secretName"]);
        self.add(Kind::Secret, &volume["azureFile"]["secretName"]);
        self.add(Kind::Secret, &volume["csi"]["nodePublishSecretRef"]["name"]);
        for kind in WITH_SECRET {
            self.add(Kind::Secret, &volume[kind]["secretRef"]["name"]);
        }
        for source in items(&volume["projected"]["sources"]) {
            self.add(Kind::ConfigMap, &source["configMap"]["name"]);
            self.add(Kind::Secret, &source["secret"]["name"]);
        }
    }
}
