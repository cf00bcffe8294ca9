//! Discovery and OpenAPI documents: complete, consistent with each other, and cheap to ask for again.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::World;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

/// Every `$ref` within a document.
fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.insert(reference.clone());
            }
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

/// All references lead somewhere, all operations have names of their own.
#[track_caller]
fn consistent(document: &Value, schemas: &Value, prefix: &str) {
    let mut all = BTreeSet::new();
    references(document, &mut all);
    for reference in all {
        let name = reference
            .strip_prefix(prefix)
            .unwrap_or_else(|| panic!("{reference}"));
        assert!(schemas[name].is_object(), "{name} is not defined");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for operation in item
            .as_object()
            .expect("an item")
            .values()
            .filter(|own| own.is_object())
        {
            let id = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{path}"));
            assert!(ids.insert(id.to_owned()), "{id} twice");
        }
    }
}

#[tokio::test]
async fn every_kind_can_be_explained() {
    let world = World::new().await;
    let index = world.get("/openapi/v3").await.json();
    let mut explained = 0;
    for (path, entry) in index["paths"].as_object().expect("paths") {
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        let got = world.get(url).await;
        assert_eq!(got.code, 200, "{url}");
        assert_eq!(got.headers["cache-control"], "public, immutable");
        let document = got.json();
        let schemas = &document["components"]["schemas"];
        consistent(&document, schemas, "#/components/schemas/");
        let resources = world.get(&format!("/{path}")).await.json();
        for resource in resources["resources"].as_array().expect("resources") {
            let name = resource["name"].as_str().expect("a name");
            let kind = |own: &str| resource[own].as_str().unwrap_or_default().to_owned();
            let (group, version) = path
                .strip_prefix("apis/")
                .and_then(|rest| rest.split_once('/'))
                .unwrap_or(("", "v1"));
            let group = resource["group"].as_str().unwrap_or(group).to_owned();
            let version = resource["version"].as_str().unwrap_or(version).to_owned();
            if ["exec", "attach", "portforward", "proxy"]
                .iter()
                .any(|sub| name.ends_with(&format!("/{sub}")))
            {
                continue; // their kinds are options in the query
            }
            let found = schemas.as_object().expect("schemas").values().find(|schema| {
                let kinds = schema["x-kubernetes-group-version-kind"].as_array();
                kinds.is_some_and(|kinds| {
                    kinds.iter().any(|own| {
                        own["group"] == *group && own["version"] == *version && own["kind"] == *kind("kind")
                    })
                })
            });
            let schema = found.unwrap_or_else(|| panic!("{path}: {resource}"));
            assert!(
                schema["description"].as_str().is_some_and(|text| text.len() > 10),
                "{name}"
            );
            for (field, property) in schema["properties"].as_object().expect("properties") {
                assert!(
                    property["description"].is_string()
                        || field == "metadata"
                        || field == "status"
                        || field == "spec",
                    "{path} {name} {field}: {property}"
                );
            }
            explained += 1;
        }
    }
    assert!(explained >= 60, "{explained}");
}

#[tokio::test]
async fn swagger_says_the_same() {
    let world = World::new().await;
    let got = world.get("/openapi/v2").await;
    let swagger = got.json();
    consistent(&swagger, &swagger["definitions"], "#/definitions/");
    let pod = &swagger["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(pod["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(pod["items"]["$ref"], "#/definitions/io.k8s.api.core.v1.Container");
    let core = world.get("/openapi/v3/api/v1").await.json();
    for path in core["paths"].as_object().expect("paths").keys() {
        assert!(swagger["paths"][path].is_object(), "{path}");
    }

    let tag = got.headers["etag"].to_str().expect("text").to_owned();
    let again = world
        .ask("GET", "/openapi/v2", &[("if-none-match", &tag)], "")
        .await;
    assert_eq!((again.code, again.text.len()), (304, 0));
}

async fn bytes(world: &World, path: &str, headers: &[(&str, &str)]) -> (http::HeaderMap, Bytes) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = world.send(request.body(Full::default()).expect("request")).await;
    assert_eq!(response.status(), 200, "{path}");
    let (parts, body) = response.into_parts();
    (parts.headers, body.collect().await.expect("body").to_bytes())
}

#[tokio::test]
async fn protobuf_and_compressed_forms() {
    let world = World::new().await;
    for (path, version) in [("/openapi/v2", "v2"), ("/openapi/v3/apis/apps/v1", "v3")] {
        let accept = format!("application/com.github.proto-openapi.spec.{version}@v1.0+protobuf");
        let (headers, plain) = bytes(&world, path, &[("accept", &accept)]).await;
        assert_eq!(
            headers["content-type"],
            format!("application/com.github.proto-openapi.spec.{version}.v1.0+protobuf").as_str()
        );
        // `swagger = 1` or `openapi = 1`, then `info = 2`.
        assert_eq!(plain[0], 0x0a);
        assert!(
            plain.windows(11).any(|window| window == b"Deployment "),
            "descriptions are there"
        );
        let (headers, packed) =
            bytes(&world, path, &[("accept", &accept), ("accept-encoding", "gzip")]).await;
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(
            packed.len() * 4 < plain.len(),
            "{} of {}",
            packed.len(),
            plain.len()
        );
    }
}

#[tokio::test]
async fn a_stale_hash_leads_to_the_new_document() {
    let world = World::new().await;
    let got = world.get("/openapi/v3/api/v1?hash=OLD").await;
    assert_eq!(got.code, 301);
    let location = got.headers["location"].to_str().expect("text").to_owned();
    assert_eq!(world.get(&location).await.code, 200);
    assert_eq!(world.get("/openapi/v3/apis/none/v1").await.code, 404);
}

#[tokio::test]
async fn discovery_in_all_forms_names_the_same_resources() {
    let world = World::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, prefix) in [("/api", "/api"), ("/apis", "/apis")] {
        let got = world.ask("GET", path, &[("accept", accept)], "").await;
        assert_eq!(got.headers["content-type"], accept);
        let tag = got.headers["etag"].to_str().expect("text").to_owned();
        let again = world
            .ask("GET", path, &[("accept", accept), ("if-none-match", &tag)], "")
            .await;
        assert_eq!(again.code, 304);
        for group in got.json()["items"].as_array().expect("items") {
            let name = group["metadata"]["name"].as_str();
            for version in group["versions"].as_array().expect("versions") {
                let own = version["version"].as_str().expect("a version");
                let path = name.map_or(format!("{prefix}/{own}"), |name| format!("{prefix}/{name}/{own}"));
                let legacy = world.get(&path).await.json();
                let mut want: Vec<String> = Vec::new();
                for resource in version["resources"].as_array().expect("resources") {
                    let plural = resource["resource"].as_str().expect("a plural");
                    want.push(plural.to_owned());
                    for sub in resource["subresources"].as_array().into_iter().flatten() {
                        want.push(format!(
                            "{plural}/{}",
                            sub["subresource"].as_str().expect("a name")
                        ));
                    }
                }
                want.sort();
                let names: Vec<&str> = legacy["resources"]
                    .as_array()
                    .expect("resources")
                    .iter()
                    .filter_map(|resource| resource["name"].as_str())
                    .collect();
                assert_eq!(names, want, "{path}");
            }
        }
    }
    let index = world.get("/").await.json();
    let paths = index["paths"].as_array().expect("paths");
    for path in [
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/version",
    ] {
        assert!(paths.contains(&path.into()), "{path}");
    }
}
