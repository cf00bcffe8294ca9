//! ConversionReview: what a definition's conversion webhook is asked, and how its answer is read. Pure.
//!
//! Source: Kubernetes `apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go`.

use serde_json::{Map, Value, json};

use crate::meta;

const GROUP: &str = "apiextensions.k8s.io";

/// How the versions of a custom resource are converted, when that is a webhook's work.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// The definition's name.
    pub definition: String,
    /// The version that new objects are stored in.
    pub storage: String,
    pub client_config: Value,
    /// The version of ConversionReview the webhook is sent; empty: it takes none that we know.
    pub review_version: &'static str,
}

impl Conversion {
    /// `None` unless the definition names a webhook.
    pub fn of(definition: &Value, storage: &str) -> Option<Conversion> {
        let conversion = &definition["spec"]["conversion"];
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let versions = conversion["webhook"]["conversionReviewVersions"].as_array();
        let mut known = versions
            .into_iter()
            .flatten()
            .filter_map(|version| match version.as_str() {
                Some("v1") => Some("v1"),
                Some("v1beta1") => Some("v1beta1"),
                _ => None,
            });
        Some(Conversion {
            definition: meta::name(definition).to_owned(),
            storage: storage.to_owned(),
            client_config: conversion["webhook"]["clientConfig"].clone(),
            review_version: known.next().unwrap_or_default(),
        })
    }

    /// The request without its uid, as JSON.
    pub fn request(&self, desired: &str, objects: &[Value]) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("desiredAPIVersion".into(), desired.into());
        out.insert("objects".into(), objects.into());
        out
    }

    /// The body of a call.
    pub fn body(&self, uid: &str, mut request: Map<String, Value>) -> Vec<u8> {
        request.insert("uid".into(), uid.into());
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{}", self.review_version),
            "request": request,
        });
        review.to_string().into_bytes()
    }

    /// The converted objects, in the order of `objects`.
    ///
    /// # Errors
    /// What the webhook says, or what is wrong with its answer.
    pub fn answer(
        &self,
        uid: &str,
        desired: &str,
        objects: &[Value],
        answer: &[u8],
    ) -> Result<Vec<Value>, String> {
        let mut review: Value = serde_json::from_slice(answer)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
        let wanted = format!("{GROUP}/{}", self.review_version);
        if review["kind"] != "ConversionReview" || review["apiVersion"] != wanted.as_str() {
            let text = |field: &str| review[field].as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "expected webhook response of {wanted}, Kind=ConversionReview, got {}, Kind={}",
                text("apiVersion"),
                text("kind")
            ));
        }
        let response = &mut review["response"];
        if !response.is_object() {
            return Err("no response provided".into());
        }
        if self.review_version == "v1" && response["uid"] != uid {
            return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
        }
        let result = &response["result"];
        if result["status"] != "Success" {
            let message = result["message"].as_str().unwrap_or_default();
            return Err(match message {
                "" => "response.result.status was not \"Success\" and no message was given".into(),
                message => message.to_owned(),
            });
        }
        let converted = match response["convertedObjects"].take() {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        if converted.len() != objects.len() {
            return Err(format!(
                "webhook returned {} objects, expected {}",
                converted.len(),
                objects.len()
            ));
        }
        let pairs = converted.into_iter().zip(objects).enumerate();
        pairs
            .map(|(at, (new, old))| restored(at, desired, new, old))
            .collect()
    }
}

/// A converted object with its metadata as before: a webhook may change labels and annotations alone.
fn restored(at: usize, desired: &str, mut new: Value, old: &Value) -> Result<Value, String> {
    let invalid = |why: String| format!("invalid converted object at index {at}: {why}");
    if meta::api_version(&new) != desired {
        return Err(invalid(format!(
            "invalid groupVersion (expected {desired}, received {})",
            meta::api_version(&new)
        )));
    }
    if meta::kind(&new) != meta::kind(old) {
        return Err(invalid(format!(
            "invalid kind (expected {}, received {})",
            meta::kind(old),
            meta::kind(&new)
        )));
    }
    let Some(given) = new["metadata"].as_object() else {
        return Err(invalid("missing metadata".into()));
    };
    for field in ["name", "namespace", "uid"] {
        let (before, after) = (&old["metadata"][field], given.get(field).unwrap_or(&Value::Null));
        if before != after {
            return Err(invalid(format!(
                "metadata.{field} was changed from {before} to {after}"
            )));
        }
    }
    let mut metadata = old["metadata"].clone();
    for field in ["labels", "annotations"] {
        let own = given.get(field).cloned().unwrap_or_default();
        let all_text = own
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string));
        if !own.is_null() && !all_text {
            return Err(invalid(format!("metadata.{field} is no map of strings")));
        }
        if let Some(map) = metadata.as_object_mut() {
            match own.as_object().is_some_and(|own| !own.is_empty()) {
                true => map.insert(field.into(), own),
                false => map.remove(field),
            };
        }
    }
    new["metadata"] = metadata;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `want`: the label of the converted object, or part of the error.
    #[track_caller]
    fn check(response: Value, want: &str) {
        let conversion = Conversion {
            definition: "d".into(),
            storage: "v1".into(),
            client_config: Value::Null,
            review_version: "v1",
        };
        let old = [
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "1", "generation": 3}}),
        ];
        let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let got = match conversion.answer("u", "g/v2", &old, review.to_string().as_bytes()) {
            Ok(new) => {
                assert_eq!(new[0]["metadata"]["generation"], 3);
                new[0]["metadata"]["labels"]["l"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }
            Err(why) => why,
        };
        assert!(got.contains(want), "{want:?} is not in {got:?}");
    }

    #[test]
    fn answers_are_read_strictly() {
        let good = json!({"status": "Success"});
        let object = |version: &str, metadata: Value| json!({"apiVersion": version, "kind": "K", "metadata": metadata});
        let with = |objects: Value| json!({"uid": "u", "result": good, "convertedObjects": objects});
        check(
            with(json!([object(
                "g/v2",
                json!({"name": "a", "uid": "1", "labels": {"l": "x"}, "generation": 9})
            )])),
            "x",
        );
        check(with(json!([])), "webhook returned 0 objects, expected 1");
        check(
            with(json!([object("g/v1", json!({"name": "a", "uid": "1"}))])),
            "invalid groupVersion (expected g/v2, received g/v1)",
        );
        check(
            with(json!([object("g/v2", json!({"name": "b", "uid": "1"}))])),
            "metadata.name was changed",
        );
        check(
            with(json!([object(
                "g/v2",
                json!({"name": "a", "uid": "1", "labels": {"l": 1}})
            )])),
            "no map of strings",
        );
        check(
            json!({"uid": "u", "result": {"status": "Failed", "message": "no way"}}),
            "no way",
        );
        check(json!({"uid": "x", "result": good}), "expected response.uid");
        check(Value::Null, "no response provided");
    }
}
