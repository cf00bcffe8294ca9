//! Which kinds the server has.
//!
//! Knows the discovery documents. Must not know what any kind is for.

use serde::Deserialize;

use crate::error::ApiError;
use crate::object::Target;
use crate::request::ApiClient;

/// A kind the server serves, in its group's preferred version.
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

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// All kinds of all groups, subresources left out.
///
/// # Errors
/// Any group that cannot be read fails the whole: acting on half a list would overlook objects.
pub async fn discover(api: &ApiClient) -> Result<Vec<Discovered>, ApiError> {
    let mut kinds = resources(api, "/api/v1", "v1").await?;
    let groups: GroupList = api.get_path("/apis").await?;
    for group in groups.groups {
        if let Some(version) = group
            .preferred_version
            .or_else(|| group.versions.first().cloned())
        {
            let path = format!("/apis/{}", version.group_version);
            kinds.extend(resources(api, &path, &version.group_version).await?);
        }
    }
    Ok(kinds)
}

async fn resources(api: &ApiClient, path: &str, group_version: &str) -> Result<Vec<Discovered>, ApiError> {
    let list: ResourceList = api.get_path(path).await?;
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let kinds = list
        .resources
        .into_iter()
        .filter(|resource| !resource.name.contains('/'));
    let kinds = kinds.map(|resource| Discovered {
        target: Target {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: resource.kind,
            plural: resource.name,
            namespaced: resource.namespaced,
        },
        verbs: resource.verbs,
    });
    Ok(kinds.collect())
}
