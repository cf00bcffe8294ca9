//! Objects from JSON, without what their reader does not look at: `metadata.managedFields` for all, which are a third of
//! many objects and most of the work of decoding them, and what a reader of very many names besides.
//!
//! Knows serde. Must not know kinds.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

/// What is left out below a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Omit {
    /// The place itself: as if the object did not have it.
    All,
    /// Of these fields. A list's elements are as the list.
    Of(&'static [(&'static str, Omit)]),
}

/// No component reads them.
pub const MANAGED_FIELDS: (&str, Omit) = ("managedFields", Omit::All);

/// Nothing but the managed fields.
pub static MANAGED: Omit = Omit::Of(&[("metadata", Omit::Of(&[MANAGED_FIELDS]))]);

impl Omit {
    /// What both leave out. For what lives as long as the process: its parts are never freed.
    pub fn and(self, other: Omit) -> Omit {
        let (ours, theirs) = match (self, other) {
            (Omit::All, other) => return other,
            (own, Omit::All) => return own,
            (Omit::Of(ours), Omit::Of(theirs)) => (ours, theirs),
        };
        let both = ours.iter().filter_map(|(name, omit)| {
            let (_, other) = theirs.iter().find(|(other, _)| other == name)?;
            Some((*name, omit.and(*other)))
        });
        Omit::Of(both.collect::<Vec<_>>().leak())
    }

    fn field(&'static self, name: &str) -> Option<&'static Omit> {
        let Omit::Of(fields) = self else { return None };
        fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, omit)| omit)
    }
}

/// # Errors
/// JSON that is no such object; what is left out is any JSON.
pub fn object<K: DeserializeOwned>(text: &str, omit: &'static Omit) -> Result<K, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let object = K::deserialize(Without {
        inner: &mut json,
        omit,
    })?;
    json.end()?;
    Ok(object)
}

/// A part of serde's machinery that passes everything on but what is left out.
struct Without<T> {
    inner: T,
    omit: &'static Omit,
}

impl<T> Without<T> {
    fn with<U>(&self, inner: U) -> Without<U> {
        Without {
            inner,
            omit: self.omit,
        }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_option(visitor)
    }

    // JSON says itself what it holds.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Without<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let map = Fields {
            map,
            omit: self.omit,
            below: None,
        };
        self.inner.visit_map(map)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.visit_some(deserializer)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let seq = Without {
            inner: seq,
            omit: self.omit,
        };
        self.inner.visit_seq(seq)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(data)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.inner.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.inner.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.inner.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.inner.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.inner.visit_str(value)
    }
}

/// The fields of an object on the way to what is left out.
struct Fields<A> {
    map: A,
    omit: &'static Omit,
    /// What is left out below the last key.
    below: Option<&'static Omit>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key_seed(KeyText)? {
            let text = match &key {
                Key::Borrowed(text) => text,
                Key::Owned(text) => text.as_str(),
            };
            self.below = self.omit.field(text);
            if matches!(self.below, Some(Omit::All)) {
                self.map.next_value::<IgnoredAny>()?;
                continue;
            }
            return match key {
                Key::Borrowed(text) => seed.deserialize(BorrowedStrDeserializer::new(text)),
                Key::Owned(text) => seed.deserialize(StringDeserializer::new(text)),
            }
            .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.below {
            Some(omit) => self.map.next_value_seed(Without { inner: seed, omit }),
            None => self.map.next_value_seed(seed),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Without<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Without<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

/// A key of an object; only one with escapes is copied.
enum Key<'de> {
    Borrowed(&'de str),
    Owned(String),
}

struct KeyText;

impl<'de> DeserializeSeed<'de> for KeyText {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyText {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::PartialObject;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::{Value, json};

    /// The object decodes to the same as without managed fields.
    #[track_caller]
    fn check<K: DeserializeOwned + PartialEq + fmt::Debug>(value: &Value) {
        let mut without = value.clone();
        if let Some(metadata) = without.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let plain: K = serde_json::from_value(without).expect("an object");
        assert_eq!(
            object::<K>(&value.to_string(), &MANAGED).expect("an object"),
            plain,
            "{value}"
        );
    }

    #[test]
    fn both_leave_out_what_each_does() {
        const A: Omit = Omit::Of(&[
            ("x", Omit::All),
            ("y", Omit::Of(&[("z", Omit::All), ("v", Omit::All)])),
            ("w", Omit::All),
        ]);
        const B: Omit = Omit::Of(&[
            ("y", Omit::Of(&[("z", Omit::All)])),
            ("x", Omit::Of(&[("u", Omit::All)])),
        ]);
        const BOTH: Omit = Omit::Of(&[
            ("x", Omit::Of(&[("u", Omit::All)])),
            ("y", Omit::Of(&[("z", Omit::All)])),
        ]);
        assert_eq!(A.and(B), BOTH);
        assert_eq!(A.and(Omit::All), A);
    }

    #[test]
    fn all_but_the_managed_fields() {
        let managed = json!([{ "manager": "m", "operation": "Update", "fieldsV1": { "f:spec": {} } }]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "a", "managedFields": managed, "labels": { "a\"b": "\u{1}", "n": "1" } },
            "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": "1" } }, "tty": true }],
                "priority": -1, "nodeName": null },
            "status": { "phase": "Running" },
        });
        check::<Pod>(&pod);
        check::<PartialObject>(&pod);
        // Only there: elsewhere it is a name like others.
        check::<ConfigMap>(
            &json!({ "metadata": { "name": "a" }, "data": { "managedFields": "x", "metadata": "y" } }),
        );
        check::<ConfigMap>(&json!({ "metadata": null }));
        check::<ConfigMap>(&json!({}));
        let escaped = r#"{"metadata":{"managed\u0046ields":[{"manager":"m"}],"name":"a"}}"#;
        let map: ConfigMap = object(escaped, &MANAGED).expect("an object");
        assert_eq!(map.metadata.managed_fields, None);
    }

    #[test]
    fn what_a_reader_does_not_look_at() {
        static OMIT: Omit = Omit::Of(&[
            ("metadata", Omit::Of(&[MANAGED_FIELDS, ("labels", Omit::All)])),
            (
                "spec",
                Omit::Of(&[
                    (
                        "containers",
                        Omit::Of(&[
                            ("env", Omit::All),
                            ("resources", Omit::Of(&[("claims", Omit::All)])),
                        ]),
                    ),
                    ("affinity", Omit::All),
                ]),
            ),
        ]);
        let full = json!({
            "metadata": { "name": "a", "labels": { "a": "b" } },
            "spec": {
                "affinity": 5,
                "containers": [
                    { "env": [{ "name": "x" }], "name": "c" },
                    { "name": "d", "resources": { "claims": [{ "name": "y" }], "limits": { "cpu": "1" } } },
                ],
            },
        });
        let rest = json!({
            "metadata": { "name": "a" },
            "spec": { "containers": [{ "name": "c" }, { "name": "d", "resources": { "limits": { "cpu": "1" } } }] },
        });
        let pod: Pod = object(&full.to_string(), &OMIT).expect("a Pod");
        assert_eq!(pod, serde_json::from_value(rest).expect("a Pod"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{} {}",
            r#"{"metadata":{"managedFields":}}"#,
            r#"{"metadata":5}"#,
        ] {
            assert!(object::<ConfigMap>(text, &MANAGED).is_err(), "{text}");
        }
    }
}
