//! StorageClass. Source: `pkg/apis/storage`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::parameters;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::has;
use crate::kinds::common::node_labels;
use crate::kinds::common::rules::{self, named};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct StorageClass;

const TYPE: &str = "storage.v1.StorageClass";
/// Annotations that make a class the one for claims that name none.
pub const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

impl Kind for StorageClass {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for (field, value) in [("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")] {
            if !has(object, field) {
                object.insert(field.into(), value.into());
            }
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        parameters::driver(&at, "provisioner", errors);
        parameters::parameters(&at, false, errors);
        let policy = at.str("reclaimPolicy");
        if !matches!(policy, "" | "Delete" | "Retain") {
            errors.not_supported(at.path("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let mode = at.str("volumeBindingMode");
        if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
            errors.not_supported(
                at.path("volumeBindingMode"),
                mode,
                &["Immediate", "WaitForFirstConsumer"],
            );
        }
        topologies(&at, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE), At::root(old, TYPE));
        parameters::unchanged(&new, &old, "provisioner", errors);
        if new.get("reclaimPolicy") != old.get("reclaimPolicy") {
            errors.forbidden(
                new.path("reclaimPolicy"),
                "updates to reclaimPolicy are forbidden.",
            );
        }
        rules::immutable(
            new.path("volumeBindingMode"),
            new.get("volumeBindingMode"),
            old.get("volumeBindingMode"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Provisioner"),
                Column::string("ReclaimPolicy"),
                Column::string("VolumeBindingMode"),
                Column::string("AllowVolumeExpansion"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let at = At::root(object, TYPE);
        vec![
            parameters::shown_name(object, &DEFAULT_ANNOTATIONS).into(),
            at.str("provisioner").into(),
            at.opt_str("reclaimPolicy").unwrap_or("Delete").into(),
            at.opt_str("volumeBindingMode").unwrap_or("Immediate").into(),
            at.bool("allowVolumeExpansion").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let terms = At::root(object, TYPE).items("allowedTopologies");
        terms
            .flat_map(|term| term.items("matchLabelExpressions"))
            .filter_map(|expression| {
                let text = node_labels::deprecated(expression.str("key"))?;
                Some(format!("{}: {text}", expression.path("key")))
            })
            .collect()
    }
}

fn topologies(at: &At<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in at.items("allowedTopologies") {
        let mut expressions = BTreeMap::new();
        for expression in term.items("matchLabelExpressions") {
            let key = expression.str("key");
            let values = label_requirement(&expression, errors);
            if expressions.insert(key, values).is_some() {
                errors.duplicate(expression.path("key"), key);
            }
        }
        // Upstream compares with as many empty terms as there are terms.
        let empty = if expressions.is_empty() {
            at.count("allowedTopologies")
        } else {
            0
        };
        let repeats = empty + seen.iter().filter(|other| **other == expressions).count();
        for _ in 0..repeats {
            errors.duplicate(term.path("matchLabelExpressions"), "");
        }
        seen.push(expressions);
    }
}

fn label_requirement<'a>(at: &At<'a>, errors: &mut FieldErrors) -> BTreeSet<&'a str> {
    if at.count("values") == 0 {
        errors.required(at.path("values"), "");
    }
    let mut values = BTreeSet::new();
    for value in at.items("values") {
        if !values.insert(value.text()) {
            errors.duplicate(&value, value.text());
        }
    }
    named(at.path("key"), at.str("key"), names::qualified_name, errors);
    values
}
