//! OpenAPI documents, made from the table of facts and the registry: every type, field and path, no descriptions.
//!
//! `v3` makes one document for each group and version; `v2` turns them into one Swagger document; `gnostic` writes that in
//! the protobuf form `kubectl` up to 1.32 asks for.

mod gnostic;
mod v2;
mod v3;

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::discovery::hash;
use crate::respond::{self, Answer};
use crate::types::Types;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF_OLD: &str = "application/com.github.googleapis.gnostic.OpenAPIv2@68f4ded+protobuf";
/// What it is called in answers: an `@` is no token character of a media type. Source: kube-openapi.
const V2_PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The documents of one set of types, each made when first asked for.
#[derive(Default)]
pub struct Documents {
    v2: OnceLock<Tagged>,
    v2_protobuf: OnceLock<Tagged>,
    v3: OnceLock<Vec<Document>>,
}

/// Bytes and their `ETag`.
type Tagged = (Bytes, String);

/// `/openapi/v2`.
pub fn v2(types: &Types, accept: Option<&str>, headers: &HeaderMap) -> Answer {
    let asked = |media: &str| accept.is_some_and(|accept| accept.split(',').any(|part| part.trim() == media));
    let ((bytes, tag), content_type) = if asked(V2_PROTOBUF) || asked(V2_PROTOBUF_OLD) {
        let made = || tagged(gnostic::document(&v2::document(types)));
        (types.openapi.v2_protobuf.get_or_init(made), V2_PROTOBUF_ANSWER)
    } else {
        let made = || tagged(v2::document(types).to_string().into_bytes());
        (types.openapi.v2.get_or_init(made), "application/json")
    };
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known == tag.as_str())
    {
        return with_tag(
            respond::with_type(StatusCode::NOT_MODIFIED, content_type, Body::empty()),
            tag,
        );
    }
    with_tag(
        respond::with_type(StatusCode::OK, content_type, Body::from(bytes.clone())),
        tag,
    )
}

fn tagged(bytes: Vec<u8>) -> Tagged {
    let tag = format!("\"{}\"", hash(&bytes).to_uppercase());
    (Bytes::from(bytes), tag)
}

fn with_tag(mut answer: Response<Body>, tag: &str) -> Answer {
    answer
        .headers_mut()
        .insert(ETAG, HeaderValue::from_str(tag).expect("a quoted hash"));
    answer
}

/// `/openapi/v3`.
pub fn v3_index(types: &Types) -> Answer {
    let mut paths = Map::new();
    for (group, version, (_, tag)) in documents(types) {
        let path = v3::path_of(group, version);
        let url = format!("/openapi/v3/{path}?hash={}", tag.trim_matches('"'));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    respond::json(StatusCode::OK, json!({ "paths": paths }).to_string())
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
pub fn v3(types: &Types, group: &str, version: &str) -> Answer {
    match documents(types)
        .iter()
        .find(|(g, v, _)| *g == group && *v == version)
    {
        Some((_, _, (bytes, tag))) => with_tag(respond::json(StatusCode::OK, bytes.clone()), tag),
        None => respond::page_not_found(),
    }
}

/// Group, version and document.
type Document = (String, String, Tagged);

fn documents(types: &Types) -> &[Document] {
    types.openapi.v3.get_or_init(|| {
        let groups = types.groups().into_iter();
        let pairs =
            groups.flat_map(|(group, versions)| versions.into_iter().map(move |version| (group, version)));
        pairs
            .map(|(g, v)| {
                let document = tagged(v3::document(types, g, v).to_string().into_bytes());
                (g.to_owned(), v.to_owned(), document)
            })
            .collect()
    })
}

/// `[{group, version, kind}]` as both versions of the format carry it.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}
