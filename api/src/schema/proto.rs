//! Kubernetes protobuf bodies as JSON, by the table of facts: no generated types.
//!
//! Reads only. A body is `k8s\0` and a `runtime.Unknown` that names the kind and holds the message. Source:
//! `k8s.io/apimachinery/pkg/runtime/serializer/protobuf` and the `generated.proto` files. A value that is not a
//! pointer in Go is always written, so zeros arrive as zeros; decoding the JSON afterwards drops them again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Field, Kind, Type, schema};
use crate::time;

/// The first bytes of every body.
pub const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const MAX_DEPTH: usize = 100;

type Result<T> = std::result::Result<T, String>;

/// A body as a JSON object with `apiVersion` and `kind`.
///
/// # Errors
/// The text of what cannot be read, or of a kind the table does not know.
pub fn to_json(body: &[u8]) -> Result<Value> {
    let unknown = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    each(unknown, |number, wire| {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => each(meta, |number, wire| {
                match (number, wire) {
                    (1, Wire::Bytes(text)) => api_version = utf8(text)?.to_owned(),
                    (2, Wire::Bytes(text)) => kind = utf8(text)?.to_owned(),
                    _ => {}
                }
                Ok(())
            })?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err("encoded protobuf bodies are not supported".into());
            }
            _ => {}
        }
        Ok(())
    })?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let types = schema().types();
    let entry = types
        .iter()
        .find(|t| t.gvks.contains(&(group, version, &kind)))
        .or_else(|| schema().find(&format!("meta.v1.{kind}")))
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    let mut object = message(entry, raw, 0)?;
    object.insert("apiVersion".into(), api_version.clone().into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Calls `take` for each field of a message.
fn each<'a>(mut rest: &'a [u8], mut take: impl FnMut(u32, Wire<'a>) -> Result<()>) -> Result<()> {
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "illegal field number")?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut rest)?),
            1 => Wire::Fixed(u64::from_le_bytes(
                split(&mut rest, 8)?.try_into().expect("8 bytes were split off"),
            )),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| "unexpected EOF")?;
                Wire::Bytes(split(&mut rest, length)?)
            }
            5 => {
                let bytes: [u8; 4] = split(&mut rest, 4)?.try_into().expect("4 bytes were split off");
                Wire::Fixed(u32::from_le_bytes(bytes).into())
            }
            other => return Err(format!("illegal wire type {other}")),
        };
        take(number, wire)?;
    }
    Ok(())
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length).ok_or("unexpected EOF")?;
    *rest = tail;
    Ok(head)
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or("unexpected EOF")?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("integer overflow".into())
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8".into())
}

/// Where the fields of an inlined struct have their numbers: JSON flattens it, protobuf nests it.
enum Inlined {
    Like(&'static Type),
    Numbers(&'static [(u32, &'static str)]),
}

/// Source: `k8s.io/api/core/v1/generated.proto`.
const PROBE_HANDLER: &[(u32, &str)] = &[(1, "exec"), (2, "httpGet"), (3, "tcpSocket"), (4, "grpc")];
const VOLUME_SOURCE: &[(u32, &str)] = &[
    (1, "hostPath"),
    (2, "emptyDir"),
    (3, "gcePersistentDisk"),
    (4, "awsElasticBlockStore"),
    (5, "gitRepo"),
    (6, "secret"),
    (7, "nfs"),
    (8, "iscsi"),
    (9, "glusterfs"),
    (10, "persistentVolumeClaim"),
    (11, "rbd"),
    (12, "flexVolume"),
    (13, "cinder"),
    (14, "cephfs"),
    (15, "flocker"),
    (16, "downwardAPI"),
    (17, "fc"),
    (18, "azureFile"),
    (19, "configMap"),
    (20, "vsphereVolume"),
    (21, "quobyte"),
    (22, "azureDisk"),
    (23, "photonPersistentDisk"),
    (24, "portworxVolume"),
    (25, "scaleIO"),
    (26, "projected"),
    (27, "storageos"),
    (28, "csi"),
    (29, "ephemeral"),
    (30, "image"),
];

fn inlined(entry: &Type, number: u32) -> Option<Inlined> {
    let name = entry.inlined.iter().find(|(n, _)| *n == number)?.1;
    match name {
        "ProbeHandler" => Some(Inlined::Numbers(PROBE_HANDLER)),
        "VolumeSource" => Some(Inlined::Numbers(VOLUME_SOURCE)),
        "EphemeralContainerCommon" => schema().find("core.v1.Container").map(Inlined::Like),
        name => {
            let package = entry.name.rsplit_once('.').map_or("", |(package, _)| package);
            schema().find(&format!("{package}.{name}")).map(Inlined::Like)
        }
    }
}

fn message(entry: &'static Type, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    fields(entry, bytes, depth, &mut object)?;
    Ok(object)
}

fn fields(entry: &'static Type, bytes: &[u8], depth: usize, object: &mut Map<String, Value>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    each(bytes, |number, wire| {
        if let Some(field) = entry.fields.iter().find(|f| f.number == number && number > 0) {
            return put(object, field, wire, depth);
        }
        let (Some(inlined), Wire::Bytes(inner)) = (inlined(entry, number), wire) else {
            return Ok(());
        };
        each(inner, |number, wire| {
            let name = match &inlined {
                Inlined::Like(like) => like
                    .fields
                    .iter()
                    .find(|f| f.number == number && number > 0)
                    .map(|f| f.name),
                Inlined::Numbers(numbers) => {
                    numbers.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
                }
            };
            match name.and_then(|name| entry.field(name)) {
                Some(field) => put(object, field, wire, depth),
                None => Ok(()),
            }
        })
    })
}

fn put(object: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Result<()> {
    match (field.kind, wire) {
        (Kind::List(inner), Wire::Bytes(mut packed)) if matches!(inner, Kind::Int32 | Kind::Int64) => {
            while !packed.is_empty() {
                let number = Wire::Number(varint(&mut packed)?);
                push(object, field.name, value(*inner, number, depth)?);
            }
        }
        (Kind::List(inner), wire) => push(object, field.name, value(*inner, wire, depth)?),
        (Kind::Map(inner), Wire::Bytes(pair)) => {
            let (mut key, mut own) = (String::new(), inner.zero());
            each(pair, |number, wire| {
                match (number, wire) {
                    (1, Wire::Bytes(text)) => key = utf8(text)?.to_owned(),
                    (2, wire) => own = value(*inner, wire, depth)?,
                    _ => {}
                }
                Ok(())
            })?;
            let map = object
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, own);
            }
        }
        (kind, wire) => {
            object.insert(field.name.into(), value(kind, wire, depth)?);
        }
    }
    Ok(())
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

fn value(kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match (kind, wire) {
        (Kind::String, Wire::Bytes(text)) => utf8(text)?.into(),
        (Kind::Boolean, Wire::Number(number)) => (number != 0).into(),
        (Kind::Int32 | Kind::Int64, Wire::Number(number)) => number.cast_signed().into(),
        (Kind::Double, Wire::Fixed(bits)) => f64::from_bits(bits).into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Kind::Time, Wire::Bytes(bytes)) => timestamp(bytes, false)?,
        (Kind::MicroTime, Wire::Bytes(bytes)) => timestamp(bytes, true)?,
        (Kind::Quantity, Wire::Bytes(bytes)) => {
            let mut text = String::from("0");
            each(bytes, |number, wire| {
                if let (1, Wire::Bytes(own)) = (number, wire) {
                    text = utf8(own)?.to_owned();
                }
                Ok(())
            })?;
            text.into()
        }
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Kind::Any, Wire::Bytes(bytes)) => {
            let mut own = Value::Null;
            each(bytes, |number, wire| {
                if let (1, Wire::Bytes(raw)) = (number, wire)
                    && !raw.is_empty()
                {
                    own = super::scan::parse_json(raw).map_err(|error| error.to_string())?;
                }
                Ok(())
            })?;
            own
        }
        (Kind::Struct(idx), Wire::Bytes(bytes)) => {
            Value::Object(message(schema().get(idx), bytes, depth + 1)?)
        }
        (Kind::List(_) | Kind::Map(_), _) => return Err("lists of lists do not exist in protobuf".into()),
        (kind, _) => return Err(format!("wrong wire type for {}", kind.go())),
    })
}

fn timestamp(bytes: &[u8], micro: bool) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i64);
    each(bytes, |number, wire| {
        match (number, wire) {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
        Ok(())
    })?;
    let nanos = i32::try_from(if micro { nanos } else { 0 }).map_err(|_| "nanoseconds out of range")?;
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    Ok(if micro {
        time::format_micro_time(at)
    } else {
        time::format_time(at)
    }
    .into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0i64, String::new());
    each(bytes, |field, wire| {
        match (field, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(own)) => number = own.cast_signed(),
            (3, Wire::Bytes(own)) => text = utf8(own)?.to_owned(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(if is_text { text.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put_varint(out: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn field(number: u64, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, number << 3 | 2);
        put_varint(&mut out, inner.len() as u64);
        out.extend_from_slice(inner);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [
            MAGIC.to_vec(),
            field(1, &meta),
            field(2, raw),
            field(3, b""),
            field(4, b""),
        ]
        .concat()
    }

    #[track_caller]
    fn check(bytes: &[u8], want: Value) {
        assert_eq!(to_json(bytes), Ok(want));
    }

    #[test]
    fn what_kubectl_sends_for_a_config_map() {
        let metadata = [field(1, b"c1"), field(2, b""), field(8, b"")].concat();
        let data = [field(1, b"a"), field(2, b"b")].concat();
        check(
            &body(
                "v1",
                "ConfigMap",
                &[field(1, &metadata), field(2, &data)].concat(),
            ),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
                "metadata": {"name": "c1", "generateName": "", "creationTimestamp": null}}),
        );
    }

    #[test]
    fn inlined_structs_are_flat_in_json() {
        // Volume: name = 1, volumeSource = 2 { emptyDir = 2 }.
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let spec = field(1, &volume);
        check(
            &body("v1", "Pod", &field(2, &spec)),
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
    }

    #[test]
    fn broken_bodies_are_errors() {
        assert!(to_json(b"{}").is_err());
        let good = body("v1", "ConfigMap", &field(1, &field(1, b"c1")));
        for end in 4..good.len() {
            let _ = to_json(&good[..end]); // must not panic
        }
        assert!(to_json(&body("v1", "Nothing", b"")).is_err());
        assert!(to_json(&body("v1", "ConfigMap", &[0xff; 12])).is_err());
    }
}
