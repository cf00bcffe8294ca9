//! JSON to protobuf and back: generated objects of every kind, and vectors made by hand from the format.

use corten_api::schema::{Kind, Type, proto, schema};
use corten_api::{FieldValidation, registry};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

/// Depth at which recursive types stop.
const MAX_DEPTH: usize = 14;

/// Objects by the table of facts: every field set, or each with a chance of `1 / sparse`.
struct Objects<'a> {
    rng: &'a mut TestRng,
    sparse: u32,
}

impl Objects<'_> {
    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn object(&mut self, entry: &'static Type, depth: usize) -> Value {
        let mut map = Map::new();
        for field in &entry.fields {
            // What a nested object calls itself has no place in protobuf.
            let lost = field.number == 0 && entry.inlined.is_empty();
            if !lost && self.below(self.sparse) == 0 && depth < MAX_DEPTH {
                let value = self.field(entry, field.name, field.kind, depth + 1);
                map.insert(field.name.into(), value);
            }
        }
        Value::Object(map)
    }

    fn field(&mut self, entry: &'static Type, name: &str, kind: Kind, depth: usize) -> Value {
        let schema_type = entry.name == "apiextensions.v1.JSONSchemaProps";
        match name {
            "items" | "additionalItems" | "additionalProperties" if schema_type => match self.below(3) {
                0 if name == "items" => json!([self.object(entry, depth), self.object(entry, depth)]),
                0 => true.into(),
                1 if name != "items" => false.into(),
                _ => self.object(entry, depth),
            },
            "dependencies" if schema_type => json!({"a": self.object(entry, depth), "b": ["x", "y"]}),
            _ => self.value(kind, depth),
        }
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Value {
        const TEXTS: [&str; 5] = ["a", "ü\"\\\n", "10.0.0.1", "", "x/y-z"];
        const TIMES: [&str; 3] = [
            "2026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "0001-01-02T00:00:00Z",
        ];
        match kind {
            Kind::String => TEXTS[self.below(5) as usize].into(),
            Kind::Boolean => (self.below(2) == 0).into(),
            Kind::Int32 => self.rng.next_u32().cast_signed().into(),
            Kind::Int64 => (self.rng.next_u64().cast_signed() >> self.below(64)).into(),
            Kind::Double => json!(f64::from(self.below(1000)) + 0.5),
            Kind::Bytes => ["aGk=", "", "AAECAw=="][self.below(3) as usize].into(),
            Kind::Time => TIMES[self.below(3) as usize].into(),
            Kind::MicroTime => "2026-01-01T00:00:00.123456Z".into(),
            Kind::Quantity => ["1", "100m", "-3Gi", "0"][self.below(4) as usize].into(),
            Kind::IntOrString if self.below(2) == 0 => json!(-1),
            Kind::IntOrString => ["50%", "http", ""][self.below(3) as usize].into(),
            Kind::Any => json!({"a": [1, {"b": "c"}]}),
            Kind::Struct(idx) => self.object(schema().get(idx), depth),
            Kind::List(inner) => (0..1 + self.below(2))
                .map(|_| self.value(*inner, depth + 1))
                .collect(),
            Kind::Map(inner) => ["B/a", "cpu", "a".repeat(200).as_str()]
                .iter()
                .map(|key| ((*key).to_owned(), self.value(*inner, depth + 1)))
                .collect(),
        }
    }
}

#[track_caller]
fn there_and_back(resource: &corten_api::ResourceType, object: &Value) {
    let decode = |value: &Value| {
        let body = serde_json::to_vec(value).expect("a value is JSON");
        let decoded = resource.decode(&body, FieldValidation::Strict);
        decoded
            .unwrap_or_else(|error| panic!("{resource:?}: {error}\n{value}"))
            .value
    };
    let canonical = decode(object);
    let bytes = proto::from_json(canonical.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("{resource:?}: {error}\n{canonical}"));
    let back = proto::to_json(&bytes).unwrap_or_else(|error| panic!("{resource:?}: {error}\n{canonical}"));
    assert_eq!(decode(&back), canonical, "{resource:?}");
    // The same object has the same bytes, whatever its way here.
    let again = proto::from_json(back.to_string().as_bytes()).expect("written once already");
    assert!(again == bytes, "{resource:?}: {canonical}\n{back}");
}

#[test]
fn every_kind_goes_there_and_back_without_loss() {
    // Every field once, then fewer and fewer of them.
    for sparse in [1u32, 2, 3, 5] {
        let seed = u64::from(sparse);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
        for resource in registry().all() {
            let entry = schema()
                .find(resource.schema)
                .expect("a registered kind is known");
            // Schemas hold schemas in a dozen fields: all of them at every level would never end.
            let holds_itself = &*resource.kind == "CustomResourceDefinition";
            let mut object = Objects {
                rng: &mut rng,
                sparse: if holds_itself { sparse.max(4) } else { sparse },
            }
            .object(entry, 0);
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.as_ref().into();
            there_and_back(resource, &object);
        }
    }
}

/// Hexadecimal bytes; what stands in quotes is text.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (idx, part) in text.split('\'').enumerate() {
        if idx % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            continue;
        }
        for hex in part.split_whitespace() {
            out.push(u8::from_str_radix(hex, 16).expect("a byte"));
        }
    }
    out
}

#[track_caller]
fn check(object: Value, want: &str) {
    let got = proto::from_json(object.to_string().as_bytes()).expect("written");
    assert_eq!(
        got,
        bytes(want),
        "{object}\n{:02x?}",
        String::from_utf8_lossy(&got)
    );
}

#[test]
fn vectors() {
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"b": "2", "a": "1"},
            "binaryData": {"x": "AAE="}, "immutable": true}),
        // The metadata: name, generateName, namespace, selfLink, uid, resourceVersion, generation, creationTimestamp.
        "'k8s' 00 0a 0f 0a 02 'v1' 12 09 'ConfigMap' 12 2e
         0a 11 0a 01 'c' 12 00 1a 00 22 00 2a 00 32 00 38 00 42 00
         12 06 0a 01 'a' 12 01 '1' 12 06 0a 01 'b' 12 01 '2'
         1a 07 0a 01 'x' 12 02 00 01
         20 01
         1a 00 22 00",
    );
    check(
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"creationTimestamp": "1970-01-01T00:00:05Z"},
            "spec": {"minAvailable": "50%", "maxUnavailable": -1}}),
        // Unset status numbers are written, a negative one takes ten bytes.
        "'k8s' 00 0a 20 0a 09 'policy/v1' 12 13 'PodDisruptionBudget' 12 40
         0a 14 0a 00 12 00 1a 00 22 00 2a 00 32 00 38 00 42 04 08 05 10 00
         12 1c 0a 09 08 01 10 00 1a 03 '50%' 1a 0f 08 00 10 ff ff ff ff ff ff ff ff ff 01 1a 00
         1a 0a 08 00 18 00 20 00 28 00 30 00
         1a 00 22 00",
    );
}

#[test]
fn watch_frames_carry_whole_bodies() {
    let mut frame = Vec::new();
    proto::watch_event(&mut frame, "ADDED", b"k8s\0");
    assert_eq!(frame, bytes("00 00 00 0f 0a 05 'ADDED' 12 06 0a 04 'k8s' 00"));
}

#[test]
fn a_list_is_its_items_in_a_row() {
    let item = json!({"metadata": {"name": "c"}, "data": {"a": "x".repeat(300)}});
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [item, item]});
    let whole = proto::from_json(list.to_string().as_bytes()).expect("written");
    let entry = schema().find("core.v1.ConfigMap").expect("known");
    let mut one = Vec::new();
    proto::write_item(&mut one, entry, item.to_string().as_bytes()).expect("written");
    let parts = proto::ListItems {
        api_version: "v1",
        kind: "ConfigMapList",
        metadata: r#"{"resourceVersion":"7"}"#,
    };
    let mut streamed = Vec::new();
    parts.open(&mut streamed, one.len() * 2).expect("written");
    streamed.extend_from_slice(&one);
    streamed.extend_from_slice(&one);
    proto::close_list(&mut streamed);
    assert!(streamed == whole);
}

#[test]
fn what_has_no_protobuf_form_is_an_error() {
    for body in [
        "[]",
        "{}",
        r#"{"apiVersion":"v1","kind":"Nothing"}"#,
        r#"{"apiVersion":"v1","kind":"Pod","spec":[]}"#,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"soon"}}"#,
        r#"{"apiVersion":"v1","kind":"Pod"} x"#,
        r#"{"apiVersion":"v1","kind":"Secret","data":{"a":"$"}}"#,
    ] {
        assert!(proto::from_json(body.as_bytes()).is_err(), "{body}");
    }
    let deep = format!("{}{}", r#"{"properties":{"a":"#.repeat(1000), "}}".repeat(1000));
    let body = format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{deep}}}}}]}}}}"#
    );
    assert_eq!(
        proto::from_json(body.as_bytes()),
        Err("exceeded max depth".into())
    );
}
