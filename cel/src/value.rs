//! Values. JSON is viewed in place: what an expression does not touch is neither copied nor read.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::error::{Eval, EvalError};
use crate::opaque::Opaque;
use crate::types::{Decl, ListKind, Object, Shape, Type};

/// A text, borrowed from the input or made on the way.
#[derive(Clone)]
pub enum Str<'a> {
    Ref(&'a str),
    Own(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Ref(text) => text,
            Self::Own(text) => text,
        }
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl Eq for Str<'_> {}
impl PartialOrd for Str<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Str<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Str<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    /// A value of one of Kubernetes' own types.
    Opaque(Opaque<'a>),
}

#[derive(Debug, Clone)]
pub enum List<'a> {
    Json { items: &'a [Json], decl: &'a Decl },
    Own(Arc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub enum Map<'a> {
    Json {
        map: &'a serde_json::Map<String, Json>,
        decl: &'a Decl,
    },
    Own(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Made by `Type{field: value}`.
    Struct(Arc<Object>, Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Fields that the host finds out when they are asked for.
    Host(&'a dyn Fields),
}

/// An object of the host, such as the `variables` of a policy.
pub trait Fields: fmt::Debug + Send + Sync {
    /// `None` when there is no such field.
    fn field(&self, name: &str) -> Option<Eval<Value<'_>>>;
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Str<'a>),
}

impl<'a> Key<'a> {
    /// # Errors
    /// Values of other types are no keys.
    pub fn of(value: &Value<'a>) -> Eval<Key<'a>> {
        Ok(match value {
            Value::Bool(own) => Key::Bool(*own),
            Value::Int(own) => Key::Int(*own),
            Value::Uint(own) => i64::try_from(*own).map_or(Key::Uint(*own), Key::Int),
            Value::Double(own) if own.fract() == 0.0 && own.abs() < 9.0e18 => Key::Int(*own as i64),
            Value::String(own) => Key::String(own.clone()),
            other => return Err(EvalError::new(format!("unsupported key type: {}", other.ty()))),
        })
    }

    pub fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(own) => Value::Bool(*own),
            Key::Int(own) => Value::Int(*own),
            Key::Uint(own) => Value::Uint(*own),
            Key::String(own) => Value::String(own.clone()),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(own) => own.fmt(f),
            Key::Int(own) => own.fmt(f),
            Key::Uint(own) => own.fmt(f),
            Key::String(own) => f.write_str(own),
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json { items, .. } => items.len(),
            Self::Own(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `idx`, `None` beyond the end.
    pub fn get(&self, idx: usize) -> Option<Eval<Value<'a>>> {
        match self {
            Self::Json { items, decl } => Some(Value::from_json(items.get(idx)?, element(decl))),
            Self::Own(list) => list.get(idx).cloned().map(Ok),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Eval<Value<'a>>> + '_ {
        (0..self.len()).filter_map(|idx| self.get(idx))
    }

    fn kind(&self) -> (ListKind, &'a [String]) {
        match self {
            Self::Json {
                decl:
                    Decl {
                        shape: Shape::List { kind, keys, .. },
                        ..
                    },
                ..
            } => (*kind, keys),
            _ => (ListKind::Plain, &[]),
        }
    }

    /// Concatenation; sets and keyed lists merge, as upstream's schema-aware values do.
    ///
    /// # Errors
    /// An element that is not of its declared type.
    pub fn add(&self, other: &List<'a>) -> Eval<List<'a>> {
        let mut all: Vec<Value<'a>> = self.iter().collect::<Eval<_>>()?;
        match self.kind() {
            (ListKind::Plain, _) => all.extend(other.iter().collect::<Eval<Vec<_>>>()?),
            (ListKind::Set, _) => {
                for own in other.iter() {
                    let own = own?;
                    if !all.iter().any(|known| known.equals(&own)) {
                        all.push(own);
                    }
                }
            }
            (ListKind::Keyed, keys) => {
                for own in other.iter() {
                    let own = own?;
                    match all.iter_mut().find(|known| same_keys(known, &own, keys)) {
                        Some(known) => *known = own,
                        None => all.push(own),
                    }
                }
            }
        }
        Ok(List::Own(Arc::new(all)))
    }
}

fn same_keys(a: &Value<'_>, b: &Value<'_>, keys: &[String]) -> bool {
    let field = |value: &Value<'_>, key: &str| match value {
        Value::Map(Map::Json { map, .. }) => map.get(key).cloned(),
        other => other.to_json().ok().and_then(|json| json.get(key).cloned()),
    };
    keys.iter().all(|key| field(a, key) == field(b, key))
}

fn element(decl: &Decl) -> &Decl {
    match &decl.shape {
        Shape::List { of, .. } => of,
        _ => &DYN,
    }
}

static DYN: Decl = Decl::DYN;

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json { map, decl } => match &decl.shape {
                Shape::Object(object) if !object.open => object
                    .fields
                    .values()
                    .filter(|own| map.contains_key(&*own.json))
                    .count(),
                _ => map.len(),
            },
            Self::Own(map) | Self::Struct(_, map) => map.len(),
            Self::Host(_) => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field or key, `None` when it is absent.
    pub fn get(&self, key: &Key<'a>) -> Option<Eval<Value<'a>>> {
        match (self, key) {
            (_, Key::String(name)) => self.field(name),
            (Self::Own(map) | Self::Struct(_, map), key) => map.get(key).cloned().map(Ok),
            _ => None,
        }
    }

    /// The value of a field by the name an expression uses.
    pub fn field(&self, name: &str) -> Option<Eval<Value<'a>>> {
        match self {
            Self::Json { map, decl } => match &decl.shape {
                Shape::Object(object) => match object.field(name) {
                    Some(field) => Some(Value::from_json(map.get(&*field.json)?, &field.decl)),
                    None if object.open => Some(Value::from_json(map.get(name)?, &DYN)),
                    None => None,
                },
                Shape::Map { of, .. } => Some(Value::from_json(map.get(name)?, of)),
                _ => Some(Value::from_json(map.get(name)?, &DYN)),
            },
            Self::Own(map) | Self::Struct(_, map) => {
                map.get(&Key::String(Str::Own(name.into()))).cloned().map(Ok)
            }
            Self::Host(host) => host.field(name),
        }
    }

    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Self::Json { map, decl } => match &decl.shape {
                Shape::Object(object) if !object.open => object
                    .fields
                    .iter()
                    .filter(|(_, own)| map.contains_key(&*own.json))
                    .map(|(name, _)| Key::String(Str::Ref(name)))
                    .collect(),
                _ => map.keys().map(|key| Key::String(Str::Ref(key))).collect(),
            },
            Self::Own(map) | Self::Struct(_, map) => map.keys().cloned().collect(),
            Self::Host(_) => Vec::new(),
        }
    }
}

impl<'a> Value<'a> {
    pub fn str(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Str::Own(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Own(Arc::new(items)))
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// Views JSON by its declaration.
    ///
    /// # Errors
    /// JSON that is not what was declared.
    pub fn from_json(json: &'a Json, decl: &'a Decl) -> Eval<Value<'a>> {
        let bad = |what: &str| Err(EvalError::new(format!("invalid data, expected {what}")));
        Ok(match (&decl.shape, json) {
            (Shape::Dyn | Shape::Host(_), Json::Null) => Value::Null,
            (_, Json::Null) if decl.nullable => Value::Null,
            (_, Json::Null) => {
                return Err(EvalError::new(
                    "invalid data, got null for schema with nullable=false",
                ));
            }
            (Shape::Dyn | Shape::Host(_) | Shape::Bool, Json::Bool(own)) => Value::Bool(*own),
            (Shape::Double, Json::Number(own)) => Value::Double(own.as_f64().unwrap_or_default()),
            (Shape::Uint, Json::Number(own)) => match own.as_u64() {
                Some(own) => Value::Uint(own),
                None => return bad("a uint"),
            },
            (Shape::Int, Json::Number(own)) => match whole(own) {
                Some(own) => Value::Int(own),
                None => return bad("an integer"),
            },
            (Shape::Dyn | Shape::Host(_), Json::Number(own)) => match (own.as_i64(), own.as_u64()) {
                (Some(own), _) => Value::Int(own),
                (None, Some(own)) => Value::Uint(own),
                _ => Value::Double(own.as_f64().unwrap_or_default()),
            },
            (Shape::Dyn | Shape::Host(_) | Shape::String, Json::String(own)) => Value::String(Str::Ref(own)),
            (Shape::Bytes, Json::String(own)) => {
                use base64::Engine as _;
                match base64::engine::general_purpose::STANDARD.decode(own) {
                    Ok(bytes) => Value::Bytes(bytes.into()),
                    Err(_) => return bad("base64"),
                }
            }
            (Shape::Timestamp, Json::String(own)) => Value::Timestamp(crate::time::date_time(own)?),
            (Shape::Duration, Json::String(own)) => Value::Duration(crate::time::duration(own)?),
            (Shape::Dyn | Shape::Host(_) | Shape::List { .. }, Json::Array(items)) => {
                Value::List(List::Json { items, decl })
            }
            (Shape::Dyn | Shape::Host(_) | Shape::Map { .. } | Shape::Object(_), Json::Object(map)) => {
                Value::Map(Map::Json { map, decl })
            }
            (shape, _) => return bad(shape.word()),
        })
    }

    /// JSON viewed without a declaration.
    pub fn dynamic(json: &'a Json) -> Value<'a> {
        Value::from_json(json, &DYN).unwrap_or(Value::Null)
    }

    pub fn ty(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(Map::Struct(object, _)) => Type::Object(object.clone()),
            Value::Map(Map::Json {
                decl:
                    Decl {
                        shape: Shape::Object(object),
                        ..
                    },
                ..
            }) => Type::Object(object.clone()),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(of) => Type::Type(Arc::new(of.clone())),
            Value::Opaque(own) => Type::Opaque(own.type_name()),
        }
    }

    /// The name of the value's type without parameters.
    pub fn type_name(&self) -> String {
        match self {
            Value::List(_) => "list".into(),
            Value::Map(Map::Struct(object, _)) => object.name.clone(),
            Value::Map(_) => "map".into(),
            Value::Optional(_) => "optional_type".into(),
            Value::Type(_) => "type".into(),
            Value::Null => "null_type".into(),
            Value::Timestamp(_) => "google.protobuf.Timestamp".into(),
            Value::Duration(_) => "google.protobuf.Duration".into(),
            other => other.ty().to_string(),
        }
    }

    /// `size()`, where there is one.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(own) => {
                if own.is_ascii() {
                    own.len()
                } else {
                    own.chars().count()
                }
            }
            Value::Bytes(own) => own.len(),
            Value::List(own) => own.len(),
            Value::Map(own) => own.len(),
            Value::Opaque(own) => return own.size(),
            _ => return None,
        })
    }

    /// CEL's equality: numbers by amount, what is of different types differs.
    pub fn equals(&self, other: &Value<'a>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => lists_equal(a, b),
            (Value::Map(a), Value::Map(b)) => {
                let keys = a.keys();
                keys.len() == b.len()
                    && keys.iter().all(|key| match (a.get(key), b.get(key)) {
                        (Some(Ok(a)), Some(Ok(b))) => a.equals(&b),
                        _ => false,
                    })
            }
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (None, None) => true,
                _ => false,
            },
            (Value::Type(a), Value::Type(b)) => bare(a) == bare(b),
            (Value::Opaque(a), Value::Opaque(b)) => a == b,
            (a, b) => a.compare_numbers(b) == Some(Ordering::Equal),
        }
    }

    /// The order of two numbers of whatever types.
    pub fn compare_numbers(&self, other: &Value<'a>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b)?,
            (Value::Int(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::Uint(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::Int(a), Value::Double(b)) => compare_whole(i128::from(*a), *b)?,
            (Value::Uint(a), Value::Double(b)) => compare_whole(i128::from(*a), *b)?,
            (Value::Double(a), Value::Int(b)) => compare_whole(i128::from(*b), *a)?.reverse(),
            (Value::Double(a), Value::Uint(b)) => compare_whole(i128::from(*b), *a)?.reverse(),
            _ => return None,
        })
    }

    /// The order of two values of one ordered type.
    pub fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            _ => return self.compare_numbers(other),
        })
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// Values JSON has no form for.
    pub fn to_json(&self) -> Eval<Json> {
        Ok(match self {
            Value::Null | Value::Optional(None) => Json::Null,
            Value::Bool(own) => Json::Bool(*own),
            Value::Int(own) => Json::from(*own),
            Value::Uint(own) => Json::from(*own),
            Value::Double(own) => match serde_json::Number::from_f64(*own) {
                Some(number) => Json::Number(number),
                None => return Err(EvalError::new("a number that JSON cannot hold")),
            },
            Value::String(own) => Json::String(own.to_string()),
            Value::Bytes(own) => {
                use base64::Engine as _;
                Json::String(base64::engine::general_purpose::STANDARD.encode(own))
            }
            Value::Timestamp(own) => Json::String(crate::time::format_timestamp(*own)),
            Value::Duration(own) => Json::String(crate::time::format_duration(*own)),
            Value::Optional(Some(own)) => own.to_json()?,
            Value::List(List::Json { items, .. }) => Json::Array(items.to_vec()),
            Value::List(List::Own(list)) => {
                Json::Array(list.iter().map(Value::to_json).collect::<Eval<_>>()?)
            }
            Value::Map(Map::Json { map, .. }) => Json::Object((*map).clone()),
            Value::Map(Map::Own(map) | Map::Struct(_, map)) => {
                let mut out = serde_json::Map::new();
                for (key, value) in map.iter() {
                    let Key::String(name) = key else {
                        return Err(EvalError::new(format!(
                            "unsupported map key type: {}",
                            key.value().ty()
                        )));
                    };
                    out.insert(name.to_string(), value.to_json()?);
                }
                Json::Object(out)
            }
            Value::Map(Map::Host(_)) | Value::Type(_) | Value::Opaque(_) => {
                return Err(EvalError::new(format!(
                    "unsupported conversion of {} to JSON",
                    self.ty()
                )));
            }
        })
    }
}

impl Shape {
    fn word(&self) -> &'static str {
        match self {
            Shape::Dyn | Shape::Host(_) => "any value",
            Shape::Bool => "a boolean",
            Shape::Int => "an integer",
            Shape::Uint => "a uint",
            Shape::Double => "a number",
            Shape::String => "a string",
            Shape::Bytes => "a base64 string",
            Shape::Timestamp => "a date-time string",
            Shape::Duration => "a duration string",
            Shape::List { .. } => "an array",
            Shape::Map { .. } | Shape::Object(_) => "an object",
        }
    }
}

/// A whole number, also one written with a fraction of zero.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let double = number.as_f64()?;
        (double.fract() == 0.0 && double.abs() < 9.0e18).then_some(double as i64)
    })
}

fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.is_infinite() || double.abs() > 1e30 {
        return Some(if double > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        });
    }
    let floor = double.floor();
    Some(match whole.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        other => other,
    })
}

/// Types are told apart without their parameters.
fn bare(ty: &Type) -> Type {
    match ty {
        Type::List(_) => Type::list(Type::Dyn),
        Type::Map(_) => Type::map(Type::Dyn, Type::Dyn),
        Type::Optional(_) => Type::optional(Type::Dyn),
        Type::Type(_) => Type::Type(Arc::new(Type::Dyn)),
        other => other.clone(),
    }
}

fn lists_equal<'a>(a: &List<'a>, b: &List<'a>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.kind() {
        (ListKind::Set, _) => a.iter().all(|own| {
            own.is_ok_and(|own| b.iter().any(|other| other.is_ok_and(|other| own.equals(&other))))
        }),
        (ListKind::Keyed, keys) => a.iter().all(|own| {
            own.is_ok_and(|own| {
                let other = b
                    .iter()
                    .find(|other| other.as_ref().is_ok_and(|other| same_keys(&own, other, keys)));
                matches!(other, Some(Ok(other)) if own.equals(&other))
            })
        }),
        _ => a.iter().zip(b.iter()).all(|(a, b)| match (a, b) {
            (Ok(a), Ok(b)) => a.equals(&b),
            _ => false,
        }),
    }
}
