//! Where a custom resource keeps what its `scale` subresource shows.

use serde_json::{Value, json};

use super::json_path::simple_path;
use crate::Status;
use crate::field::FieldErrors;
use crate::status::Qualified;

/// Paths in the dot notation, split.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub label_selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// Reads `subresources.scale`; `None` when there is none.
    pub fn parse(value: &Value) -> Option<ScalePaths> {
        let path = |name: &str| {
            value[name]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(simple_path)
        };
        Some(ScalePaths {
            spec_replicas: path("specReplicasPath")?,
            status_replicas: path("statusReplicasPath")?,
            label_selector: path("labelSelectorPath"),
        })
    }

    /// The wanted replicas; `None` when the object does not say.
    pub fn replicas(&self, object: &Value) -> Option<i64> {
        at(object, &self.spec_replicas)?.as_i64()
    }

    /// The observed replicas, 0 when the object does not say.
    pub fn observed(&self, object: &Value) -> i64 {
        at(object, &self.status_replicas)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    /// The selector as text, empty when the object does not say.
    pub fn selector<'a>(&self, object: &'a Value) -> &'a str {
        let path = self.label_selector.as_ref();
        path.and_then(|path| at(object, path)?.as_str())
            .unwrap_or_default()
    }

    /// Writes the wanted replicas. False when something on the way is no object.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) -> bool {
        let mut place = object;
        for step in &self.spec_replicas {
            let Some(map) = place.as_object_mut() else {
                return false;
            };
            place = map
                .entry(step.clone())
                .or_insert_with(|| Value::Object(Default::default()));
        }
        *place = replicas.into();
        true
    }

    /// The Scale of an object.
    pub fn scale_of(&self, object: &Value) -> Value {
        let mut metadata = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if !object["metadata"][field].is_null() {
                metadata[field] = object["metadata"][field].clone();
            }
        }
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {},
            "status": {"replicas": self.observed(object)},
        });
        if let Some(replicas) = self.replicas(object).filter(|n| *n != 0) {
            scale["spec"]["replicas"] = replicas.into();
        }
        let selector = self.selector(object);
        if !selector.is_empty() {
            scale["status"]["selector"] = selector.into();
        }
        scale
    }

    /// Takes the wanted replicas and the preconditions of a Scale over.
    ///
    /// # Errors
    /// `Invalid` for negative replicas.
    pub fn apply(&self, object: &mut Value, scale: &Value) -> Result<(), Status> {
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let mut errors = FieldErrors::default();
            errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            let kind = Qualified::new("autoscaling", "Scale");
            return Err(Status::invalid(kind, crate::meta::name(scale), &errors));
        }
        if !self.set_replicas(object, replicas) {
            let path = self.spec_replicas.join(".");
            return Err(Status::bad_request(format!(
                "{path} is below something that is no object"
            )));
        }
        for field in ["resourceVersion", "uid"] {
            if !scale["metadata"][field].is_null() {
                object["metadata"][field] = scale["metadata"][field].clone();
            }
        }
        Ok(())
    }

    /// Checks the numbers a Scale would show.
    pub fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        for path in [&self.spec_replicas, &self.status_replicas] {
            let Some(value) = at(object, path) else { continue };
            let field = path.join(".");
            match value.as_i64() {
                Some(number) if number < 0 => {
                    errors.invalid(field, number, "should be a non-negative integer");
                }
                Some(number) if number > i64::from(i32::MAX) => {
                    let text = format!("should be less than or equal to {}", i32::MAX);
                    errors.invalid(field, number, &text);
                }
                _ => {}
            }
        }
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |place, step| place.get(step))
}
