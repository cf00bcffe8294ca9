//! OpenAPI documents, made from the table of facts, the texts and the served types: every type, field and path.
//!
//! `definitions` and `paths` make the parts in the form of v3, `swagger` rewrites them for v2, `gnostic` writes both in protobuf,
//! `document` puts them together. What clients ask for rarely is made when they ask, and kept compressed.

mod definitions;
mod document;
mod gnostic;
pub mod names;
mod paths;
mod swagger;
mod texts;

use std::sync::{Arc, OnceLock};

use corten_api::resource::TypeRef;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderMap, HeaderValue, IF_NONE_MATCH,
    LOCATION, VARY,
};
use http::{HeaderName, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use self::document::Document;
use self::texts::Texts;
use crate::body::Body;
use crate::negotiate;
use crate::respond::{self, Answer};
use crate::types::Types;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF_OLD: &str = "application/com.github.googleapis.gnostic.OpenAPIv2@68f4ded+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
/// What they are called in answers: an `@` is no token character of a media type. Source: kube-openapi.
const V2_PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// The documents of one set of types, each made when first asked for.
#[derive(Default)]
pub struct Documents {
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
    v3: OnceLock<Vec<Arc<Group>>>,
    /// Groups of the set before, until this one's are made: most are the same.
    before: Mutex<Vec<Arc<Group>>>,
}

impl Documents {
    /// The documents of the set that comes after `old`.
    pub fn after(old: &Documents) -> Documents {
        let before = match old.v3.get() {
            Some(made) => made.clone(),
            None => old.before.lock().clone(),
        };
        Documents {
            before: Mutex::new(before),
            ..Documents::default()
        }
    }
}

/// The documents of one group and version, each made when first asked for.
struct Group {
    group: String,
    version: String,
    types: Vec<TypeRef>,
    json: OnceLock<Document>,
    protobuf: OnceLock<Document>,
}

impl Group {
    fn new(group: &str, version: &str, types: Vec<TypeRef>) -> Group {
        Group {
            group: group.to_owned(),
            version: version.to_owned(),
            types,
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    /// `texts` are loaded when they are needed, for all groups that are asked for at once.
    fn json(&self, texts: &mut Option<Texts>) -> &Document {
        let make = || document::v3(&self.types, texts.get_or_insert_with(Texts::load));
        self.json.get_or_init(make)
    }
}

/// True when a group consists of these types.
fn consists_of(group: &Group, members: &[TypeRef]) -> bool {
    group.types.len() == members.len()
        && group
            .types
            .iter()
            .zip(members)
            .all(|(a, b)| std::ptr::eq(&**a, &**b))
}

/// Every group and version. Those that were in the set before are taken from there; those without custom types are made once
/// for all sets.
fn groups(types: &Types) -> &[Arc<Group>] {
    static BUILT_IN: OnceLock<Vec<Arc<Group>>> = OnceLock::new();
    let make = |types: &Types, known: &[Arc<Group>]| {
        let mut out = Vec::new();
        for (group, versions) in types.groups() {
            for version in versions {
                let members: Vec<TypeRef> = types.members(group, version).cloned().collect();
                if members.is_empty() {
                    continue; // another server's
                }
                out.push(match known.iter().find(|own| consists_of(own, &members)) {
                    Some(own) => own.clone(),
                    None => Arc::new(Group::new(group, version, members)),
                });
            }
        }
        out
    };
    types.openapi.v3.get_or_init(|| {
        let mut known = std::mem::take(&mut *types.openapi.before.lock());
        known.extend_from_slice(BUILT_IN.get_or_init(|| make(&Types::new(Vec::new()), &[])));
        make(types, &known)
    })
}

fn asked(accept: Option<&str>, media: &str) -> bool {
    accept.is_some_and(|accept| {
        accept
            .split(',')
            .any(|part| part.split(';').next().unwrap_or_default().trim() == media)
    })
}

/// `/openapi/v2`.
pub fn v2(types: &Types, accept: Option<&str>, headers: &HeaderMap) -> Answer {
    let protobuf = asked(accept, V2_PROTOBUF) || asked(accept, V2_PROTOBUF_OLD);
    if protobuf {
        let make = || document::v2_protobuf(types.all(), &Texts::load());
        let own = types.openapi.v2_protobuf.get_or_init(make);
        return answer(own, V2_PROTOBUF_ANSWER, headers);
    }
    let make = || document::v2(types.all(), &Texts::load());
    answer(types.openapi.v2.get_or_init(make), "application/json", headers)
}

/// A document, or 304 when the client has it already.
fn answer(own: &Document, content_type: &'static str, headers: &HeaderMap) -> Answer {
    let tag = format!("\"{}\"", own.hash);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let known = text(IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|part| part.trim() == tag));
    let gzip = negotiate::accepts_gzip(text(ACCEPT_ENCODING));
    let mut answer = if known {
        respond::with_type(StatusCode::NOT_MODIFIED, content_type, Body::empty())
    } else if gzip {
        let body = Body::from(own.compressed.clone());
        let mut answer = respond::with_type(StatusCode::OK, content_type, body);
        answer
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        respond::with_type(StatusCode::OK, content_type, own.plain())
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&tag).expect("a quoted hash"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.append(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// `/openapi/v3`.
pub fn v3_index(types: &Types) -> Answer {
    let (mut all, mut texts) = (Map::new(), None);
    for own in groups(types) {
        let path = paths::path_of(&own.group, &own.version);
        let url = format!("/openapi/v3/{path}?hash={}", own.json(&mut texts).hash);
        all.insert(path, json!({ "serverRelativeURL": url }));
    }
    // Asked for, these documents come from who serves the group.
    for remote in types.remote.iter().filter(|remote| remote.available) {
        let path = paths::path_of(&remote.group, &remote.version);
        let url = format!("/openapi/v3/{path}");
        all.insert(path, json!({ "serverRelativeURL": url }));
    }
    respond::json(StatusCode::OK, json!({ "paths": all }).to_string())
}

/// How long a document under its own hash may be kept. Source: kube-openapi, a year.
const IMMUTABLE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 365);

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`; `hash` is what the client believes it to be.
pub fn v3(
    types: &Types,
    group: &str,
    version: &str,
    accept: Option<&str>,
    hash: Option<&str>,
    headers: &HeaderMap,
) -> Answer {
    let same = |own: &&Arc<Group>| own.group == group && own.version == version;
    let Some(own) = groups(types).iter().find(same) else {
        return respond::page_not_found();
    };
    let json = own.json(&mut None);
    let current = &json.hash;
    if hash.is_some_and(|hash| hash != current) {
        let path = paths::path_of(group, version);
        let url = format!("/openapi/v3/{path}?hash={current}");
        let mut moved = respond::text(StatusCode::MOVED_PERMANENTLY, "");
        if let Ok(url) = HeaderValue::from_str(&url) {
            moved.headers_mut().insert(LOCATION, url);
        }
        return moved;
    }
    let mut answer = if asked(accept, V3_PROTOBUF) {
        let make = || document::v3_protobuf(&own.types, &Texts::load());
        answer(own.protobuf.get_or_init(make), V3_PROTOBUF_ANSWER, headers)
    } else {
        answer(json, "application/json", headers)
    };
    if hash.is_some() {
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let until = (jiff::Timestamp::now() + IMMUTABLE).strftime("%a, %d %b %Y %H:%M:%S GMT");
        if let Ok(until) = HeaderValue::from_str(&until.to_string()) {
            headers.insert(EXPIRES, until);
        }
    }
    answer
}

/// `{group, version, kind}` as both versions of the format carry it.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}
