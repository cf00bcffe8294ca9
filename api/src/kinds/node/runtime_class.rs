//! RuntimeClass. Source: `pkg/apis/node/validation`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{self, named};
use crate::kinds::common::{node_labels, selector};
use crate::kinds::core::pod::{affinity, container};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct RuntimeClass;

const TYPE: &str = "node.v1.RuntimeClass";

impl Kind for RuntimeClass {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        named(at.path("handler"), at.str("handler"), names::dns_label, errors);
        if let Some(overhead) = at.opt("overhead") {
            // Checked, and named in errors, like the limits of a container.
            let like = json!({"overhead": {"limits": overhead.get("podFixed")}});
            container::requirements(&At::root(&like, "").at("overhead"), errors);
        }
        if let Some(scheduling) = at.opt("scheduling") {
            selector::labels(
                scheduling.path("nodeSelector"),
                scheduling.get("nodeSelector"),
                errors,
            );
            affinity::tolerations(&scheduling, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        rules::immutable("handler", &new["handler"], &old["handler"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Handler"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["handler"].as_str().unwrap_or_default().into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let scheduling = At::root(object, TYPE).at("scheduling");
        scheduling
            .keys("nodeSelector")
            .filter_map(node_labels::deprecated)
            .map(|text| format!("{}: {text}", scheduling.path("nodeSelector")))
            .collect()
    }
}
