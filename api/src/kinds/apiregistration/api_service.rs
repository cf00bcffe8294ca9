//! APIService. Source: `k8s.io/kube-aggregator/pkg/apis/apiregistration`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::{FieldErrors, quoted};
use crate::kinds::common::defaults::{child, child_or_new, has};
use crate::kinds::common::rules::named;
use crate::kinds::common::status::only_status;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct ApiService;

const TYPE: &str = "apiregistration.v1.APIService";
const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;

impl Kind for ApiService {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        if let Some(service) = child(child_or_new(object, "spec"), "service")
            && !has(service, "port")
        {
            service.insert("port".into(), 443.into());
        }
    }

    /// A version that this server serves itself is available from the start.
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        let local = !has(child_or_new(object, "spec"), "service");
        let now = object
            .get("metadata")
            .map_or(Value::Null, |m| m["creationTimestamp"].clone());
        let status = if local {
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]})
        } else {
            json!({})
        };
        object.insert("status".into(), status);
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        only_status(new, old);
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::path_segment
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        let (group, version) = (spec.str("group"), spec.str("version"));
        let (name, wanted) = (meta::name(object), format!("{version}.{group}"));
        if !name.is_empty() && names::path_segment(name).is_empty() && name != wanted {
            errors.invalid(
                "metadata.name",
                name,
                &format!("must be `spec.version+\".\"+spec.group`: {}", quoted(&wanted)),
            );
        }
        if group.is_empty() && version != "v1" {
            errors.required(
                spec.path("group"),
                "only v1 may have an empty group and it better be legacy kube",
            );
        }
        if !group.is_empty() {
            named(spec.path("group"), group, names::dns_subdomain, errors);
        }
        named(spec.path("version"), version, names::dns_1035_label, errors);
        for (field, max) in [
            ("groupPriorityMinimum", MAX_GROUP_PRIORITY),
            ("versionPriority", MAX_VERSION_PRIORITY),
        ] {
            let value = spec.int(field);
            if !(1..=max).contains(&value) {
                errors.invalid(
                    spec.path(field),
                    value,
                    &format!("must be positive and less than {max}"),
                );
            }
        }
        let bundle = STANDARD.decode(spec.str("caBundle")).unwrap_or_default();
        let insecure = spec.bool("insecureSkipTLSVerify");
        let Some(service) = spec.opt("service") else {
            if !bundle.is_empty() {
                errors.invalid(
                    spec.path("caBundle"),
                    format!("{} bytes", bundle.len()),
                    "local APIServices may not have a caBundle",
                );
            }
            if insecure {
                errors.invalid(
                    spec.path("insecureSkipTLSVerify"),
                    true,
                    "local APIServices may not have insecureSkipTLSVerify",
                );
            }
            return;
        };
        for field in ["namespace", "name"] {
            if service.str(field).is_empty() {
                errors.required(service.path(field), "");
            }
        }
        let port = service.int("port");
        for text in names::port_number(port) {
            errors.invalid(service.path("port"), port, &format!("port is not valid: {text}"));
        }
        if insecure && !bundle.is_empty() {
            errors.invalid(
                spec.path("insecureSkipTLSVerify"),
                true,
                "may not be true if caBundle is present",
            );
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        for condition in At::root(new, TYPE).at("status").items("conditions") {
            let status = condition.str("status");
            if !matches!(status, "True" | "False" | "Unknown") {
                errors.not_supported(condition.path("status"), status, &["True", "False", "Unknown"]);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Service"),
                Column::string("Available"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = match &object["spec"]["service"] {
            Value::Object(_) => format!(
                "{}/{}",
                text(&object["spec"]["service"]["namespace"]),
                text(&object["spec"]["service"]["name"])
            ),
            _ => "Local".into(),
        };
        let conditions = object["status"]["conditions"].as_array();
        let available = match conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Available")
        {
            None => "Unknown".into(),
            Some(c) if c["status"] != "True" && !text(&c["reason"]).is_empty() => {
                format!("{} ({})", text(&c["status"]), text(&c["reason"]))
            }
            Some(c) => text(&c["status"]),
        };
        vec![
            meta::name(object).into(),
            service.into(),
            available.into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}
