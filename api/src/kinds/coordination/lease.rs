//! Lease. Source: `pkg/apis/coordination/validation`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct Lease;

impl Kind for Lease {
    fn create_on_update(&self) -> bool {
        true
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, "coordination.v1.Lease").at("spec");
        if let Some(seconds) = spec.opt_int("leaseDurationSeconds").filter(|s| *s <= 0) {
            errors.invalid(
                spec.path("leaseDurationSeconds"),
                seconds,
                "must be greater than 0",
            );
        }
        if let Some(transitions) = spec.opt_int("leaseTransitions").filter(|t| *t < 0) {
            errors.invalid(
                spec.path("leaseTransitions"),
                transitions,
                "must be greater than or equal to 0",
            );
        }
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Holder"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["spec"]["holderIdentity"]
                .as_str()
                .unwrap_or_default()
                .into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}
