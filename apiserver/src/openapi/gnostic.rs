//! A Swagger document in the protobuf form of `gnostic`'s `OpenAPIv2.proto`, as far as ours has parts. Pure.
//!
//! Source of the field numbers: `github.com/google/gnostic-models/openapiv2/OpenAPIv2.proto`.

use serde_json::{Map, Value};

/// One message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.number(field << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: &Value) {
        if value == true {
            self.number(field << 3);
            self.number(1);
        }
    }

    fn message(&mut self, field: u64, inner: Message) {
        self.bytes(field, &inner.0);
    }

    /// `{name = 1, value = 2}` for each member.
    fn named(&mut self, field: u64, members: &Value, of: impl Fn(&Value) -> Message) {
        for (name, value) in members.as_object().into_iter().flatten() {
            let mut pair = Message::default();
            pair.bytes(1, name.as_bytes());
            pair.message(2, of(value));
            self.message(field, pair);
        }
    }

    fn texts(&mut self, field: u64, list: &Value) {
        for text in list.as_array().into_iter().flatten() {
            self.text(field, text);
        }
    }

    fn extensions(&mut self, field: u64, object: &Value) {
        let own: Map<String, Value> = object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.starts_with("x-"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // JSON is YAML, which is what an `Any` holds.
        self.named(field, &Value::Object(own), |value| {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            any
        });
    }
}

/// `openapi.v2.Document`.
pub fn document(swagger: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &swagger["swagger"]);
    let mut info = Message::default();
    info.text(1, &swagger["info"]["title"]);
    info.text(2, &swagger["info"]["version"]);
    out.message(2, info);
    let mut paths = Message::default();
    paths.named(2, &swagger["paths"], path_item);
    out.message(8, paths);
    let mut definitions = Message::default();
    definitions.named(1, &swagger["definitions"], schema);
    out.message(9, definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if item[method].is_object() {
            out.message(field, operation(&item[method]));
        }
    }
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        out.message(9, parameters_item(parameter));
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        out.message(8, parameters_item(parameter));
    }
    let mut responses = Message::default();
    responses.named(1, &operation["responses"], |response| {
        let (mut value, mut own) = (Message::default(), Message::default());
        own.text(1, &response["description"]);
        value.message(1, own);
        value
    });
    out.message(9, responses);
    out.extensions(13, operation);
    out
}

/// `ParametersItem { parameter = 1 { non_body_parameter = 2 { query = 3 | path = 4 } } }`.
fn parameters_item(parameter: &Value) -> Message {
    let mut own = Message::default();
    own.flag(1, &parameter["required"]);
    own.text(2, &parameter["in"]);
    own.text(4, &parameter["name"]);
    let is_path = parameter["in"] == "path";
    // The path form has no `allowEmptyValue`, so its type comes one number earlier.
    own.text(if is_path { 5 } else { 6 }, &parameter["type"]);
    for field in [if is_path { 4 } else { 3 }, 2, 1] {
        let mut outer = Message::default();
        outer.message(field, own);
        own = outer;
    }
    own
}

fn schema(own: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &own["$ref"]);
    out.text(2, &own["format"]);
    out.text(4, &own["description"]);
    out.texts(19, &own["required"]);
    if own["additionalProperties"].is_object() {
        let mut item = Message::default();
        item.message(1, schema(&own["additionalProperties"]));
        out.message(21, item);
    }
    if own["type"].is_string() {
        let mut item = Message::default();
        item.text(1, &own["type"]);
        out.message(22, item);
    }
    if own["items"].is_object() {
        let mut item = Message::default();
        item.message(1, schema(&own["items"]));
        out.message(23, item);
    }
    if own["properties"].is_object() {
        let mut properties = Message::default();
        properties.named(1, &own["properties"], schema);
        out.message(25, properties);
    }
    out.extensions(31, own);
    out
}
