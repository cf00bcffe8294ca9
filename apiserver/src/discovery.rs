//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form.
//!
//! All documents are made from the registry. Knows their shapes only.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_api::resource::TypeRef;
use corten_api::{ResourceType, Status};
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregate::Remote;
use crate::body::Body;
use crate::negotiate::{self, Discovery, Media};
use crate::respond::{self, Answer};
use crate::types::Types;
use crate::{Inner, KUBERNETES_VERSION};

/// `/version`.
pub fn version() -> Answer {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let document = json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": format!("{KUBERNETES_VERSION}+corten"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    });
    // People read it with `curl`: upstream indents it.
    respond::json(StatusCode::OK, format!("{document:#}"))
}

/// `/`: the paths there are.
pub fn index(types: &Types) -> Answer {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in named_groups(types) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for path in [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ] {
        paths.push(path.to_owned());
    }
    respond::json(StatusCode::OK, json!({ "paths": paths }).to_string())
}

fn named_groups(types: &Types) -> impl Iterator<Item = (&str, Vec<&str>)> {
    types.groups().into_iter().filter(|(group, _)| !group.is_empty())
}

/// `/api`.
///
/// # Errors
/// `NotAcceptable`.
pub fn legacy_versions(
    server: &Inner,
    types: &Types,
    accept: Option<&str>,
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let (form, media) = preferred(accept)?;
    match form {
        Discovery::Legacy => {
            let address = format!("{}:{}", server.config.advertise_address, server.config.port);
            let document = json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
            });
            Ok(vary(respond::json(StatusCode::OK, document.to_string())))
        }
        form => aggregated(types, form, media, true, headers),
    }
}

/// `/apis`.
///
/// # Errors
/// `NotAcceptable`.
pub fn groups(types: &Types, accept: Option<&str>, headers: &HeaderMap) -> Result<Answer, Status> {
    let (form, media) = preferred(accept)?;
    match form {
        Discovery::Legacy => {
            let groups: Vec<Value> = named_groups(types)
                .map(|(group, versions)| api_group(group, &versions))
                .collect();
            let document = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups });
            Ok(vary(respond::json(StatusCode::OK, document.to_string())))
        }
        form => aggregated(types, form, media, false, headers),
    }
}

fn preferred(accept: Option<&str>) -> Result<(Discovery, Media), Status> {
    negotiate::accept_discovery(accept).map_err(|_| Status::not_acceptable(&negotiate::MEDIA_TYPES))
}

fn vary(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let version = |v: &&str| json!({ "groupVersion": format!("{group}/{v}"), "version": v });
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({ "name": group, "versions": all, "preferredVersion": all.first() })
}

/// `/apis/GROUP`.
pub fn group(types: &Types, name: &str) -> Answer {
    let Some((group, versions)) = named_groups(types).find(|(group, _)| *group == name) else {
        return respond::page_not_found();
    };
    let mut document = api_group(group, &versions);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    respond::json(StatusCode::OK, document.to_string())
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub fn resources(types: &Types, group: &str, version: &str) -> Answer {
    let mut resources = Vec::new();
    for ty in types.members(group, version) {
        let mut own = json!({
            "name": ty.plural,
            "singularName": ty.singular,
            "namespaced": ty.namespaced,
            "kind": ty.kind,
            "verbs": ty.verbs,
        });
        if !ty.short_names.is_empty() {
            own["shortNames"] = json!(ty.short_names);
        }
        if !ty.categories.is_empty() {
            own["categories"] = json!(ty.categories);
        }
        if ty.supports("list") {
            own["storageVersionHash"] = storage_version_hash(types, ty).into();
        }
        resources.push(own);
        for sub in ty.subresources {
            let mut own = json!({
                "name": format!("{}/{}", ty.plural, sub.name),
                "singularName": "",
                "namespaced": ty.namespaced,
                "kind": ty.body_of(sub).2,
                "verbs": sub.verbs,
            });
            if !sub.version.is_empty() {
                own["group"] = sub.group.into();
                own["version"] = sub.version.into();
            }
            resources.push(own);
        }
    }
    if resources.is_empty() {
        return respond::page_not_found();
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let document = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    });
    respond::json(StatusCode::OK, document.to_string())
}

/// Tells clients that two resources hold the same objects. Source: Kubernetes `discovery.StorageVersionHash`: the first
/// eight bytes of the digest of `GROUP/VERSION/KIND` of the stored form, in base64.
fn storage_version_hash(types: &Types, ty: &ResourceType) -> String {
    const BYTES: usize = 8;
    let mut stored = (&*ty.group, &*ty.version, &*ty.kind);
    if ty.converts() {
        let same = |other: &&TypeRef| other.storage() == ty.storage() && !other.converts();
        if let Some(other) = types.all().iter().find(same) {
            stored = (&other.group, &other.version, &other.kind);
        }
    }
    let digest = Sha256::digest(format!("{}/{}/{}", stored.0, stored.1, stored.2));
    STANDARD.encode(&digest[..BYTES])
}

/// The aggregated documents of one set of types: v2 and v2beta1, each of the core group and of the others.
pub type Documents = [Document; 4];

/// A document of aggregated discovery with its tag.
pub struct Document {
    bytes: String,
    etag: String,
}

fn aggregated(
    types: &Types,
    form: Discovery,
    media: Media,
    legacy: bool,
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let documents = types.discovery.get_or_init(|| {
        [(true, true), (true, false), (false, true), (false, false)]
            .map(|(v2, legacy)| make_aggregated(types, v2, legacy))
    });
    let v2 = form == Discovery::V2;
    let document = &documents[usize::from(!v2) * 2 + usize::from(!legacy)];
    let version = if v2 { "v2" } else { "v2beta1" };
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&document.etag);
    let mut answer = if known {
        respond::with_type(StatusCode::NOT_MODIFIED, media.content_type(), Body::empty())
    } else {
        let bytes = respond::rewritten(document.bytes.as_bytes(), media).map_err(Status::internal)?;
        respond::with_type(StatusCode::OK, media.content_type(), Body::from(bytes))
    };
    let content_type = format!(
        "{};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList",
        media.content_type()
    );
    let headers = answer.headers_mut();
    for (name, text) in [(ETAG, &document.etag), (CONTENT_TYPE, &content_type)] {
        headers.insert(name, HeaderValue::from_str(text).expect("hashes and media types"));
    }
    Ok(vary(answer))
}

fn make_aggregated(types: &Types, v2: bool, legacy: bool) -> Document {
    let groups = types
        .groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == legacy);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let own = |remote: &&Arc<Remote>| remote.group == group && remote.version == *version;
                    if let Some(remote) = types.remote.iter().find(own) {
                        // Who has not told yet what it serves must not be taken for one that serves nothing.
                        let known = remote.resources.as_deref();
                        let current = remote.available && known.is_some();
                        let freshness = if current { "Current" } else { "Stale" };
                        let resources = known.map_or(&[][..], Vec::as_slice);
                        return json!({ "version": version, "freshness": freshness, "resources": resources });
                    }
                    let mut resources: Vec<Value> =
                        types.members(group, version).map(|ty| discovered(ty)).collect();
                    resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
                    json!({ "version": version, "freshness": "Current", "resources": resources })
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({ "name": group })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    let api_version = if v2 {
        "apidiscovery.k8s.io/v2"
    } else {
        "apidiscovery.k8s.io/v2beta1"
    };
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": items,
    });
    let bytes = document.to_string();
    let etag = format!("\"{}\"", hash(&bytes).to_uppercase());
    Document { bytes, etag }
}

fn discovered(ty: &ResourceType) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut own = json!({
        "resource": ty.plural,
        "responseKind": kind(&ty.group, &ty.version, &ty.kind),
        "scope": if ty.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": ty.singular,
        "verbs": ty.verbs,
    });
    if !ty.short_names.is_empty() {
        own["shortNames"] = json!(ty.short_names);
    }
    if !ty.categories.is_empty() {
        own["categories"] = json!(ty.categories);
    }
    let subresources: Vec<Value> = ty
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, own_kind) = ty.body_of(sub);
            json!({
                "subresource": sub.name,
                "responseKind": kind(group, version, own_kind),
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        own["subresources"] = Value::Array(subresources);
    }
    own
}

/// Hexadecimal SHA-256.
pub fn hash(text: impl AsRef<[u8]>) -> String {
    Sha256::digest(text.as_ref())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_versions_are_hashed_as_upstream_hashes_them() {
        let types = Types::new(Vec::new());
        let hash = |plural: &str| {
            let ty = types.lookup("", "v1", plural).expect("built in");
            storage_version_hash(&types, &ty)
        };
        assert_eq!(hash("pods"), "xPOwRZ+Yhw8=");
        assert_eq!(hash("services"), "0/CO1lhkEBI=");
    }
}
