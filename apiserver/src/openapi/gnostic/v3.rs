//! `openapi.v3.Document`.

use serde_json::Value;

use super::Message;

/// An OpenAPI v3 document being written.
pub struct V3 {
    head: Message,
    paths: Message,
    schemas: Message,
}

impl V3 {
    pub fn new(info: &Value) -> V3 {
        let mut head = Message::default();
        head.bytes(1, b"3.0.0");
        let mut own = Message::default();
        own.text(1, &info["title"]);
        own.text(6, &info["version"]);
        head.message(2, own);
        V3 {
            head,
            paths: Message::default(),
            schemas: Message::default(),
        }
    }

    pub fn path(&mut self, path: &str, item: &Value) {
        self.paths.named_one(1, path, path_item(item));
    }

    pub fn schema(&mut self, name: &str, own: &Value) {
        self.schemas.named_one(1, name, schema_or_reference(own));
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.head.message(4, self.paths);
        let mut components = Message::default();
        components.message(1, self.schemas);
        self.head.message(5, components);
        self.head.0
    }
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(4, "get"), (5, "put"), (6, "post"), (7, "delete"), (10, "patch")] {
        if item[method].is_object() {
            out.message(field, operation(&item[method]));
        }
    }
    for own in item["parameters"].as_array().into_iter().flatten() {
        out.message(13, parameter(own));
    }
    out
}

fn operation(own: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &own["tags"]);
    out.text(3, &own["description"]);
    out.text(5, &own["operationId"]);
    for own in own["parameters"].as_array().into_iter().flatten() {
        out.message(6, parameter(own));
    }
    if own["requestBody"].is_object() {
        let (mut either, mut body) = (Message::default(), Message::default());
        body.message(2, content(&own["requestBody"]["content"]));
        body.flag(3, &own["requestBody"]["required"]);
        either.message(1, body);
        out.message(7, either);
    }
    let mut responses = Message::default();
    responses.named(2, &own["responses"], |response| {
        let (mut either, mut own) = (Message::default(), Message::default());
        own.text(1, &response["description"]);
        if response["content"].is_object() {
            own.message(3, content(&response["content"]));
        }
        either.message(1, own);
        either
    });
    out.message(8, responses);
    out.extensions(13, own);
    out
}

fn content(own: &Value) -> Message {
    let mut out = Message::default();
    out.named(1, own, |media| {
        let mut own = Message::default();
        own.message(1, schema_or_reference(&media["schema"]));
        own
    });
    out
}

/// `ParameterOrReference { parameter = 1 }`.
fn parameter(own: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &own["name"]);
    out.text(2, &own["in"]);
    out.text(3, &own["description"]);
    out.flag(4, &own["required"]);
    out.message(10, schema_or_reference(&own["schema"]));
    let mut either = Message::default();
    either.message(1, out);
    either
}

fn schema_or_reference(own: &Value) -> Message {
    let (mut either, mut inner) = (Message::default(), Message::default());
    if own["$ref"].is_string() {
        inner.text(1, &own["$ref"]);
        either.message(2, inner);
    } else {
        either.message(1, schema(own));
    }
    either
}

fn schema(own: &Value) -> Message {
    let mut out = Message::default();
    out.flag(1, &own["nullable"]);
    out.text(9, &own["title"]);
    out.double(11, &own["maximum"]);
    out.flag(12, &own["exclusiveMaximum"]);
    out.double(13, &own["minimum"]);
    out.flag(14, &own["exclusiveMinimum"]);
    out.count(15, &own["maxLength"]);
    out.count(16, &own["minLength"]);
    out.text(17, &own["pattern"]);
    out.count(18, &own["maxItems"]);
    out.count(19, &own["minItems"]);
    out.flag(20, &own["uniqueItems"]);
    out.count(21, &own["maxProperties"]);
    out.count(22, &own["minProperties"]);
    out.texts(23, &own["required"]);
    out.anys(24, &own["enum"]);
    out.text(25, &own["type"]);
    for (field, combined) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for own in own[combined].as_array().into_iter().flatten() {
            out.message(field, schema_or_reference(own));
        }
    }
    if own["not"].is_object() {
        out.message(29, schema(&own["not"]));
    }
    if own["items"].is_object() {
        let mut item = Message::default();
        item.message(1, schema_or_reference(&own["items"]));
        out.message(30, item);
    }
    if own["properties"].is_object() {
        let mut properties = Message::default();
        properties.named(1, &own["properties"], schema_or_reference);
        out.message(31, properties);
    }
    if own["additionalProperties"].is_object() {
        let mut item = Message::default();
        item.message(1, schema_or_reference(&own["additionalProperties"]));
        out.message(32, item);
    }
    match &own["default"] {
        Value::Number(_) => {
            let mut default = Message::default();
            default.double(1, &own["default"]);
            out.message(33, default);
        }
        Value::Bool(_) => {
            let mut default = Message::default();
            default.flag(2, &own["default"]);
            out.message(33, default);
        }
        Value::String(text) => {
            let mut default = Message::default();
            default.bytes(3, text.as_bytes());
            out.message(33, default);
        }
        // The format has no place for others.
        _ => {}
    }
    out.text(34, &own["description"]);
    out.text(35, &own["format"]);
    out.extensions(36, own);
    out
}
