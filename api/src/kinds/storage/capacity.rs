//! CSIStorageCapacity. Source: `pkg/apis/storage/validation`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{self, IMMUTABLE, named};
use crate::kinds::common::{go_value, node_labels, selector};
use crate::quantity::Quantity;
use crate::resource::Kind;
use crate::table::Column;
use crate::{meta, names};

pub struct CSIStorageCapacity;

const TYPE: &str = "storage.v1.CSIStorageCapacity";

impl Kind for CSIStorageCapacity {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        if let Some(topology) = at.opt("nodeTopology") {
            selector::label_selector(&topology, errors);
        }
        let class = at.str("storageClassName");
        named(at.path("storageClassName"), class, names::dns_subdomain, errors);
        if let Some(text) = at.opt_str("capacity")
            && text.parse::<Quantity>().is_ok_and(|q| q.is_negative())
        {
            errors.invalid(at.path("capacity"), text, rules::NOT_NEGATIVE);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE), At::root(old, TYPE));
        let topology = new.get("nodeTopology");
        if topology != old.get("nodeTopology") {
            let shown = match topology {
                Value::Null => go_value::strings(topology, &[]),
                value => go_value::list(value),
            };
            errors.invalid(new.path("nodeTopology"), shown, IMMUTABLE);
        }
        rules::immutable(
            new.path("storageClassName"),
            new.get("storageClassName"),
            old.get("storageClassName"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("StorageClassName"),
                Column::string("Capacity"),
            ]
        }
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let at = At::root(object, TYPE);
        vec![
            meta::name(object).into(),
            at.str("storageClassName").into(),
            at.opt_str("capacity").unwrap_or("<unset>").into(),
        ]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        node_labels::selector_warnings(&At::root(object, TYPE).at("nodeTopology"))
    }
}
