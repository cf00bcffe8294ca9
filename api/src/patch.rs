//! The three patches that need no field ownership: JSON merge, JSON patch, strategic merge.
//!
//! A patch turns the current object into the wanted one; what comes out is defaulted and validated like
//! any other update. Server-side apply is a fourth type with its own room.

use serde_json::Value;

use crate::field::FieldErrors;
use crate::resource::{Decoded, FieldValidation, ResourceType};
use crate::schema::decode::parse_json;
use crate::status::Qualified;
use crate::{Status, meta};

pub mod json_patch;
pub mod merge;
pub mod strategic;

pub use json_patch::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_merge;

/// A patch's media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Server-side apply; [`ResourceType::server_side_apply`].
    Apply,
}

/// The media types a PATCH is answered for.
pub const SUPPORTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The same for a custom resource, whose lists have no merge keys to patch by.
pub const SUPPORTED_CUSTOM: [&str; 3] = [SUPPORTED[0], SUPPORTED[1], SUPPORTED[3]];

impl PatchType {
    /// Reads a `Content-Type`, parameters ignored.
    ///
    /// # Errors
    /// 415 for anything that is no patch this server can carry out, an apply in CBOR included.
    pub fn from_content_type(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(&SUPPORTED)),
        }
    }
}

impl ResourceType {
    /// Applies the body of a PATCH to `current` and brings the result into canonical form. The patch may
    /// be tried again on a newer object after a conflict; it is pure.
    ///
    /// # Errors
    /// 400 for a body that is no such patch, 413 and 422 as upstream maps them, 422 when the result is no
    /// object of this kind (or, Strict, has unknown fields).
    pub fn apply_patch(
        &self,
        current: &Value,
        patch_type: PatchType,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let patch =
            parse_json(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        let mut next = current.clone();
        match patch_type {
            PatchType::Json => json_patch(&mut next, &patch)?,
            PatchType::Merge if patch.is_object() => merge_patch(&mut next, &patch),
            PatchType::Merge => {
                return Err(Status::bad_request("error decoding patch: Invalid JSON Patch"));
            }
            PatchType::Strategic => {
                let entry = self
                    .type_facts()
                    .ok_or_else(|| Status::unsupported_media_type(&SUPPORTED_CUSTOM))?;
                strategic_merge(&mut next, &patch, entry)?;
            }
            PatchType::Apply => return Err(Status::unsupported_media_type(&SUPPORTED_CUSTOM[..2])),
        }
        let invalid = |text: String| {
            let mut errors = FieldErrors::default();
            errors.invalid("patch", String::from_utf8_lossy(body).into_owned(), &text);
            Status::invalid(Qualified::new("", ""), "", &errors)
        };
        if meta::kind(&next) != self.kind || meta::api_version(&next) != self.api_version() {
            return Err(Status::bad_request(format!(
                "the patched object is {} {}, not {} {}",
                meta::api_version(&next),
                meta::kind(&next),
                self.api_version(),
                self.kind
            )));
        }
        self.conform(&next, validation)
            .map_err(|misfit| invalid(misfit.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use proptest::prelude::*;
    use serde_json::json;

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "1"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "1"}}, "strategy": {},
                "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}]}}},
            "status": {}})
    }

    fn apply(patch_type: PatchType, body: &str) -> Result<Value, Status> {
        let deployments = registry().lookup("apps", "v1", "deployments").unwrap();
        deployments
            .apply_patch(
                &deployment(),
                patch_type,
                body.as_bytes(),
                FieldValidation::Strict,
            )
            .map(|d| d.value)
    }

    #[test]
    fn each_type_reaches_the_same_object() {
        let mut want = deployment();
        want["spec"]["template"]["spec"]["containers"][0]["image"] = "j".into();
        for (patch_type, body) in [
            (
                PatchType::Json,
                r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"j"}]"#,
            ),
            (
                PatchType::Merge,
                r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"}]}}}}"#,
            ),
            (
                PatchType::Strategic,
                r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"}]}}}}"#,
            ),
        ] {
            assert_eq!(apply(patch_type, body).unwrap(), want, "{patch_type:?}");
        }
    }

    #[test]
    fn bad_patches() {
        for (patch_type, body, code) in [
            (PatchType::Merge, "{", 400),
            (PatchType::Merge, "[]", 400),
            (PatchType::Merge, r#"{"kind":"Pod"}"#, 400),
            (PatchType::Merge, r#"{"spec":{"replicas":"x"}}"#, 422),
            (PatchType::Merge, r#"{"spec":{"foo":1}}"#, 422),
            (
                PatchType::Strategic,
                r#"{"spec":{"template":{"spec":{"containers":[{}]}}}}"#,
                500,
            ),
            (PatchType::Json, r#"[{"op":"remove","path":"/nope"}]"#, 422),
        ] {
            assert_eq!(apply(patch_type, body).map_err(|s| s.code), Err(code), "{body}");
        }
        assert_eq!(
            PatchType::from_content_type("application/apply-patch+cbor").map_err(|s| s.code),
            Err(415)
        );
    }

    /// Any JSON of a few levels, with keys that lists of the schema know.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            (0..5i64).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("name|spec|containers|env|value|labels|finalizers", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(map) => Value::Object(
                map.iter()
                    .filter(|(_, v)| !v.is_null())
                    .map(|(k, v)| (k.clone(), without_nulls(v)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_merge_patch_applied_twice_is_applied_once(target in json_value(), patch in json_value()) {
            let mut once = target;
            merge_patch(&mut once, &patch);
            let mut twice = once.clone();
            merge_patch(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn a_merge_diff_leads_to_its_goal(from in json_value(), to in json_value()) {
            let (from, to) = (without_nulls(&json!({"x": from})), without_nulls(&json!({"x": to})));
            let mut got = from.clone();
            if let Some(patch) = merge::diff(&from, &to) {
                merge_patch(&mut got, &patch);
            }
            prop_assert_eq!(got, to);
        }

        #[test]
        fn a_strategic_patch_applied_twice_is_applied_once(
            images in prop::collection::btree_map("[a-e]", "[x-z]", 0..5),
            changes in prop::collection::btree_map("[a-g]", prop::option::of("[u-z]"), 0..5),
        ) {
            let list = |m: &std::collections::BTreeMap<String, String>| -> Value {
                m.iter().map(|(n, i)| json!({"name": n, "image": i})).collect()
            };
            let patch: Value = changes.iter().map(|(n, i)| match i {
                Some(image) => json!({"name": n, "image": image}),
                None => json!({"name": n, "$patch": "delete"}),
            }).collect();
            let patch = json!({"containers": patch});
            let entry = crate::schema::schema().find("core.v1.PodSpec").unwrap();
            let mut once = json!({"containers": list(&images)});
            strategic_merge(&mut once, &patch, entry).unwrap();
            let mut want = images.clone();
            for (name, image) in &changes {
                match image {
                    Some(image) => want.insert(name.clone(), image.clone()),
                    None => want.remove(name),
                };
            }
            let got: std::collections::BTreeMap<String, String> = once["containers"].as_array().unwrap().iter()
                .map(|c| (c["name"].as_str().unwrap().into(), c["image"].as_str().unwrap().into())).collect();
            prop_assert_eq!(got, want);
            let mut twice = once.clone();
            strategic_merge(&mut twice, &patch, entry).unwrap();
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn no_patch_panics(target in json_value(), patch in json_value()) {
            let entry = crate::schema::schema().find("core.v1.Pod").unwrap();
            let mut object = target.clone();
            let _ = strategic_merge(&mut object, &patch, entry);
            let mut object = target;
            let _ = json_patch(&mut object, &patch);
        }
    }
}
