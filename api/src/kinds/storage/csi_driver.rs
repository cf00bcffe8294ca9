//! CSIDriver. Source: `pkg/apis/storage`, `pkg/registry/storage/csidriver`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, has};
use crate::kinds::common::go_value;
use crate::kinds::common::rules::IMMUTABLE;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct CSIDriver;

const TYPE: &str = "storage.v1.CSIDriver";
const FS_GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
/// Seconds between two updates of what a node can take.
const MIN_UPDATE_PERIOD: i64 = 10;
/// Seconds a token lives.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;
/// A field whose gate (`VolumeLimitScaling`) is off.
const GATED: &str = "preventPodSchedulingIfMissing";

impl Kind for CSIDriver {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        for (field, value) in [
            ("attachRequired", json!(true)),
            ("podInfoOnMount", json!(false)),
            ("storageCapacity", json!(false)),
            ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("requiresRepublish", json!(false)),
            ("seLinuxMount", json!(false)),
        ] {
            if !has(spec, field) {
                spec.insert(field.into(), value);
            }
        }
        let modes = spec.get("volumeLifecycleModes").and_then(Value::as_array);
        if modes.is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        if let Some(spec) = child(object, "spec") {
            spec.remove(GATED);
        }
        // Upstream counts changes of the spec, and starts with none.
        if let Some(metadata) = child(object, "metadata") {
            metadata.remove("generation");
        }
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        if old.get("spec").is_none_or(|spec| spec[GATED].is_null())
            && let Some(spec) = child(new, "spec")
        {
            spec.remove(GATED);
        }
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        let policy = spec.str("fsGroupPolicy");
        if !FS_GROUP_POLICIES.contains(&policy) {
            errors.not_supported(spec.path("fsGroupPolicy"), policy, &FS_GROUP_POLICIES);
        }
        token_requests(&spec, errors);
        for mode in spec.strings("volumeLifecycleModes") {
            if !MODES.contains(&mode) {
                errors.not_supported(spec.path("volumeLifecycleModes"), mode, &MODES);
            }
        }
        if let Some(seconds) = spec.opt_int("nodeAllocatableUpdatePeriodSeconds")
            && seconds < MIN_UPDATE_PERIOD
        {
            errors.invalid(
                spec.path("nodeAllocatableUpdatePeriodSeconds"),
                seconds,
                "must be greater than or equal to 10 seconds",
            );
        }
        if let Some(wanted) = spec.opt_bool("serviceAccountTokenInSecrets")
            && spec.count("tokenRequests") == 0
        {
            errors.invalid(
                spec.path("serviceAccountTokenInSecrets"),
                wanted,
                "serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            );
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        // Upstream names the first field so.
        for (field, shown) in [
            ("attachRequired", "spec.attachedRequired"),
            ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
        ] {
            if new.get(field) != old.get(field) {
                errors.invalid(shown, go_value::list(new.get(field)), IMMUTABLE);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::boolean("AttachRequired"),
                Column::boolean("PodInfoOnMount"),
                Column::boolean("StorageCapacity"),
                Column::string("TokenRequests"),
                Column::boolean("RequiresRepublish"),
                Column::string("Modes"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = At::root(object, TYPE).at("spec");
        let tokens = if spec.has("tokenRequests") {
            let audiences = spec.items("tokenRequests").map(|t| t.str("audience"));
            audiences.collect::<Vec<_>>().join(",")
        } else {
            "<unset>".into()
        };
        let mut modes = spec.strings("volumeLifecycleModes").collect::<Vec<_>>().join(",");
        if modes.is_empty() {
            modes = "<none>".into();
        }
        vec![
            meta::name(object).into(),
            spec.opt_bool("attachRequired").unwrap_or(true).into(),
            spec.bool("podInfoOnMount").into(),
            spec.bool("storageCapacity").into(),
            tokens.into(),
            spec.bool("requiresRepublish").into(),
            modes.into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn token_requests(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut audiences = BTreeSet::new();
    for request in spec.items("tokenRequests") {
        let audience = request.str("audience");
        if !audiences.insert(audience) {
            errors.duplicate(request.path("audience"), audience);
            continue;
        }
        let Some(seconds) = request.opt_int("expirationSeconds") else {
            continue;
        };
        if seconds < *TOKEN_SECONDS.start() {
            errors.invalid(
                request.path("expirationSeconds"),
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        }
        if seconds > *TOKEN_SECONDS.end() {
            errors.invalid(
                request.path("expirationSeconds"),
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
    }
}
