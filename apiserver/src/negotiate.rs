//! Content negotiation: which form an answer takes and how a body is read. Pure.
//!
//! Knows media types. Must not know kinds: a `Table` is asked for here and built elsewhere.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use bytes::Bytes;
use corten_api::schema::proto;
use serde_saphyr::DuplicateKeyPolicy;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    Json,
    Yaml,
    /// Kubernetes protobuf.
    Protobuf,
}

impl Media {
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => proto::MEDIA_TYPE,
        }
    }

    /// The same for a watch; YAML has no frames.
    #[must_use]
    pub fn watch_type(self) -> Option<&'static str> {
        match self {
            Media::Json => Some("application/json"),
            Media::Yaml => None,
            Media::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
        }
    }
}

/// What the client wants to see of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The object itself.
    Object,
    /// The object without its `managedFields`, a third of many: what our own components ask for. Upstream has no such form;
    /// a server that does not know it passes to what else the client takes.
    Unmanaged,
    /// `meta.k8s.io/VERSION` Table.
    Table(MetaVersion),
    /// `meta.k8s.io/VERSION` PartialObjectMetadata or its List.
    Partial(MetaVersion),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub media: Media,
    pub form: Form,
}

/// No media type of the `Accept` list can be served; the answer is `406 NotAcceptable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAcceptable;

/// Media types answers and bodies can take, for error texts. Upstream's list without CBOR, which is off by default.
pub const MEDIA_TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
/// Media types a watch can take, for error texts.
pub const WATCH_TYPES: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// One part of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, v)| *v)
    }
}

/// Most parts of an `Accept` header that are looked at.
const MAX_CLAUSES: usize = 32;

/// Best first; equal quality keeps the client's order.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header
        .split(',')
        .take(MAX_CLAUSES)
        .map(|part| {
            let mut pieces = part.split(';').map(str::trim);
            let media = pieces.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = pieces.filter_map(|piece| piece.split_once('=')).collect();
            let quality = parameters
                .iter()
                .find(|(k, _)| *k == "q")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(1.0);
            Clause {
                media,
                parameters,
                quality,
            }
        })
        .filter(|clause| !clause.media.is_empty() && clause.quality > 0.0)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn media(name: &str) -> Option<Media> {
    match name {
        "application/json" | "application/*" | "*/*" => Some(Media::Json),
        "application/yaml" => Some(Media::Yaml),
        proto::MEDIA_TYPE => Some(Media::Protobuf),
        _ => None,
    }
}

/// The first part of `Accept` that can be served and that `allowed` takes. Parts in media types we do not write (CBOR)
/// are passed over, so a client that lists JSON too gets JSON.
///
/// # Errors
/// Nothing in the list can be served.
pub fn accept(
    header: Option<&str>,
    allowed: impl Fn(Media, Form) -> bool,
) -> Result<Accepted, NotAcceptable> {
    let plain = Accepted {
        media: Media::Json,
        form: Form::Object,
    };
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
        return Ok(plain);
    };
    if matches!(header, "application/json" | "*/*") && allowed(plain.media, plain.form) {
        return Ok(plain);
    }
    clauses(header)
        .iter()
        .filter_map(accept_clause)
        .find(|accepted| allowed(accepted.media, accepted.form))
        .ok_or(NotAcceptable)
}

/// What may be asked of objects: no Table in protobuf. `protobuf`: the kind has such a form of its own.
///
/// Source: Kubernetes `RequestScope.AllowsMediaTypeTransform`.
pub fn of_objects(protobuf: bool) -> impl Fn(Media, Form) -> bool {
    move |media, form| match form {
        Form::Object => media != Media::Protobuf || protobuf,
        Form::Unmanaged => media == Media::Json,
        Form::Table(_) => media != Media::Protobuf,
        Form::Partial(_) => true,
    }
}

/// The media type of answers that have one form only, above all errors.
///
/// # Errors
/// Nothing in the list can be served.
pub fn accept_plain(header: Option<&str>) -> Result<Media, NotAcceptable> {
    accept(header, |_, form| form == Form::Object).map(|accepted| accepted.media)
}

fn accept_clause(clause: &Clause<'_>) -> Option<Accepted> {
    let media = media(clause.media)?;
    if clause
        .get("stream")
        .is_some_and(|stream| !matches!(stream, "" | "watch"))
    {
        return None;
    }
    let Some(kind) = clause.get("as") else {
        return Some(Accepted {
            media,
            form: Form::Object,
        });
    };
    if (kind, clause.get("g"), clause.get("v")) == ("Unmanaged", Some("corten.dev"), Some("v1")) {
        let form = Form::Unmanaged;
        return Some(Accepted { media, form });
    }
    let version = match (clause.get("g"), clause.get("v")) {
        (Some("meta.k8s.io"), Some("v1")) => MetaVersion::V1,
        (Some("meta.k8s.io"), Some("v1beta1")) => MetaVersion::V1Beta1,
        _ => return None,
    };
    let form = match kind {
        "Table" => Form::Table(version),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Partial(version),
        _ => return None,
    };
    Some(Accepted { media, form })
}

/// The version of aggregated discovery the client prefers over the legacy lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    Legacy,
    V2,
    V2Beta1,
}

/// # Errors
/// Nothing in the list can be served.
pub fn accept_discovery(header: Option<&str>) -> Result<(Discovery, Media), NotAcceptable> {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
        return Ok((Discovery::Legacy, Media::Json));
    };
    let one = |clause: &Clause<'_>| {
        let media = media(clause.media)?;
        let form = match (clause.get("as"), clause.get("g"), clause.get("v")) {
            (None, ..) => Discovery::Legacy,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Discovery::V2,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                Discovery::V2Beta1
            }
            _ => return None,
        };
        Some((form, media))
    };
    clauses(header).iter().find_map(one).ok_or(NotAcceptable)
}

#[must_use]
pub fn accepts_gzip(header: Option<&str>) -> bool {
    // Upstream looks for the bare word.
    header.is_some_and(|header| header.split(',').any(|part| part.trim() == "gzip"))
}

/// How a request body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// A `Content-Type` that is not served: `415 UnsupportedMediaType`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

fn essence(header: &str) -> String {
    header
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// # Errors
/// Anything but JSON, YAML and Kubernetes protobuf. No header means JSON.
pub fn body_format(header: Option<&str>) -> Result<BodyFormat, Unsupported> {
    match essence(header.unwrap_or_default()).as_str() {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        proto::MEDIA_TYPE => Ok(BodyFormat::Protobuf),
        other => Err(Unsupported(other.to_owned())),
    }
}

/// Deepest nesting of a YAML body. Source: reliability checklist X8.
const MAX_YAML_DEPTH: usize = 100;

/// A YAML document as JSON bytes. Aliases are refused, so size stays linear in the input.
///
/// # Errors
/// The parser's message.
pub fn yaml_to_json(body: &[u8]) -> Result<Bytes, String> {
    let value = read_yaml(body, DuplicateKeyPolicy::Error).map_err(|error| error.to_string())?;
    Ok(Bytes::from(value.to_string()))
}

/// The same where a repeated key is no error: the last one stands, and the first repetition is told in the words of
/// upstream's strict decoder.
///
/// # Errors
/// The parser's message.
pub fn lenient_yaml(body: &[u8]) -> Result<(serde_json::Value, Option<String>), String> {
    match read_yaml(body, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok((value, None)),
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => {
            let key = key.unwrap_or_default();
            let note = format!(
                "error converting YAML to JSON: yaml: unmarshal errors:\n  line {}: key {key:?} already set in map",
                location.line()
            );
            let value = read_yaml(body, DuplicateKeyPolicy::LastWins).map_err(|error| error.to_string())?;
            Ok((value, Some(note)))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn read_yaml(body: &[u8], duplicates: DuplicateKeyPolicy) -> Result<serde_json::Value, serde_saphyr::Error> {
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_aliases = 0;
    budget.max_depth = MAX_YAML_DEPTH;
    budget.max_documents = 1;
    options.budget = Some(budget);
    options.with_snippet = false;
    options.duplicate_keys = duplicates;
    serde_saphyr::from_slice_with_options(body, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, want: Result<(Media, Form), NotAcceptable>) {
        let got = accept(Some(header), of_objects(true));
        assert_eq!(got.map(|a| (a.media, a.form)), want, "{header}");
    }

    #[test]
    fn accept_lists() {
        use Form::{Object, Partial, Table, Unmanaged};
        check("", Ok((Media::Json, Object)));
        check(
            "application/json;as=Unmanaged;g=corten.dev;v=v1,application/json",
            Ok((Media::Json, Unmanaged)),
        );
        check(
            "application/yaml;as=Unmanaged;g=corten.dev;v=v1",
            Err(NotAcceptable),
        );
        check("*/*", Ok((Media::Json, Object)));
        check("application/json", Ok((Media::Json, Object)));
        check("application/yaml", Ok((Media::Yaml, Object)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Ok((Media::Json, Table(MetaVersion::V1))),
        );
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            Ok((Media::Protobuf, Object)),
        );
        check(
            "application/vnd.kubernetes.protobuf;stream=watch",
            Ok((Media::Protobuf, Object)),
        );
        check("application/json;stream=other", Err(NotAcceptable));
        check(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
            Ok((Media::Json, Table(MetaVersion::V1))),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
            Err(NotAcceptable),
        );
        check("application/cbor", Err(NotAcceptable));
        check("application/cbor,application/yaml", Ok((Media::Yaml, Object)));
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            Ok((Media::Protobuf, Partial(MetaVersion::V1))),
        );
        check(
            "application/json;q=0.1,application/yaml;q=0.9",
            Ok((Media::Yaml, Object)),
        );
        check("text/html", Err(NotAcceptable));
    }

    #[test]
    fn discovery() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(accept_discovery(Some(kubectl)), Ok((Discovery::V2, Media::Json)));
        let legacy = |media| Ok((Discovery::Legacy, media));
        assert_eq!(accept_discovery(Some("application/json")), legacy(Media::Json));
        assert_eq!(
            accept_discovery(Some("application/vnd.kubernetes.protobuf")),
            legacy(Media::Protobuf)
        );
        assert_eq!(accept_discovery(None), legacy(Media::Json));
    }

    #[test]
    fn bodies() {
        assert_eq!(
            body_format(Some("application/json; charset=utf-8")),
            Ok(BodyFormat::Json)
        );
        assert!(body_format(Some("application/cbor")).is_err());

        assert_eq!(
            yaml_to_json(b"a: [1, yes, \"2\"]\n").expect("yaml"),
            r#"{"a":[1,true,"2"]}"#
        );
        assert!(
            yaml_to_json(b"a: &x [1]\nb: *x\n").is_err(),
            "aliases are refused"
        );
        assert!(yaml_to_json("[".repeat(10_000).as_bytes()).is_err(), "deep");
        assert!(yaml_to_json(b"a: 1\na: 2\n").is_err(), "duplicate key");
    }
}
