//! `openapi.v2.Document`.

use serde_json::Value;

use super::Message;

/// A Swagger document being written.
pub struct V2 {
    head: Message,
    paths: Message,
    definitions: Message,
}

impl V2 {
    pub fn new(info: &Value) -> V2 {
        let mut head = Message::default();
        head.bytes(1, b"2.0");
        let mut own = Message::default();
        own.text(1, &info["title"]);
        own.text(2, &info["version"]);
        head.message(2, own);
        V2 {
            head,
            paths: Message::default(),
            definitions: Message::default(),
        }
    }

    pub fn path(&mut self, path: &str, item: &Value) {
        self.paths.named_one(2, path, path_item(item));
    }

    pub fn schema(&mut self, name: &str, own: &Value) {
        self.definitions.named_one(1, name, schema(own));
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.head.message(8, self.paths);
        self.head.message(9, self.definitions);
        self.head.0
    }
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
    out.texts(1, &operation["tags"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        out.message(8, parameters_item(parameter));
    }
    let mut responses = Message::default();
    responses.named(1, &operation["responses"], |response| {
        let (mut value, mut own) = (Message::default(), Message::default());
        own.text(1, &response["description"]);
        if response["schema"].is_object() {
            let mut item = Message::default();
            item.message(1, schema(&response["schema"]));
            own.message(2, item);
        }
        value.message(1, own);
        value
    });
    out.message(9, responses);
    out.texts(10, &operation["schemes"]);
    out.extensions(13, operation);
    out
}

/// `ParametersItem { parameter = 1 { body_parameter = 1 | non_body_parameter = 2 { query = 3 | path = 4 } } }`.
fn parameters_item(parameter: &Value) -> Message {
    let wrap = |mut own: Message, fields: &[u64]| {
        for field in fields {
            let mut outer = Message::default();
            outer.message(*field, own);
            own = outer;
        }
        own
    };
    let mut own = Message::default();
    if parameter["in"] == "body" {
        own.text(2, &parameter["name"]);
        own.text(3, &parameter["in"]);
        own.flag(4, &parameter["required"]);
        own.message(5, schema(&parameter["schema"]));
        return wrap(own, &[1, 1]);
    }
    own.flag(1, &parameter["required"]);
    own.text(2, &parameter["in"]);
    own.text(3, &parameter["description"]);
    own.text(4, &parameter["name"]);
    let is_path = parameter["in"] == "path";
    // The path form has no `allowEmptyValue`, so its type comes one number earlier.
    own.text(if is_path { 5 } else { 6 }, &parameter["type"]);
    wrap(own, &[if is_path { 4 } else { 3 }, 2, 1])
}

fn schema(own: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &own["$ref"]);
    out.text(2, &own["format"]);
    out.text(3, &own["title"]);
    out.text(4, &own["description"]);
    out.double(7, &own["maximum"]);
    out.flag(8, &own["exclusiveMaximum"]);
    out.double(9, &own["minimum"]);
    out.flag(10, &own["exclusiveMinimum"]);
    out.count(11, &own["maxLength"]);
    out.count(12, &own["minLength"]);
    out.text(13, &own["pattern"]);
    out.count(14, &own["maxItems"]);
    out.count(15, &own["minItems"]);
    out.count(17, &own["maxProperties"]);
    out.count(18, &own["minProperties"]);
    out.texts(19, &own["required"]);
    out.anys(20, &own["enum"]);
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
