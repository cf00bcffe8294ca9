//! Options that travel in bodies: `DeleteOptions`.

use serde_json::{Value, json};

use crate::Status;
use crate::field::FieldErrors;
use crate::status::Qualified;

/// What happens to the objects a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// `metav1.DeleteOptions`, already validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds; absent means the kind's own default.
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// The old form of `propagation`, as given.
    pub orphan_dependents: Option<bool>,
    /// The object must have this uid.
    pub precondition_uid: Option<String>,
    /// The object must have this resourceVersion.
    pub precondition_resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads a request body; an empty one is all defaults. Any group's `DeleteOptions` is taken.
    ///
    /// # Errors
    /// 400 for a body that is no JSON object of this kind, 422 for values that contradict each other.
    pub fn decode(body: &[u8]) -> Result<Self, Status> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| Status::bad_request(format!("unable to decode DeleteOptions: {e}")))?;
        if !value.is_object() {
            return Err(Status::bad_request("expect an object of kind DeleteOptions"));
        }
        let kind = crate::meta::kind(&value);
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: kind {kind}"
            )));
        }
        Self::from_value(&value)
    }

    fn from_value(value: &Value) -> Result<Self, Status> {
        let wrong = |field: &str| Status::bad_request(format!("DeleteOptions.{field}: wrong type"));
        let text = |field: &str, value: &Value| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(wrong(field)),
        };
        let grace_period_seconds = match &value["gracePeriodSeconds"] {
            Value::Null => None,
            number => Some(number.as_i64().ok_or_else(|| wrong("gracePeriodSeconds"))?),
        };
        let mut errors = FieldErrors::default();
        let orphan = match &value["orphanDependents"] {
            Value::Null => None,
            flag => Some(flag.as_bool().ok_or_else(|| wrong("orphanDependents"))?),
        };
        let policy = text("propagationPolicy", &value["propagationPolicy"])?;
        let mut propagation = match policy.as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.not_supported(
                    "propagationPolicy",
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                None
            }
        };
        if let Some(orphan) = orphan {
            if policy.is_some() {
                errors.invalid(
                    "propagationPolicy",
                    policy.as_deref().unwrap_or_default(),
                    "orphanDependents and deletionPropagation cannot be both set",
                );
            }
            propagation = Some(if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            });
        }
        let runs = value["dryRun"].as_array().map_or(&[][..], Vec::as_slice);
        if runs.iter().any(|run| run != "All") {
            errors.not_supported("dryRun", value["dryRun"].clone(), &["All"]);
        }
        let dry_run = !runs.is_empty();
        if !errors.is_empty() {
            return Err(Status::invalid(
                Qualified::new("meta.k8s.io", "DeleteOptions"),
                "",
                &errors,
            ));
        }
        let preconditions = &value["preconditions"];
        Ok(Self {
            grace_period_seconds,
            propagation,
            orphan_dependents: orphan,
            precondition_uid: text("preconditions.uid", &preconditions["uid"])?,
            precondition_resource_version: text(
                "preconditions.resourceVersion",
                &preconditions["resourceVersion"],
            )?,
            dry_run,
        })
    }
}

impl DeleteOptions {
    /// As admission sees them; `dryRun` is left to the caller.
    pub fn to_value(&self) -> Value {
        let mut out = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(seconds) = self.grace_period_seconds {
            out["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(uid) = &self.precondition_uid {
            out["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.precondition_resource_version {
            out["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        match (self.orphan_dependents, self.propagation) {
            (Some(orphan), _) => out["orphanDependents"] = orphan.into(),
            (None, Some(Propagation::Orphan)) => out["propagationPolicy"] = "Orphan".into(),
            (None, Some(Propagation::Background)) => out["propagationPolicy"] = "Background".into(),
            (None, Some(Propagation::Foreground)) => out["propagationPolicy"] = "Foreground".into(),
            (None, None) => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: Result<DeleteOptions, u16>) {
        assert_eq!(
            DeleteOptions::decode(body.as_bytes()).map_err(|s| s.code),
            want,
            "{body}"
        );
    }

    #[test]
    fn bodies() {
        check("", Ok(DeleteOptions::default()));
        check(
            r#"{"kind":"DeleteOptions","apiVersion":"policy/v1","gracePeriodSeconds":0,"propagationPolicy":"Orphan","preconditions":{"uid":"u"}}"#,
            Ok(DeleteOptions {
                grace_period_seconds: Some(0),
                propagation: Some(Propagation::Orphan),
                precondition_uid: Some("u".into()),
                ..DeleteOptions::default()
            }),
        );
        check("[]", Err(400));
        check("{", Err(400));
        check(r#"{"kind":"Pod"}"#, Err(400));
        check(r#"{"gracePeriodSeconds":"x"}"#, Err(400));
        check(r#"{"propagationPolicy":"Later"}"#, Err(422));
        check(
            r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
            Err(422),
        );
    }
}
