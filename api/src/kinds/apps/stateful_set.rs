//! StatefulSet. Source: `pkg/apis/apps`, defaults and validation, and `pkg/registry/apps/statefulset`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::deployment::at_most;
use super::replica_set::pod_columns;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default, items, str};
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::{go_value, metadata, rules, selector};
use crate::kinds::core::claim;
use crate::kinds::core::pod::template;
use crate::resource::Kind;
use crate::selector::LabelSelector;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct StatefulSet;

const TYPE: &str = "apps.v1.StatefulSet";
const RETENTION: [&str; 2] = ["Retain", "Delete"];
/// What an update may change of the spec.
const MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

impl Kind for StatefulSet {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "podManagementPolicy", "OrderedReady");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        let strategy = child_or_new(spec, "updateStrategy");
        default(strategy, "type", "RollingUpdate");
        if str(strategy, "type") == "RollingUpdate" {
            let rolling = child_or_new(strategy, "rollingUpdate");
            default(rolling, "partition", 0);
            default(rolling, "maxUnavailable", 1);
        }
        let retention = child_or_new(spec, "persistentVolumeClaimRetentionPolicy");
        default(retention, "whenDeleted", "Retain");
        default(retention, "whenScaled", "Retain");
        for claim in items(spec, "volumeClaimTemplates") {
            claim.insert("apiVersion".into(), "v1".into());
            claim.insert("kind".into(), "PersistentVolumeClaim".into());
            claim::set_defaults(claim);
        }
        template::set_defaults(child_or_new(spec, "template"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::dns_label
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        match spec.str("podManagementPolicy") {
            "OrderedReady" | "Parallel" => {}
            other => errors.invalid(
                spec.path("podManagementPolicy"),
                other,
                "must be 'OrderedReady' or 'Parallel'",
            ),
        }
        strategy(&spec.at("updateStrategy"), errors);
        let retention = spec.at("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let policy = retention.str(field);
            if !RETENTION.contains(&policy) {
                errors.not_supported(retention.path(field), policy, &RETENTION);
            }
        }
        rules::not_negative(&spec, "replicas", errors);
        rules::not_negative(&spec, "minReadySeconds", errors);
        rules::not_negative(&spec.at("ordinals"), "start", errors);
        match spec.opt("selector") {
            None => errors.required(spec.path("selector"), ""),
            Some(at) => {
                selector::label_selector(&at, errors);
                if at.count("matchLabels") + at.count("matchExpressions") == 0 {
                    errors.invalid(&at, at.value.clone(), "empty selector is invalid for statefulset");
                }
            }
        }
        pods(object, &spec, errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        rules::optional_name(&spec, "serviceName", names::dns_label, errors);
        for template in spec.items("volumeClaimTemplates") {
            let meta = template.at("metadata");
            selector::labels(meta.path("labels"), meta.get("labels"), errors);
            metadata::annotations(&meta, errors);
            claim::validate_spec(&template.at("spec"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|field, _| !MUTABLE.contains(&field.as_str()));
            }
            spec
        };
        if fixed(new) != fixed(old) {
            errors.forbidden("spec", IMMUTABLE);
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (status, old) = (At::root(new, TYPE).at("status"), At::root(old, TYPE).at("status"));
        for field in [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ] {
            rules::not_negative(&status, field, errors);
        }
        for field in [
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ] {
            at_most(&status, field, "replicas", "status.replicas", errors);
        }
        at_most(
            &status,
            "availableReplicas",
            "readyReplicas",
            "status.readyReplicas",
            errors,
        );
        rules::not_decremented(&status, &old, "collisionCount", errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = At::root(object, TYPE).at("spec");
        let mut out = template::warnings(&spec.at("template"));
        for template in spec.items("volumeClaimTemplates") {
            claim::fractional(&template.at("spec"), &mut out);
        }
        if spec.int("revisionHistoryLimit") < 0 {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
        out
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if meta::generation(new) == meta::generation(old) {
            return Vec::new();
        }
        self.warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Ready"),
                Column::AGE,
                Column::wide("Containers"),
                Column::wide("Images"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        let [containers, images, _] = pod_columns(object);
        vec![
            meta::name(object).into(),
            format!(
                "{}/{}",
                number(&object["status"]["readyReplicas"]),
                number(&object["spec"]["replicas"])
            )
            .into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            containers,
            images,
        ]
    }
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    let rolling = at.opt("rollingUpdate");
    match (at.str("type"), rolling) {
        ("OnDelete", None) => {}
        ("OnDelete", Some(rolling)) => errors.invalid(
            rolling.here(),
            shown_rolling(&rolling),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            rules::not_negative(&rolling, "partition", errors);
            if rolling.has("maxUnavailable") {
                rules::int_or_percent(&rolling, "maxUnavailable", errors);
                if rules::is_zero(rolling.get("maxUnavailable")) {
                    errors.invalid(
                        rolling.path("maxUnavailable"),
                        rolling.get("maxUnavailable").clone(),
                        "cannot be 0",
                    );
                }
                rules::at_most_all(&rolling, "maxUnavailable", errors);
            }
        }
        (kind, rolling) => {
            let rolling = rolling.map_or_else(|| "null".to_string(), |r| shown_rolling(&r).0);
            errors.invalid(
                at.here(),
                Raw(format!(
                    "{{\"Type\":{},\"RollingUpdate\":{rolling}}}",
                    json!(kind)
                )),
                "must be 'RollingUpdate' or 'OnDelete'",
            );
        }
    }
}

/// The rolling update in Go's own form.
fn shown_rolling(at: &At<'_>) -> Raw {
    Raw(format!(
        "{{\"Partition\":{},\"MaxUnavailable\":{}}}",
        at.int("partition"),
        at.get("maxUnavailable")
    ))
}

/// The Pod template, whose mounts may also name the claims.
fn pods(object: &Value, spec: &At<'_>, errors: &mut FieldErrors) {
    let labels = spec.at("template").at("metadata").get("labels");
    match LabelSelector::from_value(spec.get("selector")) {
        Err(_) => {
            errors.invalid(spec.path("selector"), spec.get("selector").clone(), "");
            return;
        }
        Ok(parsed) if !parsed.is_everything() && !parsed.matches(labels) => errors.invalid(
            spec.at("template").at("metadata").path("labels"),
            go_value::list(labels),
            "`selector` does not match template `labels`",
        ),
        Ok(_) => {}
    }
    let claims: Vec<&str> = spec
        .items("volumeClaimTemplates")
        .map(|claim| claim.at("metadata").str("name"))
        .collect();
    let widened = json!({"spec": {"template": with_claims(&object["spec"]["template"], &claims)}});
    template::validate(&At::root(&widened, TYPE).at("spec").at("template"), errors);
    let pod = spec.at("template").at("spec");
    if pod.str("restartPolicy") != "Always" {
        errors.not_supported(pod.path("restartPolicy"), pod.str("restartPolicy"), &["Always"]);
    }
    if pod.has("activeDeadlineSeconds") {
        errors.forbidden(
            pod.path("activeDeadlineSeconds"),
            "activeDeadlineSeconds in StatefulSet is not Supported",
        );
    }
}

/// The template with a volume for each claim, in place of a volume of the same name.
fn with_claims(template: &Value, claims: &[&str]) -> Value {
    let mut template = template.clone();
    if claims.is_empty() {
        return template;
    }
    let Some(spec) = template.as_object_mut().and_then(|t| child(t, "spec")) else {
        return template;
    };
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Some(list) = volumes.as_array_mut() {
        list.retain(|v| !claims.contains(&v["name"].as_str().unwrap_or_default()));
        list.extend(
            claims
                .iter()
                .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})),
        );
    }
    template
}
