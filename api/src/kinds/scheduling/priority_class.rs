//! PriorityClass. Source: `pkg/apis/scheduling`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::has;
use crate::kinds::common::rules;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct PriorityClass;

const TYPE: &str = "scheduling.v1.PriorityClass";
/// Names that only the classes of [`SYSTEM_CLASSES`] may begin with.
pub const SYSTEM_PREFIX: &str = "system-";
/// Highest priority of a class that is not the system's.
pub const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// The classes every cluster has: name, priority, description.
pub const SYSTEM_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2 * MAX_USER_PRIORITY + 1_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2 * MAX_USER_PRIORITY,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

impl Kind for PriorityClass {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        if !has(object, "preemptionPolicy") {
            object.insert("preemptionPolicy".into(), "PreemptLowerPriority".into());
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    // It is 1 for ever: the value cannot change.
    fn generation_fields(&self) -> &'static [&'static str] {
        &["value"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        let name = meta::name(object);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Err(why) = system_class(name, at.int("value"), at.bool("globalDefault")) {
                errors.forbidden(
                    "metadata.name",
                    &format!(
                        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                    ),
                );
            }
        } else if at.int("value") > MAX_USER_PRIORITY {
            errors.forbidden(
                at.path("value"),
                &format!("maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}"),
            );
        }
        match at.opt_str("preemptionPolicy") {
            Some("") => errors.required(at.path("preemptionPolicy"), ""),
            Some("PreemptLowerPriority" | "Never") | None => {}
            Some(other) => errors.not_supported(
                at.path("preemptionPolicy"),
                other,
                &["PreemptLowerPriority", "Never"],
            ),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE), At::root(old, TYPE));
        if new.int("value") != old.int("value") {
            errors.forbidden(new.path("value"), "may not be changed in an update.");
        }
        rules::immutable(
            new.path("preemptionPolicy"),
            new.get("preemptionPolicy"),
            old.get("preemptionPolicy"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Value"),
                Column::boolean("Global-Default"),
                Column::AGE,
                Column::string("PreemptionPolicy"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let at = At::root(object, TYPE);
        vec![
            meta::name(object).into(),
            at.int("value").into(),
            at.bool("globalDefault").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            at.str("preemptionPolicy").into(),
        ]
    }
}

/// Whether a class with a reserved name is exactly the system's.
fn system_class(name: &str, value: i64, global_default: bool) -> Result<(), String> {
    match SYSTEM_CLASSES.iter().find(|(known, ..)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, wanted, _)) if *wanted != value => {
            Err(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) if global_default => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}
