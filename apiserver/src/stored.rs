//! The form of an object in the store: a small head for selectors, then its JSON.
//!
//! Knows bytes. Must not know kinds or revisions' meaning.
//!
//! ```text
//! 0x01 | varint head length | head | {"metadata":{ ...rest of the object
//! 0x02 | varint head length | head | the same, sealed
//! head: varint n, n x (key, value) labels; varint m, m x (key, value) selectable fields
//! ```
//! Strings carry a varint length. The JSON has no `apiVersion`, `kind` and `metadata.resourceVersion`, and always
//! starts with `{"metadata":{` and at least one field (the name): they are spliced in on the way out, so a read parses
//! nothing, list items look like upstream's, and one stored object can be served under several versions.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::borrow::Cow;

use bytes::Bytes;
use corten_api::schema::decode::parse_stored;
use corten_api::{ResourceType, json, meta};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::sealing;

mod text;

const FORMAT: u8 = 1;
const SEALED: u8 = 2;
const MANAGED_FIELDS: &str = "managedFields";
const OPENING: &[u8] = b"{\"metadata\":{";

/// The value of a key is not what [`encode`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored object is damaged")]
pub struct Damaged;

/// `apiVersion` (in its two parts) and `kind` of the objects of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeMeta<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl<'a> TypeMeta<'a> {
    #[must_use]
    pub fn of(ty: &'a ResourceType) -> TypeMeta<'a> {
        TypeMeta {
            group: &ty.group,
            version: &ty.version,
            kind: &ty.kind,
        }
    }

    /// Appends `v1` or `apps/v1`.
    pub fn write_api_version(&self, out: &mut Vec<u8>) {
        if !self.group.is_empty() {
            out.extend_from_slice(self.group.as_bytes());
            out.push(b'/');
        }
        out.extend_from_slice(self.version.as_bytes());
    }

    #[must_use]
    pub fn api_version(&self) -> String {
        let mut out = Vec::new();
        self.write_api_version(&mut out);
        String::from_utf8(out).expect("made of strings")
    }
}

/// The stored bytes of `object`. `fields` are its selectable fields.
#[must_use]
pub fn encode<K: AsRef<str>, V: AsRef<str>>(object: &Value, fields: &[(K, V)]) -> Bytes {
    encode_managed(object, None, fields)
}

/// [`encode`] for an object whose `managedFields` are the text `managers`, if any, and not in it.
#[must_use]
pub fn encode_managed<K: AsRef<str>, V: AsRef<str>>(
    object: &Value,
    managers: Option<&str>,
    fields: &[(K, V)],
) -> Bytes {
    let empty = Map::new();
    let top = object.as_object().unwrap_or(&empty);
    let metadata = top.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut head = Vec::with_capacity(256);
    let labels = metadata
        .get("labels")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    put_number(&mut head, labels.len());
    for (key, value) in labels {
        put_text(&mut head, key);
        put_text(&mut head, value.as_str().unwrap_or_default());
    }
    put_number(&mut head, fields.len());
    for (key, value) in fields {
        put_text(&mut head, key.as_ref());
        put_text(&mut head, value.as_ref());
    }

    let mut out = Vec::with_capacity(head.len() + managers.map_or(0, str::len) + 2048);
    out.push(FORMAT);
    put_number(&mut out, head.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(OPENING);
    let mut managers = managers;
    let mut put_managers = |out: &mut Vec<u8>| {
        if let Some(text) = managers.take() {
            put_key(out, MANAGED_FIELDS);
            out.extend_from_slice(text.as_bytes());
        }
    };
    for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
        if key.as_str() > MANAGED_FIELDS {
            put_managers(&mut out);
        }
        put_key(&mut out, key);
        json::write(&mut out, value);
    }
    put_managers(&mut out);
    out.push(b'}');
    for (key, value) in top {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            put_key(&mut out, key);
            json::write(&mut out, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

/// `plain`, what [`encode`] made of `object`, as it is to be stored: sealed if the configuration says so.
#[must_use]
pub fn seal(plain: Bytes, ty: &ResourceType, object: &Value) -> Bytes {
    if !sealing::covers(&ty.group, &ty.plural) {
        return plain;
    }
    let identity = identity(&ty.group, &ty.plural, object);
    match Stored::new(&plain) {
        Ok(stored) => stored
            .sealed_as(&ty.group, &ty.plural, &identity)
            .unwrap_or(plain),
        Err(_) => plain,
    }
}

/// A stored value as it would be stored now.
///
/// # Errors
/// A value that cannot be opened.
pub fn reseal(value: &[u8], group: &str, plural: &str) -> Result<Bytes, Damaged> {
    let stored = Stored::new(value)?;
    let json = stored.json()?;
    let object = read(&json)?;
    let open = Stored {
        head: stored.head,
        body: Body::Plain(&json),
    };
    let identity = identity(group, plural, &object);
    Ok(open
        .sealed_as(group, plural, &identity)
        .unwrap_or_else(|| open.assemble(FORMAT, &json)))
}

/// What a sealed value is bound to.
fn identity(group: &str, plural: &str, object: &Value) -> Vec<u8> {
    let parts = [
        group,
        plural,
        meta::namespace(object),
        meta::name(object),
        meta::uid(object),
    ];
    parts.join("/").into_bytes()
}

/// What stands before a member's value; no other place of a stored object ends with an opening brace.
fn put_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json::write_text(out, key);
    out.push(b':');
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A stored object, looked at in place.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    head: &'a [u8],
    body: Body<'a>,
}

#[derive(Clone, Copy)]
enum Body<'a> {
    Plain(&'a [u8]),
    Sealed(&'a [u8]),
}

impl<'a> Stored<'a> {
    /// # Errors
    /// Bytes that [`encode`] did not write.
    pub fn new(bytes: &'a [u8]) -> Result<Stored<'a>, Damaged> {
        let (&format, mut rest) = bytes.split_first().ok_or(Damaged)?;
        let length = take_number(&mut rest)?;
        let (head, body) = rest.split_at_checked(length).ok_or(Damaged)?;
        let body = match format {
            FORMAT if body.starts_with(OPENING) => Body::Plain(body),
            SEALED => Body::Sealed(body),
            _ => return Err(Damaged),
        };
        Ok(Stored { head, body })
    }

    /// Labels and selectable fields.
    ///
    /// # Errors
    /// Bytes that [`encode`] did not write.
    pub fn head(&self) -> Result<Head<'a>, Damaged> {
        let mut rest = self.head;
        let labels = Pairs::take(&mut rest)?;
        let fields = Pairs::take(&mut rest)?;
        Ok(Head { labels, fields })
    }

    /// The object without its type and revision.
    ///
    /// # Errors
    /// A sealed one that cannot be opened.
    pub fn json(&self) -> Result<Cow<'a, [u8]>, Damaged> {
        let sealed = match self.body {
            Body::Plain(json) => return Ok(Cow::Borrowed(json)),
            Body::Sealed(sealed) => sealed,
        };
        let json = sealing::open(sealed).map_err(|error| {
            tracing::error!(%error, "a stored object cannot be opened");
            Damaged
        })?;
        if !json.starts_with(OPENING) {
            return Err(Damaged);
        }
        Ok(Cow::Owned(json))
    }

    /// The object without its type and revision, of a resource that is never sealed.
    #[must_use]
    pub fn plain(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::Plain(json) => Some(json),
            Body::Sealed(_) => None,
        }
    }

    /// The sealed part; `None` for a plain value.
    #[must_use]
    pub fn sealed(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::Plain(_) => None,
            Body::Sealed(sealed) => Some(sealed),
        }
    }

    fn sealed_as(&self, group: &str, plural: &str, identity: &[u8]) -> Option<Bytes> {
        let Body::Plain(json) = self.body else { return None };
        let sealed = sealing::seal(group, plural, identity, json)?;
        Some(self.assemble(SEALED, &sealed))
    }

    fn assemble(&self, format: u8, body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(self.head.len() + body.len() + 8);
        out.push(format);
        put_number(&mut out, self.head.len());
        out.extend_from_slice(self.head);
        out.extend_from_slice(body);
        Bytes::from(out)
    }

    /// Appends the whole object as a client sees it.
    ///
    /// # Errors
    /// A sealed one that cannot be opened.
    pub fn write_object(
        &self,
        out: &mut Vec<u8>,
        meta: TypeMeta<'_>,
        revision: u64,
        managed: Managed,
    ) -> Result<(), Damaged> {
        let json = self.json()?;
        out.reserve(json.len() + meta.group.len() + meta.kind.len() + 96);
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(meta.kind.as_bytes());
        out.extend_from_slice(b"\",\"apiVersion\":\"");
        meta.write_api_version(out);
        out.extend_from_slice(b"\",");
        write_rest(&json, out, revision, managed);
        Ok(())
    }

    /// Appends the object as an item of a list: without `apiVersion` and `kind`.
    ///
    /// # Errors
    /// A sealed one that cannot be opened.
    pub fn write_item(&self, out: &mut Vec<u8>, revision: u64, managed: Managed) -> Result<(), Damaged> {
        let json = self.json()?;
        out.push(b'{');
        write_rest(&json, out, revision, managed);
        Ok(())
    }

    /// The object as a value, with type and revision in place.
    ///
    /// # Errors
    /// Bytes that [`encode`] did not write.
    pub fn parse(&self, meta: TypeMeta<'_>, revision: u64) -> Result<Value, Damaged> {
        let mut value = read(&self.json()?)?;
        let top = value.as_object_mut().ok_or(Damaged)?;
        top.insert("apiVersion".into(), meta.api_version().into());
        top.insert("kind".into(), meta.kind.into());
        let metadata = top
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or(Damaged)?;
        metadata.insert("resourceVersion".into(), revision.to_string().into());
        Ok(value)
    }

    /// The object's metadata, without its revision.
    ///
    /// # Errors
    /// Bytes that [`encode`] did not write.
    pub fn metadata(&self) -> Result<Value, Damaged> {
        let json = self.json()?;
        // It comes first, so the rest is not looked at.
        let mut values = serde_json::Deserializer::from_slice(&json[OPENING.len() - 1..]).into_iter();
        let metadata: &RawValue = values.next().ok_or(Damaged)?.map_err(|_| Damaged)?;
        read(metadata.get().as_bytes())
    }

    /// Appends `{"kind":"PartialObjectMetadata",...}` with the object's metadata.
    ///
    /// # Errors
    /// Bytes that [`encode`] did not write.
    pub fn write_partial(&self, out: &mut Vec<u8>, api_version: &str, revision: u64) -> Result<(), Damaged> {
        let json = self.json()?;
        // The metadata comes first, so the rest is not looked at.
        let from_metadata = &json[OPENING.len() - 1..];
        let mut values = serde_json::Deserializer::from_slice(from_metadata).into_iter();
        let metadata: &RawValue = values.next().ok_or(Damaged)?.map_err(|_| Damaged)?;
        out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
        out.extend_from_slice(api_version.as_bytes());
        out.extend_from_slice(b"\",\"metadata\":{\"resourceVersion\":\"");
        out.extend_from_slice(itoa::Buffer::new().format(revision).as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(&metadata.get().as_bytes()[1..]);
        out.push(b'}');
        Ok(())
    }
}

/// The usual reader is the faster one, but gives up at 128 levels.
fn read(json: &[u8]) -> Result<Value, Damaged> {
    serde_json::from_slice(json).or_else(|_| parse_stored(json).map_err(|_| Damaged))
}

/// Whether an object is shown with its `managedFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Managed {
    Kept,
    Left,
}

/// The object from its metadata on, with its revision.
fn write_rest(json: &[u8], out: &mut Vec<u8>, revision: u64, managed: Managed) {
    out.extend_from_slice(&OPENING[1..]);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(itoa::Buffer::new().format(revision).as_bytes());
    out.extend_from_slice(b"\",");
    let from = OPENING.len();
    let left = match managed {
        Managed::Left => text::member(json, from, MANAGED_FIELDS),
        Managed::Kept => None,
    };
    let left = left.unwrap_or(from..from);
    out.extend_from_slice(&json[from..left.start]);
    out.extend_from_slice(&json[left.end..]);
}

/// What selectors look at, in place: a filter allocates nothing.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    labels: Pairs<'a>,
    fields: Pairs<'a>,
}

impl<'a> Head<'a> {
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels.find(key)
    }

    #[must_use]
    pub fn field(&self, key: &str) -> Option<&'a str> {
        self.fields.find(key)
    }
}

/// Keys and values one after the other, each known to be whole.
#[derive(Clone, Copy)]
struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Pairs<'a>, Damaged> {
        let count = take_number(rest)?;
        let start = *rest;
        for _ in 0..count {
            take_bytes(rest)?;
            take_bytes(rest)?;
        }
        Ok(Pairs(&start[..start.len() - rest.len()]))
    }

    fn find(self, key: &str) -> Option<&'a str> {
        let mut rest = self.0;
        while !rest.is_empty() {
            let name = take_bytes(&mut rest).ok()?;
            let value = take_bytes(&mut rest).ok()?;
            if name == key.as_bytes() {
                return std::str::from_utf8(value).ok();
            }
        }
        None
    }
}

fn take_number(rest: &mut &[u8]) -> Result<usize, Damaged> {
    let mut number = 0usize;
    for shift in (0..35).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(Damaged)?;
        *rest = tail;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let length = take_number(rest)?;
    let (bytes, tail) = rest.split_at_checked(length).ok_or(Damaged)?;
    *rest = tail;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POD: TypeMeta<'static> = TypeMeta {
        group: "",
        version: "v1",
        kind: "Pod",
    };

    #[track_caller]
    fn check(object: Value) {
        let bytes = encode(&object, &[("spec.nodeName", "n1")]);
        let stored = Stored::new(&bytes).expect("what encode wrote");
        let mut want = object.clone();
        want["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(stored.parse(POD, 7), Ok(want.clone()));
        let mut out = Vec::new();
        stored
            .write_object(&mut out, POD, 7, Managed::Kept)
            .expect("plain");
        assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), want);
        out.clear();
        stored
            .write_object(&mut out, POD, 7, Managed::Left)
            .expect("plain");
        let mut unmanaged = want.clone();
        meta::metadata_mut(&mut unmanaged).remove("managedFields");
        assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), unmanaged);
        out.clear();
        stored.write_item(&mut out, 7, Managed::Kept).expect("plain");
        let mut item = want.clone();
        let top = item.as_object_mut().expect("object");
        top.remove("apiVersion");
        top.remove("kind");
        assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), item);
        out.clear();
        stored
            .write_partial(&mut out, "meta.k8s.io/v1", 7)
            .expect("partial");
        let partial: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(partial["metadata"], want["metadata"]);
        let head = stored.head().expect("head");
        assert_eq!(head.label("app"), object["metadata"]["labels"]["app"].as_str());
        assert_eq!(head.field("spec.nodeName"), Some("n1"));
        for end in 0..bytes.len().min(40) {
            assert!(
                Stored::new(&bytes[..end]).and_then(|s| s.parse(POD, 1)).is_err(),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn what_is_written_comes_back() {
        check(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}));
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"x": [1, null]}, "status": {"ü\"": "\n"},
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "3", "labels": {"app": "x".repeat(300), "b": ""}}}),
        );
    }
}
