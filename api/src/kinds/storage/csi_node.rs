//! CSINode. Source: `pkg/apis/storage/validation`, `pkg/registry/storage/csinode`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::rules::{self, IMMUTABLE, named};
use crate::names;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct CSINode;

const TYPE: &str = "storage.v1.CSINode";
/// Bytes of a node's id with a driver.
const MAX_NODE_ID: usize = 256;

impl Kind for CSINode {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut seen = BTreeSet::new();
        for at in At::root(object, TYPE).at("spec").items("drivers") {
            driver(&at, &mut seen, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        for before in old.items("drivers") {
            for now in new
                .items("drivers")
                .filter(|d| d.str("name") == before.str("name"))
            {
                // What a driver has free on the node may change.
                let changed = ["nodeID", "topologyKeys"]
                    .iter()
                    .any(|field| now.get(field) != before.get(field));
                if changed {
                    errors.invalid(new.path("drivers"), go_driver(&now), IMMUTABLE);
                }
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::integer("Drivers"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            At::root(object, TYPE).at("spec").count("drivers").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// A driver as upstream's error shows it: without what is allocatable, which is not compared.
fn go_driver(at: &At<'_>) -> Raw {
    Raw(format!(
        "{{\"Name\":{},\"NodeID\":{},\"TopologyKeys\":{},\"Allocatable\":null}}",
        Value::from(at.str("name")),
        Value::from(at.str("nodeID")),
        at.get("topologyKeys"),
    ))
}

fn driver<'a>(at: &At<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut FieldErrors) {
    let (name, id) = (at.str("name"), at.str("nodeID"));
    rules::csi_driver_name(at.path("name"), name, errors);
    if id.is_empty() {
        errors.required(at.path("nodeID"), "");
    }
    if id.len() > MAX_NODE_ID {
        errors.invalid(
            at.path("nodeID"),
            id,
            &format!("must be {MAX_NODE_ID} characters or less"),
        );
    }
    rules::not_negative(&at.at("allocatable"), "count", errors);
    if !seen.insert(name) {
        errors.duplicate(at.path("name"), name);
    }
    let mut keys = BTreeSet::new();
    for key in at.strings("topologyKeys") {
        if key.is_empty() {
            errors.required(at, "");
        }
        if !keys.insert(key) {
            errors.duplicate(at, key);
        }
        named(at, key, names::qualified_name, errors);
    }
}
