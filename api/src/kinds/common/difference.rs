//! The lines that an error about an immutable struct adds: what was and what was wanted, field by field.

use serde_json::{Map, Value};

/// The fields that differ, old and new, one line each. `type_name` is Go's name of the struct.
pub fn difference(type_name: &str, old: &Value, new: &Value) -> String {
    let empty = Map::new();
    let (old, new) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let mut out = format!("  {type_name}{{\n");
    for name in names.into_iter().filter(|n| old.get(*n) != new.get(*n)) {
        for (sign, map) in [('-', old), ('+', new)] {
            if let Some(value) = map.get(name) {
                out.push_str(&format!("{sign} \t{name}: {value},\n"));
            }
        }
    }
    out.push_str("  }\n");
    out
}
