//! Documents in the protobuf forms of `gnostic`'s `OpenAPIv2.proto` and `OpenAPIv3.proto`, as far as ours have parts.
//! Pure.
//!
//! Source of the field numbers: `github.com/google/gnostic-models`, `openapiv2/OpenAPIv2.proto` and
//! `openapiv3/OpenAPIv3.proto`.

mod v2;
mod v3;

pub use v2::V2;
pub use v3::V3;

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

    /// One `{name = 1, value = 2}`.
    fn named_one(&mut self, field: u64, name: &str, value: Message) {
        let mut pair = Message::default();
        pair.bytes(1, name.as_bytes());
        pair.message(2, value);
        self.message(field, pair);
    }

    fn double(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.number(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn count(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_u64() {
            self.number(field << 3);
            self.number(number);
        }
    }

    /// A list of `Any`, each as YAML.
    fn anys(&mut self, field: u64, list: &Value) {
        for value in list.as_array().into_iter().flatten() {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(field, any);
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
