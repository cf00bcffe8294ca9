//! One step of a path in an object, and its forms: `f:name`, `k:{"name":"x"}`, `v:"x"`, `i:3` in `FieldsV1`, and what error texts
//! show. Knows nothing of sets.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use super::items::{compare_values, shown};
use crate::json;

/// One step of a path.
#[derive(Debug, Clone)]
pub enum Element {
    /// A field of a struct or an entry of a map.
    Field(Box<str>),
    /// An element of a keyed list: its key fields, sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    /// An element of a set.
    Value(Value),
    /// An element of another list. Nothing makes these any more, but old entries may hold them.
    Index(i64),
}

impl Element {
    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }

    /// # Errors
    /// A text that is no path element; `Ok(None)` for a kind of element that is not known.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, BadFields> {
        let bad = |cause: String| BadFields(cause);
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| bad(format!("missing colon: {text}")))?;
        Ok(Some(match kind {
            "f" => Self::Field(rest.into()),
            "v" => Self::Value(serde_json::from_str(rest).map_err(|e| bad(e.to_string()))?),
            "i" => Self::Index(rest.parse().map_err(|_| bad(format!("bad index: {rest}")))?),
            "k" => {
                // A map sorts its keys, as an element must.
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|e| bad(e.to_string()))?;
                let mut keys: Vec<(Box<str>, Value)> = keys.into_iter().map(|(k, v)| (k.into(), v)).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Key(keys.into())
            }
            _ => return Ok(None),
        }))
    }

    /// As `FieldsV1` writes it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(keys) => {
                let mut out = Vec::with_capacity(64);
                out.extend_from_slice(b"k:{");
                for (at, (name, value)) in keys.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    json::write_text(&mut out, name);
                    out.push(b':');
                    json::write(&mut out, value);
                }
                out.push(b'}');
                String::from_utf8(out).expect("made of texts")
            }
        }
    }
}

/// As error texts show a path: `.spec.containers[name="app"].ports[containerPort=80,protocol="TCP"]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (at, (name, value)) in keys.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", shown(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Value(a), Self::Value(b)) => compare_values(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                for ((name, value), (other_name, other_value)) in a.iter().zip(b) {
                    let order = name
                        .cmp(other_name)
                        .then_with(|| compare_values(value, other_value));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

/// `FieldsV1` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFields(pub String);
