//! The `scale` subresource: an `autoscaling/v1` Scale seen through `spec.replicas` of another object. Pure.

use corten_api::field::FieldErrors;
use corten_api::resource::Subresource;
use corten_api::selector::LabelSelector;
use corten_api::status::Qualified;
use corten_api::{ResourceType, Status, meta};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::{Answered, Decision, Env, Payload, Subject, check_name, update};
use crate::Config;

/// The Scale of `object`.
#[must_use]
pub fn of(_ty: &ResourceType, object: &Value) -> Value {
    let selector = LabelSelector::from_value(&object["spec"]["selector"])
        .map(|s| s.to_string())
        .unwrap_or_default();
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
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) },
    });
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|n| *n != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Writes a Scale's `spec.replicas` into the object. `change` makes the new Scale from the present one.
///
/// # Errors
/// `NotFound`, `Conflict`, `Invalid` for negative replicas, and what `change` says.
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    change: impl Fn(&Value) -> Result<Value, Status>,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = subject.read(snapshot, name)?;
    let scale = change(&of(subject.ty, &current.value))?;
    if meta::kind(&scale) != "Scale" {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version (autoscaling/v1)",
            meta::api_version(&scale)
        )));
    }
    check_name(&scale, name)?;
    let replicas = match &scale["spec"]["replicas"] {
        Value::Null => 0,
        number => number.as_i64().ok_or_else(|| {
            Status::bad_request(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an integer",
            )
        })?,
    };
    if replicas < 0 {
        let mut errors = FieldErrors::default();
        errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(
            Qualified::new("autoscaling", "Scale"),
            name,
            &errors,
        ));
    }
    let mut new = current.value.clone();
    new["spec"]["replicas"] = replicas.into();
    for field in ["resourceVersion", "uid"] {
        if !scale["metadata"][field].is_null() {
            new["metadata"][field] = scale["metadata"][field].clone();
        }
    }
    let seen = new.clone();
    let decision = update::replace(
        config,
        subject,
        snapshot,
        current,
        name,
        new,
        Subresource::Main,
        env,
    )?;
    let view = |answer: Answered| {
        let Answered {
            code,
            payload,
            warnings,
        } = answer;
        let payload = match payload {
            Payload::Stored { at, .. } => Payload::Scale {
                scale: of(subject.ty, &seen),
                at,
            },
            other => other,
        };
        Answered {
            code,
            payload,
            warnings,
        }
    };
    Ok(match decision {
        Decision::Commit(txn, answer) => Decision::Commit(txn, view(answer)),
        Decision::Nothing(answer) => Decision::Nothing(view(answer)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::registry;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let ty = registry().lookup("apps", "v1", "deployments").expect("built in");
        let object = json!({"metadata": {"name": "d", "namespace": "a", "resourceVersion": "5", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2}});
        let scale = of(ty, &object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert!(scale["metadata"].get("labels").is_none());
    }
}
