//! Which kinds the server has.
//!
//! Knows the discovery documents. Must not know what any kind is for.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::ApiError;
use crate::object::Target;
use crate::request::ApiClient;

/// The form of discovery that holds everything in two documents.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A kind the server serves, in the first version of its group that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovered {
    pub target: Target,
    pub verbs: Vec<String>,
}

impl Discovered {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// What the server tells about its kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovery {
    /// All kinds of all groups that can be told now, subresources left out.
    pub kinds: Vec<Discovered>,
    /// Groups and versions (`example.com/v1`) of aggregated servers that do not answer, sorted: what they serve is not
    /// known now.
    pub stale: BTreeSet<String>,
}

impl Discovery {
    /// Why not all is known, in the words of client-go; `None`: everything is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.stale.is_empty() {
            return None;
        }
        let each = self.stale.iter().map(|version| {
            // Source: client-go `discovery.ErrGroupDiscoveryFailed` and `StaleGroupVersionError`.
            format!("{version}: stale GroupVersion discovery: {version}")
        });
        let each: Vec<String> = each.collect();
        Some(format!(
            "unable to retrieve the complete list of server APIs: {}",
            each.join(", ")
        ))
    }

    /// Takes over what a document lists.
    fn take(&mut self, list: GroupList) {
        for group in list.items {
            let mut known = BTreeSet::new();
            for version in group.versions {
                if version.freshness == "Stale" {
                    self.stale
                        .insert(format!("{}/{}", group.metadata.name, version.version));
                    continue;
                }
                for resource in version.resources {
                    let Some(kind) = resource.response_kind else {
                        continue;
                    };
                    if !known.insert(resource.resource.clone()) {
                        continue;
                    }
                    self.kinds.push(Discovered {
                        target: Target {
                            group: group.metadata.name.clone(),
                            version: version.version.clone(),
                            kind: kind.kind,
                            plural: resource.resource,
                            namespaced: resource.scope == "Namespaced",
                        },
                        verbs: resource.verbs,
                    });
                }
            }
        }
    }
}

/// An `APIGroupDiscoveryList`; `items` has to be there: another document must not be taken for a server without kinds.
#[derive(Deserialize)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    /// Absent where only subresources are served.
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// Asks for all kinds.
///
/// # Errors
/// The server's documents cannot be read. An aggregated server that does not answer is no error: see [`Discovery::stale`].
pub async fn discover(api: &ApiClient) -> Result<Discovery, ApiError> {
    let mut found = Discovery::default();
    for path in ["/api", "/apis"] {
        found.take(api.get_path_as(path, AGGREGATED).await?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Kinds as `group/version/plural`, then what is stale.
    #[track_caller]
    fn check(items: Value, want: &[&str]) {
        let list = serde_json::from_value(json!({ "items": items })).expect("a list of groups");
        let mut found = Discovery::default();
        found.take(list);
        let kinds = found.kinds.iter().map(|kind| {
            let Target {
                group,
                version,
                plural,
                ..
            } = &kind.target;
            format!("{group}/{version}/{plural}")
        });
        let all: Vec<String> = kinds.chain(found.stale.iter().cloned()).collect();
        assert_eq!(all, want);
    }

    fn version(name: &str, freshness: &str, resources: &[&str]) -> Value {
        let resource = |name: &&str| json!({ "resource": name, "responseKind": { "group": "g", "version": name, "kind": "K" }, "scope": "Namespaced", "verbs": ["get"] });
        let resources: Vec<Value> = resources.iter().map(resource).collect();
        json!({ "version": name, "freshness": freshness, "resources": resources })
    }

    #[test]
    fn every_kind_counts_once_also_those_that_only_a_later_version_has() {
        let group = |versions: &[Value]| json!({ "metadata": { "name": "g" }, "versions": versions });
        check(json!([]), &[]);
        let (v1, v2) = (
            version("v1", "Current", &["a", "b"]),
            version("v2", "Current", &["b", "c"]),
        );
        check(json!([group(&[v1.clone(), v2])]), &["g/v1/a", "g/v1/b", "g/v2/c"]);
        let stale = version("v2", "Stale", &["c"]);
        check(json!([group(&[v1, stale])]), &["g/v1/a", "g/v1/b", "g/v2"]);
    }

    #[test]
    fn what_is_stale_is_told_as_clients_tell_it() {
        let mut found = Discovery::default();
        assert_eq!(found.failure(), None);
        found.stale.extend(["b/v1".to_owned(), "a/v1".to_owned()]);
        assert_eq!(
            found.failure().as_deref(),
            Some(
                "unable to retrieve the complete list of server APIs: a/v1: stale GroupVersion discovery: a/v1, \
                 b/v1: stale GroupVersion discovery: b/v1"
            )
        );
    }

    #[test]
    fn another_document_is_no_empty_server() {
        assert!(
            serde_json::from_value::<GroupList>(json!({ "kind": "APIGroupList", "groups": [] })).is_err()
        );
    }
}
