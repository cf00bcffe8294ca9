//! From protobuf to a tree of JSON values.
//!
//! A value that is not a pointer in Go is always written, so zeros arrive as zeros; here those go that JSON leaves out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::layout::{Form, Slot, layout, type_of};
use super::{MAGIC, MAX_DEPTH, Result};
use crate::schema::{Field, Kind, Type, schema};
use crate::time;

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
    let entry = type_of(&api_version, &kind)
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    let mut object = message(entry, raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
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

fn message(entry: &'static Type, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    fields(entry, bytes, depth, &mut object)?;
    object.retain(|name, value| entry.field(name).is_none_or(|field| field.written(value)));
    Ok(object)
}

fn fields(entry: &'static Type, bytes: &[u8], depth: usize, object: &mut Map<String, Value>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    slots(entry, &layout(entry).slots, bytes, depth, object)
}

fn slots(
    entry: &'static Type,
    slots_here: &'static [(u32, Slot)],
    bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<()> {
    each(bytes, |number, wire| {
        let Ok(at) = slots_here.binary_search_by_key(&number, |(number, _)| *number) else {
            return Ok(());
        };
        match (&slots_here[at].1, wire) {
            (Slot::Field(idx), wire) => {
                let form = layout(entry).fields[*idx].1;
                put(object, &entry.fields[*idx], form, wire, depth)
            }
            // Levels of flattened structs are those of the table, two at most.
            (Slot::Nested(inner), Wire::Bytes(bytes)) => slots(entry, inner, bytes, depth, object),
            (Slot::Nested(_), _) => Err("wrong wire type for a message".into()),
        }
    })
}

fn put(
    object: &mut Map<String, Value>,
    field: &Field,
    form: Form,
    wire: Wire<'_>,
    depth: usize,
) -> Result<()> {
    match (field.kind, wire) {
        (Kind::List(inner), Wire::Bytes(bytes)) if form == Form::Wrapped => {
            object.insert(field.name.into(), wrapped(*inner, bytes, depth)?);
        }
        (Kind::List(inner), Wire::Bytes(mut packed)) if matches!(inner, Kind::Int32 | Kind::Int64) => {
            while !packed.is_empty() {
                let number = Wire::Number(varint(&mut packed)?);
                push(object, field.name, value(*inner, form, number, depth)?);
            }
        }
        (Kind::List(inner), wire) => push(object, field.name, value(*inner, form, wire, depth)?),
        (Kind::Map(inner), Wire::Bytes(pair)) => {
            let (mut key, mut own) = (String::new(), None);
            each(pair, |number, wire| {
                match (number, wire, *inner) {
                    (1, Wire::Bytes(text), _) => key = utf8(text)?.to_owned(),
                    (2, Wire::Bytes(bytes), Kind::List(element)) => {
                        own = Some(wrapped(*element, bytes, depth)?)
                    }
                    (2, wire, _) => own = Some(value(*inner, form, wire, depth)?),
                    _ => {}
                }
                Ok(())
            })?;
            let map = object
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, own.unwrap_or_else(|| inner.zero()));
            }
        }
        (kind, wire) => {
            object.insert(field.name.into(), value(kind, form, wire, depth)?);
        }
    }
    Ok(())
}

/// `{ items = 1 }`.
fn wrapped(inner: Kind, bytes: &[u8], depth: usize) -> Result<Value> {
    let mut list = Vec::new();
    each(bytes, |number, wire| {
        if number == 1 {
            list.push(value(inner, Form::Plain, wire, depth)?);
        }
        Ok(())
    })?;
    Ok(Value::Array(list))
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

fn value(kind: Kind, form: Form, wire: Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match (kind, wire) {
        (Kind::String, Wire::Bytes(text)) => utf8(text)?.into(),
        (Kind::Boolean, Wire::Number(number)) => (number != 0).into(),
        // Go keeps the low bits of what does not fit.
        (Kind::Int32, Wire::Number(number)) => (number as u32).cast_signed().into(),
        (Kind::Int64, Wire::Number(number)) => number.cast_signed().into(),
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
        (Kind::Any, Wire::Bytes(bytes)) if !matches!(form, Form::Plain | Form::Wrapped) => {
            schema_or(form, bytes, depth)?
        }
        (Kind::Any, Wire::Bytes(bytes)) => {
            let mut own = Value::Null;
            each(bytes, |number, wire| {
                if let (1, Wire::Bytes(raw)) = (number, wire)
                    && !raw.is_empty()
                {
                    own = crate::schema::scan::parse_json(raw).map_err(|error| error.to_string())?;
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

/// The three types that are a schema or something else.
fn schema_or(form: Form, bytes: &[u8], depth: usize) -> Result<Value> {
    let entry = schema()
        .find("apiextensions.v1.JSONSchemaProps")
        .expect("schemas are in the table");
    let (mut single, mut list, mut allows) = (None, None, true);
    each(bytes, |number, wire| {
        match (form, number, wire) {
            (Form::SchemaOrBool, 1, Wire::Number(number)) => allows = number != 0,
            (Form::SchemaOrBool, 2, Wire::Bytes(bytes)) | (_, 1, Wire::Bytes(bytes)) => {
                single = Some(Value::Object(message(entry, bytes, depth + 1)?));
            }
            (Form::SchemaOrArray, 2, Wire::Bytes(bytes)) => {
                let own = Value::Object(message(entry, bytes, depth + 1)?);
                list.get_or_insert_with(Vec::new).push(own);
            }
            (Form::SchemaOrStrings, 2, Wire::Bytes(text)) => {
                list.get_or_insert_with(Vec::new).push(utf8(text)?.into());
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (form, single, list) {
        (Form::SchemaOrStrings, _, Some(list)) | (Form::SchemaOrArray, None, Some(list)) => list.into(),
        (_, Some(single), _) => single,
        (Form::SchemaOrBool, None, _) => allows.into(),
        (Form::SchemaOrArray, ..) => json!([]),
        _ => Value::Null,
    })
}

/// The first and the last second whose year JSON can name.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_207_200;

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
    if !(FIRST_SECOND..=LAST_SECOND).contains(&seconds) {
        return Err("Time.MarshalJSON: year outside of range [0,9999]".into());
    }
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
            (2, Wire::Number(own)) => number = (own as u32).cast_signed().into(),
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
                "metadata": {"name": "c1"}}),
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
    fn an_empty_schema_stays_empty_wherever_it_stands() {
        let schema = json!({"items": {}, "additionalProperties": {"properties": {"a": {}}}, "dependencies": {"b": {}, "c": ["d"]},
            "not": {"items": [{}, {"type": "string"}]}, "additionalItems": false});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
        let bytes =
            crate::schema::proto::from_json(definition.to_string().as_bytes()).expect("it has such a form");
        let back = to_json(&bytes).expect("just written");
        assert_eq!(back["spec"]["versions"][0]["schema"]["openAPIV3Schema"], schema);
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
