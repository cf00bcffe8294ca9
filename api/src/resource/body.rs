//! Bodies of requests as objects of a kind: which kind they claim to be, and the errors around decoding.
//!
//! Source of the texts: `k8s.io/apiserver/pkg/endpoints/handlers/create.go`, `transformDecodeError`.

use serde_json::Value;

use super::{Decoded, FieldValidation, ResourceType};
use crate::Status;
use crate::schema::decode::{Read, read};
use crate::schema::view::View;
use crate::schema::{Type, schema};

/// What a body is to be read as.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub entry: &'static Type,
}

impl Expected<'_> {
    fn api_version(&self) -> String {
        match self.group {
            "" => self.version.into(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// Decodes a JSON body as one kind.
///
/// # Errors
/// 400 in upstream's words.
pub fn decode(expected: Expected<'_>, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let unrecognized = |cause: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {cause} ({})",
            expected.kind,
            summary(body)
        ))
    };
    let read = match read(expected.entry, body) {
        Ok(read) => read,
        Err(error) => {
            return Err(unrecognized(&format!(
                "couldn't get version/kind; json parse error: {error}"
            )));
        }
    };
    if let (Value::Null, Some(error)) = (&read.value, &read.wrong) {
        return Err(unrecognized(error));
    }
    let own = expected.api_version();
    let api_version = if read.api_version.is_empty() {
        own.as_str()
    } else {
        read.api_version.as_str()
    };
    let kind = if read.kind.is_empty() {
        expected.kind
    } else {
        read.kind.as_str()
    };
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let unfit = |cause: &str| {
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: {cause}",
            crate::field::quoted(version),
            expected.kind
        ))
    };
    if (api_version, kind) != (own.as_str(), expected.kind) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if !schema().knows_kind(group, version, kind) {
            return Err(unfit(&format!(
                "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
        if kind != expected.kind {
            let package = if expected.group.is_empty() {
                "core"
            } else {
                expected.group.split('.').next().unwrap_or_default()
            };
            return Err(unfit(&format!(
                "converting ({version}.{kind}) to ({package}.{}): unknown conversion",
                expected.kind
            )));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({own})"
        )));
    }
    if let Some(error) = &read.wrong {
        return Err(unfit(error));
    }
    let Read {
        mut value, strict, ..
    } = read;
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => strict,
        FieldValidation::Strict if strict.is_empty() => strict,
        FieldValidation::Strict => {
            return Err(unfit(&format!("strict decoding error: {}", strict.join(", "))));
        }
    };
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), own.into());
        map.insert("kind".into(), expected.kind.into());
    }
    Ok(Decoded { value, warnings })
}

/// The start of a body, as upstream shows one it cannot place.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = &body[..body.len().min(SHOWN)];
    let dots = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hex: String = head.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{dots}")
        }
    }
}

/// Why a patched object is no object of its kind any more.
pub struct Misfit {
    pub text: String,
}

impl ResourceType {
    /// The facts about this resource's type; `None` for a custom resource.
    pub fn type_facts(&self) -> Option<&'static Type> {
        schema().find(self.schema)
    }

    /// The schema of this resource's objects; for a type without one, what an object's own form tells.
    pub fn view(&self) -> View<'_> {
        match self.as_custom() {
            Some(custom) => custom.view(),
            None => self.type_facts().map_or_else(View::deduced, View::of),
        }
    }

    /// Reads a JSON body into canonical form: known fields only, zero values as Kubernetes writes them.
    ///
    /// # Errors
    /// 400 with upstream's text for bad JSON, a wrong kind or type, or (Strict) unknown and repeated fields.
    pub fn decode(&self, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
        if let Some(custom) = self.as_custom() {
            return crate::custom::decode(self, custom, body, validation);
        }
        let entry = self.type_facts().ok_or_else(Status::no_such_resource)?;
        let expected = Expected {
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
            entry,
        };
        decode(expected, body, validation)
    }

    /// Reads the body of a subresource, for example a `Binding` or a `Scale`.
    ///
    /// # Errors
    /// As [`ResourceType::decode`]; 404 when there is no such subresource with a body.
    pub fn decode_subresource(
        &self,
        name: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let sub = self.subresource(name).ok_or_else(Status::no_such_resource)?;
        let (group, version, kind) = self.body_of(sub);
        if kind == self.kind {
            return self.decode(body, validation);
        }
        let entry = schema()
            .types()
            .iter()
            .find(|t| t.gvks.contains(&(group, version, kind)))
            .ok_or_else(Status::no_such_resource)?;
        decode(
            Expected {
                group,
                version,
                kind,
                entry,
            },
            body,
            validation,
        )
    }

    /// Brings an object that was changed as JSON (by a patch, say) back into canonical form.
    ///
    /// # Errors
    /// The text of what does not fit; the caller decides the status around it.
    pub fn conform(&self, value: &Value, validation: FieldValidation) -> Result<Decoded, Misfit> {
        if let Some(custom) = self.as_custom() {
            return crate::custom::conform(custom, value, validation);
        }
        let misfit = |text: String| Misfit { text };
        let body = serde_json::to_vec(value).map_err(|e| misfit(e.to_string()))?;
        let entry = self
            .type_facts()
            .ok_or_else(|| misfit(format!("no facts about {self:?}")))?;
        let read = read(entry, &body).map_err(|e| misfit(e.to_string()))?;
        if let Some(error) = read.wrong {
            return Err(misfit(error));
        }
        match validation {
            FieldValidation::Strict if !read.strict.is_empty() => Err(misfit(format!(
                "strict decoding error: {}",
                read.strict.join(", ")
            ))),
            FieldValidation::Ignore => Ok(Decoded {
                value: read.value,
                warnings: Vec::new(),
            }),
            _ => Ok(Decoded {
                value: read.value,
                warnings: read.strict,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use serde_json::json;

    fn pods() -> &'static ResourceType {
        registry().lookup("", "v1", "pods").unwrap()
    }

    #[track_caller]
    fn check(body: &str, want: Result<Value, &str>) {
        let got = pods().decode(body.as_bytes(), FieldValidation::Strict);
        assert_eq!(
            got.map(|d| d.value).map_err(|s| s.message),
            want.map_err(String::from),
            "{body}"
        );
    }

    #[test]
    fn canonical_form() {
        check(
            r#"{"metadata":{"name":"a","creationTimestamp":null,"labels":{}},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":1,"memory":"1024Mi"}},"env":[]}],"hostNetwork":false,"volumes":null,"terminationGracePeriodSeconds":0}}"#,
            Ok(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {},
                "spec": {
                    "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
                    "terminationGracePeriodSeconds": 0,
                },
            })),
        );
    }

    #[test]
    fn strict_errors() {
        check(
            r#"{"spec":{"foo":1,"containers":[{"name":"c","bar":{"x":[1]}}]},"metadata":{"labels":{"a":"1","a":"2"}},"spec":{}}"#,
            Err(
                r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo", unknown field "spec.containers[0].bar", duplicate field "metadata.labels.a", duplicate field "spec""#,
            ),
        );
        check(
            r#"{"Metadata":{}}"#,
            Err(
                r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "Metadata""#,
            ),
        );
        let body = br#"{"spec":{"foo":1}}"#;
        let warned = pods().decode(body, FieldValidation::Warn).unwrap();
        assert_eq!(warned.warnings, [r#"unknown field "spec.foo""#]);
        assert_eq!(warned.value["spec"], json!({"containers": null}));
        assert!(
            pods()
                .decode(body, FieldValidation::Ignore)
                .unwrap()
                .warnings
                .is_empty()
        );
    }

    #[test]
    fn wrong_types_in_gos_words() {
        for (body, want) in [
            (
                r#"{"spec":{"containers":"x"}}"#,
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                r#"{"spec":{"containers":[{"env":[{"value":1}]}]}}"#,
                "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (
                r#"{"metadata":{"labels":{"a":1}}}"#,
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                r#"{"spec":{"hostNetwork":"yes"}}"#,
                "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
            ),
            (
                r#"{"spec":{"priority":1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                r#"{"spec":{"priority":3000000000}}"#,
                "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                r#"{"spec":[]}"#,
                "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
            ),
            (
                r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                r#"{"kind":"Foo"}"#,
                "no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            ),
        ] {
            let kind = if body.contains("Foo") { "Foo" } else { "Pod" };
            check(
                body,
                Err(&format!(
                    "{kind} in version \"v1\" cannot be handled as a Pod: {want}"
                )),
            );
        }
        check(
            r#"{"kind":"Service","apiVersion":"v1"}"#,
            Err(
                "Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion",
            ),
        );
    }

    #[test]
    fn no_object_at_all() {
        check(
            "",
            Err(
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
            ),
        );
        check(
            "{\"a\"",
            Err(
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({\"a\")",
            ),
        );
        check(
            "[]",
            Err(
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
            ),
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_nothing_worse() {
        for body in [
            format!("{{\"x\":{}", "[".repeat(100_000)),
            format!(
                "{{\"metadata\":{{\"managedFields\":[{{\"fieldsV1\":{}",
                "{\"a\":".repeat(100_000)
            ),
        ] {
            let error = pods()
                .decode(body.as_bytes(), FieldValidation::Strict)
                .unwrap_err();
            assert_eq!(error.code, 400);
            assert!(error.message.contains("exceeded max depth"), "{}", error.message);
        }
    }

    #[test]
    fn a_type_that_holds_itself_may_not_nest_for_ever() {
        let definitions = registry()
            .lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            .unwrap();
        let deep = r#"{"not":"#.repeat(4_000);
        let body = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{deep}"#);
        let error = definitions
            .decode(body.as_bytes(), FieldValidation::Strict)
            .unwrap_err();
        assert_eq!(error.code, 400);
        assert!(error.message.contains("exceeded max depth"), "{}", error.message);
    }

    #[test]
    fn decoding_its_own_output_changes_nothing() {
        let body = r#"{"spec":{"containers":[{"name":"c","livenessProbe":{"httpGet":{"port":"http"}},"ports":[{"containerPort":80}]}],"securityContext":{}},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        let once = pods()
            .decode(body.as_bytes(), FieldValidation::Strict)
            .unwrap()
            .value;
        let twice = pods()
            .decode(&serde_json::to_vec(&once).unwrap(), FieldValidation::Strict)
            .unwrap()
            .value;
        assert_eq!(once, twice);
        assert_eq!(once["status"]["conditions"][0]["lastProbeTime"], Value::Null);
        assert!(
            pods()
                .conform(&once, FieldValidation::Strict)
                .is_ok_and(|d| d.value == once)
        );
    }
}
