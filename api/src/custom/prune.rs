//! Pruning: fields a structural schema does not have are dropped.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning`.

use serde_json::Value;

use super::schema::{Additional, Schema};

/// Fields every resource has, whatever its schema says.
pub const RESOURCE_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Prunes a resource and returns the paths of what was dropped, sorted.
pub fn prune(object: &mut Value, root: &Schema) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.value(object, Some(root));
    pruner.dropped.sort();
    pruner.dropped
}

#[derive(Default)]
struct Pruner {
    path: String,
    dropped: Vec<String>,
}

impl Pruner {
    fn below(&mut self, step: std::fmt::Arguments<'_>, act: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        let step = step.to_string();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(&step);
        act(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &mut Value, schema: Option<&Schema>) {
        match value {
            Value::Object(map) => {
                map.retain(|key, value| {
                    let mut kept = true;
                    self.below(format_args!("{key}"), |this| {
                        kept = this.member(key, value, schema)
                    });
                    kept
                });
            }
            Value::Array(list) => {
                for (idx, item) in list.iter_mut().enumerate() {
                    let items = schema.and_then(|schema| schema.items.as_deref());
                    // Where unknown fields stay, so does what is in a list without a schema.
                    if items.is_none() && schema.is_some_and(|schema| schema.preserve) {
                        continue;
                    }
                    self.below(format_args!("[{idx}]"), |this| this.value(item, items));
                }
            }
            _ => {}
        }
    }

    /// False when the member has to go.
    fn member(&mut self, key: &str, value: &mut Value, schema: Option<&Schema>) -> bool {
        let Some(schema) = schema else {
            self.dropped.push(self.path.clone());
            return false;
        };
        if schema.embedded && RESOURCE_FIELDS.contains(&key) {
            return true;
        }
        if let Some(property) = schema.properties.get(key) {
            self.value(value, Some(property));
            return true;
        }
        match &schema.additional {
            Additional::Schema(values) => self.value(value, Some(values)),
            Additional::Allowed(true) => self.value(value, None),
            _ if schema.preserve => {}
            _ => {
                self.dropped.push(self.path.clone());
                return false;
            }
        }
        true
    }
}
