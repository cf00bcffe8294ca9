//! From method, path and query to the operation that is meant. Pure.
//!
//! Knows the shape of Kubernetes URLs. Must not know which resources exist (`dispatch` asks the registry), who asks,
//! or what the operation does. Authorization works on the [`Operation`] alone, never on the HTTP method.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::authorities;
use crate::join::Join;
use crate::members::serve::Call;
use crate::query::Query;
use crate::revoked;

/// Longest path accepted, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// What a request does with a resource. Source: Kubernetes "Determine the request verb".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// A request about objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub verb: Verb,
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Plural, e.g. `pods`.
    pub resource: String,
    /// `None`: cluster scope, or all namespaces.
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// The group of checks a health path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Healthz,
    Livez,
    Readyz,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Resource(Target),
    /// `POST /apis/corten.dev/v1/nodes/{name}/tunnel`: a node agent offers its tunnel.
    Tunnel {
        node: String,
    },
    /// `/corten/v1/...`: what a machine that joins asks.
    Join(Join),
    /// `/corten/v1/backup`: the whole state.
    Backup,
    /// `/corten/v1/members...`: the members of the store.
    Members(Call),
    /// `/corten/v1/authorities...`: what certificates and tokens rest on.
    Authorities(authorities::Call),
    /// `/corten/v1/revoked...`: certificates that are refused before their end.
    Revoked(revoked::serve::Call),
    /// `/`: the list of paths.
    Index,
    /// `/api`
    LegacyVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources {
        group: String,
        version: String,
    },
    Version,
    Health {
        health: Health,
        check: Option<String>,
    },
    Metrics,
    /// `/.well-known/openid-configuration`: how to check ServiceAccounts' tokens.
    OpenIdConfiguration,
    /// `/openid/v1/jwks`
    OpenIdKeys,
    OpenApiV2,
    OpenApiV3Index,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`
    OpenApiV3 {
        group: String,
        version: String,
    },
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// `404 page not found`, as plain text.
    NotFound,
    MethodNotAllowed,
    /// Not UTF-8 after decoding, or a part that would change the meaning of a store key.
    BadPath,
    TooLong,
}

/// # Errors
/// See [`NoRoute`].
pub fn route(method: &Method, path: &str, query: &Query) -> Result<Operation, NoRoute> {
    if path.len() > MAX_PATH_BYTES {
        return Err(NoRoute::TooLong);
    }
    if let Some(end) = proxied(path) {
        return proxy(method, &path[..end]);
    }
    let parts = split(path)?;
    let parts: Vec<&str> = parts.iter().map(Cow::as_ref).collect();
    match parts.as_slice() {
        ["api", "v1", "watch", rest @ ..] => legacy_watch(method, "", "v1", rest, query),
        ["apis", group, version, "watch", rest @ ..] => legacy_watch(method, group, version, rest, query),
        ["api", "v1", rest @ ..] if !rest.is_empty() => resource(method, "", "v1", rest, query),
        ["apis", "corten.dev", "v1", "nodes", node, "tunnel"] => match *method {
            Method::POST => Ok(Operation::Tunnel {
                node: (*node).to_owned(),
            }),
            _ => Err(NoRoute::MethodNotAllowed),
        },
        ["corten", "v1", what @ ("ca" | "token" | "servers")] => {
            let (wanted, what) = match *what {
                "ca" => (Method::GET, Join::Ca),
                "token" => (Method::GET, Join::Token),
                _ => (Method::POST, Join::Servers),
            };
            if *method == wanted {
                Ok(Operation::Join(what))
            } else {
                Err(NoRoute::MethodNotAllowed)
            }
        }
        ["corten", "v1", "backup"] if *method == Method::GET => Ok(Operation::Backup),
        ["corten", "v1", "backup"] => Err(NoRoute::MethodNotAllowed),
        ["corten", "v1", "authorities", rest @ ..] => match authorities::Call::of(method, rest) {
            Some(Ok(call)) => Ok(Operation::Authorities(call)),
            Some(Err(())) => Err(NoRoute::MethodNotAllowed),
            None => Err(NoRoute::NotFound),
        },
        ["corten", "v1", "revoked", rest @ ..] => revoked::serve::Call::of(method, rest)
            .map(Operation::Revoked)
            .ok_or(NoRoute::MethodNotAllowed),
        ["corten", "v1", "members", rest @ ..] => match Call::of(method, rest) {
            Some(Ok(call)) => Ok(Operation::Members(call)),
            Some(Err(())) => Err(NoRoute::MethodNotAllowed),
            None => Err(NoRoute::NotFound),
        },
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            resource(method, group, version, rest, query)
        }
        other => read_only(method, document(other)?),
    }
}

/// Where the path of a proxied request ends that is ours: after `/proxy`. What follows belongs to somebody else and is
/// handed on as it is.
#[must_use]
pub fn proxied(path: &str) -> Option<usize> {
    let rest = path.strip_prefix("/api/v1/")?;
    let mut parts = rest.split('/');
    let named = match parts.next()? {
        "nodes" => parts.next(),
        "namespaces" => {
            parts.next()?;
            matches!(parts.next(), Some("pods" | "services")).then(|| parts.next())?
        }
        _ => None,
    };
    named?;
    (parts.next()? == "proxy").then(|| path.len() - parts.map(|part| part.len() + 1).sum::<usize>())
}

/// A request to be handed on. Its method is what authorization sees, as upstream has it.
fn proxy(method: &Method, path: &str) -> Result<Operation, NoRoute> {
    let method = if *method == Method::OPTIONS {
        &Method::GET
    } else {
        method
    };
    let parts = split(path)?;
    let parts: Vec<&str> = parts.iter().map(Cow::as_ref).collect();
    resource(
        method,
        "",
        "v1",
        parts.get(2..).unwrap_or_default(),
        &Query::default(),
    )
}

fn read_only(method: &Method, operation: Operation) -> Result<Operation, NoRoute> {
    match *method {
        Method::GET | Method::HEAD => Ok(operation),
        _ => Err(NoRoute::MethodNotAllowed),
    }
}

fn document(parts: &[&str]) -> Result<Operation, NoRoute> {
    let resources = |group: &str, version: &str| (group.to_owned(), version.to_owned());
    Ok(match parts {
        [] => Operation::Index,
        ["api"] => Operation::LegacyVersions,
        ["api", version] => {
            let (group, version) = resources("", version);
            Operation::Resources { group, version }
        }
        ["apis"] => Operation::Groups,
        ["apis", group] => Operation::Group((*group).to_owned()),
        ["apis", group, version] => {
            let (group, version) = resources(group, version);
            Operation::Resources { group, version }
        }
        ["version"] => Operation::Version,
        ["metrics"] => Operation::Metrics,
        [".well-known", "openid-configuration"] => Operation::OpenIdConfiguration,
        ["openid", "v1", "jwks"] => Operation::OpenIdKeys,
        ["openapi", "v2"] => Operation::OpenApiV2,
        ["openapi", "v3"] => Operation::OpenApiV3Index,
        ["openapi", "v3", "api", version] => {
            let (group, version) = resources("", version);
            Operation::OpenApiV3 { group, version }
        }
        ["openapi", "v3", "apis", group, version] => {
            let (group, version) = resources(group, version);
            Operation::OpenApiV3 { group, version }
        }
        [health, check @ ..] if check.len() <= 2 => Operation::Health {
            health: match *health {
                "healthz" => Health::Healthz,
                "livez" => Health::Livez,
                "readyz" => Health::Readyz,
                _ => return Err(NoRoute::NotFound),
            },
            check: (!check.is_empty()).then(|| check.join("/")),
        },
        _ => return Err(NoRoute::NotFound),
    })
}

/// Decoded, non-empty path parts. One trailing slash is allowed, as upstream does.
fn split(path: &str) -> Result<Vec<Cow<'_, str>>, NoRoute> {
    let path = path.strip_prefix('/').ok_or(NoRoute::BadPath)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|part| {
            let part = match part.contains('%') {
                true => percent_decode_str(part)
                    .decode_utf8()
                    .map_err(|_| NoRoute::BadPath)?,
                false => Cow::Borrowed(part),
            };
            match part.as_ref() {
                "" => Err(NoRoute::NotFound),
                "." | ".." => Err(NoRoute::BadPath),
                part if part.contains(['/', '\0']) => Err(NoRoute::BadPath),
                _ => Ok(part),
            }
        })
        .collect()
}

fn resource(
    method: &Method,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
) -> Result<Operation, NoRoute> {
    // `namespaces/NAME/status` and `/finalize` are about the Namespace; any other third part is a resource in it.
    let (namespace, resource, name, subresource) = match rest {
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            (None, "namespaces", Some(*name), Some((*sub).to_owned()))
        }
        ["namespaces", namespace, resource, tail @ ..] => {
            let (name, sub) = name_and_subresource(tail);
            (Some((*namespace).to_owned()), *resource, name, sub)
        }
        [resource, tail @ ..] => {
            let (name, sub) = name_and_subresource(tail);
            (None, *resource, name, sub)
        }
        [] => return Err(NoRoute::NotFound),
    };
    let watch = query.is_true("watch");
    let verb = match *method {
        Method::GET | Method::HEAD => match name {
            None if watch => Verb::Watch,
            None => Verb::List,
            Some(_) => Verb::Get,
        },
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if name.is_none() => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => return Err(NoRoute::MethodNotAllowed),
    };
    // An upgrade of a connection is `create` of that subresource, whichever method carries it.
    let verb = match subresource.as_deref() {
        Some("exec" | "attach" | "portforward") if matches!(verb, Verb::Get | Verb::Create) => Verb::Create,
        _ => verb,
    };
    match (verb, name.is_some(), subresource.is_some()) {
        (Verb::Create, true, false) | (Verb::Update | Verb::Patch, false, _) => {
            return Err(NoRoute::MethodNotAllowed);
        }
        _ => {}
    }
    Ok(Operation::Resource(Target {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        namespace,
        name: name.map(str::to_owned),
        subresource,
    }))
}

/// `/api/v1/watch/...`: a watch by its path, of a list or of one object. Deprecated since 1.16 and still served.
fn legacy_watch(
    method: &Method,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
) -> Result<Operation, NoRoute> {
    match resource(method, group, version, rest, query)? {
        Operation::Resource(target) if target.subresource.is_some() => Err(NoRoute::NotFound),
        Operation::Resource(target) if !matches!(target.verb, Verb::Get | Verb::List | Verb::Watch) => {
            Err(NoRoute::MethodNotAllowed)
        }
        Operation::Resource(target) => Ok(Operation::Resource(Target {
            verb: Verb::Watch,
            ..target
        })),
        _ => Err(NoRoute::NotFound),
    }
}

fn name_and_subresource<'a>(tail: &[&'a str]) -> (Option<&'a str>, Option<String>) {
    match tail {
        [] => (None, None),
        [name] => (Some(name), None),
        [name, sub @ ..] => (Some(name), Some(sub.join("/"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `want` is `verb [namespace/]resource[.group][ name][ /sub]`, a document's name, or an error.
    #[track_caller]
    fn check(method: &str, uri: &str, want: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let got = match route(&method, path, &Query::parse(Some(query))) {
            Err(error) => format!("{error:?}"),
            Ok(Operation::Resource(t)) => {
                let mut text = format!("{} ", t.verb.as_str());
                if let Some(namespace) = t.namespace {
                    text += &format!("{namespace}/");
                }
                text += &t.resource;
                if !t.group.is_empty() {
                    text += &format!(".{}", t.group);
                }
                if let Some(name) = t.name {
                    text += &format!(" {name}");
                }
                if let Some(sub) = t.subresource {
                    text += &format!(" /{sub}");
                }
                text
            }
            Ok(Operation::Resources { group, version }) => format!("Resources {group}/{version}"),
            Ok(Operation::Health { health, check }) => format!("{health:?} {}", check.unwrap_or_default()),
            Ok(other) => format!("{other:?}"),
        };
        assert_eq!(got, want, "{method} {uri}");
    }

    #[test]
    fn objects() {
        check("GET", "/api/v1/pods", "list pods");
        check("GET", "/api/v1/pods?watch=1", "watch pods");
        check("GET", "/api/v1/pods?watch=true", "watch pods");
        check("GET", "/api/v1/pods?watch=0", "list pods");
        check("GET", "/api/v1/namespaces/a/pods", "list a/pods");
        check("GET", "/api/v1/namespaces/a/pods/", "list a/pods");
        check("GET", "/api/v1/namespaces/a/pods/b", "get a/pods b");
        check("HEAD", "/api/v1/namespaces/a/pods/b", "get a/pods b");
        check("GET", "/api/v1/namespaces/a", "get namespaces a");
        check(
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update namespaces a /finalize",
        );
        check("GET", "/api/v1/namespaces/a/status", "get namespaces a /status");
        check("POST", "/api/v1/namespaces", "create namespaces");
        check(
            "POST",
            "/apis/apps/v1/namespaces/a/deployments",
            "create a/deployments.apps",
        );
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch a/deployments.apps d /scale",
        );
        check("DELETE", "/api/v1/nodes", "deletecollection nodes");
        check("DELETE", "/api/v1/nodes/n", "delete nodes n");
        check(
            "POST",
            "/api/v1/namespaces/a/pods/b/binding",
            "create a/pods b /binding",
        );
        check("GET", "/api/v1/namespaces/a/pods/b%20c", "get a/pods b c");
    }

    #[test]
    fn an_upgrade_is_a_create_whatever_the_method() {
        check(
            "GET",
            "/api/v1/namespaces/a/pods/b/exec?command=sh",
            "create a/pods b /exec",
        );
        check(
            "POST",
            "/api/v1/namespaces/a/pods/b/attach",
            "create a/pods b /attach",
        );
        check("GET", "/api/v1/namespaces/a/pods/b/log", "get a/pods b /log");
    }

    #[test]
    fn watches_by_path() {
        check("GET", "/api/v1/watch/pods", "watch pods");
        check("GET", "/api/v1/watch/namespaces/a/pods", "watch a/pods");
        check(
            "GET",
            "/api/v1/watch/namespaces/a/pods/b?watch=0",
            "watch a/pods b",
        );
        check("GET", "/api/v1/watch/namespaces/a", "watch namespaces a");
        check("GET", "/apis/apps/v1/watch/deployments", "watch deployments.apps");
        check("GET", "/api/v1/watch", "NotFound");
        check("GET", "/api/v1/watch/namespaces/a/pods/b/log", "NotFound");
        check("POST", "/api/v1/watch/namespaces/a/pods", "MethodNotAllowed");
        check("DELETE", "/api/v1/watch/namespaces/a/pods/b", "MethodNotAllowed");
    }

    #[test]
    fn documents() {
        check("GET", "/", "Index");
        check("GET", "/api", "LegacyVersions");
        check("GET", "/apis", "Groups");
        check("GET", "/apis/apps", "Group(\"apps\")");
        check("GET", "/api/v1", "Resources /v1");
        check("GET", "/apis/apps/v1", "Resources apps/v1");
        check("GET", "/livez/ping", "Livez ping");
        check("GET", "/readyz/poststarthook/x", "Readyz poststarthook/x");
        check("POST", "/version", "MethodNotAllowed");
        check("GET", "/corten/v1/backup", "Backup");
        check("POST", "/corten/v1/backup", "MethodNotAllowed");
        check("GET", "/corten/v1/ca", "Join(Ca)");
        check("POST", "/corten/v1/servers", "Join(Servers)");
        check("GET", "/corten/v1/servers", "MethodNotAllowed");
    }

    #[test]
    fn what_follows_a_proxy_is_not_ours() {
        check("GET", "/api/v1/namespaces/a/pods/b/proxy", "get a/pods b /proxy");
        check(
            "GET",
            "/api/v1/namespaces/a/pods/https:b:80/proxy/x//../%2F?watch=1",
            "get a/pods https:b:80 /proxy",
        );
        check(
            "POST",
            "/api/v1/namespaces/a/services/b/proxy/",
            "create a/services b /proxy",
        );
        check("OPTIONS", "/api/v1/nodes/n/proxy/x", "get nodes n /proxy");
        check(
            "DELETE",
            "/api/v1/namespaces/a/services/b/proxy/x",
            "delete a/services b /proxy",
        );
        check("GET", "/api/v1/namespaces/a/pods/%2F/proxy/x", "BadPath");
        check("GET", "/api/v1/namespaces/a/pods//proxy/x", "NotFound");
        assert_eq!(proxied("/api/v1/namespaces/a/pods/b/proxy/c/d"), Some(33));
        assert_eq!(proxied("/api/v1/namespaces/a/pods/b/proxy"), Some(33));
        assert_eq!(proxied("/api/v1/namespaces/a/configmaps/b/proxy"), None);
    }

    #[test]
    fn what_leads_nowhere() {
        check("GET", "/nothing", "NotFound");
        check("GET", "/api/v1/namespaces/a/pods//x", "NotFound");
        check("GET", "/api/v1/namespaces/a/pods/..", "BadPath");
        check("GET", "/api/v1/namespaces/a/pods/x%2Fy", "BadPath");
        check("GET", "/api/v1/namespaces/a/pods/%ff", "BadPath");
        check("POST", "/api/v1/namespaces/a/pods/b", "MethodNotAllowed");
        check("PUT", "/api/v1/namespaces/a/pods", "MethodNotAllowed");
        check("TRACE", "/api/v1/pods", "MethodNotAllowed");
    }
}
