//! Which node runs a Pod that refers to an object. Pure.
//!
//! Keeps a count for each pair of an object and a node, and nothing for a Pod: what a Pod opened is read again from its
//! old bytes when it changes or goes.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::HashMap;
use std::fmt::Write;

use corten_store::Entry;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::references;
use crate::stored::Stored;

/// What Pods refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
}

impl Kind {
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Secret => "secrets",
            Kind::ConfigMap => "configmaps",
            Kind::Claim => "persistentvolumeclaims",
            Kind::ResourceClaim => "resourceclaims",
            Kind::ServiceAccount => "a service account",
        }
    }
}

/// Names with numbers; a number is given again when nothing uses it any more.
#[derive(Default)]
struct Names {
    known: HashMap<Box<str>, Named>,
    free: Vec<u32>,
    next: u32,
}

struct Named {
    number: u32,
    uses: u32,
}

impl Names {
    fn get(&self, name: &str) -> Option<u32> {
        self.known.get(name).map(|named| named.number)
    }

    fn take(&mut self, name: &str) -> u32 {
        if let Some(named) = self.known.get_mut(name) {
            named.uses += 1;
            return named.number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.known.insert(name.into(), Named { number, uses: 1 });
        number
    }

    /// The number the name had.
    fn release(&mut self, name: &str) -> Option<u32> {
        let named = self.known.get_mut(name)?;
        let number = named.number;
        named.uses -= 1;
        if named.uses == 0 {
            self.known.remove(name);
            self.free.push(number);
        }
        Some(number)
    }
}

#[derive(Default)]
pub struct Graph {
    objects: Names,
    nodes: Names,
    /// Pods of a node that refer to an object.
    counts: HashMap<(u32, u32), u32>,
    /// For each Secret the claims of the volumes that need it.
    secrets: HashMap<Box<str>, Vec<Box<str>>>,
}

/// One object's name among all.
fn key(kind: Kind, namespace: &str, name: &str) -> String {
    let mut key = String::with_capacity(namespace.len() + name.len() + 3);
    let letter = match kind {
        Kind::Secret => 's',
        Kind::ConfigMap => 'c',
        Kind::Claim => 'v',
        Kind::ResourceClaim => 'r',
        Kind::ServiceAccount => 'a',
    };
    let _ = write!(key, "{letter}/{namespace}/{name}"); // writing to a string does not fail
    key
}

impl Graph {
    /// Whether a Pod on the node refers to the object, itself or through a volume.
    #[must_use]
    pub fn refers(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(node) = self.nodes.get(node) else {
            return false;
        };
        let object = key(kind, namespace, name);
        let claims = match kind {
            Kind::Secret => self.secrets.get(&*object).map_or(&[][..], Vec::as_slice),
            _ => &[],
        };
        let mut ways = claims.iter().map(|claim| &**claim).chain([object.as_str()]);
        ways.any(|object| {
            self.objects
                .get(object)
                .is_some_and(|object| self.counts.contains_key(&(object, node)))
        })
    }

    /// Whether a change can matter. Most changes of Pods are of their status.
    #[must_use]
    pub fn is_touched(old: Option<&std::sync::Arc<Entry>>, new: Option<&std::sync::Arc<Entry>>) -> bool {
        let (Some(old), Some(new)) = (old, new) else {
            return true;
        };
        match (Parts::of(old), Parts::of(new)) {
            (Some(old), Some(new)) => old != new,
            _ => true,
        }
    }

    /// Takes the change of one Pod or PersistentVolume over.
    pub fn change(&mut self, old: Option<&std::sync::Arc<Entry>>, new: Option<&std::sync::Arc<Entry>>) {
        // What is new first, so that what stays keeps its number.
        for (entry, step) in [(new, 1), (old, -1)] {
            let Some(entry) = entry.filter(|entry| !is_unplaced(entry)) else {
                continue;
            };
            let Some(object) = parse(entry) else {
                tracing::error!(key = ?entry.key, "a stored object is damaged; it opens nothing to nodes");
                continue;
            };
            match entry.key.starts_with(b"/core/pods/") {
                true => self.pod(&object, step),
                false => self.volume(&object, step),
            }
        }
    }

    fn pod(&mut self, pod: &Value, step: i8) {
        let Some((node, references)) = references::of_pod(pod) else {
            return;
        };
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        for (kind, name) in references {
            let object = key(kind, namespace, &name);
            if step > 0 {
                let pair = (self.objects.take(&object), self.nodes.take(node));
                *self.counts.entry(pair).or_default() += 1;
                continue;
            }
            let (Some(object), Some(node)) = (self.objects.release(&object), self.nodes.release(node)) else {
                continue;
            };
            if let Some(count) = self.counts.get_mut(&(object, node)) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&(object, node));
                }
            }
        }
    }

    fn volume(&mut self, volume: &Value, step: i8) {
        let Some(((namespace, claim), secrets)) = references::of_volume(volume) else {
            return;
        };
        let claim = key(Kind::Claim, namespace, claim);
        for (namespace, name) in secrets {
            let secret = key(Kind::Secret, namespace, name);
            if step > 0 {
                self.secrets
                    .entry(secret.into())
                    .or_default()
                    .push(claim.as_str().into());
                continue;
            }
            let Some(claims) = self.secrets.get_mut(&*secret) else {
                continue;
            };
            if let Some(at) = claims.iter().position(|own| **own == *claim) {
                claims.swap_remove(at);
            }
            if claims.is_empty() {
                self.secrets.remove(&*secret);
            }
        }
    }
}

/// Whether the head says already that this is a Pod without a node, which opens nothing.
fn is_unplaced(entry: &Entry) -> bool {
    let head = Stored::new(&entry.value).and_then(|stored| stored.head());
    entry.key.starts_with(b"/core/pods/") && head.is_ok_and(|head| head.field("spec.nodeName") == Some(""))
}

fn parse(entry: &Entry) -> Option<Value> {
    serde_json::from_slice(&Stored::new(&entry.value).ok()?.json().ok()?).ok()
}

/// What of an object can open something, unread.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    resource_claim_statuses: Option<&'a RawValue>,
    #[serde(borrow)]
    extended_resource_claim_status: Option<&'a RawValue>,
}

impl<'a> Parts<'a> {
    fn of(entry: &'a Entry) -> Option<Parts<'a>> {
        serde_json::from_slice(Stored::new(&entry.value).ok()?.plain()?).ok()
    }

    fn texts(&self) -> [&str; 4] {
        [
            self.metadata.annotations,
            self.spec,
            self.status.resource_claim_statuses,
            self.status.extended_resource_claim_status,
        ]
        .map(|raw| raw.map_or("", RawValue::get))
    }
}

impl PartialEq for Parts<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.texts() == other.texts()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_store::{Memo, Revision};
    use serde_json::json;

    use super::*;
    use crate::stored;

    fn entry(key: &str, object: &Value) -> Arc<Entry> {
        Arc::new(Entry {
            key: key.to_owned().into(),
            value: stored::encode::<&str, &str>(object, &[]),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            memo: Memo::default(),
        })
    }

    fn pod(name: &str, node: &str, spec: Value) -> Arc<Entry> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
        pod["spec"]["nodeName"] = node.into();
        entry(&format!("/core/pods/a/{name}"), &pod)
    }

    fn with_secret(name: &str, node: &str) -> Arc<Entry> {
        let env = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        pod(
            name,
            node,
            json!({"serviceAccountName": "default", "containers": [{"name": "c", "env": env}]}),
        )
    }

    #[track_caller]
    fn check(graph: &Graph, node: &str, kind: Kind, name: &str, want: bool) {
        assert_eq!(
            graph.refers(node, kind, "a", name),
            want,
            "{node} {kind:?} {name}"
        );
        assert!(!graph.refers(node, kind, "b", name), "another namespace");
    }

    #[test]
    fn a_pod_opens_what_it_refers_to_to_its_node_only() {
        let mut graph = Graph::default();
        let (one, two) = (with_secret("p", "n"), with_secret("q", "n"));
        graph.change(None, Some(&one));
        graph.change(None, Some(&two));
        check(&graph, "n", Kind::Secret, "s", true);
        check(&graph, "n", Kind::ServiceAccount, "default", true);
        check(&graph, "n", Kind::ConfigMap, "s", false);
        check(&graph, "m", Kind::Secret, "s", false);
        graph.change(Some(&one), None);
        check(&graph, "n", Kind::Secret, "s", true);
        // The other Pod is deleted and comes back on another node.
        let moved = with_secret("q", "m");
        graph.change(Some(&two), Some(&moved));
        check(&graph, "n", Kind::Secret, "s", false);
        check(&graph, "m", Kind::Secret, "s", true);
        graph.change(Some(&moved), None);
        assert!(graph.counts.is_empty() && graph.objects.known.is_empty() && graph.nodes.known.is_empty());
    }

    #[test]
    fn every_kind_of_reference_counts() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "from"}}]}],
            "volumes": [
                {"name": "v", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "root"}}]}},
                {"name": "w", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "scratch", "ephemeral": {}},
            ],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu-claim"}],
        });
        let mut graph = Graph::default();
        graph.change(None, Some(&pod("p", "n", spec)));
        for (kind, name) in [
            (Kind::Secret, "pull"),
            (Kind::ConfigMap, "from"),
            (Kind::Secret, "projected"),
            (Kind::ConfigMap, "root"),
            (Kind::Claim, "claim"),
            (Kind::Claim, "p-scratch"),
            (Kind::ResourceClaim, "gpu-claim"),
        ] {
            check(&graph, "n", kind, name, true);
        }
    }

    #[test]
    fn a_volume_opens_its_secret_to_who_has_the_claim() {
        let mut graph = Graph::default();
        let volume = json!({"metadata": {"name": "v"}, "spec": {
            "claimRef": {"namespace": "a", "name": "claim"}, "csi": {"nodeStageSecretRef": {"name": "s", "namespace": "a"}},
        }});
        let volume = entry("/core/persistentvolumes/v", &volume);
        graph.change(None, Some(&volume));
        check(&graph, "n", Kind::Secret, "s", false);
        let claims = json!({"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "claim"}}]});
        graph.change(None, Some(&pod("p", "n", claims)));
        check(&graph, "n", Kind::Secret, "s", true);
        graph.change(Some(&volume), None);
        check(&graph, "n", Kind::Secret, "s", false);
    }

    #[test]
    fn mirror_pods_and_pods_without_a_node_open_nothing() {
        let mut graph = Graph::default();
        let mirror = json!({
            "metadata": {"name": "p", "namespace": "a", "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n", "serviceAccountName": "default"},
        });
        graph.change(None, Some(&entry("/core/pods/a/p", &mirror)));
        graph.change(None, Some(&with_secret("q", "")));
        assert!(graph.counts.is_empty());
    }

    #[test]
    fn a_change_of_status_is_no_change() {
        let with = |phase: &str, node: &str| {
            let pod =
                json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}, "status": {"phase": phase}});
            entry("/core/pods/a/p", &pod)
        };
        assert!(!Graph::is_touched(
            Some(&with("Pending", "n")),
            Some(&with("Running", "n"))
        ));
        assert!(Graph::is_touched(
            Some(&with("Pending", "")),
            Some(&with("Pending", "n"))
        ));
        assert!(Graph::is_touched(None, Some(&with("Pending", "n"))));
    }
}
