//! ServiceAccount.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ServiceAccount;

impl Kind for ServiceAccount {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Secrets"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["secrets"].as_array().map_or(0, Vec::len).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}
