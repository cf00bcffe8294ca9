//! What a node may do: the Node authorizer.
//!
//! A node's agent reads its own Node, its own Pods, and what these refer to; everything else it may do is the same for all
//! nodes. `graph` knows what Pods refer to; which of its own objects a node may change in which way is admission's to
//! say. Source: Kubernetes `plugin/pkg/auth/authorizer/node`.

pub mod graph;
pub mod references;

use std::ops::Range;

use bytes::Bytes;
use corten_api::registry;
use corten_store::{Event, EventKind, Snapshot};
use parking_lot::RwLock;
use serde_json::Value;

use crate::authorize::{Attributes, Verdict};
use crate::follow::{Followed, Index};
use crate::rbac::matches::PolicyRule;
use crate::rbac::policy;
use crate::write::Subject;
use crate::{Inner, User};
use graph::{Graph, Kind};

const NODES: &str = "system:nodes";
const USER: &str = "system:node:";
/// Where the nodes' Leases live.
const LEASES: &str = "kube-node-lease";

/// The node a user is. `Some("")`: one of the nodes, but no telling which. Source: Kubernetes
/// `nodeidentifier.NodeIdentity`.
#[must_use]
pub fn of_user(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(USER)?;
    user.groups.iter().any(|group| group == NODES).then_some(name)
}

/// What belongs to which node, in force.
pub struct Nodes {
    graph: RwLock<Graph>,
    pub followed: Followed,
    /// What every node may do.
    rules: Vec<PolicyRule>,
}

impl Default for Nodes {
    fn default() -> Nodes {
        Nodes {
            graph: RwLock::default(),
            followed: Followed::default(),
            rules: policy::node_rules(),
        }
    }
}

/// Nothing is allowed, for this reason.
fn no(reason: impl Into<String>) -> Verdict {
    Verdict::no_opinion(Some(reason.into()))
}

const SILENT: Verdict = Verdict {
    decision: crate::authorize::Decision::NoOpinion,
    reason: crate::authorize::Reason::None,
};

/// The Node authorizer's answer; `node` is what [`of_user`] says.
pub fn authorize(server: &Inner, node: &str, asked: &Attributes<'_>) -> Verdict {
    if node.is_empty() {
        return no(format!("unknown node for user {:?}", asked.user.name));
    }
    let question = Question { server, node, asked };
    match (asked.group, asked.resource) {
        _ if !asked.is_resource() => question.alike(),
        ("", "secrets") => question.read_one(Kind::Secret),
        ("", "configmaps") => question.read_one(Kind::ConfigMap),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => question.claim_status(),
        ("", "persistentvolumeclaims") => question.get(Kind::Claim),
        ("", "persistentvolumes") => question.get_stored(Question::owns_volume),
        ("resource.k8s.io", "resourceclaims") => question.get(Kind::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => question.get_stored(Question::owns_attachment),
        ("", "serviceaccounts") => question.account(),
        ("coordination.k8s.io", "leases") => question.lease(),
        ("storage.k8s.io", "csinodes") => question.csi_node(),
        ("resource.k8s.io", "resourceslices") => question.slice(),
        ("", "nodes") => question.own_node(),
        ("", "pods") => question.pod(),
        ("corten.dev", "nodes") if asked.subresource == "tunnel" && asked.name == node => Verdict::ALLOWED,
        _ => question.alike(),
    }
}

struct Question<'a> {
    server: &'a Inner,
    node: &'a str,
    asked: &'a Attributes<'a>,
}

impl Question<'_> {
    /// By the rules that are the same for all nodes.
    fn alike(&self) -> Verdict {
        match self.server.nodes.rules.iter().any(|rule| rule.allows(self.asked)) {
            true => Verdict::ALLOWED,
            false => SILENT,
        }
    }

    fn related(&self, related: bool) -> Verdict {
        if self.asked.name.is_empty() {
            return no("No Object name found");
        }
        match related {
            true => Verdict::ALLOWED,
            false => no(format!(
                "no relationship found between node '{}' and this object",
                self.node
            )),
        }
    }

    fn refers(&self, kind: Kind) -> Verdict {
        let (asked, graph) = (self.asked, self.server.nodes.graph.read());
        self.related(graph.refers(self.node, kind, asked.namespace, asked.name))
    }

    fn read_one(&self, kind: Kind) -> Verdict {
        if !matches!(self.asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !self.asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if self.asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.refers(kind)
    }

    fn only_get(&self) -> Option<Verdict> {
        if self.asked.verb != "get" {
            return Some(no("can only get individual resources of this type"));
        }
        let whole = self.asked.subresource.is_empty();
        (!whole).then(|| no("cannot get subresource"))
    }

    fn get(&self, kind: Kind) -> Verdict {
        self.only_get().unwrap_or_else(|| self.refers(kind))
    }

    fn claim_status(&self) -> Verdict {
        match self.asked.verb {
            "update" | "patch" => self.refers(Kind::Claim),
            _ => no("can only get/update/patch this type"),
        }
    }

    /// For what says itself whose it is.
    fn get_stored(&self, owns: fn(&Self, &Value) -> bool) -> Verdict {
        self.only_get()
            .unwrap_or_else(|| self.related(self.stored().is_some_and(|object| owns(self, &object))))
    }

    /// The object that is asked for.
    fn stored(&self) -> Option<Value> {
        let asked = self.asked;
        let ty = registry().lookup(asked.group, "v1", asked.resource)?;
        let subject = Subject {
            ty,
            namespace: asked.namespace,
        };
        Some(
            subject
                .read(&self.server.store.snapshot(), asked.name)
                .ok()?
                .value,
        )
    }

    /// A volume belongs to whoever has its claim.
    fn owns_volume(&self, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        let text = |field: &str| claim[field].as_str().unwrap_or_default();
        let graph = self.server.nodes.graph.read();
        graph.refers(self.node, Kind::Claim, text("namespace"), text("name"))
    }

    fn owns_attachment(&self, attachment: &Value) -> bool {
        attachment["spec"]["nodeName"] == self.node
    }

    fn account(&self) -> Verdict {
        let asked = self.asked;
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.refers(Kind::ServiceAccount);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.refers(Kind::ServiceAccount)
    }

    fn lease(&self) -> Verdict {
        let asked = self.asked;
        if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if asked.namespace != LEASES {
            return no(format!(
                "can only access leases in the {LEASES:?} system namespace"
            ));
        }
        if asked.verb != "create" && asked.name != self.node {
            return no("can only access node lease with the same name as the requesting node");
        }
        Verdict::ALLOWED
    }

    fn csi_node(&self) -> Verdict {
        let asked = self.asked;
        if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if !asked.subresource.is_empty() {
            return no("cannot authorize CSINode subresources");
        }
        if asked.verb != "create" && asked.name != self.node {
            return no("can only access CSINode with the same name as the requesting node");
        }
        Verdict::ALLOWED
    }

    fn slice(&self) -> Verdict {
        if !self.asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match self.asked.verb {
            "create" => Verdict::ALLOWED, // admission looks at whose it is
            "get" | "update" | "patch" | "delete" => {
                let own = self
                    .stored()
                    .is_some_and(|slice| slice["spec"]["nodeName"] == self.node);
                self.related(own)
            }
            "watch" | "list" | "deletecollection"
                if self.asked.fields.require("spec.nodeName", self.node) =>
            {
                Verdict::ALLOWED
            }
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    /// Reads of its own Node; writes are admission's to judge.
    fn own_node(&self) -> Verdict {
        let (asked, node) = (self.asked, self.node);
        match (asked.subresource, asked.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Verdict::ALLOWED,
            ("", "get" | "list" | "watch") if asked.name == node => Verdict::ALLOWED,
            ("", "get" | "list" | "watch") if asked.name.is_empty() => no(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            ("", "get" | "list" | "watch") => no(format!(
                "node '{node}' cannot read '{}', only its own Node object",
                asked.name
            )),
            _ => SILENT,
        }
    }

    /// Reads of its own Pods; writes are admission's to judge.
    fn pod(&self) -> Verdict {
        let asked = self.asked;
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get_stored(Question::runs),
            ("", "list" | "watch") if asked.fields.require("spec.nodeName", self.node) => Verdict::ALLOWED,
            ("", "list" | "watch") if !asked.name.is_empty() => {
                self.related(self.stored().is_some_and(|pod| self.runs(&pod)))
            }
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Verdict::ALLOWED
            }
            _ => SILENT,
        }
    }

    fn runs(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"] == self.node
    }
}

/// Follows what the graph is made of.
pub struct Follower;

impl Index for Follower {
    /// PersistentVolumes and Pods: neighbours in the order of keys.
    fn range() -> Range<Bytes> {
        Bytes::from_static(b"/core/persistentvolumes/")..Bytes::from_static(b"/core/pods0")
    }

    fn load(&mut self, server: &Inner, snapshot: &Snapshot) {
        let mut graph = Graph::default();
        for entry in snapshot.range(Follower::range()) {
            graph.change(None, Some(&entry));
        }
        *server.nodes.graph.write() = graph;
    }

    fn apply(&mut self, server: &Inner, event: &Event) {
        let (old, new) = match &event.kind {
            EventKind::Put { entry, prev } => (prev.as_ref(), Some(entry)),
            EventKind::Delete { prev } => (Some(prev), None),
        };
        if Graph::is_touched(old, new) {
            server.nodes.graph.write().change(old, new);
        }
    }

    fn publish(&mut self, _: &Inner) {}
}
