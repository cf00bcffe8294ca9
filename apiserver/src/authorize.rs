//! What a user may do: the question, the answer, and who is asked in which order.
//!
//! Order: members of `system:masters` may do everything, then the Node authorizer, then RBAC; the first that allows or
//! denies is heard. Knows attributes of a request, which come from its operation and never from its HTTP method. Must not
//! know how rules are stored (`rbac`) nor what belongs to a node (`node`).

use std::fmt;
use std::sync::Arc;

use corten_api::Status;
use corten_api::selector::FieldSelector;
use corten_api::status::Qualified;
use http::Method;

use crate::identity::User;
use crate::query::Query;
use crate::rbac::rules::Grant;
use crate::route::{Operation, Target, Verb};
use crate::{ApiServer, node};

/// A field selector as the question has it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Fields<'a> {
    #[default]
    None,
    /// As the query has it: `spec.nodeName=a`.
    Text(&'a str),
    Parsed(&'a FieldSelector),
}

impl Fields<'_> {
    /// Whether only objects with this value of the field are asked for.
    #[must_use]
    pub fn require(&self, field: &str, value: &str) -> bool {
        match self {
            Fields::None => false,
            Fields::Text(text) => {
                FieldSelector::parse(text).is_ok_and(|s| s.required_value(field) == Some(value))
            }
            Fields::Parsed(selector) => selector.required_value(field) == Some(value),
        }
    }
}

/// What somebody wants to do. Either `path` is set, or what says which resource. Source: Kubernetes
/// `authorizer.Attributes`.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty: all, or not known yet.
    pub name: &'a str,
    /// Empty: cluster scope, or all namespaces.
    pub namespace: &'a str,
    /// Of what is no resource.
    pub path: &'a str,
    pub fields: Fields<'a>,
    /// The label selector as the query has it. No authorizer of ours reads it; webhooks are told.
    pub labels: &'a str,
}

impl<'a> Attributes<'a> {
    /// All objects of a resource, everywhere; set what narrows it.
    #[must_use]
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Attributes<'a> {
        Attributes {
            user,
            verb,
            group,
            version: "*",
            resource,
            subresource: "",
            name: "",
            namespace: "",
            path: "",
            fields: Fields::None,
            labels: "",
        }
    }

    /// What is no resource.
    #[must_use]
    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Attributes<'a> {
        Attributes {
            path,
            ..Attributes::resource(user, verb, "", "")
        }
    }

    #[must_use]
    pub fn is_resource(&self) -> bool {
        self.path.is_empty()
    }

    /// What a request asks for.
    #[must_use]
    pub fn of(
        user: &'a User,
        operation: &'a Operation,
        method: &Method,
        path: &'a str,
        query: &'a Query,
    ) -> Attributes<'a> {
        match operation {
            Operation::Resource(target) => Attributes::of_target(user, target, query),
            Operation::Tunnel { node } => Attributes {
                version: "v1",
                subresource: "tunnel",
                name: node,
                ..Attributes::resource(user, "create", "corten.dev", "nodes")
            },
            _ => Attributes::path(user, lower(method), path),
        }
    }

    fn of_target(user: &'a User, target: &'a Target, query: &'a Query) -> Attributes<'a> {
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        let selects = matches!(target.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        let selector = |key| {
            if selects {
                query.get(key).unwrap_or_default()
            } else {
                ""
            }
        };
        let (fields, mut name) = (selector("fieldSelector"), text(&target.name));
        if name.is_empty() && matches!(target.verb, Verb::List | Verb::Watch) && !fields.is_empty() {
            name = only_name(fields);
        }
        // A Namespace lies in itself: a Role there may allow to read it.
        let own = target.group.is_empty() && target.resource == "namespaces";
        let namespace = if own {
            text(&target.name)
        } else {
            text(&target.namespace)
        };
        Attributes {
            version: &target.version,
            subresource: text(&target.subresource),
            name,
            namespace,
            fields: if fields.is_empty() {
                Fields::None
            } else {
                Fields::Text(fields)
            },
            labels: selector("labelSelector"),
            ..Attributes::resource(user, target.verb.as_str(), &target.group, &target.resource)
        }
    }

    /// What a client is told that may not do this. `reason`: what the authorizers say. Source: Kubernetes
    /// `responsewriters.ForbiddenStatus`.
    #[must_use]
    pub fn forbidden(&self, reason: &Reason) -> Status {
        let mut text = format!("User {:?} cannot {} ", self.user.name, self.verb);
        if self.is_resource() {
            let slash = if self.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", self.resource, self.subresource);
            text += &format!("resource {resource:?} in API group {:?} ", self.group);
            text += &match self.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
        } else {
            text += &format!("path {:?}", self.path);
        }
        if !reason.is_empty() {
            text += &format!(": {reason}");
        }
        Status::forbidden(Qualified::new(self.group, self.resource), self.name, text)
    }
}

/// The one name a field selector asks for, where it says so and the name needs no unescaping.
fn only_name(fields: &str) -> &str {
    let known = FieldSelector::parse(fields).ok();
    let wanted = known.as_ref().and_then(|s| s.required_value("metadata.name"));
    let Some(wanted) = wanted.filter(|name| !matches!(*name, "" | "." | "..") && !name.contains(['/', '%']))
    else {
        return "";
    };
    fields
        .find(wanted)
        .map_or("", |at| &fields[at..at + wanted.len()])
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        Method::TRACE => "trace",
        _ => "unknown",
    }
}

/// Why an authorizer said what it said.
#[derive(Debug, Clone, Default)]
pub enum Reason {
    #[default]
    None,
    Text(String),
    /// A binding allows it.
    Grant(Arc<Grant>),
}

impl Reason {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Reason::None)
    }

    /// Both, on a line each.
    fn and(self, other: Reason) -> Reason {
        match (self, other) {
            (Reason::None, one) | (one, Reason::None) => one,
            (one, two) => Reason::Text(format!("{one}\n{two}")),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::None => Ok(()),
            Reason::Text(text) => f.write_str(text),
            Reason::Grant(grant) => write!(f, "RBAC: allowed by {grant}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Forbidden, whatever others say. None of ours says so.
    Deny,
    /// Nobody allows it, which for a request means that it is forbidden.
    NoOpinion,
}

#[derive(Debug, Clone)]
pub struct Verdict {
    pub decision: Decision,
    pub reason: Reason,
}

impl Verdict {
    pub(crate) const ALLOWED: Verdict = Verdict {
        decision: Decision::Allow,
        reason: Reason::None,
    };

    #[must_use]
    pub fn allowed(&self) -> bool {
        self.decision == Decision::Allow
    }

    pub(crate) fn no_opinion(reason: Option<String>) -> Verdict {
        Verdict {
            decision: Decision::NoOpinion,
            reason: reason.map_or(Reason::None, Reason::Text),
        }
    }
}

impl ApiServer {
    /// By the rules this server has at the moment. Does not wait and, where it allows, allocates nothing.
    #[must_use]
    pub fn authorize_now(&self, asked: &Attributes<'_>) -> Verdict {
        if asked.user.is_master() {
            return Verdict::ALLOWED;
        }
        let mut by_node = Reason::None;
        if let Some(node) = node::of_user(asked.user) {
            let verdict = node::authorize(self.inner(), node, asked);
            if verdict.decision != Decision::NoOpinion {
                return verdict;
            }
            by_node = verdict.reason;
        }
        let mut verdict = self.inner().rules.get().authorize(asked);
        if !verdict.allowed() {
            verdict.reason = by_node.and(verdict.reason);
        }
        verdict
    }

    /// As [`ApiServer::authorize_now`], but nothing is refused by rules that are older than the store: who has just been
    /// given a permission has it in the next request, on every server.
    pub async fn authorize(&self, asked: &Attributes<'_>) -> Verdict {
        let verdict = self.authorize_now(asked);
        if verdict.allowed() {
            return verdict;
        }
        self.catch_up().await;
        self.authorize_now(asked)
    }

    /// # Errors
    /// `Forbidden` with upstream's text.
    pub async fn permit(&self, asked: &Attributes<'_>) -> Result<(), Status> {
        let verdict = self.authorize(asked).await;
        crate::audit::note(|trail| trail.authorized(&verdict));
        match verdict.decision {
            Decision::Allow => Ok(()),
            Decision::Deny | Decision::NoOpinion => Err(asked.forbidden(&verdict.reason)),
        }
    }
}
