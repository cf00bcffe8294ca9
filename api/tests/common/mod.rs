//! What the table tests of the kinds share: one check each for defaults, invalid objects, updates and columns.

#![allow(dead_code)] // each test binary uses its part

use corten_api::resource::{CreateContext, Subresource};
use corten_api::{FieldValidation, ResourceType, Status, registry};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Group and version, kind.
pub type Name<'a> = (&'a str, &'a str);

pub const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
pub const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

pub fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

pub fn resource((api_version, kind): Name<'_>) -> &'static ResourceType {
    registry()
        .for_api_version(api_version, kind)
        .unwrap_or_else(|| panic!("{api_version} {kind} is served"))
}

#[track_caller]
pub fn decode(resource: &ResourceType, body: &Value) -> Value {
    resource
        .decode(&serde_json::to_vec(body).unwrap(), FieldValidation::Strict)
        .unwrap_or_else(|status| panic!("{}", status.message))
        .value
}

/// Creates an object as the server would.
#[track_caller]
pub fn create(resource: &ResourceType, body: &Value) -> Result<Value, Status> {
    let mut object = decode(resource, body);
    let ctx = CreateContext {
        namespace: if resource.namespaced { "default" } else { "" },
        uid: "u",
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        name_suffix: "abcde",
    };
    resource.prepare_create(&mut object, &ctx).map(|()| object)
}

/// The causes of an `Invalid` answer as `field|Reason|message`.
#[track_caller]
pub fn causes(status: Status) -> Vec<String> {
    assert_eq!(
        (status.code, status.reason.as_str()),
        (422, "Invalid"),
        "{}",
        status.message
    );
    let line = |c: corten_api::status::StatusCause| {
        let reason = c.reason.trim_start_matches("FieldValue").to_string();
        format!("{}|{reason}|{}", c.field, c.message)
    };
    status.details.unwrap().causes.into_iter().map(line).collect()
}

/// Creates `body` and compares all but the system metadata; what is stored must be in canonical form.
#[track_caller]
pub fn golden(name: Name<'_>, body: Value, mut want: Value) {
    let resource = resource(name);
    let mut object = create(resource, &body).unwrap_or_else(|status| panic!("{}", status.message));
    let mut again = decode(resource, &object);
    resource.set_defaults(&mut again);
    assert_eq!(again, object, "the stored form is canonical");
    let metadata = object["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("uid"), Some("u".into()));
    assert_eq!(
        metadata.remove("creationTimestamp"),
        Some("2026-01-01T00:00:00Z".into())
    );
    want["apiVersion"] = name.0.into();
    want["kind"] = name.1.into();
    if resource.namespaced {
        want["metadata"]["namespace"] = "default".into();
    }
    assert_eq!(object, want);
}

/// Sets the value at a JSON pointer of a good object (`null` removes it) and compares the causes of the refusal.
#[track_caller]
pub fn invalid(name: Name<'_>, base: &Value, pointer: &str, value: Value, want: &[&str]) {
    let mut body = base.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let key = key.replace("~1", "/");
    match body
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} is there"))
    {
        Value::Object(map) if value.is_null() => drop(map.remove(&key)),
        Value::Object(map) => drop(map.insert(key, value)),
        other => other[key.parse::<usize>().unwrap()] = value,
    }
    let got = create(resource(name), &body).map_or_else(causes, |_| Vec::new());
    assert_eq!(got, want, "{} {pointer}", name.1);
}

/// Stores a good object.
#[track_caller]
pub fn stored(name: Name<'_>, body: &Value) -> Value {
    create(resource(name), body).unwrap_or_else(|status| panic!("{}", status.message))
}

/// Changes a stored object by a merge patch through one path, as the server would.
#[track_caller]
pub fn update(name: Name<'_>, old: &Value, patch: Value, part: Subresource) -> Result<Value, Status> {
    let resource = resource(name);
    let mut new = old.clone();
    new["metadata"]["resourceVersion"] = "7".into();
    corten_api::patch::merge_patch(&mut new, &patch);
    let mut new = resource
        .conform(&new, FieldValidation::Strict)
        .unwrap_or_else(|e| panic!("{}", e.text))
        .value;
    resource.stamp_update(&mut new, old, part, now());
    resource.prepare_update(&mut new, old, part).map(|()| new)
}

/// The causes for which a change of the object is refused; none if it is not.
#[track_caller]
pub fn refused(name: Name<'_>, old: &Value, patch: Value, want: &[&str]) {
    refused_part(name, old, patch, Subresource::Main, want);
}

#[track_caller]
pub fn refused_part(name: Name<'_>, old: &Value, patch: Value, part: Subresource, want: &[&str]) {
    let got = update(name, old, patch, part).map_or_else(causes, |_| Vec::new());
    assert_eq!(got, want);
}

/// Metadata of an object five minutes old.
pub fn aged(name: &str) -> Value {
    json!({"name": name, "creationTimestamp": "2026-01-01T00:55:00Z"})
}

/// What `kubectl get -o wide` shows, `Column=cell`; wide columns have a `+` before their name.
#[track_caller]
pub fn columns(name: Name<'_>, object: Value, want: &[&str]) {
    let resource = resource(name);
    let mut object = decode(resource, &object);
    resource.set_defaults(&mut object);
    let shown = |cell: &Value| match cell {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells = resource.cells(&object, now());
    let got: Vec<String> = resource
        .columns()
        .iter()
        .zip(&cells)
        .map(|(column, cell)| {
            let wide = if column.priority > 0 { "+" } else { "" };
            format!("{wide}{}={}", column.name, shown(cell))
        })
        .collect();
    assert_eq!(got, want);
    assert_eq!(cells.len(), resource.columns().len());
}

/// Names a resource is known by: short names, categories, subresources.
#[track_caller]
pub fn known_as(name: Name<'_>, namespaced: bool, short: &[&str], subresources: &[&str]) {
    let resource = resource(name);
    let shorts: Vec<&str> = resource.short_names.iter().collect();
    let parts: Vec<&str> = resource.subresources.iter().map(|s| s.name).collect();
    assert_eq!(
        (resource.namespaced, shorts, parts),
        (namespaced, short.to_vec(), subresources.to_vec())
    );
}

/// Warnings about a new object and about an update to the same.
#[track_caller]
pub fn warned(name: Name<'_>, body: &Value, on_create: &[&str], on_update: &[&str]) {
    let object = stored(name, body);
    assert_eq!(resource(name).warnings_on_create(&object), on_create);
    assert_eq!(resource(name).warnings(&object), on_update);
}
