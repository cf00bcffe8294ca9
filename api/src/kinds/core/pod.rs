//! Pod: how its parts fit together. Source: `pkg/registry/core/pod/strategy.go`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, str};
use crate::resource::{Kind, Subresource, keep};
use crate::table::Column;
use crate::{meta, names};

pub(crate) mod affinity;
mod columns;
pub(crate) mod container;
mod defaults;
mod probe;
mod resize;
pub mod template;
mod update;
mod validate;
pub(crate) mod volume;
mod warnings;

pub struct Pod;

const TYPE: &str = "core.v1.Pod";

impl Kind for Pod {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        defaults::pod(child_or_new(object, "spec"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        let class = defaults::qos_class(object);
        let gated = object
            .get("spec")
            .and_then(|s| s["schedulingGates"].as_array())
            .is_some_and(|gates| !gates.is_empty());
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if gated {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "observedGeneration": 1,
                "lastProbeTime": null,
                "lastTransitionTime": null,
            }]);
        }
        object.insert("status".into(), status);
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
        // What admission decided at creation stays, also when a client leaves it out.
        if let (Some(spec), Some(before)) = (child(new, "spec"), old.get("spec").and_then(Value::as_object)) {
            for field in ["priority", "preemptionPolicy"] {
                if !spec.contains_key(field) {
                    keep(spec, before, field);
                }
            }
        }
    }

    fn prepare_part(&self, part: Subresource, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        update::take_part(part, new, old);
    }

    fn validate_part(&self, part: Subresource, new: &Value, old: &Value, errors: &mut FieldErrors) {
        match part {
            Subresource::EphemeralContainers => update::ephemeral(new, old, errors),
            _ => resize::validate(new, old, errors),
        }
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
        let owners = old
            .get("metadata")
            .and_then(|m| m.get("ownerReferences"))
            .cloned();
        let metadata = child_or_new(new, "metadata");
        match owners {
            Some(owners) => metadata.insert("ownerReferences".into(), owners),
            None => metadata.remove("ownerReferences"),
        };
        // The class is a fact about the spec; a status that leaves it out keeps it.
        let class = old
            .get("status")
            .map(|s| s["qosClass"].clone())
            .unwrap_or_default();
        if let Some(status) = child(new, "status")
            && str(status, "qosClass").is_empty()
            && class.is_string()
        {
            status.insert("qosClass".into(), class);
        }
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        template::pod_annotations(&at, errors);
        validate::spec(&at.at("spec"), errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        if spec.count("ephemeralContainers") > 0 {
            errors.forbidden(spec.path("ephemeralContainers"), "cannot be set on create");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update::main(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        update::status(new, old, errors);
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        let texts = names::dns_label(meta::name(object));
        let mut out = warnings::of(&At::root(object, TYPE), false);
        if !texts.is_empty() {
            out.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                texts.join(" ")
            ));
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(object, now)
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        match field {
            "spec.hostNetwork" => match object["spec"]["hostNetwork"].as_bool() {
                Some(true) => "true".into(),
                _ => "false".into(),
            },
            "status.podIPs" => {
                let ips = object["status"]["podIPs"].as_array().into_iter().flatten();
                ips.filter_map(|ip| ip["ip"].as_str())
                    .collect::<Vec<_>>()
                    .join(",")
            }
            _ => {
                let value = field.split('.').fold(object, |value, part| &value[part]);
                value.as_str().unwrap_or_default().into()
            }
        }
    }
}
